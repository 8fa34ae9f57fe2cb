"""Functions that order elements along an axis: sorting, the first few, medians and other quantiles, binary search."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.core import (
    DTypeError,
    ShapeError,
    bool_,
    float32,
    float64,
    int32,
    int64,
    normalize_axis,
    uint8,
)
from treadle.ir import Node
from treadle.ops import SearchSorted, sorted_rows

from . import elementwise as ew
from . import indexing, reductions
from .creation import asarray, full
from .cumulative import cummax
from .data_types import astype
from .keywords import either_word
from .manipulation import broadcast_to, moveaxis, permuted, reshape, reshaped, roll, sliced, squeeze
from .promotion import Operand, as_tensor, cast, is_sequence, meet
from .realize import is_traced
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


class Ordered(NamedTuple):
    """Elements, and where they were on the axis (int64)."""

    values: Tensor
    indices: Tensor


def _rows(what: str, tensor: Tensor, axis: int) -> tuple[Node, Callable[[Node], Node]]:
    """Return the node with the axis last, and what undoes that; a 0-d tensor becomes a row of one."""
    node = node_of(tensor)
    at = normalize_axis(what, axis, tensor.ndim or 1)
    if tensor.ndim == 0:
        return reshaped(node, (1,)), lambda n: reshaped(n, ())
    order = (*[a for a in range(tensor.ndim) if a != at], at)
    inverse = tuple(sorted(range(tensor.ndim), key=order.__getitem__))
    return permuted(node, order), lambda n: permuted(n, inverse)


def ordered(what: str, x: Operand, axis: int, *, descending: bool, count: int | None = None) -> Ordered:
    """Return the first elements (all when None) in sorted order along an axis, and where they were."""
    tensor = as_tensor(what, x)
    rows, back = _rows(what, tensor, axis)
    values, places = sorted_rows(rows, count, descending=descending)
    if tensor.ndim == 0 and count == 0:
        return Ordered(made(values, tensor), made(places, tensor))
    return Ordered(made(back(values), tensor), made(back(places), tensor))


@either_word
def sort(x: Operand, /, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return x sorted along an axis. NaN counts as greater than everything; the order is always stable."""
    del stable
    return ordered("sort", x, axis, descending=descending).values


