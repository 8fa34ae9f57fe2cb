"""Audiences from rules (SQL, Ibis) and from a model's scores (top-k, threshold, uplift), and how large they would be.

Every selection is deterministic: users with the same score at the edge of a top-k are ordered by a hash of their id,
not by the order of the rows.
"""

import datetime as dt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from treadle.core.errors import ConfigError, DataError
from treadle.experiment.audience import Audience, bitmap
from treadle.experiment.hashing import Strings, as_units, salt_of, unit_hashes
from treadle.experiment.hashing_sql import quote

_TIE_SALT = salt_of("top-k")


def by_rule(rule: Any, unit: str, *, name: str, connection: Any = None, as_of: dt.date | str | None = None) -> Audience:
    """The users whose ids a query or an Ibis expression returns.

    Args:
        rule: an SQL query (needs `connection`, a DuckDB one) or an Ibis table.
        unit: the column of ids in its result.
        name: of the audience.
        connection: a DuckDB connection.
        as_of: the last day whose data the rule reads.

    Raises:
        ConfigError: no such column, or SQL without a connection. DataError: missing ids.
    """
    column, text = _rule_column(rule, unit, connection)
    return Audience.of(column, name=name, kind="rule", source=text, as_of=as_of)


def rule_size(rule: Any, unit: str, *, connection: Any = None) -> int:
    """How many users `by_rule` would select, counted by the engine."""
    if isinstance(rule, str):
        row = _connected(connection).execute(f"SELECT count(DISTINCT {quote(unit)}) FROM ({_query(rule)})").fetchone()
        return int(row[0])
    return int(rule[unit].nunique().to_pyarrow().as_py())


def top_k(
    units: Any,
    scores: ArrayLike,
    k: int,
    *,
    name: str,
    source: str = "scores",
    model: str | None = None,
    as_of: dt.date | str | None = None,
) -> Audience:
    """The k users with the highest scores.

    Args:
        units: ids, one a score, no duplicates.
        scores: float[n], no NaN.
        k: how many, at most n.
        name: of the audience.
        source: where the scores are from.
        model: the hash of the model that scored.
        as_of: the last day whose data the model saw of these users.

    Raises:
        ConfigError: k is not in 1..n. DataError: duplicate or missing units, NaN or wrong lengths.
    """
    ids, values = _scored(units, scores)
    if not 1 <= k <= len(values):
        raise ConfigError(f"top_k: k is {k:,}; there are {len(values):,} scored units; k lies between 1 and that.")
    chosen, lowest = highest(ids, values, k)
    return Audience.of(
        ids[chosen],
        name=name,
        kind="top-k",
        source=source,
        as_of=as_of,
        model=model,
        threshold=lowest,
        parameters={"k": k},
    )


def threshold(
    units: Any,
    scores: ArrayLike,
    lowest: float,
    *,
    name: str,
    source: str = "scores",
    model: str | None = None,
    as_of: dt.date | str | None = None,
) -> Audience:
    """The users whose score is at least `lowest`. Arguments and errors as `top_k`."""
    ids, values = _scored(units, scores)
    chosen = np.flatnonzero(values >= lowest)
    return Audience.of(
        ids[chosen],
        name=name,
        kind="threshold",
        source=source,
        as_of=as_of,
        model=model,
        threshold=float(lowest),
    )


def uplift(
    units: Any,
    treated: ArrayLike,
    untreated: ArrayLike,
    *,
    name: str,
    k: int | None = None,
    lowest: float = 0.0,
    source: str = "uplift scores",
    model: str | None = None,
    as_of: dt.date | str | None = None,
) -> Audience:
    """The users whom a treatment is predicted to change.

    The score is the outcome if treated - outcome if not, above `lowest`, the k highest if k is given.

    Who buys anyway scores nothing here, which is the difference from a top-k by predicted outcome. Errors as `top_k`.
    """
    ids, high = _scored(units, treated)
    _, low = _scored(ids, untreated)
    gain = high - low
    chosen = np.flatnonzero(gain > lowest)
    if k is not None and k < len(chosen):
        if k < 1:
            raise ConfigError(f"uplift: k is {k}; it is at least 1, or None for everybody above {lowest:g}.")
        chosen = chosen[highest(ids[chosen], gain[chosen], k)[0]]
    return Audience.of(
        ids[chosen],
        name=name,
        kind="uplift",
        source=source,
        as_of=as_of,
        model=model,
        threshold=float(gain[chosen].min()) if len(chosen) else float(lowest),
        parameters={"k": k, "lowest": lowest},
    )


def sizes(scores: ArrayLike, lowest: ArrayLike) -> NDArray[np.int64]:
    """How many users each of several thresholds would select: int64, the shape of `lowest`."""
    values = np.sort(_finite(scores))
    return (len(values) - np.searchsorted(values, np.asarray(lowest), side="left")).astype(np.int64)


def highest(ids: Any, values: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], float]:
    """The rows of the k highest values, ties by a hash of the id, and the lowest value among them."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above, tied = np.flatnonzero(values > edge), np.flatnonzero(values == edge)
    order = np.argsort(unit_hashes(_TIE_SALT, ids[tied]), kind="stable")
    return np.sort(np.concatenate([above, tied[order[: k - len(above)]]])), float(edge)


def _scored(units: Any, scores: ArrayLike) -> tuple[Any, NDArray[np.float64]]:
    ids, values = as_units(units), _finite(scores)
    if len(ids) != len(values):
        raise DataError(
            f"scores: there are {len(ids):,} units and {len(values):,} scores; give one score a unit, in the same "
            "order."
        )
    distinct = len(set(ids.texts)) if isinstance(ids, Strings) else len(bitmap(ids))
    if distinct < len(ids):
        raise DataError(
            f"scores: {len(ids) - distinct:,} of {len(ids):,} units are scored more than once; keep one score a unit "
            "(the latest, or the mean)."
        )
    return ids, values


def _finite(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1:
        raise DataError(f"scores: they have shape {values.shape}; give one axis, one score a unit.")
    wrong = np.flatnonzero(np.isnan(values))
    if len(wrong):
        raise DataError(
            f"scores: {len(wrong):,} of {len(values):,} are NaN, first at rows {wrong[:5].tolist()}; a "
            "unit without a score cannot be ranked; "
            "leave it out before, and count it."
        )
    return values


def _rule_column(rule: Any, unit: str, connection: Any) -> tuple[Any, str]:
    if isinstance(rule, str):
        relation = _connected(connection).execute(f"SELECT * FROM ({_query(rule)}) LIMIT 0")
        _has_column(unit, [column[0] for column in relation.description])
        table = connection.sql(f"SELECT DISTINCT {quote(unit)} AS unit FROM ({_query(rule)})").to_arrow_table()
        return table.column("unit"), rule
    _has_column(unit, list(rule.columns))
    return rule.select(unit).distinct().to_pyarrow().column(unit), str(rule)


def _query(rule: str) -> str:
    return rule.strip().rstrip(";")


def _connected(connection: Any) -> Any:
    if connection is None:
        raise ConfigError(
            "by_rule: an SQL rule needs a DuckDB connection to run on; pass `connection=duckdb.connect(...)`."
        )
    return connection


def _has_column(unit: str, columns: list[str]) -> None:
    if unit not in columns:
        raise ConfigError(
            f"by_rule: the rule's result has no column {unit!r}; it has {columns}; name the column of ids."
        )
