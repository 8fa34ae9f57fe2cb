"""Running folds along an axis: cumulative sums, products and extremes, and first-order linear recurrences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import DTypeError, ShapeError, Type, from_numpy, int32, int64
from treadle.ir import Node, constant

from .base import FLOATS, NUMERIC, Array, TensorOp, check_axes, check_dtypes, sum_dtype
from .broadcast import reshape, zeros_like
from .cast import cast
from .compare import Equal, Greater, IsNan
from .indexing import Iota
from .logic import LogicalOr, where
from .math import Exp, Log
from .movement import Pad, Slice
from .scatter import scatter_along

ACCUMULATE: dict[str, Callable[..., Any]] = {
    "sum": np.add.accumulate,
    "prod": np.multiply.accumulate,
    "max": np.maximum.accumulate,
    "min": np.minimum.accumulate,
    "logaddexp": np.logaddexp.accumulate,
}


@dataclass(frozen=True)
class Cumulative(TensorOp):
    """For every place the fold of the elements up to and with it along `axis`; from the other end where `reverse`.

    `combine` is sum, prod, max, min (NaN stays from where it occurs) or logaddexp. Elements are folded in an order that
    depends on the shape alone; 16-bit floats are folded in float32 and rounded when stored.
    """

    name = "cumulative"
    kernel = "cumulative"
    axis: int
    combine: str
    reverse: bool = False

    def infer(self, x: Type) -> Type:
        if self.combine not in ACCUMULATE:
            raise DTypeError(f"cumulative: cannot fold by {self.combine!r}. Allowed: {', '.join(ACCUMULATE)}.")
        check_dtypes(self.name, (x,), FLOATS if self.combine == "logaddexp" else NUMERIC)
        check_axes(self.name, (self.axis,), x)
        return x

    def eval(self, x: Array) -> Array:
        wide = sum_dtype(from_numpy(x.dtype)).numpy
        turned = np.flip(x, self.axis) if self.reverse else x
        with np.errstate(all="ignore"):
            folded = ACCUMULATE[self.combine](turned.astype(wide), axis=self.axis).astype(x.dtype)
        return np.flip(folded, self.axis) if self.reverse else folded

    def vjp(self, ct: Node, out: Node, x: Node) -> Sequence[Node | None]:
        match self.combine:
            case "sum":
                return [Cumulative(self.axis, "sum", not self.reverse)(ct)]
            case "prod":
                return [self._through_product(ct, x)]
            case "logaddexp":
                return [self._through_logarithm(ct, out, x)]
            case _:
                index = cumulative_index(x, out, self.axis, reverse=self.reverse)
                return [scatter_along(zeros_like(x), index, ct, self.axis, "sum")]

    def _through_product(self, ct: Node, x: Node) -> Node:
        """Return the product of what is before, times the sum of ct over products of what is between.

        That sum is a recurrence s[i] = ct[i] + x[i+1] s[i+1]. Nothing is divided by, so zeros do no harm, in
        derivatives of any order.
        """
        wide = sum_dtype(x.dtype)
        y, g = cast(x, wide), cast(ct, wide)
        before = shifted(Cumulative(self.axis, "prod", self.reverse)(y), self.axis, -1 if self.reverse else 1, 1)
        following = shifted(y, self.axis, 1 if self.reverse else -1, 1)
        return cast(before * LinearScan(self.axis, not self.reverse)(following, g), x.dtype)

    def _through_logarithm(self, ct: Node, out: Node, x: Node) -> Node:
        """Return the sum of ct[j] exp(x[i] - out[j]) over what follows, positive and negative ct apart, as logarithms.

        A place where all is -inf so far passes nothing on.
        """
        low = constant(float("-inf"), x.dtype)
        reached = Greater()(out, low)
        safe = where(reached, out, 0)

        def part(g: Node) -> Node:
            positive = LogicalOr()(Greater()(g, zeros_like(g)), IsNan()(g))
            logs = where(positive, Log()(where(positive, g, 1)) - safe, low)
            return Exp()(Cumulative(self.axis, "logaddexp", not self.reverse)(logs) + x)

        given = where(reached, ct, 0)
        return part(given) - part(-given)


@dataclass(frozen=True)
class LinearScan(TensorOp):
    """h[k] = a[k] h[k-1] + b[k] along `axis`, from h[-1] = 0; from the other end where `reverse`.

    a and b are floats of one shape. The product is rounded together with the sum (fused multiply-add); 16-bit floats
    are carried in float32.
    """

    name = "linear_scan"
    kernel = "cumulative"
    axis: int
    reverse: bool = False

    def infer(self, a: Type, b: Type) -> Type:
        check_dtypes(self.name, (a, b), FLOATS)
        check_axes(self.name, (self.axis,), a)
        if a.shape != b.shape:
            raise ShapeError(f"linear_scan: {a} and {b} have different shapes. They must be equal.")
        return b

    def eval(self, a: Array, b: Array) -> Array:
        wide = sum_dtype(from_numpy(b.dtype)).numpy
        rows_a, rows_b = (np.moveaxis(v, self.axis, 0).astype(wide) for v in (a, b))
        out = np.zeros_like(rows_b)
        carried = np.zeros(out.shape[1:], wide)
        order = range(len(out))
        with np.errstate(all="ignore"):
            for k in reversed(order) if self.reverse else order:
                carried = out[k] = rows_a[k] * carried + rows_b[k]
        return np.ascontiguousarray(np.moveaxis(out, 0, self.axis)).astype(b.dtype)

    def vjp(self, ct: Node, out: Node, a: Node, b: Node) -> Sequence[Node | None]:
        # g[k] = ct[k] + a[k+1] g[k+1] is what reaches b[k]; a[k] gets g[k] h[k-1].
        back = -1 if self.reverse else 1
        reaching = LinearScan(self.axis, not self.reverse)(shifted(a, self.axis, -back, 1), ct)
        return [reaching * shifted(out, self.axis, back, 0), reaching]


def shifted(x: Node, axis: int, by: int, fill: float) -> Node:
    """Return x moved by one place along an axis (back where `by` is -1), `fill` coming in."""
    n, ndim = x.shape[axis], x.type.ndim
    sizes = tuple(max(n - 1, 0) if a == axis else size for a, size in enumerate(x.shape))
    if n == 0:
        return x
    kept = Slice(tuple(1 if a == axis and by < 0 else 0 for a in range(ndim)), sizes, (1,) * ndim)(x)
    low = tuple(int(a == axis and by > 0) for a in range(ndim))
    high = tuple(int(a == axis and by < 0) for a in range(ndim))
    return Pad(low, high, float(fill) if x.dtype.is_float else int(fill))(kept)


def cumulative_index(x: Node, extremes: Node, axis: int, *, reverse: bool = False) -> Node:
    """Return where on the axis each cumulative extreme of x was last met, int64; NaN counts as the extreme."""
    n, ndim = x.shape[axis], x.type.ndim
    hit = Equal()(x, extremes)
    if x.dtype.is_float:
        hit = LogicalOr()(hit, IsNan()(x))
    place = reshape(Iota(n, int32 if n < 1 << 31 else int64)(), [n if a == axis else 1 for a in range(ndim)])
    nowhere = n - 1 if reverse else 0
    fold = Cumulative(axis, "min" if reverse else "max", reverse)
    return cast(fold(where(hit, place, nowhere)), int64)
