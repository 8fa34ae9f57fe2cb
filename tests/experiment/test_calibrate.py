"""The A/A harness: what it measures is right, sound estimators pass it, and each kind of wrong one does not."""

from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats

from treadle.core import ConfigError, DataError
from treadle.experiment.calibrate import (
    Calibration,
    added,
    calibrate,
    calibrate_assignment,
    calibrate_rows,
    resalted,
    scaled,
    table_error,
)
from treadle.experiment.cuped import estimate_cuped
from treadle.experiment.effects import Effect, difference
from treadle.experiment.estimates import estimate_mean, estimate_proportion, estimate_ratio
from treadle.experiment.hashing import buckets_of, salt_of
from treadle.experiment.moments import Moments
from treadle.experiment.proportions import compare_proportions
from treadle.experiment.relative import relative_difference
from treadle.experiment.resampling import Bootstrap, bootstrap
from treadle.experiment.simulate import Simulation, simulate


def welch(column: str):
    return lambda a, b: difference(estimate_mean(a, column), estimate_mean(b, column))


def ratio(a: Moments, b: Moments) -> Effect:
    return difference(*(estimate_ratio(arm, "orders", "sessions") for arm in (a, b)))


def cuped(a: Moments, b: Moments) -> Effect:
    return difference(*estimate_cuped([a, b], "revenue", ["revenue_pre", "orders_pre"]))


def lift(convention: str):
    return lambda a, b: relative_difference(
        estimate_mean(a, "revenue"), estimate_mean(b, "revenue"), convention=convention
    )


SOUND = {
    "mean": welch("revenue"),
    "ratio": ratio,
    "cuped": cuped,
    "relative delta": lift("delta"),
    "relative log-ratio": lift("log-ratio"),
    "fieller": lift("fieller"),
    "proportion": lambda a, b: compare_proportions(*(estimate_proportion(arm, "converted") for arm in (a, b))),
}


class Fixed(NamedTuple):
    pvalue: np.ndarray
    effect_size_ci_lower: np.ndarray
    effect_size_ci_upper: np.ndarray


def shop(units: int = 5000, tables: int = 20, seed: int = 0, buckets: int = 1000) -> Moments:
    data = simulate(Simulation(units=units), seed).units
    names = ("revenue", "orders", "sessions", "converted", "revenue_pre", "orders_pre")
    return resalted({name: data[name] for name in names}, data["unit"], tables=tables, buckets=buckets)


def by_name(found: tuple[Calibration, ...]) -> dict[str, str]:
    return {one.name: one.finding.status for one in found}


# ---- what it measures ------------------------------------------------------------------------------------------------


def test_figures_of_known_pvalues():
    rng = np.random.default_rng(0)
    p = rng.random(1000)
    state = iter(np.split(p, 2))

    def given(control: Moments, treatment: Moments) -> Fixed:
        part = next(state)
        return Fixed(part, np.where(part <= 0.05, 1.0, -1.0), np.full(part.size, 2.0))

    (found,) = calibrate(shop(500, 1), {"given": given}, replicates=1000)
    hits = int((p <= 0.05).sum())
    assert found.false_positives == hits / 1000
    ends = scipy.stats.binomtest(hits, 1000).proportion_ci(0.95)
    assert (found.false_positives_ci_lower, found.false_positives_ci_upper) == pytest.approx(tuple(ends), rel=1e-9)
    assert found.coverage == 1 - hits / 1000
    assert found.uniformity == pytest.approx(scipy.stats.kstest(p, "uniform").statistic, rel=1e-12)
    assert found.uniformity_pvalue == pytest.approx(scipy.stats.kstest(p, "uniform", method="asymp").pvalue, rel=1e-6)
    assert found.undefined == 0


def test_a_replicate_deals_all_buckets_to_two_arms():
    table = shop(800, 2, buckets=50)
    seen = []

    def spy(control: Moments, treatment: Moments) -> Effect:
        seen.append((control, treatment))
        return welch("revenue")(control, treatment)

    calibrate(table, {"spy": spy}, replicates=6, treated=0.3)
    assert [a.shape for a, _ in seen] == [(3,), (3,)]
    for (control, treatment), whole in zip(seen, table.merge(1)[:].count, strict=True):
        assert np.all(control.count + treatment.count == whole)
        assert treatment.count.mean() / whole == pytest.approx(0.3, abs=0.1)


