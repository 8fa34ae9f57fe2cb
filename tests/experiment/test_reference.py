"""Every row of the reference that is not sequential, under its named definition, with the peer that it comes from."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.experiment import reference
from treadle.experiment.comparison import compare
from treadle.experiment.cuped import estimate_cuped
from treadle.experiment.effects import Effect, difference
from treadle.experiment.estimates import Estimate, estimate_mean, estimate_proportion, estimate_ratio
from treadle.experiment.moments import Moments
from treadle.experiment.proportions import compare_proportions
from treadle.experiment.ranks import mann_whitney
from treadle.experiment.regression import ancova
from treadle.experiment.relative import relative_difference
from treadle.experiment.sample_ratio import sample_ratio_test

Pair = tuple[Estimate, Estimate]


def mean(column: str, ddof: float = 1) -> Pair:
    a, b = reference.arms()
    return estimate_mean(a, column, ddof), estimate_mean(b, column, ddof)


def proportion(ddof: float) -> Pair:
    a, b = reference.arms()
    return estimate_proportion(a, "converted", ddof), estimate_proportion(b, "converted", ddof)


def ratio() -> Pair:
    a, b = reference.arms()
    return estimate_ratio(a, "orders", "sessions"), estimate_ratio(b, "orders", "sessions")


def cuped(column: str, **options: object) -> Pair:
    a, b = estimate_cuped(reference.arms(), column, f"{column.replace('converted', 'orders')}_pre", **options)
    return a, b


def cuped_ratio(pooling: str) -> Pair:
    a, b = estimate_cuped(reference.arms(), ("orders", "sessions"), [("orders_pre", "sessions_pre")], pooling=pooling)
    return a, b


def relative(pair: Pair, convention: str, **options: object) -> Effect:
    return relative_difference(*pair, convention=convention, **options)


def counts() -> list[float]:
    return [float(arm.count) for arm in reference.arms()]


def ranks() -> float:
    table = reference.table()
    treated = table["variant"] == 1
    return mann_whitney(table["revenue"][~treated], table["revenue"][treated]).pvalue


CUPED = "revenue CUPED relative effect: 2 conventions"
CASES: list[tuple[str, str, Callable[[], float]]] = [
    ("revenue abs diff", "reference", lambda: difference(*mean("revenue")).effect_size),
    ("revenue Welch-t CI lower", "reference", lambda: difference(*mean("revenue")).effect_size_ci_lower),
    ("revenue Welch-t CI upper", "reference", lambda: difference(*mean("revenue")).effect_size_ci_upper),
    ("revenue Welch p", "reference", lambda: difference(*mean("revenue")).pvalue),
    ("converted Welch p (ddof=1)", "reference", lambda: difference(*proportion(1)).pvalue),
    ("converted Welch p (ddof=1)", "gbstats_mean", lambda: difference(*mean("converted")).pvalue),
    ("converted unpooled z p (ddof=0)", "reference", lambda: difference(*proportion(0), test="z").pvalue),
    ("converted unpooled z p (ddof=0)", "reference", lambda: compare_proportions(*proportion(0), pooled=False).pvalue),
    ("converted pooled z / chi2 p", "reference", lambda: compare_proportions(*proportion(0)).pvalue),
    (
        "converted tea Proportion p (continuity corrected)",
        "reference",
        lambda: compare_proportions(*proportion(0), correction=True).pvalue,
    ),
    ("revenue CUPED diff", "reference", lambda: difference(*cuped("revenue")).effect_size),
    ("revenue CUPED CI lower", "reference", lambda: difference(*cuped("revenue")).effect_size_ci_lower),
    ("revenue CUPED p", "reference", lambda: difference(*cuped("revenue")).pvalue),
    ("revenue CUPED p (normal)", "reference", lambda: difference(*cuped("revenue", covariate_ddof=0), test="z").pvalue),
    (
        "revenue CUPED vs OLS ANCOVA diff (different theta)",
        "ols",
        lambda: ancova(*reference.arms(), "revenue", ["revenue_pre"]).effect_size,
    ),
    (
        "revenue CUPED vs OLS ANCOVA diff (different theta)",
        "ols",
        lambda: difference(*cuped("revenue", pooling="within")).effect_size,
    ),
    ("converted CUPED p", "reference", lambda: difference(*cuped("converted")).pvalue),
    ("orders/session diff", "reference", lambda: difference(*ratio()).effect_size),
    ("orders/session delta p (t)", "reference", lambda: difference(*ratio()).pvalue),
    ("orders/session CUPED diff", "reference", lambda: difference(*cuped_ratio("total")).effect_size),
    ("orders/session CUPED diff", "gbstats", lambda: difference(*cuped_ratio("averaged")).effect_size),
    ("orders/session CUPED p", "reference", lambda: difference(*cuped_ratio("total")).pvalue),
    ("orders/session CUPED p", "gbstats", lambda: difference(*cuped_ratio("averaged")).pvalue),
    ("revenue relative effect", "reference", lambda: compare(*mean("revenue")).rel_effect_size),
    (
        "revenue relative CI lower: 3 conventions",
        "reference",
        lambda: relative(mean("revenue"), "delta").effect_size_ci_lower,
    ),
    (
        "revenue relative CI lower: 3 conventions",
        "tea_logratio",
        lambda: relative(mean("revenue"), "log-ratio").effect_size_ci_lower,
    ),
    (
        "revenue relative CI lower: 3 conventions",
        "spotify_scaled",
        lambda: relative(mean("revenue"), "scaled").effect_size_ci_lower,
    ),
    (CUPED, "reference", lambda: relative(cuped("revenue"), "delta", base="unadjusted").effect_size),
    (CUPED, "tea_adj_base", lambda: relative(cuped("revenue"), "log-ratio").effect_size),
    (CUPED, "spotify", lambda: relative(cuped("revenue", covariate_ddof=0), "scaled", test="z").effect_size),
    (
        "revenue CUPED relative stddev: 0.8.0 vs HEAD",
        "reference",
        lambda: relative(cuped("revenue"), "delta", base="unadjusted").standard_error,
    ),
    (
        "revenue CUPED relative stddev: 0.8.0 vs HEAD",
        "v080",
        lambda: relative(cuped("revenue"), "delta", base="unadjusted-plugin").standard_error,
    ),
    ("SRM p", "reference", lambda: sample_ratio_test(counts()).pvalue),
    ("SRM p (tea, continuity corrected)", "reference", lambda: sample_ratio_test(counts(), method="corrected").pvalue),
    ("Mann-Whitney revenue p", "reference", ranks),
]
SEQUENTIAL = {"revenue sequential (AsympCS, tuning 5000) CI lower", "revenue sequential p"}
WRONG = {"revenue Welch p (tea-tasting, PyArrow input)"}  # a fault of the peer


@pytest.mark.parametrize(("quantity", "peer", "ours"), CASES, ids=[f"{name} [{peer}]" for name, peer, _ in CASES])
def test_a_row_of_the_reference(quantity: str, peer: str, ours: Callable[[], float]) -> None:
    row = reference.rows()[quantity]
    assert ours() == pytest.approx(row["value" if peer == "reference" else peer], rel=1e-9, abs=0)


def test_no_row_is_left_out() -> None:
    assert {quantity for quantity, _, _ in CASES} | SEQUENTIAL | WRONG == set(reference.rows())


@pytest.mark.parametrize("arm", [0, 1])
def test_rows_and_raw_sums_give_the_same_moments(arm: int) -> None:
    table = reference.table()
    made = Moments.from_rows({name: table[name] for name in reference.COLUMNS}, table["variant"], 2)[arm]
    count, total, products = reference.raw(str(arm))
    assert made.count == count
    np.testing.assert_allclose(made.mean * count, total, rtol=1e-12)
    np.testing.assert_allclose(made.product + count * np.outer(made.mean, made.mean), products, rtol=1e-12)
