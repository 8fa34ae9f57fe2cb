"""An estimate of one arm: a value and the variance of that value. Every comparison takes two, whatever the metric.

A metric is a smooth function of the means of the arm's columns: a mean is one of them, a ratio the quotient of two, a
CUPED mean a linear combination. Its value is that function of the sample means, its variance g' S g / n with the
function's gradient g and the covariance matrix S of the units (the delta method: Deng, Knoblich and Lu 2018).
That is one formula for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import DataError

from .floats import Array, Bools, Floats, divide, floats, plain, root
from .moments import Moments

Term = str | tuple[str, str]
"""What is measured of a unit: a column, or a ratio of the sums of two columns (numerator, denominator)."""


class Estimate(NamedTuple):
    """An arm's value with its uncertainty; all fields are floats, or arrays over the leading axes.

    Attributes:
        value: The estimate.
        variance: Variance of the value, the square of its standard error. NaN where there are too few units to know it.
        n: Independent units (users, clusters, blocks).
        df: Degrees of freedom of the variance.
        base: The value before an adjustment by covariates, what a relative effect may be measured against; None is the
            value itself.
        base_variance: Variance of the base.
        base_covariance: Covariance of the value and the base.
        rest: What rounding took from the value; the difference of two large values needs it.
    """

    value: Floats
    variance: Floats
    n: Floats
    df: Floats
    base: Floats | None = None
    base_variance: Floats | None = None
    base_covariance: Floats | None = None
    rest: Floats = 0.0

    @property
    def standard_error(self) -> Floats:
        """The root of the variance."""
        return plain(root(self.variance))

    @property
    def unit_variance(self) -> Floats:
        """The variance of one unit: the sample variance of a mean."""
        return plain(floats(self.variance) * floats(self.n))


def estimate(value: ArrayLike, variance: ArrayLike, n: ArrayLike, df: ArrayLike | None = None) -> Estimate:
    """Return an estimate made elsewhere; `df` is n - 1 unless given.

    Raises:
        DataError: a count or a variance is negative.
    """
    for name, x in (("n", floats(n)), ("variance", floats(variance))):
        if np.any(x < 0):
            raise DataError(
                f"estimate: {np.sum(x < 0)} values of {name} are negative, such as {x[x < 0].flat[0]}; give 0 or more."
            )
    return Estimate(plain(value), plain(variance), plain(n), plain(floats(n) - 1 if df is None else df))


def estimate_mean(moments: Moments, column: str, ddof: float = 1) -> Estimate:
    """Return the mean of a column and the variance of that mean, s^2 / n.

    Args:
        moments: Of one arm, with any leading axes.
        column: Its name.
        ddof: 1 is the unbiased sample variance, 0 divides by n.
    """
    return from_gradient(moments, column, ddof)


def estimate_ratio(moments: Moments, numerator: str, denominator: str, ddof: float = 1) -> Estimate:
    """Return the ratio of two sums, such as clicks per view, by the delta method (Deng et al. 2018).

    Its variance is over units: rows of the numerator (views) need not be independent, the units (users) must be. NaN
    where the denominator's sum is zero.
    """
    return from_gradient(moments, (numerator, denominator), ddof)


def estimate_proportion(moments: Moments, column: str, ddof: float = 0) -> Estimate:
    """Return the share of ones in a column of zeros and ones, with variance p (1 - p) / n (n - 1 with ddof 1).

    Raises:
        DataError: the column holds something else than zeros and ones.
    """
    part = moments.select([column])
    p, n = part.mean[..., 0], part.count
    expected = n * p * (1 - p)
    if np.any((p < 0) | (p > 1)) or not np.allclose(part.product[..., 0, 0], expected, rtol=1e-6, atol=1e-6):
        raise DataError(f"estimate_proportion: {column} is not a column of zeros and ones; use estimate_mean for it.")
    return proportion_of(np.round(n * p), n, ddof)


def proportion_of(successes: ArrayLike, count: ArrayLike, ddof: float = 0) -> Estimate:
    """Return the proportion of successes among `count` units, both with any leading axes.

    Raises:
        DataError: a number is negative, or there are more successes than units.
    """
    x, n = np.broadcast_arrays(floats(successes), floats(count))
    if np.any((x < 0) | (x > n)):
        at = np.argwhere((x < 0) | (x > n))[0]
        raise DataError(
            f"proportion_of: {x[tuple(at)]:g} successes among {n[tuple(at)]:g} units; give 0 <= successes <= count."
        )
    p = divide(x, n)
    free = np.where(n > ddof, n - ddof, np.nan)
    return Estimate(plain(p), plain(p * (1 - p) / free), plain(n), plain(n - 1))


def from_gradient(moments: Moments, term: Term, ddof: float = 1) -> Estimate:
    """Return the estimate of a term by the delta method."""
    part = moments.select(columns_of(term))
    value, gradient = linearize(part, term)
    variance = quadratic(part.covariance(ddof), gradient, gradient) / np.maximum(part.count, 1)
    value = np.where(part.count > 0, value, np.nan)
    rest = part.rest[..., 0] if isinstance(term, str) else np.zeros(part.shape)
    return Estimate(plain(value), plain(variance), plain(part.count), plain(part.count - 1), rest=plain(rest))


def gap(control: Estimate, treatment: Estimate) -> Array:
    """Return treatment - control to the last digits."""
    return (floats(treatment.value) - floats(control.value)) + (floats(treatment.rest) - floats(control.rest))


def columns_of(*terms: Term) -> list[str]:
    """Return the columns that terms need, each once."""
    return list(dict.fromkeys(name for term in terms for name in ((term,) if isinstance(term, str) else term)))


def linearize(moments: Moments, term: Term) -> tuple[Array, Array]:
    """Return the value [...] of a term at the means and its gradient [..., k] with respect to them."""
    gradient = np.zeros_like(moments.mean)
    if isinstance(term, str):
        at = moments.column(term)
        gradient[..., at] = 1.0
        return moments.mean[..., at], gradient
    top, bottom = (moments.column(name) for name in term)
    ratio = divide(moments.mean[..., top], moments.mean[..., bottom])
    gradient[..., top] = divide(1.0, moments.mean[..., bottom])
    gradient[..., bottom] -= divide(ratio, moments.mean[..., bottom])
    return ratio, gradient


def quadratic(matrix: Array, left: Array, right: Array) -> Array:
    """Return left' matrix right over the last axes."""
    return floats(np.einsum("...i,...ij,...j->...", left, matrix, right))


def why_undefined(*arms: Estimate) -> Array | str:
    """Return in words why a comparison of arms is undefined, "" where it is defined; over the leading axes.

    An arm without units has no value, one with a single unit no variance, a ratio over a zero sum neither; arms that do
    not vary at all have an effect but no test of it (a p-value of zero would be certainty drawn from a constant).
    """
    count = np.broadcast_arrays(*(floats(arm.n) for arm in arms))
    value = np.broadcast_arrays(*(floats(arm.value) for arm in arms))
    variance = np.broadcast_arrays(*(floats(arm.variance) for arm in arms))
    cases: list[tuple[Bools, str]] = [
        (np.any([n == 0 for n in count], 0), "an arm has no units"),
        (np.any([np.isnan(x) for x in value], 0), "an arm's value does not exist: its denominator is zero"),
        (np.any([np.isnan(x) for x in variance], 0), "an arm has too few units to know a variance"),
        (np.all([x <= 0 for x in variance], 0), "no arm varies"),
    ]
    said = np.select([case for case, _ in cases], [words for _, words in cases], "")
    return str(said) if said.ndim == 0 else said
