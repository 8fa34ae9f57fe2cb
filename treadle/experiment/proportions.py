"""Two proportions: tests and intervals that use what is special about them, that the variance follows from the value.

An estimate of a proportion also goes into `difference` (the unpooled z-test with `test="z"`) and every other
comparison; here is what does
not: the pooled test, its continuity correction, and intervals that hold for small samples.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from treadle.core import DataError

from .effects import Effect, bounds, tail
from .estimates import Estimate
from .floats import ALTERNATIVES, Alternative, Array, check_level, check_option, critical, divide, floats, plain, root

Interval = Literal["wald", "pooled", "newcombe", "agresti-caffo"]
INTERVALS = ("wald", "pooled", "newcombe", "agresti-caffo")


def compare_proportions(
    control: Estimate,
    treatment: Estimate,
    *,
    pooled: bool = True,
    correction: bool = False,
    interval: Interval = "wald",
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
) -> Effect:
    """Return the difference of two proportions with a z-test.

    Args:
        control: Estimate of the control arm, from `estimate_proportion` or `proportion_of`.
        treatment: Estimate of the treatment arm.
        pooled: Take the variance at the pooled proportion, as it is under the null hypothesis: the two-sided test is
            then Pearson's chi-squared test of the 2 x 2 table, whose statistic is the square of this one. Else each
            arm's own.
        correction: Yates's continuity correction: the difference counts less by (1 / n_c + 1 / n_t) / 2.
        interval: "wald" from the unpooled variance, "pooled" from the pooled one (tea-tasting); both are widened by the
            correction and kept within -1 and 1. "newcombe" (1998, method 10, score intervals) and "agresti-caffo"
            (2000) hold for small samples.
        alternative: As in `difference`.
        confidence_level: Of the interval.

    Raises:
        DataError: a value is not a proportion.
        ConfigError: an option is unknown.
    """
    check_option("compare_proportions", "interval", interval, INTERVALS)
    check_option("compare_proportions", "alternative", alternative, ALTERNATIVES)
    alpha = check_level("compare_proportions", confidence_level)
    p, q = floats(control.value), floats(treatment.value)
    n, m = floats(control.n), floats(treatment.n)
    if np.any((p < 0) | (p > 1)) or np.any((q < 0) | (q > 1)):
        raise DataError(
            "compare_proportions: a value is outside 0 to 1; give estimates of estimate_proportion or proportion_of."
        )
    gap, step = q - p, (divide(1, n) + divide(1, m)) / 2 if correction else np.zeros(())
    share = divide(n * p + m * q, n + m)
    together = root(share * (1 - share) * (divide(1, n) + divide(1, m)))
    apart = root(divide(p * (1 - p), n) + divide(q * (1 - q), m))
    error = together if pooled else apart
    known = np.where(error > 0, error, np.nan)
    statistic = divide(np.sign(gap) * np.maximum(np.abs(gap) - _against(gap, step, alternative), 0), known)
    infinite = np.full(np.shape(gap), np.inf)
    if interval in {"wald", "pooled"}:
        width = apart if interval == "wald" else together
        lower, upper = bounds(gap, np.where(width > 0, width, np.nan), infinite, alternative, alpha)
        lower, upper = np.maximum(lower - step, -1), np.minimum(upper + step, 1)
    else:
        z = critical(alpha / 2 if alternative == "two-sided" else alpha)
        lower, upper = (_newcombe if interval == "newcombe" else _agresti_caffo)(p, n, q, m, z)
        lower = np.full_like(lower, -1.0) if alternative == "less" else lower
        upper = np.full_like(upper, 1.0) if alternative == "greater" else upper
    return Effect(
        plain(gap),
        plain(lower),
        plain(upper),
        plain(tail(statistic, infinite, alternative)),
        plain(statistic),
        plain(error),
        plain(infinite),
    )


def _against(gap: Array, step: Array, alternative: Alternative) -> Array:
    """Return the correction, which only counts where the difference speaks for the alternative."""
    if alternative == "two-sided":
        return step
    return np.where((gap > 0) == (alternative == "greater"), step, 0.0)


def _wilson(p: Array, n: Array, z: Array) -> tuple[Array, Array]:
    """Return the score interval of a proportion (Wilson 1927)."""
    square = z**2
    middle = divide(2 * n * p + square, 2 * (n + square))
    half = divide(z * root(square + 4 * n * p * (1 - p)), 2 * (n + square))
    return middle - half, middle + half


def _newcombe(p: Array, n: Array, q: Array, m: Array, z: Array) -> tuple[Array, Array]:
    (low_p, high_p), (low_q, high_q) = _wilson(p, n, z), _wilson(q, m, z)
    return q - p - np.hypot(q - low_q, high_p - p), q - p + np.hypot(high_q - q, p - low_p)


def _agresti_caffo(p: Array, n: Array, q: Array, m: Array, z: Array) -> tuple[Array, Array]:
    """Add one success and one failure to each arm, then Wald's interval."""
    p, q = (n * p + 1) / (n + 2), (m * q + 1) / (m + 2)
    half = z * root(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2))
    return np.maximum(q - p - half, -1), np.minimum(q - p + half, 1)
