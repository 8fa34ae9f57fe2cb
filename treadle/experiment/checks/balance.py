"""Whether the arms were alike before the experiment: pre-period A/A of the metrics, and covariates jointly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from treadle.core import DataError
from treadle.experiment.effects import Effect
from treadle.experiment.findings import Check, Finding, judge, probability
from treadle.experiment.floats import Array, divide, floats
from treadle.experiment.moments import Moments, stack
from treadle.experiment.multiple import adjust_pvalues

LARGE = 0.1
"""Standardised mean difference that is called large (Austin 2009); said, not judged: a test knows the sample size."""
DEPENDENT = 1e-10
"""Eigenvalue of the correlation matrix below which a combination of covariates is constant."""

PRE_PERIOD = Check(
    "pre-period A/A",
    "Before the experiment nothing was different for the arms, so an effect there is one of the assignment, of an "
    "earlier experiment or of the data, and it is in today's effect as well.",
    "Do not read the effects. Look for an earlier experiment on the same buckets, a filter that depends on the arm, or "
    "a pre-period that overlaps the exposure; run again under a new salt.",
)
BALANCE = Check(
    "covariate balance",
    "Randomised arms have the same mix of users; if they differ, something other than the treatment differs too.",
    "Find where the covariates part (assignment, exposure, join). Adjusting by them repairs what was measured only, so "
    "run again under a new salt.",
)


def pre_period(effects: Mapping[str, Effect]) -> Finding:
    """Return whether any metric has an effect in the time before the experiment, Holm's adjustment made.

    Args:
        effects: The effect on each metric, computed on the pre-period as on the experiment itself.

    Raises:
        DataError: there is no metric.
    """
    if not effects:
        raise DataError("pre_period: there are no effects; give one of each metric with a pre-period.")
    p = adjust_pvalues([float(effect.pvalue) for effect in effects.values()])
    least = float(np.nanmin(p)) if not np.isnan(p).all() else float("nan")
    names = list(effects)
    said = "; ".join(
        f"{name} {float(effects[name].effect_size):+.4g} (standard error {float(effects[name].standard_error):.2g}, "
        f"{probability(float(each))})"
        for name, each in zip(names, p, strict=True)
        if judge(float(each)) != "pass"
    )
    found = (
        f"Effects where there can be none: {said}."
        if said
        else (f"No effect on {len(p)} metrics before the start; smallest adjusted {probability(least)}.")
    )
    return PRE_PERIOD.finding(judge(least), found, pvalue=least, metrics=names, adjusted_pvalues=p.tolist())


def covariate_balance(arms: Sequence[Moments], columns: Sequence[str]) -> Finding:
    """Return whether covariates of before the experiment differ between arms, all of them in one test.

    Hotelling's T-squared of each arm against the first (the omnibus test of Hansen and Bowers 2008, with the F
    distribution), with Bonferroni's correction; standardised differences are the evidence.

    Args:
        arms: Moments of each arm, without leading axes; the control first.
        columns: The covariates; constant or dependent ones do not count.

    Raises:
        DataError: fewer than two arms, or no columns.
    """
    if len(arms) < 2 or not columns:
        raise DataError(f"covariate_balance: {len(arms)} arms and {len(columns)} covariates; give 2 and 1 at least.")
    parts = [arm.select(columns) for arm in arms]
    found = [_hotelling(parts[0], part) for part in parts[1:]]
    p = min(1.0, min(pair[0] for pair in found) * len(found))
    differences = np.stack([pair[1] for pair in found])
    at = (
        np.unravel_index(int(np.nanargmax(np.abs(differences))), differences.shape)
        if np.any(~np.isnan(differences))
        else (0, 0)
    )
    most = float(differences[at])
    size = "large" if abs(most) > LARGE else "small"
    return BALANCE.finding(
        judge(p),
        f"{len(columns)} covariates together: {probability(p)}; the largest standardised difference is that of "
        f"{columns[int(at[1])]}, {most:+.4f} ({size}).",
        pvalue=p,
        columns=list(columns),
        differences=differences.tolist(),
    )


def _hotelling(control: Moments, treatment: Moments) -> tuple[float, Array]:
    """Return the p-value and the standardised differences [k] (Hotelling 1931, two samples of one covariance)."""
    n, m = float(control.count), float(treatment.count)
    pooled = stack([control, treatment]).product.sum(0) / max(n + m - 2, 1)
    spread = np.sqrt(np.diagonal(pooled))
    smd = divide(treatment.apart(control), spread)
    some = spread > 0
    if n < 1 or m < 1 or not some.any():
        return 1.0, smd
    values, vectors = np.linalg.eigh(pooled[np.ix_(some, some)] / np.outer(spread[some], spread[some]))
    kept = values > DEPENDENT
    rank, free = int(kept.sum()), n + m - 2
    square = float(((smd[some] @ vectors[:, kept]) ** 2 / values[kept]).sum()) * n * m / (n + m)
    if free - rank + 1 <= 0:
        return 1.0, smd
    return float(special.fdtrc(rank, free - rank + 1, square * (free - rank + 1) / (free * rank))), floats(smd)
