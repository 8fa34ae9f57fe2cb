"""Methods on the units themselves: bootstrap, permutation, ranks and quantiles, against SciPy and formulas by hand."""

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from treadle.core import ConfigError, DataError, ShapeError
from treadle.experiment.estimates import estimate_ratio
from treadle.experiment.moments import Moments
from treadle.experiment.permutation import permutation_test
from treadle.experiment.quantile import estimate_quantile, quantile_from_bounds, share_error
from treadle.experiment.ranks import mann_whitney
from treadle.experiment.resampling import bootstrap

RNG = np.random.default_rng(7)
X, Y = RNG.lognormal(0, 1, 24), RNG.lognormal(0.4, 1, 31)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (8, 90), (30, 25), (60, 70)])
def test_mann_whitney_is_scipys(n: int, m: int, alternative: str) -> None:
    x, y = RNG.normal(size=(3, n)), RNG.normal(0.4, 1, (3, m))
    for method in ("auto", "exact", "asymptotic"):
        ours = mann_whitney(x, y, method=method, alternative=alternative)
        theirs = scipy.stats.mannwhitneyu(y, x, method=method, alternative=alternative, axis=-1)
        np.testing.assert_array_equal(ours.statistic, theirs.statistic)
        np.testing.assert_allclose(ours.pvalue, theirs.pvalue, rtol=1e-9)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("correction", [True, False])
def test_mann_whitney_with_ties(alternative: str, correction: bool) -> None:
    x, y = RNG.poisson(1.0, (4, 40)), RNG.poisson(1.3, (4, 55))
    ours = mann_whitney(x, y, alternative=alternative, correction=correction)
    theirs = scipy.stats.mannwhitneyu(y, x, alternative=alternative, use_continuity=correction, axis=-1)
    np.testing.assert_allclose(ours.pvalue, theirs.pvalue, rtol=1e-12)
    pairs = (y[..., None, :] > x[..., None]) + 0.5 * (y[..., None, :] == x[..., None])
    np.testing.assert_allclose(ours.effect_size, pairs.mean((1, 2)))


def test_mann_whitney_of_what_cannot_be() -> None:
    assert math.isnan(mann_whitney(np.ones(20), np.ones(20)).pvalue)
    with pytest.raises(DataError, match="0 values of the control and 3 of the treatment"):
        mann_whitney([], [1.0, 2, 3])
    with pytest.raises(DataError, match="1 values are NaN"):
        mann_whitney([1.0, math.nan], [1.0, 2, 3])
    with pytest.raises(ShapeError, match="same leading axes"):
        mann_whitney(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ConfigError, match="method='fast' is unknown"):
        mann_whitney([1.0], [2.0], method="fast")


def test_bca_is_the_books_formula() -> None:
    drawn, found = _draws(np.mean)
    bias = scipy.stats.norm.ppf((drawn < found).mean())
    left = [np.mean(np.delete(X, i)) for i in range(len(X))]
    right = [np.mean(np.delete(Y, i)) for i in range(len(Y))]
    u = [(np.mean(left) - v) * -(len(X) - 1) / len(X) for v in left] + [
        (np.mean(right) - v) * (len(Y) - 1) / len(Y) for v in right
    ]
    skew = sum(v**3 for v in u) / (6 * sum(v**2 for v in u) ** 1.5)
    z = scipy.stats.norm.ppf([0.025, 0.975]) + bias
    ends = np.quantile(drawn, scipy.stats.norm.cdf(bias + z / (1 - skew * z)), method="weibull")
    found = bootstrap(X, Y, seed=3)
    np.testing.assert_allclose(found[1:3], ends, rtol=1e-9)


def _draws(statistic: object, n: int = 10_000) -> tuple[np.ndarray, float]:
    """Return the effects on the samples that seed 3 draws."""
    rng = np.random.default_rng(3)
    a = statistic(X[rng.integers(0, len(X), (n, len(X)))], axis=1)
    return statistic(Y[rng.integers(0, len(Y), (n, len(Y)))], axis=1) - a, float(statistic(Y) - statistic(X))


def test_percentiles_and_studentised() -> None:
    drawn, found = _draws(np.median)
    made = bootstrap(X, Y, np.median, method="percentile", seed=3)
    assert made.effect_size == pytest.approx(found)
    np.testing.assert_allclose(made[1:3], np.quantile(drawn, [0.025, 0.975], method="weibull"))
    assert made.standard_error == pytest.approx(drawn.std(ddof=1))
    assert made.pvalue == pytest.approx(2 * (1 + (drawn <= 0).sum()) / 10_001)
    rng = np.random.default_rng(3)
    a, b = (s[rng.integers(0, len(s), (10_000, len(s)))] for s in (X, Y))
    t = (b.mean(1) - a.mean(1) - (Y.mean() - X.mean())) / np.sqrt(a.var(1, ddof=1) / 24 + b.var(1, ddof=1) / 31)
    own = math.sqrt(X.var(ddof=1) / 24 + Y.var(ddof=1) / 31)
    made = bootstrap(X, Y, method="studentised", seed=3)
    np.testing.assert_allclose(made[1:3], Y.mean() - X.mean() - own * np.quantile(t, [0.975, 0.025], method="weibull"))


@pytest.mark.parametrize("method", ["percentile", "bca", "studentised"])
def test_a_pvalue_is_where_the_interval_touches_zero(method: str) -> None:
    made = bootstrap(X, Y, method=method, seed=5)
    level = 1 - made.pvalue
    low, high = bootstrap(X, Y, method=method, seed=5, confidence_level=level)[1:3]
    assert min(abs(low), abs(high)) < 0.02 * made.standard_error
    above = bootstrap(X, Y, method=method, seed=5, alternative="greater")
    below = bootstrap(X, Y, method=method, seed=5, alternative="less")
    assert above.effect_size_ci_upper == math.inf
    assert below.effect_size_ci_lower == -math.inf
    assert above.pvalue + below.pvalue == pytest.approx(1, abs=3e-4)


