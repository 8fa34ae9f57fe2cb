"""Regression on the arm and covariates (ANCOVA by ordinary least squares), from moments alone.

CUPED's twin: the same adjustment with the slope taken within the arms, and one residual variance for both. It is the
textbook's answer for small, equal arms; CUPED with `pooling="separate"` holds when the arms' variances differ (Freedman
2008, Lin 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cuped import solve_normal_equations
from .effects import Effect, effect
from .floats import Alternative, Array, divide, floats
from .moments import Moments, stack


def ancova(
    control: Moments,
    treatment: Moments,
    outcome: str,
    covariates: Sequence[str],
    *,
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
) -> Effect:
    """Return the treatment's coefficient in the regression of the outcome on 1, treatment, covariates; by Student's t.

    A constant or collinear covariate takes no part and no degree of freedom. Options as in `difference`.
    """
    parts = stack([arm.select([outcome, *covariates]) for arm in (control, treatment)])
    within = floats(parts.product.sum(0))
    gap = parts[1].apart(parts[0])
    theta, used = solve_normal_equations(within)
    # The same elimination solves for the distance of the arms in the covariates.
    apart = within.copy()
    apart[..., 0, 1:] = apart[..., 1:, 0] = gap[..., 1:]
    apart[..., 0, 0] = 1.0
    distance = _dot(solve_normal_equations(apart)[0], gap[..., 1:])
    residual = within[..., 0, 0] - _dot(theta, within[..., 1:, 0])
    n = parts.count
    df = n.sum(0) - 2 - used.sum(-1)
    df = np.where(df > 0, df, np.nan)
    variance = np.maximum(residual, 0.0) / df * (divide(1, n[0]) + divide(1, n[1]) + distance)
    return effect(
        gap[..., 0] - _dot(theta, gap[..., 1:]),
        variance,
        df,
        alternative=alternative,
        confidence_level=confidence_level,
    )


def _dot(a: Array, b: Array) -> Array:
    return floats((a * b).sum(-1))
