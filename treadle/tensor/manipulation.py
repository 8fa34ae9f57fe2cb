"""Functions of the array API that arrange elements: shapes, axes, joining, splitting, repeating, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core import (
    DTypeError,
    ShapeError,
    broadcast_shapes,
    normalize_axes,
    normalize_axis,
    several,
    whole_number,
    whole_numbers,
)
from treadle.ir import Node, Op

from .promotion import Operand, as_tensor, held, is_sequence, meet, scalar
from .value import made, made_all, node_of, realized

if TYPE_CHECKING:
    from .tensor import Tensor

Shape = Sequence[int]


def reshaped(node: Node, shape: tuple[int, ...]) -> Node:
    """Return the node under another shape; itself when it has that shape."""
    return node if node.shape == shape else Op.registry["reshape"](shape)(node)


def sliced(node: Node, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None) -> Node:
    """Return a slice of the node; itself when the slice is everything."""
    starts, sizes, steps = tuple(starts), tuple(sizes), tuple(steps or (1,) * len(sizes))
    if sizes == node.shape and not any(starts) and all(s == 1 for s in steps):
        return node
    return Op.registry["slice"](starts, sizes, steps)(node)


def permuted(node: Node, axes: tuple[int, ...]) -> Node:
    """Return the node with its axes in another order; itself when that is the order they have."""
    return node if axes == tuple(range(len(axes))) else Op.registry["permute"](axes)(node)


def reshape(x: Operand, /, shape: int | Shape, *, copy: bool | None = None) -> Tensor:
    """Return x under another shape, elements in row-major order; one size may be -1, which is worked out.

    Tensors do not change, so `copy` makes no difference.
    """
    tensor = as_tensor("reshape", x)
    sizes = whole_numbers("reshape", shape)
    if -1 in sizes:
        sizes = _worked_out(tensor, sizes)
    return tensor if sizes == tensor.shape else made(reshaped(node_of(tensor), sizes), tensor)


def _worked_out(tensor: Tensor, sizes: tuple[int, ...]) -> tuple[int, ...]:
    known = math.prod(s for s in sizes if s != -1)
    if sizes.count(-1) > 1 or any(s < -1 for s in sizes):
        raise ShapeError(
            f"reshape: shape {list(sizes)} is ambiguous. One size may be -1, the others must be at least 0."
        )
    if known == 0 or tensor.size % known:
        raise ShapeError(
            f"reshape: {tensor.node.type!r} has {tensor.size} elements, which is no multiple of {known}, the product "
            f"of the known sizes in {list(sizes)}. Give sizes whose product divides {tensor.size}."
        )
    return tuple(tensor.size // known if s == -1 else s for s in sizes)


def permute_dims(x: Operand, /, axes: Sequence[int]) -> Tensor:
    """Return x with its axes in the order `axes`."""
    tensor = as_tensor("permute_dims", x)
    order = tuple(normalize_axis("permute_dims", a, tensor.ndim) for a in axes)
    if sorted(order) != list(range(tensor.ndim)):
        raise ShapeError(
            f"permute_dims: axes {tuple(axes)} do not name each of the {tensor.ndim} axes of {tensor.node.type!r} "
            f"once. Give a permutation of {tuple(range(tensor.ndim))}."
        )
    return made(permuted(node_of(tensor), order), tensor)


def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Return x with the axes `source` moved to the places `destination`; the others keep their order."""
    tensor = as_tensor("moveaxis", x)
    sources = [normalize_axis("moveaxis", a, tensor.ndim) for a in whole_numbers("moveaxis", source)]
    places = [normalize_axis("moveaxis", a, tensor.ndim) for a in whole_numbers("moveaxis", destination)]
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise ShapeError(
            f"moveaxis: source {source} and destination {destination} do not pair up. Give as many distinct axes in "
            "both."
        )
    order = [a for a in range(tensor.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return permute_dims(tensor, order)


def swapaxes(x: Operand, axis1: int, axis2: int, /) -> Tensor:
    """Return x with two axes exchanged."""
    tensor = as_tensor("swapaxes", x)
    a, b = (normalize_axis("swapaxes", axis, tensor.ndim or 1) for axis in (axis1, axis2))
    order = list(range(tensor.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return permute_dims(tensor, order)


def squeeze(x: Operand, /, axis: int | Sequence[int]) -> Tensor:
    """Return x without the given axes, which must have size 1."""
    tensor = as_tensor("squeeze", x)
    axes = normalize_axes("squeeze", axis, tensor.ndim)
    for a in axes:
        if tensor.shape[a] != 1:
            raise ShapeError(
                f"squeeze: axis {a} of {tensor.node.type!r} has size {tensor.shape[a]}. Allowed: axes of size 1. "
                f"Take one element with x[...] or reshape()."
            )
    return reshape(tensor, [n for a, n in enumerate(tensor.shape) if a not in axes])


def expand_dims(x: Operand, /, axis: int | Sequence[int] = 0) -> Tensor:
    """Return x with new axes of size 1 that stand at `axis` in the result."""
    tensor = as_tensor("expand_dims", x)
    given = whole_numbers("expand_dims", axis)
    axes = normalize_axes("expand_dims", given, tensor.ndim + len(given))
    sizes = iter(tensor.shape)
    return reshape(tensor, [1 if a in axes else next(sizes) for a in range(tensor.ndim + len(axes))])


def flatten(x: Operand, /, start: int = 0, end: int = -1) -> Tensor:
    """Return x with the axes from `start` to `end` joined into one."""
    tensor = as_tensor("flatten", x)
    if tensor.ndim == 0:
        return reshape(tensor, (1,))
    first, last = (normalize_axis("flatten", a, tensor.ndim) for a in (start, end))
    if first > last:
        raise ShapeError(f"flatten: start {start} comes after end {end}. Give start <= end.")
    shape = tensor.shape
    return reshape(tensor, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


def broadcast_to(x: Operand, /, shape: int | Shape) -> Tensor:
    """Return x repeated along axes of size 1, and along new axes in front, to `shape`."""
    tensor = as_tensor("broadcast_to", x)
    sizes = whole_numbers("broadcast_to", shape)
    if sizes == tensor.shape:
        return tensor
    return made(Op.registry["broadcast_to"](sizes)(node_of(tensor)), tensor)


def broadcast_arrays(*arrays: Operand) -> list[Tensor]:
    """Return the tensors, each repeated to their common shape."""
    tensors = [as_tensor("broadcast_arrays", x) for x in arrays]
    if not tensors:
        return []
    shape = broadcast_shapes("broadcast_arrays", *[t.shape for t in tensors])
    return [broadcast_to(t, shape) for t in tensors]


def concat(arrays: Sequence[Operand], /, *, axis: int | None = 0) -> Tensor:
    """Return the tensors joined along an axis they have; None flattens them first."""
    given = [as_tensor("concat", x) for x in arrays]
    if not given:
        raise ShapeError("concat: got no tensors. Give at least one.")
    if axis is None:
        given, axis = [reshape(t, -1) if t.size else reshape(t, 0) for t in given], 0
    if any(t.ndim == 0 for t in given):
        raise ShapeError("concat: a 0-d tensor has no axis to join along. Use stack(), or reshape it to (1,).")
    nodes, tensors, _ = meet("concat", *given)
    at = normalize_axis("concat", axis, given[0].ndim)
    return made(nodes[0] if len(nodes) == 1 else Op.registry["concat"](at)(*nodes), *tensors)


def stack(arrays: Sequence[Operand], /, *, axis: int = 0) -> Tensor:
    """Return the tensors, all of one shape, joined along a new axis."""
    given = [as_tensor("stack", x) for x in arrays]
    if not given:
        raise ShapeError("stack: got no tensors. Give at least one.")
    for t in given[1:]:
        if t.shape != given[0].shape:
            raise ShapeError(
                f"stack: tensors have shapes {list(given[0].shape)} and {list(t.shape)}. All shapes must be equal; "
                "reshape or pad them, or use concat()."
            )
    at = normalize_axis("stack", axis, given[0].ndim + 1)
    return concat([expand_dims(t, at) for t in given], axis=at)


def unstack(x: Operand, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Return the slices of x along an axis, without that axis."""
    tensor = as_tensor("unstack", x)
    at = normalize_axis("unstack", axis, tensor.ndim)
    if tensor.ndim == 0:
        raise ShapeError("unstack: a 0-d tensor has no axis to take apart.")
    return tuple(squeeze(part, at) for part in split(tensor, 1, axis=at)) if tensor.shape[at] else ()


def split(x: Operand, sizes: int | Sequence[int], /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Return consecutive parts of x along an axis: of one size (the last may be smaller), or of the sizes given."""
    tensor = as_tensor("split", x)
    at = normalize_axis("split", axis, tensor.ndim)
    if tensor.ndim == 0:
        raise ShapeError("split: a 0-d tensor has no axis to split.")
    total = tensor.shape[at]
    if several(sizes):
        parts = list(whole_numbers("split", sizes))
    else:
        size = whole_number("split", sizes)
        if size < 1:
            raise ShapeError(f"split: size {size} is not allowed. Give a size of at least 1.")
        parts = [min(size, total - start) for start in range(0, total, size)] or [0]
    if sum(parts) != total or any(p < 0 for p in parts):
        raise ShapeError(
            f"split: sizes {parts} add up to {sum(parts)}, axis {at} of {tensor.node.type!r} has {total} elements. "
            "They must be equal."
        )
    node, cut, start = node_of(tensor), list[Node](), 0
    for part in parts:
        starts = [start if a == at else 0 for a in range(tensor.ndim)]
        cut.append(sliced(node, starts, [part if a == at else n for a, n in enumerate(tensor.shape)]))
        start += part
    return made_all(cut, tensor)


def chunk(x: Operand, count: int, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Return x in `count` parts along an axis, of equal size but for the last."""
    tensor = as_tensor("chunk", x)
    at = normalize_axis("chunk", axis, tensor.ndim)
    count = whole_number("chunk", count)
    if count < 1:
        raise ShapeError(f"chunk: {count} parts are not allowed. Give at least 1.")
    return split(tensor, max(-(-tensor.shape[at] // count), 1), axis=at)


def flip(x: Operand, /, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x with the order of elements reversed along axes (all when None)."""
    tensor = as_tensor("flip", x)
    axes = normalize_axes("flip", axis, tensor.ndim)
    shape = tensor.shape
    starts = [n - 1 if a in axes and n else 0 for a, n in enumerate(shape)]
    steps = [-1 if a in axes else 1 for a in range(len(shape))]
    return made(sliced(node_of(tensor), starts, shape, steps), tensor) if axes else tensor


def roll(x: Operand, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Return x with elements moved by `shift` places along axes; what falls off the end comes in at the front."""
    tensor = as_tensor("roll", x)
    shifts = whole_numbers("roll", shift)
    if axis is None:
        if len(shifts) != 1:
            raise ShapeError(f"roll: shift {shifts} needs as many axes. Give axis=, or one shift.")
        return reshape(roll(reshape(tensor, (tensor.size,)), shifts, axis=0), tensor.shape)
    axes = [normalize_axis("roll", a, tensor.ndim) for a in whole_numbers("roll", axis)]
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: {len(shifts)} shifts for {len(axes)} axes. Give one shift, or one for each axis.")
    for a, by in zip(axes, shifts, strict=True):
        size = tensor.shape[a]
        cut = -by % size if size else 0
        if cut:
            head, tail = split(tensor, (cut, size - cut), axis=a)
            tensor = concat((tail, head), axis=a)
    return tensor


def repeat(x: Operand, repeats: Operand | Sequence[int], /, *, axis: int | None = None) -> Tensor:
    """Return x with every element repeated along an axis (of the flattened tensor when None).

    `repeats` is one number for all elements, or one for each; their values must be known, they make the shape.
    """
    tensor = as_tensor("repeat", x)
    if axis is None or tensor.ndim == 0:
        tensor, axis = reshape(tensor, (tensor.size,)), 0
    at = normalize_axis("repeat", axis, tensor.ndim)
    shape = tensor.shape
    if not isinstance(repeats, int):
        return _repeat_each(tensor, repeats, at)
    if repeats < 0:
        raise ShapeError(f"repeat: {repeats} repeats are not allowed. Give at least 0.")
    spread = broadcast_to(expand_dims(tensor, at + 1), (*shape[: at + 1], repeats, *shape[at + 1 :]))
    return reshape(spread, (*shape[:at], shape[at] * repeats, *shape[at + 1 :]))


def _repeat_each(tensor: Tensor, repeats: Operand | Sequence[int], axis: int) -> Tensor:
    counts = as_tensor("repeat", np.asarray(repeats) if is_sequence(repeats) else repeats)
    size = tensor.shape[axis]
    if not counts.dtype.is_integer and counts.size:
        raise DTypeError(f"repeat: repeats are {counts.dtype.name}. Allowed: integers. Convert with astype().")
    if counts.ndim > 1 or counts.size not in (1, size):
        raise ShapeError(
            f"repeat: repeats {counts.node.type!r} do not fit axis {axis} of {tensor.node.type!r}. Give one number for "
            f"all elements, or {size}, one for each."
        )
    (handle,) = realized(counts, why="repeat")
    if handle.array.size and handle.array.min() < 0:
        raise ShapeError(f"repeat: {handle.array.min()} repeats are not allowed. Give at least 0.")
    each = np.broadcast_to(handle.array.reshape(-1), (size,)).astype(np.int64)
    places = as_tensor("repeat", np.repeat(np.arange(size), each))
    return made(Op.registry["take"](axis)(node_of(tensor), node_of(places)), tensor)


def tile(x: Operand, repetitions: int | Sequence[int], /) -> Tensor:
    """Return x laid side by side `repetitions[a]` times along every axis a."""
    tensor = as_tensor("tile", x)
    times = list(whole_numbers("tile", repetitions))
    ndim = max(len(times), tensor.ndim)
    times = [1] * (ndim - len(times)) + times
    shape = (1,) * (ndim - tensor.ndim) + tensor.shape
    if any(t < 0 for t in times):
        raise ShapeError(f"tile: repetitions {times} must not be negative.")
    tensor = reshape(tensor, [size for n in shape for size in (1, n)])
    tensor = broadcast_to(tensor, [size for t, n in zip(times, shape, strict=True) for size in (t, n)])
    return reshape(tensor, [t * n for t, n in zip(times, shape, strict=True)])


def pad(x: Operand, widths: int | Sequence[int] | Sequence[Sequence[int]], /, *, value: Operand = 0) -> Tensor:
    """Return x with elements `value` added around it, as in `numpy.pad`.

    Args:
        x: what to pad.
        widths: one number for all sides, one (before, after) for all axes, or one such pair per axis.
        value: the new elements.
    """
    tensor = as_tensor("pad", x)
    number = scalar(value)
    number = held("pad", as_tensor("pad", value).item() if number is None else number, tensor.dtype)
    pairs = _pairs(widths, tensor.ndim)
    low, high = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
    if not any(low) and not any(high):
        return tensor
    fill = float(number) if tensor.dtype.is_float else int(number)
    return made(Op.registry["pad"](low, high, fill)(node_of(tensor)), tensor)


def _pairs(widths: int | Sequence[int] | Sequence[Sequence[int]], ndim: int) -> list[tuple[int, int]]:
    if not several(widths):
        width = whole_number("pad", widths)
        return [(width, width)] * ndim
    given: Any = widths
    items: list[Any] = list(given)
    if len(items) == 2 and not any(several(w) for w in items):
        before, after = whole_numbers("pad", items)
        return [(before, after)] * ndim
    pairs = [whole_numbers("pad", w) for w in items if several(w)]
    if len(pairs) != ndim or len(items) != ndim or any(len(p) != 2 for p in pairs):
        raise ShapeError(f"pad: widths {widths} do not fit {ndim} axes. Give a number, a pair, or one pair per axis.")
    return [(p[0], p[1]) for p in pairs]


def tril(x: Operand, /, *, k: int = 0) -> Tensor:
    """Return the matrices x with the elements above diagonal k set to zero."""
    return _triangle("tril", x, k)


def triu(x: Operand, /, *, k: int = 0) -> Tensor:
    """Return the matrices x with the elements below diagonal k set to zero."""
    return _triangle("triu", x, k)


def _triangle(name: str, x: Operand, k: int) -> Tensor:
    tensor = as_tensor(name, x)
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: takes matrices, got {tensor.node.type!r}. Allowed: at least 2 axes.")
    diagonal = min(max(whole_number(name, k), -tensor.shape[-2]), tensor.shape[-1])  # those beyond are no different
    return made(Op.registry[name](diagonal)(node_of(tensor)), tensor)
