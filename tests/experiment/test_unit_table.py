"""Exposures and facts become one row a unit: a few units by hand, and the same on PostgreSQL."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

ibis = pytest.importorskip("ibis")

from tests.experiment import postgres  # noqa: E402
from treadle.core import ConfigError, DataError  # noqa: E402
from treadle.experiment.analysis import Experiment  # noqa: E402
from treadle.experiment.metrics import Mean, Retention  # noqa: E402
from treadle.experiment.unit_table import Facts, Outcome, UnitTable, before, unit_table  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*fetch_arrow_table.*:DeprecationWarning")


def at(day: int, hour: int = 0) -> dt.datetime:
    return dt.datetime(2026, 3, 1) + dt.timedelta(days=day, hours=hour)


EXPOSURES = [
    (1, "a", at(10)),
    (1, "a", at(12)),  # a later exposure changes nothing
    (2, "b", at(10, 6)),
    (3, "b", at(11)),  # without events
    (4, "a", at(19)),
]
ORDERS = [
    (1, at(9, 23), 5.0),  # before
    (1, at(10), 10.0),  # at the very moment
    (1, at(16, 23), 20.0),  # on the last day
    (1, at(17), 40.0),  # a moment too late
    (2, at(10, 5), 80.0),  # before, on the same date
    (2, at(10, 7), 160.0),
    (2, at(10, 8), None),
    (2, at(2), 320.0),  # too long before
    (9, at(12), 640.0),  # never exposed
    (None, at(12), 1.0),
]
OUTCOMES = {
    "revenue": Outcome("orders", "amount", to_day=7),
    "orders": Outcome("orders", aggregate="count", to_day=7),
    "best": Outcome("orders", "amount", "max", to_day=7),
    "bought": Outcome("orders", aggregate="any", to_day=7),
    "returned": Outcome("orders", aggregate="any", from_day=3, to_day=9),
    "revenue_before": before(Outcome("orders", "amount", to_day=7), 7),
}
WANTED = [
    (1, "a", 30.0, 2, 20.0, 1, 1, 5.0),
    (2, "b", 160.0, 2, 160.0, 1, 0, 80.0),
    (3, "b", 0.0, 0, 0.0, 0, 0, 0.0),
]


def write(connection: Any, name: str, columns: str, rows: list[tuple[Any, ...]]) -> Any:
    def text(value: Any) -> str:
        return "NULL" if value is None else str(value) if isinstance(value, int | float) else f"'{value}'"

    values = ", ".join("(" + ", ".join(map(text, row)) + ")" for row in rows)
    for statement in (
        f"DROP TABLE IF EXISTS {name}",
        f"CREATE TABLE {name} ({columns})",
        f"INSERT INTO {name} VALUES {values}",
    ):
        connection.raw_sql(statement)
    return connection.table(name)


def facts(connection: Any, exposures: list[tuple[Any, ...]] = EXPOSURES) -> tuple[Facts, dict[str, Facts]]:
    first = write(connection, "exposures", '"user" BIGINT, arm VARCHAR(9), seen TIMESTAMP', exposures)
    orders = write(connection, "orders", 'buyer BIGINT, "time" TIMESTAMP, amount DOUBLE PRECISION', ORDERS)
    return Facts(first, "user", "seen"), {"orders": Facts(orders, "buyer", "time")}


def made(connection: Any, **options: Any) -> UnitTable:
    exposures, events = facts(connection, options.pop("exposures", EXPOSURES))
    return unit_table(exposures, "arm", OUTCOMES, events, **{"until": at(20), **options})


@pytest.fixture(scope="module")
def duckdb() -> Any:
    return ibis.duckdb.connect()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with postgres.connection() as connection:
        yield connection


def assert_right(found: UnitTable) -> None:
    rows = found.table.order_by("user").to_pyarrow().to_pylist()
    assert [tuple(row[name] for name in ("user", "variant", *OUTCOMES)) for row in rows] == WANTED
    assert [row["day"] for row in rows] == [at(10).date(), at(10).date(), at(11).date()]
    assert rows[0]["exposed_at"] == at(10)
    assert found.exposed == 4
    assert [(item.units, item.reason[:27]) for item in found.excluded] == [(1, "units exposed less than 9 d")]
    assert [(item.units, item.reason) for item in found.events] == [
        (1, "events of orders with a null unit or time"),
        (1, "events of orders of units that are not in the analysis"),
    ]


def test_windows_first_exposures_and_units_without_events(duckdb: Any) -> None:
    assert_right(made(duckdb))


def test_the_same_on_postgres(server: Any) -> None:
    assert_right(made(server))


def test_the_table_goes_into_an_analysis(duckdb: Any) -> None:
    found = made(duckdb)
    metrics = [Mean("revenue"), Retention("returned")]
    result = Experiment(metrics, unit="user", axes={"day": "day"}).analyze(found.table, assigned=6)
    assert result["revenue"].treatment == 80.0
    assert result["returned"].control == 1.0
    assert result.funnel.analysed == {"a": 1, "b": 2}
    assert result.funnel.assigned == 6


def test_units_in_two_variants(duckdb: Any) -> None:
    rows = [*EXPOSURES, (2, "a", at(11))]
    with pytest.raises(DataError, match="1 units exposed to more than one variant, such as 2"):
        made(duckdb, exposures=rows)
    found = made(duckdb, exposures=rows, crossed="exclude")
    assert found.table.count().to_pyarrow().as_py() == 2
    assert found.exposed == 4
    assert found.excluded[0].units == 1


def test_dates_in_the_wrong_order(duckdb: Any) -> None:
    with pytest.raises(DataError, match="no unit is left: 4 units exposed after the end of the data"):
        made(duckdb, until=at(5))
    with pytest.raises(ConfigError, match=r"days 7 to 3 \(excluded\) are none"):
        Outcome("orders", "amount", from_day=7, to_day=3)


def test_parts_that_are_missing(duckdb: Any) -> None:
    with pytest.raises(DataError, match="'seen' is null in 1 exposures"):
        made(duckdb, exposures=[*EXPOSURES, (7, "a", None)])
    exposures, events = facts(duckdb)
    with pytest.raises(ConfigError, match="x is of the facts 'visits'; there are orders"):
        unit_table(exposures, "arm", {"x": Outcome("visits", aggregate="count")}, events)
    with pytest.raises(DataError, match=r"the table of orders has no column 'amont'; .*did you mean `amount`"):
        unit_table(exposures, "arm", {"x": Outcome("orders", "amont")}, events)
    with pytest.raises(ConfigError, match="count and any take no column"):
        Outcome("orders", "amount", "count")