def test_bootstrap_of_a_ratio_and_of_what_cannot_be() -> None:
    def ratio(samples: np.ndarray, axis: int) -> np.ndarray:
        return samples[..., 0].sum(axis) / samples[..., 1].sum(axis)

    control, treatment = (np.stack([s, 1 + RNG.poisson(2, len(s))], 1) for s in (X, Y))
    made = bootstrap(control, treatment, ratio, n_resamples=4000)
    delta = [estimate_ratio(Moments.from_rows({"x": s[:, 0], "d": s[:, 1]}), "x", "d") for s in (control, treatment)]
    assert made.effect_size == pytest.approx(delta[1].value - delta[0].value)
    assert made.standard_error == pytest.approx(math.sqrt(delta[0].variance + delta[1].variance), rel=0.1)
    relative = bootstrap(X, Y, relative=True)
    assert relative.effect_size == pytest.approx(Y.mean() / X.mean() - 1)
    assert bootstrap(X, Y, seed=1) == bootstrap(X, Y, seed=1)
    assert bootstrap(X, Y, seed=1) != bootstrap(X, Y, seed=2)
    assert math.isnan(bootstrap(np.ones(5), np.full(5, 2.0)).pvalue)
    with pytest.raises(DataError, match=r"bootstrap: the treatment has shape \(1,\)"):
        bootstrap(X, [1.0])
    with pytest.raises(ConfigError, match="'studentised' needs a difference"):
        bootstrap(X, Y, np.median, method="studentised")
    with pytest.raises(ConfigError, match="n_resamples is 10; draw 1,000 or more"):
        bootstrap(X, Y, n_resamples=10)


def test_permutations() -> None:
    x, y = X[:5], Y[:6]
    exact = permutation_test(x, y, np.mean)
    both = np.concatenate([x, y])
    gaps = [np.delete(both, c).mean() - both[list(c)].mean() for c in combinations(range(11), 5)]
    gap = y.mean() - x.mean()
    assert exact == (pytest.approx(gap), np.mean(np.abs(gaps) >= abs(gap) - 1e-12), 462)
    drawn = permutation_test(x, y, np.mean, n_resamples=461, seed=1)
    assert drawn.pvalue == pytest.approx(exact.pvalue, abs=0.1)
    sides = [permutation_test(x, y, np.mean, alternative=side).pvalue for side in ("greater", "less")]
    assert sum(sides) == pytest.approx(1 + 1 / 462)
    welch = permutation_test(X, Y, seed=2)
    assert welch.pvalue == pytest.approx(scipy.stats.ttest_ind(X, Y, equal_var=False).pvalue, abs=0.03)
    assert welch == permutation_test(X, Y, seed=2)
    assert math.isnan(permutation_test([1.0, 1.0], [1.0, 1.0]).pvalue)
    with pytest.raises(DataError, match=r"permutation_test: the control has shape \(1,\)"):
        permutation_test([1.0], Y)
    with pytest.raises(ConfigError, match="n_resamples is 0"):
        permutation_test(X, Y, n_resamples=0)


def test_a_quantile_of_independent_rows() -> None:
    x = np.random.default_rng(0).exponential(size=(3, 20_000))
    found = estimate_quantile(x, 0.9)
    np.testing.assert_array_equal(found.value, np.sort(x)[:, 17_999])
    # The density of the exponential distribution at its 0.9 quantile is 0.1.
    np.testing.assert_allclose(np.sqrt(found.variance), math.sqrt(0.9 * 0.1 / 20_000) / 0.1, rtol=0.15)
    one = estimate_quantile(x[1], 0.9)
    assert one.value == found.value[1]
    assert one.variance == found.variance[1]
    assert one.df == 19_999


def test_a_quantile_of_clustered_rows() -> None:
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(300), rng.integers(1, 30, 300))
    x = rng.normal(size=300)[unit] + 0.3 * rng.normal(size=unit.size)
    found = estimate_quantile(x, 0.75, clusters=unit)
    assert found.n == 300
    assert found.variance > 4 * estimate_quantile(x, 0.75).variance
    rows = [np.flatnonzero(unit == u) for u in range(300)]
    drawn = [np.quantile(x[np.concatenate([rows[u] for u in rng.integers(0, 300, 300)])], 0.75) for _ in range(400)]
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.15)
    # The same from what an engine fetches.
    table = {"below": np.bincount(unit, x <= found.value), "rows": np.bincount(unit)}
    step = 1.959963984540054 * share_error(Moments.from_rows(table))
    again = quantile_from_bounds(found.value, *np.quantile(x, [0.75 - step, 0.75 + step]), 300)
    assert again[:4] == pytest.approx(found[:4])


def test_a_quantile_of_too_few_rows() -> None:
    assert math.isnan(estimate_quantile([1.0, 2, 3], 0.99).variance)
    assert estimate_quantile([1.0, 2, 3], 0.99).value == 3
    with pytest.raises(ConfigError, match="q is 99; it is a share"):
        estimate_quantile([1.0], 99)
    with pytest.raises(DataError, match=r"rows of shape \(0,\)"):
        estimate_quantile([], 0.5)
    with pytest.raises(ShapeError, match="with clusters both are"):
        estimate_quantile([1.0, 2], 0.5, clusters=[1])
