"""Order along the last axis: stable sorting with positions, and where values belong in sorted rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import ShapeError, Type, from_numpy, int64
from treadle.ir import Node, results
from treadle.te import Compute, add, compute, fn, index, literal, load, select

from .arithmetic import FloorDivide, Remainder
from .base import ANY, Array, TensorOp, check_dtypes, sum_dtype
from .broadcast import broadcast_to, full, reshape, scalar_like, zeros_like
from .indexing import TakeAlongAxis
from .movement import Concat, Slice
from .reduce import Max
from .scatter import ScatterAlong

MOST = 1 << 32  # elements of a row: positions are sorted as 32-bit numbers
BLOCK = 128  # elements of a block by whose maxima long rows are looked through
FEW_OF = 8 * BLOCK  # a row is long if it is so many times longer than what is wanted of it


@dataclass(frozen=True)
class Sort(TensorOp):
    """The first `count` elements of every row (along the last axis) in sorted order, and where they were, int64.

    The order is stable in both directions. NaN counts as greater than everything, -0.0 as equal to 0.0.
    """

    name = "sort"
    kernel = "sort"
    count: int
    descending: bool = False

    def infer(self, x: Type) -> tuple[Type, Type]:
        check_dtypes("sort", (x,), ANY)
        if x.ndim == 0:
            raise ShapeError(f"sort: {x} has no axis to sort along. Reshape it to (1,).")
        if not 0 <= self.count <= x.shape[-1]:
            raise ShapeError(f"sort: there are no {self.count} elements in the rows of {x}. Allowed: 0..{x.shape[-1]}.")
        if x.shape[-1] >= MOST:
            raise ShapeError(f"sort: rows of {x} are too long. Allowed: fewer than {MOST} elements.")
        shape = (*x.shape[:-1], self.count)
        return Type(x.dtype, shape), Type(int64, shape)

    def eval(self, x: Array) -> tuple[Array, Array]:
        keys = x.astype(sum_dtype(from_numpy(x.dtype)).numpy)
        if self.descending:
            # The last of equal elements comes first from behind.
            order = x.shape[-1] - 1 - np.flip(np.argsort(np.flip(keys, -1), axis=-1, kind="stable"), -1)
        else:
            order = np.argsort(keys, axis=-1, kind="stable")
        order = np.ascontiguousarray(order[..., : self.count], np.int64)
        return np.take_along_axis(x, order, -1), order

    def vjp(self, ct: tuple[Node | None, Node | None], out: Node, x: Any) -> Sequence[Node | None]:
        from_values, _ = ct
        if from_values is None:
            return [None]
        _, order = sorted_rows(x, self.count, descending=self.descending)
        # Positions differ, so nothing is added up.
        return [ScatterAlong(x.type.ndim - 1, "set")(zeros_like(x), order, from_values)]


def sorted_rows(x: Node, count: int | None = None, *, descending: bool = False) -> tuple[Node, Node]:
    """Return the first elements (all when None) of every row in sorted order, and where they were."""
    size = x.shape[-1]
    if descending and count is not None and 0 < count * FEW_OF <= size and x.dtype.kind != "bool":
        return _largest_by_blocks(x, count)
    values, order = results(Sort(size if count is None else count, descending)(x))
    return values, order


def _largest_by_blocks(x: Node, count: int) -> tuple[Node, Node]:
    """Return the largest elements of long rows, and where they were: they lie in the blocks with the largest maxima.

    Where maxima are equal the first blocks are taken: whatever is left out comes behind as many elements as wanted.
    (For the smallest, NaN would hide the least element of its block.)
    """
    *batch, size = x.shape
    blocks, rest = divmod(size, BLOCK)
    axis = len(batch)
    by_block = reshape(_part(x, 0, blocks * BLOCK), (*batch, blocks, BLOCK))
    _, best = results(Sort(count, True)(Max((axis + 1,))(by_block)))
    best, _ = results(Sort(count)(best))  # in the order of the row, so that of equal elements the first stay first
    spread = broadcast_to(reshape(best, (*batch, count, 1)), (*batch, count, BLOCK))
    chosen = reshape(TakeAlongAxis(axis)(by_block, spread), (*batch, count * BLOCK))
    if rest:  # what is left over is a block of its own, which is always looked at
        chosen = Concat(axis)(chosen, _part(x, blocks * BLOCK, rest))
        best = Concat(axis)(best, full(blocks, int64, (*batch, 1)))
    values, place = results(Sort(count, True)(chosen))
    width = scalar_like(place, BLOCK)
    return values, TakeAlongAxis(axis)(best, FloorDivide()(place, width)) * BLOCK + Remainder()(place, width)


def _part(x: Node, start: int, size: int) -> Node:
    """Return some elements of every row."""
    front = (0,) * (x.type.ndim - 1)
    return Slice((*front, start), (*x.shape[:-1], size), (1,) * x.type.ndim)(x)


@dataclass(frozen=True)
class SearchSorted(TensorOp):
    """How many elements of a sorted row are less than each value; where `right`, how many are not greater. int64.

    `rows` is one row for all values, or has as many axes as `values`, equal sizes but for the last. A binary search
    without branches: as many steps for every value, so that values run in lanes (Shar; see Bentley 2000, column 9).
    """

    name = "searchsorted"
    right: bool = False

    def infer(self, rows: Type, values: Type) -> Type:
        check_dtypes(self.name, (rows, values), ANY)
        if rows.ndim == 0 or (rows.ndim > 1 and rows.shape[:-1] != values.shape[:-1]):
            raise ShapeError(
                f"searchsorted: the sorted rows {rows} do not fit the values {values}. Give one row, or rows of the "
                "same sizes but for the last axis."
            )
        return Type(int64, values.shape)

    def eval(self, rows: Array, values: Array) -> Array:
        side = "right" if self.right else "left"
        wide = sum_dtype(from_numpy(rows.dtype)).numpy
        rows, values = rows.astype(wide), values.astype(wide)
        if rows.ndim == 1:
            return np.asarray(np.searchsorted(rows, values, side), np.int64).reshape(values.shape)
        out = np.zeros(values.shape, np.int64)
        for at in np.ndindex(values.shape[:-1]):
            out[at] = np.searchsorted(rows[at], values[at], side)
        return out

    def vjp(self, ct: Node, out: Node, rows: Node, values: Node) -> Sequence[Node | None]:
        return [None, None]

    def lower(self, rows: Type, values: Type) -> Compute:
        n = rows.shape[-1]

        def element(*i: Node) -> Node:
            value = load(1, values, *i)
            row = i[:-1] if rows.ndim > 1 else ()

            def before(place: Node) -> Node:
                return self._before(load(0, rows, *row, place), value)

            if n == 0:
                return literal(0, int64)
            # The count lies in base..base+step: in the first step the upper half may overlap the lower one.
            step = 1 << (n.bit_length() - 1)
            base = select(before(index(step - 1)), literal(n - step + 1, int64), literal(0, int64))
            while step > 1:
                step //= 2
                base = select(before(add(base, step - 1)), add(base, step), base)
            return base

        return compute(values.shape, element)

    def _before(self, element: Node, value: Node) -> Node:
        """Whether an element comes before where the value belongs; NaN is greater than everything."""
        found = fn("le" if self.right else "lt", element, value)
        if not value.dtype.is_float:
            return found
        beyond = fn("ne", value, value)
        if not self.right:
            beyond = fn("and", beyond, fn("eq", element, element))
        return fn("or", found, beyond)
