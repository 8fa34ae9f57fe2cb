"""CUPED: the part of a metric that the units' past explains is taken out of it (Deng, Xu, Kohavi and Walker 2013).

The adjusted value of an arm is y - theta' (x - c) with covariates x from before the experiment and one theta for all
arms, so that the difference of arms stays unbiased; the centre c moves all arms alike. Metric and covariates may be
means or ratios, and CUPAC is CUPED with a model's prediction as the covariate. Which covariance theta is solved from is
where packages differ:

- `"total"`: of all units, whatever their arm (tea-tasting; GrowthBook and Spotify's Confidence for means);
- `"averaged"`: the unweighted average of the arms' covariances (GrowthBook for ratios);
- `"within"`: the arms' products about their own means, summed: the slope of a regression on arm and covariates
  (ANCOVA);
- `"separate"`: each arm its own theta about the common centre (Lin 2013), which never loses precision for large
  samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from treadle.core import ConfigError

from .estimates import Estimate, Term, columns_of, linearize, quadratic
from .floats import Array, Bools, check_option, floats, plain, two_sum
from .moments import Moments, stack

Pooling = Literal["total", "averaged", "within", "separate"]
POOLINGS = ("total", "averaged", "within", "separate")

COLLINEAR = 1e-10
"""The share of a covariate's variance, not explained by those before it, under which it adds nothing but rounding."""


class Adjustment(NamedTuple):
    """What is taken out of each arm.

    Attributes:
        theta: Coefficients [..., arms, p], 0 for a covariate that is not used.
        center: The centre of each covariate [..., p].
        departure: How far the arm's covariates are from the centre [..., arms, p].
        used: Whether a covariate is used [..., arms, p]: not if it is constant or follows from those before it.
    """

    theta: Array
    center: Array
    departure: Array
    used: Bools


def fit_adjustment(
    arms: Sequence[Moments], outcome: Term, covariates: Sequence[Term], pooling: Pooling = "total"
) -> Adjustment:
    """Return the coefficients of the covariates, the solution of the normal equations on the pooled moments.

    Warns:
        UserWarning: a covariate is constant or collinear with those before it; its coefficient is 0.
    """
    check_option("fit_adjustment", "pooling", pooling, POOLINGS)
    terms = [outcome, *covariates]
    parts = stack([arm.select(columns_of(*terms)) for arm in arms])
    whole = parts.merge(0)
    if pooling == "total":
        matrix = _covariances(whole, terms, whole.product)[None]
    else:
        matrix = _covariances(parts, terms, parts.product if pooling == "within" else parts.covariance())
        if pooling != "separate":
            matrix = matrix.sum(0, keepdims=True)
    theta, used = solve_normal_equations(matrix)
    if not used.all() and not np.isnan(matrix).any():
        unused = np.flatnonzero(~used.reshape(-1, len(covariates)).all(axis=0))
        names = [_name(covariates[int(j)]) for j in unused]
        warnings.warn(
            f"CUPED of {_name(outcome)}: {', '.join(names)} is constant or follows from the covariates before it; "
            "it is not used there.",
            stacklevel=3,
        )
    center = np.stack([linearize(whole, term)[0] for term in covariates], -1)
    departure = np.stack([_departure(parts, whole, term) for term in covariates], -1)
    theta, used = np.broadcast_to(theta, departure.shape), np.broadcast_to(used, departure.shape)
    return Adjustment(np.moveaxis(theta, 0, -2), center, np.moveaxis(departure, 0, -2), np.moveaxis(used, 0, -2))


