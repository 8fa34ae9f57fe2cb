"""Functions of calculus on floats: exponentials, logarithms, roots, circular and hyperbolic functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.ir import Node
from treadle.te import SCALARS

from .base import FLOATS, Elementwise
from .broadcast import unbroadcast
from .compare import Equal, IsInf, is_zero
from .logic import LogicalAnd, where


class FloatFunction(Elementwise):
    """An elementwise op on floats."""

    accepts = FLOATS


class Exp(FloatFunction):
    """e to the power x."""

    name = "exp"
    numpy = np.exp
    formula = "exp"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * out]


class Exp2(FloatFunction):
    """2 to the power x."""

    name = "exp2"
    numpy = np.exp2
    formula = "exp2"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (out * math.log(2))]


class Expm1(FloatFunction):
    """e**x - 1, accurate near 0."""

    name = "expm1"
    numpy = np.expm1
    formula = "expm1"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (out + 1)]


class Log(FloatFunction):
    """The natural logarithm."""

    name = "log"
    numpy = np.log
    formula = "log"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / x]


class Log1p(FloatFunction):
    """log(1 + x), accurate near 0."""

    name = "log1p"
    numpy = np.log1p
    formula = "log1p"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / (x + 1)]


class Log2(FloatFunction):
    """The logarithm to base 2."""

    name = "log2"
    numpy = np.log2
    formula = "log2"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / (x * math.log(2))]


class Log10(FloatFunction):
    """The logarithm to base 10."""

    name = "log10"
    numpy = np.log10
    formula = "log10"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / (x * math.log(10))]


class LogAddExp(FloatFunction):
    """log(exp(x1) + exp(x2)) without overflow."""

    name = "logaddexp"
    numpy = np.logaddexp
    formula = "logaddexp"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        # Two equal infinities share the gradient; their difference is NaN.
        same_infinity = LogicalAnd()(Equal()(x1, x2), IsInf()(x1))
        # Not 1 minus the other weight, which would lose the digits of a small one.
        first, second = (Sigmoid()(where(same_infinity, 0, d)) for d in (x1 - x2, x2 - x1))
        return [unbroadcast(ct * first, x1.shape), unbroadcast(ct * second, x2.shape)]


class Sqrt(FloatFunction):
    """The square root; its slope at 0 is infinite."""

    name = "sqrt"
    numpy = np.sqrt
    formula = "sqrt"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * 0.5 / out]


class Rsqrt(FloatFunction):
    """1 / sqrt(x)."""

    name = "rsqrt"
    numpy = SCALARS["rsqrt"].numpy
    formula = "rsqrt"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * -0.5 * (out / x)]


class Hypot(FloatFunction):
    """sqrt(x1**2 + x2**2) without overflow."""

    name = "hypot"
    numpy = np.hypot
    formula = "hypot"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        return [unbroadcast(ct * (x1 / out), x1.shape), unbroadcast(ct * (x2 / out), x2.shape)]


class Sin(FloatFunction):
    """The sine of x radians."""

    name = "sin"
    numpy = np.sin
    formula = "sin"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Cos()(x)]


class Cos(FloatFunction):
    """The cosine of x radians."""

    name = "cos"
    numpy = np.cos
    formula = "cos"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [-(ct * Sin()(x))]


class Tan(FloatFunction):
    """The tangent of x radians."""

    name = "tan"
    numpy = np.tan
    formula = "tan"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (out * out + 1)]


class Asin(FloatFunction):
    """The angle in [-pi/2, pi/2] whose sine is x."""

    name = "asin"
    numpy = np.arcsin
    formula = "asin"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Rsqrt()(1 - x * x)]


class Acos(FloatFunction):
    """The angle in [0, pi] whose cosine is x."""

    name = "acos"
    numpy = np.arccos
    formula = "acos"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [-(ct * Rsqrt()(1 - x * x))]


class Atan(FloatFunction):
    """The angle in [-pi/2, pi/2] whose tangent is x."""

    name = "atan"
    numpy = np.arctan
    formula = "atan"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / (x * x + 1)]


class Atan2(FloatFunction):
    """The angle of the point (x2, x1) seen from the origin, in [-pi, pi]; at the origin its slope is taken as 0."""

    name = "atan2"
    numpy = np.arctan2
    formula = "atan2"

    def vjp(self, ct: Node, out: Node, x1: Any, x2: Any) -> Sequence[Node | None]:
        square = x1 * x1 + x2 * x2
        scaled = ct / where(is_zero(square), 1, square)
        return [unbroadcast(scaled * x2, x1.shape), unbroadcast(-(scaled * x1), x2.shape)]


class Sinh(FloatFunction):
    """The hyperbolic sine."""

    name = "sinh"
    numpy = np.sinh
    formula = "sinh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Cosh()(x)]


class Cosh(FloatFunction):
    """The hyperbolic cosine."""

    name = "cosh"
    numpy = np.cosh
    formula = "cosh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Sinh()(x)]


class Tanh(FloatFunction):
    """The hyperbolic tangent."""

    name = "tanh"
    numpy = np.tanh
    formula = "tanh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (1 - out * out)]


class Asinh(FloatFunction):
    """The inverse of sinh."""

    name = "asinh"
    numpy = np.arcsinh
    formula = "asinh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Rsqrt()(x * x + 1)]


class Acosh(FloatFunction):
    """The inverse of cosh on [1, inf]."""

    name = "acosh"
    numpy = np.arccosh
    formula = "acosh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Rsqrt()(x * x - 1)]


class Atanh(FloatFunction):
    """The inverse of tanh."""

    name = "atanh"
    numpy = np.arctanh
    formula = "atanh"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct / (1 - x * x)]


class Sigmoid(FloatFunction):
    """1 / (1 + exp(-x))."""

    name = "sigmoid"
    numpy = SCALARS["sigmoid"].numpy
    formula = "sigmoid"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (out * (1 - out))]


class Erf(FloatFunction):
    """The error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x."""

    name = "erf"
    numpy = SCALARS["erf"].numpy
    formula = "erf"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (Exp()(-(x * x)) * (2 / math.sqrt(math.pi)))]


class Erfc(FloatFunction):
    """1 - erf(x), accurate for large x."""

    name = "erfc"
    numpy = SCALARS["erfc"].numpy
    formula = "erfc"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (Exp()(-(x * x)) * (-2 / math.sqrt(math.pi)))]
