"""Data of any kind as an Ibis table: Ibis, DuckDB, Parquet, CSV, Arrow, pandas, polars.

Data that is not in a database yet is read by an embedded DuckDB where it lies, without a copy.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

import duckdb
import ibis

from treadle.core import ConfigError, DataError, DTypeError

from .schema import suggest

Table = Any
"""An Ibis table expression (Ibis has no types that a strict checker understands)."""

FRAMES = {"pyarrow", "pandas", "polars"}
_NUMBER = itertools.count()


@functools.cache
def embedded() -> Any:
    """Return the Ibis connection to the embedded DuckDB."""
    return ibis.duckdb.connect()


@contextlib.contextmanager
def opened(data: Any) -> Generator[Table]:
    """Yield data as an Ibis table.

    Args:
        data: An Ibis table; a path to a Parquet or CSV file (or a pattern of them); a pair of a DuckDB connection and
            the name of a table in it; a DuckDB relation; an Arrow table, or a data frame of pandas or polars.

    Raises:
        DataError: there is no such file or table.
        DTypeError: data of another kind.
    """
    kind = cast("type[Any]", type(data))
    if issubclass(kind, ibis.Table):
        yield data
    elif issubclass(kind, str | Path):
        yield _file(str(data))
    elif issubclass(kind, tuple) and len(data) == 2 and isinstance(data[0], duckdb.DuckDBPyConnection):
        yield _named(data[0], data[1])
    elif issubclass(kind, duckdb.DuckDBPyRelation) or kind.__module__.split(".")[0] in FRAMES:
        name = f"treadle_input_{next(_NUMBER)}"
        held = data.to_arrow_table() if issubclass(kind, duckdb.DuckDBPyRelation) else data
        embedded().con.register(name, held.collect() if kind.__name__ == "LazyFrame" else held)
        try:
            yield embedded().table(name)
        finally:
            embedded().con.unregister(name)
    else:
        raise DTypeError(
            f"experiment: data is a {kind.__name__}; give an Ibis table, a path to Parquet or CSV, a pair (DuckDB "
            "connection, table name), an Arrow table, or a data frame of pandas or polars."
        )


def require(table: Table, columns: Iterable[str], where: str = "the data") -> None:
    """Raise DataError unless the table has the columns."""
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(f"experiment: {where} has no column {missing[0]!r}; {suggest(missing[0], table.columns)}")


def require_numbers(table: Table, columns: Iterable[str]) -> None:
    """Raise DTypeError unless the columns hold numbers or booleans: text is not parsed on the way."""
    for name in columns:
        kind = table[name].type()
        if not (kind.is_numeric() or kind.is_boolean()):
            raise DTypeError(
                f"experiment: the column {name!r} is of type {kind}; a metric takes numbers or booleans. Cast it when "
                "the table is made."
            )


def _file(path: str) -> Table:
    suffix = Path(path).suffix.lower()
    readers = {".parquet": embedded().read_parquet, ".pq": embedded().read_parquet, ".csv": embedded().read_csv}
    if suffix not in readers:
        raise ConfigError(f"experiment: {path} is no Parquet or CSV file by its name; allowed: {', '.join(readers)}.")
    if "*" not in path and not Path(path).exists():
        raise DataError(f"experiment: there is no file {path}.")
    return readers[suffix](path)


def _named(connection: Any, name: str) -> Table:
    known = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    known += [
        row[0] for row in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    ]
    if name not in known:
        raise DataError(f"experiment: there is no table {name!r} in the DuckDB connection; {suggest(name, known)}")
    return ibis.duckdb.from_connection(connection).table(name)
