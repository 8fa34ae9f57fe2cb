"""Novelty and primacy: the effect by days since exposure, and whether it fades or grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from treadle.core import DataError
from treadle.experiment.findings import WARN, Check, Finding, probability
from treadle.experiment.floats import floats

LEAST_DAYS = 4
"""Days below which a slope is not tested."""

NOVELTY = Check(
    "novelty",
    "Users try what is new and come back to their habits (novelty), or need time to learn it (primacy). The average "
    "over the experiment is then not the effect that lasts.",
    "Run until the effect by days since exposure is level, and decide by its last days; or compare users who are new "
    "to the product, for whom nothing is new about it.",
)


def novelty(effect: ArrayLike, covariance: ArrayLike, days: ArrayLike | None = None) -> Finding:
    """Return whether the effect changes with days since exposure: the slope of a generalised least-squares line.

    Args:
        effect: The effect on each day since exposure [days], each from the same users or from others.
        covariance: Their covariance matrix [days, days], or their variances [days]. Days of the same users are
            correlated positively; variances alone then overstate the error of the slope, and the test errs on the side
            of silence.
        days: The days since exposure, 0, 1, ... unless given.

    It warns, and never blocks: the effects are true, only not all of the truth.

    Raises:
        DataError: shapes differ, or a variance is not positive.
    """
    y, given = floats(effect), floats(covariance)
    t = np.arange(y.size, dtype=np.float64) if days is None else floats(days)
    if y.ndim != 1 or t.shape != y.shape or given.shape not in {(y.size,), (y.size, y.size)}:
        raise DataError(
            f"novelty: effects {y.shape}, covariance {given.shape} and days {t.shape}; give [days], [days, days] or "
            "[days], and [days]."
        )
    if y.size < LEAST_DAYS:
        return NOVELTY.finding("pass", f"{y.size} days are too few to see a trend; {LEAST_DAYS} are needed.")
    matrix = np.diag(given) if given.ndim == 1 else given
    if not np.all(np.isfinite(y)) or not np.all(np.diagonal(matrix) > 0):
        raise DataError("novelty: an effect is not finite or a variance not positive; leave out days without data.")
    design = np.stack([np.ones(y.size), t], 1)
    weighted = np.linalg.solve(matrix, design)
    bread = np.linalg.inv(design.T @ weighted)
    level, slope = (bread @ (weighted.T @ y)).tolist()
    error = float(np.sqrt(bread[1, 1]))
    z = slope / error
    p = 2 * float(special.ndtr(-abs(z)))
    first, last = level + slope * float(t[0]), level + slope * float(t[-1])
    # Towards zero from the first day on is novelty; away from it is learning.
    kind = "novelty: it fades" if slope * first < 0 else "primacy: it grows"
    return NOVELTY.finding(
        "warn" if p < WARN else "pass",
        f"The effect goes from {first:+.4g} on day {t[0]:g} to {last:+.4g} on day {t[-1]:g}, {slope:+.3g} a day "
        f"({probability(p)})" + (f"; {kind}." if p < WARN else "; no trend."),
        pvalue=p,
        slope=slope,
        standard_error=error,
        first=first,
        last=last,
        days=t.tolist(),
        effects=y.tolist(),
    )
