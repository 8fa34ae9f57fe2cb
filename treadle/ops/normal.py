"""The normal distribution's tails: error functions without underflow, and the inverse of the distribution function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

from treadle.ir import Node
from treadle.te import fn, select

from .double import DoubleFunction, double
from .math import Exp
from .series import chebyshev
from .special import erfinv

# (1 + 2 x) erfcx(x) as a Chebyshev series in (x - 4) / (x + 4), which takes 0..inf to -1..1 (the substitution is that
# of Shepherd and Laframboise 1981); computed with mpmath in 40 digits.
ERFCX = (
    1.1774832005374487, -0.007260796620301901, -0.081265123236185, 0.06009212804122225, -0.02875393558027666,
    0.01059566336347286, -0.003136927294554264, 0.0007456494372536184, -0.0001369696503010054, 1.7183861600300937e-05,
    -7.158364623450346e-07, -2.4261399442449534e-07, 5.5765709395703566e-08, -2.1057869513809494e-09,
    -1.1717889351884957e-09, 1.9098355172456688e-10, 1.408871764208813e-11, -6.901108320480815e-12,
    9.167958364111294e-14, 2.1454508286554553e-13, -1.4716575027010623e-14, -6.668675118770408e-15,
    7.504598509880083e-16, 2.22009300666632e-16, -3.1704898956330886e-17,
)  # fmt: skip

ROOT_2 = math.sqrt(2)
ROOT_2_PI = math.sqrt(2 * math.pi)
NEWTON_STEPS = 4


class Erfcx(DoubleFunction):
    """exp(x**2) (1 - erf(x)), which does not underflow for large x; it overflows below about -26."""

    name = "erfcx"

    def reference(self, *args: float) -> float:
        return _erfcx(*args)

    def double(self, *args: Node) -> Node:
        return _scaled_tail(*args)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (x * out * 2 - 2 / math.sqrt(math.pi))]


class LogNdtr(DoubleFunction):
    """The logarithm of the probability that a normal number is at most x."""

    name = "log_ndtr"

    def reference(self, *args: float) -> float:
        return _log_ndtr(*args)

    def double(self, *args: Node) -> Node:
        return _log_below(*args)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        # The density over the probability, both divided by exp(-x**2 / 2).
        return [ct * math.sqrt(2 / math.pi) / Erfcx()(x * -math.sqrt(0.5))]


class Ndtri(DoubleFunction):
    """The x that a normal number is at most with probability p: infinite at 0 and 1, NaN outside."""

    name = "ndtri"

    def reference(self, *args: float) -> float:
        return _ndtri(*args)

    def double(self, *args: Node) -> Node:
        (p,) = args
        upper = fn("gt", p, double(0.5))
        tail = select(upper, fn("sub", double(1.0), p), p)
        # By Newton's method on the logarithm, from the first terms of its expansion for small p.
        log = fn("log", fn("max", tail, double(5e-324)))
        root = fn("sqrt", fn("mul", log, double(-2.0)))
        y = fn("sub", root, fn("div", fn("log", fn("mul", root, double(ROOT_2_PI))), root))
        for _ in range(NEWTON_STEPS):
            scaled = _scaled_tail(fn("div", y, double(ROOT_2)))
            miss = fn(
                "sub",
                fn("sub", fn("log", fn("mul", scaled, double(0.5))), fn("mul", fn("mul", y, y), double(0.5))),
                log,
            )
            y = fn("add", y, fn("mul", miss, fn("mul", scaled, double(math.sqrt(math.pi / 2)))))
        y = select(upper, y, fn("neg", y))
        middle = fn("mul", erfinv(fn("sub", fn("add", p, p), double(1.0))), double(ROOT_2))
        # The inverse error function has the values at 0 and 1, too.
        inside = fn("and", fn("gt", tail, double(0.0)), fn("lt", tail, double(0.1)))
        return select(fn("lt", tail, double(0.0)), double(math.nan), select(inside, y, middle))

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (Exp()(out * out * 0.5) * ROOT_2_PI)]


def _scaled_tail(x: Node) -> Node:
    """Return erfcx of a float64."""
    size = fn("abs", x)
    place = fn("div", fn("sub", size, double(4.0)), fn("add", size, double(4.0)))
    place = select(fn("eq", size, double(math.inf)), double(1.0), place)
    tail = fn("div", chebyshev(place, ERFCX), fn("add", fn("add", size, size), double(1.0)))
    square = fn("exp", fn("mul", x, x))
    return select(fn("lt", x, double(0.0)), fn("sub", fn("add", square, square), tail), tail)


def _log_below(x: Node) -> Node:
    """Return log_ndtr of a float64."""
    below = fn("min", x, double(-1.0))
    far = fn(
        "sub", fn("log", fn("mul", _scaled_tail(fn("div", below, double(-ROOT_2))), double(0.5))), _half_square(below)
    )
    above = fn("mul", fn("erfc", fn("div", x, double(ROOT_2))), double(-0.5))
    return select(fn("lt", x, double(-1.0)), far, fn("log1p", above))


def _half_square(x: Node) -> Node:
    return fn("mul", fn("mul", x, x), double(0.5))


# --- reference meanings -------------------------------------------------------------------------------------


def _erfcx(x: float) -> float:
    if x < 2 or math.isnan(x):
        return math.inf if x < -26.7 else math.exp(x * x) * math.erfc(x)
    if math.isinf(x):
        return 0.0
    # The continued fraction of Laplace, from behind.
    below = x
    for k in range(400, 0, -1):
        below = x + k / 2 / below
    return 1 / (math.sqrt(math.pi) * below)


def _log_ndtr(x: float) -> float:
    if x == -math.inf:
        return -math.inf
    if x < -1:
        return math.log(_erfcx(-x / ROOT_2) / 2) - x * x / 2
    return math.log1p(-math.erfc(x / ROOT_2) / 2)


def _ndtri(p: float) -> float:
    if not 0 < p < 1:
        return {0.0: -math.inf, 1.0: math.inf}.get(p, math.nan)
    y = NormalDist().inv_cdf(max(p, 1e-300))
    for _ in range(4):
        y -= (_log_ndtr(y) - math.log(p)) * math.exp(_log_ndtr(y) + y * y / 2) * ROOT_2_PI
    return y if p < 0.4 else NormalDist().inv_cdf(p)
