"""Folds over axes: sums, products, extremes and their places, means and variances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import ShapeError, Type, from_numpy, int32, int64
from treadle.ir import Node, Op

from .base import FLOATS, NUMERIC, Array, Composite, Reduction, check_axes, check_dtypes, reduced_shape, sum_dtype
from .broadcast import broadcast_to, ones_like, reshape, restore_axes
from .cast import cast
from .compare import Equal, IsNan
from .indexing import Iota
from .logic import LogicalOr, where
from .movement import Pad, Permute, Slice

FEW = 16  # elements up to which running products are written out


@dataclass(frozen=True)
class Sum(Reduction):
    """The sum over axes; 0 of nothing."""

    name = "sum"
    combine = "sum"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [broadcast_to(restore_axes(ct, self.axes, x.shape), x.shape)]


@dataclass(frozen=True)
class Prod(Reduction):
    """The product over axes; 1 of nothing."""

    name = "prod"
    combine = "prod"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        # The product of the others, not out / x: it is right where elements are 0, to any order of derivative.
        others = product_of_others(x, self.axes)
        return [restore_axes(ct, self.axes, x.shape) * others]


@dataclass(frozen=True)
class Max(Reduction):
    """The largest element along axes; NaN where there is one. Equal largest elements share the gradient."""

    name = "max"
    combine = "max"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [_share_among_ties(ct, out, x, self.axes)]


@dataclass(frozen=True)
class Min(Reduction):
    """The smallest element along axes; NaN where there is one. Equal smallest elements share the gradient."""

    name = "min"
    combine = "min"

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [_share_among_ties(ct, out, x, self.axes)]


@dataclass(frozen=True)
class AnyTrue(Reduction):
    """Whether an element along axes holds."""

    name = "any"
    combine = "any"
    accepts = ("bool",)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [None]


@dataclass(frozen=True)
class AllTrue(Reduction):
    """Whether every element along axes holds."""

    name = "all"
    combine = "all"
    accepts = ("bool",)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [None]


def _share_among_ties(ct: Node, out: Node, x: Node, axes: tuple[int, ...]) -> Node:
    chosen = cast(Equal()(x, restore_axes(out, axes, x.shape)), x.dtype)
    return chosen * (restore_axes(ct, axes, x.shape) / Sum(axes, True)(chosen))


def product_of_others(x: Node, axes: tuple[int, ...]) -> Node:
    """Return for each element the product of all other elements along `axes`, without dividing.

    Products of those before and of those after come from log2(n) steps of doubling reach (Hillis and Steele, 1986),
    which fuse with what is around them; in long rows these would be done again for each element, and products run on.
    """
    kept = tuple(a for a in range(x.type.ndim) if a not in axes)
    order = Permute((*kept, *axes))
    n = math.prod(x.shape[a] for a in axes)
    rows = reshape(order(x), [*[x.shape[a] for a in kept], n])

    def shift(y: Node, by: int) -> Node:
        """Return y moved along the last axis (backwards where `by` < 0), ones moving in."""
        front, lead = (0,) * len(kept), y.shape[:-1]
        part = Slice((*front, max(-by, 0)), (*lead, n - abs(by)), (1,) * (len(kept) + 1))(y)
        return Pad((*front, max(by, 0)), (*front, max(-by, 0)), 1)(part)

    def scan(direction: int) -> Node:
        if n > FEW:
            return shift(Op.registry["cumulative"](len(kept), "prod", direction < 0)(rows), direction)
        y, reach = shift(rows, direction), 1
        while reach < n - 1:
            y, reach = y * shift(y, direction * reach), reach * 2
        return y

    others = scan(1) * scan(-1) if n > 1 else ones_like(rows)
    return Permute(order.inverse())(reshape(others, order(x).shape))


class PlaceOfExtreme(Composite):
    """The index of the first largest or smallest element along an axis; a NaN counts as the extreme."""

    axis: int
    keepdims: bool

    def infer(self, x: Type) -> Type:
        check_dtypes(self.name, (x,), NUMERIC)
        check_axes(self.name, (self.axis,), x)
        if x.shape[self.axis] == 0:
            raise ShapeError(f"{self.name}: {x} has no elements along axis {self.axis}. Give it at least one there.")
        return Type(int64, reduced_shape(x.shape, (self.axis,), keepdims=self.keepdims))

    def first(self, x: Node, extreme: Node) -> Node:
        """Return the smallest index whose element is the extreme of its row, or NaN."""
        n = x.shape[self.axis]
        hit = Equal()(x, extreme)
        if x.dtype.is_float:
            hit = LogicalOr()(hit, IsNan()(x))
        # Short counters fill more lanes.
        counter = Iota(n, int32 if n < 1 << 31 else int64)()
        place = reshape(counter, [n if a == self.axis else 1 for a in range(x.type.ndim)])
        return cast(Min((self.axis,), self.keepdims)(where(hit, place, n - 1)), int64)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        return [None]


@dataclass(frozen=True)
class ArgMax(PlaceOfExtreme):
    """The index of the first largest element along `axis`, or of the first NaN."""

    name = "argmax"
    axis: int
    keepdims: bool = False

    def expand(self, x: Node) -> Node:
        return self.first(x, Max((self.axis,), True)(x))

    def eval(self, x: Array) -> Array:
        return np.argmax(x, axis=self.axis, keepdims=self.keepdims)


@dataclass(frozen=True)
class ArgMin(PlaceOfExtreme):
    """The index of the first smallest element along `axis`, or of the first NaN."""

    name = "argmin"
    axis: int
    keepdims: bool = False

    def expand(self, x: Node) -> Node:
        return self.first(x, Min((self.axis,), True)(x))

    def eval(self, x: Array) -> Array:
        return np.argmin(x, axis=self.axis, keepdims=self.keepdims)


@dataclass(frozen=True)
class Mean(Composite):
    """The sum over axes divided by the number of elements; NaN of nothing."""

    name = "mean"
    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: Type) -> Type:
        return _float_reduction(self.name, x, self.axes, keepdims=self.keepdims)

    def expand(self, x: Node) -> Node:
        total = Sum(self.axes, self.keepdims)(widened(x))
        return cast(total / count(x.type, self.axes), x.dtype)

    def eval(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            n = count(Type(from_numpy(x.dtype), x.shape), self.axes)
            total = np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=np.float64)
            return np.asarray(total / np.float64(n)).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        share = restore_axes(ct, self.axes, x.shape) / count(x.type, self.axes)
        return [broadcast_to(share, x.shape)]


@dataclass(frozen=True)
class Var(Composite):
    """The mean square distance from the mean over axes, with n - `correction` in place of n."""

    name = "var"
    axes: tuple[int, ...]
    correction: float = 0.0
    keepdims: bool = False

    def infer(self, x: Type) -> Type:
        return _float_reduction(self.name, x, self.axes, keepdims=self.keepdims)

    def expand(self, x: Node) -> Node:
        distance = self.distance(x)
        total = Sum(self.axes, self.keepdims)(distance * distance)
        return cast(total / self.freedom(x.type), x.dtype)

    def distance(self, x: Node) -> Node:
        """Return x minus its mean."""
        x = widened(x)
        return x - Mean(self.axes, True)(x)

    def freedom(self, x: Type) -> float:
        """Return what the sum of squares is divided by; never negative, as in the array API."""
        return max(count(x, self.axes) - self.correction, 0.0)

    def eval(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float64)
            n = np.float64(count(Type(from_numpy(x.dtype), x.shape), self.axes))
            distance = wide - np.sum(wide, axis=self.axes, keepdims=True) / n
            freedom = np.float64(self.freedom(Type(from_numpy(x.dtype), x.shape)))
            total = np.sum(distance * distance, axis=self.axes, keepdims=self.keepdims) / freedom
            return np.asarray(total).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Any) -> Sequence[Node | None]:
        share = widened(restore_axes(ct, self.axes, x.shape)) / self.freedom(x.type)
        return [cast(self.distance(x) * (share * 2), x.dtype)]


def widened(x: Node) -> Node:
    """Return `x` in the dtype its sums are taken in: float32 for shorter floats."""
    return cast(x, sum_dtype(x.dtype))


def count(x: Type, axes: Sequence[int]) -> float:
    """Return how many elements one result folds."""
    return float(math.prod(x.shape[a] for a in axes))


def _float_reduction(what: str, x: Type, axes: tuple[int, ...], *, keepdims: bool) -> Type:
    check_dtypes(what, (x,), FLOATS)
    check_axes(what, axes, x)
    return Type(x.dtype, reduced_shape(x.shape, axes, keepdims=keepdims))
