"""How many units an experiment needs, how small an effect it can find, and with what chance.

One idea: a plan is an `Outcome` (what one unit's value varies by) and a `Criterion` (what counts as found). Together
they give the standard error at a size, hence the expected z, hence the power; sample size and minimum detectable
effect are that one function solved for its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from treadle.core import ConfigError, DataError

from .always_valid import check_alpha, critical_value, mixing_scale
from .crossing import crossing, inside, root
from .group_sequential import Design, boundaries

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers

EXACT_DF = 1_000_000  # from here on the normal distribution does, to 1e-7 of the power


@dataclass(frozen=True)
class Outcome:
    """What a metric's error depends on, per unit of randomisation. Make one with the functions below."""

    mean: float
    control_variance: float
    treatment_variance: float
    proportion: bool = False

    def variance_at(self, effect: float) -> float:
        """Return the variance of a treated unit under an absolute effect: that of a proportion moves with it."""
        if not self.proportion:
            return self.treatment_variance
        rate = min(max(self.mean + effect, 0.0), 1.0)
        share_kept = self.control_variance / (self.mean * (1 - self.mean))
        return rate * (1 - rate) * share_kept


def mean_outcome(mean: float, sd: float, *, treatment_sd: float | None = None, correlation: float = 0.0) -> Outcome:
    """Return the outcome of a mean per unit; `correlation` is that of CUPED's covariate with the metric.

    CUPED leaves 1 - correlation^2 of the variance (Deng, Xu, Kohavi & Walker 2013). Raises ConfigError when a standard
    deviation is not above 0 or the correlation not inside (-1, 1).
    """
    other = sd if treatment_sd is None else treatment_sd
    if not (sd > 0 and other > 0):
        raise ConfigError(f"mean_outcome: sd is {sd} and treatment_sd {treatment_sd}; both must be above 0.")
    kept = _kept("mean_outcome", correlation)
    return Outcome(mean, sd**2 * kept, other**2 * kept)


def proportion_outcome(rate: float, *, correlation: float = 0.0) -> Outcome:
    """Return the outcome of a share of units; raises ConfigError unless 0 < rate < 1."""
    if not 0 < rate < 1:
        raise ConfigError(f"proportion_outcome: rate is {rate}; it must be above 0 and below 1.")
    variance = rate * (1 - rate) * _kept("proportion_outcome", correlation)
    return Outcome(rate, variance, variance, proportion=True)


def ratio_outcome(
    numerator: float,
    denominator: float,
    numerator_variance: float,
    denominator_variance: float,
    covariance: float,
    *,
    correlation: float = 0.0,
) -> Outcome:
    """Return the outcome of a ratio of two means per unit, such as clicks per view.

    Variance by the delta method (Deng, Knoblich & Lu 2018): that of y - ratio x over the squared mean of x. Raises
    ConfigError when the mean of the denominator is 0 or the variances contradict each other.
    """
    if denominator == 0:
        raise ConfigError("ratio_outcome: the mean of the denominator is 0; the ratio does not exist.")
    ratio = numerator / denominator
    variance = (numerator_variance - 2 * ratio * covariance + ratio**2 * denominator_variance) / denominator**2
    if not variance > 0:
        raise ConfigError(
            f"ratio_outcome: the variance of the ratio comes out as {variance:g}; it must be above 0. Check that "
            "variances and covariance are of the same units and that |covariance| <= sqrt(product of variances)."
        )
    variance *= _kept("ratio_outcome", correlation)
    return Outcome(ratio, variance, variance)


@dataclass(frozen=True)
class AlwaysValidPlan:
    """Evenly spaced looks with an asymptotic confidence sequence, tightest at `tuning` units (default: the last)."""

    looks: int = 20
    tuning: float | None = None

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise ConfigError(f"AlwaysValidPlan: looks is {self.looks}; give at least 1.")


