"""Bayesian comparisons against closed forms, sampling and the figures of GrowthBook's formulas."""

import math

import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import beta, norm, ttest_1samp

from treadle.core import ConfigError, DataError
from treadle.experiment.bayes import (
    NormalInverseGamma,
    NormalPosterior,
    StudentPosterior,
    chance_best,
    chance_to_beat,
    compare,
    effect_quantile,
    expected_loss,
    mean_posterior,
    normal_effect,
    proportion_posterior,
    relative_prior,
)


def closed_form(a1: int, b1: int, a2: int, b2: int) -> float:
    """Return P(p2 > p1) by Evan Miller's sum over whole a2."""
    i = np.arange(a2)
    return float(np.sum(np.exp(betaln(a1 + i, b1 + b2) - np.log(b2 + i) - betaln(1 + i, b2) - betaln(a1, b1))))


@pytest.mark.parametrize(
    ("control", "treatment"),
    [
        ((12, 100), (19, 100)),
        ((120, 1000), (9, 50)),
        ((3, 40), (800, 9000)),
        ((0, 10), (0, 10)),
        ((5000, 9000), (5100, 9000)),
    ],
)
def test_chance_to_beat_of_proportions(control: tuple[int, int], treatment: tuple[int, int]) -> None:
    a, b = proportion_posterior(*control), proportion_posterior(*treatment)
    wanted = closed_form(int(a.a), int(a.b), int(b.a), int(b.b))
    assert float(chance_to_beat(a, b)) == pytest.approx(wanted, rel=1e-9)
    assert float(chance_to_beat(a, b) + chance_to_beat(b, a)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.1, 0.2)])
def test_small_priors(prior: tuple[float, float]) -> None:
    a = proportion_posterior(0, 3, prior)
    assert float(chance_to_beat(a, a)) == pytest.approx(0.5, abs=1e-7)


def test_losses_of_proportions() -> None:
    # E max(p1 - p2, 0) = E p1 P(p1' > p2) - E p2 P(p1 > p2'), the primes with one success more (Stucchio 2015).
    a1, b1, a2, b2 = 13, 89, 20, 82
    wanted = a1 / (a1 + b1) * closed_form(a2, b2, a1 + 1, b1) - a2 / (a2 + b2) * (1 - closed_form(a1, b1, a2 + 1, b2))
    control, treatment = proportion_posterior(12, 100), proportion_posterior(19, 100)
    assert float(expected_loss(control, treatment)) == pytest.approx(wanted, rel=1e-9)
    difference = expected_loss(treatment, control) - expected_loss(control, treatment)
    assert float(difference) == pytest.approx(float(treatment.mean - control.mean), rel=1e-9)


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_intervals_of_proportions_against_sampling(kind: str) -> None:
    control, treatment = proportion_posterior([30, 400], [200, 4000]), proportion_posterior([45, 60], [210, 500])
    got = compare(control, treatment, kind=kind, level=0.9)
    rng = np.random.default_rng(3)
    p, q = (beta.rvs(x.a, x.b, size=(200_000, 2), random_state=rng) for x in (control, treatment))
    effects = q - p if kind == "absolute" else q / p - 1
    np.testing.assert_allclose(np.mean(effects < got.lower, axis=0), 0.05, atol=0.003)
    np.testing.assert_allclose(np.mean(effects > got.upper, axis=0), 0.05, atol=0.003)
    np.testing.assert_allclose(got.chance_to_beat, np.mean(effects > 0, axis=0), atol=0.004)
    unit = p.mean(axis=0) if kind == "relative" else 1.0
    np.testing.assert_allclose(got.loss_treatment, np.mean(np.maximum(p - q, 0), axis=0) / unit, rtol=0.03)


def test_the_flat_posterior_of_a_mean_is_the_t_test() -> None:
    x = np.random.default_rng(5).normal(3, 2, 17)
    posterior = mean_posterior(x.mean(), x.var(ddof=1), x.size)
    assert float(posterior.cdf(2.5)) == pytest.approx(ttest_1samp(x, 2.5, alternative="greater").pvalue, rel=1e-10)


