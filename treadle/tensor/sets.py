"""Tensors as sets: the different elements, where they are, how often; and membership.

How many different elements there are depends on values, so these must be known: a compiled function cannot have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle.core import int64, normalize_axis

from . import elementwise as ew
from . import indexing, sorting
from .creation import asarray, full, zeros
from .cumulative import cumsum, diff
from .data_types import astype
from .keywords import either_word
from .known import known
from .manipulation import concat, moveaxis, reshape
from .promotion import Operand, as_tensor, meet
from .scattering import scatter
from .value import made

if TYPE_CHECKING:
    from .tensor import Tensor

REMEDY = "Call it outside of the compiled function, or keep the shape: sort() and mark the first of equal elements."


class UniqueAll(NamedTuple):
    """The different values, rising; where each occurs first; which of them each element is; how often each occurs."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """The different values, rising, and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """The different values, rising, and for every element which of them it is."""

    values: Tensor
    inverse_indices: Tensor


def _starts(what: str, changes: Tensor) -> Tensor:
    """Return the positions of the true elements of a vector."""
    return asarray(np.flatnonzero(known(what, changes, REMEDY)).astype(np.int64))


def _changes(rows: Tensor) -> Tensor:
    """Return for every row (elements of the first axis) whether it differs from the one before; the first does."""
    n = rows.shape[0]
    differ = ew.not_equal(rows[1:], rows[:-1])
    if rows.ndim > 1:
        differ = reshape(differ, (max(n - 1, 0), -1)).any(axis=1) if n > 1 else full((0,), False)
    return concat([full((min(n, 1),), True), differ])


def _unique(what: str, x: Operand) -> UniqueAll:
    """Return everything about the elements; NaNs are different from each other, zeros of either sign equal."""
    tensor = as_tensor(what, x)
    flat = reshape(tensor, (tensor.size,))
    values, order = sorting.ordered(what, flat, 0, descending=False)
    changes = _changes(values)
    starts = _starts(what, changes)
    return UniqueAll(
        indexing.take(values, starts, axis=0),
        indexing.take(order, starts, axis=0),
        reshape(_inverse(changes, order), tensor.shape),
        _counts(starts, tensor.size),
    )


def _inverse(changes: Tensor, order: Tensor) -> Tensor:
    """Return for every element the number of its group, given where groups start in sorted order."""
    number = ew.subtract(cumsum(astype(changes, int64), 0), 1)
    return scatter(zeros(order.shape, dtype=int64), 0, order, number)


def _counts(starts: Tensor, size: int) -> Tensor:
    return diff(starts, append=full((1,), size, dtype=int64))


def unique_all(x: Operand, /) -> UniqueAll:
    """Return the different elements in rising order, where each occurs first, which each element is, how often."""
    return _unique("unique_all", x)


def unique_counts(x: Operand, /) -> UniqueCounts:
    """Return the different elements in rising order and how often each occurs."""
    found = _unique("unique_counts", x)
    return UniqueCounts(found.values, found.counts)


def unique_inverse(x: Operand, /) -> UniqueInverse:
    """Return the different elements in rising order, and for every element of x which of them it is."""
    found = _unique("unique_inverse", x)
    return UniqueInverse(found.values, found.inverse_indices)


def unique_values(x: Operand, /) -> Tensor:
    """Return the different elements in rising order."""
    return _unique("unique_values", x).values


@either_word
def unique(
    x: Operand,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
) -> Tensor | tuple[Tensor, ...]:
    """Return the different elements (slices along an axis, in lexicographic order) as PyTorch does.

    Args:
        x: a tensor.
        sorted: makes no difference: they are always in rising order.
        return_inverse: whether to return for every element (slice) which of them it is, too.
        return_counts: whether to return how often each occurs, too.
        axis: compare slices along this axis instead of elements.
    """
    del sorted
    tensor = as_tensor("unique", x)
    if axis is None:
        found = _unique("unique", tensor)
        values, inverse, counts = found.values, found.inverse_indices, found.counts
    else:
        at = normalize_axis("unique", axis, tensor.ndim)
        rows = moveaxis(tensor, at, 0)
        order = _lexicographic(rows)
        in_order = indexing.take(rows, order, axis=0)
        changes = _changes(in_order)
        starts = _starts("unique", changes)
        values = moveaxis(indexing.take(in_order, starts, axis=0), 0, at)
        inverse, counts = _inverse(changes, order), _counts(starts, rows.shape[0])
    return _chosen(values, (inverse, return_inverse), (counts, return_counts))


def _chosen(values: Tensor, *others: tuple[Tensor, bool]) -> Tensor | tuple[Tensor, ...]:
    wanted = [t for t, is_wanted in others if is_wanted]
    return (values, *wanted) if wanted else values


def _lexicographic(rows: Tensor) -> Tensor:
    """Return the order of rows (slices of the first axis): stable sorts by one element after the other, last first."""
    n = rows.shape[0]
    order = asarray(np.arange(n, dtype=np.int64))
    if n == 0 or rows.size == 0:
        return order
    keys = reshape(rows, (n, rows.size // n))
    for column in reversed(range(keys.shape[1])):
        by = sorting.argsort(indexing.take(keys[:, column], order, axis=0))
        order = indexing.take(order, by, axis=0).realize()
    return order


@either_word
def unique_consecutive(
    x: Operand, return_inverse: bool = False, return_counts: bool = False, axis: int | None = None
) -> Tensor | tuple[Tensor, ...]:
    """Return x (flattened, or its slices along an axis) without those that equal the one before."""
    tensor = as_tensor("unique_consecutive", x)
    at = 0 if axis is None else normalize_axis("unique_consecutive", axis, tensor.ndim)
    rows = reshape(tensor, (tensor.size,)) if axis is None else moveaxis(tensor, at, 0)
    changes = _changes(rows)
    starts = _starts("unique_consecutive", changes)
    values = moveaxis(indexing.take(rows, starts, axis=0), 0, at)
    inverse = ew.subtract(cumsum(astype(changes, int64), 0), 1)
    inverse = reshape(inverse, tensor.shape) if axis is None else inverse
    return _chosen(values, (inverse, return_inverse), (_counts(starts, rows.shape[0]), return_counts))


def isin(elements: Operand, test_elements: Operand, /, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Return for every element whether it is among the test elements (is not, with `invert`). NaN is never."""
    del assume_unique
    nodes, tensors, _ = meet("isin", elements, test_elements)
    x, test = (made(n, *tensors) for n in nodes)
    if test.size == 0:
        return full(x.shape, invert)
    pool = sorting.sort(reshape(test, (test.size,)))
    place = ew.minimum(sorting.searchsorted(pool, x), test.size - 1)
    found = ew.equal(indexing.take(pool, reshape(place, (x.size,)), axis=0), reshape(x, (x.size,)))
    found = reshape(found, x.shape)
    return ew.logical_not(found) if invert else found
