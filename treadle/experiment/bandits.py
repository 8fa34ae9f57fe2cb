"""Bandits: traffic that follows the better arm, with the chances of each choice logged, and what can be inferred after.

One idea: a policy turns what is known of the arms into *propensities*, the chances with which the next unit gets each
arm; these are logged. Plain means per arm are biased, since an arm that starts badly is not given the traffic to
recover; estimates weighted by the logged propensities are not. `cost` says what the better traffic costs in certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from treadle.core import ConfigError, DataError

from .bayes import NormalPosterior, Posterior, chance_best, proportion_posterior

Array = np.ndarray[Any, Any]
Generator = np.random.Generator

WEIGHTINGS = ("stable", "uniform")


class ArmStats(NamedTuple):
    """What has been seen of the arms: numbers of units, and sums of their rewards [..., arms]."""

    units: Array
    total: Array

    @classmethod
    def empty(cls, *shape: int) -> ArmStats:
        """Return statistics of nothing, of shape [..., arms]."""
        return cls(np.zeros(shape), np.zeros(shape))

    def add(self, arm: Array, reward: Array) -> ArmStats:
        """Return the statistics with choices and rewards [..., units] added."""
        chosen: Array = arm[..., None] == np.arange(int(self.units.shape[-1]))
        return ArmStats(self.units + np.sum(chosen, axis=-2), self.total + np.sum(chosen * reward[..., None], axis=-2))

    @property
    def mean(self) -> Array:
        """Means per arm, 0 for arms not seen."""
        return self.total / np.maximum(self.units, 1)


class Policy(Protocol):
    """Turns what is known of the arms into the chances of each to be given next."""

    def propensities(self, stats: ArmStats) -> Array:
        """Return chances [..., arms] that sum to 1."""
        ...


@dataclass(frozen=True)
class ThompsonBernoulli:
    """Each arm with its chance to be the best, rewards being 0 or 1 and rates Beta(prior) (Thompson 1933).

    `floor` keeps every propensity at that much at least: without it, nothing can be inferred of arms given up.
    Raises ConfigError when the floor leaves no choice.
    """

    prior: tuple[float, float] = (1.0, 1.0)
    floor: float = 0.02

    def propensities(self, stats: ArmStats) -> Array:
        """Return chances [..., arms] that sum to 1."""
        return _floored(proportion_posterior(stats.total, stats.units, self.prior), self.floor)


@dataclass(frozen=True)
class ThompsonGaussian:
    """Each arm with its chance to be the best, rewards being N(mean, sd^2) and means N(prior mean, prior sd^2).

    `floor` as in `ThompsonBernoulli`. Raises ConfigError when sd or the floor is out of range.
    """

    sd: float
    prior_mean: float = 0.0
    prior_sd: float = 10.0
    floor: float = 0.02

    def __post_init__(self) -> None:
        if not (self.sd > 0 and self.prior_sd > 0):
            raise ConfigError(f"ThompsonGaussian: sd is {self.sd} and prior_sd {self.prior_sd}; both must be above 0.")

    def propensities(self, stats: ArmStats) -> Array:
        """Return chances [..., arms] that sum to 1."""
        precision = 1 / self.prior_sd**2 + stats.units / self.sd**2
        location = (self.prior_mean / self.prior_sd**2 + stats.total / self.sd**2) / precision
        return _floored(NormalPosterior(location, 1 / np.sqrt(precision)), self.floor)


@dataclass(frozen=True)
class EpsilonGreedy:
    """The arm with the best mean so far, but any arm at random with chance epsilon; ties and unseen arms share evenly.

    Raises ConfigError unless 0 < epsilon <= 1.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise ConfigError(f"EpsilonGreedy: epsilon is {self.epsilon}; it must be above 0 and at most 1.")

    def propensities(self, stats: ArmStats) -> Array:
        """Return chances [..., arms] that sum to 1."""
        value = np.where(stats.units > 0, stats.mean, np.inf)  # every arm is tried before one is the best
        best = value == value.max(axis=-1, keepdims=True)
        return self.epsilon / best.shape[-1] + (1 - self.epsilon) * best / best.sum(axis=-1, keepdims=True)


