"""Weighted sums of a few elements along an axis, at places fixed in tables or computed: interpolation.

Along one axis interpolation is a sparse matrix, held as two tables with a row for each element of the result: which
elements count, and how much. The gradient is the transposed matrix, held in the same form, so it gathers too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treadle.core import ShapeError, Type, from_numpy, int64
from treadle.ir import Node
from treadle.te import Compute, compute, convert, fn, index, literal, load, select

from .base import FLOATS, NUMERIC, Array, Composite, TensorOp, check_dtypes, sum_dtype
from .broadcast import full, reshape, zeros_like
from .cast import cast
from .compare import GreaterEqual
from .indexing import Take
from .logic import where
from .movement import Slice
from .reduce import Sum, widened
from .scatter import scatter_along

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
        for at, weight in ((places, weights), (back_places, back_weights)):
            if weight != Type(sum_dtype(x.dtype), at.shape) or at.ndim != 2 or not at.dtype.is_integer:
                raise ShapeError(f"resample: places {at} and weights {weight} do not fit each other and {x}.")
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
class TakeOrZero(TensorOp):
    """For every place along the last axis the element of x there, 0 where the place is negative.

    Places are trusted to be less than the axis is long; x and places have the same other sizes.
    """

    name = "take_or_zero"

    def infer(self, x: Type, places: Type) -> Type:
        check_dtypes(self.name, (x,), NUMERIC)
        _check_places(self.name, x, places)
        if x.shape[-1] == 0 and places.size:
            raise ShapeError(f"take_or_zero: the last axis of {x} is empty, there is nothing to take.")
        return Type(x.dtype, places.shape)

    def eval(self, x: Array, places: Array) -> Array:
        last = max(x.shape[-1] - 1, 0)
        return np.where(places < 0, 0, np.take_along_axis(x, np.clip(places, 0, last), -1)).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node, places: Node) -> list[Node | None]:
        return [AddOrSkip(x.shape[-1])(ct, places), None]

    def lower(self, x: Type, places: Type) -> Compute:
        def element(*i: Node) -> Node:
            place = load(1, places, *i)
            inside = fn("min", fn("max", convert(place, int64), index(0)), index(x.shape[-1] - 1))
            return select(fn("ge", place, literal(0, places.dtype)), load(0, x, *i[:-1], inside), literal(0, x.dtype))

        return compute(places.shape, element)


@dataclass(frozen=True)
class AddOrSkip(Composite):
    """Zeros of `size` along the last axis, each value added at its place unless that is negative."""

    name = "add_or_skip"
    size: int

    def infer(self, values: Type, places: Type) -> Type:
        check_dtypes(self.name, (values,), NUMERIC)
        _check_places(self.name, values, places)
        if values.shape != places.shape or (self.size == 0 and values.size):
            raise ShapeError(f"add_or_skip: {values} and {places} must have one shape, and {self.size} places hold it.")
        return Type(values.dtype, (*values.shape[:-1], self.size))

    def expand(self, values: Node, places: Node) -> Node:
        zeros = full(0, values.dtype, (*values.shape[:-1], self.size))
        kept = where(GreaterEqual()(places, zeros_like(places)), values, zeros_like(values))
        return scatter_along(zeros, places, kept, values.type.ndim - 1, "sum")

    def eval(self, values: Array, places: Array) -> Array:
        wide = sum_dtype(from_numpy(values.dtype)).numpy
        total = np.zeros((*values.shape[:-1], self.size), wide)
        lead = np.ix_(*[np.arange(n) for n in (*places.shape[:-1], 1)])[:-1]
        kept = np.where(places < 0, 0, values).astype(wide)
        np.add.at(total, (*lead, np.maximum(places, 0)), kept)
        return total.astype(values.dtype)

    def vjp(self, ct: Node, out: Node, values: Node, places: Node) -> list[Node | None]:
        return [TakeOrZero()(ct, places), None]


def _check_places(what: str, x: Type, places: Type) -> None:
    if x.ndim < 1 or places.shape[:-1] != x.shape[:-1] or places.ndim != x.ndim or places.dtype.kind != "int":
        raise ShapeError(f"{what}: places {places} do not fit {x}. They must be signed, with its sizes but the last.")
