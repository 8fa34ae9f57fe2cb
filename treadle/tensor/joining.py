"""Tensors put side by side and taken apart again, named as in PyTorch: more than `concat`, `stack` and `split`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from treadle.core import ShapeError, int64, normalize_axis, several, whole_number, whole_numbers

from . import elementwise as ew
from . import indexing
from . import manipulation as shapes
from .arranging import diag
from .creation import meshgrid, zeros
from .data_types import astype
from .keywords import either_word
from .promotion import Operand, as_tensor, result_type

if TYPE_CHECKING:
    from .tensor import Tensor


# --- more axes ----------------------------------------------------------------------------------------------


def _at_least(what: str, given: Sequence[Operand | Sequence[Operand]], ndim: int) -> Tensor | tuple[Tensor, ...]:
    """Return one tensor for one operand; a tuple for several, or for a sequence of them."""
    several_given = len(given) != 1 or isinstance(given[0], list | tuple)
    operands = given[0] if len(given) == 1 and isinstance(given[0], list | tuple) else given
    found = tuple(_widened(as_tensor(what, x), ndim) for x in operands)
    return found if several_given else found[0]


def _widened(x: Tensor, ndim: int) -> Tensor:
    """Return x with at least so many axes: a vector becomes a row, a matrix gets a third axis behind."""
    if x.ndim == 0:
        x = shapes.reshape(x, (1,))
    if x.ndim < 2 <= ndim:
        x = shapes.expand_dims(x, 0)
    return shapes.expand_dims(x, -1) if x.ndim < ndim else x


def atleast_1d(*tensors: Operand | Sequence[Operand]) -> Tensor | tuple[Tensor, ...]:
    """Return tensors with at least one axis."""
    return _at_least("atleast_1d", tensors, 1)


def atleast_2d(*tensors: Operand | Sequence[Operand]) -> Tensor | tuple[Tensor, ...]:
    """Return tensors with at least two axes: a vector becomes a row."""
    return _at_least("atleast_2d", tensors, 2)


def atleast_3d(*tensors: Operand | Sequence[Operand]) -> Tensor | tuple[Tensor, ...]:
    """Return tensors with at least three axes: a vector [N] becomes [1, N, 1], a matrix [M, N] [M, N, 1]."""
    return _at_least("atleast_3d", tensors, 3)


# --- side by side -------------------------------------------------------------------------------------------


def _operands(what: str, tensors: Sequence[Operand], ndim: int) -> list[Tensor]:
    if not len(tensors):
        raise ShapeError(f"{what}: got no tensors. Give at least one.")
    return [_widened(as_tensor(what, x), ndim) for x in tensors]


def hstack(tensors: Sequence[Operand]) -> Tensor:
    """Return the tensors side by side: joined along the second axis, vectors along their only one."""
    given = _operands("hstack", tensors, 1)
    return shapes.concat(given, axis=0 if given[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Operand]) -> Tensor:
    """Return the tensors one above the other: joined along the first axis, vectors as rows."""
    return shapes.concat(_operands("vstack", tensors, 2), axis=0)


def dstack(tensors: Sequence[Operand]) -> Tensor:
    """Return the tensors one behind the other: joined along the third axis."""
    return shapes.concat(_operands("dstack", tensors, 3), axis=2)


def column_stack(tensors: Sequence[Operand]) -> Tensor:
    """Return the tensors side by side along the second axis, vectors and numbers as columns."""
    given = _operands("column_stack", tensors, 1)
    return shapes.concat([shapes.expand_dims(t, 1) if t.ndim == 1 else t for t in given], axis=1)


def block_diag(*tensors: Operand) -> Tensor:
    """Return the matrix with the given ones (vectors as rows) along its diagonal and zeros elsewhere."""
    if not tensors:
        return zeros((1, 0))
    given = [as_tensor("block_diag", x) for x in tensors]
    for t in given:
        if t.ndim > 2:
            raise ShapeError(f"block_diag: {t.node.type!r} is no matrix. Allowed: at most 2 axes.")
    blocks = [_widened(t, 2) for t in given]
    width, dtype, before = sum(b.shape[1] for b in blocks), result_type(*blocks), 0
    rows: list[Tensor] = []
    for block in blocks:
        height, own = block.shape
        after = width - before - own
        sides = (zeros((height, n), dtype=dtype) for n in (before, after))
        rows.append(shapes.concat([next(sides), block, next(sides)], axis=1))
        before += own
    return shapes.concat(rows, axis=0)


def diagflat(x: Operand, offset: int = 0) -> Tensor:
    """Return the square matrix with all elements of x as its diagonal."""
    tensor = as_tensor("diagflat", x)
    return diag(shapes.reshape(tensor, (tensor.size,)), offset)


# --- all choices --------------------------------------------------------------------------------------------


def cartesian_prod(*tensors: Operand) -> Tensor:
    """Return every choice of one element from each vector as a row, the last vector changing fastest."""
    given = [as_tensor("cartesian_prod", x) for x in tensors]
    if not given or any(t.ndim != 1 for t in given):
        raise ShapeError(
            f"cartesian_prod: takes vectors, got {', '.join(repr(t.node.type) for t in given) or 'nothing'}."
        )
    if len(given) == 1:
        return given[0]
    return shapes.stack([shapes.reshape(g, (g.size,)) for g in meshgrid(*given, indexing="ij")], axis=1)


def combinations(input: Operand, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Return every choice of r elements of a vector, in its order, as a row; with replacement also repeated ones."""
    x = as_tensor("combinations", input)
    if x.ndim != 1 or r < 0:
        raise ShapeError(f"combinations: {r} elements of {x.node.type!r}. Give a vector, and r of at least 0.")
    if r == 0:
        return zeros((0,), dtype=x.dtype)
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(x.size), r)), np.int64).reshape(-1, r)
    return indexing.take(x, places, axis=0)


