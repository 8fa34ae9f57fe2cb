"""How often values occur: counts of small integers, histograms; and where elements are not zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from treadle.core import DTypeError, ShapeError, bool_, float32, int64

from . import elementwise as ew
from . import reductions, searching, sorting
from .creation import arange, asarray, full, linspace, zeros
from .data_types import astype
from .known import known
from .manipulation import reshape, stack
from .promotion import Operand, as_tensor, is_sequence, meet
from .scattering import scatter_add
from .value import made

if TYPE_CHECKING:
    from .tensor import Tensor


class Histogram(NamedTuple):
    """How many elements (or what weight) each bin has, and the edges of the bins, one more than bins."""

    hist: Tensor
    bin_edges: Tensor


def argwhere(x: Operand, /) -> Tensor:
    """Return the positions of the elements that are not zero as a matrix, one row (int64) for each."""
    tensor = as_tensor("argwhere", x)
    if tensor.ndim == 0:
        there = bool(known("argwhere", astype(tensor, bool_), "Use where(), or multiply by the mask."))
        return zeros((int(there), 0), dtype=int64)
    return stack(searching.nonzero(tensor), axis=1)


def bincount(x: Operand, weights: Operand | None = None, minlength: int = 0) -> Tensor:
    """Return how often each of 0, 1, ..., max(x) occurs in a vector of integers that are not negative.

    Args:
        x: a vector of integers.
        weights: what each element counts: then the result has their dtype (float64 for integers), else int64.
        minlength: the least length of the result.
    """
    tensor = as_tensor("bincount", x)
    if tensor.ndim != 1 or not tensor.dtype.is_integer:
        raise DTypeError(
            f"bincount: takes a vector of integers, got {tensor.node.type!r}. Convert or reshape it first."
        )
    if minlength < 0:
        raise ShapeError(f"bincount: minlength is {minlength}. Allowed: 0 or more.")
    numbers = known("bincount", tensor, "Use td.zeros(size).scatter_add(0, x, ones) with a size you know.")
    if numbers.size and numbers.min() < 0:
        raise ShapeError(f"bincount: x has {numbers.min()} in it. Allowed: 0 or more.")
    length = max(int(numbers.max()) + 1 if numbers.size else 0, minlength)
    if weights is None:
        given = full(tensor.shape, 1, dtype=int64)
    else:
        given = as_tensor("bincount", weights)
        if given.shape != tensor.shape:
            raise ShapeError(f"bincount: weights {given.node.type!r} and x {tensor.node.type!r} must have one shape.")
        given = given if given.dtype.is_float else astype(given, "float64")
    start = zeros((length,), dtype=given.dtype)
    return scatter_add(start, 0, tensor, given) if length else start


def histc(x: Operand, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Return how many elements lie in each of `bins` bins of one width between min and max, as floats.

    Those outside are not counted. With min and max equal the bins span the elements; if these are all equal, one to
    each side of them.
    """
    tensor = as_tensor("histc", x)
    if not tensor.dtype.is_float:
        raise DTypeError(f"histc: takes floats, got {tensor.dtype.name}. Convert with astype() first.")
    if bins < 1:
        raise ShapeError(f"histc: {bins} bins. Allowed: at least 1.")
    if max < min or not math.isfinite(min) or not math.isfinite(max):
        raise ShapeError(f"histc: the range is {min} to {max}. Allowed: finite numbers, min <= max.")
    if tensor.size == 0:
        return zeros((bins,), dtype=tensor.dtype)
    flat = reshape(tensor, (tensor.size,))
    low, high = full((), min, dtype=tensor.dtype), full((), max, dtype=tensor.dtype)
    if min == max:
        low, high = reductions.min(flat), reductions.max(flat)
        alike = ew.equal(low, high)
        low, high = ew.where(alike, ew.subtract(low, 1), low), ew.where(alike, ew.add(high, 1), high)
    place = ew.floor(ew.divide(ew.multiply(ew.subtract(flat, low), bins), ew.subtract(high, low)))
    inside = ew.logical_and(ew.greater_equal(flat, low), ew.less_equal(flat, high))
    number = astype(ew.clip(ew.where(inside, place, 0.0), 0, bins - 1), int64)
    return scatter_add(zeros((bins,), dtype=tensor.dtype), 0, number, astype(inside, tensor.dtype))


