"""Metrics say what they need and estimate from it: against the estimators, called by hand."""

import numpy as np
import pytest

pytest.importorskip("ibis")

from treadle.core import ConfigError, DataError
from treadle.experiment.cuped import estimate_cuped
from treadle.experiment.estimates import estimate_mean, estimate_ratio
from treadle.experiment.metrics import (
    Capped,
    Count,
    Mean,
    Metric,
    Proportion,
    Quantile,
    Ratio,
    Retention,
)
from treadle.experiment.moments import Moments
from treadle.experiment.request import Cap, Request
from treadle.experiment.strata import post_stratify, stratified

RNG = np.random.default_rng(11)
ROWS = {name: RNG.gamma(2.0, size=600) for name in "abcd"} | {"flag": (RNG.random(600) < 0.4).astype(float)}
CELLS = Moments.from_rows(ROWS, RNG.integers(0, 6, 600), (2, 3))
ARMS = [CELLS[0].merge(), CELLS[1].merge()]


@pytest.mark.parametrize(
    ("metric", "name", "columns"),
    [
        (Mean("a"), "a", ("a",)),
        (Mean("a", covariates="b"), "a", ("a", "b")),
        (Mean("a", covariates=["b", ("c", "a")], name="x"), "x", ("a", "b", "c")),
        (Ratio("a", "b", covariates=[("c", "d")]), "a / b", ("a", "b", "c", "d")),
        (Capped("a", at=3), "a capped at 3", ("a capped at 3",)),
        (Ratio(Cap("a", quantile=0.99), "b"), "a capped at quantile 0.99 / b", ("a capped at quantile 0.99", "b")),
        (Proportion("flag"), "flag", ("flag",)),
        (Retention("flag"), "flag", ("flag",)),
        (Count("a"), "a", ("a",)),
        (Quantile("a", 0.95), "a quantile 0.95", ()),
    ],
)
def test_a_metric_says_what_it_needs(metric: Metric, name: str, columns: tuple[str, ...]) -> None:
    assert metric.name == name
    assert metric.columns() == columns


def test_a_request_has_the_pairs_of_each_metric_once() -> None:
    request = Request.of([Mean("a", covariates="b").sources(), Ratio("b", "a").sources(), Mean("c").sources()])
    assert request.names == ("a", "b", "c")
    assert set(request.pairs) == {("a", "a"), ("a", "b"), ("b", "b"), ("c", "c")}


def test_estimates_are_those_of_the_estimators() -> None:
    assert Mean("a").estimate(ARMS) == [estimate_mean(arm, "a") for arm in ARMS]
    assert Ratio("a", "b", ddof=0).estimate(ARMS) == [estimate_ratio(arm, "a", "b", 0) for arm in ARMS]
    options = {"pooling": "separate", "covariate_ddof": 0}
    found = Mean("a", covariates=["b", ("c", "d")], **options).estimate(ARMS)
    assert found == estimate_cuped(ARMS, "a", ["b", ("c", "d")], **options)


def test_strata_with_and_without_covariates() -> None:
    arms = [CELLS[0], CELLS[1]]
    assert Mean("a", strata="land").estimate(arms) == post_stratify(arms, "a")
    share = CELLS.count.sum(0)
    want = [stratified(each, share) for each in estimate_cuped(arms, "a", ["b"])]
    assert Mean("a", strata="land", covariates="b").estimate(arms) == want


def test_options_reach_the_comparison() -> None:
    a, b = Mean("a").estimate(ARMS)
    assert Mean("a", test="z").compare(a, b).pvalue != Mean("a").compare(a, b).pvalue
    plain, scaled = Mean("a").compare(a, b), Mean("a", relative="scaled").compare(a, b)
    assert plain.effect_size == scaled.effect_size
    assert plain.rel_effect_size_ci_lower != scaled.rel_effect_size_ci_lower
    one_sided = Mean("a").compare(a, b, "greater", 0.9)
    assert one_sided.effect_size_ci_upper == np.inf


def test_a_quantile_is_of_values() -> None:
    found = Quantile("a", 0.5).estimate_values(np.arange(101.0))
    assert found.value == 50


def test_metrics_that_contradict_themselves() -> None:
    for make, said in (
        (lambda: Capped("a").cap, "give one of the two"),
        (lambda: Cap("a", quantile=1.5), "it is a share"),
        (lambda: Quantile("a", 95), "it is a share such as 0.95"),
        (lambda: Quantile("a", covariates="b"), "leave them out"),
        (lambda: Proportion("flag", method="pooled", covariates="b"), "takes no covariates"),
        (lambda: Proportion("flag", method="chi2"), "it is one of"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()
    with pytest.raises(DataError, match="a is not a column of zeros and ones"):
        Proportion("a").estimate(ARMS)
