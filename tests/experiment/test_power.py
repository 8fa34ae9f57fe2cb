"""Power, sample size and minimum detectable effect against statsmodels, closed forms and simulation."""

import math

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.group_sequential import Design, characteristics
from treadle.experiment.power import (
    AlwaysValidPlan,
    Criterion,
    Outcome,
    effect_curve,
    mean_outcome,
    minimum_effect,
    power,
    power_curve,
    proportion_outcome,
    ratio_outcome,
    sample_size,
)

# statsmodels 0.15, TTestIndPower().solve_power(effect size, alpha 0.05, power, ratio, alternative): units of arm 1.
T_TESTS = [
    (0.5, 0.8, 1.0, 2, 63.7656),
    (0.2, 0.9, 1.0, 2, 526.3332),
    (0.05, 0.8, 1.0, 2, 6280.0489),
    (0.8, 0.8, 1.0, 2, 25.5246),
    (0.3, 0.8, 1.0, 1, 138.0716),
    (0.2, 0.8, 3.0, 2, 262.1097),
    (0.4, 0.9, 0.5, 1, 161.4821),
]
# NormalIndPower with Cohen's h.
PROPORTIONS = [
    (0.1, 0.11, 0.8, 14744.1),
    (0.02, 0.022, 0.9, 107950.6),
    (0.5, 0.52, 0.8, 9805.84),
    (0.25, 0.3, 0.8, 1249.58),
]


@pytest.mark.parametrize(("effect", "target", "ratio", "sided", "wanted"), T_TESTS)
def test_sizes_of_t_tests(effect: float, target: float, ratio: float, sided: int, wanted: float) -> None:
    got = sample_size(mean_outcome(1.0, 1.0), effect, Criterion(sided=sided, weights=(1.0, ratio)), target=target)
    assert got.per_arm[0] == pytest.approx(wanted, rel=0.02, abs=1)
    if ratio == 1:
        assert got.per_arm[0] == math.ceil(wanted)


@pytest.mark.parametrize(("p", "q", "target", "wanted"), PROPORTIONS)
def test_sizes_of_proportions(p: float, q: float, target: float, wanted: float) -> None:
    got = sample_size(proportion_outcome(p), q - p, target=target)
    assert got.per_arm[0] == pytest.approx(wanted, rel=0.02)


def test_against_statsmodels_itself() -> None:
    smp = pytest.importorskip("statsmodels.stats.power")
    rng = np.random.default_rng(1)
    for _ in range(20):
        d, target, ratio = rng.uniform(0.05, 0.6), rng.uniform(0.6, 0.95), rng.uniform(0.5, 2)
        wanted = smp.TTestIndPower().solve_power(d, None, 0.05, target, ratio)
        got = sample_size(mean_outcome(0.0, 1.0), d, Criterion(weights=(1.0, ratio)), target=target)
        assert abs(got.per_arm[0] - wanted) <= max(0.02 * wanted, 1.5)  # small samples are rounded up


def test_the_normal_closed_form() -> None:
    n = 2 * (1.959963984540054 + 0.8416212335729143) ** 2 * 2 * 10.0**2 / 0.05**2
    assert sample_size(mean_outcome(10.0, 10.0), 0.05).total == pytest.approx(n, rel=1e-5)
    assert minimum_effect(mean_outcome(10.0, 10.0), n) == pytest.approx(0.05, rel=1e-5)


def test_the_three_functions_are_one() -> None:
    rules = [
        Criterion(),
        Criterion(sided=1, weights=(2, 1, 1)),
        Criterion(margin=0.02),
        Criterion(relative=True),
        Criterion(sequential=Design(4)),
        Criterion(sequential=AlwaysValidPlan(10)),
    ]
    for outcome in (mean_outcome(2.0, 1.5), proportion_outcome(0.2), ratio_outcome(0.6, 3.0, 0.7, 4.0, 0.9)):
        for rule in rules:
            got = sample_size(outcome, 0.03, rule, target=0.85)
            assert got.power == pytest.approx(0.85, abs=2e-3)
            assert got.power >= 0.85 - 1e-9
            assert minimum_effect(outcome, got.total, rule, target=0.85) == pytest.approx(0.03, rel=5e-3)


def test_cuped_saves_the_square_of_the_correlation() -> None:
    plain, cuped = (sample_size(mean_outcome(5.0, 3.0, correlation=r), 0.02).total for r in (0.0, 0.7))
    assert cuped / plain == pytest.approx(1 - 0.49, rel=1e-4)
    plain, cuped = (sample_size(proportion_outcome(0.3, correlation=r), 0.01).total for r in (0.0, 0.5))
    assert cuped / plain == pytest.approx(0.75, rel=1e-3)


