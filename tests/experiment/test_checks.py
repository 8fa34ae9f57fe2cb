"""Validity checks: each finds the fault it is made for, says its figures, and is silent on healthy data."""

import numpy as np
import pytest
import scipy.stats

from tests.experiment.checked import findings, statuses
from treadle.core import ConfigError, DataError
from treadle.experiment.checks import (
    assignment_drift,
    carry_over,
    covariate_balance,
    exposure_mismatch,
    exposure_table,
    layer_interaction,
    novelty,
    outlier_leverage,
    peeking,
    pre_period,
    sample_ratio,
    sample_ratio_by,
    sample_ratio_over_time,
)
from treadle.experiment.checks.peeking import naive_error
from treadle.experiment.effects import difference
from treadle.experiment.estimates import estimate_mean
from treadle.experiment.moments import Moments
from treadle.experiment.simulate import Faults, Simulation, simulate
from treadle.experiment.spec import Stopping


def rows(name: str, *arms: np.ndarray) -> list[Moments]:
    return [Moments.from_rows({name: arm}) for arm in arms]


# ---- all together ----------------------------------------------------------------------------------------------------


def test_healthy_data_pass_every_check():
    found = findings(simulate(Simulation(units=8000), 3), 3)
    assert {f.name: f.status for f in found if f.status != "pass"} == {}
    assert len({f.name for f in found}) == len(found)
    for each in found:
        assert each.why
        assert each.action
        assert each.found.endswith(".")


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (Faults(srm=0.1), {"sample ratio": "block", "covariate balance": "block", "pre-period A/A": "block"}),
        (Faults(carry_over=0.3), {"carry-over": "block"}),
        (Faults(novelty=1.5), {"novelty": "warn"}),
    ],
)
def test_planted_faults_are_found(fault: Faults, caught: dict[str, str]):
    found = statuses(simulate(Simulation(units=20_000, faults=fault), 5), 5)
    assert {name: found[name] for name in caught} == caught


@pytest.mark.slow
def test_false_alarms_of_all_checks_together():
    seeds = 400
    table = [findings(simulate(Simulation(units=5000, lift=0.05), seed), seed) for seed in range(seeds)]
    warned = np.mean([any(f.status != "pass" for f in found) for found in table])
    blocked = np.mean([any(f.status == "block" for f in found) for found in table])
    # A dozen checks at 1 % and 0.1 %, some of them correlated.
    assert blocked <= 0.02, blocked
    assert warned <= 0.14, warned
    each = {f.name: np.mean([row[i].status != "pass" for row in table]) for i, f in enumerate(table[0])}
    assert max(each.values()) <= 0.03, each


# ---- sample ratio ----------------------------------------------------------------------------------------------------


def test_sample_ratio_is_the_chi_squared_test():
    found = sample_ratio([10_000, 10_350], arms=["A", "B"])
    assert found.evidence["pvalue"] == pytest.approx(scipy.stats.chisquare([10_000, 10_350]).pvalue, rel=1e-12)
    assert found.status == "pass"
    assert "A 10,000 (49.14%, planned 50.00%)" in found.found
    assert sample_ratio([505_000, 495_000]).status == "block"
    assert sample_ratio([500_000, 251_000], [2, 1]).status == "pass"
    assert sample_ratio([500_000, 251_600], [2, 1]).status == "warn"


@pytest.mark.slow
def test_sample_ratio_finds_half_a_per_cent_in_a_million():
    rng = np.random.default_rng(0)
    counts = [rng.binomial(1_000_000, share, 20_000) for share in (0.5, 0.505)]
    alarms = [np.array([sample_ratio([k, 1_000_000 - k]).status for k in row]) for row in counts]
    assert (alarms[1] == "block").mean() > 0.999
    # At 1 % false alarms: warnings and blocks.
    assert abs((alarms[0] != "pass").mean() - 0.01) < 3.3 * np.sqrt(0.01 * 0.99 / 20_000)
    assert (alarms[0] == "block").mean() < 0.002