class BanditLog(NamedTuple):
    """What a bandit did: arms chosen and rewards [..., units], and the propensities of all arms [..., units, arms]."""

    arm: Array
    reward: Array
    propensity: Array


class ArmEstimates(NamedTuple):
    """Means of the arms [..., arms] with normal intervals."""

    value: Array
    standard_error: Array
    lower: Array
    upper: Array


class ArmContrast(NamedTuple):
    """The difference of two arms [...] with a normal interval."""

    effect: Array
    standard_error: Array
    lower: Array
    upper: Array
    p_value: Array


class BanditCost(NamedTuple):
    """What adapting cost in inference; arrays [..., arms]."""

    variance_ratio: Array  # of the estimate of each arm, over that of an even split of the same traffic
    effective_share: Array  # of the units that an even split would have needed for the same precision
    least_propensity: Array
    warning: str


def choose(propensity: Array, rng: Generator) -> Array:
    """Return arms [...] drawn with the propensities [..., arms]."""
    draw: Array = np.asarray(rng.random(tuple(propensity.shape[:-1])))
    passed = draw[..., None] >= np.cumsum(propensity, axis=-1)
    return np.minimum(np.sum(passed, axis=-1), int(propensity.shape[-1]) - 1)


def run(
    policy: Policy,
    reward: Callable[[Array, Generator], Array],
    *,
    arms: int,
    units: int,
    batch: int = 1,
    replicates: int | None = None,
    seed: int = 0,
) -> BanditLog:
    """Return the log of a simulated bandit; the policy learns after every batch of units.

    `reward` maps arms [..., batch] and a generator to rewards of that shape. Arrays have a leading axis of
    `replicates` unless that is None. Raises ConfigError when a number is not above 0.
    """
    if min(arms - 1, units, batch) < 1:
        raise ConfigError(
            f"run: arms is {arms}, units {units}, batch {batch}; give 2 arms or more, and 1 unit or more."
        )
    rng, lead = np.random.default_rng(seed), () if replicates is None else (replicates,)
    stats = ArmStats.empty(*lead, arms)
    parts: list[BanditLog] = []
    for start in range(0, units, batch):
        size = min(batch, units - start)
        chances = np.repeat(policy.propensities(stats)[..., None, :], size, axis=-2)
        arm = choose(chances, rng)
        gained = reward(arm, rng)
        stats = stats.add(arm, gained)
        parts.append(BanditLog(arm, gained, chances))
    return BanditLog(*(np.concatenate(field, axis=len(lead)) for field in zip(*parts, strict=True)))


def inverse_propensity(log: BanditLog, *, level: float = 0.95) -> ArmEstimates:
    """Return means of rewards weighted by one over the logged propensity: unbiased, wide (Horvitz & Thompson 1952).

    The interval is normal and, propensities changing with the rewards, only rough: prefer `adaptively_weighted`.
    Raises DataError on an inconsistent log.
    """
    chosen = _chosen(log)
    scores = chosen * log.reward[..., None] / log.propensity
    return _estimates(scores, np.ones_like(scores), level)


def adaptively_weighted(log: BanditLog, *, weighting: str = "stable", level: float = 0.95) -> ArmEstimates:
    """Return means per arm from doubly robust scores averaged with weights that keep the interval honest.

    Score of arm w at time t: m + 1{A = w} (Y - m) / e with m the mean of w before t and e the propensity. Weighting
    "stable" averages them with weights sqrt(e), which makes the estimate normal though e depends on the past (at the
    price of a bias small beside its error): Hadad,
    Hirshberg, Zhan, Wager & Athey, PNAS 2021, the constant allocation rate; needs propensities bounded from below, or
    falling slower than 1/t. "uniform" is the plain mean of scores: unbiased, but its interval is not valid where an arm
    is given up. Raises ConfigError for another weighting, DataError on an inconsistent log.
    """
    if weighting not in WEIGHTINGS:
        raise ConfigError(f"adaptively_weighted: weighting is {weighting!r}; allowed are {', '.join(WEIGHTINGS)}.")
    scores = _scores(log)
    return _estimates(scores, np.sqrt(log.propensity) if weighting == "stable" else np.ones_like(scores), level)


