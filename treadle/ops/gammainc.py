"""The incomplete gamma function. How many terms it takes depends on the arguments, so NumPy computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import ShapeError, Type
from treadle.ir import Node

from .base import FLOATS, Array, check_dtypes
from .gamma import Lgamma
from .host import Host
from .math import Exp, Log

PRECISION = 2.0**-53
MOST_TERMS = 20_000
TINY = 1e-300


@dataclass(frozen=True)
class Gammainc(Host):
    """P(a, x), the integral of t**(a - 1) exp(-t) from 0 to x over that to infinity; `upper` is 1 - P. a, x >= 0.

    A series where x < a + 1, else a continued fraction (Press et al., Numerical Recipes, 6.2). No gradient flows to a.
    """

    name = "gammainc"
    upper: bool = False

    def infer(self, a: Type, x: Type) -> Type:
        check_dtypes(self.name, (a, x), FLOATS)
        if a.shape != x.shape:
            raise ShapeError(f"gammainc: {a} and {x} differ in shape. Broadcast them first.")
        return a

    def work(self, *types: Any, **_: Any) -> int:
        return 400 * types[0].size + 1000

    def compute(self, *args: Any, **_: Any) -> Array:
        a, x = (np.asarray(v, np.float64).reshape(-1) for v in args)
        lower = np.full(a.shape, np.nan)
        lower[(a == 0) & (x > 0)] = 1
        lower[(a > 0) & ((x == 0) | np.isposinf(a) & np.isfinite(x))] = 0
        lower[np.isfinite(a) & (a >= 0) & np.isposinf(x)] = 1
        result = 1 - lower if self.upper else lower
        usual = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
        for near, function in ((x < a + 1, _series), (x >= a + 1, _fraction)):
            at = usual & near
            if at.any():
                value = function(a[at], x[at]) * np.exp(_log_weight(a[at], x[at]))
                result[at] = value if self.upper == (function is _fraction) else 1 - value
        return result.reshape(np.shape(args[0]))

    def vjp(self, ct: Node, out: Node, a: Any, x: Any) -> Sequence[Node | None]:
        slope = Exp()((a - 1) * Log()(x) - x - Lgamma()(a))
        return [None, ct * (-slope if self.upper else slope)]


def _log_weight(a: Array, x: Array) -> Array:
    """Return the logarithm of x**a exp(-x) / Gamma(a); for large a by Stirling's series, in which little cancels."""
    log_gamma: Any = np.vectorize(math.lgamma, otypes=[np.float64])
    off = (x - a) / a
    near_root = 0.5 * np.log(a / (2 * np.pi)) - (1 / 12 - 1 / (360 * a * a) + 1 / (1260 * a**4)) / a
    return np.where(a < 20, a * np.log(x) - x - log_gamma(a), a * (np.log1p(off) - off) + near_root)


def _series(a: Array, x: Array) -> Array:
    """Return the sum of x**k / (a (a + 1) ... (a + k)) over k from 0 on."""
    term = 1 / a
    total = term
    for k in range(1, MOST_TERMS):
        term = term * (x / (a + k))
        total = total + term
        if (term <= total * PRECISION).all():
            break
    return total


def _fraction(a: Array, x: Array) -> Array:
    """Return 1 / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / (x + 5 - a - ...))) by Lentz's method."""
    below = x + 1 - a
    c, d = np.full(a.shape, 1 / TINY), 1 / np.where(below == 0, TINY, below)
    total = d
    for k in range(1, MOST_TERMS):
        over = -k * (k - a)
        below = below + 2
        d, c = over * d + below, below + over / c
        d, c = 1 / np.where(np.abs(d) < TINY, TINY, d), np.where(np.abs(c) < TINY, TINY, c)
        total = total * (d * c)
        if (np.abs(d * c - 1) <= 2 * PRECISION).all():
            break
    return total