def test_equal_seeds_give_equal_results():
    table = shop(1000, 2)
    first, again, other = (calibrate(table, {"mean": welch("revenue")}, replicates=400, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_plants():
    rows = {"v": np.array([1.0, 4.0, 2.0]), "w": np.array([2.0, 1.0, 3.0])}
    moments = Moments.from_rows(rows)
    for plant, wanted in (
        (added("v", 0.5), {**rows, "v": rows["v"] + 0.5}),
        (added("v", 0.5, "w"), {**rows, "v": rows["v"] + 0.5 * rows["w"]}),
        (scaled("v", 0.5), {**rows, "v": rows["v"] * 1.5}),
    ):
        made, right = plant.change(moments), Moments.from_rows(wanted)
        assert made.mean + made.rest == pytest.approx(right.mean + right.rest, rel=1e-14)
        assert made.product == pytest.approx(right.product, rel=1e-13)
        assert plant.truth == 0.5


def test_the_error_of_one_table():
    # The rate of 2 (1 - Phi(1.96 s)) with a sample variance s^2 of 1,000 normal values.
    rng = np.random.default_rng(1)
    s = np.sqrt(rng.chisquare(999, 100_000) / 999)
    rates = 2 * scipy.stats.norm.sf(1.959964 / s)
    assert table_error(1000) == pytest.approx(rates.std(), rel=0.02)


def test_resalted_tables_hold_the_same_units():
    rng = np.random.default_rng(2)
    units, day, values = np.arange(300), rng.integers(0, 4, 300), rng.random(300)
    plain = resalted({"v": values}, units, buckets=10, tables=3)
    assert plain.shape == (3, 10)
    assert plain.merge(1).mean == pytest.approx(np.full((3, 1), values.mean()))
    assert not np.array_equal(plain.count[0], plain.count[1])
    looks = resalted({"v": values}, units, buckets=10, tables=3, looks=day)
    assert looks.shape == (3, 4, 10)
    assert np.array_equal(looks[:, 3].count, plain.count)
    assert looks.merge(2).count.tolist() == [[(day <= last).sum() for last in range(4)]] * 3


# ---- sound and wrong estimators --------------------------------------------------------------------------------------


def test_sound_estimators_pass():
    assert set(by_name(calibrate(shop(), SOUND, replicates=2000)).values()) == {"pass"}


def test_planted_effects_are_covered():
    table = shop()
    found = [
        *calibrate(
            table, {name: SOUND[name] for name in ("mean", "cuped")}, replicates=1000, plant=added("revenue", 3)
        ),
        *calibrate(table, {"fieller": SOUND["fieller"]}, replicates=1000, plant=scaled("revenue", 0.1)),
        *calibrate(table, {"ratio": ratio}, replicates=1000, plant=added("orders", 0.05, "sessions")),
    ]
    assert set(by_name(tuple(found)).values()) == {"pass"}
    (missed,) = calibrate(
        table, {"mean": welch("revenue")}, replicates=1000, plant=added("revenue", 3.0)._replace(truth=0.0)
    )
    assert missed.coverage < 0.9
    assert missed.finding.status == "block"


def test_wrong_estimators_are_blocked_and_cautious_ones_warned_of():
    def wrong(factor: float):
        def narrow(a: Moments, b: Moments) -> Effect:
            arms = [estimate_mean(arm, "revenue") for arm in (a, b)]
            return difference(*(arm._replace(variance=arm.variance * factor) for arm in arms))

        return narrow

    def blind(a: Moments, b: Moments) -> Fixed:
        nan = np.full(a.shape, np.nan)
        return Fixed(nan, -np.ones(a.shape), np.ones(a.shape))

    named = {"narrow": wrong(0.6), "wide": wrong(2.0), "blind": blind}
    found = calibrate(shop(), named, replicates=2000)
    assert by_name(found) == {"narrow": "block", "wide": "warn", "blind": "warn"}
    assert found[0].finding.name == "calibration of narrow"
    assert "needlessly cautious" in found[1].finding.found
    assert found[2].undefined == 2000
    assert "2,000 undefined" in str(found[2])


def test_small_pvalues_alone_are_enough_to_block():
    # At 5 % all is well, at 1 % it is not.
    rng = np.random.default_rng(3)

    def lying(a: Moments, b: Moments) -> Fixed:
        p = rng.random(a.count.size)
        p = np.where(p < 0.05, 1e-6, p)
        p = np.where((p > 0.05) & (p < 0.6), 0.051, p)
        return Fixed(p, -np.ones(p.size), np.ones(p.size))

    (found,) = calibrate(shop(500), {"lying": lying}, replicates=2000)
    assert abs(found.false_positives - 0.05) < 0.015
    assert found.finding.status == "block"


def test_looks_are_given_to_the_estimator_first():
    rng = np.random.default_rng(4)
    day = rng.integers(0, 5, 3000)
    table = resalted({"v": rng.random(3000)}, np.arange(3000), looks=day)

    def last(a: Moments, b: Moments) -> Effect:
        assert a.shape[0] == 5
        assert np.all(np.diff(a.count, axis=0) > 0)
        return welch("v")(a[4], b[4])

    assert by_name(calibrate(table, {"last": last}, replicates=1000)) == {"last": "pass"}


def test_assignments_are_calibrated_over_salts():
    rng = np.random.default_rng(5)
    values = rng.lognormal(size=2000)
    cells = Moments(("v",), np.ones(2000), values[:, None], np.zeros((2000, 1, 1)), np.zeros((2000, 1)))

    def sound(version: int):
        treated = buckets_of(salt_of("a", version), np.arange(2000), 2) == 1
        return ~treated, treated

    def by_value(version: int):
        treated = buckets_of(salt_of("a", version), np.arange(2000), 100) < 50 + 5 * np.sign(values - 1)
        return ~treated, treated

    (good,) = calibrate_assignment(cells, sound, {"hash": welch("v")}, replicates=1000)
    (bad,) = calibrate_assignment(cells, by_value, {"by value": welch("v")}, replicates=200)
    assert good.finding.status == "pass"
    assert bad.finding.status == "block"


def test_estimators_of_values_get_a_seed_of_their_own():
    rng = np.random.default_rng(6)
    seeds = []

    def resampled(x: np.ndarray, y: np.ndarray, seed: int) -> Bootstrap:
        seeds.append(seed)
        return bootstrap(x, y, n_resamples=199, seed=seed)

    def student(x: np.ndarray, y: np.ndarray, seed: int) -> Effect:
        return welch("v")(*(Moments.from_rows({"v": z}) for z in (x, y)))

    values = rng.gamma(2.0, size=60)
    (found,) = calibrate_rows(values, {"welch": student}, replicates=400, effect=1.0)
    assert found.finding.status == "pass"
    assert found.coverage > 0.9
    calibrate_rows(values, {"bootstrap": resampled}, replicates=20)
    assert len(set(seeds)) == 20


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: calibrate(t, {}), ConfigError, "there are no estimators"),
        (lambda t: calibrate(t[0, :3], {"m": welch("revenue")}), DataError, r"a table \(3,\)"),
        (lambda t: calibrate(t, {"m": welch("revenue")}, replicates=1), ConfigError, "1 replicates of 2 tables"),
        (lambda t: calibrate(t, {"m": welch("revenue")}, treated=1.0), ConfigError, "with 1 of 50 buckets treated"),
        (lambda t: calibrate(t, {"m": lambda a, b: Fixed(1.0, 0.0, 1.0)}), DataError, "m returns"),
        (lambda t: calibrate(t, {"m": welch("revenue")}, replicates=2, alpha=5.0), ConfigError, "confidence_level"),
        (lambda t: calibrate_rows([1.0, 2.0], {"m": None}), DataError, r"values \(2,\)"),
    ],
)
def test_bad_input_is_an_error(call, error, message: str):
    with pytest.raises(error, match=message):
        call(shop(200, 2, buckets=50))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_10_000_replicates_of_every_estimator(seed: int):
    found = calibrate(shop(20_000, 100, seed), SOUND, replicates=10_000, seed=seed)
    assert set(by_name(found).values()) == {"pass"}
    assert all(abs(one.false_positives - 0.05) <= 0.0056 for one in found), [str(one) for one in found]
