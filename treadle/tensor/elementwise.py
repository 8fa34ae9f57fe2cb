"""Functions of the array API that work element by element, with broadcasting and promotion."""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING

from treadle.core import ConfigError, DType, DTypeError, bool_, float32, uint8
from treadle.ir import Node, Op, constant

from .promotion import Operand, as_tensor, cast, integer_range, meet
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


def _unary(name: str, x: Operand) -> Tensor:
    tensor = as_tensor(name, x)
    return made(Op.registry[name]()(node_of(tensor)), tensor)


def float_unary(name: str, x: Operand) -> Tensor:
    """Apply a function that exists on floats only: integers and bools are taken as float32."""
    tensor = as_tensor(name, x)
    node = node_of(tensor)
    return made(Op.registry[name]()(node if node.type.dtype.kind == "float" else cast(node, float32)), tensor)


def _rounding(name: str, x: Operand) -> Tensor:
    """Apply a rounding function; integers are whole already."""
    tensor = as_tensor(name, x)
    return tensor if tensor.dtype.is_integer else _unary(name, tensor)


# What these do to the numbers 0 and 1, as in NumPy and PyTorch.
_ON_BOOLS = {"add": "logical_or", "maximum": "logical_or", "multiply": "logical_and", "minimum": "logical_and"}


def _binary(name: str, x1: Operand, x2: Operand) -> Tensor:
    (a, b), tensors, dtype = meet(name, x1, x2)
    return made(Op.registry[_ON_BOOLS.get(name, name) if dtype is bool_ else name]()(a, b), *tensors)


def _order(name: str, x1: Operand, x2: Operand) -> Tensor:
    """Apply a comparison of sizes; of truth values, True is the larger."""
    (a, b), tensors, dtype = meet(name, x1, x2)
    if dtype is bool_:
        a, b = cast(a, uint8), cast(b, uint8)
    return made(Op.registry[name]()(a, b), *tensors)


def float_binary(name: str, x1: Operand, x2: Operand) -> Tensor:
    """Apply a function of two floats: two integers or bools are taken as float32."""
    (a, b), tensors, dtype = meet(name, x1, x2)
    if not dtype.is_float:
        a, b = cast(a, float32), cast(b, float32)
    return made(Op.registry[name]()(a, b), *tensors)


def _truth(name: str, *operands: Operand) -> Tensor:
    """Apply a function of truth values: a number counts as true when it is not 0."""
    tensors = [as_tensor(name, x) for x in operands]
    nodes = [node_of(t) for t in tensors]
    return made(Op.registry[name]()(*[n if n.dtype.kind == "bool" else cast(n, bool_) for n in nodes]), *tensors)


def require_float(what: str, dtype: DType) -> None:
    """Raise DTypeError unless the dtype is floating point."""
    if not dtype.is_float:
        raise DTypeError(f"{what}: does not take {dtype.name}. Allowed: float. Convert with astype() first.")


