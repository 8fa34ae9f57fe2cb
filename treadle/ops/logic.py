"""Logic on bools, operations on the bits of integers, and the choice between two values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import DTypeError, Type, broadcast_shapes
from treadle.ir import Node
from treadle.te import SCALARS, select

from .base import ANY, BITS, INTEGERS, Array, Elementwise, check_dtypes
from .broadcast import scalar_like, unbroadcast


class Bitwise(Elementwise):
    """An elementwise op on bits: no gradient flows."""

    accepts = BITS

    def vjp(self, ct: Node, out: Node, *args: Node) -> Sequence[Node | None]:
        return [None] * len(args)


class Logical(Bitwise):
    """An elementwise op on bools."""

    accepts = ("bool",)


class LogicalAnd(Logical):
    """Whether both hold."""

    name = "logical_and"
    numpy = np.logical_and
    formula = "and"


class LogicalOr(Logical):
    """Whether at least one holds."""

    name = "logical_or"
    numpy = np.logical_or
    formula = "or"


class LogicalXor(Logical):
    """Whether exactly one holds."""

    name = "logical_xor"
    numpy = np.logical_xor
    formula = "xor"


class LogicalNot(Logical):
    """Whether x does not hold."""

    name = "logical_not"
    numpy = np.logical_not
    formula = "not"


class BitwiseAnd(Bitwise):
    """The bits set in both."""

    name = "bitwise_and"
    numpy = np.bitwise_and
    formula = "and"


class BitwiseOr(Bitwise):
    """The bits set in at least one."""

    name = "bitwise_or"
    numpy = np.bitwise_or
    formula = "or"


class BitwiseXor(Bitwise):
    """The bits set in exactly one."""

    name = "bitwise_xor"
    numpy = np.bitwise_xor
    formula = "xor"


class BitwiseInvert(Bitwise):
    """Every bit flipped."""

    name = "bitwise_invert"
    numpy = np.invert
    formula = "not"


class BitwiseLeftShift(Bitwise):
    """x1 shifted left by x2 bits; 0 where x2 is negative or at least the width."""

    name = "bitwise_left_shift"
    numpy = SCALARS["shl"].numpy
    formula = "shl"
    accepts = INTEGERS


class BitwiseRightShift(Bitwise):
    """x1 shifted right by x2 bits, copying the sign; 0 or -1 where x2 is negative or at least the width."""

    name = "bitwise_right_shift"
    numpy = SCALARS["shr"].numpy
    formula = "shr"
    accepts = INTEGERS


class Where(Elementwise):
    """x1 where the condition holds, else x2. The operand not chosen has no influence, NaN or not."""

    name = "where"
    accepts = ANY

    def infer(self, *types: Type) -> Type:
        condition, x1, x2 = types
        if condition.dtype.kind != "bool":
            raise DTypeError(f"where: the condition is {condition}. It must be bool; compare with 0 to make it so.")
        check_dtypes(self.name, (x1, x2), self.accepts)
        return Type(x1.dtype, broadcast_shapes(self.name, *[t.shape for t in types]))

    def eval(self, *args: Array) -> Array:
        return np.where(*args).astype(args[1].dtype, copy=False)

    def scalar(self, *args: Node) -> Node:
        return select(*args)

    def vjp(self, ct: Node, out: Node, condition: Any, x1: Any, x2: Any) -> Sequence[Node | None]:
        zero = scalar_like(ct, 0)
        return [
            None,
            unbroadcast(Where()(condition, ct, zero), x1.shape),
            unbroadcast(Where()(condition, zero, ct), x2.shape),
        ]


def where(condition: Node, x1: Node | float, x2: Node | float) -> Node:
    """Return `x1` where the condition holds, else `x2`; numbers take the other's dtype."""
    like = x1 if isinstance(x1, Node) else x2
    assert isinstance(like, Node), "where: one of the two values must be a node"
    a, b = (x if isinstance(x, Node) else scalar_like(like, x) for x in (x1, x2))
    return Where()(condition, a, b)
