"""Rows that cannot be used as they are: found, counted, shown by examples, and treated as a named policy says.

The default of every policy is an error. Nothing is dropped silently: what a policy leaves out or fills in is returned
for the funnel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import ibis

from treadle.core import DataError

from .floats import check_option
from .funnel import Excluded
from .inputs import Table

EXAMPLES = 3


@dataclass(frozen=True)
class Policy:
    """What becomes of rows that cannot be used.

    Attributes:
        missing: Null or NaN in a column of a metric: "error", "exclude" the unit from every metric (so that all
            metrics have the same units), or "zero" (units without events).
        infinite: Infinite values: "error" or "exclude".
        duplicates: Units with more than one row: "error", or "exclude" all rows of the unit.
        unknown: Variants that the experiment does not name, and null: "error" or "exclude".
    """

    missing: Literal["error", "exclude", "zero"] = "error"
    infinite: Literal["error", "exclude"] = "error"
    duplicates: Literal["error", "exclude"] = "error"
    unknown: Literal["error", "exclude"] = "error"

    def __post_init__(self) -> None:
        check_option("Policy", "missing", self.missing, ("error", "exclude", "zero"))
        for name in ("infinite", "duplicates", "unknown"):
            check_option("Policy", name, getattr(self, name), ("error", "exclude"))


class Cleaned(NamedTuple):
    """A table that can be used, and what was done to it."""

    table: Table
    excluded: tuple[Excluded, ...] = ()
    filled: tuple[Excluded, ...] = ()


def without_duplicates(table: Table, unit: str, variant: str, policy: Policy) -> Cleaned:
    """Return the table with one row a unit.

    Raises:
        DataError: a unit is null; one has several rows, perhaps in several variants, and the policy is "error".
    """
    column = table[unit]
    counts = _row(table.aggregate(rows=table.count(), units=column.nunique(), known=column.count()))
    if counts["known"] < counts["rows"]:
        raise DataError(
            f"experiment: the unit {unit!r} is null in {counts['rows'] - counts['known']:,} of {counts['rows']:,} "
            "rows; every row is of a unit."
        )
    if counts["units"] == counts["rows"]:
        return Cleaned(table)
    grouped = table.group_by(unit).aggregate(rows=table.count(), arms=table[variant].nunique())
    several = grouped.filter(grouped.rows > 1)
    crossed = several.filter(several.arms > 1)
    found = [
        Excluded(f"rows of units in more than one variant ({unit})", *_rows_of(crossed, unit)),
        Excluded(
            f"rows of units with several rows in one variant ({unit})",
            *_rows_of(several.filter(several.arms <= 1), unit),
        ),
    ]
    found = tuple(item for item in found if item.units)
    if policy.duplicates == "error":
        raise DataError(
            f"experiment: {'; '.join(map(str, found))}. A unit has one row and one variant: find why it has more (a "
            "join, a changed assignment), or leave such units out with Policy(duplicates='exclude')."
        )
    return Cleaned(table.anti_join(several, unit), found)


def known_variants(table: Table, variant: str, variants: Sequence[Any], policy: Policy) -> Cleaned:
    """Return the rows of these variants.

    Raises:
        DataError: there are others and the policy is "error".
    """
    column = table[variant]
    other = table.filter(column.isnull() | column.notin(list(variants)))
    counts = other.group_by(variant).aggregate(rows=other.count()).to_pyarrow().to_pylist()
    if not counts:
        return Cleaned(table)
    names = tuple(sorted(str(row[variant]) for row in counts))
    found = Excluded("rows of unknown variants", sum(row["rows"] for row in counts), names[:EXAMPLES])
    if policy.unknown == "error":
        raise DataError(
            f"experiment: {found}; the variants are {', '.join(map(str, variants))}. Correct the names, or leave such "
            "rows out with Policy(unknown='exclude')."
        )
    return Cleaned(table.filter(column.isin(list(variants))), (found,))


def finite(table: Table, columns: Iterable[str], unit: str | None, policy: Policy) -> Cleaned:
    """Return the table without null and infinite values in the columns.

    Raises:
        DataError: there are some and the policy is "error"; each column with its counts and examples.
    """
    names = list(columns)
    null = {name: _is_null(table[name]) for name in names}
    infinite = {name: _is_infinite(table[name]) for name in names}
    wanted = {f"n{i}": null[name].sum() for i, name in enumerate(names)}
    wanted |= {f"i{i}": infinite[name].sum() for i, name in enumerate(names)}
    counts = {key: int(value or 0) for key, value in _row(table.aggregate(**wanted)).items()}
    told: list[str] = []
    filled: list[Excluded] = []
    for i, name in enumerate(names):
        for key, tests, what, choice in (
            ("n", null, "null", policy.missing),
            ("i", infinite, "infinite", policy.infinite),
        ):
            if not counts[f"{key}{i}"]:
                continue
            item = Excluded(f"rows where {name} is {what}", counts[f"{key}{i}"], _examples(table, tests[name], unit))
            if choice == "error":
                told.append(str(item))
            elif choice == "zero":
                filled.append(item._replace(reason=f"rows where {name} was {what} and counts as 0"))
    if told:
        raise DataError(
            f"experiment: {'; '.join(told)}. Correct them, or decide by Policy(missing='zero' or 'exclude', "
            "infinite='exclude')."
        )
    if policy.missing == "zero":
        table = table.mutate(**{name: ibis.ifelse(null[name], 0, table[name]) for name in names})
        tests = [_is_infinite(table[name]) for name in names]
    else:
        tests = [*null.values(), *infinite.values()]
    bad: Any = ibis.or_(*tests)
    lost = int(_row(table.aggregate(lost=bad.sum()))["lost"] or 0)
    if not lost:
        return Cleaned(table, (), tuple(filled))
    which = f"rows with a value that is null or infinite ({', '.join(names)})"
    return Cleaned(table.filter(~bad), (Excluded(which, lost, _examples(table, bad, unit)),), tuple(filled))


def no_negative(table: Table, column: str, unit: str | None) -> DataError:
    """Return the error that a column of counts has negative values, with how many and where."""
    bad = table[column] < 0
    count = int(_row(table.aggregate(n=bad.sum()))["n"])
    return DataError(
        f"experiment: {Excluded(f'rows where {column} is negative', count, _examples(table, bad, unit))}; a count is 0 "
        "or more. Use Mean for a column that may be negative."
    )


def _is_null(column: Any) -> Any:
    return (column.isnull() | column.isnan().fill_null(False)) if column.type().is_floating() else column.isnull()


def _is_infinite(column: Any) -> Any:
    return column.isinf().fill_null(False) if column.type().is_floating() else column.isnull() & False


def _examples(table: Table, test: Any, unit: str | None) -> tuple[str, ...]:
    if unit is None:
        return ()
    rows = table.filter(test).select(unit).order_by(unit).limit(EXAMPLES).to_pyarrow().column(0).to_pylist()
    return tuple(f"{unit} {value}" for value in rows)


def _rows_of(grouped: Table, unit: str) -> tuple[int, tuple[Any, ...]]:
    total = _row(grouped.aggregate(rows=grouped.rows.sum()))["rows"]
    some = grouped.order_by(unit).limit(EXAMPLES).to_pyarrow().column(unit).to_pylist()
    return int(total or 0), tuple(some)


def _row(table: Table) -> dict[str, Any]:
    return table.to_pyarrow().to_pylist()[0]