# --- taken apart --------------------------------------------------------------------------------------------


@either_word
def tensor_split(x: Operand, indices_or_sections: int | Sequence[int] | Operand, axis: int = 0) -> tuple[Tensor, ...]:
    """Return parts of x along an axis: so many, as equal as possible, or cut in front of each of the positions."""
    tensor = as_tensor("tensor_split", x)
    if tensor.ndim == 0:
        raise ShapeError("tensor_split: a 0-d tensor has no axis to split.")
    at = normalize_axis("tensor_split", axis, tensor.ndim)
    size = tensor.shape[at]
    if several(indices_or_sections):
        cuts = [slice(None, k).indices(size)[1] for k in whole_numbers("tensor_split", indices_or_sections)]
    else:
        count = whole_number("tensor_split", indices_or_sections)
        if count < 1:
            raise ShapeError(f"tensor_split: {count} parts. Give at least 1.")
        small, larger = divmod(size, count)
        cuts = [small * k + min(k, larger) for k in range(1, count)]
    edges = [0, *cuts, size]
    return tuple(_between(tensor, at, a, b) for a, b in itertools.pairwise(edges))


def _between(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return indexing.getitem(x, (*[slice(None)] * axis, slice(start, max(start, stop))))


def _split_along(what: str, x: Operand, parts: int | Sequence[int], axis: int, least: int) -> tuple[Tensor, ...]:
    tensor = as_tensor(what, x)
    if tensor.ndim < least:
        raise ShapeError(f"{what}: {tensor.node.type!r} has {tensor.ndim} axes. Give at least {least}.")
    if isinstance(parts, int) and (parts < 1 or tensor.shape[axis] % parts):
        raise ShapeError(
            f"{what}: axis {axis} of {tensor.node.type!r} does not divide into {parts} equal parts. Give a divisor, or "
            "use tensor_split()."
        )
    return tensor_split(tensor, parts, axis)


def hsplit(x: Operand, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Return parts of x along its second axis (of a vector, its only one): equal ones, or cut at positions."""
    tensor = as_tensor("hsplit", x)
    return _split_along("hsplit", tensor, indices_or_sections, 0 if tensor.ndim == 1 else 1, 1)


def vsplit(x: Operand, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Return parts of x along its first axis: equal ones, or cut at positions."""
    return _split_along("vsplit", x, indices_or_sections, 0, 2)


def dsplit(x: Operand, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Return parts of x along its third axis: equal ones, or cut at positions."""
    return _split_along("dsplit", x, indices_or_sections, 2, 3)


# --- flat positions -----------------------------------------------------------------------------------------


def ravel(x: Operand) -> Tensor:
    """Return the elements of x as a vector."""
    tensor = as_tensor("ravel", x)
    return shapes.reshape(tensor, (tensor.size,))


def unravel_index(indices: Operand, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Return where (int64) on each axis of a shape its elements number `indices` are; negative numbers count back."""
    place, sizes = as_tensor("unravel_index", indices), whole_numbers("unravel_index", shape)
    if not place.dtype.is_integer:
        raise ShapeError(f"unravel_index: positions are {place.dtype.name}. Allowed: integers.")
    if any(n < 0 for n in sizes):
        raise ShapeError(f"unravel_index: shape {list(sizes)} has a negative size. Sizes must be at least 0.")
    place, count = astype(place, int64), math.prod(sizes)
    found: list[Tensor] = []
    if place.size and count == 0:
        raise ShapeError(f"unravel_index: there are no elements of shape {list(sizes)}. Give sizes of at least 1.")
    for n in sizes:
        count //= max(n, 1)
        found.append(ew.remainder(ew.floor_divide(place, max(count, 1)), max(n, 1)))
    return tuple(found)
