"""`x[key]` and `x.at[key]`: every index is a slice, then a reshape, then at most one gather along one merged axis.

Integer arrays follow NumPy's rules: they broadcast against each other, and the axes they make stand where they were, or
in front when a slice stands between them. A boolean array counts as the integer arrays of its true places, so its
values must be known.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core import (
    DTypeError,
    IndexRangeError,
    ShapeError,
    TraceError,
    bool_,
    broadcast_shapes,
    int64,
    normalize_axis,
)
from treadle.ir import Node, Op, constant, user_source

from . import realize
from .manipulation import permuted, reshaped, sliced
from .promotion import Operand, as_tensor, cast, held, integer_range, is_array, scalar
from .value import Maker, Value, made, node_of, realized

if TYPE_CHECKING:
    from .tensor import Tensor

Key = Any


@dataclass(frozen=True)
class Index:
    """An index taken apart: `x` sliced, then seen as `view`, then gathered at `arrays` (view axis, positions)."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    view: tuple[int, ...]
    arrays: tuple[tuple[int, Node], ...]
    in_front: bool  # the axes of the arrays come first in the result
    tensors: tuple[Tensor, ...]  # index operands


def getitem(x: Tensor, key: Key) -> Tensor:
    """Return the elements of x that `key` names."""
    index = parse(x, key)
    node = reshaped(sliced(node_of(x), index.starts, index.sizes, index.steps), index.view)
    if index.arrays:
        node = _gather(node, index)
    return made(node, x, *index.tensors)


# --- reading keys -------------------------------------------------------------------------------------------


def parse(x: Tensor, key: Key) -> Index:
    """Return the index a key means for x; raise where it does not fit."""
    items = _expanded(x, _items(key))
    with_arrays = any(isinstance(i, Value | _Switch) for i in items)
    starts, sizes, steps, view = list[int](), list[int](), list[int](), list[int]()
    arrays: list[tuple[int, Tensor]] = []
    groups = list[bool]()  # for every item, whether it is an array or, beside arrays, an integer
    axis = 0
    for item in items:
        if item is None:
            view.append(1)
            groups.append(False)
            continue
        if item is Ellipsis:
            groups.append(False)
            continue
        if isinstance(item, _Switch):
            arrays.append((len(view), item.positions))
            view.append(1)
            groups.append(True)
            continue
        size = x.shape[axis]
        start, count, step = 0, size, 1
        if isinstance(item, slice):
            start, count, step = _range(item, size)
            view.append(count)
        elif isinstance(item, int):
            start, count = _position(x, item, axis), 1
        else:
            arrays.append((len(view), item))
            view.append(size)
        groups.append(isinstance(item, Value) or (with_arrays and isinstance(item, int)))
        starts.append(start)
        sizes.append(count)
        steps.append(step)
        axis += 1
    first = groups.index(True) if with_arrays else 0
    apart = with_arrays and not all(groups[first : first + sum(groups)])
    positions = tuple((a, _normalised(x, t, view[a])) for a, t in arrays)
    return Index(tuple(starts), tuple(sizes), tuple(steps), tuple(view), positions, apart, tuple(t for _, t in arrays))


def _items(key: Any) -> list[Any]:
    return list(key) if isinstance(key, tuple) else [key]  # pyright: ignore[reportUnknownArgumentType]