def test_a_proper_prior_of_a_mean() -> None:
    prior = NormalInverseGamma(location=1.0, weight=4.0, shape=3.0, rate=2.0)
    x = np.array([2.0, 3.0, 5.0])
    got = mean_posterior(x.mean(), x.var(ddof=1), 3, prior)
    # The joint posterior by brute force on a grid of mean and variance.
    mu, v = np.meshgrid(np.linspace(-6, 10, 1601), np.exp(np.linspace(-5, 7, 1201)), indexing="ij")
    log = -4 * np.log(v) - 2 / v - 0.5 * np.log(v) - 4 * (mu - 1) ** 2 / (2 * v) + np.log(v)
    for value in x:
        log += -0.5 * np.log(v) - (value - mu) ** 2 / (2 * v)
    weight = np.exp(log - log.max()).sum(axis=1)
    below = weight[mu[:, 0] < 2].sum() / weight.sum() + 0.5 * weight[mu[:, 0] == 2].sum() / weight.sum()
    assert float(got.cdf(2.0)) == pytest.approx(below, abs=2e-3)
    assert float(got.location) == pytest.approx((4 * 1 + 10) / 7)


def test_wide_and_narrow_means_against_the_normal_limit() -> None:
    control, treatment = mean_posterior(10.0, 4.0, 1e7), mean_posterior(10.01, 400.0, 1e6)
    se = math.sqrt(4e-7 + 4e-4)
    got = compare(control, treatment)
    plain = normal_effect(0.01, se)
    np.testing.assert_allclose(got[:4], plain[:4], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(got[4:], plain[4:], rtol=1e-5)


def test_normal_arms_are_a_normal_effect() -> None:
    control, treatment = (NormalPosterior(np.float64(m), np.float64(s)) for m, s in ((1.0, 0.2), (1.1, 0.05)))
    got, plain = compare(control, treatment), normal_effect(0.1, math.hypot(0.2, 0.05))
    np.testing.assert_allclose(got, plain, rtol=1e-9)


def test_few_degrees_of_freedom_against_sampling() -> None:
    control, treatment = (
        StudentPosterior(*map(np.float64, (0.0, 1.0, 3.0))),
        StudentPosterior(*map(np.float64, (0.7, 0.4, 5.0))),
    )
    rng = np.random.default_rng(6)
    a, b = rng.standard_t(3, 400_000), 0.7 + 0.4 * rng.standard_t(5, 400_000)
    assert float(chance_to_beat(control, treatment)) == pytest.approx(np.mean(b > a), abs=0.003)
    assert float(expected_loss(control, treatment)) == pytest.approx(np.mean(np.maximum(a - b, 0)), rel=0.02)
    assert np.mean(b - a < effect_quantile(control, treatment, 0.2)) == pytest.approx(0.2, abs=0.003)


def test_relative_effects_of_means() -> None:
    control, treatment = mean_posterior(10.0, 9.0, 400), mean_posterior(10.4, 9.0, 400)
    got = compare(control, treatment, kind="relative")
    rng = np.random.default_rng(8)
    draws = (10.4 + 0.15 * rng.standard_t(399, 400_000)) / (10.0 + 0.15 * rng.standard_t(399, 400_000)) - 1
    np.testing.assert_allclose([got.lower, got.effect, got.upper], np.quantile(draws, [0.025, 0.5, 0.975]), atol=2e-4)


GBSTATS = {
    "expected": 0.04979038248971829,
    "ci": [0.011719046015691827, 0.08786171896374474],
    "chance_to_win": 0.9948155260023954,
    "risk": [0.04982232634384884, 3.1943854130552516e-05],
}


def test_the_effect_with_a_normal_prior() -> None:
    # gbstats 0.8, EffectBayesianABTest on relative effects: arms of n 1000, mean 10 and 10.5, variance 16 and 20.25,
    # prior N(0, 0.3^2): data variance 20.25 / (100 * 1000) + 16 * 10.5^2 / (10^4 * 1000).
    se = math.sqrt(20.25 / (100 * 1000) + 16 * 10.5**2 / (10**4 * 1000))
    got = normal_effect(0.05, se, prior_sd=0.3)
    assert got.effect == pytest.approx(GBSTATS["expected"], rel=1e-9)
    np.testing.assert_allclose([got.lower, got.upper], GBSTATS["ci"], rtol=1e-9)
    assert got.chance_to_beat == pytest.approx(GBSTATS["chance_to_win"], rel=1e-9)
    np.testing.assert_allclose([got.loss_control, got.loss_treatment], GBSTATS["risk"], rtol=1e-7)


def test_losses_are_integrals() -> None:
    got = normal_effect(0.3, 0.5)
    x = np.linspace(-6, 6, 200_001)
    density = norm.pdf(x, 0.3, 0.5) * (x[1] - x[0])
    assert got.loss_treatment == pytest.approx(np.sum(np.maximum(-x, 0) * density), rel=1e-8)
    assert got.loss_control == pytest.approx(np.sum(np.maximum(x, 0) * density), rel=1e-8)


def test_a_prior_on_the_relative_effect_serves_both_kinds() -> None:
    mean, sd = relative_prior(0.01, 0.1, -20.0)
    absolute = normal_effect(1.0, 0.5, prior_mean=mean, prior_sd=sd)
    relative = normal_effect(0.05, 0.025, prior_mean=0.01, prior_sd=0.1)
    assert absolute.effect / 20 == pytest.approx(float(relative.effect), rel=1e-12)


def test_the_chance_to_be_best() -> None:
    arms = proportion_posterior([[10, 14, 9]], [[100, 110, 95]])
    got = chance_best(arms)
    draws = np.random.default_rng(9).beta(arms.a[0], arms.b[0], size=(400_000, 3))
    np.testing.assert_allclose(got[0], np.bincount(draws.argmax(axis=1), minlength=3) / 400_000, atol=0.003)
    two = proportion_posterior([10, 14], [100, 110])
    pair = [proportion_posterior(k, n) for k, n in ((10, 100), (14, 110))]
    assert chance_best(two)[1] == pytest.approx(float(chance_to_beat(*pair)), rel=1e-9)


def test_arrays_of_arms_are_the_arms_one_by_one() -> None:
    a, b = proportion_posterior([5, 500], [50, 5000]), proportion_posterior([[9], [900]], [[60], [6000]])
    got = compare(a, b)
    assert got.effect.shape == (2, 2)
    one = compare(proportion_posterior(500, 5000), proportion_posterior(9, 60))
    np.testing.assert_allclose([field[0, 1] for field in got], one, rtol=1e-9)


def test_errors() -> None:
    with pytest.raises(DataError, match=r"1 counts are impossible, the first with 7 successes in 5 trials"):
        proportion_posterior([3, 7], [5, 5])
    with pytest.raises(ConfigError, match=r"the prior is Beta\(0, 1\); both numbers must be above 0"):
        proportion_posterior(1, 2, (0, 1))
    with pytest.raises(DataError, match=r"1 arms have too few units or no variance"):
        mean_posterior(1.0, 0.0, 20)
    with pytest.raises(ConfigError, match=r"kind is 'ratio'; allowed are absolute, relative"):
        compare(proportion_posterior(1, 2), proportion_posterior(1, 2), kind="ratio")
    with pytest.raises(ConfigError, match=r"level is 95; it must be above 0 and below 1"):
        normal_effect(0.1, 0.1, level=95)
    with pytest.raises(ConfigError, match=r"the arms are BetaPosterior and StudentPosterior"):
        compare(proportion_posterior(1, 2), mean_posterior(1.0, 1.0, 20))
    with pytest.raises(DataError, match=r"control may be 0 or below"):
        compare(mean_posterior(0.1, 1.0, 20), mean_posterior(1.0, 1.0, 20), kind="relative")
    with pytest.raises(DataError, match=r"1 standard errors are not above 0"):
        normal_effect(0.1, 0.0)
    with pytest.raises(ConfigError, match=r"prior_sd is 0; it must be above 0, or infinite"):
        normal_effect(0.1, 0.1, prior_sd=0)
