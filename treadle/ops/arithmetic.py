"""Arithmetic on numbers of one dtype, the larger and smaller of two, and rounding to whole numbers.

Gradients at kinks are PyTorch's: ties of maximum share it equally, abs has slope 0 at 0, clip passes it at its bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import float32
from treadle.ir import Node, const_value
from treadle.te import SCALARS, convert, fn, literal, select

from .base import FLOATS, Array, Elementwise
from .broadcast import scalar_like, unbroadcast
from .compare import Equal, Greater, GreaterEqual, IsInf, Less, LessEqual, SignBit, is_zero
from .logic import LogicalAnd, LogicalOr, where
from .math import Log


class Add(Elementwise):
    """x1 + x2."""

    name = "add"
    numpy = np.add
    formula = "add"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(ct, x1.shape), unbroadcast(ct, x2.shape)]


class Subtract(Elementwise):
    """x1 - x2."""

    name = "subtract"
    numpy = np.subtract
    formula = "sub"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(ct, x1.shape), unbroadcast(-ct, x2.shape)]


class Multiply(Elementwise):
    """x1 * x2."""

    name = "multiply"
    numpy = np.multiply
    formula = "mul"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(ct * x2, x1.shape), unbroadcast(ct * x1, x2.shape)]


class Divide(Elementwise):
    """x1 / x2 of floats."""

    name = "divide"
    numpy = np.divide
    formula = "div"
    accepts = FLOATS

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(ct / x2, x1.shape), unbroadcast(-(ct / x2 * out), x2.shape)]


class FloorDivide(Elementwise):
    """x1 / x2 rounded towards minus infinity, infinite operands too; an integer divided by 0 gives 0."""

    name = "floor_divide"
    numpy = SCALARS["floor_div"].numpy
    formula = "floor_div"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [None, None]


class Remainder(Elementwise):
    """x1 - floor_divide(x1, x2) * x2, with the sign of x2; for an integer x2 of 0 it is 0."""

    name = "remainder"
    numpy = SCALARS["mod"].numpy
    formula = "mod"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        # An infinite remainder is x1 + x2, with an infinite x2 of the other sign.
        multiple = where(IsInf()(out), -1, FloorDivide()(x1, x2))
        return [unbroadcast(ct, x1.shape), unbroadcast(-(ct * multiple), x2.shape)]


class Pow(Elementwise):
    """x1 to the power x2. An integer to a negative power is 1 / x1**-x2 rounded towards 0, and 0 where x1 is 0."""

    name = "pow"

    def eval(self, *args: Array) -> Array:
        x1, x2 = args
        if x1.dtype.kind != "i":
            with np.errstate(all="ignore"):
                return np.power(x1, x2)
        odd_sign = np.where(x2 % 2 == 0, 1, x1)
        inverse = np.where(np.abs(x1) == 1, odd_sign, 0)
        return np.where(x2 < 0, inverse, np.power(x1, np.maximum(x2, 0))).astype(x1.dtype)

    def scalar(self, *args: Node) -> Node:
        x1, x2 = args
        if x1.dtype.kind != "int":
            return fn("pow", x1, x2)
        zero, one = literal(0, x1.dtype), literal(1, x1.dtype)
        odd_sign = select(fn("eq", fn("and", x2, one), zero), one, x1)
        inverse = select(fn("eq", fn("abs", x1), one), odd_sign, zero)
        return select(fn("lt", x2, zero), inverse, fn("pow", x1, fn("max", x2, zero)))

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        fixed = const_value(x2)
        if fixed is not None:
            if fixed == 0:
                return [None, None]
            # Of a whole exponent below 0 without a second power; others could have the wrong sign at -0.0 and -inf.
            by_result = fixed < 0 and float(fixed).is_integer()
            slope = x1 if fixed == 2 else out / x1 if by_result else x1 ** (fixed - 1)
            return [unbroadcast(ct if fixed == 1 else ct * (slope * fixed), x1.shape), None]
        # x**0 has slope 0 even where x**-1 is infinite; 0**y has slope 0 in y even though log(0) is not finite. The
        # argument of the infinite function is replaced, not its result, so that further derivatives are right too.
        lowered = where(is_zero(x2), 1, x2) - 1
        flat = LogicalAnd()(is_zero(x1), GreaterEqual()(x2, scalar_like(x2, 0)))
        return [
            unbroadcast(ct * (x2 * x1**lowered), x1.shape),
            unbroadcast(ct * (out * Log()(where(flat, 1, x1))), x2.shape),
        ]


class Negative(Elementwise):
    """-x; unsigned integers wrap around."""

    name = "negative"
    numpy = np.negative
    formula = "neg"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [-ct]


class Abs(Elementwise):
    """The magnitude of x; its slope at 0 is taken as 0."""

    name = "abs"
    numpy = np.abs

    def scalar(self, *args: Node) -> Node:
        return args[0] if args[0].dtype.kind == "uint" else fn("abs", *args)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Sign()(x)]


class Sign(Elementwise):
    """-1, 0 or 1 as x is negative, zero or positive; NaN of NaN."""

    name = "sign"
    numpy = np.sign
    formula = "sign"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [None]


class Reciprocal(Elementwise):
    """1 / x."""

    name = "reciprocal"
    numpy = np.reciprocal
    formula = "reciprocal"
    accepts = FLOATS

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [-(ct * (out * out))]


class CopySign(Elementwise):
    """The magnitude of x1 with the sign of x2."""

    name = "copysign"
    numpy = np.copysign
    formula = "copysign"
    accepts = FLOATS

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        same = Equal()(SignBit()(x1), SignBit()(x2))
        slope = where(is_zero(x1), 0, where(same, scalar_like(ct, 1), -1))
        return [unbroadcast(ct * slope, x1.shape), None]


class NextAfter(Elementwise):
    """The next float after x1 in the direction of x2."""

    name = "nextafter"
    numpy = np.nextafter
    accepts = FLOATS

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(where(Equal()(x1, x2), 0, ct), x1.shape), None]

    def scalar(self, *args: Node) -> Node:
        return fn("nextafter", *args) if args[0].dtype.bits >= 32 else _next_short_float(*args)


# One unit in the last place of 1, the smallest number, the largest.
SHORT_FLOATS = {"float16": (2.0**-10, 2.0**-24, 65504.0), "bfloat16": (2.0**-7, 2.0**-133, 255 * 2.0**120)}


def _next_short_float(x: Node, y: Node) -> Node:
    """Return the neighbour of a short float: x moved by about one unit in float32, then rounded.

    A change of 1.25 * eps / 2 times |x| lies between half a unit and one and a half on both sides of a power of two.
    """
    eps, smallest, largest = SHORT_FLOATS[x.dtype.name]
    a, b = convert(x, float32), convert(y, float32)

    def number(value: float) -> Node:
        return literal(value, float32)

    relative = fn("mul", fn("abs", a), number(0.625 * eps))
    change = fn("max", relative, number(0.75 * smallest))
    moved = fn("add", a, select(fn("lt", a, b), change, fn("neg", change)))
    moved = select(fn("isinf", a), fn("copysign", number(largest), a), moved)
    moved = select(fn("eq", a, b), b, moved)
    return convert(select(fn("isnan", b), b, moved), x.dtype)


def _share(ct: Node, mine: Node, other: Node, *, lost: Elementwise) -> Node:
    """Return the part of the gradient that goes to `mine`: half on a tie, none where `lost(mine, other)`."""
    share = where(Equal()(mine, other), ct * 0.5, where(lost(mine, other), 0, ct))
    return unbroadcast(share, mine.shape)


class Maximum(Elementwise):
    """The larger of x1 and x2; NaN where either is."""

    name = "maximum"
    numpy = np.maximum
    formula = "max"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [_share(ct, x1, x2, lost=Less()), _share(ct, x2, x1, lost=Less())]


class Minimum(Elementwise):
    """The smaller of x1 and x2; NaN where either is."""

    name = "minimum"
    numpy = np.minimum
    formula = "min"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [_share(ct, x1, x2, lost=Greater()), _share(ct, x2, x1, lost=Greater())]


class Clip(Elementwise):
    """minimum(maximum(x, low), high): x kept within bounds; `high` wins where the bounds cross."""

    name = "clip"

    def eval(self, *args: Array) -> Array:
        x, low, high = args
        with np.errstate(all="ignore"):
            return np.minimum(np.maximum(x, low), high)

    def scalar(self, *args: Node) -> Node:
        x, low, high = args
        return fn("min", fn("max", x, low), high)

    def vjp(self, ct: Node, out: Node, x: Any, low: Any, high: Any) -> Sequence[Node | None]:
        crossed = Less()(high, low)
        inside = LogicalAnd()(LessEqual()(low, x), LessEqual()(x, high))
        below = LogicalAnd()(Less()(x, low), LessEqual()(low, high))
        above = LogicalOr()(Less()(high, x), crossed)
        return [
            unbroadcast(where(inside, ct, 0), x.shape),
            unbroadcast(where(below, ct, 0), low.shape),
            unbroadcast(where(above, ct, 0), high.shape),
        ]


class Rounding(Elementwise):
    """Rounding to a whole number: integers stay as they are, and the slope is 0."""

    def eval(self, *args: Array) -> Array:
        x = args[0]
        if x.dtype.kind in "iu":
            return x
        with np.errstate(all="ignore"):
            return np.asarray(type(self).numpy(x))

    def scalar(self, *args: Node) -> Node:
        return fn(self.formula, *args) if args[0].dtype.is_float else args[0]

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [None]


class Floor(Rounding):
    """x rounded towards minus infinity."""

    name = "floor"
    numpy = np.floor
    formula = "floor"


class Ceil(Rounding):
    """x rounded towards infinity."""

    name = "ceil"
    numpy = np.ceil
    formula = "ceil"


class Trunc(Rounding):
    """x rounded towards 0."""

    name = "trunc"
    numpy = np.trunc
    formula = "trunc"


class Round(Rounding):
    """x rounded to the nearest whole number, halves to the even one."""

    name = "round"
    numpy = np.rint
    formula = "round"
