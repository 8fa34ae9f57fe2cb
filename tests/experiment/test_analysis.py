"""From a table to effects: the reference through the public interface, and what becomes of rows that cannot be used."""

import functools
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ibis")
pa = pytest.importorskip("pyarrow")

from tests.experiment import postgres, reference  # noqa: E402
from treadle.core import ConfigError, DataError, DTypeError  # noqa: E402
from treadle.experiment.analysis import Experiment  # noqa: E402
from treadle.experiment.bucket_axis import Bucket  # noqa: E402
from treadle.experiment.metrics import Capped, Count, Mean, Proportion, Quantile, Ratio  # noqa: E402
from treadle.experiment.quality import Policy  # noqa: E402
from treadle.experiment.relative import relative_difference  # noqa: E402
from treadle.experiment.result import Result  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*fetch_arrow_table.*:DeprecationWarning")

RATIO = [("orders_pre", "sessions_pre")]
PARITY = {
    "mean": Mean("revenue"),
    "mean_delta": Mean("revenue", relative="delta"),
    "mean_scaled": Mean("revenue", relative="scaled"),
    "welch": Proportion("converted"),
    "unpooled": Proportion("converted", ddof=0, test="z"),
    "pooled": Proportion("converted", method="pooled"),
    "corrected": Proportion("converted", method="corrected"),
    "cuped": Mean("revenue", covariates="revenue_pre"),
    "cuped_z": Mean("revenue", covariates="revenue_pre", covariate_ddof=0, test="z", relative="scaled"),
    "cuped_unadjusted": Mean("revenue", covariates="revenue_pre", relative="delta", base="unadjusted"),
    "cuped_within": Mean("revenue", covariates="revenue_pre", pooling="within"),
    "cuped_flag": Proportion("converted", covariates="orders_pre"),
    "ratio": Ratio("orders", "sessions"),
    "cuped_ratio": Ratio("orders", "sessions", covariates=RATIO),
    "cuped_ratio_averaged": Ratio("orders", "sessions", covariates=RATIO, pooling="averaged"),
}
ROWS = [
    ("revenue abs diff", "value", "mean", "effect_size"),
    ("revenue Welch-t CI lower", "value", "mean", "effect_size_ci_lower"),
    ("revenue Welch-t CI upper", "value", "mean", "effect_size_ci_upper"),
    ("revenue Welch p", "value", "mean", "pvalue"),
    ("converted Welch p (ddof=1)", "value", "welch", "pvalue"),
    ("converted Welch p (ddof=1)", "gbstats_mean", "welch", "pvalue"),
    ("converted unpooled z p (ddof=0)", "value", "unpooled", "pvalue"),
    ("converted pooled z / chi2 p", "value", "pooled", "pvalue"),
    ("converted tea Proportion p (continuity corrected)", "value", "corrected", "pvalue"),
    ("revenue CUPED diff", "value", "cuped", "effect_size"),
    ("revenue CUPED CI lower", "value", "cuped", "effect_size_ci_lower"),
    ("revenue CUPED p", "value", "cuped", "pvalue"),
    ("revenue CUPED p (normal)", "value", "cuped_z", "pvalue"),
    ("revenue CUPED vs OLS ANCOVA diff (different theta)", "ols", "cuped_within", "effect_size"),
    ("converted CUPED p", "value", "cuped_flag", "pvalue"),
    ("orders/session diff", "value", "ratio", "effect_size"),
    ("orders/session delta p (t)", "value", "ratio", "pvalue"),
    ("orders/session CUPED diff", "value", "cuped_ratio", "effect_size"),
    ("orders/session CUPED diff", "gbstats", "cuped_ratio_averaged", "effect_size"),
    ("orders/session CUPED p", "value", "cuped_ratio", "pvalue"),
    ("orders/session CUPED p", "gbstats", "cuped_ratio_averaged", "pvalue"),
    ("revenue relative effect", "value", "mean", "rel_effect_size"),
    ("revenue relative CI lower: 3 conventions", "value", "mean_delta", "rel_effect_size_ci_lower"),
    ("revenue relative CI lower: 3 conventions", "tea_logratio", "mean", "rel_effect_size_ci_lower"),
    ("revenue relative CI lower: 3 conventions", "spotify_scaled", "mean_scaled", "rel_effect_size_ci_lower"),
    ("revenue CUPED relative effect: 2 conventions", "value", "cuped_unadjusted", "rel_effect_size"),
    ("revenue CUPED relative effect: 2 conventions", "tea_adj_base", "cuped", "rel_effect_size"),
    ("revenue CUPED relative effect: 2 conventions", "spotify", "cuped_z", "rel_effect_size"),
]


