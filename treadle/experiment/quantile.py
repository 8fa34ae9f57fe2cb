"""Quantiles, such as the 99th percentile of latency, with rows that are clustered in units.

The quantile is an order statistic. Its variance needs no density: the share of rows below the quantile is a ratio
metric of the units, whose standard error s comes from the delta method, and the quantiles at q - z s and q + z s are z
standard errors away from the estimate (Deng, Knoblich and Lu 2018). An engine can fetch these three
numbers in SQL: `share_error` and `quantile_from_bounds` are for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import ConfigError, DataError, ShapeError

from .estimates import Estimate, estimate_ratio
from .floats import Array, floats, plain, root
from .moments import Moments

BOUND = 1.959963984540054
"""Standard errors between the estimate and each of the two outer quantiles."""


def estimate_quantile(values: ArrayLike, q: float, clusters: ArrayLike | None = None, bound: float = BOUND) -> Estimate:
    """Return the q-quantile of the rows of one arm: the smallest value with a share q of the rows at or below it.

    Args:
        values: Rows [..., n]; with clusters [n].
        q: Between 0 and 1.
        clusters: The unit of each row [n], any labels; rows of a unit may depend on each other. Without it every row is
            a unit.
        bound: Standard errors to the outer quantiles.

    Returns: The estimate; its variance is NaN if there are too few rows for the outer quantiles, and its count is that
    of the units.

    Raises:
        ConfigError: q is not strictly between 0 and 1.
        DataError: there are no rows, or NaN among them.
        ShapeError: clusters do not fit the rows.
    """
    x = floats(values)
    if not 0 < q < 1:
        raise ConfigError(f"estimate_quantile: q is {q}; it is a share such as 0.99.")
    if x.ndim == 0 or x.shape[-1] == 0 or np.isnan(x).any():
        raise DataError(
            f"estimate_quantile: rows of shape {x.shape}, {np.isnan(x).sum()} of them NaN; give one or more numbers."
        )
    value = floats(np.quantile(x, q, axis=-1, method="inverted_cdf"))
    if clusters is None:
        units = floats(x.shape[-1])
        error = root(q * (1 - q) / units)
    else:
        labels = np.asarray(clusters)
        if x.ndim != 1 or labels.shape != x.shape:
            raise ShapeError(
                f"estimate_quantile: rows {x.shape} and clusters {labels.shape}; with clusters both are [n]."
            )
        codes = np.unique(labels, return_inverse=True)[1]
        below, rows = np.bincount(codes, x <= value), np.bincount(codes)
        units, error = floats(rows.size), share_error(Moments.from_rows({"below": below, "rows": rows}))
    low, high = float(q - bound * error), float(q + bound * error)
    if not (low > 0 and high < 1):
        nothing = plain(np.full(value.shape, np.nan))
        return Estimate(
            plain(value),
            nothing,
            plain(np.broadcast_to(units, value.shape)),
            plain(np.broadcast_to(units - 1, value.shape)),
        )
    lower, upper = np.quantile(x, [low, high], axis=-1)
    return quantile_from_bounds(value, lower, upper, np.broadcast_to(units, value.shape), bound)


def share_error(moments: Moments) -> Array:
    """Return the standard error of the share of rows below the quantile, from moments of `below` and `rows`."""
    return root(estimate_ratio(moments, "below", "rows").variance)


def quantile_from_bounds(
    value: ArrayLike, lower: ArrayLike, upper: ArrayLike, units: ArrayLike, bound: float = BOUND
) -> Estimate:
    """Return the estimate of a quantile from the outer ones, at q -+ bound * share_error, as an engine fetches them."""
    units = floats(units)
    error = (floats(upper) - floats(lower)) / (2 * bound)
    return Estimate(plain(value), plain(error**2), plain(units), plain(units - 1))
