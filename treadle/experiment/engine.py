"""The one place that talks to the engine: a table and a request in, a `MomentTable` out, in one scan.

The scan groups by variant and the other axes and adds up x - shift and (x - shift)(y - shift), which are centred
afterwards. A shift near a mean that is far from zero keeps the digits. Shifts come from the first rows; where these
mislead (data that is sorted), the scan is made again with the means it found. The expression is the same for every
backend of Ibis.

What depends on the backend is here and in `bucket_axis.py`, and only there: DuckDB adds integers as integers, which is
exact and, with the statistics it keeps of columns, faster; PostgreSQL would make slow decimals of them.

Measured on DuckDB 2.0, 20 M rows of 7 columns, 15 products, in seconds of one core: GROUP BY variant 0.45 (float64
alone 0.62), a WHERE for each arm 0.59, no groups but products with an indicator 0.63; GROUP BY 1,000 buckets 0.82.
Batches through Arrow into BLAS took 1.6 to 2 times as long as GROUP BY on the clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import ibis
import numpy as np
from numpy.typing import NDArray

from treadle.core import DataError

from .bucket_axis import Bucket, bucket_expression
from .floats import Array, floats
from .inputs import Table
from .moment_table import VARIANT, Label, MomentTable
from .moments import Moments
from .request import Cap, Request, Source

SAMPLE = 2048
"""Rows that shifts come from."""
NEAR = 4.0
"""Standard deviations from zero within which a mean needs no shift."""
CANCELLED = 1e4
"""How often the squared distance of the shift from the mean may exceed the variance: four digits of sixteen."""
MOST_CELLS = 5_000_000


Axis = str | Bucket
"""What an axis is made of: a column, or the hash of one."""


class NotFinite(Exception):
    """The scan met null, NaN or infinity in these columns; `quality.py` tells where and what to do."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        super().__init__(f"null or infinite: {', '.join(columns)}")
        self.columns = columns


def scan(table: Table, request: Request, variant: str, axes: Mapping[str, Axis] | None = None) -> MomentTable:
    """Return the moment table of the sources of a request; the labels of timestamps are their days.

    Raises:
        NotFinite: a value is null or not finite.
        DataError: more cells than memory is for.
        ConfigError: a bucket on a backend that has no hash for it.
    """
    keys = {VARIANT: table[variant], **{name: _key(table, axis) for name, axis in (axes or {}).items()}}
    plan = _Plan(table, request, keys, limits(table, request.sources), is_duckdb(table))
    shift = plan.sampled()
    try:
        made = plan.run(shift)
    except duckdb.OutOfRangeException:  # a product of integers does not fit 64 bits
        plan = replace(plan, integers=False)
        made = plan.run(shift)
    whole = made.moments.merge()
    offset = whole.mean - shift + whole.rest
    spread = np.diagonal(whole.product) / max(float(whole.count), 1.0)
    if np.any(offset**2 > CANCELLED * np.maximum(spread, (1e-12 * whole.mean) ** 2)):
        made = plan.run(plan.rounded(whole.mean))
    return made


def limits(table: Table, sources: Sequence[Source]) -> dict[str, float]:
    """Return the limit of each cap by its name; quantiles are of all units, by linear interpolation, in one query."""
    caps = [source for source in sources if isinstance(source, Cap)]
    known = {cap.name: cap.at for cap in caps if cap.at is not None}
    asked = [cap for cap in caps if cap.quantile is not None]
    if not asked:
        return known
    wanted = {f"q{i}": _as_float(table[cap.column]).quantile(cap.quantile) for i, cap in enumerate(asked)}
    found = table.aggregate(**wanted).to_pyarrow().to_pylist()[0]
    return known | {cap.name: float(found[f"q{i}"] or 0.0) for i, cap in enumerate(asked)}


def values(table: Table, columns: Sequence[str], variant: str) -> dict[Label, list[Array]]:
    """Return the values of columns by arm, for quantiles and ranks, which moments do not tell."""
    wanted = {f"c{i}": _as_float(table[name]) for i, name in enumerate(columns)}
    arrow = table.select(key=table[variant], **wanted).to_pyarrow()
    labels, codes = _encoded(arrow.column("key"))
    arrays = [floats(arrow.column(name).to_numpy()) for name in wanted]
    return {label: [array[codes == i] for array in arrays] for i, label in enumerate(labels)}


def backend(table: Table) -> Any:
    """Return the Ibis connection that runs the table's queries."""
    return ibis.get_backend(table)


def is_duckdb(table: Table) -> bool:
    """Return whether the table is in DuckDB."""
    return backend(table).name == "duckdb"


