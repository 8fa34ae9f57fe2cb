"""Arithmetic beyond the array API's, element by element, named as in PyTorch; and what looks at NaN and infinity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from treadle.core import ConfigError, DTypeError, float32, float64, int32, promote
from treadle.ops import Gcd

from . import elementwise as ew
from . import reductions
from .data_types import astype, finfo
from .elementwise import require_float
from .manipulation import broadcast_arrays
from .promotion import Operand, as_tensor, meet
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


class Parts(NamedTuple):
    """Numbers as mantissa times 2 to the power of an exponent (int32)."""

    mantissa: Tensor
    exponent: Tensor


# --- sums of products ---------------------------------------------------------------------------------------


def lerp(input: Operand, end: Operand, weight: Operand) -> Tensor:
    """Return input + weight (end - input), computed from the nearer end so that weight 1 gives `end` exactly."""
    a, b = as_tensor("lerp", input), as_tensor("lerp", end)
    gap = ew.subtract(b, a)
    if isinstance(weight, int | float):
        if abs(weight) < 0.5:
            return ew.add(a, ew.multiply(gap, weight))
        return ew.subtract(b, ew.multiply(gap, 1 - weight))
    share = as_tensor("lerp", weight)
    from_end = ew.subtract(b, ew.multiply(gap, ew.subtract(1, share)))
    return ew.where(ew.less(ew.abs(share), 0.5), ew.add(a, ew.multiply(gap, share)), from_end)


def addcmul(input: Operand, tensor1: Operand, tensor2: Operand, *, value: float = 1) -> Tensor:
    """Return input + value * tensor1 * tensor2."""
    product = ew.multiply(as_tensor("addcmul", tensor1), tensor2)
    return ew.add(input, product if value == 1 else ew.multiply(product, value))


def addcdiv(input: Operand, tensor1: Operand, tensor2: Operand, *, value: float = 1) -> Tensor:
    """Return input + value * tensor1 / tensor2."""
    quotient = ew.divide(as_tensor("addcdiv", tensor1), tensor2)
    return ew.add(input, quotient if value == 1 else ew.multiply(quotient, value))


# --- powers and logarithms ----------------------------------------------------------------------------------


def float_power(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 raised to x2 in float64."""
    nodes, tensors, _ = meet("float_power", x1, x2)
    a, b = (astype(made(n, *tensors), float64) for n in nodes)
    return ew.pow(a, b)


def logaddexp2(x1: Operand, x2: Operand, /) -> Tensor:
    """Return log2(2**x1 + 2**x2) without overflow in between."""
    nodes, tensors, dtype = meet("logaddexp2", x1, x2)
    result = dtype if dtype.is_float else float32
    a, b = (astype(made(n, *tensors), promote(result, float32)) for n in nodes)
    # Not by way of logaddexp: products with log(2) would round away what a large negative result is made of.
    apart = ew.where(ew.equal(a, b), 0.0, ew.subtract(a, b))  # equal infinities, too, are 0 apart
    more = ew.log1p(ew.exp2(ew.negative(ew.abs(apart))))
    return astype(ew.add(ew.maximum(a, b), ew.divide(more, math.log(2))), result)


