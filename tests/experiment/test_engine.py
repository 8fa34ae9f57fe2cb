"""One scan gives the moments of every cell: against the rows themselves, on DuckDB and on PostgreSQL."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

ibis = pytest.importorskip("ibis")
pa = pytest.importorskip("pyarrow")

from tests.experiment import postgres, reference  # noqa: E402
from treadle.core import ConfigError, DataError, DTypeError  # noqa: E402
from treadle.experiment.bucket_axis import Bucket  # noqa: E402
from treadle.experiment.engine import NotFinite, limits, scan, values  # noqa: E402
from treadle.experiment.hashing import buckets_of  # noqa: E402
from treadle.experiment.inputs import opened  # noqa: E402
from treadle.experiment.moment_table import MomentTable, table_of_rows  # noqa: E402
from treadle.experiment.moments import Moments  # noqa: E402
from treadle.experiment.request import Cap, Request  # noqa: E402

# Ibis calls a function of DuckDB by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*fetch_arrow_table.*:DeprecationWarning")

ALL = Request.of([("far", "small", "flag")])


def made(n: int = 4000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "id": np.arange(n),
        "variant": np.array(["a", "b"])[rng.integers(0, 2, n)],
        "far": 1e9 + rng.normal(size=n),
        "small": rng.integers(0, 5, n),
        "flag": rng.random(n) < 0.3,
        "day": np.datetime64("2026-01-01") + rng.integers(0, 4, n),
        "land": np.array(["x", "y", "z"])[rng.integers(0, 3, n)],
    }


def expected(rows: dict[str, np.ndarray], *axes: str) -> MomentTable:
    numbers = {name: rows[name].astype(np.float64) for name in ("far", "small", "flag")}
    return table_of_rows(numbers, rows["variant"], {name: rows[name] for name in axes})


def assert_same(a: MomentTable, b: MomentTable) -> None:
    assert list(a.axes) == list(b.axes)
    assert a.moments.shape == b.moments.shape
    np.testing.assert_array_equal(a.moments.count, b.moments.count)
    np.testing.assert_allclose(a.moments.apart(b.moments), 0, atol=1e-11)
    np.testing.assert_allclose(a.moments.product, b.moments.product, rtol=1e-9, atol=1e-7)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with postgres.connection() as connection:
        connection.create_table("units", pa.table(made()))
        yield connection


def test_a_scan_is_the_moments_of_the_rows() -> None:
    rows = made()
    with opened(pa.table(rows)) as table:
        found = scan(table, ALL, "variant", {"day": "day", "land": "land"})
    assert found.axes["day"] == tuple(dt.date(2026, 1, d) for d in (1, 2, 3, 4))
    assert_same(found, expected(rows, "day", "land"))
    assert_same(found.by("land"), expected(rows, "land"))
    assert_same(found.by("land", "day"), expected(rows, "land", "day"))
    assert_same(found.total(), expected(rows))
    early = rows["day"] <= np.datetime64("2026-01-02")
    look = found.by("day").cumulative().at("day", dt.date(2026, 1, 2))
    assert_same(look, expected({name: column[early] for name, column in rows.items()}))


@pytest.mark.parametrize("seed", range(20))
def test_random_small_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 5000))
    rows = {
        "far": [1e9, -1e9, 0.0, 0.1][seed % 4] + rng.normal(size=n) * [1.0, 0.0, 1e-3][seed % 3],
        "small": rng.integers(-3, 3, n) + [0, 10**9][seed % 2],
        "flag": rng.random(n) < rng.random(),
    }
    variant = rng.integers(0, 2, n)
    with opened(pa.table({**rows, "variant": variant})) as table:
        found = scan(table, ALL, "variant").moments
    for i, label in enumerate(np.unique(variant)):
        part = {name: column[variant == label].astype(np.float64) for name, column in rows.items()}
        want = Moments.from_rows(part)
        np.testing.assert_allclose(found[i].apart(want), 0, atol=1e-9 * 1e-6)
        scale = np.sqrt(np.outer(np.diagonal(want.product), np.diagonal(want.product)))
        assert np.all(np.abs(found[i].product - want.product) <= 1e-9 * scale + 1e-12)


def test_a_mean_of_a_billion_keeps_its_digits() -> None:
    rows = made()
    with opened(pa.table(rows)) as table:
        found = scan(table, ALL, "variant").arm("a", ["far"])
    own = rows["far"][rows["variant"] == "a"] - 1e9
    assert found.product.item() == pytest.approx(((own - own.mean()) ** 2).sum(), rel=1e-9)


def test_first_rows_that_mislead_are_found_out() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([np.zeros(3000), 1e9 + rng.normal(size=600_000)])[3000 - 2048 :]
    x[:2048] = 1e9 + 1e6
    with opened(pa.table({"x": x, "variant": np.arange(len(x)) % 2})) as table:
        found = scan(table, Request.of([("x",)]), "variant")
    whole = found.moments.merge()
    centred = x - 1e9
    assert whole.product.item() == pytest.approx(((centred - centred.mean()) ** 2).sum(), rel=1e-9)


def test_integers_too_large_to_multiply_are_added_as_floats() -> None:
    x = np.array([4_000_000_000, -4_000_000_000] * 50)
    with opened(pa.table({"x": x, "variant": np.arange(100) // 50})) as table:
        found = scan(table, Request.of([("x",)]), "variant")
    assert found.moments.merge().product.item() == pytest.approx(100 * 1.6e19)


def test_integers_whose_mean_is_far_from_zero() -> None:
    x = 1_000_000_000_000 + np.arange(1000) % 7
    with opened(pa.table({"x": x, "variant": np.arange(1000) // 500})) as table:
        found = scan(table, Request.of([("x",)]), "variant").moments.merge()
    assert found.product.item() == pytest.approx(1000 * np.var(x - 1_000_000_000_000), rel=1e-12)


def test_a_bucket_is_the_hash_of_the_unit() -> None:
    rows = made()
    bucket = Bucket("id", buckets=20, salt=12345)
    with opened(pa.table(rows)) as table:
        found = scan(table, ALL, "variant", {"bucket": bucket})
    assert_same(found, expected({**rows, "bucket": buckets_of(12345, rows["id"], 20)}, "bucket"))


def test_pairs_that_were_not_asked_for_are_an_error() -> None:
    with opened(pa.table(made())) as table:
        found = scan(table, Request.of([("far",), ("small", "flag")]), "variant")
    assert found.arm("a", ["small", "flag"]).columns == ("small", "flag")
    with pytest.raises(DataError, match="products of far and small were not scanned"):
        found.arm("a", ["far", "small"])


def test_a_cap_at_a_quantile_is_of_all_units() -> None:
    rows = made()
    cap = Cap("small", quantile=0.5)
    with opened(pa.table(rows)) as table:
        limit = limits(table, [cap])[cap.name]
        found = scan(table, Request.of([(cap,)]), "variant").total()
    assert limit == np.quantile(rows["small"], 0.5)
    capped = np.minimum(rows["small"], limit)
    assert found.arm("b").mean.item() == pytest.approx(capped[rows["variant"] == "b"].mean(), rel=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("source", ["x", Cap("x", at=1.0)])
def test_a_value_that_is_not_finite_is_found(bad: float, source: Any) -> None:
    x = np.ones(5000)
    x[4000] = bad
    with opened(pa.table({"x": x, "variant": np.arange(5000) % 2})) as table, pytest.raises(NotFinite) as caught:
        scan(table, Request.of([(source,)]), "variant")
    assert caught.value.columns == ("x",)


def test_values_by_arm() -> None:
    rows = made()
    with opened(pa.table(rows)) as table:
        found = values(table, ["far"], "variant")
    np.testing.assert_array_equal(np.sort(found["b"][0]), np.sort(rows["far"][rows["variant"] == "b"]))


def test_every_kind_of_input(tmp_path: Any) -> None:
    import duckdb
    from pyarrow import csv, parquet

    arrow = pa.table(made())
    parquet.write_table(arrow, tmp_path / "units.parquet")
    csv.write_csv(arrow, tmp_path / "units.csv")
    connection = duckdb.connect()
    connection.register("arrow", arrow)
    connection.execute("CREATE TABLE units AS SELECT * FROM arrow")
    kinds = [
        arrow,
        tmp_path / "units.parquet",
        str(tmp_path / "units.csv"),
        (connection, "units"),
        connection.table("units"),
        ibis.duckdb.from_connection(connection).table("units"),
    ]
    for module in ("pandas", "polars"):
        try:
            library = __import__(module)
        except ImportError:
            continue
        kinds.append(arrow.to_pandas() if module == "pandas" else library.from_arrow(arrow))
    want = expected(made(), "land")
    for data in kinds:
        with opened(data) as table:
            assert_same(scan(table, ALL, "variant", {"land": "land"}), want)


def test_inputs_that_are_none(tmp_path: Any) -> None:
    import duckdb

    connection = duckdb.connect()
    connection.execute("CREATE TABLE units (a INT)")
    for data, error, said in (
        (7, DTypeError, "data is a int; give an Ibis table"),
        (tmp_path / "x.txt", ConfigError, "no Parquet or CSV file"),
        (tmp_path / "x.csv", DataError, "there is no file"),
        ((connection, "unit"), DataError, "did you mean `units`"),
    ):
        with pytest.raises(error, match=said), opened(data):
            pass


def test_postgres_agrees(server: Any) -> None:
    rows, table = made(), server.table("units")
    request = Request.of([("far", "small", "flag"), (Cap("small", quantile=0.7), "flag")])
    found = scan(table, request, "variant", {"day": "day", "land": "land"})
    with opened(pa.table(rows)) as local:
        here = scan(local, request, "variant", {"day": "day", "land": "land"})
    assert_same(found, here)
    np.testing.assert_array_equal(
        np.sort(values(table, ["far"], "variant")["a"][0]), np.sort(rows["far"][rows["variant"] == "a"])
    )
    with pytest.raises(ConfigError, match="there is no hash of string ids in postgres"):
        scan(table, request, "variant", {"bucket": Bucket("land")})


@pytest.mark.parametrize("salt", [0, 12345, (1 << 64) - 1])
def test_a_bucket_is_the_same_on_postgres(server: Any, salt: int) -> None:
    ids = np.array([0, 1, -1, 2**31, 2**63 - 1, -(2**63), *range(1000)])
    table = server.create_table(f"ids_{salt}", pa.table({"id": ids, "x": ids * 0, "variant": ids % 2}))
    found = scan(table, Request.of([("x",)]), "variant", {"bucket": Bucket("id", 997, salt)})
    want = table_of_rows({"x": ids * 0}, ids % 2, {"bucket": buckets_of(salt, ids, 997)})
    assert found.axes == want.axes
    np.testing.assert_array_equal(found.moments.count, want.moments.count)


def test_the_aggregates_of_the_reference() -> None:
    reference.need()
    data = pa.table(reference.table())
    with opened(data) as table:
        found = scan(table, Request.of([reference.COLUMNS]), "variant")
    for arm in (0, 1):
        count, total, products = reference.raw(str(arm))
        moments = found.arm(arm)
        assert moments.count == count
        mean = moments.mean + moments.rest
        np.testing.assert_allclose(mean * count, total, rtol=1e-12)
        np.testing.assert_allclose(moments.product + count * np.outer(mean, mean), products, rtol=1e-12)
