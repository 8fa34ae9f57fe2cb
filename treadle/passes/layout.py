"""Channels-last inside, channels-first outside: permutes of what image kernels make move behind the ops that follow.

Image kernels read and write [N, *spatial, C], users write [N, C, *spatial], so a permute stands on either side of each.
An op that treats all elements alike may run before the permute as well as after it. Moved down from op to op, the
permute meets the opposite one of the next kernel and both are gone; what is stored between two kernels is then
channels-last, and so is what their gradients read. Every element is computed as before, so the bits do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from treadle.core import Shape
from treadle.ir import Graph, Node, Pass, Rewriter
from treadle.ops import BroadcastTo, Concat, Elementwise, Pad, Permute, Reduction, Reshape, Slice, TensorOp
from treadle.ops.broadcast import broadcast_to, reshape
from treadle.ops.conv import Conv
from treadle.ops.conv_planes import ConvPlanes
from treadle.ops.movement import permute

Axes = tuple[int, ...]


def channels_first(ndim: int) -> Axes:
    """Return the order that makes [N, *spatial, C] of this many axes [N, C, *spatial]."""
    return (0, ndim - 1, *range(1, ndim - 1))


def layout(graph: Graph) -> Graph:
    """Return the graph with permutes of channels-last values moved behind the ops that follow."""
    rewriter = Rewriter(_Sinker())
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


class _Sinker:
    """One step of the rewriter; `inner` are the values known to be channels-last."""

    def __init__(self) -> None:
        self.inner: set[Node] = set()

    def __call__(self, node: Node) -> Node | None:
        op = node.op
        if len(node.types) > 1 or not isinstance(op, TensorOp):
            return None
        if op.kernel == "conv":
            self.inner.add(node)
            return None
        if isinstance(op, Permute):
            if isinstance(node.args[0].op, ConvPlanes):
                self.inner.add(node.args[0])
            return _joined(node)
        rule = _rule_for(op)
        axes = None if rule is None else self.common_order(node)
        if rule is None or axes is None:
            return None
        found = rule(node, axes)
        if found is None:
            return None
        inside, order = found
        self.inner.add(inside)
        return permute(inside, order)

    def common_order(self, node: Node) -> Axes | None:
        """Return the order that at least half of the largest operands are permuted to, or None.

        There must be more of them than of known values as they are: of two kernels that lie differently, as before and
        behind channels-first ones, each would turn the other's for ever.
        """
        largest = max((a.type.size for a in node.args), default=0)
        full = [a for a in node.args if a.type.size == largest > 1]
        orders = [self.order_of(a) for a in full]
        settled = sum(a in self.inner for a in full)
        for axes in orders:
            if axes is not None and 2 * orders.count(axes) >= len(full) and orders.count(axes) > settled:
                return axes
        return None

    def order_of(self, node: Node) -> Axes | None:
        """Return the order that `node` puts a channels-last value in, or None."""
        if not isinstance(node.op, Permute):
            return None
        axes, n = node.op.axes, node.type.ndim
        known = node.args[0] in self.inner or (n >= 4 and axes == channels_first(n))
        return axes if known else None


Found = tuple[Node, Axes] | None


def _elementwise(node: Node, axes: Axes) -> Found:
    ndim = len(axes)
    if node.type.ndim != ndim:  # an operand of more axes than the permuted one
        return None
    inverse = Permute(axes).inverse()
    return node.op(*[_moved(a, inverse) for a in node.args]), axes


def _reduction(node: Node, axes: Axes) -> Found:
    op, x = cast(Reduction, node.op), node.args[0].args[0]
    inside = replace(op, axes=tuple(sorted(axes[a] for a in op.axes)))(x)
    if op.keepdims:
        return inside, axes
    kept = [a for a in range(len(axes)) if axes[a] not in {axes[k] for k in op.axes}]
    left = sorted(axes[a] for a in kept)
    return inside, tuple(left.index(axes[a]) for a in kept)


def _pad(node: Node, axes: Axes) -> Found:
    op, inverse = cast(Pad, node.op), Permute(axes).inverse()
    new = Pad(_pick(op.low, inverse), _pick(op.high, inverse), op.value)
    return new(node.args[0].args[0]), axes


def _slice(node: Node, axes: Axes) -> Found:
    op, inverse = cast(Slice, node.op), Permute(axes).inverse()
    new = Slice(_pick(op.starts, inverse), _pick(op.sizes, inverse), _pick(op.steps, inverse))
    return new(node.args[0].args[0]), axes


def _concat(node: Node, axes: Axes) -> Found:
    op, inverse = cast(Concat, node.op), Permute(axes).inverse()
    return Concat(axes[op.axis])(*[_moved(a, inverse) for a in node.args]), axes


def _broadcast(node: Node, axes: Axes) -> Found:
    op, x = cast(BroadcastTo, node.op), node.args[0]
    if len(op.shape) != x.type.ndim:
        return None
    return broadcast_to(x.args[0], _pick(op.shape, Permute(axes).inverse())), axes


def _reshape(node: Node, axes: Axes) -> Found:
    """A reshape splits and joins neighbours; where those are neighbours before the permute too, it comes first."""
    x = node.args[0]
    groups = _groups(x.shape, node.shape)
    if groups is None:
        return None
    inner = x.args[0]
    blocks: list[tuple[int, list[int], list[int]]] = []  # (first axis inside, axes inside, axes of the result)
    for before, after in groups:
        inside = [axes[a] for a in before]
        if inside != list(range(inside[0], inside[0] + len(inside))):
            return None
        blocks.append((inside[0], inside, after))
    blocks.sort()
    new_order = [a for _, _, after in blocks for a in after]
    shape = tuple(node.shape[a] for a in new_order)
    return reshape(inner, shape), tuple(new_order.index(a) for a in range(node.type.ndim))


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes of the old shape become which of the new one, in the smallest groups; None if one has none."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        before, after = [i], [j]
        m, n = old[i], new[j]
        i, j = i + 1, j + 1
        while m != n:
            if m < n and i < len(old):
                m, before, i = m * old[i], [*before, i], i + 1
            elif n < m and j < len(new):
                n, after, j = n * new[j], [*after, j], j + 1
            else:
                return None
        groups.append((before, after))
    for k in range(i, len(old)):
        if old[k] != 1 or not groups:
            return None
        groups[-1][0].append(k)
    for k in range(j, len(new)):
        if new[k] != 1 or not groups:
            return None
        groups[-1][1].append(k)
    return groups


def _window(node: Node, axes: Axes) -> Found:
    """An op over windows says itself what it is on the permuted operand."""
    inverse = Permute(axes).inverse()
    new: TensorOp = cast(_Movable, node.op).permuted(axes)
    return new(*[_moved(a, inverse) for a in node.args]), axes


class _Movable(TensorOp):
    """An op of equal ranks with `op(permute(x, axes)) = permute(op.permuted(axes)(x), axes)`."""

    def permuted(self, axes: Axes) -> TensorOp:
        """Return the op that does before the permute what this one does behind it."""
        raise NotImplementedError


Rule = Callable[[Node, Axes], Found]
RULES: dict[type[TensorOp], Rule] = {
    Pad: _pad,
    Slice: _slice,
    Concat: _concat,
    BroadcastTo: _broadcast,
    Reshape: _reshape,
}


def _rule_for(op: TensorOp) -> Rule | None:
    found = RULES.get(type(op))
    if found is not None:
        return found
    if isinstance(op, Reduction):
        return _reduction
    if hasattr(op, "permuted"):
        return _window
    return _elementwise if isinstance(op, Elementwise) else None


def _joined(node: Node) -> Node | None:
    """Return two permutes as one."""
    op, x = cast(Permute, node.op), node.args[0]
    return permute(x.args[0], _pick(x.op.axes, op.axes)) if isinstance(x.op, Permute) else None


def _moved(node: Node, axes: Axes) -> Node:
    """Return an operand, aligned at the last axis as broadcasting does, with its axes in another order."""
    if node.type.size == 1:
        return reshape(node, ()) if node.type.ndim else node
    if node.type.ndim < len(axes):
        node = reshape(node, (1,) * (len(axes) - node.type.ndim) + node.shape)
    if isinstance(node.op, Permute):
        return permute(node.args[0], _pick(node.op.axes, axes))
    if isinstance(node.op, BroadcastTo):
        return broadcast_to(_moved(node.args[0], axes), _pick(node.shape, axes))
    long = [a for a in axes if node.shape[a] != 1]
    return reshape(node, _pick(node.shape, axes)) if long == sorted(long) else permute(node, axes)


def _pick(values: Sequence[int], axes: Axes) -> tuple[int, ...]:
    return tuple(values[a] for a in axes)


LAYOUT = Pass(
    "layout",
    layout,
    "permutes of channels-last values move behind the ops that follow, and cancel",
    about=frozenset((Conv.name,)),
)
