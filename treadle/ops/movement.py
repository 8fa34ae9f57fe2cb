"""Ops that only move elements: each formula is an index map, so a kernel that reads the result copies nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from treadle.core import Shape, ShapeError, Type, broadcast_shapes, check_size
from treadle.ir import Node, Number
from treadle.te import (
    Compute,
    add,
    broadcast_load,
    compute,
    flatten_index,
    fn,
    literal,
    load,
    scale,
    select,
    unflatten_index,
)
from treadle.te.compute import INDEX

from .base import Array, TensorOp
from .broadcast import unbroadcast


@dataclass(frozen=True)
class Reshape(TensorOp):
    """The same elements, in row-major order, under another shape."""

    name = "reshape"
    shape: Shape

    def infer(self, x: Type) -> Type:
        if any(size < 0 for size in self.shape):
            raise ShapeError(
                f"reshape: shape {list(self.shape)} has a negative size. Give every size, each at least 0."
            )
        out = Type(x.dtype, self.shape)
        if out.size != x.size:
            raise ShapeError(
                f"reshape: {x} has {x.size} elements, shape {list(self.shape)} has {out.size}. They must be equal."
            )
        return out

    def eval(self, x: Array) -> Array:
        return np.reshape(x, self.shape)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Reshape(x.shape)(ct)]

    def lower(self, x: Type) -> Compute:
        return compute(self.shape, lambda *i: load(0, x, *unflatten_index(flatten_index(i, self.shape), x.shape)))


@dataclass(frozen=True)
class Permute(TensorOp):
    """The axes in another order: axis k of the result is axis `axes[k]` of x."""

    name = "permute"
    axes: tuple[int, ...]

    def infer(self, x: Type) -> Type:
        if sorted(self.axes) != list(range(x.ndim)):
            raise ShapeError(
                f"permute: {list(self.axes)} does not order the {x.ndim} axes of {x}. Name each of them once, from 0."
            )
        return Type(x.dtype, tuple(x.shape[a] for a in self.axes))

    def inverse(self) -> tuple[int, ...]:
        """Return the order that undoes this one."""
        return tuple(sorted(range(len(self.axes)), key=self.axes.__getitem__))

    def eval(self, x: Array) -> Array:
        return np.transpose(x, self.axes)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Permute(self.inverse())(ct)]

    def lower(self, x: Type) -> Compute:
        return compute(self.infer(x).shape, lambda *i: load(0, x, *[i[k] for k in self.inverse()]))


@dataclass(frozen=True)
class BroadcastTo(TensorOp):
    """x repeated along axes of size 1, and along further axes in front, to `shape`."""

    name = "broadcast_to"
    shape: Shape

    def infer(self, x: Type) -> Type:
        if any(n < 0 for n in self.shape) or broadcast_shapes("broadcast_to", x.shape, self.shape) != self.shape:
            raise ShapeError(
                f"broadcast_to: {x} does not broadcast to {list(self.shape)}. "
                "Its sizes must be 1 or those of the shape, aligned at the last axis."
            )
        check_size("broadcast_to", self.shape)
        return Type(x.dtype, self.shape)

    def eval(self, x: Array) -> Array:
        return np.broadcast_to(x, self.shape)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [unbroadcast(ct, x.shape)]

    def lower(self, x: Type) -> Compute:
        return compute(self.shape, lambda *i: broadcast_load(0, x, i))


@dataclass(frozen=True)
class Slice(TensorOp):
    """The elements at `starts[a] + k * steps[a]` for k below `sizes[a]`, on every axis a; steps may be negative.

    The form is canonical: an axis of at most one element has step 1, an empty one starts at 0.
    """

    name = "slice"
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        steps = tuple(step if n > 1 else 1 for n, step in zip(self.sizes, self.steps, strict=True))
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "starts", tuple(s if n else 0 for s, n in zip(self.starts, self.sizes, strict=True)))

    def infer(self, x: Type) -> Type:
        if len(self.starts) != x.ndim:
            raise ShapeError(f"slice: {len(self.starts)} ranges for {x}, which has {x.ndim} axes. Give one per axis.")
        for axis, (start, n, step, size) in enumerate(zip(self.starts, self.sizes, self.steps, x.shape, strict=True)):
            last = start + (n - 1) * step
            if n < 0 or step == 0 or (n and not (0 <= start < size and 0 <= last < size)):
                raise ShapeError(
                    f"slice: {n} elements from {start} by step {step} do not lie in axis {axis} of {x}. "
                    f"Allowed: positions 0..{size - 1} and a step that is not 0."
                )
        return Type(x.dtype, self.sizes)

    def eval(self, x: Array) -> Array:
        ranges = zip(self.starts, self.sizes, self.steps, strict=True)
        return x[np.ix_(*[start + np.arange(n) * step for start, n, step in ranges])] if self.sizes else x.copy()

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        """Spread the cotangent back over zeros: turn reversed axes round, put step - 1 zeros between, pad the ends."""
        backward = [step < 0 for step in self.steps]
        if any(backward):
            ct = flip(ct, backward)
        starts = [
            s + (n - 1) * step if step < 0 else s
            for s, n, step in zip(self.starts, self.sizes, self.steps, strict=True)
        ]
        ct = dilate(ct, [abs(step) for step in self.steps])
        high = tuple(size - s - n for size, s, n in zip(x.shape, starts, ct.shape, strict=True))
        if any(starts) or any(high):
            ct = Pad(tuple(starts), high, 0)(ct)
        return [ct]

    def lower(self, x: Type) -> Compute:
        ranges = list(zip(self.starts, self.steps, strict=True))
        return compute(
            self.sizes,
            lambda *i: load(0, x, *[add(start, scale(k, step)) for k, (start, step) in zip(i, ranges, strict=True)]),
        )


@dataclass(frozen=True, eq=False)
class Pad(TensorOp):
    """x with `low[a]` elements before and `high[a]` after it on every axis a, all equal to `value`."""

    name = "pad"
    low: tuple[int, ...]
    high: tuple[int, ...]
    value: Number = 0

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        # As for literals, 0.0 and -0.0 must not be interned as one, and NaN must be found again.
        bits = struct.pack("d", self.value) if isinstance(self.value, float) else self.value
        return self.low, self.high, type(self.value), bits

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pad) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def infer(self, x: Type) -> Type:
        if not len(self.low) == len(self.high) == x.ndim:
            raise ShapeError(
                f"pad: widths {self.low} and {self.high} for {x}. Give one of each per axis, {x.ndim} here."
            )
        if any(width < 0 for width in (*self.low, *self.high)):
            raise ShapeError(
                f"pad: widths {self.low} and {self.high} for {x} must not be negative. Slice to make smaller."
            )
        return Type(x.dtype, tuple(a + n + b for a, n, b in zip(self.low, x.shape, self.high, strict=True)))

    def eval(self, x: Array) -> Array:
        fill = np.asarray(self.value, x.dtype)
        return np.pad(x, tuple(zip(self.low, self.high, strict=True)), constant_values=fill) if x.ndim else x.copy()

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Slice(self.low, x.shape, (1,) * x.type.ndim)(ct)]

    def lower(self, x: Type) -> Compute:
        fill = literal(self.value, x.dtype)

        def element(*index: Node) -> Node:
            if x.size == 0:
                return fill
            inside: list[Node] = []
            position: list[Node] = []
            for i, low, high, size in zip(index, self.low, self.high, x.shape, strict=True):
                at = add(i, -low)
                if low:
                    inside.append(fn("ge", i, literal(low, INDEX)))
                    at = fn("max", at, literal(0, INDEX))
                if high:
                    inside.append(fn("lt", i, literal(low + size, INDEX)))
                    at = fn("min", at, literal(size - 1, INDEX))
                position.append(at)
            value = load(0, x, *position)
            return select(_all(inside), value, fill) if inside else value

        return compute(self.infer(x).shape, element)


@dataclass(frozen=True)
class Concat(TensorOp):
    """The operands one after another along `axis`."""

    name = "concat"
    axis: int

    def infer(self, *types: Type) -> Type:
        if not types:
            raise ShapeError("concat: there is nothing to join. Give at least one tensor.")
        first = types[0]
        if not 0 <= self.axis < first.ndim:
            raise ShapeError(f"concat: axis {self.axis} is out of range for {first}, which has {first.ndim} axes.")
        for t in types:
            if t.ndim != first.ndim or self._others(t.shape) != self._others(first.shape) or t.dtype is not first.dtype:
                raise ShapeError(
                    f"concat: {t} does not fit {first} along axis {self.axis}. "
                    "Dtypes and the sizes of all other axes must be equal."
                )
        return Type(first.dtype, self._shape(types))

    def _others(self, shape: Shape) -> Shape:
        return (*shape[: self.axis], *shape[self.axis + 1 :])

    def _shape(self, types: Sequence[Type]) -> Shape:
        shape = list(types[0].shape)
        shape[self.axis] = sum(t.shape[self.axis] for t in types)
        return tuple(shape)

    def eval(self, *arrays: Array) -> Array:
        return np.concatenate(arrays, axis=self.axis)

    def vjp(self, ct: Node, out: Node, *args: Node) -> list[Node | None]:
        cts: list[Node | None] = []
        offset = 0
        for x in args:
            starts = tuple(offset if a == self.axis else 0 for a in range(x.type.ndim))
            cts.append(Slice(starts, x.shape, (1,) * x.type.ndim)(ct))
            offset += x.shape[self.axis]
        return cts

    def lower(self, *types: Type) -> Compute:
        a = self.axis
        parts: list[tuple[int, int, Type]] = []  # (operand, its first position, its type), empty ones left out
        offset = 0
        for k, t in enumerate(types):
            if t.shape[a]:
                parts.append((k, offset, t))
            offset += t.shape[a]

        def element(*i: Node) -> Node:
            value: Node | None = None
            for k, start, t in reversed(parts):
                at = add(i[a], -start)
                if start:
                    at = fn("max", at, literal(0, INDEX))
                if start + t.shape[a] < offset:
                    at = fn("min", at, literal(t.shape[a] - 1, INDEX))
                own = load(k, t, *i[:a], at, *i[a + 1 :])
                mine = fn("lt", i[a], literal(start + t.shape[a], INDEX))
                value = own if value is None else select(mine, own, value)
            return literal(0, types[0].dtype) if value is None else value

        return compute(self._shape(types), element)


def _all(conditions: Sequence[Node]) -> Node:
    """Return the conjunction of scalar conditions."""
    result = conditions[0]
    for condition in conditions[1:]:
        result = fn("and", result, condition)
    return result


def permute(x: Node, axes: tuple[int, ...]) -> Node:
    """Return x with its axes in another order; x itself when that is the order they have."""
    return x if axes == tuple(range(x.type.ndim)) else Permute(axes)(x)


def swap_last(x: Node) -> Node:
    """Return a matrix, or every matrix of a batch, transposed."""
    n = x.type.ndim
    return Permute((*range(n - 2), n - 1, n - 2))(x)


def narrow(x: Node, axis: int, start: int, size: int) -> Node:
    """Return `size` places of an axis, from `start` on."""
    n = x.type.ndim
    starts = tuple(start if a == axis else 0 for a in range(n))
    sizes = tuple(size if a == axis else whole for a, whole in enumerate(x.shape))
    return x if sizes == x.shape else Slice(starts, sizes, (1,) * n)(x)


def flip(x: Node, backward: Sequence[bool]) -> Node:
    """Return x with the marked axes reversed."""
    starts = tuple(size - 1 if back else 0 for size, back in zip(x.shape, backward, strict=True))
    return Slice(starts, x.shape, tuple(-1 if back else 1 for back in backward))(x)


def dilate(x: Node, steps: Sequence[int]) -> Node:
    """Return x with `steps[a]` - 1 zeros between neighbours along every axis a."""
    for axis, (size, step) in enumerate(zip(x.shape, steps, strict=True)):
        if step == 1:
            continue
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        x = Reshape((*before, size, 1, *after))(x)
        x = Pad((0,) * x.type.ndim, tuple(step - 1 if a == axis + 1 else 0 for a in range(x.type.ndim)), 0)(x)
        x = Reshape((*before, size * step, *after))(x)
        shape = (*before, (size - 1) * step + 1, *after)
        x = Slice((0,) * len(shape), shape, (1,) * len(shape))(x)
    return x
