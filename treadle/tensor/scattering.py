"""Functions that read from and write to computed places along an axis, named as in PyTorch.

Nothing is changed in place: for PyTorch's `x.scatter_(...)` write `x = x.scatter(...)`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from treadle.core import DTypeError, IndexRangeError, ShapeError, bool_, broadcast_shapes, int64, normalize_axis, uint8
from treadle.ir import Node, Op
from treadle.ops import scatter_along

from . import elementwise as ew
from . import indexing, realize
from .creation import full
from .cumulative import cumsum
from .data_types import astype
from .keywords import either_word
from .manipulation import broadcast_to, reshape, reshaped, sliced
from .promotion import Operand, as_tensor, cast
from .value import made, node_of, realized

if TYPE_CHECKING:
    from .tensor import Tensor

REDUCTIONS = {"sum": "sum", "add": "sum", "prod": "prod", "multiply": "prod", "amax": "max", "amin": "min"}

# Of truth values: a sum says whether any holds, a product whether all do.
OF_BOOLS = {"set": "set", "sum": "max", "prod": "min", "max": "max", "min": "min"}


# --- reading ------------------------------------------------------------------------------------------------


def _index(what: str, index: Operand) -> Tensor:
    tensor = as_tensor(what, index)
    if not tensor.dtype.is_integer:
        raise DTypeError(f"{what}: indices are {tensor.dtype.name}. Allowed: integers. Convert with astype().")
    return tensor


def _with_axis(tensor: Tensor) -> Tensor:
    return reshape(tensor, (1,)) if tensor.ndim == 0 else tensor


def _positions(what: str, index: Tensor, x: Tensor, axis: int) -> Node:
    """Return an index as a node, checked as far as it is known; it counts from 0, as PyTorch's does."""
    node = node_of(index)
    handle = realize.handle_of(node)
    size = x.shape[axis] if x.ndim else 1
    if handle is not None and handle.array.size:
        low, high = int(handle.array.min()), int(handle.array.max())
        if low < 0 or high >= size:
            raise IndexRangeError(
                f"{what}: index {low if low < 0 else high} is out of range for axis {axis} of {x.node.type!r}. "
                f"Allowed: 0..{size - 1}. Correct the indices, or clip them first."
            )
    return node


def _fits(what: str, index: Tensor, x: Tensor, axis: int, values: Tensor | None = None) -> None:
    """Raise unless the index has the axes of x and is no larger than x (but on the axis) and the values."""
    small = index.ndim == x.ndim and all(
        i <= n for a, (i, n) in enumerate(zip(index.shape, x.shape, strict=True)) if a != axis
    )
    if values is not None:
        small = small and values.ndim == x.ndim and all(i <= n for i, n in zip(index.shape, values.shape, strict=True))
    if not small and index.size:
        of = "" if values is None else f" and the values {values.node.type!r}"
        raise ShapeError(
            f"{what}: index {index.node.type!r} does not fit {x.node.type!r}{of}. It must have as many axes, and be no "
            f"larger than x on the axes other than {axis}{' and than the values on any' if of else ''}."
        )


def _corner(node: Node, shape: tuple[int, ...]) -> Node:
    return sliced(node, (0,) * len(shape), shape)


@either_word
def gather(x: Operand, axis: int, index: Operand) -> Tensor:
    """Return, for every place of `index`, the element of x there, its position on the axis replaced by the index.

    The index has as many axes as x and may be smaller on the others; its shape is the result's. Indices are not
    negative; one out of range raises IndexRangeError.
    """
    tensor, places = as_tensor("gather", x), _index("gather", index)
    shape = places.shape
    at = normalize_axis("gather", axis, tensor.ndim or 1)
    tensor, places = _with_axis(tensor), _with_axis(places)
    _fits("gather", places, tensor, at)
    if places.size == 0:
        return reshape(made(sliced(node_of(tensor), (0,) * tensor.ndim, (0,) * tensor.ndim), tensor), shape)
    region = tuple(tensor.shape[a] if a == at else n for a, n in enumerate(places.shape))
    node = Op.registry["take_along_axis"](at)(
        _corner(node_of(tensor), region), _positions("gather", places, tensor, at)
    )
    return made(reshaped(node, shape), tensor, places)


