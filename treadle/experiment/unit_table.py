"""Exposures and facts to one row a unit: first exposure, outcome windows after it, covariates from before it.

The result is an Ibis expression in the backend of the tables: nothing is fetched. A unit without events has zeros.
Facts of units that were never exposed, and events outside the windows, are not outcomes; the funnel counts the rest.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import ibis

from treadle.core import ConfigError, DataError

from .funnel import Excluded
from .inputs import Table, require

Aggregate = Literal["sum", "mean", "min", "max", "count", "any"]
AGGREGATES = ("sum", "mean", "min", "max", "count", "any")
DAY = 86_400


@dataclass(frozen=True)
class Facts:
    """A table of events: whose, and when."""

    table: Table
    unit: str
    time: str


@dataclass(frozen=True)
class Outcome:
    """A column of the unit table: what is added up of a unit's events in a window of days from its exposure.

    Attributes:
        facts: The name of the facts.
        column: What is added up; None with "count" and "any".
        aggregate: "any" is 1 for a unit with an event and 0 for one without.
        from_day: First day, counted in 24 hours from the exposure; negative days are before it.
        to_day: The day before which it ends; None has no end.
    """

    facts: str
    column: str | None = None
    aggregate: Aggregate = "sum"
    from_day: int = 0
    to_day: int | None = None

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES or (self.column is None) != (self.aggregate in {"count", "any"}):
            raise ConfigError(
                f"Outcome: aggregate {self.aggregate!r} of column {self.column!r}; allowed: {', '.join(AGGREGATES)}, "
                "where count and any take no column and the others need one."
            )
        if self.to_day is not None and self.to_day <= self.from_day:
            raise ConfigError(
                f"Outcome: days {self.from_day} to {self.to_day} (excluded) are none; to_day must be above from_day."
            )


def before(outcome: Outcome, days: int) -> Outcome:
    """Return the covariate of an outcome: the same over some days before the exposure."""
    return Outcome(outcome.facts, outcome.column, outcome.aggregate, -days, 0)


class UnitTable(NamedTuple):
    """The table and what was left out of it.

    Attributes:
        table: One row a unit: the unit, "variant", "exposed_at", "day" (its date), and the outcomes.
        exposed: Units with an exposure.
        excluded: Units left out, with reasons.
        events: Events that are no outcome, with reasons.
    """

    table: Table
    exposed: int
    excluded: tuple[Excluded, ...]
    events: tuple[Excluded, ...]


def unit_table(
    exposures: Facts,
    variant: str,
    outcomes: Mapping[str, Outcome],
    facts: Mapping[str, Facts],
    *,
    until: dt.datetime | None = None,
    crossed: Literal["error", "exclude"] = "error",
) -> UnitTable:
    """Return the unit table.

    Args:
        exposures: One row or more a unit, with the variant; a unit counts from its first.
        variant: The column with the variant.
        outcomes: Columns to make, by name.
        facts: Tables of events, by name, in the same backend as the exposures.
        until: The end of the data: units whose outcome windows are not over by then are left out and counted, so that
            all units are observed equally long.
        crossed: What becomes of units that were exposed to more than one variant.

    Raises:
        DataError: a column is missing; a time, a unit or a variant of an exposure is null; exposures of a unit in two
            variants; no exposure before `until`.
        ConfigError: an outcome of facts that are not given.
    """
    require(exposures.table, (exposures.unit, exposures.time, variant), "the table of exposures")
    for name, outcome in outcomes.items():
        if outcome.facts not in facts:
            raise ConfigError(f"unit_table: {name} is of the facts {outcome.facts!r}; there are {', '.join(facts)}.")
        source = facts[outcome.facts]
        wanted = (source.unit, source.time, *([outcome.column] if outcome.column else []))
        require(source.table, wanted, f"the table of {outcome.facts}")
    _no_null(exposures, variant)
    first, excluded = _first_exposures(exposures, variant, crossed)
    exposed = _count(first) + sum(item.units for item in excluded)
    if until is not None:
        first, young = _observed(first, outcomes.values(), until)
        excluded = (*excluded, *young)
    events: list[Excluded] = []
    table = first
    for name, source in facts.items():
        own = {column: outcome for column, outcome in outcomes.items() if outcome.facts == name}
        if own:
            events += _unused(name, source, first)
            table = _with_outcomes(table, first, source, own)
    return UnitTable(table.rename({exposures.unit: "unit"}), exposed, excluded, tuple(events))


def _first_exposures(exposures: Facts, variant: str, crossed: str) -> tuple[Table, tuple[Excluded, ...]]:
    table = exposures.table.select(
        unit=exposures.table[exposures.unit], variant=exposures.table[variant], at=_time(exposures)
    )
    grouped = table.group_by("unit").aggregate(
        variant=table["variant"].min(), other=table["variant"].max(), exposed_at=table["at"].min()
    )
    several = grouped.filter(grouped["variant"] != grouped["other"])
    lost = _count(several)
    found: tuple[Excluded, ...] = ()
    if lost:
        some = several.order_by("unit").limit(3).to_pyarrow().column("unit").to_pylist()
        found = (Excluded("units exposed to more than one variant", lost, tuple(some)),)
        if crossed == "error":
            raise DataError(
                f"unit_table: {found[0]}. Find why the assignment changed, or leave them out with crossed='exclude'."
            )
        grouped = grouped.filter(grouped["variant"] == grouped["other"])
    return grouped.mutate(day=grouped["exposed_at"].date()).drop("other"), found


def _observed(first: Table, outcomes: Any, until: dt.datetime) -> tuple[Table, tuple[Excluded, ...]]:
    """Return the units that were exposed before the end and long enough for every window to be over."""
    longest = max((outcome.to_day or 0 for outcome in outcomes), default=0)
    end = until - dt.timedelta(days=longest)
    late = first.filter(first["exposed_at"] >= until)
    young = first.filter((first["exposed_at"] < until) & (first["exposed_at"] > end))
    found = (
        Excluded(f"units exposed after the end of the data ({until})", _count(late)),
        Excluded(f"units exposed less than {longest} days before the end of the data", _count(young)),
    )
    kept = first.filter((first["exposed_at"] <= end) & (first["exposed_at"] < until))
    if _count(kept) == 0:
        raise DataError(
            f"unit_table: no unit is left: {'; '.join(str(item) for item in found if item.units)}. Check the order of "
            "the dates, or shorten the windows."
        )
    return kept, tuple(item for item in found if item.units)


def _with_outcomes(table: Table, first: Table, source: Facts, outcomes: Mapping[str, Outcome]) -> Table:
    """Return the table with the outcomes of one table of facts, which is read once."""
    columns = list(dict.fromkeys(outcome.column for outcome in outcomes.values() if outcome.column))
    events = source.table.select(
        fact_unit=source.table[source.unit],
        fact_time=_time(source),
        **{f"value_{i}": source.table[name] for i, name in enumerate(columns)},
    )
    exposed = first.select("unit", "exposed_at")
    joined = exposed.inner_join(events, exposed["unit"] == events["fact_unit"])
    made: dict[str, Any] = {}
    for i, outcome in enumerate(outcomes.values()):
        inside = _inside(joined, outcome)
        if outcome.column is None:
            counted = joined.count(where=inside)
            made[f"outcome_{i}"] = (counted > 0).cast("int32") if outcome.aggregate == "any" else counted
        else:
            value = joined[f"value_{columns.index(outcome.column)}"]
            made[f"outcome_{i}"] = getattr(value, outcome.aggregate)(where=inside)
    sums = joined.group_by("unit").aggregate(**made).rename(owner="unit")
    wide = table.left_join(sums, table["unit"] == sums["owner"])
    filled = {name: wide[f"outcome_{i}"].fill_null(0) for i, name in enumerate(outcomes)}
    return wide.select(*[wide[name] for name in table.columns], **filled)


def _inside(joined: Table, outcome: Outcome) -> Any:
    start, time = joined["exposed_at"], joined["fact_time"]
    tests = [time >= start + ibis.interval(seconds=outcome.from_day * DAY)]
    if outcome.to_day is not None:
        tests.append(time < start + ibis.interval(seconds=outcome.to_day * DAY))
    return ibis.and_(*tests)


def _unused(name: str, source: Facts, first: Table) -> list[Excluded]:
    """Return events that can be no outcome: of no unit, at no time, of units that were not exposed."""
    table = source.table.select(unit=source.table[source.unit], at=_time(source))
    lost = table.filter(table["unit"].isnull() | table["at"].isnull())
    known = table.filter(table["unit"].notnull() & table["at"].notnull())
    others = known.anti_join(first, "unit")
    found = [
        Excluded(f"events of {name} with a null unit or time", _count(lost)),
        Excluded(f"events of {name} of units that are not in the analysis", _count(others)),
    ]
    return [item for item in found if item.units]


def _no_null(exposures: Facts, variant: str) -> None:
    table = exposures.table
    names: Sequence[str] = (exposures.unit, exposures.time, variant)
    wanted = {f"n{i}": table[name].isnull().sum() for i, name in enumerate(names)}
    counts = table.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    for i, name in enumerate(names):
        if counts[f"n{i}"]:
            raise DataError(
                f"unit_table: {name!r} is null in {counts[f'n{i}']:,} exposures; an exposure has a unit, a time and a "
                "variant. Correct or filter them before."
            )


def _time(facts: Facts) -> Any:
    column = facts.table[facts.time]
    return column.cast("timestamp") if column.type().is_date() or column.type().is_string() else column


def _count(table: Table) -> int:
    return int(table.count().to_pyarrow().as_py())
