"""The funnel: how many units were assigned, exposed and analysed, and everything that was left out, with reasons.

It accounts for every row: what came in is what was analysed and what was excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from treadle.core import DataError


class Excluded(NamedTuple):
    """What was left out, and why.

    Attributes:
        reason: In words.
        units: How many rows or units.
        examples: Some of them: units, or values.
    """

    reason: str
    units: int
    examples: tuple[Any, ...] = ()

    def __str__(self) -> str:
        some = f", such as {', '.join(map(str, self.examples))}" if self.examples else ""
        return f"{self.units:,} {self.reason}{some}"


@dataclass(frozen=True)
class Funnel:
    """Units from assigned to analysed.

    Attributes:
        exposed: Rows that came in.
        analysed: Units of each variant that the estimates rest on.
        excluded: What was left out between the two; counts sum to the difference.
        filled: Values that were put in for null ones, by reason.
        assigned: Units assigned, where it is known.
        rows: What was left out of or filled into tables of rows (events), which are no units.

    Raises:
        DataError: it does not add up.
    """

    exposed: int
    analysed: Mapping[Any, int]
    excluded: tuple[Excluded, ...] = ()
    filled: tuple[Excluded, ...] = ()
    assigned: int | None = None
    rows: tuple[Excluded, ...] = ()

    def __post_init__(self) -> None:
        lost = self.exposed - sum(self.analysed.values())
        told = sum(item.units for item in self.excluded)
        if lost != told:
            raise DataError(
                f"Funnel: {self.exposed:,} came in and {sum(self.analysed.values()):,} were analysed, but reasons are "
                f"known for {told:,} of the {lost:,} between; every row must be accounted for."
            )

    def __str__(self) -> str:
        lines = [] if self.assigned is None else [f"assigned  {self.assigned:,}"]
        lines.append(f"exposed   {self.exposed:,}")
        lines += [f"  left out: {item}" for item in self.excluded]
        arms = ", ".join(f"{name} {n:,}" for name, n in self.analysed.items())
        lines.append(f"analysed  {sum(self.analysed.values()):,} ({arms})")
        lines += [f"  filled: {item}" for item in self.filled]
        lines += [f"  of the rows: {item}" for item in self.rows]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "assigned": self.assigned,
            "exposed": self.exposed,
            "analysed": {str(name): n for name, n in self.analysed.items()},
            "excluded": [_told(item) for item in self.excluded],
            "filled": [_told(item) for item in self.filled],
            "rows": [_told(item) for item in self.rows],
        }


def _told(item: Excluded) -> dict[str, Any]:
    return {**item._asdict(), "examples": [str(example) for example in item.examples]}
