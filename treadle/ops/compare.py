"""Comparisons and tests of special values: bool results, through which no gradient flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import bool_
from treadle.ir import Node
from treadle.te import fn, literal

from .base import ANY, FLOATS, NUMERIC, Elementwise


class Predicate(Elementwise):
    """An elementwise op whose result is bool."""

    returns_bool = True

    def vjp(self, ct: Node, out: Node, *args: Node) -> Sequence[Node | None]:
        return [None] * len(args)


class Equal(Predicate):
    """x1 == x2; NaN equals nothing."""

    name = "equal"
    numpy = np.equal
    formula = "eq"
    accepts = ANY


class NotEqual(Predicate):
    """x1 != x2; NaN differs from everything."""

    name = "not_equal"
    numpy = np.not_equal
    formula = "ne"
    accepts = ANY


class Less(Predicate):
    """x1 < x2."""

    name = "less"
    numpy = np.less
    formula = "lt"


class LessEqual(Predicate):
    """x1 <= x2."""

    name = "less_equal"
    numpy = np.less_equal
    formula = "le"


class Greater(Predicate):
    """x1 > x2."""

    name = "greater"
    numpy = np.greater
    formula = "gt"


class GreaterEqual(Predicate):
    """x1 >= x2."""

    name = "greater_equal"
    numpy = np.greater_equal
    formula = "ge"


class FloatTest(Predicate):
    """A test for a special value, which integers do not have: the formula of an integer is a literal."""

    accepts = NUMERIC
    of_integers: bool = False

    def scalar(self, *args: Node) -> Node:
        return fn(self.formula, *args) if args[0].dtype.is_float else literal(self.of_integers, bool_)


class IsNan(FloatTest):
    """Whether x is not a number."""

    name = "isnan"
    numpy = np.isnan
    formula = "isnan"


class IsInf(FloatTest):
    """Whether x is infinite."""

    name = "isinf"
    numpy = np.isinf
    formula = "isinf"


class IsFinite(FloatTest):
    """Whether x is neither infinite nor NaN."""

    name = "isfinite"
    numpy = np.isfinite
    formula = "isfinite"
    of_integers = True


class SignBit(Predicate):
    """Whether the sign bit of x is set: negative numbers, -0.0 and some NaN."""

    name = "signbit"
    numpy = np.signbit
    formula = "signbit"
    accepts = FLOATS


def is_zero(x: Any) -> Node:
    """Return where x is 0."""
    return Equal()(x, literal(0, x.dtype))
