"""The Mann-Whitney test: whether the treatment's values tend to be larger than the control's, from ranks alone.

It asks about P(treatment > control), not about means: for a metric whose total matters (revenue), a test of means
answers the question.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import DataError, ShapeError

from .floats import ALTERNATIVES, Alternative, Array, Floats, check_option, divide, floats, plain, root, upper_tail

Method = Literal["auto", "asymptotic", "exact"]
METHODS = ("auto", "asymptotic", "exact")


class MannWhitney(NamedTuple):
    """Result of the Mann-Whitney test; fields are floats, or arrays over the leading axes.

    Attributes:
        pvalue: P-value of the null hypothesis that both arms have one distribution.
        statistic: U, the pairs in which the treatment's value is the larger one, ties counted half.
        effect_size: U over the number of pairs: the chance that a unit of the treatment is above one of the control,
            0.5 for no effect.
    """

    pvalue: Floats
    statistic: Floats
    effect_size: Floats


def mann_whitney(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    method: Method = "auto",
    alternative: Alternative = "two-sided",
    correction: bool = True,
) -> MannWhitney:
    """Return the Mann-Whitney test (Mann and Whitney 1947) of values [..., n] and [..., m].

    Args:
        control: Values of the control arm, with any leading axes.
        treatment: Values of the treatment arm, with the same leading axes.
        method: "asymptotic" is the normal distribution with the variance corrected for ties, "exact" the distribution
            of U without ties; "auto" is exact where an arm has 8 values or fewer and nothing is tied, as in SciPy.
        alternative: "greater" says that the treatment's values are larger.
        correction: Continuity correction of 1/2, of the normal approximation.

    Raises:
        DataError: an arm is empty, or a value is NaN.
        ShapeError: the leading axes differ.
        ConfigError: an option is unknown.
    """
    check_option("mann_whitney", "method", method, METHODS)
    check_option("mann_whitney", "alternative", alternative, ALTERNATIVES)
    x, y = floats(control), floats(treatment)
    if x.ndim == 0 or y.ndim == 0 or x.shape[:-1] != y.shape[:-1]:
        raise ShapeError(
            f"mann_whitney: values {x.shape} and {y.shape}; give [..., n] and [..., m] with the same leading axes."
        )
    n, m = x.shape[-1], y.shape[-1]
    if n == 0 or m == 0:
        raise DataError(
            f"mann_whitney: {n} values of the control and {m} of the treatment; every arm needs one or more."
        )
    both = np.concatenate([x, y], -1)
    if np.isnan(both).any():
        raise DataError(f"mann_whitney: {np.isnan(both).sum()} values are NaN; exclude them before and count them.")
    ranks, ties = average_ranks(both)
    u = ranks[..., n:].sum(-1) - m * (m + 1) / 2
    exact = method == "exact" or (method == "auto" and min(n, m) <= 8 and not ties.any())
    pvalue = _exact(u, n, m, alternative) if exact else _asymptotic(u, n, m, ties, alternative, correction)
    return MannWhitney(plain(pvalue), plain(u), plain(u / (n * m)))


def average_ranks(values: Array) -> tuple[Array, Array]:
    """Return the ranks [..., n] from 1, ties sharing their average, and the sum of t^3 - t over groups of t ties."""
    order = np.argsort(values, -1, kind="stable")
    ordered = np.take_along_axis(values, order, -1)
    n = values.shape[-1]
    new = np.concatenate([np.ones((*values.shape[:-1], 1), np.bool_), ordered[..., 1:] != ordered[..., :-1]], -1)
    place = np.broadcast_to(np.arange(n, dtype=np.int64), values.shape)
    first = np.maximum.accumulate(np.where(new, place, 0), -1)
    ends = np.concatenate([new[..., 1:], np.ones((*values.shape[:-1], 1), np.bool_)], -1)
    last = np.minimum.accumulate(np.where(ends, place, n)[..., ::-1], -1)[..., ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, -1)
    size = np.where(new, last - first + 1.0, 1.0)
    return ranks, (size**3 - size).sum(-1)


def _asymptotic(u: Array, n: int, m: int, ties: Array, alternative: Alternative, correction: bool) -> Array:
    total = n + m
    spread = root(n * m / 12 * ((total + 1) - ties / (total * (total - 1))))
    above = np.maximum(u, n * m - u) if alternative == "two-sided" else u if alternative == "greater" else n * m - u
    z = divide(above - n * m / 2 - (0.5 if correction else 0.0), spread)
    tail = upper_tail(z)
    return np.minimum(2 * tail, 1.0) if alternative == "two-sided" else tail


def _exact(u: Array, n: int, m: int, alternative: Alternative) -> Array:
    above = np.maximum(u, n * m - u) if alternative == "two-sided" else u if alternative == "greater" else n * m - u
    # P(U >= u) = P(U <= n m - u), whose small counts hold every digit.
    at_most = np.cumsum(_arrangements(n, m)) / math.comb(n + m, n)
    tail = at_most[np.floor(n * m - above).astype(np.intp)]
    return np.minimum(2 * tail, 1.0) if alternative == "two-sided" else tail


def _arrangements(n: int, m: int) -> Array:
    """Return how many arrangements of n and m values have each U from 0 to n m: Gaussian binomial coefficients."""
    small, large = min(n, m), max(n, m)
    counts = np.zeros(n * m + 1)
    counts[0] = 1.0
    for i in range(1, small + 1):
        # Multiply by 1 - q^(large + i), divide by 1 - q^i.
        shift = large + i
        if shift <= n * m:
            counts[shift:] -= counts[:-shift].copy()
        for j in range(i):
            counts[j::i] = np.cumsum(counts[j::i])
    return counts
