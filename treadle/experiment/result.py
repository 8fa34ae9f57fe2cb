"""`Result`: the rows of an analysis, one a metric and pair of variants, and every form they can take.

Field names are those of tea-tasting. Rows become dictionaries, pandas, polars, Arrow or JSON; printed, a table.
"""

from __future__ import annotations

import importlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rich.console import Console
from rich.table import Table

from treadle.core import DataError

from .funnel import Funnel
from .moment_table import Label, MomentTable
from .schema import suggest

if TYPE_CHECKING:
    from .analysis import Experiment


class Row(NamedTuple):
    """A metric of a treatment against the control; the p-value is the absolute effect's.

    Attributes:
        metric: Its name.
        control_variant: Label of the control.
        treatment_variant: Label of the treatment.
        control: The control's value.
        treatment: The treatment's value.
        effect_size: Absolute effect, with its interval.
        rel_effect_size: Relative effect, with its interval.
        pvalue: Of the absolute effect.
        statistic: The effect in standard errors.
        control_units: Units of the control.
        treatment_units: Units of the treatment.
        note: Why there is no effect, "" where there is.
        group: Axis and label of the segment or look.
    """

    metric: str
    control_variant: Label
    treatment_variant: Label
    control: float
    treatment: float
    effect_size: float
    effect_size_ci_lower: float
    effect_size_ci_upper: float
    rel_effect_size: float
    rel_effect_size_ci_lower: float
    rel_effect_size_ci_upper: float
    pvalue: float
    statistic: float
    control_units: int
    treatment_units: int
    note: str = ""
    group: tuple[tuple[str, Label], ...] = ()


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows, in order of groups, metrics and treatments."""

    rows: tuple[Row, ...]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, metric: str | tuple[str, Label]) -> Row:
        """Return the row of a metric; with several treatments of a pair (metric, treatment).

        Raises:
            DataError: no row, or several.
        """
        name, *treatment = metric if isinstance(metric, tuple) else (metric,)
        found = [row for row in self.rows if row.metric == name and treatment in ([], [row.treatment_variant])]
        if not found:
            raise DataError(
                f"Result: there is no metric {metric!r}; {suggest(name, [row.metric for row in self.rows])}"
            )
        if len(found) > 1:
            raise DataError(
                f"Result: {len(found)} rows are of {metric!r}; give (metric, treatment), or look at `rows`."
            )
        return found[0]

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary a row; the axes of segments and looks are fields of it."""
        return [
            {**dict(row.group), **{name: value for name, value in row._asdict().items() if name != "group"}}
            for row in self.rows
        ]

    def to_arrow(self) -> Any:
        """Return an Arrow table."""
        pyarrow: Any = importlib.import_module("pyarrow")
        return pyarrow.Table.from_pylist(self.to_dicts())

    def to_pandas(self) -> Any:
        """Return a pandas data frame; needs pandas."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return a polars data frame; needs polars."""
        polars: Any = importlib.import_module("polars")
        return polars.from_dicts(self.to_dicts())

    def to_json(self, indent: int | None = None) -> str:
        """Return JSON; numbers that are not finite are null."""
        return json.dumps(_plain(self.to_dict()), indent=indent, default=str, allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the rows under "rows"."""
        return {"rows": self.to_dicts()}

    def __str__(self) -> str:
        out = io.StringIO()
        Console(file=out, width=120).print(self.__rich__())
        return out.getvalue().rstrip("\n")

    def __rich__(self) -> Table:
        axes = [name for name, _ in self.rows[0].group] if self.rows else []
        table = Table(*axes, "metric", "treatment")
        for name in ("control value", "treatment value", "relative effect", "95 % interval", "p-value"):
            table.add_column("interval" if name.startswith("95") else name, justify="right")
        for row in self.rows:
            cells = [str(label) for _, label in row.group] + [row.metric, str(row.treatment_variant)]
            if row.note:
                table.add_row(*cells, f"{row.control:.4g}", f"{row.treatment:.4g}", row.note, "", "")
                continue
            interval = f"[{row.rel_effect_size_ci_lower:+.2%}, {row.rel_effect_size_ci_upper:+.2%}]".replace(
                "[", "\\[", 1
            )
            table.add_row(
                *cells,
                f"{row.control:.4g}",
                f"{row.treatment:.4g}",
                f"{row.rel_effect_size:+.2%}",
                interval,
                f"{row.pvalue:.3g}",
            )
        return table


@dataclass(frozen=True, eq=False)
class Result(Rows):
    """An analysis: its rows, the funnel, and the moment table, from which segments and looks come without a scan."""

    funnel: Funnel
    table: MomentTable
    experiment: Experiment = field(repr=False)
    control: Label = None

    def by(self, *axes: str) -> Rows:
        """Return rows for each segment (or day, or bucket). A quantile has none: it needs the values."""
        return Rows(self.experiment.rows(self.table, self.control, axes))

    def looks(self, axis: str = "day") -> Rows:
        """Return rows of all units up to each day."""
        kept = (axis, *(m.strata for m in self.experiment.metrics if m.strata is not None and m.strata != axis))
        return Rows(self.experiment.rows(self.table.by(*dict.fromkeys(kept)).cumulative(axis), self.control, (axis,)))

    def to_dict(self) -> dict[str, Any]:
        """Return the rows under "rows" and the funnel under "funnel"."""
        return {"rows": self.to_dicts(), "funnel": self.funnel.to_dict()}


def _plain(value: Any) -> Any:
    kind = cast("type[Any]", type(value))
    if issubclass(kind, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if issubclass(kind, list | tuple):
        return [_plain(item) for item in value]
    return None if issubclass(kind, float) and not math.isfinite(value) else value
