"""Bandits: propensities that are what they say, estimates that are unbiased where plain means are not."""

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.bandits import (
    ArmStats,
    BanditLog,
    EpsilonGreedy,
    ThompsonBernoulli,
    ThompsonGaussian,
    adaptively_weighted,
    choose,
    contrast,
    cost,
    inverse_propensity,
    run,
)

Z = 1.959963984540054


def gaussian(means: list[float]) -> object:
    return lambda arm, rng: np.asarray(means)[arm] + rng.normal(size=arm.shape)


def test_thompson_propensities_are_the_chances_of_its_draws() -> None:
    stats = ArmStats(np.array([30.0, 50.0, 8.0]), np.array([6.0, 14.0, 2.0]))
    draws = np.random.default_rng(1).beta(stats.total + 1, stats.units - stats.total + 1, size=(400_000, 3))
    wanted = np.bincount(draws.argmax(axis=1), minlength=3) / 400_000
    np.testing.assert_allclose(ThompsonBernoulli(floor=0.0).propensities(stats), wanted, atol=0.003)
    np.testing.assert_allclose(ThompsonBernoulli(floor=0.1).propensities(stats), 0.1 + 0.7 * wanted, atol=0.003)
    normal = ThompsonGaussian(sd=2.0, prior_mean=0.3, prior_sd=1.0, floor=0.0)
    precision = 1 + stats.units / 4
    draws = np.random.default_rng(2).normal(
        (0.3 + stats.total / 4) / precision, 1 / np.sqrt(precision), size=(400_000, 3)
    )
    wanted = np.bincount(draws.argmax(axis=1), minlength=3) / 400_000
    np.testing.assert_allclose(normal.propensities(stats), wanted, atol=0.003)


def test_epsilon_greedy() -> None:
    policy = EpsilonGreedy(0.2)
    np.testing.assert_allclose(policy.propensities(ArmStats(np.array([5.0, 5.0]), np.array([1.0, 2.0]))), [0.1, 0.9])
    np.testing.assert_allclose(policy.propensities(ArmStats(np.array([5.0, 0, 0]), np.array([9.0, 0, 0])))[0], 0.2 / 3)
    np.testing.assert_allclose(policy.propensities(ArmStats.empty(4, 2)), 0.5)


def test_choices_follow_the_propensities() -> None:
    chance = np.tile([0.2, 0.5, 0.3], (200_000, 1))
    counts = np.bincount(choose(chance, np.random.default_rng(3)), minlength=3)
    np.testing.assert_allclose(counts / 200_000, [0.2, 0.5, 0.3], atol=0.005)


def test_statistics_add_up() -> None:
    log = run(EpsilonGreedy(), gaussian([0.0, 1.0]), arms=2, units=45, batch=10, seed=5)
    assert log.arm.shape == (45,)
    assert log.propensity.shape == (45, 2)
    stats = ArmStats.empty(2).add(log.arm, log.reward)
    assert stats.units.sum() == 45
    assert stats.mean[1] == pytest.approx(log.reward[log.arm == 1].mean())
    # The propensities of the last batch are those of what was seen before it.
    before = ArmStats.empty(2).add(log.arm[:40], log.reward[:40])
    np.testing.assert_allclose(log.propensity[40], EpsilonGreedy().propensities(before))


def test_a_bandit_finds_the_better_arm() -> None:
    log = run(ThompsonBernoulli(), lambda arm, rng: (rng.random(arm.shape) < np.array([0.1, 0.3])[arm]) * 1.0,
              arms=2, units=600, batch=60, replicates=20, seed=6)  # fmt: skip
    assert np.mean(log.arm[:, 300:] == 1) > 0.9


def test_with_even_propensities_all_estimates_are_the_plain_ones() -> None:
    rng = np.random.default_rng(7)
    arm, reward = rng.integers(0, 2, 4000), rng.normal(1.0, 1.0, 4000)
    log = BanditLog(arm, reward, np.full((4000, 2), 0.5))
    weighted = adaptively_weighted(log)
    np.testing.assert_allclose(weighted.value, [reward[arm == w].mean() for w in (0, 1)], atol=0.01)
    np.testing.assert_allclose(weighted.standard_error, np.sqrt(2 / 4000), rtol=0.05)
    np.testing.assert_allclose(cost(log).variance_ratio, 1.0)
    np.testing.assert_allclose(inverse_propensity(log).value[0], np.sum(reward[arm == 0]) * 2 / 4000)


