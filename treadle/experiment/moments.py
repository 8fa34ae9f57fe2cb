"""The moment table: units, means and centred products of groups of units. Every estimate is computed from it alone.

A cell of the table is a group of units: a variant, or one bucket of a variant on one day. It holds what the normal
theory needs, the count n, the means m and the matrix of sums of products of deviations from the means. Products are
centred, so that a column of mean 1e9 and standard deviation 1 loses nothing, and cells merge exactly (Chan, Golub and
LeVeque 1979), so that totals, segments, sequential looks and A/A replicates all come from one scan of the data.

A capped or winsorised metric is a column like any other, made before the scan: its limit must not depend on the arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from treadle.core import DataError, ShapeError

from .floats import Array, floats, two_sum

Part = int | slice | NDArray[np.intp] | NDArray[np.bool_]
Index = Part | tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts [...], means [..., k] and centred sums of products [..., k, k] of `k` named columns.

    A cell without units has mean 0 and product 0, which mean nothing; estimates of it are NaN. The mean is held as the
    sum of `mean` and `rest`, what rounding took from it: two means of 1e9 that differ by 0.1 differ by 0.1 to the last
    digits.

    Raises:
        ShapeError: the arrays do not belong together.
        DataError: a count is negative, or something is not finite.
    """

    columns: tuple[str, ...]
    count: Array
    mean: Array
    product: Array
    rest: Array

    def __post_init__(self) -> None:
        k = len(self.columns)
        if (
            self.mean.shape != (*self.count.shape, k)
            or self.rest.shape != self.mean.shape
            or self.product.shape != (*self.count.shape, k, k)
        ):
            raise ShapeError(
                f"Moments: count {self.count.shape}, mean {self.mean.shape} and product {self.product.shape} "
                f"of {k} columns do not belong together; give [...], [..., k] and [..., k, k]."
            )
        if len(set(self.columns)) != k:
            raise DataError(f"Moments: a column is named twice in {self.columns}; names must differ.")
        if not np.all(np.isfinite(self.count)) or np.any(self.count < 0):
            bad = self.count[~(np.isfinite(self.count) & (self.count >= 0))]
            raise DataError(
                f"Moments: {bad.size} counts are negative or not finite, such as {bad.flat[0]}; a count is 0 or more."
            )
        finite = np.isfinite(self.mean) & np.isfinite(self.product).all(-1)
        if not np.all(finite):
            names = [self.columns[int(j)] for j in np.flatnonzero(~finite.reshape(-1, k).all(axis=0))]
            raise DataError(
                f"Moments: NaN or infinity in {', '.join(names)}; exclude or cap such values and count them first."
            )

    @classmethod
    def from_rows(
        cls, rows: Mapping[str, ArrayLike], groups: ArrayLike | None = None, shape: int | tuple[int, ...] = ()
    ) -> Moments:
        """Return the moments of columns of equal length, one row a unit.

        Args:
            rows: Values [n] by name of the column.
            groups: For each row the flat index [n] of its cell in a table of the given shape; without it there is one
                cell.
            shape: The leading axes of the result.

        Raises:
            ShapeError: columns of different lengths.
            DataError: a value is null or infinite (said with its row), or a group is outside the table.
        """
        columns = {name: floats(values) for name, values in rows.items()}
        n = next((len(values) for values in columns.values()), 0)
        for name, values in columns.items():
            if values.shape != (n,):
                raise ShapeError(
                    f"Moments.from_rows: {name} has shape {values.shape}; every column has the shape ({n},)."
                )
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                raise DataError(
                    f"Moments.from_rows: {name} is null or infinite in {bad.size} of {n} rows, first in row {bad[0]} "
                    f"({values[bad[0]]}); fill, cap or exclude them before and count them."
                )
        shape = (shape,) if isinstance(shape, int) else shape
        cells = int(np.prod(shape))
        codes = np.zeros(n, np.intp) if groups is None else _codes(groups, n, cells)
        count = np.bincount(codes, minlength=cells).astype(np.float64)
        if cells > 1:
            order = np.argsort(codes, kind="stable")
            codes = codes[order]
            columns = {name: values[order] for name, values in columns.items()}
        # Rows of a cell stand side by side, and reduceat adds them pairwise: its error does not grow with their number.
        full = np.flatnonzero(count)
        starts = np.searchsorted(codes, full)

        def total(values: Array) -> Array:
            out = np.zeros(cells)
            out[full] = np.add.reduceat(values, starts) if full.size else 0.0
            return out

        k, some = len(columns), np.maximum(count, 1)
        mean, rest, product = np.empty((cells, k)), np.empty((cells, k)), np.empty((cells, k, k))
        deviations: list[Array] = []
        for j, values in enumerate(columns.values()):
            rough = total(values) / some
            # The mean of what is left corrects the rounding of the first sum.
            mean[:, j], rest[:, j] = two_sum(rough, total(values - rough[codes]) / some)
            deviations.append(values - mean[codes, j] - rest[codes, j])
        for i, a in enumerate(deviations):
            for j, b in enumerate(deviations[: i + 1]):
                product[:, i, j] = product[:, j, i] = total(a * b)
        mean, rest = mean.reshape(*shape, k), rest.reshape(*shape, k)
        return cls(tuple(columns), count.reshape(shape), mean, product.reshape(*shape, k, k), rest)

    @classmethod
    def from_sums(
        cls, columns: Sequence[str], count: ArrayLike, total: ArrayLike, products: ArrayLike, shift: ArrayLike = 0.0
    ) -> Moments:
        """Return the moments from raw sums, as one scan in SQL gives them.

        Args:
            columns: The k names.
            count: Units [...].
            total: Sums of x - shift [..., k].
            products: Sums of (x_i - shift_i)(x_j - shift_j) [..., k, k]; only one of the two triangles is read if the
                other is NaN.
            shift: A rough mean of each column [k]; with it far from the mean, raw products cancel and digits are lost.

        Raises:
            DataError: a column's sum of squares is less than its sum allows: the sums are not of the same rows, or lost
                their digits.
        """
        count, total, products, shift = floats(count), floats(total), floats(products), floats(shift)
        some = np.maximum(count, 1)[..., None]
        offset = total / some
        products = np.where(np.isnan(products), np.swapaxes(products, -1, -2), products)
        centred = products - some[..., None] * offset[..., :, None] * offset[..., None, :]
        squares = np.diagonal(centred, axis1=-2, axis2=-1)
        slack = 1e-9 * np.diagonal(products, axis1=-2, axis2=-1)
        if np.any(squares < -slack):
            name = columns[int(np.argwhere(squares < -slack)[0][-1])]
            raise DataError(
                f"Moments.from_sums: the sum of squares of {name} is less than its sum squared over n; check them."
            )
        centred = _without_rounding(centred, squares, np.diagonal(products, axis1=-2, axis2=-1))
        mean, rest = two_sum(np.where(count[..., None] > 0, shift, 0.0), offset)
        return cls(tuple(columns), count, mean, centred, rest)

    @property
    def shape(self) -> tuple[int, ...]:
        """The leading axes."""
        return self.count.shape

    def __getitem__(self, index: Index) -> Moments:
        """Return cells, by an index into the leading axes alone."""
        parts = index if isinstance(index, tuple) else (index,)
        if len(parts) > self.count.ndim:
            raise ShapeError(f"Moments: {len(parts)} indices into {self.count.ndim} leading axes.")
        whole = slice(None)
        return Moments(
            self.columns,
            floats(self.count[parts]),
            self.mean[(*parts, ..., whole)],
            self.product[(*parts, ..., whole, whole)],
            self.rest[(*parts, ..., whole)],
        )

    def column(self, name: str) -> int:
        """Return the position of a column.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.columns:
            raise DataError(f"Moments: there is no column {name!r}; there are {', '.join(self.columns)}.")
        return self.columns.index(name)

    def select(self, columns: Sequence[str]) -> Moments:
        """Return the moments of some columns, in the order given."""
        at = np.array([self.column(name) for name in columns], np.intp)
        product = self.product[..., at[:, None], at]
        return Moments(tuple(columns), self.count, self.mean[..., at], product, self.rest[..., at])

    def apart(self, other: Moments) -> Array:
        """Return how far these means are from those of another table [..., k], to the last digits."""
        return (self.mean - other.mean) + (self.rest - other.rest)

    def merge(self, axis: int | tuple[int, ...] | None = None) -> Moments:
        """Return the moments of all units along some leading axes together (Chan et al. 1979, eq. 2.1).

        Args:
            axis: Leading axes to merge, negative ones counted from the last leading axis; None merges all.
        """
        axes = tuple(range(self.count.ndim)) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = tuple(a % max(self.count.ndim, 1) for a in axes)
        count = self.count.sum(axes, keepdims=True)
        weight = (self.count / np.maximum(count, 1))[..., None]
        rough = (weight * self.mean).sum(axes, keepdims=True)
        # The mean of what is left corrects the rounding of the first sum.
        mean, rest = two_sum(rough, (weight * ((self.mean - rough) + self.rest)).sum(axes, keepdims=True))
        apart = (self.mean - mean) + (self.rest - rest)
        between = (self.count[..., None, None] * apart[..., :, None] * apart[..., None, :]).sum(axes)
        product = self.product.sum(axes) + between
        return Moments(self.columns, floats(count.squeeze(axes)), mean.squeeze(axes), product, rest.squeeze(axes))

    def combine(self, choice: ArrayLike) -> Moments:
        """Return the moments [r...] of many choices [r..., cells] of cells, by one matrix product.

        A choice is 1 where the cell takes part and 0 where not: a row for each A/A replicate, each look or each
        left-out bucket.
        """
        if self.count.ndim != 1:
            raise ShapeError(f"Moments.combine: cells have the leading axes {self.shape}; give one axis of cells.")
        choice, k = floats(choice), len(self.columns)
        whole = self.merge()
        apart = self.apart(whole)
        first, second = np.tril_indices(k)
        products = self.product[:, first, second] + self.count[:, None] * apart[:, first] * apart[:, second]
        table = np.concatenate([self.count[:, None], self.count[:, None] * apart, products], axis=1)
        sums = choice @ table
        count, offset = sums[..., 0], sums[..., 1 : 1 + k] / np.maximum(sums[..., :1], 1)
        product = np.empty((*count.shape, k, k))
        centred = sums[..., 1 + k :] - count[..., None] * offset[..., first] * offset[..., second]
        product[..., first, second] = product[..., second, first] = centred
        diagonal = np.diagonal(product, axis1=-2, axis2=-1)
        product = _without_rounding(product, diagonal, diagonal + count[..., None] * offset**2)
        some = count[..., None] > 0
        mean, rest = two_sum(np.where(some, whole.mean, 0.0), np.where(some, whole.rest + offset, 0.0))
        return Moments(self.columns, count, mean, product, rest)

    def with_zeros(self, count: ArrayLike) -> Moments:
        """Return the moments with `count` [...] more units whose every column is 0: units without events."""
        count = np.broadcast_to(floats(count), self.shape)
        nothing = Moments(
            self.columns, count, np.zeros_like(self.mean), np.zeros_like(self.product), np.zeros_like(self.mean)
        )
        return stack([self, nothing]).merge(0)

    def covariance(self, ddof: float = 1) -> Array:
        """Return the covariance matrices [..., k, k], NaN in cells of no more than `ddof` units."""
        free = self.count - ddof
        return self.product / np.where(free > 0, free, np.nan)[..., None, None]


def stack(parts: Sequence[Moments]) -> Moments:
    """Return the moments of several tables of the same columns, side by side on a new first axis.

    Raises:
        DataError: the columns differ.
    """
    if not parts or any(part.columns != parts[0].columns for part in parts):
        raise DataError(
            f"stack: tables of columns {[part.columns for part in parts]}; give one or more with the same columns."
        )
    return Moments(
        parts[0].columns,
        np.stack([part.count for part in parts]),
        np.stack([part.mean for part in parts]),
        np.stack([part.product for part in parts]),
        np.stack([part.rest for part in parts]),
    )


def _without_rounding(product: Array, squares: Array, raw: Array) -> Array:
    """Return centred products without those of constant columns, of which only the rounding of the raw ones is left."""
    constant = squares <= 1e-14 * raw
    return np.where(constant[..., :, None] | constant[..., None, :], 0.0, product)


def _codes(groups: ArrayLike, n: int, cells: int) -> NDArray[np.intp]:
    codes = np.asarray(groups)
    if codes.shape != (n,) or not np.issubdtype(codes.dtype, np.integer):
        raise ShapeError(
            f"Moments.from_rows: groups are {codes.dtype}{codes.shape}; give an integer for each of the {n} rows."
        )
    if n and not (codes.min() >= 0 and codes.max() < cells):
        raise DataError(
            f"Moments.from_rows: groups run from {codes.min()} to {codes.max()}; the table has cells 0 to {cells - 1}."
        )
    return codes.astype(np.intp, copy=False)