def ldexp(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 times 2 to the power x2."""
    return ew.multiply(x1, ew.pow(2.0, as_tensor("ldexp", x2)))


def frexp(x: Operand, /) -> Parts:
    """Return mantissas in 0.5 .. 1 (in magnitude) and whole exponents, with x = mantissa * 2**exponent."""
    tensor = as_tensor("frexp", x)
    require_float("frexp", tensor.dtype)
    wide = astype(tensor, float64)
    usual = ew.logical_and(ew.isfinite(wide), ew.not_equal(wide, 0))
    # Subnormal numbers are lifted first; the logarithm may be rounded up to a whole number.
    small = ew.less(ew.abs(wide), 2.0**-1000)
    safe = ew.where(usual, ew.where(small, ew.multiply(wide, 2.0**100), wide), 0.5)
    power = ew.add(ew.floor(ew.log2(ew.abs(safe))), 1)
    half = ew.floor(ew.multiply(power, 0.5))
    # In two steps: 2**1024 is no float64.
    mantissa = ew.multiply(ew.multiply(safe, ew.exp2(ew.negative(half))), ew.exp2(ew.subtract(half, power)))
    too_large, too_small = ew.greater_equal(ew.abs(mantissa), 1), ew.less(ew.abs(mantissa), 0.5)
    mantissa = ew.multiply(mantissa, ew.where(too_large, 0.5, ew.where(too_small, 2.0, 1.0)))
    power = ew.add(power, ew.where(too_large, 1.0, ew.where(too_small, -1.0, 0.0)))
    power = ew.subtract(power, ew.where(small, 100.0, 0.0))
    exponent = astype(ew.where(usual, power, 0.0), int32)
    return Parts(astype(ew.where(usual, mantissa, wide), tensor.dtype), exponent)


# --- angles -------------------------------------------------------------------------------------------------


def deg2rad(x: Operand, /) -> Tensor:
    """Return angles given in degrees in radians."""
    return ew.multiply(x, math.pi / 180)


def rad2deg(x: Operand, /) -> Tensor:
    """Return angles given in radians in degrees."""
    return ew.multiply(x, 180 / math.pi)


# --- remainders ---------------------------------------------------------------------------------------------


def fmod(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the remainder of x1 / x2 that has the sign of x1 (`remainder` has that of x2)."""
    nodes, tensors, dtype = meet("fmod", x1, x2)
    a, b = (made(n, *tensors) for n in nodes)
    if dtype.kind == "uint":
        return ew.remainder(a, b)
    if dtype.is_float:
        sign = astype(ew.where(ew.signbit(a), -1, 1), dtype)  # that of -0.0, too
        return ew.multiply(sign, ew.remainder(ew.multiply(sign, a), ew.abs(b)))
    # Without abs: the lowest integer has none.
    rest = ew.remainder(a, b)
    turned = ew.logical_and(ew.not_equal(rest, 0), ew.not_equal(ew.less(rest, 0), ew.less(a, 0)))
    return ew.where(turned, ew.subtract(rest, b), rest)


def frac(x: Operand, /) -> Tensor:
    """Return what x has behind the point, with its sign."""
    tensor = as_tensor("frac", x)
    require_float("frac", tensor.dtype)
    return ew.subtract(tensor, ew.trunc(tensor))


def gcd(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the greatest common divisor of integers; of 0 and x, the magnitude of x."""
    nodes, tensors, dtype = meet("gcd", x1, x2)
    if not dtype.is_integer:
        raise DTypeError(f"gcd: does not take {dtype.name}. Allowed: integers. Convert with astype() first.")
    a, b = broadcast_arrays(*[made(n, *tensors) for n in nodes])
    return made(Gcd()(node_of(a), node_of(b)), a, b)


def lcm(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the least common multiple of integers; 0 where one is 0."""
    divisor = gcd(x1, x2)
    return ew.abs(ew.multiply(ew.floor_divide(x1, divisor), x2))


# --- steps, NaN and infinity --------------------------------------------------------------------------------


def heaviside(x: Operand, values: Operand, /) -> Tensor:
    """Return 0 where x < 0 (or NaN), 1 where x > 0, and `values` where x is 0."""
    nodes, tensors, dtype = meet("heaviside", x, values)
    a, b = (made(n, *tensors) for n in nodes)
    return ew.where(ew.equal(a, 0), b, astype(ew.greater(a, 0), dtype))


def fmax(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the larger of x1 and x2; where one is NaN, the other."""
    nodes, tensors, _ = meet("fmax", x1, x2)
    a, b = (made(n, *tensors) for n in nodes)
    return ew.where(ew.logical_or(ew.greater_equal(a, b), ew.isnan(b)), a, b)


def fmin(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the smaller of x1 and x2; where one is NaN, the other."""
    nodes, tensors, _ = meet("fmin", x1, x2)
    a, b = (made(n, *tensors) for n in nodes)
    return ew.where(ew.logical_or(ew.less_equal(a, b), ew.isnan(b)), a, b)


def isposinf(x: Operand, /) -> Tensor:
    """Return whether x is inf."""
    return ew.equal(x, math.inf)


def isneginf(x: Operand, /) -> Tensor:
    """Return whether x is -inf."""
    return ew.equal(x, -math.inf)


def nan_to_num(x: Operand, /, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """Return x with numbers for NaN, inf and -inf (the largest and the least of the dtype when None)."""
    tensor = as_tensor("nan_to_num", x)
    if not tensor.dtype.is_float:
        return tensor
    limits = finfo(tensor.dtype)
    high, low = (limits.max if posinf is None else posinf), (limits.min if neginf is None else neginf)
    finite = ew.where(isposinf(tensor), high, ew.where(isneginf(tensor), low, tensor))
    return ew.where(ew.isnan(tensor), nan, finite)


def isclose(x1: Operand, x2: Operand, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Return whether abs(x1 - x2) <= atol + rtol abs(x2); equal infinities are close, NaN to NaN with `equal_nan`."""
    if rtol < 0 or atol < 0:
        raise ConfigError(f"isclose: rtol is {rtol}, atol {atol}. Allowed: at least 0.")
    nodes, tensors, dtype = meet("isclose", x1, x2)
    a, b = (made(n, *tensors) for n in nodes)
    near = ew.equal(a, b)
    if not dtype.is_float:
        a, b = astype(a, float64), astype(b, float64)
    error = ew.abs(ew.subtract(a, b))
    allowed = ew.add(atol, ew.multiply(ew.abs(b), rtol))
    near = ew.logical_or(near, ew.logical_and(ew.isfinite(error), ew.less_equal(error, allowed)))
    return ew.logical_or(near, ew.logical_and(ew.isnan(a), ew.isnan(b))) if equal_nan else near


def allclose(x1: Operand, x2: Operand, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Return whether all elements are close, as `isclose` says: a Python bool, so their values must be known."""
    return bool(reductions.all(isclose(x1, x2, rtol, atol, equal_nan)))