@either_word
def index_select(x: Operand, axis: int, index: Operand) -> Tensor:
    """Return the slices of x along an axis at the positions in a vector."""
    tensor, places = as_tensor("index_select", x), _index("index_select", index)
    if places.ndim > 1:
        raise ShapeError(f"index_select: index {places.node.type!r} must be a vector. Reshape it, or use take().")
    at = normalize_axis("index_select", axis, tensor.ndim or 1)
    found = indexing.take(_with_axis(tensor), _with_axis(places), axis=at)
    return reshape(found, ()) if tensor.ndim == 0 and places.size == 1 else found


# --- writing along an axis ----------------------------------------------------------------------------------


def _scattered(what: str, x: Tensor, axis: int, index: Tensor, values: Tensor, combine: str) -> Tensor:
    """Return x with values combined into places; index and values are corners of what they could be."""
    shape = x.shape
    at = normalize_axis(what, axis, x.ndim or 1)
    line, places, given = _with_axis(x), _with_axis(index), _with_axis(values)
    _fits(what, places, line, at, given)
    if places.size == 0:
        return x
    region = tuple(line.shape[a] if a == at else n for a, n in enumerate(places.shape))
    start, new = _corner(node_of(line), region), cast(_corner(node_of(given), places.shape), x.dtype)
    if x.dtype is bool_:
        start, new, combine = cast(start, uint8), cast(new, uint8), OF_BOOLS[combine]
    corner = scatter_along(start, _positions(what, places, line, at), new, at, combine)
    result = made(cast(corner, x.dtype), line, places, given)
    if region != line.shape:
        result = indexing.At(line)[tuple(slice(0, n) for n in region)].set(result)
    return reshape(result, shape)


def _source(what: str, x: Tensor, index: Tensor, src: Operand) -> Tensor:
    """Return the values to write: a number stands for as many as there are indices."""
    values = indexing.replacement(what, x, src)
    if values.ndim == 0 and index.ndim:
        values = broadcast_to(values, index.shape)
    return values


@either_word
def scatter(x: Operand, axis: int, index: Operand, src: Operand, *, reduce: str | None = None) -> Tensor:
    """Return x with `src[.., k, ..]` put at place `index[.., k, ..]` of the axis; of several values the last stays.

    Args:
        x: what to change a copy of.
        axis: the axis the index counts along.
        index: integers, as many axes as x; not larger than x on the other axes, nor than src.
        src: a tensor, or a number for all places.
        reduce: "add" or "multiply" combines with what is there.
    """
    tensor, places = as_tensor("scatter", x), _index("scatter", index)
    if reduce not in (None, "add", "multiply"):
        raise DTypeError(f"scatter: no reduction {reduce!r}. Allowed: 'add', 'multiply'; more with scatter_reduce().")
    combine = REDUCTIONS[reduce] if reduce else "set"
    return _scattered("scatter", tensor, axis, places, _source("scatter", tensor, places, src), combine)


@either_word
def scatter_add(x: Operand, axis: int, index: Operand, src: Operand) -> Tensor:
    """Return x with `src[.., k, ..]` added at place `index[.., k, ..]` of the axis, in the order of k."""
    tensor, places = as_tensor("scatter_add", x), _index("scatter_add", index)
    return _scattered("scatter_add", tensor, axis, places, _source("scatter_add", tensor, places, src), "sum")


