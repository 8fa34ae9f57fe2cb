"""Strata: groups of units known before the experiment (country), whose chance imbalance between arms is taken out.

The estimate is the sum over strata of weight times the stratum's estimate, with one set of weights for all arms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import DataError

from .estimates import Estimate, Term, from_gradient
from .floats import Array, check_option, divide, floats, plain
from .moments import Moments, stack

Variance = Literal["conditional", "unconditional"]


def stratified(estimates: Estimate, weights: ArrayLike) -> Estimate:
    """Return the weighted sum of estimates over the last axis, each sampled on its own (Cochran 1977, chapter 5).

    Args:
        estimates: Of one arm, of any kind, with a last axis of strata.
        weights: Share of each stratum [..., strata] in the population; they need not sum to one.

    Raises:
        DataError: a weight is negative, or there are none.
    """
    share = _shares(weights)
    used = share > 0
    value, variance, count, df = (
        np.broadcast_to(floats(x), np.broadcast_shapes(np.shape(x), share.shape)) for x in estimates[:4]
    )
    part = np.where(used, share**2 * variance, 0.0)
    total = part.sum(-1)
    # Satterthwaite; a stratum that does not vary costs no degree of freedom.
    df = divide(total**2, np.where(part > 0, divide(part**2, df), 0.0).sum(-1))
    return Estimate(plain(np.where(used, share * value, 0.0).sum(-1)), plain(total), plain(count.sum(-1)), plain(df))


def post_stratify(
    arms: Sequence[Moments],
    term: Term,
    weights: ArrayLike | None = None,
    *,
    variance: Variance = "conditional",
    ddof: float = 1,
) -> list[Estimate]:
    """Return each arm's estimate weighted to a common mix of strata (Miratrix, Sekhon and Yu 2013).

    Args:
        arms: Moments of every arm, whose last leading axis is the strata.
        term: A column or a ratio.
        weights: Shares of the strata [strata]; those of all arms together unless given.
        variance: "conditional" on the arm's units in each stratum, or "unconditional", which adds the chance of that
            split (Cochran 1977, eq. 5A.42).
        ddof: Of the variances.

    Returns: Estimates, NaN where an arm has no units (no two for a variance) in a stratum that has weight: merge small
    strata before.
    """
    check_option("post_stratify", "variance", variance, ("conditional", "unconditional"))
    counts = stack(arms).count.sum(0)
    share = _shares(counts if weights is None else weights)
    out: list[Estimate] = []
    for arm in arms:
        each = from_gradient(arm, term, ddof)
        result = stratified(each, share)
        if variance == "unconditional":
            n = arm.count.sum(-1)
            added = divide(np.where(share > 0, (1 - share) * floats(each.unit_variance), 0.0).sum(-1), n**2)
            base = divide(np.where(share > 0, share * floats(each.unit_variance), 0.0).sum(-1), n)
            result = result._replace(variance=plain(base + added))
        out.append(result)
    return out


def _shares(weights: ArrayLike) -> Array:
    w = floats(weights)
    if w.ndim == 0 or not np.all(w >= 0) or np.any(w.sum(-1) <= 0):
        raise DataError(
            f"strata: weights are {w.tolist()}; give a share of 0 or more for each stratum, with a positive sum."
        )
    return w / w.sum(-1, keepdims=True)
