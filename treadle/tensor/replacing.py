"""Copies with one slice, one diagonal or the elements at some indices replaced, named as in PyTorch.

They are the functions behind `x.at[key].set(values)` under names that PyTorch's users know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from treadle.core import ShapeError, normalize_axis, whole_number

from . import arranging, indexing
from . import manipulation as shapes
from .creation import arange
from .keywords import either_word
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor


# --- slices -------------------------------------------------------------------------------------------------


def _along(what: str, x: Operand, axis: int) -> tuple[Tensor, tuple[slice, ...]]:
    """Return the tensor, and the key of everything on the axes in front of the one meant."""
    tensor = as_tensor(what, x)
    if tensor.ndim == 0:
        raise ShapeError(f"{what}: a 0-d tensor has no axis. Give at least one.")
    return tensor, (slice(None),) * normalize_axis(what, axis, tensor.ndim)


@either_word
def select(x: Operand, axis: int, index: int) -> Tensor:
    """Return the slice of x at one position of an axis, without that axis."""
    tensor, front = _along("select", x, axis)
    return indexing.getitem(tensor, (*front, index))


@either_word
def narrow(x: Operand, axis: int, start: Operand, length: int) -> Tensor:
    """Return `length` elements of x along an axis from `start` on, which counts back where negative."""
    tensor, front = _along("narrow", x, axis)
    size, first = tensor.shape[len(front)], whole_number("narrow", start)
    first = first + size if first < 0 else first
    if not (0 <= first <= size and 0 <= length <= size - first):
        raise ShapeError(
            f"narrow: {length} elements from {start} on do not lie on axis {axis} of {tensor.node.type!r}, which has "
            f"{size}."
        )
    return indexing.getitem(tensor, (*front, slice(first, first + length)))


@either_word
def select_scatter(x: Operand, src: Operand, axis: int, index: int) -> Tensor:
    """Return x with the slice at one position of an axis replaced; `src` has the shape of the slice."""
    tensor, front = _along("select_scatter", x, axis)
    return _replaced("select_scatter", tensor, (*front, index), src)


@either_word
def slice_scatter(
    x: Operand, src: Operand, axis: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """Return x with the elements start, start + step, ... before `end` of an axis replaced by those of `src`."""
    tensor, front = _along("slice_scatter", x, axis)
    return _replaced("slice_scatter", tensor, (*front, slice(start, end, step)), src)


def _replaced(what: str, x: Tensor, key: tuple[int | slice, ...], src: Operand) -> Tensor:
    values, place = as_tensor(what, src), indexing.At(x)[key]
    shape = place.get().shape
    if values.shape != shape:
        raise ShapeError(f"{what}: src {values.node.type!r} does not fit. It must have shape {list(shape)}.")
    return place.set(values)


@either_word
def diagonal_scatter(x: Operand, src: Operand, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return x with a diagonal (as `diagonal` returns it) of the matrices in two axes replaced."""
    tensor, values = as_tensor("diagonal_scatter", x), as_tensor("diagonal_scatter", src)
    there = arranging.diagonal(tensor, offset, dim1, dim2)
    if values.shape != there.shape:
        raise ShapeError(
            f"diagonal_scatter: src {values.node.type!r} does not fit. It must have shape {list(there.shape)}."
        )
    a, b = (normalize_axis("diagonal_scatter", d, tensor.ndim) for d in (dim1, dim2))
    count = there.shape[-1]
    rows, columns = (arange(first, first + count) for first in (max(-offset, 0), max(offset, 0)))
    matrices = shapes.moveaxis(tensor, (a, b), (-2, -1))
    changed = indexing.At(matrices)[..., rows, columns].set(values)
    return shapes.moveaxis(changed, (-2, -1), (a, b))


# --- indices ------------------------------------------------------------------------------------------------


def index_put(x: Operand, indices: Sequence[Operand | None], values: Operand, accumulate: bool = False) -> Tensor:
    """Return x with `values` at the places that one index (integers or a mask) per axis names; None is a whole axis.

    With `accumulate` they are added to what is there; else of several values for one place the last stays.
    """
    key = tuple(slice(None) if i is None else as_tensor("index_put", i) for i in indices)
    place = indexing.At(as_tensor("index_put", x))[key]
    return place.add(values) if accumulate else place.set(values)


def put(x: Operand, index: Operand, source: Operand, accumulate: bool = False) -> Tensor:
    """Return x with the elements of source at positions among all its elements, in the order of `index`."""
    tensor, places, values = (as_tensor("put", v) for v in (x, index, source))
    if places.size != values.size:
        raise ShapeError(
            f"put: index {places.node.type!r} and source {values.node.type!r} must have as many elements as each other."
        )
    flat = indexing.At(shapes.reshape(tensor, (tensor.size,)))[shapes.reshape(places, (places.size,))]
    line = shapes.reshape(values, (values.size,))
    return shapes.reshape(flat.add(line) if accumulate else flat.set(line), tensor.shape)