def _expanded(x: Tensor, given: list[Any]) -> list[Any]:
    """Return an int, slice or integer tensor for every axis of x, and None between: ellipsis and masks spelled out."""
    items: list[Any] = []
    for item in given:
        items.extend(_item(item))
    used = sum(_takes_axis(item) for item in items)
    dots = sum(item is Ellipsis for item in items)
    if dots > 1:
        raise IndexRangeError(f"index: {_shown(given)} has {dots} ellipses. Allowed: one.")
    if used > x.ndim:
        raise IndexRangeError(
            f"index: {_shown(given)} names {used} axes, {x.node.type!r} has {x.ndim}. Give at most one index per axis."
        )
    at = next((k for k, item in enumerate(items) if item is Ellipsis), len(items))
    # As in NumPy, an ellipsis that stands for no axis still keeps arrays apart.
    rest: list[Any] = [slice(None)] * (x.ndim - used) or [Ellipsis] * dots
    items = [*items[:at], *rest, *items[at + 1 :]]
    axis = 0
    for k, item in enumerate(items):
        # A mask of several axes became as many arrays; each still remembers the size it was made for.
        if isinstance(item, _Masked):
            if item.size not in (0, x.shape[axis]):  # an empty mask fits any size: nothing is true
                raise IndexRangeError(
                    f"index: a mask has {item.size} elements on axis {axis}, {x.node.type!r} has {x.shape[axis]}. "
                    f"The sizes must be equal, or the mask empty."
                )
            items[k] = item.positions
        axis += _takes_axis(item)
    return items


def _takes_axis(item: Any) -> bool:
    return item is not None and item is not Ellipsis and not isinstance(item, _Switch)


@dataclass(frozen=True)
class _Switch:
    """A 0-d mask: an index of its own axis of size 1, whose positions are [0] or none."""

    positions: Tensor


@dataclass(frozen=True)
class _Masked:
    """The positions along one axis of the true elements of a mask."""

    positions: Tensor
    size: int


def _item(item: Any) -> list[Any]:
    if item is None or item is Ellipsis or isinstance(item, slice):
        return [item]
    if isinstance(item, bool | np.bool_):
        return _item(np.asarray(item))
    if _is_integer(item):
        return [operator.index(item)]
    if _is_list(item):
        return _item(_listed(item))
    if not isinstance(item, Value | np.ndarray):
        raise IndexRangeError(
            f"index: {item!r} is not an index. Allowed: integers, slices, ..., None, and integer or boolean arrays."
        )
    tensor = _as_index(item)
    if tensor.dtype is bool_ and tensor.ndim == 0:
        (masked,) = positions_of(made(reshaped(node_of(tensor), (1,)), tensor))
        return [_Switch(masked.positions)]
    if tensor.dtype is bool_:
        return list(positions_of(tensor))
    if not tensor.dtype.is_integer:
        raise DTypeError(
            f"index: an array of {tensor.dtype.name} is not an index. Allowed: integers and bools. Convert with "
            "astype()."
        )
    return [tensor]


def _is_integer(item: object) -> bool:
    return hasattr(item, "__index__") and not isinstance(item, Value | np.ndarray)


def _is_list(item: object) -> bool:
    return isinstance(item, list | tuple | range)


def _as_index(item: Any) -> Tensor:
    return as_tensor("index", item)


def _listed(item: Any) -> realize.Array:
    try:
        array = np.asarray(item)
    except ValueError:
        raise IndexRangeError(f"index: the lists in {item!r} differ in length. Give rows of equal length.") from None
    return array.astype(np.int64) if array.size == 0 else array


def positions_of(mask: Tensor) -> list[_Masked]:
    if realize.is_traced(mask.node):
        raise TraceError(
            f"index: the mask {mask.node.type!r} at {user_source()} would give a shape that depends on its values, "
            "which a "
            f"compiled function cannot have. Use td.where(mask, x, other) or x.at[mask].set(value), or multiply by the "
            "mask and sum."
        )
    (handle,) = realized(mask, why="index")
    found = np.nonzero(handle.array)
    return [_Masked(as_tensor("index", positions), size) for positions, size in zip(found, mask.shape, strict=True)]


def _shown(given: Sequence[Any]) -> str:
    def one(item: Any) -> str:
        if item is Ellipsis:
            return "..."
        if isinstance(item, Value):
            return repr(item.read().node.type)
        if not isinstance(item, slice):
            return str(item)
        return _ends(item)

    return f"[{', '.join(one(i) for i in given)}]"


def _ends(item: Any) -> str:
    ends = [item.start, item.stop] + ([] if item.step is None else [item.step])
    return ":".join("" if e is None else str(e) for e in ends)