def test_sample_ratio_by_day_finds_the_bad_day_and_joins_small_groups():
    counts = np.array([[500, 510], [700, 500], [505, 498], [3, 2], [4, 4]])
    found = sample_ratio_by("day", ["mon", "tue", "wed", "thu", "fri"], counts)
    assert found.status == "block"
    assert found.found.startswith("1 of 4 groups by day are off: tue: 700, 500 (p = ")
    assert found.evidence["labels"] == ["mon", "tue", "wed", "(small groups)"]
    raw = scipy.stats.chisquare([700, 500]).pvalue
    assert min(found.evidence["adjusted_pvalues"]) == pytest.approx(4 * raw, rel=1e-9)
    few = sample_ratio_by("day", ["mon", "tue"], [[3, 1], [1, 2]])
    assert few.status == "pass"
    assert "2 groups of 7 units are too small to test" in few.found


def test_sample_ratio_over_time():
    healthy = np.cumsum(np.full((20, 2), 500), 0)
    assert sample_ratio_over_time(healthy).status == "pass"
    late = healthy.copy()
    late[10:, 1] -= np.cumsum(np.full(10, 80))
    found = sample_ratio_over_time(late)
    assert found.status == "block"
    assert found.evidence["first"] > 9
    assert f"off since look {found.evidence['first'] + 1} of 20" in found.found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_ratio([[1, 2]]), "counts have shape"),
        (lambda: sample_ratio([5, 5], arms=["one"]), "1 names for 2 arms"),
        (lambda: sample_ratio_by("day", ["x"], [[1, 2], [3, 4]]), "1 labels for 2 groups"),
        (lambda: sample_ratio_over_time([[5, 5], [4, 6]]), "cumulative"),
        (lambda: exposure_table([0, 5], [0, 1], 2), "1 values of assigned are no arm, such as 5"),
        (lambda: exposure_mismatch(np.ones((2, 2))), r"the table has shape \(2, 2\)"),
        (lambda: assignment_drift([0, 1], [0]), "give \\[n\\] of the same units"),
        (lambda: pre_period({}), "there are no effects"),
        (lambda: covariate_balance([], ["x"]), "0 arms and 1 covariates"),
        (lambda: novelty([1, 2], [1, 2, 3]), "effects \\(2,\\), covariance \\(3,\\)"),
        (lambda: novelty([1, 2, 3, 4], [1, 2, 0, 1]), "a variance not positive"),
        (lambda: outlier_leverage([1.0], [2.0, 3.0]), "give \\[n\\] of 2 or more"),
        (lambda: layer_interaction(rows("v", np.arange(3.0))[0], "v"), "two or more arms each"),
    ],
)
def test_bad_input_is_an_error(call, message: str):
    with pytest.raises(DataError, match=message):
        call()


# ---- balance ---------------------------------------------------------------------------------------------------------


def test_pre_period_adjusts_for_the_number_of_metrics():
    rng = np.random.default_rng(1)
    arms = [rng.normal(0, 1, 2000) for _ in range(2)]
    effect = difference(*(estimate_mean(m, "v") for m in rows("v", *arms)))
    off = difference(*(estimate_mean(m, "v") for m in rows("v", arms[0], arms[1] + 0.2)))
    found = pre_period({"a": effect, "b": off, "c": effect})
    assert found.status == "block"
    assert found.evidence["pvalue"] == pytest.approx(3 * off.pvalue, rel=1e-9)
    assert found.found.startswith("Effects where there can be none: b +0.")
    assert pre_period({"a": effect}).status == "pass"


def test_covariate_balance_is_hotellings_test():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 3)), rng.normal(size=(200, 3))
    x[:, 1] += x[:, 0]
    y[:, 1] += y[:, 0]
    names = ["a", "b", "c"]
    arms = [Moments.from_rows(dict(zip(names, z.T, strict=True))) for z in (x, y)]
    pooled = (299 * np.cov(x.T) + 199 * np.cov(y.T)) / 498
    d = y.mean(0) - x.mean(0)
    t2 = 300 * 200 / 500 * d @ np.linalg.solve(pooled, d)
    wanted = scipy.stats.f.sf(t2 * (500 - 3 - 1) / (498 * 3), 3, 496)
    found = covariate_balance(arms, names)
    assert found.evidence["pvalue"] == pytest.approx(wanted, rel=1e-9)
    assert np.ravel(found.evidence["differences"]) == pytest.approx(d / np.sqrt(np.diag(pooled)), rel=1e-12)