@pytest.fixture(scope="module")
def parity(tmp_path_factory: pytest.TempPathFactory) -> Result:
    import runpy

    from pyarrow import parquet

    reference.need()
    path = tmp_path_factory.mktemp("data") / "ab_1m.parquet"
    parquet.write_table(runpy.run_path(str(reference.FOLDER / "generate.py"))["make"](), path)
    return Experiment(PARITY, unit="user_id").analyze(path)


@pytest.mark.parametrize(("quantity", "peer", "metric", "field"), ROWS)
def test_a_row_of_the_reference(parity: Result, quantity: str, peer: str, metric: str, field: str) -> None:
    assert getattr(parity[metric], field) == pytest.approx(reference.rows()[quantity][peer], rel=1e-9, abs=0)


@pytest.mark.parametrize(("base", "peer"), [("unadjusted", "value"), ("unadjusted-plugin", "v080")])
def test_estimates_of_the_moment_table(parity: Result, base: str, peer: str) -> None:
    cuped = PARITY["cuped"]
    arms = cuped.estimate(parity.table.arms(cuped.columns()))
    found = relative_difference(*arms, convention="delta", base=base).standard_error
    wanted = reference.rows()["revenue CUPED relative stddev: 0.8.0 vs HEAD"][peer]
    assert found == pytest.approx(wanted, rel=1e-9, abs=0)


@functools.cache
def frame() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    n = 3000
    return {
        "user": np.arange(n) + 1000,
        "variant": np.array(["blue", "green", "red"])[rng.integers(0, 3, n)],
        "spend": rng.gamma(2.0, 10.0, n),
        "past": rng.gamma(2.0, 10.0, n),
        "visits": rng.poisson(3.0, n) + 1,
        "bought": rng.integers(0, 2, n),
        "land": np.array(["de", "jp"])[rng.integers(0, 2, n)],
        "day": np.datetime64("2026-02-01") + rng.integers(0, 5, n),
    }


def changed(**columns: Any) -> Any:
    return pa.table({**frame(), **columns})


def spend(**options: Any) -> Experiment:
    return Experiment({"spend": Mean("spend", covariates="past")}, unit="user", control="blue", **options)


def test_rows_of_several_treatments_segments_and_looks() -> None:
    metrics = {"spend": Mean("spend"), "rate": Ratio("bought", "visits"), "even": Mean("spend", strata="land")}
    experiment = Experiment(metrics, unit="user", axes={"day": "day", "bucket": Bucket("user", 10)})
    result = experiment.analyze(changed())
    assert [(row.metric, row.treatment_variant) for row in result][:3] == [
        ("spend", "green"),
        ("spend", "red"),
        ("rate", "green"),
    ]
    with pytest.raises(DataError, match="2 rows are of 'spend'"):
        result["spend"]
    with pytest.raises(DataError, match="did you mean `spend`"):
        result["spemd"]
    german = pa.table({name: column[frame()["land"] == "de"] for name, column in frame().items()})
    alone = Experiment(metrics, unit="user").analyze(german)
    for row in result.by("land"):
        if dict(row.group)["land"] == "de":
            same = alone[row.metric, row.treatment_variant]
            np.testing.assert_allclose(row[3:15], same[3:15], rtol=1e-9)
    early = pa.table({name: column[frame()["day"] <= np.datetime64("2026-02-03")] for name, column in frame().items()})
    then = Experiment(metrics, unit="user").analyze(early)
    for row in result.looks():
        if str(dict(row.group)["day"]) == "2026-02-03":
            np.testing.assert_allclose(row[3:15], then[row.metric, row.treatment_variant][3:15], rtol=1e-9)
    assert len(result.by("bucket")) == 10 * 6


