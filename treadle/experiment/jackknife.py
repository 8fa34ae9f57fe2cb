"""The delete-a-group jackknife: the variance of any estimate, from a table of buckets alone, with no second scan.

Buckets are groups of units at random, so the estimates without each of them tell how much the whole one varies (Efron
and Stein 1981). It is also the check that an estimator's own variance is right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from treadle.core import DataError

from .estimates import Estimate
from .floats import floats, plain
from .moments import Moments


def jackknife(table: Moments, estimator: Callable[[Moments], Estimate]) -> Estimate:
    """Return the estimate of all buckets together with its jackknife variance; n is the number of buckets.

    Args:
        table: Moments of one arm [buckets]; empty buckets take no part.
        estimator: Maps moments with any leading axes to an estimate, such as `lambda m: estimate_ratio(m, "clicks",
            "views")`.

    Raises:
        DataError: fewer than 2 buckets have units.
    """
    full = table[table.count > 0] if table.count.ndim == 1 else table
    g = full.count.size
    if table.count.ndim != 1 or g < 2:
        raise DataError(
            f"jackknife: a table {table.shape} with {g} buckets that have units; give one axis of 2 or more."
        )
    without = floats(estimator(full.combine(1 - np.eye(g))).value)
    variance = (g - 1) / g * ((without - without.mean()) ** 2).sum()
    whole = estimator(full.merge())
    return Estimate(whole.value, plain(variance), float(g), float(g - 1), rest=whole.rest)
