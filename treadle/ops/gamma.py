"""The logarithm of the gamma function, its derivatives, and the Hurwitz zeta function they lead to.

An argument is moved up by `SHIFT` with the function's recurrence, to where the asymptotic series in 1 / z is exact
(Abramowitz and Stegun, 6.1.41, 6.3.18, 6.4.11; zeta by the formula of Euler and Maclaurin, 23.2.9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from treadle.core import ShapeError
from treadle.ir import Node
from treadle.te import fn, select

from .broadcast import unbroadcast
from .double import DoubleFunction, double
from .series import horner

SHIFT = 10
EULER = 0.57721566490153286061


def _bernoulli(count: int) -> list[Fraction]:
    """Return the Bernoulli numbers B_2, B_4, ..."""
    numbers = [Fraction(1)]
    for m in range(1, 2 * count + 1):
        numbers.append(-sum((math.comb(m + 1, k) * numbers[k] for k in range(m)), Fraction(0)) / (m + 1))
    return numbers[2::2]


BERNOULLI = _bernoulli(12)


def _hurwitz(s: float, q: float) -> float:
    """Return the Hurwitz zeta function for s > 1 and q > 0, with more terms than the formula."""
    if math.isinf(q) or math.isinf(s):
        return 0.0 if math.isinf(q) or q > 1 else (1.0 if q == 1 else math.inf)
    n = 25
    terms = [float(np.float64(q + k) ** -s) for k in range(n)]
    z = float(q) + n
    terms += [float(np.float64(z) ** (1 - s)) / (s - 1), float(np.float64(z) ** -s) / 2]
    factor = s * float(np.float64(z) ** (-s - 1))
    for k, b in enumerate(BERNOULLI[:8], 1):
        terms.append(float(b) / math.factorial(2 * k) * factor)
        factor *= (s + 2 * k - 1) / z * (s + 2 * k) / z
    return math.fsum(terms) if all(map(math.isfinite, terms)) else math.inf


def _taylor(at: float, degree: int, value: float, slope: float) -> tuple[float, ...]:
    """Return the factors of powers of d in lgamma(at + d), the highest first: from 2 on zeta(k, at) (-1)**k / k.

    They shrink as at**-k: the degree is the one from which on, for d of up to NEAR, they make no difference.
    """
    return (*[_hurwitz(k, at) * (-1) ** k / k for k in range(degree, 1, -1)], slope, value)


# Where lgamma is about 0 the asymptotic series would lose its digits.
NEAR = 0.26
TAYLOR = {
    1.0: _taylor(1.0, 30, 0.0, -EULER),
    1.5: _taylor(1.5, 22, math.lgamma(1.5), 2 - EULER - 2 * math.log(2)),
    2.0: _taylor(2.0, 19, 0.0, 1 - EULER),
}


class Lgamma(DoubleFunction):
    """The logarithm of the magnitude of the gamma function; infinite at 0, -1, -2, ..."""

    name = "lgamma"

    def reference(self, *args: float) -> float:
        return _at_poles(math.lgamma, args[0], math.inf)

    def double(self, *args: Node) -> Node:
        (x,) = args
        reflected = fn("lt", x, double(0.5))
        y = select(reflected, fn("sub", double(1.0), x), x)
        # log Gamma(y) = log Gamma(y + SHIFT) - log(y (y + 1) ... (y + SHIFT - 1)), where y is not large already.
        few = fn("lt", y, double(float(SHIFT)))
        capped = fn("min", y, double(float(SHIFT)))
        product = reduce(lambda a, b: fn("mul", a, b), [_plus(capped, k) for k in range(SHIFT)])
        value = _stirling(select(few, _plus(y, SHIFT), y))
        divisor = select(few, product, double(1.0))
        for at, coefficients in TAYLOR.items():
            off = fn("sub", y, double(at))
            near = fn("lt", fn("abs", off), double(NEAR))
            value = select(near, horner(off, coefficients), value)
            divisor = select(near, double(1.0), divisor)
        # log |Gamma(x)| = log(pi / |sin(pi x)|) - log Gamma(1 - x); pi / |sin(pi x)| is 1 / |x| where x is tiny. One
        # logarithm serves the product and the sine.
        size = fn("abs", x)
        tiny = fn("lt", size, double(1e-20))
        sine = select(tiny, size, fn("abs", fn("sin", _times_pi(x))))
        factor = fn("log", fn("div", select(reflected, sine, double(1.0)), divisor))
        constant = select(tiny, double(0.0), double(math.log(math.pi)))
        pole = fn("eq", sine, double(0.0))  # also where the value overflows: infinite, not infinity less infinity
        mirrored = select(pole, double(math.inf), fn("sub", fn("sub", constant, factor), value))
        value = select(reflected, mirrored, fn("add", value, factor))
        return select(fn("eq", size, double(math.inf)), size, value)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Digamma()(x)]


class Digamma(DoubleFunction):
    """The derivative of lgamma: -inf at 0 (inf at -0.0), NaN at -1, -2, ..."""

    name = "digamma"

    def reference(self, *args: float) -> float:
        (x,) = args
        if x == 0:
            return math.copysign(math.inf, -x)
        if math.isinf(x) or math.isnan(x):
            return x if x > 0 else math.nan
        if x < 0:
            return math.nan if x == math.floor(x) else self.reference(1 - x) - math.pi / _tan_pi(x)
        terms: list[float] = []
        while x < 20:
            terms.append(-1 / x)
            x += 1
        terms += [-float(b) / (2 * k) * x ** (-2 * k) for k, b in enumerate(BERNOULLI, 1)]
        return math.fsum([math.log(x), -0.5 / x, *terms])

    def double(self, *args: Node) -> Node:
        (x,) = args
        reflected = fn("lt", x, double(0.0))
        y = select(reflected, fn("sub", double(1.0), x), x)
        below = reduce(lambda a, b: fn("add", a, b), [fn("div", double(1.0), _plus(y, k)) for k in range(SHIFT)])
        z = _plus(y, SHIFT)
        inverse = fn("div", double(1.0), z)
        square = fn("mul", inverse, inverse)
        series = horner(square, (*[float(b) / (2 * k) for k, b in reversed(list(enumerate(BERNOULLI[:8], 1)))], 0.0))
        value = fn("sub", fn("sub", fn("log", z), fn("mul", inverse, double(0.5))), fn("add", series, below))
        mirrored = fn("sub", value, fn("div", double(math.pi), fn("tan", _times_pi(x))))
        whole = fn("and", reflected, fn("eq", x, fn("floor", x)))
        value = select(reflected, select(whole, double(math.nan), mirrored), value)
        # The sign of 0 says from which side the pole is met.
        return select(fn("eq", x, double(0.0)), fn("div", double(-1.0), x), value)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Polygamma(1)(x)]


@dataclass(frozen=True)
class Polygamma(DoubleFunction):
    """The derivative number n of digamma, n of at least 1; inf at 0, -1, -2, ... where n is odd, else -inf."""

    name = "polygamma"
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ShapeError(f"polygamma: n is {self.n}. Allowed: at least 1; 0 is digamma().")

    @property
    def _factor(self) -> float:
        return (-1) ** (self.n + 1) * math.gamma(self.n + 1)

    def reference(self, *args: float) -> float:
        (x,) = args
        if math.isnan(x) or x == -math.inf:
            return math.nan
        if x <= 0 and x == math.floor(x):
            return self._factor * math.inf
        if x > 0:
            return self._factor * _hurwitz(self.n + 1, x)
        slope = sum(p * float(np.float64(1 / _tan_pi(x)) ** k) for k, p in enumerate(_cotangent(self.n)))
        return (-1) ** self.n * self.reference(1 - x) - math.pi * slope

    def double(self, *args: Node) -> Node:
        (x,) = args
        reflected = fn("lt", x, double(0.0))
        y = select(reflected, fn("sub", double(1.0), x), x)
        value = fn("mul", _zeta(double(self.n + 1.0), y), double(self._factor))
        cotangent = fn("div", double(1.0), fn("tan", _times_pi(x)))
        slope = fn("mul", horner(cotangent, _cotangent(self.n)[::-1]), double(math.pi))
        mirrored = fn("sub", value if self.n % 2 == 0 else fn("neg", value), slope)
        pole = fn("and", fn("le", x, double(0.0)), fn("eq", x, fn("floor", x)))
        value = select(pole, double(self._factor * math.inf), select(reflected, mirrored, value))
        return select(fn("eq", x, double(-math.inf)), double(math.nan), value)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [ct * Polygamma(self.n + 1)(x)]


class Zeta(DoubleFunction):
    """The Hurwitz zeta function of s and q, the sum of (k + q)**-s over k from 0 on.

    Infinite at s = 1 and at q = 0, -1, -2, ...; NaN for s < 1 and elsewhere for q < 0. No gradient flows to s.
    """

    name = "zeta"

    def reference(self, *args: float) -> float:
        s, q = args
        if s != 1 and (math.isnan(q) or not s > 1):
            return math.nan
        if s == 1 or (q <= 0 and q == np.floor(q)):
            return math.inf
        return math.nan if q < 0 else _hurwitz(s, q)

    def double(self, *args: Node) -> Node:
        s, q = args
        pole = fn("or", fn("eq", s, double(1.0)), fn("and", fn("le", q, double(0.0)), fn("eq", q, fn("floor", q))))
        value = select(fn("lt", q, double(0.0)), double(math.nan), _zeta(s, q))
        value = select(pole, double(math.inf), value)
        # Not "s < 1", which does not hold for NaN.
        return select(fn("ge", s, double(1.0)), value, double(math.nan))

    def vjp(self, ct: Node, out: Node, s: Any, q: Any) -> Sequence[Node | None]:
        return [None, unbroadcast(ct * -(s * Zeta()(s + 1, q)), q.shape)]


# --- parts of the formulas ----------------------------------------------------------------------------------


def _plus(x: Node, k: int) -> Node:
    return fn("add", x, double(float(k))) if k else x


def _times_pi(x: Node) -> Node:
    """Return pi times the distance to the nearest whole number: what sin**2 and tan of pi x need, exact for large x."""
    return fn("mul", fn("sub", x, fn("round", x)), double(math.pi))


def _stirling(z: Node) -> Node:
    """Return log Gamma(z) for z of at least 10.

    It is (z - 1/2) log z - z + log(2 pi) / 2 + the sum of B_2k / (2k (2k - 1) z**(2k - 1)).
    """
    inverse = fn("div", double(1.0), z)
    terms = [float(b) / (2 * k * (2 * k - 1)) for k, b in enumerate(BERNOULLI[:8], 1)]
    series = fn("mul", horner(fn("mul", inverse, inverse), terms[::-1]), inverse)
    # (z - 1/2) (log z - 1) is infinite where z log z - z would be NaN.
    leading = fn("mul", fn("sub", z, double(0.5)), fn("sub", fn("log", z), double(1.0)))
    return fn("add", leading, fn("add", series, double(math.log(2 * math.pi) / 2 - 0.5)))


def _zeta(s: Node, q: Node) -> Node:
    """Return the Hurwitz zeta function for s > 1 and q > 0: the first terms, and the rest by Euler and Maclaurin."""
    minus = fn("neg", s)
    first = reduce(lambda a, b: fn("add", a, b), [fn("pow", _plus(q, k), minus) for k in range(SHIFT)])
    z = _plus(q, SHIFT)
    power = fn("pow", z, minus)
    integral = fn("div", fn("pow", z, fn("sub", double(1.0), s)), fn("sub", s, double(1.0)))
    inverse = fn("div", double(1.0), z)
    square = fn("mul", inverse, inverse)
    factor = fn("mul", fn("mul", s, power), inverse)
    rest = fn("mul", power, double(0.5))
    for k, b in enumerate(BERNOULLI, 1):
        rest = fn("add", rest, fn("mul", factor, double(float(b) / math.factorial(2 * k))))
        factor = fn("mul", fn("mul", factor, fn("mul", _plus(s, 2 * k - 1), _plus(s, 2 * k))), square)
    # Where the power is 0 the factors may be infinite.
    rest = select(fn("eq", power, double(0.0)), double(0.0), rest)
    total = fn("add", first, fn("add", integral, rest))
    total = select(fn("eq", s, double(math.inf)), fn("pow", q, minus), total)
    return select(fn("eq", q, double(math.inf)), double(0.0), total)


def _cotangent(n: int) -> tuple[float, ...]:
    """Return the n-th derivative of c = cot(pi x) as a polynomial in c, from c**0 on; its slope is -pi (1 + c**2)."""
    polynomial = [0.0, 1.0]
    for _ in range(n):
        slope = [k * p for k, p in enumerate(polynomial)][1:]
        polynomial = [-math.pi * (a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return tuple(polynomial)


def _tan_pi(x: float) -> float:
    return math.tan(math.pi * (x - round(x)))


def _at_poles(function: Callable[[float], float], x: float, value: float) -> float:
    try:
        return function(x)
    except ValueError:
        return value
    except OverflowError:
        return math.inf