@dataclass(frozen=True)
class Criterion:
    """What counts as found.

    Args:
        alpha: error rate of the experiment.
        sided: 2, or 1 for effects above the null.
        margin: None, or a non-inferiority margin above 0, in the unit of the effect: found is then an effect surely
            above -margin, one-sided.
        relative: effects (and the margin) are shares of the mean of control, and the ratio of means is tested.
        weights: shares of traffic, control first, then each treatment; any scale.
        correction: "bonferroni" splits alpha among the treatments, "none" tests each at alpha.
        sequential: None for one look at the end, a group sequential `Design` (its alpha and sided give way to those
            here), or an `AlwaysValidPlan`.

    Raises ConfigError when a setting is not allowed.
    """

    alpha: float = 0.05
    sided: int = 2
    margin: float | None = None
    relative: bool = False
    weights: tuple[float, ...] = (1.0, 1.0)
    correction: str = "bonferroni"
    sequential: Design | AlwaysValidPlan | None = None

    def __post_init__(self) -> None:
        check_alpha("Criterion", self.alpha)
        if self.sided not in {1, 2}:
            raise ConfigError(f"Criterion: sided is {self.sided}; it must be 1 or 2.")
        if self.margin is not None and not self.margin > 0:
            raise ConfigError(f"Criterion: margin is {self.margin}; a non-inferiority margin is a size above 0.")
        if len(self.weights) < 2 or not all(weight > 0 for weight in self.weights):
            raise ConfigError(
                f"Criterion: weights are {self.weights}; give one above 0 for control and each treatment."
            )
        if self.correction not in {"bonferroni", "none"}:
            raise ConfigError(f"Criterion: correction is {self.correction!r}; allowed are bonferroni, none.")

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights as shares that sum to 1."""
        return tuple(weight / sum(self.weights) for weight in self.weights)

    @property
    def tails(self) -> int:
        """How many sides are tested: one with a margin."""
        return 1 if self.margin is not None else self.sided

    @property
    def level(self) -> float:
        """The error rate of one comparison."""
        return self.alpha / (len(self.weights) - 1) if self.correction == "bonferroni" else self.alpha


class SampleSize(NamedTuple):
    """Units an experiment needs, and what its stopping rule costs."""

    total: int
    per_arm: tuple[int, ...]
    power: float  # with these whole numbers
    inflation: float  # total over that of one look at the end


class PowerCurve(NamedTuple):
    """Power as a table: rows [m] of total size, columns [k] of effect."""

    size: Array
    effect: Array
    power: Array


class EffectCurve(NamedTuple):
    """The minimum detectable effect as a table by total size [m]."""

    size: Array
    effect: Array


def power(outcome: Outcome, effect: Numbers, n: Numbers, criterion: Criterion | None = None) -> Array:
    """Return the chance to find the effect with n units in all arms together; effect and n broadcast.

    With several treatments it is the chance for the one with least traffic. One look: noncentral t (for proportions and
    large samples the normal distribution); sequential designs: the chance to stop at any look.
    """
    rule = criterion or Criterion()
    effects, sizes = np.broadcast_arrays(np.asarray(effect, dtype=np.float64), np.asarray(n, dtype=np.float64))
    found = np.array(
        [_power(outcome, float(e), float(size), rule) for e, size in zip(effects.flat, sizes.flat, strict=True)]
    )
    return found.reshape(effects.shape)


def sample_size(
    outcome: Outcome, effect: float, criterion: Criterion | None = None, *, target: float = 0.8
) -> SampleSize:
    """Return the units needed to find the effect with chance `target`; for sequential rules the largest size.

    Raises ConfigError when the effect is the null itself (0, or the negative margin) or target is not a power.
    """
    rule = criterion or Criterion()
    _check_target("sample_size", target, rule)
    gap = effect + (rule.margin or 0.0)
    if gap == 0 or (rule.tails == 1 and gap < 0):
        raise ConfigError(
            f"sample_size: an effect of {effect:g} with margin {rule.margin} is at or below the null; no size finds it."
        )
    needed = _size(outcome, effect, rule, target)
    per_arm = tuple(max(2, math.ceil(needed * share - 1e-9)) for share in rule.shares)
    fixed = needed if rule.sequential is None else _size(outcome, effect, replace(rule, sequential=None), target)
    whole = replace(rule, weights=per_arm)
    return SampleSize(sum(per_arm), per_arm, _power(outcome, effect, float(sum(per_arm)), whole), needed / fixed)


def minimum_effect(outcome: Outcome, n: Numbers, criterion: Criterion | None = None, *, target: float = 0.8) -> Array:
    """Return the least effect above the null found with chance `target` at n units in all arms; n may be an array.

    With a margin it is the least true effect, possibly below 0, that is shown not to be inferior. Raises DataError when
    even the largest possible effect of a proportion is too small.
    """
    rule = criterion or Criterion()
    _check_target("minimum_effect", target, rule)
    sizes = np.asarray(n, dtype=np.float64)
    return np.array([_effect(outcome, float(size), rule, target) for size in sizes.flat]).reshape(sizes.shape)


def power_curve(
    outcome: Outcome, effects: Sequence[float], sizes: Sequence[float], criterion: Criterion | None = None
) -> PowerCurve:
    """Return the power of each size [m] for each effect [k]."""
    size, effect = np.asarray(sizes, dtype=np.float64), np.asarray(effects, dtype=np.float64)
    return PowerCurve(size, effect, power(outcome, effect, size[:, None], criterion))


def effect_curve(
    outcome: Outcome, sizes: Sequence[float], criterion: Criterion | None = None, *, target: float = 0.8
) -> EffectCurve:
    """Return the minimum detectable effect of each size [m]."""
    size = np.asarray(sizes, dtype=np.float64)
    return EffectCurve(size, minimum_effect(outcome, size, criterion, target=target))


def _kept(what: str, correlation: float) -> float:
    if not -1 < correlation < 1:
        raise ConfigError(f"{what}: correlation is {correlation}; it must lie inside (-1, 1).")
    return 1 - correlation**2


def _check_target(what: str, target: float, rule: Criterion) -> None:
    if not rule.level < target < 1:
        raise ConfigError(f"{what}: target is {target}; the power must lie between alpha and 1, such as 0.8.")


def _parts(outcome: Outcome, effect: float, rule: Criterion) -> tuple[float, float]:
    """Return the variances of the control's and the treatment's share in the effect, per unit of the arm."""
    if not rule.relative:
        return outcome.control_variance, outcome.variance_at(effect)
    if outcome.mean == 0:
        raise ConfigError("power: the mean of control is 0, so that relative effects do not exist. Use relative=False.")
    unit = outcome.mean**2
    return outcome.control_variance * (1 + effect) ** 2 / unit, outcome.variance_at(effect * outcome.mean) / unit


def _power(outcome: Outcome, effect: float, n: float, rule: Criterion) -> float:
    control, treatment = _parts(outcome, effect, rule)
    share = min(rule.shares[1:])
    arms = n * rule.shares[0], n * share
    if min(arms) < 2:
        return 0.0
    errors = control / arms[0], treatment / arms[1]
    if not sum(errors) > 0:
        return 1.0
    z = (effect + (rule.margin or 0.0)) / math.sqrt(sum(errors))
    if rule.sequential is not None:
        return _sequential_power(z, n, rule)
    df = sum(errors) ** 2 / (errors[0] ** 2 / (arms[0] - 1) + errors[1] ** 2 / (arms[1] - 1))  # Welch-Satterthwaite
    alpha = rule.level / rule.tails
    if outcome.proportion or df > EXACT_DF:
        bar = -float(ndtri(alpha))
        return float(ndtr(z - bar) + (ndtr(-z - bar) if rule.tails == 2 else 0.0))
    bar = -float(stdtrit(df, alpha))
    return float(1 - nctdtr(df, z, bar) + (nctdtr(df, z, -bar) if rule.tails == 2 else 0.0))


def _sequential_power(z: float, n: float, rule: Criterion) -> float:
    """Return the chance to cross the boundary in favour at any look; z is expected at the last one."""
    plan = rule.sequential
    if isinstance(plan, Design):
        bounds = boundaries(replace(plan, alpha=rule.level, sided=rule.tails))
        t, upper, lower = bounds.fraction, bounds.upper, bounds.lower
    else:
        assert plan is not None
        t = np.arange(1, plan.looks + 1) / plan.looks
        ratio = t * n * mixing_scale(rule.level, plan.tuning or n) ** 2
        upper = critical_value(ratio, rule.level, "two-sided" if rule.tails == 2 else "greater")
        lower = -upper if rule.tails == 2 else np.full(t.size, -np.inf)
    result = crossing(t, lower, upper, z / math.sqrt(t[-1]))
    return float(result.upper.sum() + (result.lower.sum() if rule.tails == 2 else 0.0))


def _normal_z(rule: Criterion, target: float) -> float:
    return float(ndtri(1 - rule.level / rule.tails) + ndtri(target))


def _size(outcome: Outcome, effect: float, rule: Criterion, target: float) -> float:
    """Return the total size, as a real number, with the target power."""
    control, treatment = _parts(outcome, effect, rule)
    per_unit = control / rule.shares[0] + treatment / min(rule.shares[1:])
    gap = effect + (rule.margin or 0.0)
    start = math.sqrt(per_unit * (_normal_z(rule, target) / gap) ** 2)
    least = math.sqrt(2 / min(rule.shares))  # two units in the smallest arm

    def missing(side: float) -> float:  # nearly a line in the root of n
        found = _power(outcome, effect, max(side, least) ** 2, rule)
        return float(ndtri(inside(found)) - ndtri(target)) + min(side - least, 0.0)

    if missing(least) >= 0:
        return least**2
    return max(root(missing, max(start, least), 1.1 * max(start, least), 1e-9), least) ** 2


def _effect(outcome: Outcome, n: float, rule: Criterion, target: float) -> float:
    margin = rule.margin or 0.0
    control, treatment = _parts(outcome, 0.0, rule)
    error = math.sqrt((control / rule.shares[0] + treatment / min(rule.shares[1:])) / n)
    start = _normal_z(rule, target) * error
    if n * min(rule.shares) < 2:
        raise DataError(f"minimum_effect: {n:g} units leave less than 2 in an arm. Give a larger size.")

    def missing(gap: float) -> float:
        found = _power(outcome, max(gap, 0.0) - margin, n, rule)
        return float(ndtri(inside(found)) - ndtri(target)) + min(gap, 0.0)

    gap = root(missing, start, 1.1 * start, 1e-10)
    largest = (1 - outcome.mean) / (outcome.mean if rule.relative else 1.0) if outcome.proportion else math.inf
    if gap - margin > largest:
        raise DataError(
            f"minimum_effect: with {n:g} units no possible effect on a rate of {outcome.mean:g} reaches power {target}."
        )
    return gap - margin
