"""How long an experiment must run, from history: who arrives when, how much values vary, what CUPED saves.

One idea: on day d an experiment has seen N(d) users, whose values so far have a mean and a variance; with those the
planner (`power.py`) answers for each day, and a duration is the first day whose answer is good enough. Users come
from an inflow of new ones and from a pool of regulars, who run out: the frequent ones are all seen in the first days.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from treadle.core import ConfigError, DataError

from .power import Criterion, Outcome, minimum_effect, power

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers

SCALES, SHAPES = 40, 24  # of the grid of activity distributions tried by the fit


@dataclass(frozen=True)
class ArrivalCurve:
    """Expected first visits by day: weekday x (inflow + pool x chance that a regular comes on this day first).

    A regular visits at a rate of their own, Gamma distributed, so the share not yet seen after d days is
    (1 + d / scale)^-shape (the Pareto of purchase models: Fader, Hardie & Lee 2005).
    """

    inflow: float  # users a day who were never there before
    pool: float  # regulars who would come in the end
    scale: float  # days
    shape: float
    weekday: tuple[float, ...]  # seven factors about 1; the first is that of day 1
    history: int  # days the fit has seen
    error: float  # root mean square relative error of the fit, by day

    def new_users(self, days: int) -> Array:
        """Return the users seen for the first time on days 1 to `days`."""
        return self.weekday_factors(days) * (self.inflow + self.pool * -np.diff(self.unseen(np.arange(days + 1))))

    def users(self, days: int) -> Array:
        """Return the distinct users seen up to each of the days 1 to `days`."""
        return np.cumsum(self.new_users(days))

    def returning_users(self, active: Sequence[float] | Array, days: int) -> Array:
        """Return the users of each day who came before, given active users a day of whole past weeks.

        Raises DataError when `active` is not whole weeks that begin on the weekday of day 1.
        """
        level = _counts("returning_users", active)
        if level.size % 7:
            raise DataError(
                f"returning_users: active has {level.size} days; give whole weeks, from day 1's weekday on."
            )
        profile = level.reshape(-1, 7).mean(axis=0)
        return np.maximum(profile[np.arange(days) % 7] - self.new_users(days), 0.0)

    def unseen(self, day: Numbers) -> Array:
        """Return the share of regulars not seen after so many days."""
        return np.power(1 + np.asarray(day, dtype=np.float64) / self.scale, -self.shape)

    def weekday_factors(self, days: int) -> Array:
        """Return the factor of each of the days 1 to `days`."""
        return np.asarray(self.weekday)[np.arange(days) % 7]


def fit_arrivals(
    new_users: Sequence[float] | Array, *, first_weekday: int = 0, start_weekday: int | None = None
) -> ArrivalCurve:
    """Return the arrival curve fitted to the users first seen on each day of a past window [days].

    A window is a rehearsal: count as new whom it has not seen before, though they may be regulars. Weekday factors are
    fitted from two weeks on. `first_weekday` is that of the window's first day (0 to 6, any numbering), `start_weekday`
    that of the experiment's first day (default: the same). Raises DataError with fewer than 7 days or bad counts.
    """
    seen = _counts("fit_arrivals", new_users)
    if seen.size < 7 or not seen.sum() > 0:
        raise DataError(f"fit_arrivals: {seen.size} days with {seen.sum():g} users; give at least 7 days with users.")
    factors, rounds = np.ones(7), 10 if seen.size >= 14 else 1
    day = np.arange(seen.size)
    inflow = pool = scale = shape = 0.0
    expected = seen
    for step in range(rounds):
        inflow, pool, scale, shape = _fit(seen, factors[day % 7])
        level = inflow + pool * -np.diff((1 + np.arange(seen.size + 1) / scale) ** -shape)
        expected = level * factors[day % 7]
        if step + 1 < rounds:
            factors = np.bincount(day % 7, seen / np.maximum(level, 1e-300), 7) / np.bincount(day % 7, minlength=7)
            factors /= factors.mean()
    shift = (0 if start_weekday is None else start_weekday - first_weekday) % 7
    error = float(np.sqrt(np.mean(np.square(seen / np.maximum(expected, 1e-300) - 1))))
    return ArrivalCurve(inflow, pool, scale, shape, tuple(np.roll(factors, -shift).tolist()), seen.size, error)


def backtest(new_users: Sequence[float] | Array, holdout: int) -> float:
    """Return the relative error of the forecast of users at the end, when the last `holdout` days are not shown."""
    seen = _counts("backtest", new_users)
    if not 0 < holdout < seen.size:
        raise ConfigError(f"backtest: holdout is {holdout} of {seen.size} days; keep at least 7 days for the fit.")
    forecast = fit_arrivals(seen[:-holdout]).users(seen.size)[-1]
    return float(forecast / seen.sum() - 1)


@dataclass(frozen=True)
class History:
    """What past windows say about a metric after d days, d = 1, 2, ...: sequences by day, or one number for all days.

    Args:
        arrivals: the curve of users.
        mean: mean per user seen so far of the metric accumulated so far.
        variance: its variance per user (of a ratio: the delta-method variance per user).
        correlation: of the metric with CUPED's covariate.
        proportion: whether the metric is a share of users.

    Means and variances beyond the last day go on as the power law of the later half of the history; correlations stay.
    Raises DataError when a sequence is empty, or a variance not above 0.
    """

    arrivals: ArrivalCurve
    mean: float | tuple[float, ...]
    variance: float | tuple[float, ...]
    correlation: float | tuple[float, ...] = 0.0
    proportion: bool = False

    def __post_init__(self) -> None:
        for field in ("mean", "variance", "correlation"):
            values = np.atleast_1d(np.asarray(getattr(self, field), dtype=np.float64))
            if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values)):
                raise DataError(f"History: {field} is {getattr(self, field)}; give a number or finite numbers by day.")
            if field == "variance" and not np.all(values > 0):
                raise DataError(f"History: variance falls to {values.min():g}; it must be above 0 on every day.")
            object.__setattr__(self, field, tuple(values.tolist()))  # a list would not be hashable

    def outcome(self, day: int) -> Outcome:
        """Return what the planner needs to know of the metric after so many days."""
        mean, variance = _by_day(self.mean, day), _by_day(self.variance, day)
        correlation = np.atleast_1d(self.correlation)
        kept = 1 - float(correlation[min(day, correlation.size) - 1]) ** 2
        if self.proportion:
            if not 0 < mean < 1:
                raise DataError(f"History: a proportion has the mean {mean:g} on day {day}; it must lie inside (0, 1).")
            variance = mean * (1 - mean)
        return Outcome(mean, variance * kept, variance * kept, self.proportion)


class DurationCurve(NamedTuple):
    """What an experiment can find by each day, as a table [days]."""

    day: Array
    users: Array  # in the experiment, all arms
    effect: Array  # minimum detectable effect, absolute
    relative_effect: Array  # the same as a share of the mean


class Duration(NamedTuple):
    """How long to run."""

    days: int
    users: int
    power: float
    effect: float  # the effect asked for, absolute on that day
    relative_effect: float


def effect_by_day(
    history: History, days: int, criterion: Criterion | None = None, *, traffic: float = 1.0, target: float = 0.8
) -> DurationCurve:
    """Return the minimum detectable effect of an experiment stopped on each of the days 1 to `days`.

    `traffic` is the share of users let into the experiment. Days with fewer than two users in an arm have infinity.
    Raises ConfigError when traffic is not in (0, 1].
    """
    rule, users = criterion or Criterion(), _enrolled(history, days, traffic)
    effects, means = np.full(days, np.inf), np.empty(days)
    for d in range(days):
        outcome = history.outcome(d + 1)
        means[d] = outcome.mean
        if users[d] * min(rule.shares) >= 2:
            effects[d] = _minimum(outcome, users[d], rule, target)
    absolute, relative = (effects * means, effects) if rule.relative else (effects, effects / means)
    return DurationCurve(np.arange(1, days + 1), users, absolute, relative)


def days_needed(
    history: History,
    relative_effect: float,
    criterion: Criterion | None = None,
    *,
    traffic: float = 1.0,
    target: float = 0.8,
    whole_weeks: bool = True,
    most: int = 182,
) -> Duration:
    """Return the first day on which an effect, a share of the metric's mean, is found with chance `target`.

    Whole weeks keep weekdays balanced; they are the default. Raises ConfigError when `most` days are too few, with the
    least effect that they would find, and when traffic is not in (0, 1].
    """
    rule, users = criterion or Criterion(), _enrolled(history, most, traffic)
    for day in range(7, most + 1, 7) if whole_weeks else range(1, most + 1):
        outcome = history.outcome(day)
        effect = relative_effect * (1.0 if rule.relative else outcome.mean)
        chance = float(power(outcome, effect, users[day - 1], rule))
        if chance >= target:
            return Duration(day, int(users[day - 1]), chance, relative_effect * outcome.mean, relative_effect)
    outcome = history.outcome(most)
    least = _minimum(outcome, users[-1], rule, target) / (1.0 if rule.relative else outcome.mean)
    raise ConfigError(
        f"days_needed: {most} days with {users[-1]:.0f} users do not find a relative effect of {relative_effect:g} "
        f"with power {target:g}; they find {least:.3g}. "
        "Ask for a larger effect, more traffic or days, or use a covariate."
    )


def _minimum(outcome: Outcome, users: float, rule: Criterion, target: float) -> float:
    try:
        return float(minimum_effect(outcome, users, rule, target=target))
    except DataError:  # no possible effect on a proportion is large enough, or there is nobody yet
        return float("inf")


def _enrolled(history: History, days: int, traffic: float) -> Array:
    if not 0 < traffic <= 1:
        raise ConfigError(f"duration: traffic is {traffic}; it is a share of users above 0 and at most 1.")
    if days < 1:
        raise ConfigError(f"duration: {days} days; give at least 1.")
    return history.arrivals.users(days) * traffic


def _counts(what: str, values: Sequence[float] | Array) -> Array:
    counts = np.asarray(values, dtype=np.float64)
    wrong = ~(np.isfinite(counts) & (counts >= 0))
    if counts.ndim != 1 or np.any(wrong):
        raise DataError(
            f"{what}: {int(wrong.sum())} of the counts by day, of shape {counts.shape}, are negative or not finite. "
            "Give one count of users a day."
        )
    return counts


def _fit(seen: Array, factor: Array) -> tuple[float, float, float, float]:
    """Return inflow, pool, scale and shape of least error, weighted as counts are: by one over their size.

    Given scale and shape, the model is linear in inflow and pool (variable projection, Golub & Pereyra 1973).
    """
    days = np.arange(seen.size + 1)
    scale, shape = np.meshgrid(np.geomspace(0.3, 4 * seen.size, SCALES), np.geomspace(0.2, 8, SHAPES), indexing="ij")
    arriving = -np.diff(np.power(1 + days / scale[..., None], -shape[..., None]), axis=-1) * factor
    weight = 1 / np.maximum(seen, 1.0)
    # Normal equations of the two columns, and of each alone where the other would be negative.
    aa, ab, bb = np.sum(weight * factor**2), arriving @ (weight * factor), np.square(arriving) @ weight
    ay, by = np.sum(weight * factor * seen), arriving @ (weight * seen)
    determinant = aa * bb - ab**2
    with np.errstate(divide="ignore", invalid="ignore"):
        both = np.stack([(bb * ay - ab * by) / determinant, (aa * by - ab * ay) / determinant])
        alone = [np.stack([np.full_like(bb, ay / aa), np.zeros_like(bb)]), np.stack([np.zeros_like(bb), by / bb])]
    best = (np.inf, (0.0, 0.0, 1.0, 1.0))
    for inflow, pool in (both, *alone):
        loss = inflow**2 * aa + 2 * inflow * pool * ab + pool**2 * bb - 2 * (inflow * ay + pool * by)
        loss = np.where((inflow >= 0) & (pool >= 0) & (determinant > 1e-9 * aa * bb), loss, np.inf)
        at = np.unravel_index(int(np.argmin(loss)), loss.shape)
        if loss[at] < best[0]:
            best = (float(loss[at]), (float(inflow[at]), float(pool[at]), float(scale[at]), float(shape[at])))
    return best[1]


def _by_day(values: float | tuple[float, ...], day: int) -> float:
    """Return the value after so many days: as seen, or beyond that by the power law of the later half."""
    series = np.atleast_1d(np.asarray(values, dtype=np.float64))
    if series.size == 1 or day <= series.size:
        return float(series[min(day, series.size) - 1])
    half = series.size // 2
    x, y = np.log(np.arange(half, series.size) + 1), series[half:]
    if np.any(y <= 0) or y.size < 2:
        return float(series[-1])
    slope = np.sum((x - x.mean()) * (np.log(y) - np.log(y).mean())) / np.sum((x - x.mean()) ** 2)
    return float(series[-1] * (day / series.size) ** slope)
