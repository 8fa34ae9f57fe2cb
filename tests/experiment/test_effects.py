"""Estimates and effects of 20 random pairs of arms, against formulas on the rows in exact arithmetic or two passes."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from treadle.core import ConfigError, DataError
from treadle.experiment.comparison import compare
from treadle.experiment.cuped import estimate_cuped, fit_adjustment
from treadle.experiment.effects import difference
from treadle.experiment.estimates import (
    Estimate,
    estimate,
    estimate_mean,
    estimate_proportion,
    estimate_ratio,
    proportion_of,
    why_undefined,
)
from treadle.experiment.margins import equivalence, non_inferiority
from treadle.experiment.moments import Moments
from treadle.experiment.proportions import compare_proportions
from treadle.experiment.regression import ancova
from treadle.experiment.relative import relative_difference

Rows = dict[str, np.ndarray]
SEEDS = range(20)
KINDS = {
    0: lambda rng, n: rng.normal(3, 2, n),
    1: lambda rng, n: rng.lognormal(0, 1.5, n),
    2: lambda rng, n: rng.normal(1e9, 1, n),
    3: lambda rng, n: 1 + rng.poisson(0.5, n).astype(float),
    4: lambda rng, n: -rng.gamma(2, 3, n),
}


def arms(seed: int) -> tuple[Rows, Rows]:
    """Return two arms of 5 to 5,000 units: an outcome, two covariates that say something of it, denominators."""
    rng = np.random.default_rng(seed)
    n = int(np.geomspace(5, 5000, 20)[seed])
    out = []
    for size in (n, n + 3):
        y = KINDS[seed % 5](rng, size)
        middle = np.median(y)
        out.append(
            {
                "y": y,
                "x": 0.6 * (y - middle) + rng.normal(0, 1, size) + 5,
                "z": 0.2 * (y - middle) ** 2 + rng.normal(0, 2, size),
                "d": rng.integers(1, 6, size).astype(float),
                "e": rng.integers(1, 6, size).astype(float),
            }
        )
    return out[0], out[1]


def moments(rows: Rows) -> Moments:
    return Moments.from_rows(rows)


def exact(x: np.ndarray) -> tuple[Fraction, Fraction]:
    """Return the mean and the sample variance in exact arithmetic."""
    values = [Fraction(float(v)) for v in x]
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1)


def welch(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """Return difference, squared standard error, degrees of freedom and two-sided p-value of rows."""
    (m, s), (k, t) = exact(a), exact(b)
    left, right = s / len(a), t / len(b)
    gap, variance = float(k - m), float(left + right)
    df = float((left + right) ** 2 / (left**2 / (len(a) - 1) + right**2 / (len(b) - 1)))
    return gap, variance, df, float(2 * scipy.stats.t.sf(abs(gap) / math.sqrt(variance), df))


def close(ours: float, theirs: float, tolerance: float = 1e-9) -> None:
    assert ours == pytest.approx(theirs, rel=tolerance, abs=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_welch(seed: int) -> None:
    a, b = arms(seed)
    found = difference(estimate_mean(moments(a), "y"), estimate_mean(moments(b), "y"))
    gap, variance, df, p = welch(a["y"], b["y"])
    close(found.effect_size, gap)
    close(found.standard_error, math.sqrt(variance))
    close(found.df, df)
    close(found.pvalue, p)
    close(found.effect_size_ci_upper, gap + scipy.stats.t.isf(0.025, df) * math.sqrt(variance))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_student_and_its_alternatives(seed: int, alternative: str) -> None:
    a, b = arms(seed)
    middle = float(np.median(a["y"]))  # a shift changes nothing but spares the peer its cancellation
    theirs = scipy.stats.ttest_ind(b["y"] - middle, a["y"] - middle, alternative=alternative)
    interval = theirs.confidence_interval(0.9)
    found = difference(
        estimate_mean(moments(a), "y"),
        estimate_mean(moments(b), "y"),
        test="student",
        alternative=alternative,
        confidence_level=0.9,
    )
    close(found.pvalue, theirs.pvalue)
    close(found.statistic, theirs.statistic)
    close(found.effect_size_ci_lower, interval.low)
    close(found.effect_size_ci_upper, interval.high)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ratio_is_the_mean_of_linearised_rows(seed: int) -> None:
    a, b = arms(seed)
    found = [estimate_ratio(moments(rows), "x", "d") for rows in (a, b)]
    for rows, ours in zip((a, b), found, strict=True):
        ratio = rows["x"].sum() / rows["d"].sum()
        linear = (rows["x"] - ratio * rows["d"]) / rows["d"].mean()
        close(ours.value, ratio)
        close(ours.variance, linear.var(ddof=1) / len(linear))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("covariates", [["x"], ["x", "z"]])
def test_cuped_is_welch_on_adjusted_rows(seed: int, covariates: list[str]) -> None:
    a, b = arms(seed)
    middle = float(np.median(a["y"]))
    y = [rows["y"] - middle for rows in (a, b)]
    x = [np.stack([rows[name] for name in covariates], 1) for rows in (a, b)]
    all_x = np.concatenate(x)
    theta = np.linalg.lstsq(all_x - all_x.mean(0), np.concatenate(y) - np.concatenate(y).mean(), rcond=None)[0]
    adjusted = [u - (v - all_x.mean(0)) @ theta for u, v in zip(y, x, strict=True)]
    gap, variance, _, p = welch(*adjusted)
    made = estimate_cuped([moments(a), moments(b)], "y", covariates)
    found = difference(*made)
    close(found.effect_size, gap, 1e-8)
    close(found.standard_error, math.sqrt(variance))
    close(found.pvalue, p, 1e-7 if seed % 5 == 2 else 1e-9)
    close(made[0].value, middle + adjusted[0].mean())
    close(made[0].base, a["y"].mean())
    close(made[0].base_covariance, np.cov(adjusted[0], y[0])[0, 1] / len(y[0]), 1e-8)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("pooling", ["total", "averaged", "within", "separate"])
def test_cuped_of_a_ratio_by_each_pooling(seed: int, pooling: str) -> None:
    pair = arms(seed)

    def linear(rows: Rows, top: str, bottom: str, at: Rows) -> np.ndarray:
        ratio = at[top].mean() / at[bottom].mean()
        return (rows[top] - ratio * rows[bottom]) / at[bottom].mean()

    together = {name: np.concatenate([rows[name] for rows in pair]) for name in pair[0]}
    tables = [np.cov(linear(rows, "x", "d", rows), linear(rows, "z", "e", rows)) for rows in pair]
    frees = [len(rows["y"]) - 1 for rows in pair]
    if pooling == "total":
        tables = [np.cov(linear(together, "x", "d", together), linear(together, "z", "e", together))] * 2
    elif pooling == "averaged":
        tables = [tables[0] + tables[1]] * 2
    elif pooling == "within":
        tables = [tables[0] * frees[0] + tables[1] * frees[1]] * 2
    center = together["z"].mean() / together["e"].mean()
    made = estimate_cuped([moments(rows) for rows in pair], ("x", "d"), [("z", "e")], pooling=pooling)
    for rows, table, ours in zip(pair, tables, made, strict=True):
        theta = table[0, 1] / table[1, 1]
        close(ours.value, rows["x"].mean() / rows["d"].mean() - theta * (rows["z"].mean() / rows["e"].mean() - center))
        residual = linear(rows, "x", "d", rows) - theta * linear(rows, "z", "e", rows)
        close(ours.variance, residual.var(ddof=1) / len(residual), 1e-8)


@pytest.mark.parametrize("seed", SEEDS)
def test_ancova_is_least_squares_on_rows(seed: int) -> None:
    a, b = arms(seed)
    middle = float(np.median(a["y"]))
    y = np.concatenate([a["y"], b["y"]]) - middle
    arm = np.repeat([0.0, 1.0], [len(a["y"]), len(b["y"])])
    design = np.stack([np.ones_like(y), arm, *(np.concatenate([a[name], b[name]]) for name in ("x", "z"))], 1)
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    residual = y - design @ beta
    df = len(y) - 4
    error = math.sqrt(residual @ residual / df * np.linalg.inv(design.T @ design)[1, 1])
    found = ancova(moments(a), moments(b), "y", ["x", "z"])
    close(found.effect_size, beta[1], 1e-7)
    close(found.standard_error, error, 1e-8)
    assert found.df == df
    close(found.pvalue, 2 * scipy.stats.t.sf(abs(beta[1]) / error, df), 1e-6)


def test_covariates_that_say_nothing_are_left_out_and_named() -> None:
    a, b = arms(12)
    for rows in (a, b):
        rows["same"], rows["double"] = np.full_like(rows["y"], 3.0), 2 * rows["x"] + 1
    pair = [moments(a), moments(b)]
    alone = estimate_cuped(pair, "y", "x")
    with pytest.warns(UserWarning, match="CUPED of y: same, double is constant or follows"):
        found = estimate_cuped(pair, "y", ["same", "x", "double"])
    np.testing.assert_allclose(found[0][:4], alone[0][:4], rtol=1e-12)
    with pytest.warns(UserWarning, match="same is constant"):
        assert estimate_cuped(pair, "y", "same")[1].value == estimate_mean(pair[1], "y").value
    with pytest.warns(UserWarning, match="double"):
        fit = fit_adjustment(pair, "y", ["x", "double"])
    np.testing.assert_array_equal(fit.used, [[True, False], [True, False]])
    with pytest.raises(ConfigError, match="covariates are the tuple"):
        estimate_cuped(pair, "y", ("x", "z"))
    with pytest.raises(ConfigError, match="pooling='some' is unknown; give one of 'total'"):
        estimate_cuped(pair, "y", "x", pooling="some")


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed % 5 in {1, 3, 4}])
@pytest.mark.parametrize("base", ["adjusted", "unadjusted"])
def test_relative_conventions(seed: int, base: str) -> None:
    a, b = (moments(rows) for rows in arms(seed))
    control, treatment = (
        estimate_cuped([a, b], "y", "x") if base == "unadjusted" else [estimate_mean(a, "y"), estimate_mean(b, "y")]
    )
    u = control.base if base == "unadjusted" else control.value
    t = scipy.stats.t.isf(0.025, difference(control, treatment).df)
    absolute = difference(control, treatment)
    delta = relative_difference(control, treatment, convention="delta", base=base)
    close(delta.effect_size, absolute.effect_size / u)
    close(delta.effect_size_ci_upper - delta.effect_size, t * delta.standard_error, 1e-8)
    scaled = relative_difference(control, treatment, convention="scaled", base=base)
    ends = sorted([absolute.effect_size_ci_lower / u, absolute.effect_size_ci_upper / u])
    np.testing.assert_allclose(scaled[1:3], ends, rtol=1e-12)
    log = relative_difference(control, treatment, convention="log-ratio", base=base)
    if not math.isnan(log.pvalue):
        np.testing.assert_allclose(np.log1p(log[1]) + np.log1p(log[2]), 2 * np.log1p(log[0]), rtol=1e-7, atol=1e-10)
    fieller = relative_difference(control, treatment, convention="fieller", base=base)
    if base == "adjusted":
        # By the formulas of two independent numbers.
        v, w = control.variance, treatment.variance
        close(delta.standard_error, math.sqrt(w / u**2 + v * treatment.value**2 / u**4), 1e-8)
        for end in fieller[1:3]:
            if math.isfinite(end):
                rho = 1 + end
                close(abs(treatment.value - rho * u) / math.sqrt(w + rho**2 * v), t, 1e-6)
        assert math.isfinite(fieller[1]) == (u**2 > t**2 * v)


def test_plain_fieller_and_log_ratio_by_hand() -> None:
    control, treatment = estimate(10.0, 0.25, 101), estimate(12.0, 0.36, 81)
    df = 0.61**2 / (0.25**2 / 100 + 0.36**2 / 80)
    log = relative_difference(control, treatment)
    part = 0.25 / 100, 0.36 / 144
    log_df = sum(part) ** 2 / (part[0] ** 2 / 100 + part[1] ** 2 / 80)
    close(log.effect_size_ci_lower, 1.2 * math.exp(-scipy.stats.t.isf(0.025, log_df) * math.sqrt(sum(part))) - 1)
    close(log.pvalue, 2 * scipy.stats.t.sf(math.log(1.2) / math.sqrt(sum(part)), log_df))
    t = scipy.stats.t.isf(0.025, df)
    g = t**2 * 0.25 / 100
    half = t / 10 * math.sqrt(0.36 + 1.44 * 0.25 - g * 0.36)
    fieller = relative_difference(control, treatment, convention="fieller")
    close(fieller.effect_size_ci_lower, (1.2 - half) / (1 - g) - 1)
    close(fieller.effect_size_ci_upper, (1.2 + half) / (1 - g) - 1)
    unknown = relative_difference(estimate(0.1, 0.25, 101), treatment, convention="fieller")
    assert unknown[1:3] == (-math.inf, math.inf)
    row = compare(control, treatment, relative="delta", alternative="greater")
    assert (row.control, row.treatment, row.effect_size_ci_upper) == (10.0, 12.0, math.inf)
    close(row.rel_effect_size_ci_lower, 0.2 - scipy.stats.t.isf(0.05, df) * math.sqrt(0.36 / 100 + 0.25 * 144 / 1e4))
    for options, text in (
        ({"convention": "log"}, "convention='log' is unknown"),
        ({"base": "unadjusted-plugin"}, "goes with convention 'delta'"),
        ({"test": "student", "base": "unadjusted"}, "test 'student' knows no base"),
        ({"confidence_level": 95}, "confidence_level is 95; it is a probability"),
    ):
        with pytest.raises(ConfigError, match=text):
            relative_difference(control, treatment, **options)


def test_relative_to_a_negative_control() -> None:
    control, treatment = estimate(-2.0, 0.1, 100), estimate(-1.0, 0.1, 100)
    for convention in ("delta", "log-ratio", "scaled", "fieller"):
        found = relative_difference(control, treatment, convention=convention)
        assert found.effect_size == -0.5
        assert found.effect_size_ci_lower < -0.5 < found.effect_size_ci_upper
        with pytest.raises(DataError, match="alternative 'greater' has two readings"):
            relative_difference(control, treatment, convention=convention, alternative="greater")
    zero = relative_difference(estimate(0.0, 0.1, 100), treatment)
    assert math.isnan(zero.effect_size)
    assert math.isnan(zero.pvalue)


def test_proportions() -> None:
    control, treatment = proportion_of(15, 120), proportion_of(31, 150)
    table = np.array([[15, 105], [31, 119]])
    for correction in (False, True):
        theirs = scipy.stats.chi2_contingency(table, correction=correction)
        found = compare_proportions(control, treatment, correction=correction)
        close(found.pvalue, theirs.pvalue)
        close(found.statistic**2, theirs.statistic)
    p, q = 15 / 120, 31 / 150
    error = math.sqrt(p * (1 - p) / 120 + q * (1 - q) / 150)
    wald = compare_proportions(control, treatment, pooled=False, alternative="greater")
    close(wald.pvalue, scipy.stats.norm.sf((q - p) / error))
    close(wald.effect_size_ci_lower, q - p - scipy.stats.norm.isf(0.05) * error)
    assert wald.effect_size_ci_upper == 1
    close(difference(control, treatment, test="z").pvalue, compare_proportions(control, treatment, pooled=False).pvalue)
    close(
        difference(proportion_of(15, 120, 1), treatment).standard_error,
        math.sqrt(p * (1 - p) / 119 + q * (1 - q) / 150),
    )
    # Newcombe 1998, table II, case (a): 56/70 against 48/80, method 10.
    low, high = compare_proportions(proportion_of(48, 80), proportion_of(56, 70), interval="newcombe")[1:3]
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    caffo = compare_proportions(proportion_of(0, 10), proportion_of(10, 10), interval="agresti-caffo")
    close(caffo.effect_size_ci_lower, 10 / 12 - 1.959963984540054 * math.sqrt(2 * 11 / 144 / 12))
    binary = Moments.from_rows({"y": np.repeat([0.0, 1.0], [105, 15])})
    np.testing.assert_allclose(estimate_proportion(binary, "y")[:4], control[:4])
    with pytest.raises(DataError, match="y is not a column of zeros and ones"):
        estimate_proportion(Moments.from_rows({"y": [0.0, 0.5, 1.0]}), "y")
    with pytest.raises(DataError, match="12 successes among 10 units"):
        proportion_of([1, 12], 10)
    nothing = compare_proportions(proportion_of(0, 10), proportion_of(0, 12))
    assert nothing.effect_size == 0
    assert math.isnan(nothing.effect_size_ci_lower)
    assert math.isnan(nothing.pvalue)
    assert compare_proportions(proportion_of(0, 10), proportion_of(0, 12), interval="newcombe")[1] < -0.1
    with pytest.raises(DataError, match="outside 0 to 1"):
        compare_proportions(estimate(2.0, 1, 5), control)


def test_margins() -> None:
    control, treatment = estimate(10.0, 0.25, 101), estimate(9.8, 0.36, 81)
    df = 0.61**2 / (0.25**2 / 100 + 0.36**2 / 80)
    found = non_inferiority(control, treatment, 1.0)
    close(found.statistic, 0.8 / math.sqrt(0.61))
    close(found.pvalue, scipy.stats.t.sf(0.8 / math.sqrt(0.61), df))
    close(found.effect_size_ci_lower, -0.2 - scipy.stats.t.isf(0.05, df) * math.sqrt(0.61))
    assert found.effect_size_ci_upper == math.inf
    close(non_inferiority(control, treatment, 1.0, better="lower").pvalue, scipy.stats.t.sf(1.2 / math.sqrt(0.61), df))
    v = 0.9**2 * 0.25
    wide = (v + 0.36) ** 2 / (v**2 / 100 + 0.36**2 / 80)
    share = non_inferiority(control, treatment, 0.1, relative=True)
    close(share.pvalue, scipy.stats.t.sf(0.8 / math.sqrt(v + 0.36), wide))
    close(share.effect_size, -0.02)
    both = equivalence(control, treatment, 1.0)
    assert both.pvalue == found.pvalue
    # The margin is outside the 90 % interval just where both tests reject at 5 %.
    touching = equivalence(control, treatment, -float(both.effect_size_ci_lower))
    close(touching.pvalue, 0.05)
    # A relative margin is one of the size, whatever the sign.
    negative = non_inferiority(estimate(-10.0, 0.25, 101), estimate(-10.2, 0.36, 81), 0.1, relative=True)
    close(negative.statistic, 0.8 / math.sqrt(1.1**2 * 0.25 + 0.36))
    with pytest.raises(ConfigError, match=r"the margin is -1; it is positive"):
        non_inferiority(control, treatment, -1)


def test_what_is_undefined_says_why() -> None:
    cells = Moments.from_rows({"y": [1.0, 2, 4, 7, 5, 5, 5], "d": [1.0, 0, 1, 1, 0, 0, 0]}, [0, 0, 0, 1, 3, 3, 3], 4)
    whole = estimate_mean(cells[0], "y")
    found = difference(whole, estimate_mean(cells, "y"))
    assert found.effect_size[0] == 0
    np.testing.assert_array_equal(np.isnan(found.pvalue), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(found.effect_size), [False, False, True, False])
    assert list(why_undefined(whole, estimate_mean(cells, "y"))) == [
        "",
        "an arm has too few units to know a variance",
        "an arm has no units",
        "",
    ]
    flat = estimate_mean(cells[3], "y")
    assert why_undefined(flat, flat._replace(value=6.0)) == "no arm varies"
    certain = difference(flat, flat._replace(value=6.0))
    assert certain.effect_size == 1
    assert certain.standard_error == 0
    assert math.isnan(certain.pvalue)
    assert math.isnan(certain.effect_size_ci_lower)
    assert "denominator is zero" in why_undefined(estimate_ratio(cells[3], "y", "d"), whole)
    # An arm that does not vary leaves the other's degrees of freedom.
    assert difference(whole, flat).df == pytest.approx(2)
    with pytest.raises(DataError, match="1 values of n are negative, such as -4"):
        estimate(1.0, 1.0, -4)
    with pytest.raises(DataError, match="1 values of variance are negative"):
        estimate(1.0, -1.0, 4)
    with pytest.raises(ConfigError, match="test='t' is unknown; give one of 'welch', 'student', 'z'"):
        difference(whole, whole, test="t")
    with pytest.raises(ConfigError, match="alternative='two' is unknown"):
        difference(whole, whole, alternative="two")


def test_leading_axes_are_so_many_comparisons() -> None:
    rng = np.random.default_rng(0)
    cells = Moments.from_rows(
        {"y": rng.lognormal(size=600), "x": rng.normal(size=600), "d": rng.integers(1, 4, 600)},
        rng.integers(0, 12, 600),
        (2, 3, 2),
    )
    control, treatment = cells[0], cells[1]
    pair = estimate_cuped([control, treatment], ("y", "d"), ["x"], pooling="separate")
    found = compare(*pair, relative="fieller", base="unadjusted")
    assert found.pvalue.shape == (3, 2)
    for i in range(3):
        for j in range(2):
            alone = estimate_cuped([control[i, j], treatment[i, j]], ("y", "d"), ["x"], pooling="separate")
            one = compare(*alone, relative="fieller", base="unadjusted")
            assert all(isinstance(field, float) for field in one)
            np.testing.assert_allclose([field[i, j] for field in found], one, rtol=1e-12)
    assert isinstance(pair[0], Estimate)
