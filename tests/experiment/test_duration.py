"""Durations: arrival curves from counts, forecasts on days not shown, and days that agree with the planner."""

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.duration import (
    ArrivalCurve,
    History,
    backtest,
    days_needed,
    effect_by_day,
    fit_arrivals,
)
from treadle.experiment.power import Criterion, mean_outcome, minimum_effect, sample_size

TRUE = ArrivalCurve(300.0, 50_000.0, 4.0, 0.8, (1.1, 1.05, 1.0, 1.0, 0.95, 0.9, 1.0), 0, 0.0)
FLAT = ArrivalCurve(1000.0, 0.0, 1.0, 1.0, (1.0,) * 7, 28, 0.0)


def test_a_curve_without_noise_is_found_again() -> None:
    got = fit_arrivals(TRUE.new_users(28))
    assert got.error < 0.02
    np.testing.assert_allclose(got.weekday, TRUE.weekday, atol=0.02)
    np.testing.assert_allclose(got.users(90)[[29, 59, 89]], TRUE.users(90)[[29, 59, 89]], rtol=0.03)


def test_counts_of_simulated_visitors() -> None:
    rng = np.random.default_rng(1)
    rate = rng.gamma(0.8, 1 / 4.0, 50_000)  # visits a day of each regular
    first = rng.exponential(1 / rate)
    counts = np.histogram(first, np.arange(0, 64))[0] + rng.poisson(300, 63)
    forecast = fit_arrivals(counts[:21]).users(63)[-1]
    assert forecast == pytest.approx(counts.sum(), rel=0.05)
    assert abs(backtest(counts, 42)) < 0.05
    # A straight line through the first three weeks is far off: the regulars run out.
    assert counts[:21].mean() * 63 > 1.5 * counts.sum()


def test_inflow_alone_and_pool_alone() -> None:
    constant = fit_arrivals([500.0] * 14)
    assert constant.users(100)[-1] == pytest.approx(50_000, rel=0.05)
    fading = fit_arrivals(10_000 * 0.5 ** np.arange(14))
    assert fading.users(200)[-1] < 22_000


def test_the_weekday_of_the_start_turns_the_week() -> None:
    counts = np.tile([700.0, 100, 100, 100, 100, 100, 100], 4)
    assert int(np.argmax(fit_arrivals(counts, first_weekday=0, start_weekday=3).new_users(7))) == 4
    assert int(np.argmax(fit_arrivals(counts).new_users(7))) == 0


def test_returning_users_are_the_active_ones_who_are_not_new() -> None:
    active = [1500.0] * 14
    np.testing.assert_allclose(FLAT.returning_users(active, 3), 500)


def test_days_agree_with_the_planner() -> None:
    history = History(FLAT, mean=10.0, variance=400.0)
    needed = sample_size(mean_outcome(10.0, 20.0), 0.5).total
    got = days_needed(history, 0.05, whole_weeks=False)
    assert got.days == int(np.ceil(needed / 1000))
    assert got.power >= 0.8
    assert days_needed(history, 0.05, whole_weeks=False, traffic=0.5).days == int(np.ceil(needed / 500))
    weeks = days_needed(history, 0.05)
    assert weeks.days % 7 == 0
    assert 0 <= weeks.days - got.days < 7


def test_a_covariate_shortens_and_a_growing_variance_lengthens() -> None:
    plain = days_needed(History(FLAT, 10.0, 400.0), 0.03, whole_weeks=False).days
    cuped = days_needed(History(FLAT, 10.0, 400.0, correlation=0.7), 0.03, whole_weeks=False).days
    assert cuped / plain == pytest.approx(0.51, abs=0.03)
    growing = History(FLAT, 10.0, tuple(400.0 * np.arange(1, 15) ** 0.3))
    assert (
        days_needed(growing, 0.06, whole_weeks=False).days
        > days_needed(History(FLAT, 10.0, 400.0), 0.06, whole_weeks=False).days
    )


def test_series_go_on_by_their_power_law() -> None:
    history = History(FLAT, tuple(2.0 * np.arange(1, 15)), tuple(3.0 * np.arange(1, 15) ** 1.5), (0.5, 0.6))
    outcome = history.outcome(56)
    assert outcome.mean == pytest.approx(112.0)
    assert outcome.control_variance == pytest.approx(3.0 * 56**1.5 * (1 - 0.36))
    assert history.outcome(1).control_variance == pytest.approx(3.0 * 0.75)


def test_the_curve_of_effects_by_day() -> None:
    history = History(FLAT, mean=10.0, variance=400.0)
    got = effect_by_day(history, 30, traffic=0.5)
    assert got.day.tolist() == list(range(1, 31))
    assert got.effect[9] == pytest.approx(float(minimum_effect(mean_outcome(10.0, 20.0), 5000)), rel=1e-9)
    np.testing.assert_allclose(got.relative_effect, got.effect / 10)
    assert np.all(np.diff(got.effect) < 0)
    share = effect_by_day(history, 30, Criterion(relative=True), traffic=0.5)
    np.testing.assert_allclose(share.effect, share.relative_effect * 10)


def test_proportions_take_their_variance_from_the_mean() -> None:
    history = History(FLAT, mean=(0.05, 0.08, 0.1), variance=1.0, proportion=True)
    assert history.outcome(2).control_variance == pytest.approx(0.08 * 0.92)
    tiny = ArrivalCurve(3.0, 0.0, 1.0, 1.0, (1.0,) * 7, 28, 0.0)
    assert np.isinf(effect_by_day(History(tiny, 0.9, 1.0, proportion=True), 2).effect).all()


def test_errors() -> None:
    history = History(FLAT, mean=10.0, variance=400.0)
    with pytest.raises(ConfigError, match=r"14 days with 14000 users do not find .* 0.001 .* they find 0.0947"):
        days_needed(history, 0.001, most=14)
    with pytest.raises(ConfigError, match=r"traffic is 2; it is a share"):
        effect_by_day(history, 3, traffic=2)
    with pytest.raises(ConfigError, match=r"0 days; give at least 1"):
        effect_by_day(history, 0)
    with pytest.raises(DataError, match=r"3 days with 30 users; give at least 7 days"):
        fit_arrivals([10, 10, 10])
    with pytest.raises(DataError, match=r"1 of the counts by day, of shape \(7,\), are negative"):
        fit_arrivals([10, -1, 10, 10, 10, 10, 10])
    with pytest.raises(ConfigError, match=r"holdout is 9 of 9 days"):
        backtest([1.0] * 9, 9)
    with pytest.raises(DataError, match=r"variance falls to 0; it must be above 0"):
        History(FLAT, 1.0, (1.0, 0.0))
    with pytest.raises(DataError, match=r"mean is \(\); give a number"):
        History(FLAT, (), 1.0)
    with pytest.raises(DataError, match=r"a proportion has the mean 1.2 on day 1"):
        History(FLAT, 1.2, 1.0, proportion=True).outcome(1)
    with pytest.raises(DataError, match=r"active has 5 days; give whole weeks"):
        FLAT.returning_users([1.0] * 5, 3)