@dataclass(frozen=True)
class _Plan:
    """A scan but for its shift: `integers` adds whole numbers as such."""

    table: Table
    request: Request
    keys: Mapping[str, Any]
    limits: Mapping[str, float]
    integers: bool

    def sampled(self) -> Array:
        """Return rough means of the sources, from the first rows."""
        sources = {f"x{i}": self._value(source) for i, source in enumerate(self.request.sources)}
        if not sources:
            return np.zeros(0)
        rows = self.table.select(**sources).limit(SAMPLE).to_pyarrow()
        shift = np.zeros(len(sources))
        for i, name in enumerate(sources):
            column = floats(rows.column(name).to_numpy())
            column = column[np.isfinite(column)]
            # Near zero there is nothing to lose, and a column of many zeros adds them without rounding.
            if column.size and abs(column.mean()) > NEAR * column.std():
                shift[i] = column.mean()
        return self.rounded(shift)

    def rounded(self, means: Array) -> Array:
        """Return shifts near the means: whole numbers where the source has such."""
        whole = np.array([self._is_whole(source) for source in self.request.sources], np.bool_)
        return np.where(whole | (np.abs(means) > 2.0**52), np.rint(means), means)

    def run(self, shift: Array) -> MomentTable:
        """Return the moment table of one scan."""
        sources, names = self.request.sources, self.request.names
        moved = {
            name: self._value(source, float(shift[i]))
            for i, (name, source) in enumerate(zip(names, sources, strict=True))
        }
        sums: dict[str, Any] = {"n": self.table.count()}
        for i, name in enumerate(names):
            sums[f"s{i}"] = moved[name].sum().cast("float64")
        for i, column in enumerate(self.request.columns):
            sums[f"c{i}"] = self.table[column].count()
        for i, (a, b) in enumerate(self.request.pairs):
            sums[f"p{i}"] = (moved[a] * moved[b]).sum().cast("float64")
        for i, name in enumerate(self.request.lowest):
            sums[f"m{i}"] = self.table[name].min().cast("float64")
        keys = {f"k{i}": key for i, key in enumerate(self.keys.values())}
        return self._table(self.table.group_by(**keys).aggregate(**sums).to_pyarrow(), shift)

    def _value(self, source: Source, shift: float = 0.0) -> Any:
        column = self.table[source if isinstance(source, str) else source.column]
        if self.integers and self._is_whole(source):
            column = column.cast("int64")
            return column - int(shift) if shift else column
        column = _as_float(column)
        if isinstance(source, Cap):
            # NaN is above all numbers to a database: it and infinity stay what they are, to be found.
            limit = self.limits[source.name]
            above: Any = (column > limit) & (column < float("inf"))
            column = above.ifelse(limit, column)
        return column - shift if shift else column

    def _is_whole(self, source: Source) -> bool:
        kind = self.table[source].type() if isinstance(source, str) else None
        return kind is not None and (kind.is_integer() or kind.is_boolean())

    def _table(self, result: Any, shift: Array) -> MomentTable:
        """Return the cells of a result with one row a cell that has units."""
        request, count = self.request, floats(result.column("n").to_numpy())
        sums = [floats(result.column(f"s{i}").to_numpy()) for i in range(len(shift))]
        self._check_finite(result, count, sums)
        labels, codes = zip(*(_encoded(result.column(f"k{i}")) for i in range(len(self.keys))), strict=True)
        shape = tuple(len(found) for found in labels)
        k, cells = len(shift), int(np.prod(shape))
        if cells * max(k, 1) ** 2 > MOST_CELLS * 20:
            raise DataError(f"experiment: axes of sizes {shape} make {cells:,} cells; take fewer axes or buckets.")
        at = np.ravel_multi_index(codes, shape) if cells else np.zeros(0, np.intp)
        total = np.stack(sums, -1) if k else np.zeros((len(count), 0))
        # A pair that nobody asked for gets the product of the means, so that nothing is left of it when centred.
        products = total[:, :, None] * total[:, None, :] / np.maximum(count, 1)[:, None, None]
        where = {name: i for i, name in enumerate(request.names)}
        for i, (a, b) in enumerate(request.pairs):
            products[:, where[a], where[b]] = products[:, where[b], where[a]] = result.column(f"p{i}").to_numpy()
        full = [np.zeros((cells, *part.shape[1:])) for part in (count, total, products)]
        for whole, part in zip(full, (count, total, products), strict=True):
            whole[at] = part
        moments = Moments.from_sums(
            request.names, full[0].reshape(shape), full[1].reshape(*shape, k), full[2].reshape(*shape, k, k), shift
        )
        asked = frozenset(pair for a, b in request.pairs for pair in ((a, b), (b, a)))
        lowest = {
            name: float(np.min(floats(result.column(f"m{i}").to_numpy()), initial=np.inf))
            for i, name in enumerate(request.lowest)
        }
        return MomentTable(dict(zip(self.keys, labels, strict=True)), moments, asked, lowest)

    def _check_finite(self, result: Any, count: Array, sums: Sequence[Array]) -> None:
        bad = {name for i, name in enumerate(self.request.columns) if np.any(result.column(f"c{i}").to_numpy() < count)}
        for source, total in zip(self.request.sources, sums, strict=True):
            if not np.all(np.isfinite(total)):
                bad.add(source if isinstance(source, str) else source.column)
        if bad:
            raise NotFinite(tuple(name for name in self.request.columns if name in bad))


def _as_float(column: Any) -> Any:
    return column.cast("int32").cast("float64") if column.type().is_boolean() else column.cast("float64")


def _key(table: Table, axis: Axis) -> Any:
    if isinstance(axis, Bucket):
        return bucket_expression(table, axis)
    column = table[axis]
    return column.date() if column.type().is_timestamp() else column


def _encoded(column: Any) -> tuple[tuple[Label, ...], NDArray[np.intp]]:
    """Return the labels of a column in order, null last, and the position of each row's label."""
    chunks = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    coded = chunks.dictionary_encode(null_encoding="encode")
    labels = coded.dictionary.to_pylist()
    order = sorted(range(len(labels)), key=lambda i: (labels[i] is None, 0 if labels[i] is None else labels[i]))
    place = np.empty(len(labels), np.intp)
    place[order] = np.arange(len(labels))
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return tuple(labels[i] for i in order), place[codes] if len(codes) else np.zeros(0, np.intp)
