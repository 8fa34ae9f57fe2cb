"""The permutation test: how often a random re-assignment of the same units gives an effect as large, for any size.

Under the hypothesis that the treatment changes no unit at all. Studentised by Welch's standard error, as it is here for
means, it also holds for large samples when only the means are equal (Janssen 1997; Chung and Romano 2013).
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import ConfigError

from .floats import ALTERNATIVES, Alternative, Array, check_option, divide, floats
from .resampling import CHUNK, Statistic, checked_samples


class Permutation(NamedTuple):
    """A permutation test: the effect observed, its p-value and the number of re-assignments it was compared with."""

    effect_size: float
    pvalue: float
    permutations: int


def permutation_test(
    control: ArrayLike,
    treatment: ArrayLike,
    statistic: Statistic | None = None,
    *,
    n_resamples: int = 10_000,
    alternative: Alternative = "two-sided",
    seed: int = 0,
) -> Permutation:
    """Return the test that the treatment changes nothing, seeded.

    Args:
        control: Units of the control arm [n], or [n, columns].
        treatment: Units of the treatment arm [m] or [m, columns].
        statistic: Maps samples [r, n] and `axis=1` to values [r]; the effect is their difference. None compares means
            by Welch's t.
        n_resamples: Re-assignments drawn; if there are no more than that, all of them are taken and the p-value is
            exact.
        alternative: As in `difference`.
        seed: Of the random numbers.

    Raises:
        DataError: an arm has no units (one for Welch's t), or NaN.
        ConfigError: an option is unknown.
    """
    check_option("permutation_test", "alternative", alternative, ALTERNATIVES)
    if n_resamples < 1:
        raise ConfigError(f"permutation_test: n_resamples is {n_resamples}; draw 1,000 or more.")
    x, y = checked_samples("permutation_test", control, treatment, 2 if statistic is None else 1)
    both, n = np.concatenate([x, y]), len(x)
    everything = math.comb(len(both), n)
    exact = everything <= n_resamples
    observed = _compare(x[None], y[None], statistic)[1][0]
    if np.isnan(observed):
        return Permutation(float(_compare(x[None], y[None], statistic)[0][0]), np.nan, 0)
    rng = np.random.default_rng(seed)
    chosen = np.array(list(combinations(range(len(both)), n))) if exact else None
    total = everything if exact else n_resamples
    hits = 0
    step = max(1, CHUNK // both.size)
    for start in range(0, total, step):
        rows = min(step, total - start)
        order = (
            _all_orders(chosen[start : start + rows], len(both))
            if chosen is not None
            else rng.permuted(np.broadcast_to(np.arange(len(both)), (rows, len(both))), axis=1)
        )
        t = _compare(both[order[:, :n]], both[order[:, n:]], statistic)[1]
        # Re-assignments that give the same value must not differ by rounding.
        slack = 1e-12 * max(1.0, abs(float(observed)))
        sides = {
            "two-sided": np.abs(t) >= abs(observed) - slack,
            "greater": t >= observed - slack,
            "less": t <= observed + slack,
        }
        hits += int((sides[alternative] | np.isnan(t)).sum())
    effect = float(_compare(x[None], y[None], statistic)[0][0])
    # A drawn p-value counts the observed assignment among the draws (Phipson and Smyth 2010).
    return Permutation(effect, hits / total if exact else (hits + 1) / (total + 1), total)


def _compare(x: Array, y: Array, statistic: Statistic | None) -> tuple[Array, Array]:
    """Return the effects [r] and what is compared: Welch's t for means, else the effect."""
    if statistic is not None:
        effect = floats(statistic(y, axis=1)) - floats(statistic(x, axis=1))
        return effect, effect
    effect = floats(y.mean(1) - x.mean(1))
    return effect, divide(effect, np.sqrt(x.var(1, ddof=1) / x.shape[1] + y.var(1, ddof=1) / y.shape[1]))


def _all_orders(
    chosen: np.ndarray[tuple[int, ...], np.dtype[np.intp]], n: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Return for each choice of units an order of all of them that begins with it."""
    inside = np.zeros((len(chosen), n), np.bool_)
    np.put_along_axis(inside, chosen, True, 1)
    return np.argsort(~inside, 1, kind="stable")