def test_unequal_weights_cost_what_they_should() -> None:
    even = sample_size(mean_outcome(5.0, 3.0), 0.02).total
    uneven = sample_size(mean_outcome(5.0, 3.0), 0.02, Criterion(weights=(9, 1)))
    assert uneven.total / even == pytest.approx(1 / (4 * 0.9 * 0.1), rel=1e-4)
    assert uneven.per_arm[0] / uneven.per_arm[1] == pytest.approx(9, rel=1e-3)


def test_several_variants_split_alpha() -> None:
    three = sample_size(mean_outcome(5.0, 3.0), 0.05, Criterion(weights=(1, 1, 1)))
    pair = sample_size(mean_outcome(5.0, 3.0), 0.05, Criterion(alpha=0.025))
    assert three.per_arm == (pair.per_arm[0],) * 3
    loose = sample_size(mean_outcome(5.0, 3.0), 0.05, Criterion(weights=(1, 1, 1), correction="none"))
    assert loose.per_arm[0] == sample_size(mean_outcome(5.0, 3.0), 0.05).per_arm[0]


def test_non_inferiority() -> None:
    # n per arm = 2 (z_0.95 + z_0.8)^2 sd^2 / margin^2 with no true effect.
    got = sample_size(mean_outcome(5.0, 3.0), 0.0, Criterion(margin=0.1))
    assert got.per_arm[0] == pytest.approx(2 * (1.6448536 + 0.8416212) ** 2 * 9 / 0.01, rel=2e-4)
    worse = sample_size(mean_outcome(5.0, 3.0), -0.05, Criterion(margin=0.1))
    assert worse.total / got.total == pytest.approx(4, rel=1e-3)


def test_relative_effects_of_a_certain_baseline_are_absolute_ones() -> None:
    outcome = Outcome(4.0, 1e-12, 9.0)  # only the treatment varies, so that the ratio is the difference over 4
    relative = sample_size(outcome, 0.02, Criterion(relative=True)).total
    assert relative == pytest.approx(sample_size(outcome, 0.08).total, rel=1e-6)


def test_sequential_sizes_are_fixed_sizes_times_the_inflation() -> None:
    design = Design(5, boundary="pocock")
    got = sample_size(mean_outcome(5.0, 3.0), 0.02, Criterion(sequential=design))
    assert got.inflation == pytest.approx(characteristics(design).inflation, rel=1e-4)
    assert got.inflation == pytest.approx(1.228, abs=1e-3)


def test_always_valid_costs_more_than_planned_looks() -> None:
    outcome = mean_outcome(5.0, 3.0)
    always = sample_size(outcome, 0.02, Criterion(sequential=AlwaysValidPlan(20))).inflation
    planned = sample_size(outcome, 0.02, Criterion(sequential=Design(20))).inflation
    assert 1 < planned < 1.1 < always < 2.2


def test_curves_are_tables() -> None:
    outcome = proportion_outcome(0.1)
    table = power_curve(outcome, [0.005, 0.01], [1e4, 2e4, 4e4])
    assert table.power.shape == (3, 2)
    assert np.all(np.diff(table.power, axis=0) > 0)
    assert np.all(np.diff(table.power, axis=1) > 0)
    assert table.power[1, 1] == power(outcome, 0.01, 2e4)
    curve = effect_curve(mean_outcome(1.0, 1.0), [1e4, 4e4])
    assert curve.effect[0] / curve.effect[1] == pytest.approx(2, rel=1e-4)


def test_the_power_of_no_effect_is_alpha() -> None:
    for rule in (Criterion(), Criterion(sided=1), Criterion(sequential=Design(6))):
        assert power(mean_outcome(1.0, 1.0), 0.0, 100, rule) == pytest.approx(0.05, abs=1e-6)


