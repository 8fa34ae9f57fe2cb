"""Movement ops that cancel, join or move out of the way: rules that need an op's parameters, as functions of nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from treadle.ir import Node, Op
from treadle.ops import (
    BroadcastTo,
    Concat,
    Elementwise,
    Matmul,
    Pad,
    Permute,
    Reduction,
    Reshape,
    Slice,
    broadcast_to,
    matmul,
    permute,
    reshape,
)

NodeRule = Callable[[Node], Node | None]


def one_value(node: Node) -> Node | None:
    """Return the scalar that every element of a node is, when it is a broadcast of one."""
    if node.type.ndim == 0:
        return node
    if isinstance(node.op, BroadcastTo) and node.args[0].type.size == 1:
        return reshape(node.args[0], ())
    return None


def reshape_rule(node: Node) -> Node | None:
    """A reshape to the same shape is nothing; of two, the last counts."""
    op, x = cast(Reshape, node.op), node.args[0]
    if x.shape == op.shape:
        return x
    if isinstance(x.op, Reshape):
        return reshape(x.args[0], op.shape)
    return _still_one_value(node, x)


def permute_rule(node: Node) -> Node | None:
    """Two permutes are one; one that moves only axes of size 1 is a reshape."""
    op, x = cast(Permute, node.op), node.args[0]
    if isinstance(x.op, Permute):
        return permute(x.args[0], tuple(x.op.axes[a] for a in op.axes))
    long = [a for a in op.axes if x.shape[a] != 1]
    if long == sorted(long):
        return reshape(x, node.shape)
    return _still_one_value(node, x)


def broadcast_rule(node: Node) -> Node | None:
    """A broadcast to the same shape is nothing; of two, the last counts."""
    op, x = cast(BroadcastTo, node.op), node.args[0]
    if x.shape == op.shape:
        return x
    return broadcast_to(x.args[0], op.shape) if isinstance(x.op, BroadcastTo) else None


def slice_rule(node: Node) -> Node | None:
    """A whole slice is nothing; two are one; one within a part of a concat, or inside a pad, reads only that."""
    op, x = cast(Slice, node.op), node.args[0]
    if op.sizes == x.shape and not any(op.starts) and all(step == 1 for step in op.steps):
        return x
    if isinstance(x.op, Slice):
        inner = x.op
        starts = tuple(s + start * step for s, step, start in zip(inner.starts, inner.steps, op.starts, strict=True))
        steps = tuple(a * b for a, b in zip(inner.steps, op.steps, strict=True))
        return Slice(starts, op.sizes, steps)(x.args[0])
    if node.type.size == 0:
        return None
    if isinstance(x.op, Concat):
        axis, offset = x.op.axis, 0
        for part in x.args:
            inside = _shifted(op, tuple(offset if a == axis else 0 for a in range(x.type.ndim)), part)
            if inside is not None:
                return inside
            offset += part.shape[axis]
    if isinstance(x.op, Pad):
        return _shifted(op, x.op.low, x.args[0])
    return _still_one_value(node, x)


def _shifted(op: Slice, low: tuple[int, ...], part: Node) -> Node | None:
    """Return the slice of a part that begins at `low` of the whole, when the slice reads nothing else."""
    starts = tuple(start - offset for start, offset in zip(op.starts, low, strict=True))
    ends = [start + (n - 1) * step for start, n, step in zip(starts, op.sizes, op.steps, strict=True)]
    if all(min(s, e) >= 0 and max(s, e) < size for s, e, size in zip(starts, ends, part.shape, strict=True)):
        return Slice(starts, op.sizes, op.steps)(part)
    return None


def pad_rule(node: Node) -> Node | None:
    """A pad by nothing is nothing; two with the same value are one."""
    op, x = cast(Pad, node.op), node.args[0]
    if not any(op.low) and not any(op.high):
        return x
    if isinstance(x.op, Pad) and same_value(op, x.op):
        low = tuple(a + b for a, b in zip(op.low, x.op.low, strict=True))
        high = tuple(a + b for a, b in zip(op.high, x.op.high, strict=True))
        return Pad(low, high, op.value)(x.args[0])
    return None


def same_value(first: Pad, second: Pad) -> bool:
    """Whether two pads fill with the same bits: NaN with NaN, but not 0.0 with -0.0."""
    return replace(first, low=(), high=()) == replace(second, low=(), high=())


def concat_rule(node: Node) -> Node | None:
    """Empty parts are left out, one part stays itself, and a concat within a concat along the same axis is taken in."""
    op = cast(Concat, node.op)
    parts: list[Node] = []
    for part in node.args:
        if part.shape[op.axis]:
            parts.extend(part.args if part.op == op else (part,))
    if len(parts) == 1:
        return parts[0]
    return op(*parts) if parts and len(parts) != len(node.args) else None


def matmul_rule(node: Node) -> Node | None:
    """Many matrices times the same matrix are one product with many rows."""
    assert isinstance(node.op, Matmul)
    a, b = node.args
    return matmul(a, b) if b.type.ndim == 2 and a.type.ndim > 2 else None


def elementwise_rule(node: Node) -> Node | None:
    """The op broadcasts its operands itself; where all of them are broadcast, it comes first and its result is."""
    args = node.args
    for a in args:
        if isinstance(a.op, BroadcastTo | Reshape):
            break
    else:
        return None
    bare = tuple([a.args[0] if isinstance(a.op, BroadcastTo) else a for a in args])
    barer = tuple([_without_leading_ones(a) for a in bare])
    if barer != bare:
        new = node.op(*barer)
        if new.type == node.type:
            return new
    return None if bare == args else broadcast_to(node.op(*bare), node.shape)


def _without_leading_ones(node: Node) -> Node:
    """Return what a reshape only put axes of size 1 in front of."""
    if not isinstance(node.op, Reshape):
        return node
    (x,) = node.args
    extra = node.type.ndim - x.type.ndim
    return x if extra > 0 and node.shape == (1,) * extra + x.shape else node


def reduction_rule(node: Node) -> Node | None:
    """A fold of axes that are all of size 1 is a reshape; an extreme of one value is that value."""
    op, x = cast(Reduction, node.op), node.args[0]
    if all(x.shape[a] == 1 for a in op.axes):
        return reshape(x, node.shape)
    if isinstance(x.op, BroadcastTo) and op.combine in ("max", "min", "any", "all") and x.type.size:
        value = one_value(x)
        return None if value is None else broadcast_to(value, node.shape)
    return None


def _still_one_value(node: Node, x: Node) -> Node | None:
    """Return what a movement of equal elements is: a broadcast to the new shape."""
    value = one_value(x) if isinstance(x.op, BroadcastTo) else None
    return None if value is None else broadcast_to(value, node.shape)


def rules_of(op: type[Op]) -> tuple[NodeRule, ...]:
    """Return the rules for a kind of op."""
    found = BY_OP.get(op)
    if found is not None:
        return (found,)
    if issubclass(op, Reduction):
        return (reduction_rule,)
    return (elementwise_rule,) if issubclass(op, Elementwise) else ()


BY_OP: dict[type[Op], NodeRule] = {
    Reshape: reshape_rule,
    Permute: permute_rule,
    BroadcastTo: broadcast_rule,
    Slice: slice_rule,
    Pad: pad_rule,
    Concat: concat_rule,
    Matmul: matmul_rule,
}