def test_what_a_result_becomes() -> None:
    result = spend().analyze(changed())
    told = json.loads(result.to_json())
    assert told["rows"][0]["metric"] == "spend"
    assert told["rows"][0]["pvalue"] == result["spend", "green"].pvalue
    assert sum(told["funnel"]["analysed"].values()) == 3000
    assert result.to_arrow().num_rows == 2
    text = str(result)
    assert "spend" in text
    assert f"{result['spend', 'red'].rel_effect_size:+.2%}" in text


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_out(library: str) -> None:
    pytest.importorskip(library)
    made = getattr(spend().analyze(changed()), f"to_{library}")()
    assert list(made["metric"]) == ["spend", "spend"]


def test_a_quantile_of_units_and_of_rows() -> None:
    rng = np.random.default_rng(2)
    pick = rng.integers(0, 3000, 9000)
    loads = {"user": frame()["user"][pick], "variant": frame()["variant"][pick], "ms": rng.gamma(3.0, 100.0, 9000)}
    metrics = [Quantile("spend", 0.9), Quantile("ms", 0.95, rows="loads")]
    result = Experiment(metrics, unit="user").analyze(changed(), {"loads": pa.table(loads)})
    own = frame()["spend"][frame()["variant"] == "blue"]
    assert result["spend quantile 0.9", "red"].control == np.quantile(own, 0.9, method="inverted_cdf")
    slow = loads["ms"][loads["variant"] == "red"]
    assert result["ms quantile 0.95", "red"].treatment == np.quantile(slow, 0.95, method="inverted_cdf")
    with pytest.raises(ConfigError, match=r"give analyze\(rows="):
        Experiment(metrics, unit="user").analyze(changed())


def holes(value: float, at: tuple[int, ...] = (3, 10)) -> Any:
    spend = frame()["spend"].copy()
    spend[list(at)] = value
    return changed(spend=pa.array(spend, from_pandas=True))


def test_null_values_are_an_error_by_default() -> None:
    with pytest.raises(DataError, match="2 rows where spend is null, such as user 1003, user 1010"):
        spend().analyze(holes(np.nan))
    with pytest.raises(DataError, match="2 rows where spend is infinite, such as user 1003, user 1010"):
        spend().analyze(holes(np.inf))


def test_null_values_count_as_zero() -> None:
    result = spend(policy=Policy(missing="zero")).analyze(holes(np.nan))
    want = spend().analyze(holes(0.0))
    np.testing.assert_allclose(result["spend", "red"][3:15], want["spend", "red"][3:15], rtol=1e-12)
    assert str(result.funnel.filled[0]).startswith("2 rows where spend was null and counts as 0")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_are_left_out_and_counted(value: float) -> None:
    result = spend(policy=Policy(missing="exclude", infinite="exclude")).analyze(holes(value))
    kept = np.ones(3000, bool)
    kept[[3, 10]] = False
    want = spend().analyze(pa.table({name: column[kept] for name, column in frame().items()}))
    np.testing.assert_allclose(result["spend", "red"][3:15], want["spend", "red"][3:15], rtol=1e-12)
    assert result.funnel.exposed == 3000
    assert result.funnel.excluded[0].units == 2


def test_units_with_several_rows() -> None:
    user = frame()["user"].copy()
    variant = frame()["variant"]
    other = np.flatnonzero(variant != variant[0])[-1]
    first, same = np.flatnonzero(variant == "red")[[20, 21]]
    user[other], user[same] = user[0], user[first]
    with pytest.raises(DataError, match=r"2 rows of units in more than one variant \(user\), such as 1000; 2 rows of"):
        spend().analyze(changed(user=user))
    result = spend(policy=Policy(duplicates="exclude")).analyze(changed(user=user))
    assert sum(result.funnel.analysed.values()) == 2996
    assert sum(item.units for item in result.funnel.excluded) == 4


def test_a_unit_that_is_null() -> None:
    user = frame()["user"].astype(object)
    user[0] = None
    with pytest.raises(DataError, match="is null in 1 of 3,000 rows"):
        spend().analyze(changed(user=pa.array(user.tolist())))


def test_unknown_variants() -> None:
    experiment = spend(variants=("blue", "green"))
    with pytest.raises(DataError, match="rows of unknown variants, such as red; the variants are blue, green"):
        experiment.analyze(changed())
    two = spend(variants=("blue", "green"), policy=Policy(unknown="exclude")).analyze(changed())
    assert set(two.funnel.analysed) == {"blue", "green"}
    assert sum(two.funnel.analysed.values()) + two.funnel.excluded[0].units == 3000
    variant = frame()["variant"].astype(object)
    variant[7] = None
    with pytest.raises(DataError, match="1 rows of unknown variants, such as None"):
        spend().analyze(changed(variant=pa.array(variant.tolist())))