def _range(item: Any, size: int) -> tuple[int, int, int]:
    try:
        start, stop, step = item.indices(size)
    except TypeError:
        raise DTypeError(f"index: {item} must have whole numbers or None in it.") from None
    except ValueError:
        raise IndexRangeError(f"index: {item} has step 0. Allowed: any other step.") from None
    return start, len(range(start, stop, step)), step


def _position(x: Tensor, index: int, axis: int) -> int:
    size = x.shape[axis]
    if not -size <= index < size:
        allowed = f"{-size} to {size - 1}" if size else "none, it is empty"
        raise IndexRangeError(
            f"index: {index} is out of range for axis {axis} of {x.node.type!r}, which has {size} elements. Allowed: "
            f"{allowed}."
        )
    return index % size


def _normalised(x: Tensor, index: Tensor, size: int) -> Node:
    """Return positions with negative ones counted from the end; values that are known are checked here and now."""
    node = node_of(index)
    handle = realize.handle_of(node)
    if handle is not None and handle.array.size:
        low, high = int(handle.array.min()), int(handle.array.max())
        if low < -size or high >= size:
            raise IndexRangeError(
                f"index: {low if low < -size else high} is out of range for an axis of {x.node.type!r} with {size} "
                f"elements. Allowed: {-size} to {size - 1}."
            )
        if low >= 0:
            return node
    return wrapped(node, size)


def wrapped(index: Node, size: int) -> Node:
    """Return `where(i < 0, i + size, i)`; ops that check indices know this form and report i."""
    if index.dtype.kind == "uint":
        return index
    if size > integer_range(index.dtype)[1]:
        index = cast(index, int64)
    ops = Op.registry
    negative = ops["less"]()(index, constant(0, index.dtype))
    return ops["where"]()(negative, ops["add"]()(index, constant(size, index.dtype)), index)


# --- gathering and scattering along the indexed axes --------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """How a view is seen with its indexed axes moved together and joined into one."""

    order: tuple[int, ...]  # of the view's axes: the indexed ones side by side at `axis`
    axis: int
    size: int
    positions: Node  # along the joined axis; its shape is what the arrays broadcast to

    num_axes: int = 1

    def join(self, view: Node) -> Node:
        """Return the view with its indexed axes joined."""
        moved = permuted(view, self.order)
        return reshaped(moved, (*moved.shape[: self.axis], self.size, *moved.shape[self.axis + self.num_axes :]))

    def part(self, joined: Node, view: tuple[int, ...]) -> Node:
        """Undo `join`."""
        moved = reshaped(joined, tuple(view[a] for a in self.order))
        return permuted(moved, tuple(sorted(range(len(self.order)), key=self.order.__getitem__)))


def _merge(index: Index) -> Merged:
    axes = [a for a, _ in index.arrays]
    rest = [a for a in range(len(index.view)) if a not in axes]
    # The result's axes of the arrays stand at the first array's place, or in front.
    place = 0 if index.in_front else axes[0]
    order = (*rest[:place], *axes, *rest[place:])
    sizes = [index.view[a] for a in axes]
    positions = [node for _, node in index.arrays]
    if len(positions) == 1:
        return Merged(order, place, sizes[0], positions[0])
    return Merged(order, place, math.prod(sizes), _linear(positions, sizes), len(axes))


def _linear(positions: list[Node], sizes: list[int]) -> Node:
    """Return positions along the joined axis; where one of the parts is out of range, so is the result."""
    ops = Op.registry
    shape = broadcast_shapes("index", *[p.shape for p in positions])
    total = cast(positions[0], int64)
    bad: Node | None = None
    for k, (node, size) in enumerate(zip(positions, sizes, strict=True)):
        wide = cast(node, int64)
        total = total * size + wide if k else wide
        if realize.handle_of(node) is None:
            outside = ops["logical_or"]()(
                ops["less"]()(wide, constant(0, int64)), ops["greater_equal"]()(wide, constant(size, int64))
            )
            bad = outside if bad is None else ops["logical_or"]()(bad, outside)
    if bad is not None:
        total = ops["where"]()(bad, constant(-1, int64), total)
    return total if total.shape == shape else ops["broadcast_to"](shape)(total)


