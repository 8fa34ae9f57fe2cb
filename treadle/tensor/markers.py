"""Two identities that matter to gradients only: a variable, whose gradient is asked for, and a value cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treadle.core import Type
from treadle.ir import Node
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
