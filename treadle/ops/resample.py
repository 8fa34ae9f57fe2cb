"""Weighted sums of a few elements along an axis, at places fixed in tables or computed: interpolation.

Along one axis interpolation is a sparse matrix, held as two tables with a row for each element of the result: which
elements count, and how much. The gradient is the transposed matrix, held in the same form, so it gathers too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treadle.core import ShapeError, Type, from_numpy
from treadle.ir import Node

from .base import FLOATS, NUMERIC, Array, Composite, check_dtypes, sum_dtype
from .broadcast import reshape
from .cast import cast
from .indexing import ScatterAdd, Take
from .movement import Slice
from .reduce import Sum, widened

UNROLL = 8  # elements of a sum up to which it is written out; a longer one is a loop


@dataclass(frozen=True)
class Resample(Composite):
    """For element o along `axis` the sum over t of `weights[o, t]` times x at `places[o, t]`.

    The last two operands are the tables of the transposed sum, which the gradient takes. Weights have the dtype sums of
    x are taken in; places are trusted to lie in the axis.
    """

    name = "resample"
    axis: int

    def infer(self, x: Type, places: Type, weights: Type, back_places: Type, back_weights: Type) -> Type:
        check_dtypes(self.name, (x,), FLOATS)
        if not 0 <= self.axis < x.ndim:
            raise ShapeError(f"resample: axis {self.axis} is out of range for {x}, which has {x.ndim} axes.")
        for where, weight in ((places, weights), (back_places, back_weights)):
            if weight != Type(sum_dtype(x.dtype), where.shape) or where.ndim != 2 or not where.dtype.is_integer:
                raise ShapeError(f"resample: places {where} and weights {weight} do not fit each other and {x}.")
        if back_places.shape[0] != x.shape[self.axis]:
            raise ShapeError(f"resample: transposed tables {back_places} do not have a row for each element of {x}.")
        return Type(x.dtype, (*x.shape[: self.axis], places.shape[0], *x.shape[self.axis + 1 :]))

    def expand(self, x: Node, places: Node, weights: Node, back_places: Node, back_weights: Node) -> Node:
        out, count = places.shape
        behind = (1,) * (x.type.ndim - self.axis - 1)
        if count > UNROLL:
            products = widened(Take(self.axis)(x, places)) * reshape(weights, (out, count, *behind))
            return cast(Sum((self.axis + 1,))(products), x.dtype)
        total: Node | None = None
        for t in range(count):
            column = Slice((0, t), (out, 1), (1, 1))
            weight = reshape(column(weights), (out, *behind))
            term = widened(Take(self.axis)(x, reshape(column(places), (out,)))) * weight
            total = term if total is None else total + term
        assert total is not None
        return cast(total, x.dtype)

    def eval(self, x: Array, places: Array, weights: Array, back_places: Array, back_weights: Array) -> Array:
        taken = np.take(x, places, axis=self.axis).astype(np.float64)
        behind = (1,) * (x.ndim - self.axis - 1)
        return (taken * weights.reshape(*weights.shape, *behind)).sum(axis=self.axis + 1).astype(x.dtype)

    def vjp(
        self, ct: Node, out: Node, x: Node, places: Node, weights: Node, back_places: Node, back_weights: Node
    ) -> list[Node | None]:
        return [Resample(self.axis)(ct, back_places, back_weights, places, weights), None, None, None, None]


@dataclass(frozen=True)
class TakeRows(Composite):
    """The rows of x at places that its maker has clipped into 0..n-1: `take` along axis 0 without the range check."""

    name = "take_rows"

    def infer(self, x: Type, places: Type) -> Type:
        return Take(0).infer(x, places)

    def expand(self, x: Node, places: Node) -> Node:
        return Take(0)(x, places)

    def eval(self, x: Array, places: Array) -> Array:
        return Take(0).eval(x, places)

    def vjp(self, ct: Node, out: Node, x: Node, places: Node) -> list[Node | None]:
        return [AddRows(x.shape[0])(ct, places), None]


@dataclass(frozen=True)
class AddRows(Composite):
    """Zeros of `size` rows, to which values are added at places that lie in 0..size-1: the transpose of `take_rows`."""

    name = "add_rows"
    size: int

    def infer(self, values: Type, places: Type) -> Type:
        check_dtypes(self.name, (values,), NUMERIC)
        return ScatterAdd(0, self.size).infer(values, places)

    def expand(self, values: Node, places: Node) -> Node:
        return ScatterAdd(0, self.size)(values, places)

    def eval(self, values: Array, places: Array) -> Array:
        wide = sum_dtype(from_numpy(values.dtype)).numpy
        total = np.zeros((self.size, *values.shape[places.ndim :]), wide)
        np.add.at(total, places.astype(np.int64), values.astype(wide))
        return total.astype(values.dtype)

    def vjp(self, ct: Node, out: Node, values: Node, places: Node) -> list[Node | None]:
        return [TakeRows()(ct, places), None]
