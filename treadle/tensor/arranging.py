"""Diagonals, triangles, rotations and windows: more ways to arrange elements, named as in PyTorch and NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from treadle.core import ShapeError, normalize_axis
from treadle.ir import Node, Op

from . import elementwise as ew
from . import reductions
from .creation import arange, asarray, zeros
from .data_types import astype
from .keywords import either_word
from .manipulation import expand_dims, flip, moveaxis, pad, permuted, repeat, reshaped, sliced, squeeze, swapaxes
from .promotion import Operand, as_tensor
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


def rot90(x: Operand, k: int = 1, dims: Sequence[int] = (0, 1), *, axes: Sequence[int] | None = None) -> Tensor:
    """Return x turned k times by 90 degrees in the plane of two axes, from the first towards the second.

    `axes` is NumPy's word for `dims`.
    """
    tensor, plane = as_tensor("rot90", x), dims if axes is None else axes
    if tensor.ndim < 2 or len(plane) != 2:
        raise ShapeError(f"rot90: axes {tuple(plane)} of {tensor.node.type!r} are no plane. Name two different axes.")
    a, b = (normalize_axis("rot90", d, tensor.ndim) for d in plane)
    if a == b:
        raise ShapeError(f"rot90: axes {tuple(plane)} are the same axis. Name two different ones.")
    match k % 4:
        case 1:
            return swapaxes(flip(tensor, axis=b), a, b)
        case 2:
            return flip(tensor, axis=(a, b))
        case 3:
            return flip(swapaxes(tensor, a, b), axis=b)
        case _:
            return tensor


def fliplr(x: Operand) -> Tensor:
    """Return x with the order reversed along its second axis."""
    tensor = as_tensor("fliplr", x)
    if tensor.ndim < 2:
        raise ShapeError(f"fliplr: {tensor.node.type!r} has no second axis. Use flip(axis=...).")
    return flip(tensor, axis=1)


def flipud(x: Operand) -> Tensor:
    """Return x with the order reversed along its first axis."""
    tensor = as_tensor("flipud", x)
    if tensor.ndim < 1:
        raise ShapeError("flipud: a 0-d tensor has no axis to reverse. Give at least one axis.")
    return flip(tensor, axis=0)


def tril_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Return [2, n] int64: rows and columns of the elements on and below a diagonal of a row x col matrix."""
    return _triangle("tril_indices", np.tri(max(row, 0), max(col, 0), offset, dtype=bool), row, col)


def triu_indices(row: int, col: int, offset: int = 0) -> Tensor:
    """Return [2, n] int64: rows and columns of the elements on and above a diagonal of a row x col matrix."""
    return _triangle("triu_indices", ~np.tri(max(row, 0), max(col, 0), offset - 1, dtype=bool), row, col)


def _triangle(what: str, there: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], row: int, col: int) -> Tensor:
    if row < 0 or col < 0:
        raise ShapeError(f"{what}: a matrix of {row} x {col}. Allowed: sizes of at least 0.")
    return asarray(np.stack(np.nonzero(there)).astype(np.int64))


# --- diagonals ----------------------------------------------------------------------------------------------


def _plane(what: str, ndim: int, dim1: int, dim2: int) -> tuple[int, int]:
    if ndim < 2:
        raise ShapeError(f"{what}: there are {ndim} axes. Give at least two.")
    a, b = normalize_axis(what, dim1, ndim), normalize_axis(what, dim2, ndim)
    if a == b:
        raise ShapeError(f"{what}: axes {dim1} and {dim2} are the same. Name two different ones.")
    return a, b