def contrast(log: BanditLog, treatment: int, control: int = 0, *, level: float = 0.95) -> ArmContrast:
    """Return the mean of arm `treatment` minus that of `control`, with an interval that allows for the adapting.

    Differences of the doubly robust scores, averaged with weights (1/e + 1/e')^(-1/2) of the two propensities, which
    hold the variance of the terms steady (Hadad et al. 2021, on contrasts). Raises DataError on an inconsistent log.
    """
    scores, e = _scores(log), log.propensity
    weight = 1 / np.sqrt(1 / e[..., [treatment]] + 1 / e[..., [control]])
    got = _estimates(scores[..., [treatment]] - scores[..., [control]], weight, level)
    p_value = 2 * ndtr(-np.abs(got.value) / got.standard_error)
    return ArmContrast(*(field[..., 0] for field in (*got, p_value)))


def cost(log: BanditLog) -> BanditCost:
    """Return what the adaptive split costs against an even one of the same traffic, and a warning that says so.

    With stable weights the variance of an arm's mean is s^2 T / (sum of sqrt e)^2, with an even split s^2 K / T.
    Raises DataError on an inconsistent log.
    """
    _chosen(log)
    units, arms = log.propensity.shape[-2:]
    ratio = units**2 / (arms * np.sum(np.sqrt(log.propensity), axis=-2) ** 2)
    least = log.propensity.min(axis=-2)
    worst = float(ratio.max())
    text = (
        "A bandit moves traffic to the arm that looks better, so the arms it gives up stay uncertain: the variance of "
        f"the least certain arm is {worst:.2f} times that of an even split, as if it had {1 / worst:.0%} of the units. "
        f"Propensities fell to {float(least.min()):.3f}. Plain means and t-tests are biased on this log; use "
        "adaptively_weighted. Where the effect must be known, or rewards come late or change over time, split evenly."
    )
    return BanditCost(ratio, 1 / ratio, least, text)


def _floored(posterior: Posterior, floor: float) -> Array:
    chance = chance_best(posterior)
    arms = chance.shape[-1]
    if not 0 <= floor * arms <= 1:
        raise ConfigError(f"Thompson: floor is {floor} for {arms} arms; it must lie between 0 and 1 / {arms}.")
    return floor + (1 - floor * arms) * chance


def _chosen(log: BanditLog) -> Array:
    """Return 1 where an arm was chosen [..., units, arms]; checks the log."""
    arms = int(log.propensity.shape[-1])
    if log.arm.shape != log.reward.shape or log.propensity.shape[:-1] != log.arm.shape:
        raise DataError(
            f"bandit log: arm has shape {log.arm.shape}, reward {log.reward.shape}, propensity {log.propensity.shape}; "
            "they must be [..., units], [..., units] and [..., units, arms]."
        )
    if np.any((log.arm < 0) | (log.arm >= arms)):
        raise DataError(
            f"bandit log: arms run from {log.arm.min()} to {log.arm.max()}, propensities are of {arms} arms."
        )
    off = np.abs(log.propensity.sum(axis=-1) - 1) > 1e-6
    never = ~(log.propensity > 0)
    if np.any(off) or np.any(never):
        raise DataError(
            f"bandit log: {int(np.sum(off))} rows of propensities do not sum to 1 and {int(np.sum(never))} "
            "propensities are not above 0. Log the chances with which arms were drawn, with a floor above 0."
        )
    chosen: Array = log.arm[..., None] == np.arange(arms)
    return np.asarray(chosen, dtype=np.float64)


def _scores(log: BanditLog) -> Array:
    """Return doubly robust scores [..., units, arms]; the model of an arm is its mean before the unit."""
    chosen, reward = _chosen(log), log.reward[..., None]
    seen, total = np.cumsum(chosen, axis=-2) - chosen, np.cumsum(chosen * reward, axis=-2) - chosen * reward
    model = total / np.maximum(seen, 1)
    return model + chosen * (reward - model) / log.propensity


def _estimates(scores: Array, weight: Array, level: float) -> ArmEstimates:
    share = weight / weight.sum(axis=-2, keepdims=True)
    value = np.sum(share * scores, axis=-2)
    se = np.sqrt(np.sum(np.square(share * (scores - value[..., None, :])), axis=-2))
    half = -float(ndtri((1 - level) / 2)) * se
    return ArmEstimates(value, se, value - half, value + half)
