"""`Scan`: a loop over time as one op that holds the graph of one turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from treadle.core import ShapeError, Type
from treadle.ir import Const, Graph, Input, Node, Op, bare_node, results, substitute, topological

from .base import Array, TensorOp
from .bounds import always_holds, carried_bounds
from .fused import run_graph
from .indexing import Check, Checked

Gradient = Callable[["Scan", Sequence[Node | None], Sequence[Node]], list[Node | None]]


@dataclass(frozen=True)
class Scan(TensorOp):
    """`length` turns of `body`, each of which gets the carries the one before returned.

    The body's inputs are carries, then the slices at this turn of the `num_xs` stacked operands, then constants; its
    outputs are the new carries, then values that are stacked. Operands: first carries, stacked operands
    [length, ...], constants. Results: last carries, stacked values [length, ...]. With `reverse` the turns go from the
    last slice to the first, and so are stacked values filled.
    """

    name = "scan"
    kernel = "scan"
    body: Graph
    num_carry: int
    num_xs: int
    length: int
    reverse: bool = False

    @property
    def num_constants(self) -> int:
        """Operands that are the same in every turn."""
        return len(self.body.inputs) - self.num_carry - self.num_xs

    def infer(self, *types: Type) -> Type | tuple[Type, ...]:
        given = tuple(n.type for n in self.body.inputs)
        wanted = tuple(
            self.stacked(t) if self.num_carry <= k < self.num_carry + self.num_xs else t for k, t in enumerate(given)
        )
        if types != wanted:
            raise ShapeError(f"scan: the operands are {_listed(types)}, the loop takes {_listed(wanted)}.")
        made = tuple(n.type for n in self.body.outputs)
        if made[: self.num_carry] != given[: self.num_carry]:
            raise ShapeError(
                f"scan: a turn gets the carries {_listed(given[: self.num_carry])} and returns "
                f"{_listed(made[: self.num_carry])}. Shapes and dtypes must stay the same."
            )
        found = (*made[: self.num_carry], *map(self.stacked, made[self.num_carry :]))
        return found[0] if len(found) == 1 else found

    def stacked(self, of: Type) -> Type:
        """Return the type of one value per turn."""
        return Type(of.dtype, (self.length, *of.shape))

    def eval(self, *args: Array) -> Any:
        nc, nx = self.num_carry, self.num_xs
        carry, xs, constants = list(args[:nc]), args[nc : nc + nx], args[nc + nx :]
        ys = [np.zeros(self.stacked(n.type).shape, n.type.dtype.numpy) for n in self.body.outputs[nc:]]
        turns = range(self.length)
        for t in reversed(turns) if self.reverse else turns:
            made = run_graph(self.body, [*carry, *[x[t] for x in xs], *constants])
            carry = made[:nc]
            for y, value in zip(ys, made[nc:], strict=True):
                y[t] = value
        found = (*map(np.asarray, carry), *ys)
        return found[0] if len(found) == 1 else found

    def vjp(self, ct: Any, out: Node, *args: Node) -> Sequence[Node | None]:
        """Return the loop backwards over the gradient of the body; `autodiff.scan` makes it."""
        return Hooks.gradient(self, cast(Any, ct) if isinstance(ct, tuple) else (ct,), args)

    def checks(self, *args: Node) -> list[Check]:
        """Return the index checks of all turns: a loop of their own that stacks them."""
        known = carried_bounds(self.body.inputs, self.body.outputs, args, self.num_carry)
        inner = [
            check
            for node in self.body.nodes()
            if isinstance(node.op, Checked)
            for check in node.op.checks(*node.args)
            if not always_holds(check, known)
        ]
        if not inner or not self.length:
            return []
        extra = [node for c in inner for node in (c.ok, c.low, c.high)]
        body = Graph(self.body.inputs, (*self.body.outputs[: self.num_carry], *extra))
        ys = results(replace(self, body=body)(*args))[self.num_carry :]
        found: list[Check] = []
        for k, check in enumerate(inner):
            ok, low, high = (
                Op.registry[fold]((0,), False)(y)
                for fold, y in zip(("all", "min", "max"), ys[3 * k : 3 * k + 3], strict=True)
            )
            found.append(check._replace(ok=ok, low=low, high=high))
        return found


class Hooks:
    """What upper layers put in: the gradient of a loop is the gradient of its body's graph, which `ops` cannot take."""

    @staticmethod
    def gradient(op: Scan, cts: Sequence[Node | None], args: Sequence[Node]) -> list[Node | None]:
        """Return one cotangent per operand; `treadle.autodiff` replaces this."""
        raise AssertionError("no gradient is set: treadle.autodiff sets ops.scan.Hooks.gradient")


def _listed(types: Sequence[Type]) -> str:
    return ", ".join(map(repr, types)) or "none"


# --- building loops ------------------------------------------------------------------------------------------


def placeholder(of: Type) -> Node:
    """Return a stand-in for a value of a loop's turn while its body is built; no other node equals it."""
    return bare_node(Input(0, of), of)


@dataclass
class Loop:
    """A loop while it is built, in terms of placeholders; what else its nodes read becomes a constant operand.

    Args:
        carries: placeholder, first value and new value of each carry.
        xs: placeholder and stacked operand of each.
        ys: values of a turn to stack.
        length: the number of turns.
        reverse: whether they go from the last slice to the first.
    """

    carries: list[tuple[Node, Node, Node]]
    xs: list[tuple[Node, Node]]
    ys: list[Node]
    length: int
    reverse: bool

    def close(self) -> tuple[Node, ...]:
        """Return the last carries and the stacked values.

        Whatever does not depend on a placeholder is computed outside, but views of it and literals inside: there they
        cost nothing.
        """
        outputs = [*[new for _, _, new in self.carries], *self.ys]
        own = {p: None for p, *_ in self.carries} | {p: None for p, _ in self.xs}
        if not outputs:
            return ()
        captured = _invariants(outputs, set(own))
        order = [*own, *captured]
        swap = {node: Input(k, node.type)() for k, node in enumerate(order)}
        body = Graph(tuple(swap.values()), substitute(outputs, swap))
        op = Scan(body, len(self.carries), len(self.xs), self.length, self.reverse)
        return results(op(*[first for _, first, _ in self.carries], *[x for _, x in self.xs], *captured))


VIEWS = frozenset({"broadcast_to", "reshape"})  # that are as well made anew in every turn


def _invariants(outputs: Sequence[Node], own: set[Node]) -> list[Node]:
    """Return the largest values that `outputs` are made of and that do not depend on `own`."""
    varies: set[Node] = set()
    literal: set[Node] = set()
    order = topological(outputs, stop=own.__contains__)
    for node in order:
        if node in own or any(a in varies for a in node.args):
            varies.add(node)
        elif isinstance(node.op, Const) or (node.args and all(a in literal for a in node.args)):
            literal.add(node)
    found: dict[Node, None] = {}
    roots = [a for n in order if n in varies for a in n.args] + list(outputs)
    for root in roots:
        base = root
        while base not in varies and base not in literal and base.op.name in VIEWS:
            base = base.args[0]
        if base not in varies and base not in literal:
            found[base] = None
    return list(found)


__all__ = ["Hooks", "Loop", "Scan", "placeholder"]