def _gather(view: Node, index: Index) -> Node:
    merged = _merge(index)
    return Op.registry["take"](merged.axis)(merged.join(view), merged.positions)


def take(x: Operand, indices: Operand, /, *, axis: int | None = None) -> Tensor:
    """Return the slices of x along an axis at integer positions; negative ones count from the end."""
    tensor, index = as_tensor("take", x), as_tensor("take", indices)
    if tensor.ndim == 0:  # a number counts as a vector of one
        tensor = made(reshaped(node_of(tensor), (1,)), tensor)
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"take: {tensor.node.type!r} has {tensor.ndim} axes. Say which with axis=.")
    at = normalize_axis("take", axis or 0, tensor.ndim)
    return getitem(tensor, (*[slice(None)] * at, index))


def take_along_axis(x: Operand, indices: Operand, /, *, axis: int = -1) -> Tensor:
    """Return for every place of `indices` the element of x there, its position on `axis` replaced by the index."""
    tensor, index = as_tensor("take_along_axis", x), as_tensor("take_along_axis", indices)
    at = normalize_axis("take_along_axis", axis, tensor.ndim)
    if not index.dtype.is_integer:
        raise DTypeError(f"take_along_axis: indices are {index.dtype.name}. Allowed: integers. Convert with astype().")
    if index.ndim != tensor.ndim:
        raise ShapeError(
            f"take_along_axis: indices {index.node.type!r} and {tensor.node.type!r} differ in the number of axes. Add "
            "axes with expand_dims()."
        )
    ops = Op.registry
    node, positions = node_of(tensor), _normalised(tensor, index, tensor.shape[at])
    others = [tuple(1 if a == at else n for a, n in enumerate(shape)) for shape in (index.shape, node.shape)]
    common = broadcast_shapes("take_along_axis", *others)
    wanted = tuple(node.shape[at] if a == at else n for a, n in enumerate(common))
    node = node if node.shape == wanted else ops["broadcast_to"](wanted)(node)
    wanted = tuple(index.shape[at] if a == at else n for a, n in enumerate(common))
    positions = positions if positions.shape == wanted else ops["broadcast_to"](wanted)(positions)
    return made(ops["take_along_axis"](at)(node, positions), tensor, index)


# --- functional updates -------------------------------------------------------------------------------------


class At:
    """`x.at`: `x.at[key].set(v)` and the like return a changed copy of x."""

    __slots__ = ("_x",)

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, key: Key) -> Place:
        return Place(self._x, key)


class Place:
    """The elements of a tensor that a key names."""

    __slots__ = ("_key", "_x")

    def __init__(self, x: Tensor, key: Key) -> None:
        self._x = x
        self._key = key

    def get(self) -> Tensor:
        """Return the elements."""
        return getitem(self._x, self._key)

    def set(self, values: Operand) -> Tensor:
        """Return x with these elements replaced; of several values for one element the last counts."""
        mask = self._mask()
        if mask is not None:
            return self._where(mask, values)
        return _update(self._x, self._key, values, add=False)

    def add(self, values: Operand) -> Tensor:
        """Return x with values added to these elements, as often as the key names them."""
        return _update(self._x, self._key, values, add=True)

    def subtract(self, values: Operand) -> Tensor:
        """Return x with values subtracted from these elements, as often as the key names them."""
        return self.add(-replacement("at", self._x, values))

    def multiply(self, values: Operand) -> Tensor:
        """Return x with these elements multiplied; the key must not name an element twice."""
        return self.set(self.get() * as_tensor("at", values))

    def _mask(self) -> Tensor | None:
        """Return the key when it is one mask of all of x: its values need not be known."""
        key = self._key
        if isinstance(key, Value) or is_array(key):
            tensor = as_tensor("at", key)
            if tensor.dtype is bool_ and tensor.shape == self._x.shape:
                return tensor
        return None

    def _where(self, mask: Tensor, values: Operand) -> Tensor:
        value = replacement("at", self._x, values)
        if value.ndim:
            return _update(self._x, mask, value, add=False)
        return made(Op.registry["where"]()(node_of(mask), node_of(value), node_of(self._x)), self._x, mask, value)