def test_covariate_balance_leaves_out_constants_and_copies():
    rng = np.random.default_rng(3)
    made = [{"a": v, "b": 2 * v, "c": np.ones(100)} for v in rng.normal(size=(2, 100))]
    arms = [Moments.from_rows(columns) for columns in made]
    full, alone = covariate_balance(arms, ["a", "b", "c"]), covariate_balance(arms, ["a"])
    assert full.evidence["pvalue"] == pytest.approx(alone.evidence["pvalue"], rel=1e-6)
    assert covariate_balance(arms, ["c"]).status == "pass"
    shifted = [arms[0], Moments.from_rows({**made[1], "a": made[1]["a"] + 1})]
    assert covariate_balance(shifted, ["a"]).status == "block"


# ---- exposure and assignment -----------------------------------------------------------------------------------------


def test_exposure_table_counts_all_units():
    table = exposure_table([0, 0, 1, 1, -1, 1], [0, -1, 1, 0, 1, 1], 2)
    assert table.tolist() == [[1, 0, 1], [1, 2, 0], [0, 1, 0]]


def test_exposure_at_different_rates_blocks_and_strangers_are_counted():
    even = exposure_mismatch([[900, 0, 100], [0, 905, 95], [0, 0, 0]])
    assert even.status == "pass"
    uneven = exposure_mismatch([[9000, 0, 1000], [0, 8700, 1300], [0, 0, 0]])
    assert uneven.status == "block"
    wanted = scipy.stats.chi2_contingency([[9000, 1000], [8700, 1300]], correction=False).pvalue
    assert uneven.evidence["pvalue"] == pytest.approx(wanted, rel=1e-9)
    few = exposure_mismatch([[9000, 2, 1000], [1, 9000, 1000], [1, 0, 0]])
    assert few.status == "warn"
    assert "3 units saw another arm than theirs and 1 none was assigned to" in few.found
    assert exposure_mismatch([[9000, 20, 1000], [0, 9000, 1000], [0, 0, 0]]).status == "block"


def test_assignment_drift_names_units():
    logged = np.zeros(10_000, int)
    assert assignment_drift(logged, logged).status == "pass"
    expected = logged.copy()
    expected[[7, 9]] = 1
    found = assignment_drift(logged, expected, units=[f"u{i}" for i in range(10_000)])
    assert found.status == "warn"
    assert "2 of 10,000 units (0.020%)" in found.found
    assert "u7: 0 for 1; u9: 0 for 1" in found.found
    expected[:20] = 1
    assert assignment_drift(logged, expected).status == "block"


# ---- other experiments -----------------------------------------------------------------------------------------------


def crossed(effects: list[list[float]], sizes: list[list[int]], seed: int = 0) -> Moments:
    rng = np.random.default_rng(seed)
    cell = np.repeat(np.arange(4), np.ravel(sizes))
    return Moments.from_rows({"v": rng.normal(size=cell.size) + np.ravel(effects)[cell]}, cell, (2, 2))


def test_carry_over_needs_uneven_arms():
    even = carry_over(crossed([[0, 0], [0.5, 0.5]], [[1000, 1000], [1000, 1000]]), "v")
    assert even.status == "pass"
    assert "in today's control they differ by +0.5" in even.found.replace("+0.4", "+0.5")
    uneven = carry_over(crossed([[0, 0], [0, 0]], [[1200, 1000], [1000, 1200]]), "v")
    assert uneven.status == "block"
    wanted = scipy.stats.chi2_contingency([[1200, 1000], [1000, 1200]], correction=False).pvalue
    assert uneven.evidence["pvalue"] == pytest.approx(wanted, rel=1e-9)
    assert carry_over(crossed([[0, 0], [0, 0]], [[1000, 0], [0, 1000]]), "v").status == "block"