@either_word
def scatter_reduce(
    x: Operand, axis: int, index: Operand, src: Operand, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Return x with `src[.., k, ..]` folded into place `index[.., k, ..]` of the axis.

    Args:
        x: what to change a copy of; a mean of integers is rounded down.
        axis: the axis the index counts along.
        index: integers, as many axes as x; not larger than x on the other axes, nor than src.
        src: a tensor, or a number for all places.
        reduce: "sum", "prod", "mean", "amax" or "amin".
        include_self: whether the elements of x count; those that nothing is put to stay in any case.
    """
    if reduce not in ("sum", "prod", "mean", "amax", "amin"):
        raise DTypeError(f"scatter_reduce: no reduction {reduce!r}. Allowed: sum, prod, mean, amax, amin.")
    tensor, places = as_tensor("scatter_reduce", x), _index("scatter_reduce", index)
    values = _source("scatter_reduce", tensor, places, src)
    combine = "sum" if reduce == "mean" else REDUCTIONS[reduce]
    start = tensor
    if not include_self:
        nothing = _source("scatter_reduce", tensor, places, _nothing(tensor, combine))
        start = _scattered("scatter_reduce", tensor, axis, places, nothing, "set")
    result = _scattered("scatter_reduce", start, axis, places, values, combine)
    if reduce != "mean" or tensor.dtype is bool_:
        return result
    ones = _source("scatter_reduce", tensor, places, full((), 1, dtype=tensor.dtype))
    first = full(tensor.shape, int(include_self), dtype=tensor.dtype)
    count = ew.maximum(_scattered("scatter_reduce", first, axis, places, ones, "sum"), 1)
    return ew.divide(result, count) if tensor.dtype.is_float else ew.floor_divide(result, count)


def _nothing(x: Tensor, combine: str) -> Tensor:
    """Return the value that a reduction leaves alone."""
    dtype = x.dtype
    if combine in ("sum", "prod"):
        return full((), int(combine == "prod"), dtype=dtype)
    low = combine == "max"
    if dtype.is_float:
        return full((), -math.inf if low else math.inf, dtype=dtype)
    if dtype is bool_:
        return full((), not low)
    info = np.iinfo(dtype.numpy)
    return full((), int(info.min if low else info.max), dtype=dtype)


def put_along_axis(x: Operand, indices: Operand, values: Operand, axis: int) -> Tensor:
    """Return x with values put where `take_along_axis` would read: shapes broadcast, negative indices count back."""
    tensor, index, value = (as_tensor("put_along_axis", v) for v in (x, indices, values))
    if index.ndim != tensor.ndim:
        raise ShapeError(
            f"put_along_axis: indices {index.node.type!r} and {tensor.node.type!r} differ in the number of axes. Add "
            "axes with expand_dims()."
        )
    at = normalize_axis("put_along_axis", axis, tensor.ndim)
    others = tuple(1 if a == at else n for a, n in enumerate(tensor.shape))
    shape = broadcast_shapes("put_along_axis", index.shape, others)
    positive = made(indexing.wrapped(node_of(index), tensor.shape[at]), index)
    places = broadcast_to(positive, shape)
    given = broadcast_to(_source("put_along_axis", tensor, places, value), shape)
    return _scattered("put_along_axis", tensor, at, places, given, "set")


# --- writing slices -----------------------------------------------------------------------------------------


def _slices(what: str, x: Operand, axis: int, index: Operand, source: Operand) -> tuple[Tensor, int, Tensor, Tensor]:
    """Return x, the axis, the index spread over x's other axes, and the slices to write."""
    tensor, places = as_tensor(what, x), _with_axis(_index(what, index))
    at = normalize_axis(what, axis, tensor.ndim or 1)
    if places.ndim != 1:
        raise ShapeError(f"{what}: index {places.node.type!r} must be a vector. Reshape it first.")
    line = _with_axis(tensor)
    shape = tuple(places.size if a == at else n for a, n in enumerate(line.shape))
    values = as_tensor(what, source)
    if values.ndim and _with_axis(values).shape != shape:
        raise ShapeError(f"{what}: the source {values.node.type!r} must have shape {list(shape)}. Reshape it first.")
    at_line = reshape(places, [places.size if a == at else 1 for a in range(line.ndim)])
    spread = broadcast_to(at_line, shape)
    given = _source(what, line, spread, values if values.ndim == 0 else reshape(values, shape))
    return tensor, at, spread, given


def _put_slices(what: str, x: Operand, axis: int, index: Operand, source: Operand, combine: str) -> Tensor:
    tensor, at, spread, given = _slices(what, x, axis, index, source)
    return reshape(_scattered(what, _with_axis(tensor), at, spread, given, combine), tensor.shape)


@either_word
def index_add(x: Operand, axis: int, index: Operand, source: Operand, *, alpha: float = 1) -> Tensor:
    """Return x with `alpha` times the k-th slice of source added to slice `index[k]` along the axis."""
    scaled = as_tensor("index_add", source)
    scaled = scaled if alpha == 1 else ew.multiply(scaled, alpha)
    return _put_slices("index_add", x, axis, index, scaled, "sum")


@either_word
def index_copy(x: Operand, axis: int, index: Operand, source: Operand) -> Tensor:
    """Return x with slice `index[k]` along the axis replaced by the k-th slice of source."""
    return _put_slices("index_copy", x, axis, index, source, "set")


@either_word
def index_fill(x: Operand, axis: int, index: Operand, value: Operand) -> Tensor:
    """Return x with the slices along the axis at the positions in a vector filled with one value."""
    given = as_tensor("index_fill", value)
    if given.ndim:
        raise ShapeError(f"index_fill: the value is {given.node.type!r}. Give a number or a 0-d tensor.")
    return _put_slices("index_fill", x, axis, index, given, "set")


@either_word
def index_reduce(
    x: Operand, axis: int, index: Operand, source: Operand, reduce: str, *, include_self: bool = True
) -> Tensor:
    """Return x with the k-th slice of source folded into slice `index[k]` along the axis; see `scatter_reduce`.

    `reduce` is "prod", "mean", "amax" or "amin"; `index_add` is the sum.
    """
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise DTypeError(f"index_reduce: no reduction {reduce!r}. Allowed: prod, mean, amax, amin; index_add().")
    tensor, at, spread, given = _slices("index_reduce", x, axis, index, source)
    folded = scatter_reduce(_with_axis(tensor), at, spread, given, reduce, include_self=include_self)
    return reshape(folded, tensor.shape)


# --- masks --------------------------------------------------------------------------------------------------


def _mask(what: str, mask: Operand) -> Tensor:
    tensor = as_tensor(what, mask)
    if tensor.dtype is not bool_:
        raise DTypeError(f"{what}: the mask is {tensor.dtype.name}. Allowed: bool. Compare, or convert with astype().")
    return tensor


def masked_fill(x: Operand, mask: Operand, value: Operand) -> Tensor:
    """Return x with one value where the mask holds; shapes broadcast, the dtype is that of x."""
    tensor, where = as_tensor("masked_fill", x), _mask("masked_fill", mask)
    given = indexing.replacement("masked_fill", tensor, value)
    if given.ndim:
        raise ShapeError(f"masked_fill: the value is {given.node.type!r}. Give one number, or use where().")
    return ew.where(where, given, tensor)


def masked_select(x: Operand, mask: Operand) -> Tensor:
    """Return the elements where the mask holds, as a vector; shapes broadcast. The mask's values must be known."""
    tensor, where = as_tensor("masked_select", x), _mask("masked_select", mask)
    shape = broadcast_shapes("masked_select", tensor.shape, where.shape)
    flat = reshape(broadcast_to(tensor, shape), (math.prod(shape),))
    return indexing.getitem(flat, reshape(broadcast_to(where, shape), (math.prod(shape),)))


def masked_scatter(x: Operand, mask: Operand, source: Operand) -> Tensor:
    """Return x with the elements where the mask holds replaced by those of source, one after the other.

    Mask and x broadcast. Source must have as many elements as the mask has true ones; where the mask is known, that
    is checked.
    """
    tensor, where = as_tensor("masked_scatter", x), _mask("masked_scatter", mask)
    values = as_tensor("masked_scatter", source)
    if values.dtype is not tensor.dtype:
        raise DTypeError(
            f"masked_scatter: x is {tensor.dtype.name}, source is {values.dtype.name}. They must be equal; cast one."
        )
    shape = broadcast_shapes("masked_scatter", tensor.shape, where.shape)
    tensor, where = broadcast_to(tensor, shape), broadcast_to(where, shape)
    if tensor.size == 0:
        return tensor
    if not realize.is_traced(where.node):
        (handle,) = realized(where, why="masked_scatter")
        count = int(np.count_nonzero(handle.array))
        if count > values.size:
            raise ShapeError(
                f"masked_scatter: the mask holds for {count} elements, source {values.node.type!r} has {values.size}. "
                "Give at least as many."
            )
    if values.size == 0:
        return tensor
    flat = reshape(where, (tensor.size,))
    number = ew.clip(ew.subtract(cumsum(astype(flat, int64), 0), 1), 0, values.size - 1)
    chosen = indexing.take(reshape(values, (values.size,)), number, axis=0)
    return ew.where(where, reshape(chosen, tensor.shape), tensor)