def histogram(
    x: Operand,
    bins: int | Operand | Sequence[float] = 10,
    *,
    range: tuple[float, float] | None = None,
    weight: Operand | None = None,
    density: bool = False,
) -> Histogram:
    """Return the histogram of all elements: bins are half open, `[a, b)`, but for the last, which has both ends.

    Args:
        x: a tensor of numbers; integers are taken as float32.
        bins: how many bins of one width, or their edges, rising.
        range: the first and the last edge; by default the smallest and the largest element.
        weight: what each element counts, of the shape of x.
        density: whether to divide by the total and the widths, so that the integral is 1.
    """
    tensor = as_tensor("histogram", x)
    tensor = tensor if tensor.dtype.is_float else astype(tensor, float32)
    flat = reshape(tensor, (tensor.size,))
    edges = _edges(flat, bins, range)
    if edges.ndim != 1 or edges.size < 1:
        raise ShapeError(f"histogram: the edges are {edges.node.type!r}. Give a vector of at least one number.")
    (a, b), tensors, _ = meet("histogram", edges, flat)
    edges, flat = made(a, *tensors), made(b, *tensors)
    count = edges.size - 1
    ones = full((flat.size,), 1, dtype=flat.dtype)
    given = ones if weight is None else _weights(tensor, weight)
    total = zeros((max(count, 1),), dtype=given.dtype)
    if flat.size and count:
        place = ew.subtract(sorting.searchsorted(edges, flat, side="right"), 1)
        place = ew.where(ew.equal(flat, edges[-1]), count - 1, place)
        inside = ew.logical_and(ew.greater_equal(place, 0), ew.less(place, count))
        total = scatter_add(total, 0, ew.clip(place, 0, count - 1), ew.where(inside, given, 0))
    total = total[:count]
    if density:
        total = ew.divide(ew.divide(total, ew.subtract(edges[1:], edges[:-1])), reductions.sum(total))
    return Histogram(total, edges)


def _weights(x: Tensor, weight: Operand) -> Tensor:
    given = as_tensor("histogram", weight)
    if given.shape != x.shape:
        raise ShapeError(f"histogram: weights {given.node.type!r} and x {x.node.type!r} must have one shape.")
    return reshape(given if given.dtype.is_float else astype(given, x.dtype), (x.size,))


def _edges(flat: Tensor, bins: int | Operand | Sequence[float], span: tuple[float, float] | None) -> Tensor:
    """Return the edges of the bins; inside a compiled function the elements' own range is computed, too."""
    if is_sequence(bins):
        return astype(asarray(bins), flat.dtype)
    if not isinstance(bins, int):
        return as_tensor("histogram", bins)
    if bins < 1:
        raise ShapeError(f"histogram: {bins} bins. Allowed: at least 1.")
    if span is not None:
        low, high = span
        if not (low <= high and math.isfinite(low) and math.isfinite(high)):
            raise ShapeError(f"histogram: the range is {low} to {high}. Allowed: finite numbers, rising.")
        if low == high:
            low, high = low - 0.5, high + 0.5
        return linspace(low, high, bins + 1, dtype=flat.dtype)
    if flat.size == 0:
        return linspace(0.0, 1.0, bins + 1, dtype=flat.dtype)
    low, high = reductions.min(flat), reductions.max(flat)
    alike = ew.equal(low, high)
    low, high = ew.where(alike, ew.subtract(low, 0.5), low), ew.where(alike, ew.add(high, 0.5), high)
    steps = ew.divide(astype(arange(bins + 1), flat.dtype), float(bins))
    edges = ew.add(low, ew.multiply(steps, ew.subtract(high, low)))
    return ew.where(ew.equal(arange(bins + 1), bins), high, edges)
