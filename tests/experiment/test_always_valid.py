"""Confidence sequences and the mixture SPRT: reference figures, identities, false positives under peeking."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.always_valid import (
    AlwaysValid,
    asymptotic_confidence_sequence,
    critical_value,
    mixing_scale,
    mixture_sprt,
    running,
)

DATA = Path(__file__).parents[3] / "shared" / "data" / "experiment"


def revenue() -> tuple[float, float, float]:
    """Return effect, standard error and size of revenue per user from the aggregates of the reference."""
    if not DATA.exists():
        pytest.skip(f"{DATA} is absent: the reference figures live there")
    arms = json.loads((DATA / "aggregates.json").read_text())["by_variant"]
    mean = {v: arms[v]["s_revenue"] / arms[v]["n"] for v in "01"}
    variance = {
        v: (arms[v]["ss_revenue__revenue"] - arms[v]["s_revenue"] ** 2 / arms[v]["n"]) / (arms[v]["n"] - 1)
        for v in "01"
    }
    se2 = sum(variance[v] / arms[v]["n"] for v in "01")
    return mean["1"] - mean["0"], math.sqrt(se2), arms["0"]["n"] + arms["1"]["n"]


def reference(quantity: str) -> float:
    rows = json.loads((DATA / "reference.json").read_text())["rows"]
    return next(row["value"] for row in rows if row["quantity"] == quantity)


def test_the_reference_rows_of_the_confidence_sequence() -> None:
    effect, se, n = revenue()
    got = asymptotic_confidence_sequence(effect, se, n, alpha=0.05, tuning=5000)
    wanted = reference("revenue sequential (AsympCS, tuning 5000) CI lower")
    # GrowthBook writes the row for the absolute difference.
    assert got.lower == pytest.approx(wanted, rel=1e-9)
    assert got.p_value == pytest.approx(reference("revenue sequential p"), rel=1e-9)


def test_against_the_formula_written_out() -> None:
    effect, se, n, alpha, tuning = 0.03, 0.02, 12_000, 0.1, 8_000
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuning
    width = (
        se * math.sqrt(n) * math.sqrt(2 * (n * rho2 + 1) * math.log(math.sqrt(n * rho2 + 1) / alpha) / (n**2 * rho2))
    )
    evidence = math.exp(rho2 * (effect / se) ** 2 * n / (2 * (n * rho2 + 1))) / math.sqrt(n * rho2 + 1)
    got = asymptotic_confidence_sequence(effect, se, n, alpha=alpha, tuning=tuning)
    np.testing.assert_allclose([got.lower, got.upper], [effect - width, effect + width], rtol=1e-12)
    assert got.p_value == pytest.approx(min(1.0, 1 / evidence), rel=1e-12)


def test_the_mixture_is_the_integral_it_claims_to_be() -> None:
    effect, se, effect_sd = 0.21, 0.1, 0.15
    theta = np.linspace(-2, 2, 400_001)
    prior = np.exp(-(theta**2) / (2 * effect_sd**2)) / (effect_sd * math.sqrt(2 * math.pi))
    # The likelihood ratio of theta against 0 is exp((2 x theta - theta^2) / (2 se^2)).
    integral = np.sum(np.exp((2 * effect * theta - theta**2) / (2 * se**2)) * prior) * (theta[1] - theta[0])
    assert float(mixture_sprt(effect, se, effect_sd=effect_sd).log_evidence) == pytest.approx(
        math.log(integral), rel=1e-9
    )


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("z", [-3.9, 0.4, 3.1, 4.4])
def test_the_interval_and_the_p_value_agree(alternative: str, z: float) -> None:
    got = asymptotic_confidence_sequence(z, 1.0, 4000, alternative=alternative)
    outside = bool(got.lower > 0 or got.upper < 0)
    assert outside == (got.p_value < 0.05)


def test_the_p_value_at_the_critical_value_is_alpha() -> None:
    for alternative in ("two-sided", "greater"):
        ratio = 4000 * mixing_scale() ** 2
        z = critical_value(ratio, 0.05, alternative)
        got = asymptotic_confidence_sequence(z, 1.0, 4000, alternative=alternative)
        assert got.p_value == pytest.approx(0.05, rel=1e-12)


def test_the_interval_is_tightest_near_the_tuning_size() -> None:
    widths = [critical_value(5000 * mixing_scale(0.05, tuning) ** 2) for tuning in (1000, 2500, 5000, 10_000, 25_000)]
    assert min(widths) == widths[2]


def test_running_p_values_never_rise_and_intervals_only_shrink() -> None:
    rng = np.random.default_rng(1)
    n = np.arange(200, 4200, 200)
    effect = np.cumsum(rng.normal(size=(50, n.size)), axis=1) / np.arange(1, n.size + 1)
    got = running(mixture_sprt(effect, 1 / np.sqrt(np.arange(1, n.size + 1)), effect_sd=0.5))
    assert np.all(np.diff(got.p_value, axis=1) <= 0)
    assert np.all(np.diff(got.lower, axis=1) >= 0)
    assert np.all(np.diff(got.upper, axis=1) <= 0)
    assert got.p_value.shape == (50, n.size)


def false_positives(looks: int, replicates: int, seed: int, *, blocks: int = 1) -> dict[str, float]:
    """Return shares of replicates in which any look rejects a true null of no effect."""
    counts = {"cs": 0, "sprt": 0, "greater": 0, "naive": 0}
    n = np.arange(1, looks + 1) * 40  # 20 units per arm and look
    se = np.sqrt(4 / n)  # two arms of standard deviation 1
    for block in range(blocks):
        rng = np.random.default_rng([seed, block])
        steps = rng.normal(size=(replicates // blocks, looks)) * np.sqrt(40)
        effect = 2 * np.cumsum(steps, axis=1) / n
        results: dict[str, AlwaysValid] = {
            "cs": asymptotic_confidence_sequence(effect, se, n, tuning=n[-1]),
            "sprt": mixture_sprt(effect, se, effect_sd=0.2),
            "greater": asymptotic_confidence_sequence(effect, se, n, tuning=n[-1], alternative="greater"),
        }
        for name, result in results.items():
            counts[name] += int(np.sum(np.any(result.p_value <= 0.05, axis=1)))
        counts["naive"] += int(np.sum(np.any(np.abs(effect / se) > 1.96, axis=1)))
    return {name: count / replicates for name, count in counts.items()}


def test_peeking_stays_within_alpha_where_naive_peeking_does_not() -> None:
    rates = false_positives(20, 2000, seed=2)
    assert max(rates["cs"], rates["sprt"], rates["greater"]) <= 0.05
    assert rates["naive"] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("looks", [20, 500])
def test_ten_thousand_replicates_stay_within_alpha(looks: int) -> None:
    rates = false_positives(looks, 10_000, seed=3, blocks=10)
    assert max(rates["cs"], rates["sprt"], rates["greater"]) <= 0.05
    assert rates["naive"] > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("looks", [20, 500])
def test_skewed_data_with_estimated_variance_stay_within_alpha(looks: int) -> None:
    rejected, replicates, step = 0, 10_000, 40 if looks == 500 else 250
    rng = np.random.default_rng(4)
    for _ in range(20):
        shape = (replicates // 20, looks)
        # Sums of exponentials per look and arm: skewness 2 per unit; the sum of squares is drawn from the same units.
        arms = []
        for _ in range(2):
            total, square = np.zeros(shape), np.zeros(shape)
            for _ in range(step):
                x = rng.standard_exponential(shape)
                total += x
                square += x * x
            n = np.arange(1, looks + 1) * step
            mean = np.cumsum(total, axis=1) / n
            variance = (np.cumsum(square, axis=1) - n * mean**2) / (n - 1)
            arms.append((mean, variance / n))
        effect, se = arms[1][0] - arms[0][0], np.sqrt(arms[0][1] + arms[1][1])
        result = asymptotic_confidence_sequence(effect, se, 2 * n, tuning=2 * n[-1])
        rejected += int(np.sum(np.any(result.p_value <= 0.05, axis=1)))
    assert rejected / replicates <= 0.05


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"alpha is 1\.5; it must be above 0 and below 1"):
        asymptotic_confidence_sequence(0.1, 0.1, 100, alpha=1.5)
    with pytest.raises(ConfigError, match=r"tuning is 0; it is a sample size above 0"):
        mixing_scale(0.05, 0)
    with pytest.raises(ConfigError, match=r"alternative is 'both'; allowed are two-sided, greater, less"):
        critical_value(1.0, 0.05, "both")
    with pytest.raises(ConfigError, match=r"effect_sd is 0; it must be above 0"):
        mixture_sprt(0.1, 0.1, effect_sd=0)
    with pytest.raises(DataError, match=r"2 standard errors are not above 0"):
        mixture_sprt(0.1, [0.0, 0.1, np.nan], effect_sd=1)
    with pytest.raises(DataError, match=r"n has 1 values that are not above 0"):
        asymptotic_confidence_sequence(0.1, 0.1, [0, 5])