def replacement(what: str, x: Tensor, values: Operand) -> Tensor:
    """Return what is to be put into x, in x's dtype; DTypeError for floats, or numbers out of range, into integers."""
    number = None if isinstance(values, Value) else scalar(values)
    value = as_tensor(what, values if number is None or isinstance(number, float) else 0)
    if not x.dtype.is_float and value.dtype.is_float:
        raise DTypeError(
            f"{what}: cannot put {value.dtype.name} into {x.dtype.name}. Cast one of them with astype() first."
        )
    if number is not None:
        return Maker.new(constant(held(what, number, x.dtype), x.dtype), 0, False)
    return made(cast(node_of(value), x.dtype), value)


def _update(x: Tensor, key: Key, values: Operand, *, add: bool) -> Tensor:
    index = parse(x, key)
    value = replacement("at", x, values)
    ops = Op.registry
    region = ops["slice"](index.starts, index.sizes, index.steps)
    base = node_of(x)
    view = reshaped(region(base), index.view)
    new = node_of(value)
    if index.arrays:
        merged = _merge(index)
        joined = merged.join(view)
        shape = (*joined.shape[: merged.axis], *merged.positions.shape, *joined.shape[merged.axis + 1 :])
        spread = _fit(new, shape)
        changed = (_scatter_add if add else _scatter_set)(joined, merged, spread)
        new = merged.part(changed, index.view)
    else:
        new = _fit(new, index.view)
        new = ops["add"]()(view, new) if add else new
    # Back from the slice to all of x: what the slice's own gradient does.
    flat = reshaped(new, index.sizes)
    (placed,) = region.vjp(flat, region(base), base)
    if flat.shape != base.shape or any(s != 1 for s in index.steps):
        ones = ops["broadcast_to"](index.sizes)(constant(1, x.dtype))
        (inside,) = region.vjp(ones, region(base), base)
        placed = ops["where"]()(cast(inside, bool_), placed, base)
    return made(placed, x, value, *index.tensors)


def _fit(node: Node, shape: tuple[int, ...]) -> Node:
    # As in NumPy, leading axes of size 1 in excess are dropped.
    while len(node.shape) > len(shape) and node.shape[0] == 1:
        node = reshaped(node, node.shape[1:])
    if node.shape == shape:
        return node
    if broadcast_shapes("at", node.shape, shape) != shape:
        raise ShapeError(
            f"at: values {node.type!r} do not broadcast to the shape {list(shape)} of the elements to change."
        )
    return Op.registry["broadcast_to"](shape)(node)


def _scatter_add(joined: Node, merged: Merged, values: Node) -> Node:
    return joined + Op.registry["scatter_add"](merged.axis, merged.size)(values, merged.positions)


def _scatter_set(joined: Node, merged: Merged, values: Node) -> Node:
    """Take for every place the last value meant for it: compares every place with every position."""
    ops = Op.registry
    count = merged.positions.type.size
    if count == 0:
        return joined
    positions = reshaped(merged.positions, (1, count))
    places = reshaped(ops["iota"](merged.size, positions.dtype)(), (merged.size, 1))
    order = ops["iota"](count, int64)()
    hits = ops["where"]()(ops["equal"]()(places, positions), order, constant(-1, int64))
    last = ops["max"]((1,), False)(hits)
    flat = reshaped(values, (*joined.shape[: merged.axis], count, *joined.shape[merged.axis + 1 :]))
    chosen = ops["take"](merged.axis)(flat, ops["maximum"]()(last, constant(0, int64)))
    tail = (1,) * (len(joined.shape) - merged.axis - 1)
    hit = reshaped(ops["greater_equal"]()(last, constant(0, int64)), (merged.size, *tail))
    return ops["where"]()(hit, chosen, joined)