def add(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 + x2."""
    return _binary("add", x1, x2)


def subtract(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 - x2."""
    return _binary("subtract", x1, x2)


def multiply(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 * x2."""
    return _binary("multiply", x1, x2)


def divide(x1: Operand, x2: Operand, /, *, rounding_mode: str | None = None) -> Tensor:
    """Return x1 / x2; integers divide as float32.

    `rounding_mode` is PyTorch's: "floor" is floor_divide, "trunc" rounds towards 0; of integers both are integers.
    """
    if rounding_mode is None:
        return float_binary("divide", x1, x2)
    if rounding_mode == "floor":
        return floor_divide(x1, x2)
    if rounding_mode != "trunc":
        raise ConfigError(f"divide: rounding_mode is {rounding_mode!r}. Allowed: None, 'floor', 'trunc'.")
    nodes, tensors, dtype = meet("divide", x1, x2)
    a, b = (made(n, *tensors) for n in nodes)
    if dtype.is_float:
        return trunc(divide(a, b))
    low, rest = floor_divide(a, b), remainder(a, b)
    return where(logical_and(not_equal(rest, 0), not_equal(less(a, 0), less(b, 0))), add(low, 1), low)


def floor_divide(x1: Operand, x2: Operand, /) -> Tensor:
    """Return floor(x1 / x2); an integer divided by zero gives 0.

    Infinite operands are as in the array API standard: inf // 2 is inf and 1 // -inf is -0.0. NumPy and PyTorch, which
    go by the remainder, give nan and -1 for them.
    """
    return _binary("floor_divide", x1, x2)


def remainder(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the remainder of x1 / x2, which has the sign of x2."""
    return _binary("remainder", x1, x2)


def pow(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 raised to x2."""
    return _binary("pow", x1, x2)


def maximum(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the larger of x1 and x2; NaN where either is."""
    return _binary("maximum", x1, x2)


def minimum(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the smaller of x1 and x2; NaN where either is."""
    return _binary("minimum", x1, x2)


def atan2(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the angle of the point (x2, x1), from -pi to pi."""
    return float_binary("atan2", x1, x2)


def hypot(x1: Operand, x2: Operand, /) -> Tensor:
    """Return sqrt(x1**2 + x2**2) without overflow in between."""
    return float_binary("hypot", x1, x2)


def logaddexp(x1: Operand, x2: Operand, /) -> Tensor:
    """Return log(exp(x1) + exp(x2)) without overflow in between."""
    return float_binary("logaddexp", x1, x2)


def copysign(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the size of x1 with the sign of x2."""
    return float_binary("copysign", x1, x2)


def nextafter(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the next number after x1 in the direction of x2."""
    return float_binary("nextafter", x1, x2)


def equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 == x2, element by element."""
    return _binary("equal", x1, x2)


def not_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 != x2, element by element."""
    return _binary("not_equal", x1, x2)


def less(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 < x2, element by element."""
    return _order("less", x1, x2)


def less_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 <= x2, element by element."""
    return _order("less_equal", x1, x2)


def greater(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 > x2, element by element."""
    return _order("greater", x1, x2)


def greater_equal(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether x1 >= x2, element by element."""
    return _order("greater_equal", x1, x2)


def logical_and(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether both are true."""
    return _truth("logical_and", x1, x2)


def logical_or(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether either is true."""
    return _truth("logical_or", x1, x2)


def logical_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """Return whether exactly one is true."""
    return _truth("logical_xor", x1, x2)


def logical_not(x: Operand, /) -> Tensor:
    """Return whether x is false."""
    return _truth("logical_not", x)


def bitwise_and(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the bits set in both."""
    return _binary("bitwise_and", x1, x2)


def bitwise_or(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the bits set in either."""
    return _binary("bitwise_or", x1, x2)


def bitwise_xor(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the bits set in exactly one."""
    return _binary("bitwise_xor", x1, x2)


def bitwise_invert(x: Operand, /) -> Tensor:
    """Return x with every bit flipped; for bools, not x."""
    return _unary("bitwise_invert", x)


def bitwise_left_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 shifted left by x2 bits."""
    return _binary("bitwise_left_shift", x1, x2)


def bitwise_right_shift(x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 shifted right by x2 bits, keeping its sign."""
    return _binary("bitwise_right_shift", x1, x2)


def negative(x: Operand, /) -> Tensor:
    """Return -x."""
    return _unary("negative", x)


def abs(x: Operand, /) -> Tensor:
    """Return the absolute value of x."""
    return _unary("abs", x)


def sign(x: Operand, /) -> Tensor:
    """Return -1, 0 or 1; NaN for NaN."""
    return _unary("sign", x)


def exp(x: Operand, /) -> Tensor:
    """Return e**x."""
    return float_unary("exp", x)


def exp2(x: Operand, /) -> Tensor:
    """Return 2**x."""
    return float_unary("exp2", x)


def expm1(x: Operand, /) -> Tensor:
    """Return e**x - 1, exact near 0."""
    return float_unary("expm1", x)


def log(x: Operand, /) -> Tensor:
    """Return the natural logarithm of x."""
    return float_unary("log", x)


def log1p(x: Operand, /) -> Tensor:
    """Return log(1 + x), exact near 0."""
    return float_unary("log1p", x)


def log2(x: Operand, /) -> Tensor:
    """Return the logarithm of x to base 2."""
    return float_unary("log2", x)


def log10(x: Operand, /) -> Tensor:
    """Return the logarithm of x to base 10."""
    return float_unary("log10", x)


def sqrt(x: Operand, /) -> Tensor:
    """Return the square root of x."""
    return float_unary("sqrt", x)


def rsqrt(x: Operand, /) -> Tensor:
    """Return 1 / sqrt(x)."""
    return float_unary("rsqrt", x)


def reciprocal(x: Operand, /) -> Tensor:
    """Return 1 / x."""
    return float_unary("reciprocal", x)


def sin(x: Operand, /) -> Tensor:
    """Return the sine of x."""
    return float_unary("sin", x)


def cos(x: Operand, /) -> Tensor:
    """Return the cosine of x."""
    return float_unary("cos", x)


def tan(x: Operand, /) -> Tensor:
    """Return the tangent of x."""
    return float_unary("tan", x)


def asin(x: Operand, /) -> Tensor:
    """Return the angle whose sine is x."""
    return float_unary("asin", x)


def acos(x: Operand, /) -> Tensor:
    """Return the angle whose cosine is x."""
    return float_unary("acos", x)


def atan(x: Operand, /) -> Tensor:
    """Return the angle whose tangent is x."""
    return float_unary("atan", x)


def sinh(x: Operand, /) -> Tensor:
    """Return the hyperbolic sine of x."""
    return float_unary("sinh", x)


def cosh(x: Operand, /) -> Tensor:
    """Return the hyperbolic cosine of x."""
    return float_unary("cosh", x)


def tanh(x: Operand, /) -> Tensor:
    """Return the hyperbolic tangent of x."""
    return float_unary("tanh", x)


def asinh(x: Operand, /) -> Tensor:
    """Return the inverse of sinh."""
    return float_unary("asinh", x)


def acosh(x: Operand, /) -> Tensor:
    """Return the inverse of cosh."""
    return float_unary("acosh", x)


def atanh(x: Operand, /) -> Tensor:
    """Return the inverse of tanh."""
    return float_unary("atanh", x)


def sigmoid(x: Operand, /) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return float_unary("sigmoid", x)


def erf(x: Operand, /) -> Tensor:
    """Return the error function of x."""
    return float_unary("erf", x)


def floor(x: Operand, /) -> Tensor:
    """Return x rounded down."""
    return _rounding("floor", x)


def ceil(x: Operand, /) -> Tensor:
    """Return x rounded up."""
    return _rounding("ceil", x)


def trunc(x: Operand, /) -> Tensor:
    """Return x rounded towards 0."""
    return _rounding("trunc", x)


def round(x: Operand, /, *, decimals: int = 0) -> Tensor:
    """Return x rounded to the nearest whole number, halves to even; or to so many decimals, before the point if < 0."""
    if decimals == 0:
        return _rounding("round", x)
    tensor = as_tensor("round", x)
    if tensor.dtype.is_integer and decimals > 0:
        return tensor
    require_float("round", tensor.dtype)
    power = 10.0 ** builtins.abs(decimals)
    if decimals > 0:
        return divide(_unary("round", multiply(tensor, power)), power)
    return multiply(_unary("round", divide(tensor, power)), power)


def isnan(x: Operand, /) -> Tensor:
    """Return whether x is NaN."""
    return float_unary("isnan", x)


def isinf(x: Operand, /) -> Tensor:
    """Return whether x is infinite."""
    return float_unary("isinf", x)


def isfinite(x: Operand, /) -> Tensor:
    """Return whether x is neither NaN nor infinite."""
    return float_unary("isfinite", x)


def signbit(x: Operand, /) -> Tensor:
    """Return whether the sign of x is minus; true for -0.0."""
    return float_unary("signbit", x)


def positive(x: Operand, /) -> Tensor:
    """Return x."""
    return as_tensor("positive", x)


def square(x: Operand, /) -> Tensor:
    """Return x * x."""
    tensor = as_tensor("square", x)
    return _binary("multiply", tensor, tensor)


def clip(x: Operand, /, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    """Return x limited to the range from `min` to `max`; None sets no limit. Limits that are numbers keep x's dtype."""
    tensor = as_tensor("clip", x)
    given = [bound for bound in (min, max) if bound is not None]
    if not given:
        return tensor
    for bound in given:
        if tensor.dtype.is_integer and isinstance(bound, builtins.float):
            raise DTypeError(
                f"clip: the limit {bound} is a float, the tensor {tensor.dtype.name}. Give an integer limit."
            )
    nodes, tensors, dtype = meet("clip", tensor, *given)
    if dtype is bool_:
        raise DTypeError("clip: does not take bool. Allowed: integers and floats. Convert with astype() first.")
    low, high = _limits(dtype)
    bounds = iter(nodes[1:])
    low = low if min is None else next(bounds)
    high = high if max is None else next(bounds)
    return made(Op.registry["clip"]()(nodes[0], low, high), *tensors)


def _limits(dtype: DType) -> tuple[Node, Node]:
    """Return the smallest and the largest value of a dtype."""
    low, high = (-math.inf, math.inf) if dtype.is_float else integer_range(dtype)
    return constant(low, dtype), constant(high, dtype)


def where(condition: Operand, x1: Operand, x2: Operand, /) -> Tensor:
    """Return x1 where the condition holds, else x2."""
    test = as_tensor("where", condition)
    (a, b), tensors, _ = meet("where", x1, x2)
    return made(Op.registry["where"]()(cast(node_of(test), bool_), a, b), test, *tensors)