def estimate_cuped(
    arms: Sequence[Moments],
    outcome: Term,
    covariates: str | list[Term] | list[str] | list[tuple[str, str]],
    *,
    pooling: Pooling = "total",
    ddof: float = 1,
    covariate_ddof: float | None = None,
) -> list[Estimate]:
    """Return each arm's adjusted estimate, with the unadjusted value as its base.

    Args:
        arms: The moments of every arm, with equal leading axes.
        outcome: A column, or a ratio (numerator, denominator).
        covariates: A list of columns or ratios (numerator, denominator); a single column needs no list.
        pooling: Where theta comes from; see the module.
        ddof: Of the variances.
        covariate_ddof: Of the terms of the variance that the adjustment brings. Spotify's Confidence divides these by n
            and the outcome's own by n - 1; None is `ddof`.

    Raises:
        ConfigError: covariates are a tuple, which might be meant as one ratio or as several columns.

    Warns:
        UserWarning: a covariate is constant or collinear and not used.
    """
    if isinstance(covariates, tuple):
        raise ConfigError(
            f"estimate_cuped: covariates are the tuple {covariates}; give a list: of columns, or of pairs for ratios."
        )
    listed = [covariates] if isinstance(covariates, str) else list(covariates)
    fit = fit_adjustment(arms, outcome, listed, pooling)
    other = ddof if covariate_ddof is None else covariate_ddof
    return [
        _adjusted(arm, outcome, listed, fit.theta[..., i, :], fit.departure[..., i, :], (ddof, other))
        for i, arm in enumerate(arms)
    ]


def _adjusted(
    arm: Moments,
    outcome: Term,
    covariates: Sequence[Term],
    theta: Array,
    departure: Array,
    ddofs: tuple[float, float],
) -> Estimate:
    part = arm.select(columns_of(outcome, *covariates))
    base, gradient = linearize(part, outcome)
    moved, change = np.zeros_like(base), np.zeros_like(gradient)
    for j, term in enumerate(covariates):
        used = theta[..., j] != 0
        moved = moved - np.where(used, theta[..., j] * departure[..., j], 0.0)
        change = change - np.where(used[..., None], theta[..., j, None] * linearize(part, term)[1], 0.0)
    if isinstance(outcome, str):
        moved = moved + part.rest[..., part.column(outcome)]
    value, rest = two_sum(np.where(part.count > 0, base, np.nan), moved)
    n = np.maximum(part.count, 1)
    own, added = (part.covariance(ddof) / n[..., None, None] for ddof in ddofs)
    base_variance = quadratic(own, gradient, gradient)
    covariance = base_variance + quadratic(added, gradient, change)
    variance = covariance + quadratic(added, gradient + change, change)
    return Estimate(
        plain(value),
        plain(np.where(variance < 0, 0.0, variance)),  # rounding, where the covariates explain everything
        plain(part.count),
        plain(part.count - 1),
        plain(np.where(part.count > 0, base, np.nan)),
        plain(base_variance),
        plain(covariance),
        plain(rest),
    )


def _departure(parts: Moments, whole: Moments, term: Term) -> Array:
    """Return how far a term is in each arm [arms, ...] from its value in all together."""
    if isinstance(term, str):
        return parts.apart(whole)[..., parts.column(term)]
    return linearize(parts, term)[0] - linearize(whole, term)[0]


def _covariances(moments: Moments, terms: Sequence[Term], matrix: Array) -> Array:
    """Return the matrix [..., terms, terms] of the linearised terms."""
    gradients = np.stack([linearize(moments, term)[1] for term in terms], -2)
    return floats(gradients @ matrix @ np.swapaxes(gradients, -1, -2))


def solve_normal_equations(matrix: Array) -> tuple[Array, Bools]:
    """Return the coefficients [..., p] of the later variables of a covariance matrix for its first (Gauss-Jordan)."""
    spread = np.sqrt(np.maximum(np.diagonal(matrix, axis1=-2, axis2=-1), 0.0))
    scale = np.where(spread > 0, spread, 1.0)
    rest = matrix / (scale[..., :, None] * scale[..., None, :])
    used = np.zeros((*matrix.shape[:-2], matrix.shape[-1] - 1), np.bool_)
    for j in range(1, matrix.shape[-1]):
        # On the scale of correlations a pivot is the share of the covariate that those before it do not explain.
        pivot = rest[..., j, j]
        used[..., j - 1] = fine = pivot > COLLINEAR
        row = rest[..., j, :] / np.where(fine, pivot, 1.0)[..., None]
        others = rest[..., :, j].copy()
        others[..., j] = 0.0
        reduced = rest - others[..., :, None] * row[..., None, :]
        reduced[..., j, :] = row
        rest = np.where(fine[..., None, None], reduced, rest)
    return np.where(used, rest[..., 1:, 0], 0.0) * scale[..., :1] / scale[..., 1:], used


def _name(term: Term) -> str:
    return term if isinstance(term, str) else " / ".join(term)