def simulated(draw: object, rule: Criterion, n: tuple[int, ...], replicates: int = 20_000) -> float:
    """Return the share of simulated two-arm experiments that find the effect with Welch's test at one look."""
    from scipy.stats import t

    rng, found = np.random.default_rng(3), 0
    for _ in range(20):
        arms = [draw(rng, arm, (replicates // 20, size)) for arm, size in enumerate(n)]
        mean = [x.mean(axis=1) for x in arms]
        error = [x.var(axis=1, ddof=1) / x.shape[1] for x in arms]
        effect, se = mean[1] - mean[0], np.sqrt(error[0] + error[1])
        df = (error[0] + error[1]) ** 2 / (error[0] ** 2 / (n[0] - 1) + error[1] ** 2 / (n[1] - 1))
        p = t.sf((effect + (rule.margin or 0)) / se, df) if rule.tails == 1 else 2 * t.sf(np.abs(effect) / se, df)
        found += int(np.sum(p <= rule.level))
    return found / replicates


@pytest.mark.slow
def test_simulated_power_of_means() -> None:
    for rule in (Criterion(), Criterion(weights=(3, 1)), Criterion(margin=0.2)):
        got = sample_size(mean_outcome(0.0, 1.0, treatment_sd=1.3), 0.25, rule)
        share = simulated(lambda rng, arm, shape: rng.normal(0.25 * arm, (1.0, 1.3)[arm], shape), rule, got.per_arm)
        assert abs(share - 0.8) <= 0.013


@pytest.mark.slow
def test_simulated_power_of_proportions() -> None:
    got = sample_size(proportion_outcome(0.1), 0.03)
    share = simulated(
        lambda rng, arm, shape: (rng.random(shape) < (0.1, 0.13)[arm]).astype(float), Criterion(), got.per_arm
    )
    assert abs(share - 0.8) <= 0.013


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Design(5), AlwaysValidPlan(20)])
def test_simulated_power_of_sequential_rules(plan: Design | AlwaysValidPlan) -> None:
    from treadle.experiment.always_valid import asymptotic_confidence_sequence
    from treadle.experiment.group_sequential import boundaries

    outcome, rule = mean_outcome(0.0, 1.0), Criterion(sequential=plan)
    total = sample_size(outcome, 0.1, rule).total
    looks = 5 if isinstance(plan, Design) else plan.looks
    n = total * np.arange(1, looks + 1) / looks
    steps = np.random.default_rng(4).normal(size=(40_000, looks)) * math.sqrt(total / looks)
    effect, se = 0.1 + 2 * np.cumsum(steps, axis=1) / n, np.sqrt(4 / n)
    if isinstance(plan, Design):
        found = np.abs(effect / se) >= boundaries(plan).upper
    else:
        found = asymptotic_confidence_sequence(effect, se, n, tuning=total).p_value <= 0.05
    assert abs(np.mean(found.any(axis=1)) - 0.8) <= 0.013


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"rate is 1.2; it must be above 0 and below 1"):
        proportion_outcome(1.2)
    with pytest.raises(ConfigError, match=r"sd is 0 and treatment_sd None; both must be above 0"):
        mean_outcome(1.0, 0)
    with pytest.raises(ConfigError, match=r"correlation is 1; it must lie inside"):
        mean_outcome(1.0, 1.0, correlation=1)
    with pytest.raises(ConfigError, match=r"the mean of the denominator is 0"):
        ratio_outcome(1, 0, 1, 1, 0)
    with pytest.raises(ConfigError, match=r"the variance of the ratio comes out as -"):
        ratio_outcome(1, 1, 1, 1, 2)
    with pytest.raises(ConfigError, match=r"is at or below the null; no size finds it"):
        sample_size(mean_outcome(1.0, 1.0), -0.2, Criterion(margin=0.1))
    with pytest.raises(ConfigError, match=r"target is 80; the power must lie between alpha and 1"):
        sample_size(mean_outcome(1.0, 1.0), 0.1, target=80)
    with pytest.raises(ConfigError, match=r"the mean of control is 0"):
        power(mean_outcome(0.0, 1.0), 0.1, 100, Criterion(relative=True))
    with pytest.raises(DataError, match=r"no possible effect on a rate of 0.9"):
        minimum_effect(proportion_outcome(0.9), 40)
    with pytest.raises(DataError, match=r"2 units leave less than 2 in an arm"):
        minimum_effect(mean_outcome(1.0, 1.0), 2)
    for settings, text in (
        ({"sided": 0}, "sided is 0"),
        ({"margin": -1.0}, "margin is -1.0"),
        ({"weights": (1.0,)}, "weights are"),
        ({"correction": "holm"}, "correction is 'holm'"),
        ({"alpha": 0.0}, "alpha is 0.0"),
    ):
        with pytest.raises(ConfigError, match=text):
            Criterion(**settings)
    with pytest.raises(ConfigError, match=r"looks is 0; give at least 1"):
        AlwaysValidPlan(0)
