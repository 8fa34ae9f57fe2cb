"""Chances that a Brownian motion with drift leaves a corridor, look by look: the arithmetic of all planned peeking.

One idea: with information fraction t, the score S(t) = Z(t) sqrt(t) of a test has independent normal increments, so
what has not left the corridor is carried from look to look by integrating over the score at the look before
(Armitage, McPherson & Rowe 1969; Jennison & Turnbull, "Group Sequential Methods", 2000, chapter 19), here by
Gauss-Legendre panels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)
REACH = 9.0  # the score is followed this many standard deviations about its mean; beyond lies 1e-19


class Crossing(NamedTuple):
    """Chances to leave the corridor for the first time at each look [looks]."""

    upper: Array
    lower: Array


class Walk:
    """The score among the paths that have not stopped: points of a quadrature and their mass. It starts at 0."""

    points: Array
    mass: Array

    def __init__(self, drift: float = 0.0) -> None:
        self.drift, self.fraction = drift, 0.0
        self.points, self.mass = np.zeros(1), np.ones(1)

    def above(self, fraction: float, z: Numbers) -> Any:
        """Return the chance to have gone on so far and to be above z (number or array) at `fraction`."""
        step = fraction - self.fraction
        mean = self.points + self.drift * step
        return ndtr((mean - np.asarray(z)[..., None] * math.sqrt(fraction)) / math.sqrt(step)) @ self.mass

    def below(self, fraction: float, z: Numbers) -> Any:
        """Return the chance to have gone on so far and to be below z at `fraction`."""
        step = fraction - self.fraction
        mean = self.points + self.drift * step
        return ndtr((np.asarray(z)[..., None] * math.sqrt(fraction) - mean) / math.sqrt(step)) @ self.mass

    def advance(self, fraction: float, lower: float, upper: float, following: float) -> None:
        """Go on to `fraction` between the z values lower and upper; `following` is the fraction of the look after."""
        root, mean = math.sqrt(fraction), self.drift * fraction
        low, high = max(lower * root, mean - REACH * root), min(upper * root, mean + REACH * root)
        step = fraction - self.fraction
        # A panel of 20 nodes spans 9 standard deviations of the narrower of the two steps that meet: errors of 1e-12.
        width = 9 * math.sqrt(min(step, following - fraction))
        edges = np.linspace(low, max(high, low), 1 + max(2, math.ceil((high - low) / width)))
        half = np.diff(edges)[:, None] / 2
        points = (edges[:-1, None] + half * (1 + NODES)).ravel()
        weights = (half * WEIGHTS).ravel()
        off = (points[:, None] - (self.points + self.drift * step)) / math.sqrt(step)
        density: Array = np.exp(-0.5 * off * off) @ self.mass / math.sqrt(2 * math.pi * step)
        self.points, self.mass, self.fraction = points, density * weights, fraction


def crossing(fractions: Sequence[float] | Array, lower: Array, upper: Array, drift: float = 0.0) -> Crossing:
    """Return the chances to leave the corridor lower < z < upper [looks] first at each look, given the drift.

    `drift` is the expected z at fraction 1. Raises ConfigError when the fractions do not rise.
    """
    t = np.asarray(fractions, dtype=np.float64)
    check_fractions("crossing", t, most=math.inf)
    walk, above, below = Walk(drift), np.zeros(t.size), np.zeros(t.size)
    for k, at in enumerate(t):
        above[k] = walk.above(at, upper[k]) if upper[k] < np.inf else 0.0
        below[k] = walk.below(at, lower[k]) if lower[k] > -np.inf else 0.0
        if k + 1 < t.size:
            walk.advance(at, lower[k], upper[k], t[k + 1])
    return Crossing(above, below)


def check_fractions(what: str, fractions: Array, most: float = 1.0) -> None:
    """Raise ConfigError unless information fractions rise strictly from above 0 to at most `most`."""
    steps = np.diff(fractions, prepend=0.0)
    if fractions.ndim != 1 or fractions.size == 0 or not np.all(steps > 0) or fractions[-1] > most + 1e-12:
        raise ConfigError(
            f"{what}: the information fractions are {fractions.tolist()}; they must rise from above 0"
            + ("" if math.isinf(most) else f" to at most {most:g}")
            + "."
        )
    if np.any(steps[1:] < 1e-5 * fractions[1:]):
        raise ConfigError(
            f"{what}: two of the information fractions {fractions.tolist()} lie too close. Leave one out."
        )


def root(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-11) -> float:
    """Return a zero of a monotone function near [low, high], widened as needed: the Illinois false position.

    Raises DataError when the function has no change of sign within reach.
    """
    a, b = low, high
    fa, fb = f(a), f(b)
    for _ in range(60):
        if fa * fb <= 0:
            break
        a, b = a - (b - a), b + (b - a)
        fa, fb = f(a), f(b)
    else:
        raise DataError(f"root: no change of sign between {a:g} and {b:g}.")
    kept = 0
    for _ in range(200):
        if fb == fa:
            break
        c = b - fb * (b - a) / (fb - fa)
        fc = f(c)
        if fc * fb <= 0:
            a, fa, kept = b, fb, 0
        else:
            kept += 1
            fa = fa / 2 if kept > 1 else fa
        step, b, fb = abs(c - b), c, fc
        if fc == 0 or min(step, abs(b - a)) <= tolerance * max(1.0, abs(c)):
            break
    return b


def inside(chance: float) -> float:
    """Return a chance kept away from 0 and 1, where its normal quantile is infinite."""
    return min(max(chance, 1e-300), 1 - 1e-16)