def simulation(replicates: int) -> tuple[BanditLog, list[float]]:
    means = [0.0, 0.1, 0.0]
    policy = ThompsonGaussian(sd=1.0, floor=0.02)
    return run(policy, gaussian(means), arms=3, units=1200, batch=60, replicates=replicates, seed=8), means


def check(replicates: int, tolerance: float) -> None:
    log, means = simulation(replicates)
    stats = ArmStats.empty(replicates, 3).add(log.arm, log.reward)
    naive_bias = stats.mean.mean(axis=0) - means
    assert naive_bias[0] < -0.02, "the plain mean of a losing arm is too low"
    stable = adaptively_weighted(log)
    covered = np.mean((stable.lower <= means) & (means <= stable.upper), axis=0)
    assert np.all(np.abs(covered - 0.95) < tolerance), covered
    bias = np.abs(stable.value.mean(axis=0) - means)
    assert np.all(bias < 0.75 * abs(naive_bias[0]))
    assert np.all(bias < 0.5 * stable.standard_error.mean(axis=0))
    for got in (inverse_propensity(log), adaptively_weighted(log, weighting="uniform")):
        error = got.value - means
        assert np.all(np.abs(error.mean(axis=0)) < 4 * error.std(axis=0) / np.sqrt(replicates)), "unbiased"
    difference = contrast(log, 1)
    right = np.mean((difference.lower <= 0.1) & (difference.upper >= 0.1))
    assert abs(right - 0.95) < tolerance


def test_weighted_estimates_are_honest_where_plain_means_are_not() -> None:
    check(500, 0.04)


@pytest.mark.slow
def test_coverage_of_the_adaptively_weighted_interval() -> None:
    check(3000, 0.013)


def test_the_cost_is_said() -> None:
    log, _ = simulation(3)
    got = cost(log)
    assert got.variance_ratio.shape == (3, 3)
    assert got.variance_ratio.max() > 1.5
    assert f"{got.variance_ratio.max():.2f} times that of an even split" in got.warning
    assert got.least_propensity.min() >= 0.02 - 1e-12


def test_the_p_value_of_a_contrast() -> None:
    log, _ = simulation(2)
    got = contrast(log, 1)
    outside = (got.lower > 0) | (got.upper < 0)
    assert np.array_equal(outside, got.p_value < 0.05)
    np.testing.assert_allclose(got.upper - got.lower, 2 * Z * got.standard_error)


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"epsilon is 0; it must be above 0 and at most 1"):
        EpsilonGreedy(0)
    with pytest.raises(ConfigError, match=r"sd is 0 and prior_sd 10.0; both must be above 0"):
        ThompsonGaussian(0)
    with pytest.raises(ConfigError, match=r"floor is 0.6 for 2 arms"):
        ThompsonBernoulli(floor=0.6).propensities(ArmStats.empty(2))
    with pytest.raises(ConfigError, match=r"arms is 1, units 5, batch 1; give 2 arms or more"):
        run(EpsilonGreedy(), gaussian([0.0]), arms=1, units=5)
    log = BanditLog(np.array([0, 1]), np.array([1.0, 2.0]), np.array([[0.5, 0.5], [0.5, 0.4]]))
    with pytest.raises(DataError, match=r"1 rows of propensities do not sum to 1 and 0 propensities are not above 0"):
        cost(log)
    with pytest.raises(DataError, match=r"arms run from 0 to 2, propensities are of 2 arms"):
        cost(log._replace(arm=np.array([0, 2])))
    with pytest.raises(DataError, match=r"reward \(1,\), propensity"):
        cost(log._replace(reward=np.array([0.0])))
    with pytest.raises(ConfigError, match=r"weighting is 'sqrt'; allowed are stable, uniform"):
        adaptively_weighted(log, weighting="sqrt")
