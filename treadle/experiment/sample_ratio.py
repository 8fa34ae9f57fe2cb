"""Sample ratio mismatch: whether the arms have the sizes the weights promised. If not, nothing else can be believed.

A share of 50.1 % on a million units, where 50 % was planned, is a fault of assignment, logging or filtering, not
chance, and the units it lost are rarely like the others.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from treadle.core import DataError

from .floats import Array, Floats, check_option, divide, floats, plain

Method = Literal["pearson", "corrected", "exact"]
MOST_OUTCOMES = 2_000_000
"""The outcomes an exact test may enumerate."""


class SampleRatio(NamedTuple):
    """A test of the sizes of the arms; fields are floats, or arrays over the leading axes.

    Attributes:
        pvalue: P-value that the planned weights are true.
        statistic: Chi-squared statistic (for the exact test the probability of the counts).
        share: The arms' observed shares [..., arms].
        planned: The planned shares [arms].
    """

    pvalue: Floats
    statistic: Floats
    share: Array
    planned: Array


class SequentialSampleRatio(NamedTuple):
    """A sequential test of the sizes of the arms; fields are arrays over time.

    Attributes:
        pvalue: Always valid: it never rises, and P(ever <= alpha) is at most alpha under the planned weights [...,
            times].
        log_e: Logarithm of the Bayes factor against the planned weights [..., times].
    """

    pvalue: Array
    log_e: Array


def sample_ratio_test(counts: ArrayLike, weights: ArrayLike | None = None, method: Method = "pearson") -> SampleRatio:
    """Return the test that counts of units [..., arms] follow the planned weights.

    Args:
        counts: Units of each arm.
        weights: Planned traffic of each arm, in any unit; equal ones unless given.
        method: "pearson" is the chi-squared test, "corrected" the same with each deviation less by 1/2 (Yates, as
            tea-tasting has it for two arms), "exact" the multinomial test, the sum of the probabilities of all outcomes
            no more probable: for small counts.

    Raises:
        DataError: a count is negative or no whole number, a weight is not positive, no units, or too many outcomes to
            enumerate.
        ConfigError: the method is unknown.
    """
    check_option("sample_ratio_test", "method", method, ("pearson", "corrected", "exact"))
    counts, planned = _checked("sample_ratio_test", counts, weights)
    total = counts.sum(-1, keepdims=True)
    share = divide(counts, total)
    if method == "exact":
        each = [_exact(row, planned) for row in counts.reshape(-1, planned.size)]
        pvalue, statistic = (np.array([pair[i] for pair in each]).reshape(counts.shape[:-1]) for i in (0, 1))
        return SampleRatio(plain(pvalue), plain(statistic), share, planned)
    expected = total * planned
    apart = np.abs(counts - expected)
    if method == "corrected":
        apart = np.maximum(apart - 0.5, 0)
    statistic = divide(apart**2, expected).sum(-1)
    return SampleRatio(plain(special.chdtrc(planned.size - 1, statistic)), plain(statistic), share, planned)


def sequential_sample_ratio(
    counts: ArrayLike, weights: ArrayLike | None = None, concentration: float | None = None
) -> SequentialSampleRatio:
    """Return the sequential multinomial test of Lindon and Malek (2022), valid however often one looks.

    The Bayes factor of a Dirichlet prior around the planned weights against these weights is a martingale under them,
    so its inverse, the smallest so far, is an always-valid p-value.

    Args:
        counts: Units of each arm up to each time [..., times, arms], cumulative; looks may be of any number of units.
        weights: Planned traffic of each arm; equal ones unless given.
        concentration: Sum of the prior's parameters: large ones look for small mismatches. The uniform prior (as many
            as arms) unless given.

    Raises:
        DataError: counts fall over time, or as in `sample_ratio_test`.
    """
    counts, planned = _checked("sequential_sample_ratio", counts, weights, empty=True)
    if counts.ndim < 2 or np.any(np.diff(counts, axis=-2) < 0):
        raise DataError(
            "sequential_sample_ratio: counts are cumulative [..., times, arms]; these fall or have no axis of times."
        )
    prior = np.ones(planned.size) if concentration is None else concentration * planned
    if np.any(prior <= 0):
        raise DataError(f"sequential_sample_ratio: the concentration is {concentration}; it is positive.")
    total = counts.sum(-1)
    alternative = special.gammaln(prior.sum()) - special.gammaln(prior.sum() + total)
    alternative = alternative + (special.gammaln(prior + counts) - special.gammaln(prior)).sum(-1)
    log_e = alternative - (counts * np.log(planned)).sum(-1)
    pvalue = np.minimum.accumulate(np.exp(-np.maximum(log_e, 0)), -1)
    return SequentialSampleRatio(pvalue, log_e)


def _checked(op: str, counts: ArrayLike, weights: ArrayLike | None, empty: bool = False) -> tuple[Array, Array]:
    counts = floats(counts)
    arms = counts.shape[-1] if counts.ndim else 0
    planned = np.ones(arms) if weights is None else floats(weights)
    if arms < 2 or planned.shape != (arms,):
        raise DataError(
            f"{op}: counts {counts.shape} and weights {planned.shape}; give counts [..., arms] of 2 or more arms and "
            "a weight for each."
        )
    if not np.all(counts >= 0) or np.any(counts != np.round(counts)):
        raise DataError(
            f"{op}: a count is negative or no whole number: {counts[(counts < 0) | (counts % 1 != 0)].flat[0]}."
        )
    if not np.all(planned > 0) or not np.all(np.isfinite(planned)):
        raise DataError(f"{op}: weights are {planned.tolist()}; every one is positive. Leave out arms without traffic.")
    if not empty and np.any(counts.sum(-1) == 0):
        raise DataError(f"{op}: there are no units at all; wait for the first ones.")
    return counts, planned / planned.sum()


def _exact(counts: Array, planned: Array) -> tuple[float, float]:
    n, arms = int(counts.sum()), planned.size
    outcomes = math.comb(n + arms - 1, arms - 1)
    if outcomes > MOST_OUTCOMES:
        raise DataError(
            f"sample_ratio_test: {n} units in {arms} arms have {outcomes:,} outcomes, more than the "
            f"{MOST_OUTCOMES:,} of an exact test; use method='pearson'."
        )
    if arms == 2:
        first = np.arange(n + 1.0)
        table = np.stack([first, n - first], -1)
    else:
        # Bars between stars: the gaps between arms - 1 bars are the counts.
        bars = np.array(list(combinations(range(n + arms - 1), arms - 1)), np.float64)
        edges = np.concatenate([np.full((len(bars), 1), -1.0), bars, np.full((len(bars), 1), n + arms - 1.0)], 1)
        table = np.diff(edges, axis=1) - 1
    log = special.gammaln(n + 1.0) - special.gammaln(table + 1).sum(-1) + table @ np.log(planned)
    own = float(special.gammaln(n + 1.0) - special.gammaln(counts + 1).sum() + counts @ np.log(planned))
    # Outcomes as probable as the observed one must not fall out by rounding.
    return min(1.0, float(np.exp(log[log <= own + 1e-9 * max(1.0, abs(own))]).sum())), math.exp(own)
