"""The inverse error function, which turns uniform random numbers into normal ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from treadle.core import float64
from treadle.ir import Node
from treadle.te import convert, fn, literal, select

from .base import Array, sum_dtype
from .math import Exp, FloatFunction
from .series import horner

# M. Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2010: x times polynomials in w = -log(1 - x**2)
# or in its root. Highest power first.
SINGLE_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
SINGLE_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip
DOUBLE_CENTRE = (
    -3.6444120640178196996e-21, -1.685059138182016589e-19, 1.2858480715256400167e-18, 1.115787767802518096e-17,
    -1.333171662854620906e-16, 2.0972767875968561637e-17, 6.6376381343583238325e-15, -4.0545662729752068639e-14,
    -8.1519341976054721522e-14, 2.6335093153082322977e-12, -1.2975133253453532498e-11, -5.4154120542946279317e-11,
    1.051212273321532285e-09, -4.1126339803469836976e-09, -2.9070369957882005086e-08, 4.2347877827932403518e-07,
    -1.3654692000834678645e-06, -1.3882523362786468719e-05, 0.0001867342080340571352, -0.00074070253416626697512,
    -0.0060336708714301490533, 0.24015818242558961693, 1.6536545626831027356,
)  # fmt: skip
DOUBLE_MIDDLE = (
    2.2137376921775787049e-09, 9.0756561938885390979e-08, -2.7517406297064545428e-07, 1.8239629214389227755e-08,
    1.5027403968909827627e-06, -4.013867526981545969e-06, 2.9234449089955446044e-06, 1.2475304481671778723e-05,
    -4.7318229009055733981e-05, 6.8284851459573175448e-05, 2.4031110387097893999e-05, -0.0003550375203628474796,
    0.00095328937973738049703, -0.0016882755560235047313, 0.0024914420961078508066, -0.0037512085075692412107,
    0.005370914553590063617, 1.0052589676941592334, 3.0838856104922207635,
)  # fmt: skip
DOUBLE_TAIL = (
    -2.7109920616438573243e-11, -2.5556418169965252055e-10, 1.5076572693500548083e-09, -3.7894654401267369937e-09,
    7.6157012080783393804e-09, -1.4960026627149240478e-08, 2.9147953450901080826e-08, -6.7711997758452339498e-08,
    2.2900482228026654717e-07, -9.9298272942317002539e-07, 4.5260625972231537039e-06, -1.9681778105531670567e-05,
    7.5995277030017761139e-05, -0.00021503011930044477347, -0.00013871931833623122026, 1.0103004648645343977,
    4.8499064014085844221,
)  # fmt: skip


class Erfinv(FloatFunction):
    """The number whose erf is x: infinite at 1 and -1, NaN outside."""

    name = "erfinv"

    def eval(self, *args: Array) -> Array:
        with np.errstate(all="ignore"):
            wide = np.vectorize(_erfinv, otypes=[np.float64])(args[0].astype(np.float64))
            return wide.astype(args[0].dtype)

    def scalar(self, *args: Node) -> Node:
        return convert(erfinv(convert(args[0], sum_dtype(args[0].dtype))), args[0].dtype)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * (Exp()(out * out) * (math.sqrt(math.pi) / 2))]


def erfinv(x: Node) -> Node:
    """Return the inverse error function of a scalar of float32 or float64."""

    def number(value: float) -> Node:
        return literal(value, x.dtype)

    # 1 - x is exact near 1, where 1 - x**2 would have lost digits; near 0 it is the size of w that counts.
    w = fn("neg", fn("log", fn("mul", fn("sub", number(1.0), x), fn("add", number(1.0), x))))
    root = fn("sqrt", w)
    if x.dtype is float64:
        outer = select(
            fn("lt", w, number(16.0)),
            horner(fn("sub", root, number(3.25)), DOUBLE_MIDDLE),
            horner(fn("sub", root, number(5.0)), DOUBLE_TAIL),
        )
        centre = horner(fn("sub", w, number(3.125)), DOUBLE_CENTRE)
        factor = select(fn("lt", w, number(6.25)), centre, outer)
    else:
        centre = horner(fn("sub", w, number(2.5)), SINGLE_CENTRE)
        factor = select(fn("lt", w, number(5.0)), centre, horner(fn("sub", root, number(3.0)), SINGLE_TAIL))
    at_end = fn("eq", fn("abs", x), number(1.0))
    return select(at_end, fn("mul", x, number(math.inf)), fn("mul", factor, x))


def _erfinv(x: float) -> float:
    """Return the inverse error function to double precision: a rational approximation, then one Newton step."""
    if not abs(x) < 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    if x == 0:
        return x
    # In the lower tail, where the distance to 1 is not lost to rounding.
    y = NormalDist().inv_cdf((1 - abs(x)) / 2) / -math.sqrt(2)
    miss = math.erf(y) - abs(x) if y < 1 else (1 - abs(x)) - math.erfc(y)
    return math.copysign(y - miss * math.sqrt(math.pi) / 2 * math.exp(y * y), x)