@either_word
def argsort(x: Operand, /, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """Return the positions (int64) that sort x along an axis; those of equal elements rise, descending, too."""
    del stable
    return ordered("argsort", x, axis, descending=descending).indices


def msort(x: Operand) -> Tensor:
    """Return x sorted along its first axis."""
    return sort(x, 0)


def _length(tensor: Tensor, axis: int) -> int:
    return tensor.shape[normalize_axis("sort", axis, tensor.ndim)] if tensor.ndim else 1


@either_word
def topk(x: Operand, k: int, axis: int = -1, largest: bool = True, sorted: bool = True) -> Ordered:
    """Return the k largest (or smallest) elements along an axis, in order, and where they were.

    Of equal elements the first are taken. `sorted` makes no difference: they are always in order.
    """
    del sorted
    tensor = as_tensor("topk", x)
    size = _length(tensor, normalize_axis("topk", axis, tensor.ndim or 1))
    if not 0 <= k <= size:
        raise ShapeError(
            f"topk: k is {k}, axis {axis} of {tensor.node.type!r} has {size} elements. Allowed: 0..{size}."
        )
    return ordered("topk", tensor, axis, descending=largest, count=k)


def _dropped(result: Tensor, tensor: Tensor, axis: int, keepdims: bool) -> Tensor:
    """Return the result, which has size 1 on the axis, without the axis."""
    return result if keepdims or tensor.ndim == 0 else squeeze(result, axis)


def _at(result: Ordered, tensor: Tensor, axis: int, keepdims: bool) -> Ordered:
    """Return the last of the elements found along the axis."""
    kept: list[Tensor] = []
    for part in result:
        node = node_of(part)
        if part.ndim:
            at = normalize_axis("sort", axis, part.ndim)
            start = [part.shape[a] - 1 if a == at else 0 for a in range(part.ndim)]
            node = sliced(node, start, [1 if a == at else n for a, n in enumerate(part.shape)])
        kept.append(_dropped(made(node, part), tensor, axis, keepdims))
    return Ordered(*kept)


@either_word
def kthvalue(x: Operand, k: int, axis: int = -1, keepdims: bool = False) -> Ordered:
    """Return the k-th smallest element along an axis (k from 1), and where it was; NaN counts as the greatest."""
    tensor = as_tensor("kthvalue", x)
    size = _length(tensor, normalize_axis("kthvalue", axis, tensor.ndim or 1))
    if not 1 <= k <= size:
        raise ShapeError(
            f"kthvalue: k is {k}, axis {axis} of {tensor.node.type!r} has {size} elements. Allowed: 1..{size}."
        )
    return _at(ordered("kthvalue", tensor, axis, descending=False, count=k), tensor, axis, keepdims)


# --- medians and other quantiles ----------------------------------------------------------------------------


def _some(what: str, tensor: Tensor, axis: int) -> int:
    """Return the axis from the front; raise where there is nothing along it."""
    at = normalize_axis(what, axis, tensor.ndim or 1)
    if tensor.ndim and tensor.shape[at] == 0:
        raise ShapeError(f"{what}: axis {at} of {tensor.node.type!r} has no elements. Give it at least one.")
    return at


@either_word
def median(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor | Ordered:
    """Return the median, the lower of two, of all elements; along an axis, also where it is. NaN where there is one.

    `quantile(x, 0.5)` is the mean of the two.
    """
    return _median("median", x, axis, keepdims, skip=False)


@either_word
def nanmedian(x: Operand, axis: int | None = None, keepdims: bool = False) -> Tensor | Ordered:
    """Return the median as `median` does, of the elements that are not NaN; NaN where all are."""
    return _median("nanmedian", x, axis, keepdims, skip=True)


def _median(what: str, x: Operand, axis: int | None, keepdims: bool, *, skip: bool) -> Tensor | Ordered:
    tensor = as_tensor(what, x)
    if axis is None:
        if tensor.size == 0 and tensor.dtype.is_float:
            return full((), math.nan, dtype=tensor.dtype)
        found = _median_along(what, reshape(tensor, (tensor.size,)), 0, skip=skip).values
        return reshape(found, (1,) * tensor.ndim if keepdims else ())
    at = _some(what, tensor, axis)
    line = reshape(tensor, (1,)) if tensor.ndim == 0 else tensor
    found = _median_along(what, line, at, skip=skip)
    if tensor.ndim == 0:
        return Ordered(*[reshape(part, ()) for part in found])
    return Ordered(*[_dropped(part, tensor, at, keepdims) for part in found])


def _median_along(what: str, tensor: Tensor, axis: int, *, skip: bool) -> Ordered:
    at = _some(what, tensor, axis)
    size = tensor.shape[at]
    order = ordered(what, tensor, at, descending=False, count=(size + 1) // 2)
    place = _at(order, tensor, at, True).indices
    if tensor.dtype.is_float:
        bad = ew.isnan(tensor)
        if skip:
            count = reductions.sum(astype(ew.logical_not(bad), int64), axis=at, keepdims=True)
            rank = ew.maximum(ew.floor_divide(ew.subtract(count, 1), 2), 0)
            place = indexing.take_along_axis(order.indices, rank, axis=at)
        else:
            # The place of the largest element is that of the first NaN, where there is one.
            some = reductions.any(bad, axis=at, keepdims=True)
            place = ew.where(some, reductions.argmax(tensor, axis=at, keepdims=True), place)
    return Ordered(indexing.take_along_axis(tensor, place, axis=at), place)


@either_word
def quantile(
    x: Operand, q: Operand, axis: int | None = None, keepdims: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return the q-quantile along an axis (of all elements when None): NaN where there is one.

    Args:
        x: float32 or float64.
        q: a number in 0..1, or a vector of them: then the result has a first axis for them.
        axis: the axis to fold.
        keepdims: whether it stays, with size 1.
        interpolation: what lies between two elements: linear, lower, higher, midpoint or nearest.
    """
    return _quantile("quantile", x, q, axis, keepdims, interpolation, skip=False)


@either_word
def nanquantile(
    x: Operand, q: Operand, axis: int | None = None, keepdims: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Return the quantile as `quantile` does, of the elements that are not NaN; NaN where all are."""
    return _quantile("nanquantile", x, q, axis, keepdims, interpolation, skip=True)


def _quantile(
    what: str, x: Operand, q: Operand, axis: int | None, keepdims: bool, interpolation: str, *, skip: bool
) -> Tensor:
    tensor = as_tensor(what, x)
    if tensor.dtype not in (float32, float64):
        raise DTypeError(f"{what}: takes float32 or float64, got {tensor.dtype.name}. Convert with astype() first.")
    if interpolation not in INTERPOLATIONS:
        raise DTypeError(f"{what}: no interpolation {interpolation!r}. Allowed: {', '.join(INTERPOLATIONS)}.")
    part = astype(asarray(q) if is_sequence(q) else as_tensor(what, q), tensor.dtype)
    if part.ndim > 1:
        raise ShapeError(f"{what}: q is {part.node.type!r}. Give a number or a vector of numbers.")
    if not is_traced(part.node) and not bool(np.all((part.numpy() >= 0) & (part.numpy() <= 1))):
        raise ShapeError(f"{what}: q is {part.tolist()}. Allowed: numbers in 0..1.")
    ndim = tensor.ndim
    line = reshape(tensor, (tensor.size,)) if axis is None or ndim == 0 else tensor
    at = _some(what, line, 0 if axis is None or ndim == 0 else axis)
    rows = moveaxis(line, at, -1)
    result = _between(rows, reshape(part, (part.size,)), interpolation, skip=skip)
    result = moveaxis(result, -1, 0)
    if keepdims:
        kept = (1,) * ndim if axis is None else tuple(1 if a == at else n for a, n in enumerate(tensor.shape))
        result = reshape(result, (part.size, *kept))
    return result if part.ndim else squeeze(result, 0)


def _between(rows: Tensor, q: Tensor, interpolation: str, *, skip: bool) -> Tensor:
    """Return [..., m]: for each of m quantiles the value between elements of a sorted row."""
    n = rows.shape[-1]
    in_order = ordered("quantile", rows, -1, descending=False).values
    bad = ew.isnan(rows)
    if skip:
        last = ew.subtract(reductions.sum(astype(ew.logical_not(bad), rows.dtype), axis=-1, keepdims=True), 1)
        rank = ew.multiply(q, ew.maximum(last, 0.0))
    else:
        # The last element of a row with NaN is one.
        rank = ew.where(reductions.any(bad, axis=-1, keepdims=True), float(n - 1), ew.multiply(q, float(n - 1)))
    if interpolation == "nearest":
        rank = ew.round(rank)
    elif interpolation in ("lower", "higher"):
        rank = ew.floor(rank) if interpolation == "lower" else ew.ceil(rank)
    floor = ew.floor(rank)
    below = indexing.take_along_axis(in_order, astype(floor, int64), axis=-1)
    if interpolation not in ("linear", "midpoint"):
        return below
    above = indexing.take_along_axis(in_order, astype(ew.ceil(rank), int64), axis=-1)
    weight = ew.subtract(rank, floor) if interpolation == "linear" else 0.5
    gap = ew.subtract(above, below)
    from_below = ew.add(below, ew.multiply(weight, gap))
    if interpolation == "linear":
        from_above = ew.subtract(above, ew.multiply(ew.subtract(1.0, weight), gap))
        from_below = ew.where(ew.less(weight, 0.5), from_below, from_above)
    return ew.where(ew.equal(above, below), below, from_below)  # infinities have no gap


@either_word
def mode(x: Operand, axis: int = -1, keepdims: bool = False) -> Ordered:
    """Return the most frequent element along an axis (the smallest of several), and where it is last."""
    tensor = as_tensor("mode", x)
    at = _some("mode", tensor, axis)
    if tensor.ndim == 0:
        return Ordered(tensor, full((), 0, dtype=int64))
    rows = moveaxis(tensor, at, -1)
    values, places = ordered("mode", rows, -1, descending=False)
    n = rows.shape[-1]
    count = broadcast_to(asarray(np.arange(n)), rows.shape)
    starts = ew.not_equal(values, roll(values, 1, axis=-1))
    first = cummax(ew.where(starts, count, 0), -1).values
    end = reductions.argmax(ew.subtract(count, first), axis=-1, keepdims=True)
    found = (indexing.take_along_axis(part, end, axis=-1) for part in (values, places))
    return Ordered(*[_dropped(moveaxis(part, -1, at), tensor, at, keepdims) for part in found])


# --- binary search ------------------------------------------------------------------------------------------


def searchsorted(
    x1: Operand,
    x2: Operand,
    /,
    *,
    side: str | None = None,
    sorter: Operand | None = None,
    right: bool = False,
    out_int32: bool = False,
) -> Tensor:
    """Return where values belong in sorted rows so that these stay sorted: in front of equal elements, or behind them.

    Args:
        x1: a sorted vector, or sorted rows: as many axes as x2, and its sizes but for the last axis.
        x2: values to place.
        side: "left" (in front of equal elements) or "right".
        sorter: the positions that sort x1, if it is not sorted.
        right: PyTorch's word for side="right".
        out_int32: whether the result is int32 instead of int64.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ShapeError(f"searchsorted: side is {side!r}, right is {right}. Allowed: 'left' or 'right'.")
    rows = as_tensor("searchsorted", x1)
    if rows.ndim == 0:
        raise ShapeError("searchsorted: the sorted values are a 0-d tensor. Give a vector or rows.")
    if sorter is not None:
        order = as_tensor("searchsorted", sorter)
        if order.shape != rows.shape:
            raise ShapeError(f"searchsorted: sorter {order.node.type!r} and {rows.node.type!r} must have one shape.")
        rows = indexing.take_along_axis(rows, order, axis=-1)
    nodes, tensors, dtype = meet("searchsorted", rows, x2)
    if dtype is bool_:
        nodes = [cast(n, uint8) for n in nodes]
    node = SearchSorted(side == "right" or right)(*nodes)
    return made(cast(node, int32) if out_int32 else node, *tensors)


def bucketize(input: Operand, boundaries: Operand, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Return the bucket of every element, between sorted boundaries: `boundaries[i-1] < x <= boundaries[i]` gives i.

    With `right` the other end of a bucket is open: `boundaries[i-1] <= x < boundaries[i]`.
    """
    edges = as_tensor("bucketize", boundaries)
    if edges.ndim != 1:
        raise ShapeError(f"bucketize: boundaries are {edges.node.type!r}. Give a sorted vector.")
    return searchsorted(edges, input, right=right, out_int32=out_int32)
