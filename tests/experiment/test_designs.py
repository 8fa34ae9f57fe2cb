"""Sample ratios, families of hypotheses, strata, clusters and switchbacks, against SciPy and formulas by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from treadle.core import ConfigError, DataError, ShapeError
from treadle.experiment.clusters import design_effect, estimate_clustered, group_totals, switchback_blocks
from treadle.experiment.estimates import Estimate, estimate_mean, estimate_ratio
from treadle.experiment.jackknife import jackknife
from treadle.experiment.moments import Moments
from treadle.experiment.multiple import adjust_pvalues, gatekeep, interval_levels
from treadle.experiment.sample_ratio import sample_ratio_test, sequential_sample_ratio
from treadle.experiment.strata import post_stratify, stratified

RNG = np.random.default_rng(11)


def test_sample_ratio() -> None:
    counts = np.array([[510.0, 490, 260], [400, 430, 170]])
    found = sample_ratio_test(counts, [2, 2, 1])
    for row, pvalue, statistic in zip(counts, found.pvalue, found.statistic, strict=True):
        theirs = scipy.stats.chisquare(row, row.sum() * np.array([0.4, 0.4, 0.2]))
        assert (pvalue, statistic) == pytest.approx((theirs.pvalue, theirs.statistic), rel=1e-12)
    np.testing.assert_allclose(found.share.sum(-1), 1)
    corrected = sample_ratio_test([480, 530], method="corrected")
    assert corrected.pvalue == pytest.approx(2 * scipy.stats.norm.sf(24.5 / math.sqrt(1010 / 4)), rel=1e-12)
    assert sample_ratio_test([500, 500], method="corrected").pvalue == 1


def test_sample_ratio_exactly() -> None:
    for k, n, p in ((12, 42, 0.5), (3, 10, 0.3), (0, 7, 0.5)):
        found = sample_ratio_test([k, n - k], [p, 1 - p], method="exact")
        assert found.pvalue == pytest.approx(scipy.stats.binomtest(k, n, p).pvalue, rel=1e-9)
    counts, weights = [5, 1, 9], np.array([0.3, 0.3, 0.4])
    found = sample_ratio_test(counts, weights, method="exact")
    law = scipy.stats.multinomial(15, weights)
    every = [law.pmf([i, j, 15 - i - j]) for i in range(16) for j in range(16 - i)]
    assert sum(every) == pytest.approx(1)
    assert found.pvalue == pytest.approx(sum(p for p in every if p <= law.pmf(counts) * (1 + 1e-9)), rel=1e-9)
    assert sample_ratio_test([[12, 30], [20, 22]], method="exact").pvalue.shape == (2,)


def test_sequential_sample_ratio() -> None:
    counts = np.array([[0.0, 0], [3, 1], [10, 2], [11, 12]])
    found = sequential_sample_ratio(counts)
    # The Bayes factor against a uniform prior is B(a + 1, b + 1) / 2^-(a + b).
    by_hand = [scipy.special.beta(a + 1, b + 1) * 2 ** (a + b) for a, b in counts]
    np.testing.assert_allclose(found.log_e, np.log(by_hand), atol=1e-12)
    assert found.pvalue[-1] == found.pvalue[-2] == pytest.approx(1 / by_hand[2])
    assert found.pvalue[0] == 1
    # Always valid: looked at after every unit, 5 % of the runs at most ever show p <= 0.05; a true mismatch is found.
    for share, low, high in ((0.5, 0.0, 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)), (0.6, 0.95, 1.0)):
        first = np.random.default_rng(3).random((500, 1000)) < share
        table = np.stack([first.cumsum(1), (~first).cumsum(1)], -1)
        assert low <= (sequential_sample_ratio(table).pvalue[:, -1] <= 0.05).mean() <= high
    tight = sequential_sample_ratio(counts, concentration=1000.0)
    assert np.all(np.abs(tight.log_e) < np.abs(found.log_e) + 1e-12)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sample_ratio_test([5, -1]), "a count is negative or no whole number: -1.0"),
        (lambda: sample_ratio_test([5, 1.5]), "no whole number: 1.5"),
        (lambda: sample_ratio_test([0, 0]), "there are no units at all"),
        (lambda: sample_ratio_test([5, 4], [1, 0]), r"weights are \[1.0, 0.0\]"),
        (lambda: sample_ratio_test([5, 4], [1, 1, 1]), "2 or more arms"),
        (lambda: sample_ratio_test([5000, 4000, 3000], method="exact"), "more than the 2,000,000 of an exact test"),
        (lambda: sequential_sample_ratio([[5, 4], [4, 9]]), "counts are cumulative"),
        (lambda: sequential_sample_ratio([[5, 4]], concentration=-1), "the concentration is -1"),
        (lambda: adjust_pvalues([0.5, 1.5]), "1 p-values are outside 0 to 1, such as 1.5"),
        (lambda: gatekeep([[0.1], []]), "family 1 has 0 p-values"),
        (lambda: stratified(estimate_mean(_strata(), "y"), [1, -1, 1]), "give a share of 0 or more"),
        (lambda: group_totals({"rows": [1.0]}, [1]), "a column is named 'rows'"),
    ],
)
def test_data_that_cannot_be(call: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        call()


def test_adjusted_pvalues() -> None:
    # By R's p.adjust.
    p = [0.01, 0.02, 0.03, 0.005]
    np.testing.assert_allclose(adjust_pvalues(p, "bonferroni"), [0.04, 0.08, 0.12, 0.02])
    np.testing.assert_allclose(adjust_pvalues(p, "holm"), [0.03, 0.04, 0.04, 0.02])
    np.testing.assert_allclose(adjust_pvalues(p, "hochberg"), [0.03, 0.03, 0.03, 0.02])
    np.testing.assert_allclose(adjust_pvalues(p, "benjamini-hochberg"), [0.02, 0.08 / 3, 0.03, 0.02])
    many = RNG.random((5, 12)) ** 3
    for ours, theirs in (("benjamini-hochberg", "bh"), ("benjamini-yekutieli", "by")):
        np.testing.assert_allclose(
            adjust_pvalues(many, ours), scipy.stats.false_discovery_control(many, method=theirs, axis=-1)
        )
    many[:, 3] = np.nan
    for method in ("bonferroni", "holm", "hochberg", "benjamini-hochberg", "benjamini-yekutieli"):
        found = adjust_pvalues(many, method)
        assert np.isnan(found[:, 3]).all()
        np.testing.assert_allclose(np.delete(found, 3, 1), adjust_pvalues(np.delete(many, 3, 1), method))
    with pytest.raises(ConfigError, match="method='sidak' is unknown"):
        adjust_pvalues(p, "sidak")


def test_levels_of_intervals() -> None:
    p = [0.001, 0.2, 0.012, 0.9]
    np.testing.assert_allclose(interval_levels(p), 1 - 0.05 / 4)
    np.testing.assert_allclose(interval_levels(p, "benjamini-hochberg"), [0.975, np.nan, 0.975, np.nan])
    with pytest.raises(ConfigError, match="no two-sided intervals match 'holm'"):
        interval_levels(p, "holm")


def test_gates() -> None:
    first, second, third = gatekeep([[0.01, 0.04], [0.001, 0.02], [0.3]])
    np.testing.assert_allclose(first, [0.02, 0.04])
    np.testing.assert_allclose(second, [0.04, 0.04])
    np.testing.assert_allclose(third, [0.3])
    # Parallel, by hand: 0.01 x 2 is rejected from 0.02 on, 0.08 from 0.16 on; in between half the level is passed on.
    first, second = gatekeep([[0.01, 0.08], [0.001, 0.02, 0.5]], "parallel")
    np.testing.assert_allclose(first, [0.02, 0.16])
    np.testing.assert_allclose(second, [0.02, 0.08, 0.5])
    # Under no effect at all, the chance of any rejection is at most the level.
    rng = np.random.default_rng(5)
    hits = sum(min(table.min() for table in gatekeep(list(rng.random((3, 2))), "parallel")) <= 0.1 for _ in range(2000))
    assert hits / 2000 <= 0.1 + 3 * math.sqrt(0.09 / 2000)
    with pytest.raises(ConfigError, match="gate='open' is unknown"):
        gatekeep([[0.5]], "open")


def _strata(seed: int = 0) -> Moments:
    rng = np.random.default_rng(seed)
    stratum = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    return Moments.from_rows({"y": rng.normal(5 * stratum, 1 + stratum), "d": rng.integers(1, 4, 200)}, stratum, 3)


def test_strata() -> None:
    control, treatment = _strata(1), _strata(2)
    share = (control.count + treatment.count) / 400
    found = post_stratify([control, treatment], "y")
    for arm, ours in zip((control, treatment), found, strict=True):
        s = arm.covariance()[:, 0, 0]
        part = share**2 * s / arm.count
        assert ours.value == pytest.approx(share @ arm.mean[:, 0])
        assert ours.variance == pytest.approx(part.sum())
        assert ours.df == pytest.approx(part.sum() ** 2 / (part**2 / (arm.count - 1)).sum())
        assert ours.n == 200
        wide = post_stratify([arm], "y", share, variance="unconditional")[0]
        assert wide.variance == pytest.approx(share @ s / 200 + (1 - share) @ s / 200**2)
    # The strata explain most of it.
    assert found[0].variance < 0.4 * estimate_mean(control.merge(), "y").variance
    ratios = post_stratify([control, treatment], ("y", "d"), [0.5, 0.5, 0])
    each = estimate_ratio(control, "y", "d")
    assert ratios[0].value == pytest.approx((each.value[0] + each.value[1]) / 2)
    missing = Moments.from_rows({"y": [1.0, 2, 3, 4], "d": [1.0] * 4}, [0, 0, 1, 1], 3)
    assert math.isnan(post_stratify([missing, control], "y")[0].value)
    assert post_stratify([missing, control], "y", [1, 1, 0])[0].value == 2.5


def test_clusters() -> None:
    city = np.repeat(np.arange(40), RNG.integers(2, 30, 40))
    y = RNG.normal(size=40)[city] + RNG.normal(size=city.size)
    found = estimate_clustered({"y": y}, "y", city)
    totals = np.array([y[city == c].sum() for c in range(40)])
    sizes = np.array([(city == c).sum() for c in range(40)])
    linear = (totals - y.mean() * sizes) / sizes.mean()
    assert isinstance(found, Estimate)
    assert found.value == pytest.approx(y.mean())
    assert found.variance == pytest.approx(linear.var(ddof=1) / 40)
    assert found.df == 39
    assert design_effect({"y": y}, "y", city) == pytest.approx(found.variance / (y.var(ddof=1) / y.size))
    assert design_effect({"y": y}, "y", city) > 3
    sums, labels = group_totals({"y": [1.0, 2, 3]}, ["b", "a", "b"])
    assert labels.tolist() == ["a", "b"]
    assert {name: column.tolist() for name, column in sums.items()} == {"y": [2, 4], "rows": [1, 2]}
    with pytest.raises(ShapeError, match=r"y has shape \(2,\) and groups \(3,\)"):
        group_totals({"y": [1.0, 2]}, [1, 2, 3])


def test_switchback() -> None:
    blocks = switchback_blocks([0.0, 4.9, 5, 29, 30, 36, -1], period=30, burn_in=5)
    assert blocks.block.tolist() == [0, 0, 0, 0, 1, 1, -1]
    assert blocks.kept.tolist() == [False, False, True, True, False, True, True]
    with pytest.raises(ConfigError, match="period 30 and burn-in 30"):
        switchback_blocks([0.0], 30, 30)


def test_jackknife() -> None:
    x, d = RNG.lognormal(size=(2, 6000))
    even = Moments.from_rows({"x": x, "d": d}, np.arange(6000) % 100, 100)
    of_mean = jackknife(even, lambda m: estimate_mean(m, "x"))
    assert of_mean.value == pytest.approx(x.mean())
    assert of_mean.variance == pytest.approx(even.mean[:, 0].var(ddof=1) / 100)
    uneven = Moments.from_rows({"x": x, "d": d}, RNG.integers(0, 300, 6000), 301)  # the last one is empty
    of_ratio = jackknife(uneven, lambda m: estimate_ratio(m, "x", "d"))
    assert (of_ratio.n, of_ratio.df) == (300, 299)
    assert of_ratio.variance == pytest.approx(estimate_ratio(uneven.merge(), "x", "d").variance, rel=0.25)
    with pytest.raises(DataError, match="with 1 buckets that have units"):
        jackknife(uneven[:1], lambda m: estimate_mean(m, "x"))
