"""Identities that matter to gradients only: a variable whose gradient is asked for, a value cut off, values watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from treadle.core import Type
from treadle.ir import Get, Node
from treadle.ops.base import Array, TensorOp
from treadle.te import Compute, compute, load


class Marker(TensorOp):
    """An identity. Programs to be run are stripped of markers: they would make equal programs differ."""

    tracked = False

    def infer(self, x: Type) -> Type:
        return x

    def eval(self, x: Array) -> Array:
        return x

    def lower(self, x: Type) -> Compute:
        return compute(x.shape, lambda *i: load(0, x, *i))


@dataclass(frozen=True)
class Variable(Marker):
    """x as the variable number `uid`: its gradient does not mix with that of an equal value elsewhere."""

    name = "variable"
    uid: int

    def vjp(self, ct: Node, out: Node, x: Node) -> Sequence[Node | None]:
        return [ct]


@dataclass(frozen=True)
class Detach(Marker):
    """x as a constant: no gradient flows back through it."""

    name = "detach"

    def vjp(self, ct: Node, out: Node, x: Node) -> Sequence[Node | None]:
        return [None]


@dataclass(frozen=True)
class Watch(TensorOp):
    """Several values as they are: `see` gets their cotangents, None where nothing flows back, and says what goes on."""

    name = "watch"
    see: Callable[[Sequence[Node | None]], Sequence[Node | None]]

    def infer(self, *types: Type) -> Type | tuple[Type, ...]:
        return types[0] if len(types) == 1 else types

    def vjp(self, ct: Node | Sequence[Node | None], out: Node, *args: Node) -> Sequence[Node | None]:
        return self.see([ct] if isinstance(ct, Node) else ct)


def with_value(node: Node, value: Node) -> Node:
    """Return another value with the markers that a variable's node has."""
    if isinstance(node.op, Variable) or (isinstance(node.op, Watch) and len(node.args) == 1):
        return node.op(with_value(node.args[0], value))
    return value


def unmarked(node: Node) -> Node | None:
    """Return what a marker, or one value of a watch, stands for; None if the node is neither."""
    if isinstance(node.op, Marker) or (isinstance(node.op, Watch) and len(node.args) == 1):
        return node.args[0]
    if isinstance(node.op, Get) and isinstance(node.args[0].op, Watch):
        return node.args[0].args[node.op.index]
    return None