def test_interaction_warns_and_blocks_when_the_sign_turns():
    sizes = [[2000, 2000], [2000, 2000]]
    assert layer_interaction(crossed([[0, 0.2], [0.3, 0.5]], sizes), "v").status == "pass"
    grows = layer_interaction(crossed([[0, 0], [0.1, 0.5]], sizes), "v")
    assert grows.status == "warn"
    assert grows.evidence["interaction"] == pytest.approx(0.4, abs=0.15)
    assert layer_interaction(crossed([[0, 0], [-0.3, 0.3]], sizes), "v").status == "block"


# ---- the effect itself -----------------------------------------------------------------------------------------------


def test_novelty_is_a_weighted_line():
    days, variance = np.arange(6.0), np.linspace(0.5, 1.5, 6)
    effect = np.array([3.0, 2.4, 2.2, 1.3, 1.2, 0.4])
    slope, cov = np.polyfit(days, effect, 1, w=1 / np.sqrt(variance), cov="unscaled")
    found = novelty(effect, variance)
    assert found.evidence["slope"] == pytest.approx(slope[0], rel=1e-9)
    assert found.evidence["standard_error"] == pytest.approx(np.sqrt(cov[0, 0]), rel=1e-9)
    assert novelty(effect, variance / 20).status == "warn"
    assert "novelty: it fades" in novelty(effect, variance / 20).found
    assert "primacy: it grows" in novelty(effect[::-1], variance / 20).found
    # What all days have in common says nothing about a slope.
    shared = novelty(effect, np.diag(variance) + 100.0)
    assert shared.evidence["standard_error"] == pytest.approx(found.evidence["standard_error"], rel=1e-9)
    assert "too few" in novelty(effect[:3], variance[:3]).found


def test_outliers_that_make_an_effect():
    rng = np.random.default_rng(4)
    x, y = rng.gamma(2.0, size=5000), rng.gamma(2.0, size=5000)
    assert outlier_leverage(x, y).status == "pass"
    y[17] += 2000
    found = outlier_leverage(x, y, "revenue")
    assert found.status == "block"
    assert found.evidence["top_units"]["treatment"][0] == 17
    variance = x.var(ddof=1) / x.size + y.var(ddof=1) / y.size
    own = (y[17] - y.mean()) ** 2 / 5000 / 4999
    assert found.evidence["largest_share"] == pytest.approx(own / variance, rel=1e-9)
    y[17] -= 2000
    y[:20] += 100
    several = outlier_leverage(x, y, top=0.01)
    assert several.status == "warn"
    assert several.evidence["largest_share"] < 0.1
    assert several.evidence["winsorised"] < several.evidence["effect"] / 2


def test_peeking_depends_on_the_rule():
    fixed = Stopping()
    assert peeking([], fixed, stopped=False).status == "pass"
    assert peeking([1.0], fixed, stopped=True).status == "pass"
    assert peeking([0.2, 1.0], fixed, stopped=True).status == "warn"
    found = peeking([0.2, 0.4], fixed, stopped=True)
    assert found.status == "block"
    assert "(at 20%, 40% of the sample); the experiment was stopped at one of them" in found.found
    planned = Stopping("group-sequential", looks=(0.5, 1.0), spending="obrien-fleming")
    assert peeking([0.48, 1.01], planned, stopped=True).status == "pass"
    assert peeking([0.3, 0.5], planned, stopped=True).status == "warn"
    assert peeking([0.3], planned, stopped=True).status == "block"
    assert peeking([0.1, 0.2, 0.3], Stopping("always-valid"), stopped=True).status == "pass"
    with pytest.raises(ConfigError):
        peeking([0.4, 0.2], fixed, stopped=False)


def test_the_price_of_peeking():
    # Armitage, McPherson and Rowe 1969, table 2: 5 and 10 looks at 5 %.
    assert naive_error(np.arange(1, 6) / 5) == pytest.approx(0.142, abs=5e-4)
    assert naive_error(np.arange(1, 11) / 10) == pytest.approx(0.193, abs=5e-4)
