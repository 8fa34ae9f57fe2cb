"""Folds over windows that slide along some axes, for pooling, and the same windows seen from the elements they contain.

The latter are gradients: none adds to memory from several places, each element gathers what the windows around it give.
The folded axes are named, so the others may lie where they like: channels first, channels last.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from treadle.core import DType, Shape, ShapeError, Type, from_numpy, int32, int64, uint8
from treadle.ir import Node
from treadle.te import (
    Compute,
    add,
    bounds,
    compute,
    convert,
    floordiv,
    fn,
    identity_of,
    literal,
    load,
    mod,
    scale,
    select,
    unflatten_index,
)
from treadle.te import index as index_node

from .base import ANY, NUMERIC, Accepts, Array, Composite, TensorOp, check_axes, check_dtypes, sum_dtype
from .broadcast import full
from .indexing import Check, TakeAlongAxis, range_checks
from .scatter import ScatterAlong

UNROLL = 32  # elements up to which a window is written out in the formula; a longer one is a loop

Where = tuple[Node, list[Node]]  # a position inside the axis, and what must hold for it to be the one meant


class Span(NamedTuple):
    """Windows along an axis: `out` of them, each of `size` elements `dilation` apart, starting `stride` apart.

    The first starts `low` elements before the axis; elements outside of it do not exist. Stride 0 stands for windows
    that divide n elements evenly: window o is floor(o n / out) .. ceil((o + 1) n / out) - 1, at most `size` of them.
    """

    size: int
    stride: int
    dilation: int
    low: int
    out: int

    @staticmethod
    def dividing(n: int, out: int) -> Span:
        """Return the windows that divide n elements into `out` parts, as adaptive pooling does."""
        if out and n % out == 0:
            return Span(n // out, n // out, 1, 0, out)
        return Span(max((_part(n, out, o)[1] - _part(n, out, o)[0] for o in range(out)), default=0), 0, 1, 0, out)

    @property
    def overlap(self) -> int:
        """How many windows may share an element, roughly."""
        return -(-self.size // self.stride) if self.stride else 2

    def positions(self, n: int) -> tuple[Array, Array]:
        """Return the positions of window o's elements k, clipped into 0..n-1, and whether each exists: [out, size]."""
        o, k = np.arange(self.out)[:, None], np.arange(self.size)[None, :]
        if self.stride:
            at = o * self.stride - self.low + k * self.dilation
            exists = (at >= 0) & (at < n)
        else:
            at = o * n // self.out + k
            exists = at < -(-(o + 1) * n // self.out)
        return np.clip(at, 0, max(n - 1, 0)), exists

    def element(self, o: Node, k: Node, n: int) -> Where:
        """Return where element k of window o is, in formulas."""
        if self.stride:
            return _inside(add(scale(o, self.stride), scale(k, self.dilation), -self.low), n)
        at = add(floordiv(scale(o, n), self.out), k)
        end = floordiv(add(scale(o, n), n + self.out - 1), self.out)
        shortest = min(_part(n, self.out, p)[1] - _part(n, self.out, p)[0] for p in range(self.out))
        exists = [] if bounds(k)[1] < shortest else [fn("lt", at, end)]
        return _inside(at, n)[0], exists

    def reach(self, n: int) -> int:
        """Return how many candidates `containing` has for the windows that contain an element."""
        if not self.stride:
            return max((-(-(i + 1) * self.out // n) - i * self.out // n for i in range(n)), default=0)
        if self.out == 1:
            return 1
        return self.overlap if self.dilation == 1 else self.size

    def containing(self, i: Node, j: Node, n: int) -> tuple[Node, Node, list[Node]]:
        """Return the j-th window that may contain element i, the element's place in it, and when it does."""
        if not self.stride:
            o = add(floordiv(scale(i, self.out), n), j)
            end = floordiv(add(scale(i, self.out), self.out + n - 1), n)
            contains = [fn("lt", o, end)]
            o = _inside(o, self.out)[0]
            k = add(i, scale(floordiv(scale(o, n), self.out), -1))
            return o, _inside(k, self.size)[0], contains
        p = add(i, self.low)
        if self.dilation == 1:
            o = index_node(0) if self.out == 1 else add(floordiv(p, self.stride), scale(j, -1))
            k = p if self.out == 1 else add(mod(p, self.stride), scale(j, self.stride))
            o, exists = _inside(o, self.out)
            k, contains = _inside(k, self.size)
            return o, k, [*exists, *contains]
        if self.out == 1:
            k, exists = _inside(floordiv(p, self.dilation), self.size)
            return index_node(0), k, [*exists, fn("eq", mod(p, self.dilation), index_node(0))]
        start, after = _inside(add(p, scale(j, -self.dilation)), n + self.low + self.size * self.dilation)
        hits = [] if self.stride == 1 else [fn("eq", mod(start, self.stride), index_node(0))]
        o, exists = _inside(floordiv(start, self.stride), self.out)
        return o, j, [*after, *hits, *exists]


def _part(n: int, out: int, o: int) -> tuple[int, int]:
    """Return the first element of part o of n elements divided into `out` parts, and the one behind its last."""
    return o * n // out, -(-(o + 1) * n // out)


def _inside(at: Node, n: int) -> Where:
    """Return an index clipped into 0..n-1, and what must hold for it not to be clipped."""
    low, high = bounds(at)
    conditions: list[Node] = []
    clipped = at
    if low < 0:
        conditions.append(fn("ge", at, index_node(0)))
        clipped = fn("max", clipped, index_node(0))
    if high > n - 1:
        conditions.append(fn("lt", at, index_node(n)))
        clipped = fn("min", clipped, index_node(max(n - 1, 0)))
    return clipped, conditions


@dataclass(frozen=True)
class Windowed(TensorOp):
    """An op on the windows along `axes` (any distinct ones), those of each axis given by its `Span`."""

    axes: tuple[int, ...]
    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(Span(*span) for span in self.spans))

    @property
    def sizes(self) -> Shape:
        """How many elements a window has along each axis."""
        return tuple(span.size for span in self.spans)

    @property
    def outs(self) -> Shape:
        """How many windows there are along each axis."""
        return tuple(span.out for span in self.spans)

    @property
    def cost(self) -> int:
        """The flops of one element of the result."""
        return math.prod(self.sizes)

    @property
    def reuse(self) -> int:
        """How often an element of the operand is read: a costly one is better stored than made as often."""
        return math.prod(span.overlap for span in self.spans)

    def check(self, x: Type, accepts: Accepts = NUMERIC) -> None:
        """Raise an error unless windows lie along axes of x."""
        check_dtypes(self.name, (x,), accepts)
        check_axes(self.name, sorted(self.axes), x)
        for axis, span in zip(self.axes, self.spans, strict=True):
            if span.size < 1 or span.stride < 0 or span.dilation < 1 or span.out < 0 or x.shape[axis] < 1:
                raise ShapeError(
                    f"{self.name}: {tuple(span)} are no windows along axis {axis} of {x}. Sizes, dilations and the "
                    "axis must be at least 1, strides and counts at least 0."
                )

    def folded(self, x: Type) -> Shape:
        """Return the shape of x with windows in place of elements."""
        return self.with_axes(x.shape, self.outs)

    def with_axes(self, shape: Shape, sizes: Sequence[int]) -> Shape:
        """Return a shape with other sizes along the axes."""
        new = list(shape)
        for axis, size in zip(self.axes, sizes, strict=True):
            new[axis] = size
        return tuple(new)

    def element(self, x: Type, at: Sequence[Node], ks: Sequence[Node]) -> tuple[list[Node], list[Node]]:
        """Return where element `ks` of window `at` is in x, and what must hold for it to exist."""
        position, exists = list(at), list[Node]()
        for axis, span, k in zip(self.axes, self.spans, ks, strict=True):
            position[axis], inside = span.element(at[axis], k, x.shape[axis])
            exists += inside
        return position, exists

    def view(self, x: Array, fill: Any) -> Array:
        """Return the windows of an array, their elements along new last axes, `fill` where there is none."""
        for axis, span in zip(self.axes, self.spans, strict=True):
            at, exists = span.positions(x.shape[axis])
            x = np.where(exists, np.moveaxis(np.take(x, at, axis), (axis, axis + 1), (-2, -1)), fill)
            x = np.moveaxis(x, -2, axis)
        return x

    def scatter(self, values: Callable[[tuple[int, ...]], Array], shape: Shape, dtype: Any) -> Array:
        """Return zeros to which `values(ks)`, one for each window, are added at element `ks` of the windows."""
        total = np.zeros(shape, dtype)
        tables = [span.positions(shape[a]) for a, span in zip(self.axes, self.spans, strict=True)]
        for ks in np.ndindex(*self.sizes):
            value = values(ks)
            index: list[Any] = list(np.ix_(*[np.arange(n) for n in value.shape]))
            exists: Any = True
            for axis, (at, there), k in zip(self.axes, tables, ks, strict=True):
                line = tuple(-1 if a == axis else 1 for a in range(len(shape)))
                index[axis] = at[:, k].reshape(line)
                exists = exists & there[:, k].reshape(line)
            np.add.at(total, tuple(np.broadcast_arrays(*index)), np.where(exists, value, 0))
        return total


class SameRank(Windowed):
    """One whose operands and result have the same axes."""

    def permuted(self, axes: tuple[int, ...]) -> SameRank:
        """Return the op that does to operands what this one does to them with their axes in another order."""
        return replace(self, axes=tuple(axes[a] for a in self.axes))


class WindowFold(SameRank):
    """A fold of the elements of every window; `combine` joins two."""

    combine: str

    def infer(self, x: Type) -> Type:
        self.check(x)
        return Type(x.dtype, self.folded(x))

    def wide(self, dtype: DType) -> DType:
        """Return the dtype elements are folded in."""
        return sum_dtype(dtype) if self.combine == "sum" else dtype

    def lower(self, x: Type) -> Compute:
        nothing = identity_of(self.combine, self.wide(x.dtype))

        def value(at: Sequence[Node], ks: Sequence[Node]) -> Node:
            position, exists = self.element(x, at, ks)
            return chosen(exists, convert(load(0, x, *position), self.wide(x.dtype)), nothing)

        return folded(self.folded(x), value, self.sizes, self.combine, x.dtype)


@dataclass(frozen=True)
class WindowSum(WindowFold):
    """The sum of the elements of every window."""

    name = "window_sum"
    combine = "sum"

    def eval(self, x: Array) -> Array:
        total = self.view(x, x.dtype.type(0)).astype(self.wide(from_numpy(x.dtype)).numpy)
        return total.sum(axis=tuple(range(-len(self.axes), 0)), dtype=total.dtype).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [WindowSpread(self.axes, self.spans, tuple(x.shape[a] for a in self.axes))(ct)]


@dataclass(frozen=True)
class WindowMax(WindowFold):
    """The largest element of every window, NaN where there is one; the first of equals gets the gradient."""

    name = "window_max"
    combine = "max"

    def eval(self, x: Array) -> Array:
        view = self.view(x, identity_of("max", from_numpy(x.dtype)).op.params()["value"]).astype(x.dtype)
        return view.max(axis=tuple(range(-len(self.axes), 0)))

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        place = WindowPlace(self.axes, self.spans)(x, out)
        return [WindowSpreadAt(self.axes, self.spans, tuple(x.shape[a] for a in self.axes))(ct, place)]


@dataclass(frozen=True)
class WindowPlace(SameRank):
    """Which element of its window, counted in row-major order, the largest is: the first of equals, or the first NaN.

    The second operand is the largest of each window. Places are uint8 in short windows, else int32.
    """

    name = "window_place"
    kept = True  # what a gradient needs of the operand, in fewer bytes

    @property
    def dtype(self) -> DType:
        """The dtype of places."""
        return uint8 if math.prod(self.sizes) <= UNROLL else int32

    def infer(self, x: Type, top: Type) -> Type:
        self.check(x)
        if top != Type(x.dtype, self.folded(x)):
            raise ShapeError(f"window_place: {top} are not the largest of windows of {x}, which are {self.folded(x)}.")
        return Type(self.dtype, top.shape)

    def eval(self, x: Array, top: Array) -> Array:
        count = math.prod(self.sizes)
        exists = self.view(np.ones(x.shape, bool), False).reshape(*top.shape, count)
        view = self.view(x, x.dtype.type(0)).reshape(*top.shape, count)
        hit = exists & ((view == top[..., None]) | np.not_equal(view, view))
        return np.where(hit, np.arange(count), count - 1).min(axis=-1).astype(self.dtype.numpy)

    def vjp(self, ct: Node, out: Node, x: Node, top: Node) -> list[Node | None]:
        return [None, None]

    def lower(self, x: Type, top: Type) -> Compute:
        last = literal(math.prod(self.sizes) - 1, int32)

        def value(at: Sequence[Node], ks: Sequence[Node]) -> Node:
            position, exists = self.element(x, at, ks)
            element = load(0, x, *position)
            hit = fn("eq", element, load(1, top, *at))
            if x.dtype.is_float:
                hit = fn("or", hit, fn("isnan", element))
            return select(_all([*exists, hit]), convert(_row_major(ks, self.sizes), int32), last)

        return folded(top.shape, value, self.sizes, "min", self.dtype)


@dataclass(frozen=True)
class Spread(Windowed):
    """An op that gathers for each element, `lengths` of them along the axes, what the windows with it give."""

    lengths: tuple[int, ...]

    @property
    def cost(self) -> int:
        """The flops of one element of the result."""
        return 2 * math.prod(self.reaches)

    @property
    def reuse(self) -> int:
        """How often an element of the operand is read."""
        return math.prod(self.sizes)

    @property
    def reaches(self) -> Shape:
        """How many windows may contain an element, along each axis."""
        return tuple(span.reach(n) for span, n in zip(self.spans, self.lengths, strict=True))

    def check_spread(self, ct: Type, accepts: Accepts = NUMERIC) -> Type:
        """Return the type of the result for values of windows."""
        check_dtypes(self.name, (ct,), accepts)
        check_axes(self.name, sorted(self.axes), ct)
        shape = self.with_axes(ct.shape, self.lengths)
        if self.with_axes(ct.shape, self.outs) != ct.shape:
            raise ShapeError(f"{self.name}: {ct} does not have one element for each of {self.outs} windows.")
        self.check(Type(ct.dtype, shape), accepts)
        return Type(ct.dtype, shape)

    def gathered(self, ct: Type, value: Callable[[list[Node], list[Node]], tuple[Node, list[Node]]]) -> Compute:
        """Return the sum over windows that contain an element of `value(window, place)`, where its conditions hold."""
        wide = sum_dtype(ct.dtype)
        shape = self.with_axes(ct.shape, self.lengths)

        def term(at: Sequence[Node], js: Sequence[Node]) -> Node:
            window, places, contains = list(at), list[Node](), list[Node]()
            for axis, span, n, j in zip(self.axes, self.spans, self.lengths, js, strict=True):
                window[axis], place, holds = span.containing(at[axis], j, n)
                places.append(place)
                contains += holds
            found, more = value(window, places)
            return chosen([*contains, *more], convert(found, wide), literal(0, wide))

        return folded(shape, term, self.reaches, "sum", ct.dtype)


@dataclass(frozen=True)
class WindowSpread(Spread, SameRank):
    """For each element the sum of the values of all windows that contain it: the transpose of window_sum."""

    name = "window_spread"

    def infer(self, ct: Type) -> Type:
        return self.check_spread(ct)

    def eval(self, ct: Array) -> Array:
        wide = ct.astype(sum_dtype(from_numpy(ct.dtype)).numpy)
        return self.scatter(lambda _: wide, self.with_axes(ct.shape, self.lengths), wide.dtype).astype(ct.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [WindowSum(self.axes, self.spans)(ct)]

    def lower(self, ct: Type) -> Compute:
        return self.gathered(ct, lambda window, _: (load(0, ct, *window), []))


@dataclass(frozen=True)
class WindowSpreadAt(Spread, SameRank):
    """For each element the sum of the values of the windows whose place is that element's; others get nothing."""

    name = "window_spread_at"

    def infer(self, ct: Type, place: Type) -> Type:
        if place.shape != ct.shape or not place.dtype.is_integer:
            raise ShapeError(f"window_spread_at: {ct} and places {place} must have one shape, places be integers.")
        return self.check_spread(ct)

    def eval(self, ct: Array, place: Array) -> Array:
        wide = ct.astype(sum_dtype(from_numpy(ct.dtype)).numpy)

        def values(ks: tuple[int, ...]) -> Array:
            mine = place == np.ravel_multi_index(ks, self.sizes)
            return np.where(mine, wide, 0)

        return self.scatter(values, self.with_axes(ct.shape, self.lengths), wide.dtype).astype(ct.dtype)

    def vjp(self, ct: Node, out: Node, values: Node, place: Node) -> list[Node | None]:
        return [WindowTakeAt(self.axes, self.spans)(ct, place), None]

    def lower(self, ct: Type, place: Type) -> Compute:
        def value(window: list[Node], places: list[Node]) -> tuple[Node, list[Node]]:
            mine = convert(_row_major(places, self.sizes), place.dtype)
            return load(0, ct, *window), [fn("eq", load(1, place, *window), mine)]

        return self.gathered(ct, value)


@dataclass(frozen=True)
class WindowTakeAt(SameRank):
    """The element of every window that is at the window's place."""

    name = "window_take_at"

    def infer(self, x: Type, place: Type) -> Type:
        self.check(x)
        if place.shape != self.folded(x) or not place.dtype.is_integer:
            raise ShapeError(f"window_take_at: places {place} are not integers of the shape {self.folded(x)}.")
        return Type(x.dtype, place.shape)

    def eval(self, x: Array, place: Array) -> Array:
        view = self.view(x, x.dtype.type(0)).reshape(*place.shape, -1)
        at = np.clip(place.astype(np.int64), 0, view.shape[-1] - 1)[..., None]
        return np.take_along_axis(view, at, axis=-1)[..., 0].astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node, place: Node) -> list[Node | None]:
        return [WindowSpreadAt(self.axes, self.spans, tuple(x.shape[a] for a in self.axes))(ct, place), None]

    def lower(self, x: Type, place: Type) -> Compute:
        def element(*at: Node) -> Node:
            number = convert(load(1, place, *at), int64)
            number = fn("min", fn("max", number, index_node(0)), index_node(math.prod(self.sizes) - 1))
            position, exists = self.element(x, at, unflatten_index(number, self.sizes))
            return chosen(exists, load(0, x, *position), literal(0, x.dtype))

        return compute(place.shape, element)


@dataclass(frozen=True)
class Windows(Windowed):
    """The elements of every window along new last axes, one for each of `axes`; 0 where there is none."""

    name = "windows"

    def infer(self, x: Type) -> Type:
        self.check(x, ANY)
        return Type(x.dtype, (*self.folded(x), *self.sizes))

    def eval(self, x: Array) -> Array:
        return self.view(x, x.dtype.type(0)).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [WindowsAdd(self.axes, self.spans, tuple(x.shape[a] for a in self.axes))(ct)]

    def lower(self, x: Type) -> Compute:
        def element(*at: Node) -> Node:
            position, exists = self.element(x, at[: x.ndim], at[x.ndim :])
            return chosen(exists, load(0, x, *position), literal(0, x.dtype))

        return compute(self.infer(x).shape, element)


@dataclass(frozen=True)
class WindowsAdd(Spread):
    """For each element the sum of its copies in all windows that contain it: the transpose of windows."""

    name = "windows_add"

    @property
    def reuse(self) -> int:
        """Every element of the operand is read once."""
        return 1

    def infer(self, ct: Type) -> Type:
        count = ct.ndim - len(self.axes)
        if count < 0 or ct.shape[count:] != self.sizes:
            raise ShapeError(f"windows_add: the last axes of {ct} do not hold windows of {self.sizes} elements.")
        return self.check_spread(Type(ct.dtype, ct.shape[:count]))

    def eval(self, ct: Array) -> Array:
        wide = ct.astype(sum_dtype(from_numpy(ct.dtype)).numpy)
        shape = self.with_axes(ct.shape[: ct.ndim - len(self.axes)], self.lengths)
        return self.scatter(lambda ks: wide[(..., *ks)], shape, wide.dtype).astype(ct.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Windows(self.axes, self.spans)(ct)]

    def lower(self, ct: Type) -> Compute:
        of = Type(ct.dtype, ct.shape[: ct.ndim - len(self.axes)])
        return self.gathered(of, lambda window, places: (load(0, ct, *window, *places), []))


@dataclass(frozen=True)
class Unpool(Composite):
    """Rows of `size` zeros, [R, size], with the values [R, K] at the positions [R, K]; of several the last counts.

    As in PyTorch each value has the gradient of its position, also where another one took its place.
    """

    name = "unpool"
    size: int

    def infer(self, values: Type, positions: Type) -> Type:
        check_dtypes(self.name, (values,), ANY)
        if values.ndim != 2 or positions.shape != values.shape or not positions.dtype.is_integer:
            raise ShapeError(f"unpool: values {values} and positions {positions} must be [R, K], positions integers.")
        return Type(values.dtype, (values.shape[0], self.size))

    def checks(self, *args: Node) -> list[Check]:
        return range_checks(self.name, args[1], self.size, f"{self.size} places")

    def expand(self, values: Node, positions: Node) -> Node:
        zeros = full(0, values.dtype, (values.shape[0], self.size))
        return ScatterAlong(1, "set")(zeros, positions, values)

    def eval(self, values: Array, positions: Array) -> Array:
        out = np.zeros((values.shape[0], self.size), values.dtype)
        for row, at, value in zip(out, positions, values, strict=True):
            for i, v in zip(at, value, strict=True):
                row[min(max(int(i), 0), self.size - 1)] = v
        return out

    def vjp(self, ct: Node, out: Node, values: Node, positions: Node) -> list[Node | None]:
        return [TakeAlongAxis(1)(ct, positions), None]


def folded(
    shape: Shape,
    value: Callable[[Sequence[Node], Sequence[Node]], Node],
    over: Sequence[int],
    combine: str,
    stored: DType,
) -> Compute:
    """Return the fold of `value(index, ks)` over all ks below `over`: written out if they are few, else as a loop."""
    count = len(shape)
    if math.prod(over) > UNROLL:
        return compute(shape, lambda *i: value(i[:count], i[count:]), over=over, combine=combine)
    join = {"sum": "add", "max": "max", "min": "min"}[combine]

    def element(*at: Node) -> Node:
        terms = [value(at, [index_node(k) for k in ks]) for ks in itertools.product(*[range(n) for n in over])]
        return convert(_tree(join, terms), stored)

    return compute(shape, element)


def chosen(conditions: Sequence[Node], value: Node, other: Node) -> Node:
    """Return a value where all conditions hold, else the other."""
    return select(_all(conditions), value, other) if conditions else value


def _all(conditions: Sequence[Node]) -> Node:
    return reduce(lambda a, b: fn("and", a, b), conditions)


def _tree(join: str, values: Sequence[Node]) -> Node:
    """Return all values joined in pairs: an expression that is wide rather than deep."""
    while len(values) > 1:
        pairs = [fn(join, a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[len(pairs) * 2 :]]
    return values[0]


def _row_major(places: Sequence[Node], sizes: Sequence[int]) -> Node:
    """Return the number of a place, counted in row-major order."""
    number = index_node(0)
    for place, size in zip(places, sizes, strict=True):
        number = add(scale(number, size), place)
    return number
