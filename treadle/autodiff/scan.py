"""The gradient of a loop: the gradient of one turn, run over the turns backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treadle.ir import Const, Graph, Input, Node, Op, results, substitute, topological
from treadle.ops import Concat, Elementwise, reshape, zeros_like
from treadle.ops.formula import op_cost
from treadle.ops.movement import narrow
from treadle.ops.scan import Loop, Scan, placeholder

from .reverse import vjp_nodes

MOVES = frozenset({"reshape", "permute", "broadcast_to", "slice"})
CHEAP = 2  # flops per element up to which a value of the forward turn is computed again instead of kept


def scan_vjp(op: Scan, cts: Sequence[Node | None], args: Sequence[Node]) -> list[Node | None]:
    """Return the cotangents of a loop's operands, given those of its results.

    The loop backwards carries the cotangents of the carries and the sums of those of the constants. What it needs of
    the forward turns is stacked by a second forward loop, which the `loops` pass makes one with the first.
    """
    if not op.length:
        return [*cts[: op.num_carry], *[None] * (len(args) - op.num_carry)]
    turn = _Turn.of(op, cts)
    nc, nx = op.num_carry, op.num_xs
    inputs = op.body.inputs
    kept = _Kept(op, args, turn)
    swap = kept.swaps()
    wanted = substitute([g for g in turn.gradients if g is not None], swap)
    made = iter(wanted)
    gradients = [None if g is None else next(made) for g in turn.gradients]
    carries: list[tuple[Node, Node, Node]] = []
    for k, ct in turn.carried.items():
        given, new = cts[k], gradients[k]
        carries.append((ct, zeros_like(args[k]) if given is None else given, zeros_like(ct) if new is None else new))
    sums: list[int] = []
    for k in range(nc + nx, len(inputs)):
        g = gradients[k]
        if g is not None:
            total = placeholder(g.type)
            carries.append((total, zeros_like(args[k]), Op.registry["add"]()(total, g)))
            sums.append(k)
    stacked = [k for k in range(nc, nc + nx) if gradients[k] is not None]
    ys = [g for k in stacked if (g := gradients[k]) is not None]
    xs = [*[(p, ct) for p, ct in turn.stacked if ct is not None], *kept.xs]
    found = iter(Loop(carries, xs, ys, op.length, not op.reverse).close())
    out: list[Node | None] = [None] * len(args)
    for k in [*turn.carried, *sums, *stacked]:
        out[k] = next(found)
    return out


@dataclass
class _Turn:
    """The gradient of one turn.

    Attributes:
        carried: by number of the carry, the placeholder of the cotangent of its new value.
        stacked: placeholder of the cotangent of a stacked value at this turn, and the cotangent of the stack.
        gradients: one per input of the body.
    """

    carried: dict[int, Node]
    stacked: list[tuple[Node, Node | None]]
    gradients: list[Node | None]

    @staticmethod
    def of(op: Scan, cts: Sequence[Node | None]) -> _Turn:
        """Return the gradient for these cotangents: those of more and more carries, until no other carry has one."""
        nc, outputs, inputs = op.num_carry, op.body.outputs, op.body.inputs
        stacked = [(placeholder(n.type), ct) for n, ct in zip(outputs[nc:], cts[nc:], strict=True)]
        all_carried = [placeholder(n.type) for n in outputs[:nc]]
        live = {k for k in range(nc) if cts[k] is not None}
        floats = [n for n in inputs if n.dtype.is_float]
        while True:
            given = [ct if k in live else None for k, ct in enumerate(all_carried)]
            given += [p if ct is not None else None for p, ct in stacked]
            found = dict(zip(floats, vjp_nodes(outputs, given, floats), strict=True))
            gradients = [found.get(n) for n in inputs]
            reached = {k for k in range(nc) if gradients[k] is not None}
            if reached <= live:
                return _Turn({k: all_carried[k] for k in sorted(live)}, stacked, gradients)
            live |= reached


class _Kept:
    """What the backward turn reads of the forward one: its operands, what is computed again, and what is stacked."""

    def __init__(self, op: Scan, args: Sequence[Node], turn: _Turn) -> None:
        self.op = op
        self.args = args
        cotangents = {*turn.carried.values(), *[p for p, _ in turn.stacked]}
        wanted = [g for g in turn.gradients if g is not None]
        backward: set[Node] = set()
        frontier: dict[Node, None] = {}
        for node in topological(wanted, stop=lambda n: isinstance(n.op, Input)):
            if node in cotangents or any(a in backward for a in node.args):
                backward.add(node)
                frontier.update((a, None) for a in node.args if a not in backward)
        frontier.update((g, None) for g in wanted if g not in backward)
        self.leaves: dict[Node, None] = {}
        rank = {n: k for k, n in enumerate(topological(frontier))}
        for node in sorted(frontier, key=rank.__getitem__):
            self.leaves.update(dict.fromkeys(self.sources(node)))
        self.xs: list[tuple[Node, Node]] = []

    def sources(self, node: Node) -> list[Node]:
        """Return what a value is computed from in the backward turn: itself, or what it cheaply follows from.

        That is no more to keep than the value, and often serves several.
        """
        moves = node.op.name in MOVES
        cheap = moves or (isinstance(node.op, Elementwise) and op_cost(node.op) <= CHEAP and len(node.types) == 1)
        if isinstance(node.op, Const):
            return []
        if isinstance(node.op, Input) or node in self.leaves or not cheap:
            return [node]
        found = list(dict.fromkeys(leaf for a in node.args for leaf in self.sources(a)))
        size = sum(n.type.size for n in found if n not in self.leaves and not self.is_operand(n))
        return found if moves or size <= node.type.size else [node]

    def is_operand(self, node: Node) -> bool:
        """Whether a value is there anyway: a constant, or a slice."""
        return isinstance(node.op, Input) and node.op.index >= self.op.num_carry

    def swaps(self) -> dict[Node, Node]:
        """Return for each leaf what stands for it in the backward body; `xs` are the stacks it takes."""
        op, args, nc = self.op, self.args, self.op.num_carry
        extra: dict[Node, None] = {}
        for leaf in self.leaves:
            if not isinstance(leaf.op, Input):
                extra[leaf] = None
            elif leaf.op.index < nc:
                extra[op.body.outputs[leaf.op.index]] = None
        body = Graph(op.body.inputs, (*op.body.outputs, *extra))
        again = Scan(body, nc, op.num_xs, op.length, op.reverse)
        stacks = dict(zip(extra, results(again(*args))[len(op.body.outputs) :], strict=True)) if extra else {}
        swap: dict[Node, Node] = {}
        for leaf in self.leaves:
            index = leaf.op.index if isinstance(leaf.op, Input) else -1
            if index >= nc + op.num_xs:
                swap[leaf] = args[index]
                continue
            if index < 0:
                stack = stacks[leaf]
            elif index < nc:
                stack = self.before(args[index], stacks[op.body.outputs[index]])
            else:
                stack = args[index]
            swap[leaf] = placeholder(leaf.type)
            self.xs.append((swap[leaf], stack))
        return swap

    def before(self, first: Node, after: Node) -> Node:
        """Return the carries that turns got, given the first and those that turns returned."""
        row = reshape(first, (1, *first.shape))
        if self.op.reverse:
            return Concat(0)(narrow(after, 0, 1, self.op.length - 1), row)
        return Concat(0)(row, narrow(after, 0, 0, self.op.length - 1))
