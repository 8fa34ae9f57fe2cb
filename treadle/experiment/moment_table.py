"""`MomentTable`: the moments of every cell of variant x day x bucket x segment, with named axes; all of one scan.

Totals, sequential looks, segments, A/A replicates and jackknife groups are sums over its axes, with no second scan.
Only the products that metrics asked for are known; to ask for another is an error, not a zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from treadle.core import DataError

from .moments import Moments, stack

Label = Any
"""What a cell is called on an axis: a variant's name, a date, a number; None is a segment that is not known."""
Pair = tuple[str, str]

VARIANT = "variant"


@dataclass(frozen=True, eq=False)
class MomentTable:
    """Moments with named leading axes, the first of which is the variant.

    Attributes:
        axes: The labels of each axis by its name, in the order of the leading axes; the first is "variant".
        moments: Counts, means and centred products; the products of other pairs than `pairs` mean nothing.
        pairs: The pairs of columns, both orders, whose products are known; None is all.
        lowest: The lowest value of columns for which it was asked, such as counts, over all cells.
    """

    axes: Mapping[str, tuple[Label, ...]]
    moments: Moments
    pairs: frozenset[Pair] | None = None
    lowest: Mapping[str, float] = field(default_factory=dict[str, float])

    def __post_init__(self) -> None:
        sizes = tuple(len(labels) for labels in self.axes.values())
        if sizes != self.moments.shape or next(iter(self.axes), "") != VARIANT:
            raise DataError(
                f"MomentTable: the axes {dict(zip(self.axes, sizes, strict=True))} do not fit moments of shape "
                f"{self.moments.shape}; the first axis is {VARIANT!r} and every cell has its labels."
            )

    @property
    def variants(self) -> tuple[Label, ...]:
        """The labels of the arms."""
        return self.axes[VARIANT]

    @property
    def units(self) -> dict[Label, int]:
        """Units of each arm."""
        counts = self.moments.count.sum(tuple(range(1, len(self.axes))))
        return {name: int(n) for name, n in zip(self.variants, counts, strict=True)}

    def total(self) -> MomentTable:
        """Return one cell an arm."""
        return self.by()

    def by(self, *axes: str) -> MomentTable:
        """Return the table with the variant and these axes alone, in the order given."""
        at = [self._axis(name) for name in (VARIANT, *axes)]
        merged = self.moments.merge(tuple(i for i in range(len(self.axes)) if i not in at))
        left = sorted(at)
        order = [left.index(i) for i in at]
        return replace(self, axes={name: self.axes[name] for name in (VARIANT, *axes)}, moments=_turn(merged, order))

    def cumulative(self, axis: str = "day") -> MomentTable:
        """Return the table whose cell at a label holds all units up to it: the looks of a sequential test."""
        at = self._axis(axis)
        whole: tuple[slice, ...] = (slice(None),) * at
        grown: list[Moments] = []
        for i in range(len(self.axes[axis])):
            cell = self.moments[(*whole, i)]
            grown.append(stack([grown[-1], cell]).merge(0) if grown else cell)
        order = [i + 1 if i < at else 0 if i == at else i for i in range(len(self.axes))]
        return replace(self, moments=_turn(stack(grown), order))

    def at(self, axis: str, label: Label) -> MomentTable:
        """Return the part of the table at one label of an axis, which it then lacks."""
        i = self._position(axis, label)
        index = (*(slice(None),) * self._axis(axis), i)
        rest = {name: labels for name, labels in self.axes.items() if name != axis}
        if axis == VARIANT:
            raise DataError(f"MomentTable.at: an arm is no table; arm({label!r}) returns its moments.")
        return replace(self, axes=rest, moments=self.moments[index])

    def arm(self, variant: Label, columns: Iterable[str] | None = None) -> Moments:
        """Return the moments of an arm over the other axes, of some columns.

        Raises:
            DataError: no such arm, or the product of two of the columns was not asked for in the scan.
        """
        part = self.moments[self._position(VARIANT, variant)]
        names = list(self.moments.columns if columns is None else columns)
        for i, a in enumerate(names):
            for b in names[i:]:
                if self.pairs is not None and (a, b) not in self.pairs:
                    raise DataError(
                        f"MomentTable: the products of {a} and {b} were not scanned; add a metric that needs the pair, "
                        "or select columns that belong to one metric."
                    )
        return part.select(names)

    def arms(self, columns: Iterable[str] | None = None, variants: Sequence[Label] | None = None) -> list[Moments]:
        """Return the moments of each arm, as `arm`."""
        names = None if columns is None else list(columns)
        return [self.arm(name, names) for name in (self.variants if variants is None else variants)]

    def _axis(self, name: str) -> int:
        if name not in self.axes:
            raise DataError(f"MomentTable: there is no axis {name!r}; there are {', '.join(self.axes)}.")
        return list(self.axes).index(name)

    def _position(self, axis: str, label: Label) -> int:
        labels = self.axes[list(self.axes)[self._axis(axis)]]
        if label not in labels:
            raise DataError(f"MomentTable: {axis} {label!r} has no units; there are {', '.join(map(str, labels))}.")
        return labels.index(label)


def _turn(moments: Moments, order: Sequence[int]) -> Moments:
    """Return the moments with their leading axes in another order."""
    n = len(order)
    return Moments(
        moments.columns,
        moments.count.transpose(order),
        moments.mean.transpose(*order, n),
        moments.product.transpose(*order, n, n + 1),
        moments.rest.transpose(*order, n),
    )


def table_of_rows(
    rows: Mapping[str, Any], variant: Sequence[Label], axes: Mapping[str, Sequence[Label]] | None = None
) -> MomentTable:
    """Return the table of columns in memory: `rows` values [n] by column, `variant` and `axes` labels [n]."""
    labels: dict[str, tuple[Label, ...]] = {}
    codes: list[Any] = []
    for name, values in {VARIANT: variant, **(axes or {})}.items():
        found, code = np.unique(np.asarray(values), return_inverse=True)
        labels[name] = tuple(found.tolist())
        codes.append(code)
    shape = tuple(len(found) for found in labels.values())
    return MomentTable(labels, Moments.from_rows(rows, np.ravel_multi_index(codes, shape), shape))
