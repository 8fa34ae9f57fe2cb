"""The bucket of a unit as an expression: H(salt, unit) mod buckets, the same bits as `hashing.buckets_of`.

It is a function that lives as long as the connection, since no backend has our hash: a macro in DuckDB, written in
PL/pgSQL in PostgreSQL (integers alone). Elsewhere the column is to be made with the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ibis

from treadle.core import ConfigError

from .hashing import GOLDEN, MASK, MIX1, MIX2, salt_of
from .hashing_sql import UnitKind, bucket_sql, kind_of
from .inputs import Table


@dataclass(frozen=True)
class Bucket:
    """An axis of groups of units at random: for A/A tests and the jackknife.

    Attributes:
        unit: The column with ids.
        buckets: How many groups.
        salt: Of the hash; another one than the assignment's, of which this must be independent.
    """

    unit: str
    buckets: int = 1000
    salt: int = salt_of("analysis")


def bucket_expression(table: Table, axis: Bucket) -> Any:
    """Return the bucket of each row.

    Raises:
        ConfigError: a backend or a type of ids that has no hash here.
    """
    connection: Any = ibis.get_backend(table)
    column = table[axis.unit]
    kind = _kind(column.type())
    name = f"treadle_bucket_{axis.salt}_{axis.buckets}_{kind}"
    functions: Any = ibis.udf.scalar
    if connection.name == "duckdb":
        sql = bucket_sql(axis.salt, "unit", axis.buckets, kind)
        connection.raw_sql(f"CREATE OR REPLACE TEMP MACRO {name}(unit) AS {sql}::INTEGER")
        place: dict[str, str] = {}
    elif connection.name == "postgres" and kind == "integer":
        connection.raw_sql(_postgres(name, axis)).close()
        place, column = {"database": "pg_temp"}, column.cast("int64")
    else:
        raise ConfigError(
            f"experiment: there is no hash of {kind} ids in {connection.name}; make a column with hashing.buckets_of "
            "when the table is made, and name it as the axis."
        )
    return functions.builtin(_called, name=name, signature=((column.type(),), "int32"), **place)(column)


def _called(unit: Any) -> Any:
    """Stand for the function, which Ibis asks for in Python."""
    return unit


def _kind(of: Any) -> UnitKind:
    return "integer" if of.is_integer() else kind_of("VARCHAR" if of.is_string() else str(of))


def _postgres(name: str, axis: Bucket) -> str:
    """Return the definition of splitmix64(unit + salt) mod buckets.

    PostgreSQL has no unsigned integers: products are taken in decimals modulo 2^64, the exclusive or of a shift in
    BIGINT, whose shift to the right repeats the sign and is masked.
    """
    size = 1 << 64
    steps: list[str] = []
    for shift, factor in ((30, MIX1), (27, MIX2), (31, 1)):
        steps.append(f"s := CASE WHEN u >= {size >> 1} THEN u - {size} ELSE u END;")
        steps.append(f"s := s # ((s >> {shift}) & {(1 << 64 - shift) - 1});")
        steps.append(f"u := mod((CASE WHEN s < 0 THEN s + {size}::numeric ELSE s END) * {factor}, {size});")
    body = "\n".join(steps)
    return f"""CREATE OR REPLACE FUNCTION pg_temp.{name}(unit bigint)
RETURNS integer LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE u numeric; s bigint;
BEGIN
u := mod(unit::numeric + {size} + {axis.salt + GOLDEN & MASK}, {size});
{body}
RETURN mod(u, {axis.buckets});
END $$"""
