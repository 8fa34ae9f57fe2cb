"""Offline evaluation: what a new policy would have earned, from the log of an old one that kept its propensities.

One idea: each logged decision is reweighted by w = chance under the new policy / chance under the old one. The mean of
w is 1 if the log is right and covers what the new policy does, so the log itself says when not to be believed
(`overlap`). All estimators are means of one score per decision; their intervals come from the spread of the scores,
summed by cluster (user, session) where decisions hang together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a sequence or array of numbers


class PolicyValue(NamedTuple):
    """The mean reward per decision of a policy, with a normal interval."""

    value: float
    standard_error: float
    lower: float
    upper: float
    effective_size: float  # Kish: (sum w)^2 / sum w^2, the decisions that the weights leave
    largest_weight: float


class Overlap(NamedTuple):
    """Whether a log covers a policy."""

    mean_weight: float  # 1 in expectation
    p_value: float  # of a mean weight of 1: small when logged propensities are wrong or actions are missing
    effective_share: float  # effective size over decisions
    top_percent_share: float  # share of all weight that the heaviest hundredth of decisions bears
    largest_weight: float
    unsupported: float  # mean chance of the new policy on actions that the old one never takes; NaN when not known
    trusted: bool
    finding: str


def inverse_propensity_score(
    reward: Numbers,
    logged: Numbers,
    target: Numbers,
    *,
    clip: float = np.inf,
    clusters: Numbers | None = None,
    level: float = 0.95,
) -> PolicyValue:
    """Return the IPS value of a policy (Horvitz & Thompson 1952): unbiased where the log covers it, of wide spread.

    Args:
        reward: rewards of the logged decisions [n].
        logged: chances with which the logged actions were taken [n], above 0.
        target: chances with which the new policy takes those actions [n].
        clip: largest weight; a finite one trades spread for a bias towards 0.
        clusters: ids [n] of units whose decisions hang together, such as users; None when each stands alone.
        level: of the interval.

    Raises DataError when lengths differ or chances are impossible, ConfigError for a bad clip or level.
    """
    y, w = _weights("inverse_propensity_score", reward, logged, target, clip)
    return _value(w * y, None, w, clusters, level)


def self_normalised_score(
    reward: Numbers,
    logged: Numbers,
    target: Numbers,
    *,
    clip: float = np.inf,
    clusters: Numbers | None = None,
    level: float = 0.95,
) -> PolicyValue:
    """Return the SNIPS value: weighted mean of rewards, within their range, of less spread, with a bias of order 1/n.

    Swaminathan & Joachims 2015; its error by the delta method. Arguments and errors as `inverse_propensity_score`.
    """
    y, w = _weights("self_normalised_score", reward, logged, target, clip)
    if not w.sum() > 0:
        raise DataError("self_normalised_score: all weights are 0; the new policy takes none of the logged actions.")
    return _value(w * y, w, w, clusters, level)


def doubly_robust_score(
    reward: Numbers,
    logged: Numbers,
    target: Numbers,
    predicted: Numbers,
    predicted_target: Numbers,
    *,
    clip: float = np.inf,
    clusters: Numbers | None = None,
    level: float = 0.95,
) -> PolicyValue:
    """Return the doubly robust value: a model's prediction, corrected by weighted residuals (Dudik et al. 2014).

    Right when either the propensities or the model are. `predicted` [n] is the model's reward of the logged action,
    `predicted_target` [n] its mean reward under the new policy; the model must not have been fitted to these rewards
    (fit it on other folds). Other arguments and errors as `inverse_propensity_score`.
    """
    y, w = _weights("doubly_robust_score", reward, logged, target, clip)
    model, under_target = (
        _column("doubly_robust_score", n, x, y.size)
        for n, x in (("predicted", predicted), ("predicted_target", predicted_target))
    )
    return _value(under_target + w * (y - model), None, w, clusters, level)


def overlap(
    logged: Numbers,
    target: Numbers,
    *,
    all_logged: Numbers | None = None,
    all_target: Numbers | None = None,
    clusters: Numbers | None = None,
    alpha: float = 0.01,
    least_share: float = 0.05,
) -> Overlap:
    """Return whether the log covers the policy well enough to believe an estimate.

    With the chances of all actions, `all_logged` and `all_target` [n, actions], actions that the new policy takes but
    the old one never does are found directly. Not trusted: a mean weight away from 1 at level `alpha`, an effective
    size below `least_share` of the decisions, or over 1 % of decisions without support. Raises DataError as above.
    """
    _, w = _weights("overlap", np.zeros(np.size(logged)), logged, target, np.inf)
    got = _value(w, None, w, clusters, 0.95)
    away = abs(got.value - 1)
    p_value = float(2 * ndtr(-away / got.standard_error)) if got.standard_error > 0 else float(away < 1e-9)
    unsupported = float("nan")
    if all_logged is not None and all_target is not None:
        chances, wanted = np.asarray(all_logged, dtype=np.float64), np.asarray(all_target, dtype=np.float64)
        if chances.shape != wanted.shape or chances.shape[:1] != w.shape:
            raise DataError(
                f"overlap: all_logged has shape {chances.shape}, all_target {wanted.shape}, for {w.size} decisions; "
                "both must be [decisions, actions]."
            )
        never: Array = np.asarray(chances <= 0, dtype=np.float64)
        unsupported = float((never * wanted).sum()) / w.size
    share = got.effective_size / w.size
    heavy = np.sort(w)[-max(1, w.size // 100) :]
    faults: list[str] = []
    if p_value < alpha:
        faults.append(f"the mean weight is {got.value:.4g}, not 1 (p = {p_value:.2g}): check the logged propensities")
    if share < least_share:
        faults.append(f"the weights leave {share:.1%} of the decisions: the policies differ too much for this log")
    if unsupported > 0.01:
        faults.append(f"{unsupported:.1%} of the new policy's decisions have no support in the log")
    return Overlap(
        mean_weight=got.value,
        p_value=p_value,
        effective_share=share,
        top_percent_share=float(heavy.sum() / w.sum()) if w.sum() > 0 else 0.0,
        largest_weight=got.largest_weight,
        unsupported=unsupported,
        trusted=not faults,
        finding="; ".join(faults) or f"the log covers the policy: effective size {share:.0%} of {w.size} decisions",
    )


def _column(what: str, name: str, values: Numbers, n: int) -> Array:
    column = np.asarray(values, dtype=np.float64)
    wrong = int(np.sum(~np.isfinite(column)))
    if column.shape != (n,) or wrong:
        raise DataError(
            f"{what}: {name} has shape {column.shape} with {wrong} values that are not finite; give {n} finite numbers."
        )
    return column


def _weights(what: str, reward: Numbers, logged: Numbers, target: Numbers, clip: float) -> tuple[Array, Array]:
    n = np.size(reward)
    if n < 2:
        raise DataError(f"{what}: {n} decisions; an interval needs at least 2.")
    if not clip > 0:
        raise ConfigError(f"{what}: clip is {clip}; the largest weight must be above 0.")
    y, old, new = (
        _column(what, name, x, n) for name, x in (("reward", reward), ("logged", logged), ("target", target))
    )
    bad_old, bad_new = ~((old > 0) & (old <= 1)), ~((new >= 0) & (new <= 1))
    if np.any(bad_old) or np.any(bad_new):
        raise DataError(
            f"{what}: {int(bad_old.sum())} logged chances are not in (0, 1] and {int(bad_new.sum())} target "
            "chances not in [0, 1]. A logged action had a chance; log it when the action is drawn."
        )
    return y, np.minimum(new / old, clip)


def _value(top: Array, bottom: Array | None, w: Array, clusters: Numbers | None, level: float) -> PolicyValue:
    """Return sum(top) / sum(bottom), or the mean of top, with an error from sums by cluster."""
    if not 0 < level < 1:
        raise ConfigError(f"offline: level is {level}; it must be above 0 and below 1, such as 0.95.")
    base = np.ones_like(top) if bottom is None else bottom
    value = float(top.sum() / base.sum())
    residual = top - value * base
    if clusters is not None:
        ids = np.asarray(clusters)
        if ids.shape != top.shape:
            raise DataError(f"offline: clusters has shape {ids.shape} for {top.size} decisions; give one id for each.")
        residual = np.bincount(np.unique(ids, return_inverse=True)[1], residual)
        if residual.size < 2:
            raise DataError("offline: all decisions are of one cluster; an interval needs at least 2.")
    m = residual.size
    se = float(np.sqrt(m / (m - 1) * np.sum(np.square(residual))) / base.sum())
    half = -float(ndtri((1 - level) / 2)) * se
    squares = float(np.sum(w * w))
    return PolicyValue(
        value, se, value - half, value + half, float(w.sum()) ** 2 / squares if squares else 0.0, float(w.max())
    )
