"""Sums of powers and of Chebyshev polynomials of a scalar, of which formulas of special functions are made."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.ir import Node
from treadle.te import fn, literal


def horner(x: Node, coefficients: Sequence[float]) -> Node:
    """Return the polynomial of x with these coefficients, the highest power first."""
    first, *rest = [literal(c, x.dtype) for c in coefficients]
    total = first
    for c in rest:
        total = fn("add", fn("mul", total, x), c)
    return total


def chebyshev(x: Node, coefficients: Sequence[float]) -> Node:
    """Return the sum of c[k] T_k(x) for x in -1..1, by Clenshaw's recurrence."""
    twice = fn("add", x, x)
    ahead, after = literal(0.0, x.dtype), literal(0.0, x.dtype)
    for c in reversed(coefficients[1:]):
        ahead, after = fn("add", fn("sub", fn("mul", twice, ahead), after), literal(c, x.dtype)), ahead
    return fn("add", fn("sub", fn("mul", x, ahead), after), literal(coefficients[0], x.dtype))