def test_arms_and_columns_that_are_not_there() -> None:
    with pytest.raises(DataError, match=r"the arms \['gold'\] are empty"):
        spend(variants=("blue", "green", "red", "gold")).analyze(changed())
    with pytest.raises(DataError, match=r"no column .spnd.; .*did you mean `spend`"):
        Experiment([Mean("spnd")]).analyze(changed())
    with pytest.raises(DataError, match=r"the control .bleu. .*did you mean `blue`"):
        Experiment([Mean("spend")], control="bleu").analyze(changed())
    with pytest.raises(ConfigError, match="spend more than once"):
        Experiment([Mean("spend"), Mean("spend", test="z")])


def test_no_rows_and_no_numbers() -> None:
    nothing = pa.table({name: column[:0] for name, column in frame().items()})
    with pytest.raises(DataError, match="there are not two arms; the data has no units"):
        Experiment([Mean("spend")]).analyze(nothing)
    with pytest.raises(DTypeError, match="the column 'spend' is of type string"):
        spend().analyze(changed(spend=frame()["spend"].astype(str)))


def test_a_count_below_zero() -> None:
    visits = frame()["visits"].copy()
    visits[4] = -1
    with pytest.raises(DataError, match="1 rows where visits is negative, such as user 1004"):
        Experiment([Count("visits")], unit="user").analyze(changed(visits=visits))


def test_arms_that_do_not_vary_have_no_p_value() -> None:
    result = Experiment([Mean("spend")]).analyze(changed(spend=np.ones(3000)))
    assert np.isnan(result["spend", "red"].pvalue)
    assert result["spend", "red"].note == "no arm varies"
    assert json.loads(result.to_json())["rows"][0]["pvalue"] is None


def test_a_capped_metric_is_the_mean_of_the_capped_column() -> None:
    limit = np.quantile(frame()["spend"], 0.9)
    found = Experiment({"x": Capped("spend", quantile=0.9)}).analyze(changed())
    want = Experiment({"x": Mean("spend")}).analyze(changed(spend=np.minimum(frame()["spend"], limit)))
    np.testing.assert_allclose(found["x", "red"][3:15], want["x", "red"][3:15], rtol=1e-12)


def test_the_same_on_postgres() -> None:
    spend = frame()["spend"].copy()
    user = frame()["user"].copy()
    variant = frame()["variant"].astype(object)
    spend[3], spend[10], spend[11] = np.nan, np.inf, -np.inf
    user[20] = user[21]
    variant[30], variant[31] = "violet", None
    data = pa.table({**frame(), "spend": spend, "user": user, "variant": pa.array(variant.tolist())})
    metrics = {
        "spend": Mean("spend", covariates=["past", ("bought", "visits")]),
        "even": Capped("spend", quantile=0.9, strata="land"),
        "bought": Proportion("bought"),
        "visits": Count("visits"),
        "rate": Ratio("bought", "visits"),
        "high": Quantile("past", 0.9),
    }
    options = {"unit": "user", "variants": ("blue", "green", "red"), "axes": {"day": "day"}}
    leave_out = Policy("exclude", "exclude", "exclude", "exclude")
    with postgres.connection() as server:
        server.create_table("units", data)
        with pytest.raises(DataError, match=r"rows of units .*\(user\), such as 1021"):
            Experiment(metrics, **options).analyze(server.table("units"))
        there = Experiment(metrics, **options, policy=leave_out).analyze(server.table("units"))
    here = Experiment(metrics, **options, policy=leave_out).analyze(data)
    assert there.funnel == here.funnel
    assert sum(item.units for item in here.funnel.excluded) == 7
    for looks in (lambda result: result, lambda result: result.by("land"), lambda result: result.looks()):
        for a, b in zip(looks(there), looks(here), strict=True):
            assert (*a[:3], *a[15:]) == (*b[:3], *b[15:])
            np.testing.assert_allclose(a[3:15], b[3:15], rtol=1e-9)