def diagonal(x: Operand, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return the diagonal of the matrices in two axes, as the last axis; `offset` > 0 is above the main one."""
    tensor = as_tensor("diagonal", x)
    a, b = _plane("diagonal", tensor.ndim, dim1, dim2)
    rest = [k for k in range(tensor.ndim) if k not in (a, b)]
    node = permuted(node_of(tensor), (*rest, a, b))
    return made(_diagonal(node, offset), tensor)


def _diagonal(node: Node, offset: int) -> Node:
    """Return the diagonal of matrices in the last two axes: every (columns + 1)-th of their elements."""
    *batch, rows, columns = node.shape
    first = (max(-offset, 0), max(offset, 0))
    count = max(min(rows - first[0], columns - first[1]), 0)
    flat = reshaped(node, (*batch, rows * columns))
    start = first[0] * columns + first[1] if count else 0
    front = (0,) * len(batch)
    steps = (*[1] * len(batch), columns + 1 if count > 1 else 1)
    return sliced(flat, (*front, start), (*batch, count), steps)


def diag_embed(x: Operand, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return matrices, in two axes of the result, with the last axis of x as a diagonal and zeros elsewhere."""
    tensor = as_tensor("diag_embed", x)
    if tensor.ndim == 0:
        raise ShapeError("diag_embed: a 0-d tensor has no axis for a diagonal. Give at least one axis.")
    a, b = _plane("diag_embed", tensor.ndim + 1, dim1, dim2)
    if a > b:  # rows are those of the first name
        a, b, offset = b, a, -offset
    widths = [(0, 0)] * (tensor.ndim - 1) + [(max(-offset, 0), max(offset, 0))]
    line = expand_dims(pad(tensor, widths), -1)
    size = line.shape[-2]
    # Element i of the padded line belongs to row i; to the column `offset` further.
    column = ew.subtract(arange(size), expand_dims(arange(size), 1))
    matrix = ew.where(ew.equal(column, offset), line, astype(as_tensor("diag_embed", 0), tensor.dtype))
    return moveaxis(matrix, (-2, -1), (a, b))


def diag(x: Operand, diagonal: int = 0) -> Tensor:
    """Return the square matrix with a vector as its diagonal, or the diagonal of a matrix."""
    tensor = as_tensor("diag", x)
    if tensor.ndim not in (1, 2):
        raise ShapeError(f"diag: takes a vector or a matrix, got {tensor.node.type!r}. Use diagonal() or diag_embed().")
    return diag_embed(tensor, diagonal) if tensor.ndim == 1 else _of_matrix(tensor, diagonal)


def _of_matrix(tensor: Tensor, offset: int) -> Tensor:
    return made(_diagonal(node_of(tensor), offset), tensor)


def trace(x: Operand) -> Tensor:
    """Return the sum of the diagonal of a matrix; integers are summed in 64 bits."""
    tensor = as_tensor("trace", x)
    if tensor.ndim != 2:
        raise ShapeError(f"trace: takes a matrix, got {tensor.node.type!r}. Use diagonal() and sum() for others.")
    return reductions.sum(_of_matrix(tensor, 0))


# --- repeats and windows ------------------------------------------------------------------------------------


@either_word
def repeat_interleave(
    x: Operand, repeats: Operand | Sequence[int], axis: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Return x with every element repeated along an axis: PyTorch's name of `repeat`.

    `output_size` is the sum of all repeats. It is not needed, as their values are known; another one is an error.
    """
    result = repeat(x, repeats, axis=axis)
    size = result.shape[0 if axis is None else axis]
    if output_size not in (None, size):
        raise ShapeError(f"repeat_interleave: output_size is {output_size}, and the repeats make {size}. Leave it out.")
    return result


def unfold(x: Operand, dimension: int, size: int, step: int) -> Tensor:
    """Return the windows of `size` elements along an axis, one every `step`: a window's elements are a last axis.

    A 0-d tensor has one window, a vector.
    """
    tensor = as_tensor("unfold", x)
    at = normalize_axis("unfold", dimension, tensor.ndim or 1)
    if tensor.ndim == 0:
        return squeeze(unfold(expand_dims(tensor, 0), 0, size, step), 0) if size else zeros((0,), dtype=tensor.dtype)
    if not 0 <= size <= tensor.shape[at] or step < 1:
        raise ShapeError(
            f"unfold: windows of {size}, one every {step}, do not fit axis {at} of {tensor.node.type!r}. Allowed: a "
            f"size of 0..{tensor.shape[at]} and a step of at least 1."
        )
    count = (tensor.shape[at] - size) // step + 1
    place = asarray(step * np.arange(count)[:, None] + np.arange(size)[None, :])
    taken = Op.registry["take"](at)(node_of(tensor), node_of(place))
    return moveaxis(made(taken, tensor), at + 1, -1)
