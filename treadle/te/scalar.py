"""Scalar expressions: the nodes formulas and loop nests are made of. One table says what each function computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from treadle.core import DType, DTypeError, Type, bool_, int64
from treadle.ir import Node, Op, constant

Array = np.ndarray[Any, Any]


class Scalar(NamedTuple):
    """A scalar function: its reference meaning, number of arguments, result ("same" dtype or "bool"), cost in flops."""

    numpy: Callable[..., Any]
    arity: int
    result: Literal["same", "bool"] = "same"
    cost: int = 1


def _erf(x: Any) -> Any:
    return _special("erf", x)


def _special(name: str, x: Any) -> Any:
    values: Any = np.vectorize(getattr(math, name), otypes=[np.float64])(np.asarray(x, np.float64))
    return values.astype(np.asarray(x).dtype)


def _erfc(x: Any) -> Any:
    return _special("erfc", x)


def _rsqrt(x: Any) -> Any:
    return 1 / np.sqrt(x)


def _sigmoid(x: Array) -> Array:
    e: Array = np.exp(-np.abs(x))
    positive: Array = 1 / (1 + e)
    negative: Array = e / (1 + e)
    return np.where(np.isnan(x), x, np.where(x >= 0, positive, negative)).astype(x.dtype)


def _floor_divide(x: Array, y: Array) -> Array:
    """Floor(x / y), as in the array API standard: it is x / y itself where either is infinite, or y is 0."""
    if y.dtype.kind in "iu":
        return np.floor_divide(x, y)
    plain: Array = np.true_divide(x, y)
    return np.where(np.isinf(x) | np.isinf(y), plain, np.floor_divide(x, y)).astype(plain.dtype)


def _integer_safe(function: Callable[..., Any]) -> Callable[..., Any]:
    """Integer division by zero gives 0 instead of a trap."""

    def safe(x: Array, y: Array) -> Array:
        if y.dtype.kind not in "iu":
            return function(x, y)
        quotient: Array = function(x, np.where(y == 0, np.ones_like(y), y))
        return np.where(y == 0, np.zeros_like(y), quotient)

    return safe


def _shift(function: Callable[..., Any], *, arithmetic: bool) -> Callable[..., Any]:
    """Shifting by the width or more gives what shifting one by one would: 0, or -1 for negatives to the right."""

    def shift(x: Any, y: Any) -> Any:
        x, y = np.asarray(x), np.asarray(y)
        bits = x.dtype.itemsize * 8
        far = (y < 0) | (y >= bits)
        overflow = np.where(x < 0, -1, 0).astype(x.dtype) if arithmetic and x.dtype.kind == "i" else np.zeros_like(x)
        return np.where(far, overflow, function(x, np.where(far, np.zeros_like(y), y)))

    return shift


SCALARS: dict[str, Scalar] = {
    "add": Scalar(np.add, 2),
    "sub": Scalar(np.subtract, 2),
    "mul": Scalar(np.multiply, 2),
    "div": Scalar(np.true_divide, 2, cost=4),
    "floor_div": Scalar(_integer_safe(_floor_divide), 2, cost=6),
    "mod": Scalar(_integer_safe(np.remainder), 2, cost=8),
    "neg": Scalar(np.negative, 1),
    "abs": Scalar(np.abs, 1),
    "sign": Scalar(np.sign, 1, cost=2),
    "min": Scalar(np.minimum, 2),
    "max": Scalar(np.maximum, 2),
    "pow": Scalar(np.power, 2, cost=40),
    "sqrt": Scalar(np.sqrt, 1, cost=6),
    "rsqrt": Scalar(_rsqrt, 1, cost=8),
    "reciprocal": Scalar(np.reciprocal, 1, cost=4),
    "exp": Scalar(np.exp, 1, cost=14),
    "exp2": Scalar(np.exp2, 1, cost=12),
    "expm1": Scalar(np.expm1, 1, cost=18),
    "log": Scalar(np.log, 1, cost=18),
    "log1p": Scalar(np.log1p, 1, cost=22),
    "log2": Scalar(np.log2, 1, cost=20),
    "log10": Scalar(np.log10, 1, cost=20),
    "sin": Scalar(np.sin, 1, cost=24),
    "cos": Scalar(np.cos, 1, cost=24),
    "tan": Scalar(np.tan, 1, cost=36),
    "tanh": Scalar(np.tanh, 1, cost=22),
    "sinh": Scalar(np.sinh, 1, cost=24),
    "cosh": Scalar(np.cosh, 1, cost=24),
    "asin": Scalar(np.arcsin, 1, cost=24),
    "acos": Scalar(np.arccos, 1, cost=24),
    "atan": Scalar(np.arctan, 1, cost=20),
    "atan2": Scalar(np.arctan2, 2, cost=28),
    "asinh": Scalar(np.arcsinh, 1, cost=30),
    "acosh": Scalar(np.arccosh, 1, cost=30),
    "atanh": Scalar(np.arctanh, 1, cost=30),
    "sigmoid": Scalar(_sigmoid, 1, cost=20),
    "erf": Scalar(_erf, 1, cost=22),
    "erfc": Scalar(_erfc, 1, cost=30),
    "floor": Scalar(np.floor, 1),
    "ceil": Scalar(np.ceil, 1),
    "trunc": Scalar(np.trunc, 1),
    "round": Scalar(np.round, 1),
    "isnan": Scalar(np.isnan, 1, "bool"),
    "isinf": Scalar(np.isinf, 1, "bool", 2),
    "isfinite": Scalar(np.isfinite, 1, "bool", 2),
    "signbit": Scalar(np.signbit, 1, "bool"),
    "copysign": Scalar(np.copysign, 2, cost=2),
    "nextafter": Scalar(np.nextafter, 2, cost=8),
    "hypot": Scalar(np.hypot, 2, cost=14),
    "logaddexp": Scalar(np.logaddexp, 2, cost=40),
    "eq": Scalar(np.equal, 2, "bool"),
    "ne": Scalar(np.not_equal, 2, "bool"),
    "lt": Scalar(np.less, 2, "bool"),
    "le": Scalar(np.less_equal, 2, "bool"),
    "gt": Scalar(np.greater, 2, "bool"),
    "ge": Scalar(np.greater_equal, 2, "bool"),
    "and": Scalar(np.bitwise_and, 2),
    "or": Scalar(np.bitwise_or, 2),
    "xor": Scalar(np.bitwise_xor, 2),
    "not": Scalar(np.invert, 1),
    "shl": Scalar(_shift(np.left_shift, arithmetic=False), 2),
    "shr": Scalar(_shift(np.right_shift, arithmetic=True), 2),
}


@dataclass(frozen=True)
class Fn(Op):
    """A function of the table on scalars of one dtype."""

    name = "fn"
    fn: str

    def infer(self, *types: Type) -> Type:
        scalar = SCALARS[self.fn]
        if len(types) != scalar.arity or any(t.shape or t.dtype is not types[0].dtype for t in types):
            raise DTypeError(f"{self.fn}: takes {scalar.arity} scalars of one dtype, given {types}.")
        return Type(bool_ if scalar.result == "bool" else types[0].dtype, ())


@dataclass(frozen=True)
class Select(Op):
    """The second scalar where the first, a bool, holds; else the third. Both are evaluated."""

    name = "select"

    def infer(self, *types: Type) -> Type:
        condition, a, b = types
        if condition.dtype is not bool_ or a.dtype is not b.dtype:
            raise DTypeError(f"select: takes a bool and two scalars of one dtype, given {types}.")
        return a


@dataclass(frozen=True)
class Convert(Op):
    """A scalar in another dtype."""

    name = "convert"
    to: DType

    def infer(self, *types: Type) -> Type:
        return Type(self.to, ())


@dataclass(frozen=True)
class Var(Op):
    """A loop variable that runs from 0 to `extent` - 1."""

    name = "var"
    var: str
    extent: int

    def infer(self) -> Type:
        return Type(int64, ())


@dataclass(frozen=True)
class Load(Op):
    """The element of operand `operand`, a tensor of type `of`, at an index of one scalar per axis."""

    name = "load"
    operand: int
    of: Type

    def infer(self, *types: Type) -> Type:
        assert len(types) == len(self.of.shape), f"load of {self.of} with {len(types)} indices"
        return Type(self.of.dtype, ())


def fn(name: str, *args: Node) -> Node:
    """Apply a function of the table."""
    return Fn(name)(*args)


def select(condition: Node, a: Node, b: Node) -> Node:
    """Return `a` where `condition` holds, else `b`."""
    return Select()(condition, a, b)


def convert(value: Node, to: DType) -> Node:
    """Return the scalar in another dtype."""
    return value if value.dtype is to else Convert(to)(value)


def literal(value: float, dtype: DType) -> Node:
    """Return a literal scalar."""
    return constant(value, dtype)


def cost(node: Node) -> int:
    """Return the flops of a scalar expression, shared parts once."""
    seen: set[Node] = set()

    def visit(n: Node) -> int:
        if n in seen:
            return 0
        seen.add(n)
        own = SCALARS[n.op.fn].cost if isinstance(n.op, Fn) else int(isinstance(n.op, Select | Convert))
        return own + sum(visit(a) for a in n.args)

    return visit(node)
