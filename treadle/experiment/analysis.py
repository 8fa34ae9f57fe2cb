"""`Experiment(metrics, unit, variant, control).analyze(data)`: from a table with one row a unit to effects.

The data is scanned once, for all metrics together. Then everything is arithmetic on the moment table.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError

from . import quality
from .bucket_axis import Bucket
from .comparison import Comparison
from .engine import Axis, NotFinite, scan, values
from .estimates import Estimate, why_undefined
from .floats import Alternative, floats
from .funnel import Excluded, Funnel
from .inputs import Table, opened, require, require_numbers
from .metrics import Count, Metric, Quantile
from .moment_table import Label, MomentTable
from .quality import Policy
from .request import Request
from .result import Result, Row
from .schema import suggest


@dataclass(frozen=True)
class Experiment:
    """What is compared, and how the data is laid out.

    Attributes:
        metrics: A list of metrics, or metrics by name.
        variant: The column with each unit's variant.
        unit: The column with ids; with it every unit is checked to have one row. None leaves that unchecked.
        control: The variant the others are compared with; the first by its label unless given.
        variants: The variants that may occur; None takes those of the data.
        axes: Further axes of the moment table, columns or a `Bucket` by name, such as {"day": "exposed_at"}; strata of
            metrics need not be named.
        policy: What becomes of rows that cannot be used.
        alternative: "two-sided", "greater" or "less".
        confidence_level: Of the intervals.
    """

    metrics: Sequence[Metric]
    variant: str = "variant"
    unit: str | None = None
    control: Label = None
    variants: tuple[Label, ...] | None = None
    axes: Mapping[str, Axis] = field(default_factory=dict[str, Axis])
    policy: Policy = field(default_factory=Policy)
    alternative: Alternative = "two-sided"
    confidence_level: float = 0.95

    def __init__(
        self,
        metrics: Sequence[Metric] | Mapping[str, Metric],
        variant: str = "variant",
        unit: str | None = None,
        control: Label = None,
        variants: Sequence[Label] | None = None,
        axes: Mapping[str, Axis] | None = None,
        policy: Policy | None = None,
        alternative: Alternative = "two-sided",
        confidence_level: float = 0.95,
    ) -> None:
        named = (
            [dataclasses.replace(metric, name=name) for name, metric in metrics.items()]
            if isinstance(metrics, Mapping)
            else list(metrics)
        )
        names = [metric.name for metric in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not named:
            raise ConfigError(
                f"Experiment: {len(named)} metrics, {', '.join(twice) or 'none'} more than once; give one or more with "
                "names that differ (name=...)."
            )
        all_axes = {**(axes or {}), **{m.strata: m.strata for m in named if m.strata and m.strata not in (axes or {})}}
        given = {
            "metrics": tuple(named),
            "variant": variant,
            "unit": unit,
            "control": control,
            "variants": None if variants is None else tuple(variants),
            "axes": all_axes,
            "policy": policy or Policy(),
            "alternative": alternative,
            "confidence_level": confidence_level,
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def analyze(self, data: Any, rows: Mapping[str, Any] | None = None, assigned: int | None = None) -> Result:
        """Return the effects.

        Args:
            data: One row a unit, of any kind that `inputs.opened` reads.
            rows: Tables of rows for quantiles, by name, each with the unit and the variant.
            assigned: How many units were assigned, for the funnel.

        Raises:
            DataError: a column is missing; rows cannot be used and no policy says what becomes of them; an arm is
                empty.
        """
        with opened(data) as given:
            cleaned, table = self.moments(given)
            exposed = sum(table.units.values()) + sum(item.units for item in cleaned.excluded)
            control = self._control(table)
            quantiles, told = self._quantiles(cleaned.table, table.variants, rows or {})
        funnel = Funnel(exposed, table.units, cleaned.excluded, cleaned.filled, assigned, told)
        return Result(self.rows(table, control, (), quantiles), funnel, table, self, control)

    def moments(self, table: Table) -> tuple[quality.Cleaned, MomentTable]:
        """Return the moment table that the metrics need of an Ibis table, and what was left out of it; one scan."""
        columns = self._needed()
        require(table, columns)
        counts = [metric.column for metric in self.metrics if isinstance(metric, Count)]
        request = Request.of((metric.sources() for metric in self.metrics), counts)
        done = quality.Cleaned(table)
        if self.unit is not None:
            done = quality.without_duplicates(table, self.unit, self.variant, self.policy)
        require_numbers(table, request.columns)
        valued = [metric.column for metric in self.metrics if isinstance(metric, Quantile) and metric.rows is None]
        if valued:
            require_numbers(table, valued)
            done = _then(done, quality.finite(done.table, valued, self.unit, self.policy))
        try:
            made = scan(done.table, request, self.variant, self.axes)
        except NotFinite as error:
            done = _then(done, quality.finite(done.table, error.columns, self.unit, self.policy))
            made = scan(done.table, request, self.variant, self.axes)
        expected = self.variants or tuple(label for label in made.variants if label is not None)
        if set(made.variants) - set(expected):
            done = _then(done, quality.known_variants(done.table, self.variant, expected, self.policy))
            made = scan(done.table, request, self.variant, self.axes)
        for name in counts:
            if made.lowest[name] < 0:
                raise quality.no_negative(done.table, name, self.unit)
        return done, made

    def rows(
        self,
        table: MomentTable,
        control: Label,
        axes: Sequence[str] = (),
        quantiles: Mapping[str, Mapping[Label, Estimate]] | None = None,
    ) -> tuple[Row, ...]:
        """Return the rows of a moment table for each cell of some of its axes."""
        groups = [
            tuple(zip(axes, labels, strict=True)) for labels in itertools.product(*(table.axes[name] for name in axes))
        ]
        counts = table.by(*axes).moments.count.reshape(len(table.variants), -1)
        units = dict(zip(table.variants, counts, strict=True))
        made: list[list[Row]] = [[] for _ in groups]
        for metric in self.metrics:
            estimates = self._estimates(metric, table, axes, quantiles)
            for treatment in table.variants:
                if treatment == control:
                    continue
                arms = estimates[control], estimates[treatment]
                compared = metric.compare(*arms, self.alternative, self.confidence_level)
                numbers = _flat(compared, len(groups))
                notes = np.broadcast_to(np.asarray(why_undefined(*arms), object).reshape(-1), len(groups))
                if isinstance(metric, Quantile) and axes:
                    notes = ["needs the values"] * len(groups)
                for i, group in enumerate(groups):
                    n = int(units[control][i]), int(units[treatment][i])
                    fields = (metric.name, control, treatment, *numbers[i].tolist(), *n, str(notes[i]), group)
                    made[i].append(Row._make(fields))
        return tuple(row for group in made for row in group)

    def _estimates(
        self,
        metric: Metric,
        table: MomentTable,
        axes: Sequence[str],
        quantiles: Mapping[str, Mapping[Label, Estimate]] | None,
    ) -> Mapping[Label, Estimate]:
        if isinstance(metric, Quantile):
            nan = np.full(tuple(len(table.axes[name]) for name in axes), np.nan)
            return (quantiles or {}).get(metric.name) or dict.fromkeys(table.variants, Estimate(nan, nan, nan, nan))
        if metric.strata in axes:
            metric = dataclasses.replace(metric, strata=None)
        part = table.by(*axes, *([metric.strata] if metric.strata else []))
        return dict(zip(part.variants, metric.estimate(part.arms(metric.columns())), strict=True))

    def _quantiles(
        self, table: Table, variants: Sequence[Label], rows: Mapping[str, Any]
    ) -> tuple[dict[str, dict[Label, Estimate]], tuple[Excluded, ...]]:
        made: dict[str, dict[Label, Estimate]] = {}
        told: list[Excluded] = []
        for metric in self.metrics:
            if not isinstance(metric, Quantile):
                continue
            if metric.rows is None:
                made[metric.name] = self._values(metric, table, None)
                continue
            if metric.rows not in rows or self.unit is None:
                raise ConfigError(
                    f"{metric.name}: it is a quantile over the rows {metric.rows!r}; give analyze(rows="
                    f"{{{metric.rows!r}: table}}) and the experiment's unit; tables given: {', '.join(rows) or 'none'}."
                )
            with opened(rows[metric.rows]) as source:
                require(source, (self.variant, self.unit, metric.column), f"the table {metric.rows!r}")
                require_numbers(source, [metric.column])
                cleaned = quality.finite(source, [metric.column], self.unit, self.policy)
                told.extend((*cleaned.excluded, *cleaned.filled))
                made[metric.name] = self._values(metric, cleaned.table, self.unit)
            empty = [name for name in variants if name not in made[metric.name]]
            if empty:
                raise DataError(f"{metric.name}: the table {metric.rows!r} has no rows of the arms {empty}.")
        return made, tuple(told)

    def _values(self, metric: Quantile, table: Table, unit: str | None) -> dict[Label, Estimate]:
        columns = [metric.column] if unit is None else [metric.column, unit]
        return {label: metric.estimate_values(*each) for label, each in values(table, columns, self.variant).items()}

    def _needed(self) -> list[str]:
        columns = [self.variant] + ([self.unit] if self.unit else [])
        columns += Request.of(metric.sources() for metric in self.metrics).columns
        columns += [m.column for m in self.metrics if isinstance(m, Quantile) and m.rows is None]
        return columns + [axis.unit if isinstance(axis, Bucket) else axis for axis in self.axes.values()]

    def _control(self, table: MomentTable) -> Label:
        empty = [name for name in self.variants or () if name not in table.variants]
        if empty or len(table.variants) < 2:
            raise DataError(
                f"experiment: {f'the arms {empty} are empty' if empty else 'there are not two arms'}; the data has "
                f"{table.units or 'no units'}. Check the column {self.variant!r} and the filters before it."
            )
        control = (self.variants or table.variants)[0] if self.control is None else self.control
        if control not in table.variants:
            raise DataError(
                f"experiment: the control {control!r} is not among the variants; "
                f"{suggest(str(control), map(str, table.variants))}"
            )
        return control


def _then(first: quality.Cleaned, second: quality.Cleaned) -> quality.Cleaned:
    return quality.Cleaned(second.table, first.excluded + second.excluded, first.filled + second.filled)


def _flat(compared: Comparison, groups: int) -> Any:
    """Return the numbers of a comparison [groups, fields]."""
    return np.stack([np.broadcast_to(floats(x).reshape(-1), groups) for x in compared], -1)
