"""Values put at computed places along an axis: `out[.., index[.., k, ..], ..]` gets `values[.., k, ..]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import DTypeError, ShapeError, Type, int64
from treadle.ir import Node, Op

from .base import ANY, NUMERIC, Array, TensorOp, check_dtypes, sum_dtype
from .broadcast import ones_like, reshape, zeros_like
from .cast import cast
from .compare import Equal, Greater
from .indexing import Check, Iota, TakeAlongAxis, range_checks, without
from .logic import where

AT: dict[str, Callable[..., Any]] = {
    "sum": np.add.at,
    "prod": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}
COMBINES = ("set", *AT)


@dataclass(frozen=True)
class ScatterAlong(TensorOp):
    """x with the values combined into the places along `axis` that `index` names; index and values have one shape.

    Their sizes are those of x but on `axis`. Or the index has size 1 on all other axes: all lines then have the same
    places, and values are whole slices. Values arrive in the order they have along the axis: of several for one place,
    `set` keeps the last, and sums have the same bits for any number of threads.
    """

    name = "scatter_along"
    kernel = "scatter_along"
    axis: int
    combine: str = "set"

    def infer(self, x: Type, index: Type, values: Type) -> Type:
        if self.combine not in COMBINES:
            raise DTypeError(f"scatter: cannot combine by {self.combine!r}. Allowed: {', '.join(COMBINES)}.")
        check_dtypes("scatter", (x, values), ANY if self.combine == "set" else NUMERIC)
        if not index.dtype.is_integer:
            raise DTypeError(f"scatter: indices have dtype {index.dtype.name}. Convert them to integers with astype().")
        if not 0 <= self.axis < x.ndim:
            raise ShapeError(f"scatter: axis {self.axis} is out of range for {x}, which has {x.ndim} axes.")
        one_line = (1,) * (x.ndim - 1)
        fits = x.ndim == index.ndim == values.ndim and index.shape[self.axis] == values.shape[self.axis]
        if (
            not fits
            or self._others(values) != self._others(x)
            or self._others(index) not in (self._others(x), one_line)
        ):
            raise ShapeError(
                f"scatter: index {index} and values {values} do not fit {x}. They must have one shape, and the sizes "
                f"of x on all axes but {self.axis}; the index may have size 1 there."
            )
        if x.shape[self.axis] == 0 and index.size:
            raise ShapeError(f"scatter: axis {self.axis} of {x} is empty, there is no place. Give an empty index.")
        return x

    def _others(self, t: Type) -> tuple[int, ...]:
        return without(t.shape, self.axis)

    def checks(self, *args: Node) -> list[Check]:
        x, index, _ = args
        return range_checks("scatter", index, x.shape[self.axis], f"axis {self.axis} of {x.type}")

    def eval(self, x: Array, index: Array, values: Array) -> Array:
        out, index = x.copy(), np.broadcast_to(index, values.shape)
        if not index.size:
            return out
        places = list(np.ix_(*[np.arange(n, dtype=np.int64) for n in index.shape]))
        places[self.axis] = np.clip(index.astype(np.int64), 0, x.shape[self.axis] - 1)
        with np.errstate(all="ignore"):
            if self.combine == "set":
                self._set(out, np.broadcast_arrays(*places), values)
            else:
                AT[self.combine](out, tuple(places), values)
        return out

    def _set(self, out: Array, places: Sequence[Array], values: Array) -> None:
        """Write values one position of the axis after the other: the last one stays."""
        lines = [np.moveaxis(p, self.axis, 0) for p in (*places, values)]
        for *at, value in zip(*lines, strict=True):
            out[tuple(at)] = value

    def vjp(self, ct: Node, out: Node, x: Node, index: Node, values: Node) -> Sequence[Node | None]:
        there = TakeAlongAxis(self.axis)
        if index.shape != values.shape:
            index = Op.registry["broadcast_to"](values.shape)(index)
        match self.combine:
            case "sum":
                return [ct, None, there(ct, index)]
            case "set":
                return self._through_set(ct, index, values)
            case "prod":
                return self._through_product(ct, x, index, values)
            case _:
                # Whoever equals the extreme has an equal share of the gradient.
                from_x = cast(Equal()(x, out), x.dtype)
                from_values = cast(Equal()(values, there(out, index)), x.dtype)
                share = ct / scatter_along(from_x, index, from_values, self.axis, "sum")
                return [from_x * share, None, from_values * there(share, index)]

    def _through_set(self, ct: Node, index: Node, values: Node) -> list[Node | None]:
        """Give each place's cotangent to the value that stayed there."""
        kept = scatter_along(ct, index, zeros_like(values), self.axis, "set")
        n = index.shape[self.axis]
        line = [n if a == self.axis else 1 for a in range(index.type.ndim)]
        order = Op.registry["broadcast_to"](index.shape)(reshape(Iota(n)(), line))
        last = scatter_along(cast(zeros_like(ct), int64), index, order, self.axis, "set")
        there = TakeAlongAxis(self.axis)
        stayed = Equal()(there(last, index), order)
        return [kept, None, where(stayed, there(ct, index), 0)]

    def _through_product(self, ct: Node, x: Node, index: Node, values: Node) -> list[Node | None]:
        """Divide the product of all factors that are not zero; a single zero gets it whole."""
        there = TakeAlongAxis(self.axis)

        def fold(a: Node, b: Node, combine: str) -> Node:
            return scatter_along(a, index, b, self.axis, combine)

        zero_x, zero_values = Equal()(x, zeros_like(x)), Equal()(values, zeros_like(values))
        plain_x, plain_values = where(zero_x, 1, x), where(zero_values, 1, values)
        product = fold(plain_x, plain_values, "prod")
        zeros = fold(where(zero_x, x, 1), where(zero_values, values, 1), "prod")
        count = fold(cast(zero_x, x.dtype), cast(zero_values, x.dtype), "sum")
        several = Greater()(count, ones_like(count))
        alone = where(several, 0, product) * ct
        rest = product * zeros * ct
        return [
            where(zero_x, alone, rest / plain_x),
            None,
            where(zero_values, there(alone, index), there(rest, index) / plain_values),
        ]


def scatter_along(x: Node, index: Node, values: Node, axis: int, combine: str) -> Node:
    """Return the scatter, sums and products of 16-bit floats made in float32."""
    wide = sum_dtype(x.dtype) if combine in ("sum", "prod") else x.dtype
    if index.op.name == "broadcast_to" and index.args[0].type.ndim == x.type.ndim:
        same = index.args[0]  # for all lines: it need not be written out for each
        index = same if same.type.size == same.shape[axis] == index.shape[axis] else index
    return cast(ScatterAlong(axis, combine)(cast(x, wide), index, cast(values, wide)), x.dtype)
