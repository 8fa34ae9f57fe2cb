"""Ops that read or write at positions known only at run time, or that make values from positions.

A formula never reads outside its operand: indices are clamped in it. `checks` says what makes an index wrong, as nodes
of the same program; who runs the program looks at them first and raises IndexRangeError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from treadle.core import (
    DType,
    DTypeError,
    IndexRangeError,
    Shape,
    ShapeError,
    Type,
    check_size,
    float32,
    from_numpy,
    int64,
)
from treadle.ir import Node, Op, const_value, constant
from treadle.te import Compute, add, compute, convert, fn, literal, load, scale, select
from treadle.te.compute import INDEX

from .base import NUMERIC, Array, TensorOp, check_dtypes
from .linalg import sum_dtype

FEW = 4  # indices along an axis up to which each place is compared with all of them


class Check(NamedTuple):
    """When `ok`, a bool scalar, is false, `low` or `high`, the extremes of the index tensor, is out of range."""

    ok: Node
    low: Node
    high: Node
    message: str  # with {value} in it
    allowed: tuple[float, float]
    raises: type[Exception] = IndexRangeError

    def error(self, low: Any, high: Any) -> Exception:
        """Return the error to raise for these extremes; it names the one that is out of range."""
        return self.raises(self.message.format(value=str(low if low < self.allowed[0] else high)))


@runtime_checkable
class Checked(Protocol):
    """An op whose operands may hold indices that are out of range."""

    def checks(self, *args: Node) -> list[Check]:
        """Return what must hold for the operands."""
        ...


def range_checks(what: str, index: Node, size: int, axis: str) -> list[Check]:
    """Return the check that every index lies in 0..size-1, or from -size on where negative ones were made positive."""
    if index.type.size == 0:
        return []
    given = _before_wrapping(index, size)
    least = 0 if given is index else -size
    limits = np.iinfo(index.dtype.numpy)
    axes = tuple(range(index.type.ndim))
    low: Node = Op.registry["min"](axes, False)(given)
    high: Node = Op.registry["max"](axes, False)(given)
    conditions: list[Node] = []
    if limits.min < least:
        conditions.append(Op.registry["greater_equal"]()(low, constant(least, index.dtype)))
    if limits.max > size - 1:
        conditions.append(Op.registry["less"]()(high, constant(size, index.dtype)))
    if not conditions:
        return []
    ok = conditions[0] if len(conditions) == 1 else Op.registry["logical_and"]()(*conditions)
    message = (
        f"{what}: index {{value}} is out of range for {axis}. Allowed: {least}..{size - 1}. "
        "Correct the indices, or clip them first."
    )
    return [Check(ok, low, high, message, (least, size - 1))]


def _before_wrapping(index: Node, size: int) -> Node:
    """Return i where the index is `where(i < 0, i + size, i)`, as user indices arrive: messages then show i itself."""
    if index.op.name == "where" and index.args[0].op.name == "less":
        given = index.args[2]
        low, zero = index.args[0].args
        wrapped = index.args[1]
        if (
            low is given
            and const_value(zero) == 0
            and wrapped.op.name == "add"
            and given in wrapped.args
            and any(const_value(a) == size for a in wrapped.args)
        ):
            return given
    return index


def _check_index(what: str, index: Type) -> None:
    if not index.dtype.is_integer:
        raise DTypeError(
            f"{what}: indices have dtype {index.dtype.name}. They must be integers; convert with astype()."
        )


def _clamped(index: Node, size: int) -> Node:
    """Return a scalar index as int64 inside 0..size-1."""
    wide = convert(index, int64)
    return fn("min", fn("max", wide, literal(0, INDEX)), literal(max(size - 1, 0), INDEX))


@dataclass(frozen=True)
class Take(TensorOp):
    """The slices of x along `axis` at the given positions; the index's axes stand where the axis was."""

    name = "take"
    axis: int

    def infer(self, x: Type, index: Type) -> Type:
        if not 0 <= self.axis < x.ndim:
            raise ShapeError(f"take: axis {self.axis} is out of range for {x}, which has {x.ndim} axes.")
        _check_index("take", index)
        if x.shape[self.axis] == 0 and index.size:
            raise ShapeError(f"take: axis {self.axis} of {x} is empty, there is nothing to take. Give an empty index.")
        return Type(x.dtype, (*x.shape[: self.axis], *index.shape, *x.shape[self.axis + 1 :]))

    def checks(self, *args: Node) -> list[Check]:
        x, index = args
        return range_checks("take", index, x.shape[self.axis], f"axis {self.axis} of {x.type}")

    def eval(self, x: Array, index: Array) -> Array:
        return np.take(x, index.astype(np.int64), axis=self.axis, mode="clip")

    def vjp(self, ct: Node, out: Node, x: Node, index: Node) -> list[Node | None]:
        return [ScatterAdd(self.axis, x.shape[self.axis])(ct, index), None]

    def lower(self, x: Type, index: Type) -> Compute:
        a, n = self.axis, self.axis + index.ndim

        def element(*i: Node) -> Node:
            return load(0, x, *i[:a], _clamped(load(1, index, *i[a:n]), x.shape[a]), *i[n:])

        return compute(self.infer(x, index).shape, element)


@dataclass(frozen=True)
class ScatterAdd(TensorOp):
    """Zeros with `size` places along `axis`, the slices of `values` added at the given positions: take's gradient."""

    name = "scatter_add"
    kernel = "scatter"
    axis: int
    size: int

    def infer(self, values: Type, index: Type) -> Type:
        check_dtypes("scatter_add", [values], NUMERIC)
        _check_index("scatter_add", index)
        a, n = self.axis, self.axis + index.ndim
        if a < 0 or values.shape[a:n] != index.shape:
            raise ShapeError(
                f"scatter_add: {values} has sizes {list(values.shape[a:n])} from axis {a}, the index {index} has "
                f"{list(index.shape)}. They must be equal."
            )
        if self.size == 0 and index.size:
            raise ShapeError(f"scatter_add: there are no places to add {index} to. Give a size of at least 1.")
        return Type(values.dtype, (*values.shape[:a], self.size, *values.shape[n:]))

    def checks(self, *args: Node) -> list[Check]:
        return range_checks("scatter_add", args[1], self.size, f"{self.size} places")

    def eval(self, values: Array, index: Array) -> Array:
        of = self.infer(_type(values), _type(index))
        flat = values.reshape((*values.shape[: self.axis], -1, *of.shape[self.axis + 1 :])) if of.size else values
        total = np.zeros(of.shape, sum_dtype(of.dtype).numpy)
        if of.size and index.size:
            at = np.clip(index.reshape(-1).astype(np.int64), 0, self.size - 1)
            np.add.at(np.moveaxis(total, self.axis, 0), at, np.moveaxis(flat, self.axis, 0).astype(total.dtype))
        return total.astype(of.dtype.numpy)

    def vjp(self, ct: Node, out: Node, values: Node, index: Node) -> list[Node | None]:
        return [Take(self.axis)(ct, index), None]

    def lower(self, values: Type, index: Type) -> Compute:
        a, wide = self.axis, sum_dtype(values.dtype)
        shape = self.infer(values, index).shape

        def element(*i: Node) -> Node:
            place, over = i[a], i[len(shape) :]
            at = _clamped(load(1, index, *over), self.size)
            value = convert(load(0, values, *i[:a], *over, *i[a + 1 : len(shape)]), wide)
            return select(fn("eq", at, place), value, literal(0, wide))

        return compute(shape, element, over=index.shape)


@dataclass(frozen=True)
class TakeAlongAxis(TensorOp):
    """For every place of `index`, the element of x at that place with the position on `axis` replaced by the index."""

    name = "take_along_axis"
    axis: int

    def infer(self, x: Type, index: Type) -> Type:
        _check_index("take_along_axis", index)
        _check_along("take_along_axis", self.axis, x, index)
        if x.shape[self.axis] == 0 and index.size:
            raise ShapeError(f"take_along_axis: axis {self.axis} of {x} is empty. Give an empty index.")
        return Type(x.dtype, index.shape)

    def checks(self, *args: Node) -> list[Check]:
        x, index = args
        return range_checks("take_along_axis", index, x.shape[self.axis], f"axis {self.axis} of {x.type}")

    def eval(self, x: Array, index: Array) -> Array:
        at = np.clip(index.astype(np.int64), 0, max(x.shape[self.axis] - 1, 0))
        return np.take_along_axis(x, at, axis=self.axis)

    def vjp(self, ct: Node, out: Node, x: Node, index: Node) -> list[Node | None]:
        size = x.shape[self.axis]
        if index.shape[self.axis] <= FEW:  # a formula, which fuses with what is around it
            return [ScatterAddAlongAxis(self.axis, size)(ct, index), None]
        zeros = Op.registry["broadcast_to"](x.shape)(constant(0, sum_dtype(x.dtype)))
        wide = Op.registry["cast"](zeros.dtype)(ct)
        return [Op.registry["cast"](x.dtype)(Op.registry["scatter_along"](self.axis, "sum")(zeros, index, wide)), None]

    def lower(self, x: Type, index: Type) -> Compute:
        a = self.axis
        return compute(
            index.shape,
            lambda *i: load(0, x, *i[:a], _clamped(load(1, index, *i), x.shape[a]), *i[a + 1 :]),
        )


@dataclass(frozen=True)
class ScatterAddAlongAxis(TensorOp):
    """Zeros with `size` places along `axis`, each value added at its index on that axis: take_along_axis's gradient.

    The formula compares every place with every index on the axis: right for a few indices, slow for many.
    """

    name = "scatter_add_along_axis"
    axis: int
    size: int

    def infer(self, values: Type, index: Type) -> Type:
        check_dtypes("scatter_add_along_axis", [values], NUMERIC)
        _check_index("scatter_add_along_axis", index)
        if values.shape != index.shape or not 0 <= self.axis < values.ndim:
            raise ShapeError(
                f"scatter_add_along_axis: values {values} and index {index} must have one shape, with axis {self.axis}."
            )
        if self.size == 0 and index.size:
            raise ShapeError(
                f"scatter_add_along_axis: there are no places to add {index} to. Give a size of at least 1."
            )
        return Type(values.dtype, (*values.shape[: self.axis], self.size, *values.shape[self.axis + 1 :]))

    def checks(self, *args: Node) -> list[Check]:
        return range_checks("scatter_add_along_axis", args[1], self.size, f"{self.size} places")

    def eval(self, values: Array, index: Array) -> Array:
        of = self.infer(_type(values), _type(index))
        total = np.zeros(of.shape, sum_dtype(of.dtype).numpy)
        if values.size:
            places: list[Array] = [
                np.reshape(np.arange(n, dtype=np.int64), _along(a, index.ndim)) for a, n in enumerate(index.shape)
            ]
            places[self.axis] = np.clip(index.astype(np.int64), 0, self.size - 1)
            np.add.at(total, tuple(places), values.astype(total.dtype))
        return total.astype(of.dtype.numpy)

    def vjp(self, ct: Node, out: Node, values: Node, index: Node) -> list[Node | None]:
        return [TakeAlongAxis(self.axis)(ct, index), None]

    def lower(self, values: Type, index: Type) -> Compute:
        a, wide = self.axis, sum_dtype(values.dtype)
        shape = self.infer(values, index).shape
        few = values.shape[a] == 1  # nothing to sum: a formula without a loop fuses with what reads it

        def element(*i: Node) -> Node:
            from_ = (*i[:a], literal(0, INDEX) if few else i[-1], *i[a + 1 : len(shape)])
            value, at = load(0, values, *from_), _clamped(load(1, index, *from_), self.size)
            value = value if few else convert(value, wide)
            return select(fn("eq", at, i[a]), value, literal(0, value.dtype))

        return compute(shape, element, over=() if few else (values.shape[a],))


@dataclass(frozen=True)
class Iota(TensorOp):
    """The numbers 0, 1, ..., size - 1."""

    name = "iota"
    size: int
    dtype: DType = int64

    def infer(self) -> Type:
        check_dtypes("iota", [Type(self.dtype)], NUMERIC)
        if self.size < 0:
            raise ShapeError(f"iota: size {self.size} is negative. Give a size of at least 0.")
        check_size("iota", (self.size,))
        return Type(self.dtype, (self.size,))

    def eval(self) -> Array:
        return np.arange(self.size).astype(self.dtype.numpy)

    def vjp(self, ct: Node, out: Node) -> list[Node | None]:
        return []

    def lower(self) -> Compute:
        def element(i: Node) -> Node:
            return convert(i, self.dtype)

        return compute((self.size,), element)


@dataclass(frozen=True)
class Tril(TensorOp):
    """Every matrix with zeros above diagonal k: elements stay where column <= row + k."""

    name = "tril"
    k: int = 0

    def infer(self, x: Type) -> Type:
        return _matrices("tril", x)

    def eval(self, x: Array) -> Array:
        return np.tril(x, self.k)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Tril(self.k)(ct)]

    def lower(self, x: Type) -> Compute:
        return _triangle("le", self.k, x)


@dataclass(frozen=True)
class Triu(TensorOp):
    """Every matrix with zeros below diagonal k: elements stay where column >= row + k."""

    name = "triu"
    k: int = 0

    def infer(self, x: Type) -> Type:
        return _matrices("triu", x)

    def eval(self, x: Array) -> Array:
        return np.triu(x, self.k)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        return [Triu(self.k)(ct)]

    def lower(self, x: Type) -> Compute:
        return _triangle("ge", self.k, x)


def _matrices(what: str, x: Type) -> Type:
    if x.ndim < 2:
        raise ShapeError(f"{what}: {x} is not a matrix. Give at least two axes.")
    return x


def _triangle(keep: str, k: int, x: Type) -> Compute:
    def element(*i: Node) -> Node:
        offset = add(i[-1], scale(i[-2], -1))
        return select(fn(keep, offset, literal(k, INDEX)), load(0, x, *i), literal(0, x.dtype))

    return compute(x.shape, element)


@dataclass(frozen=True)
class OneHot(TensorOp):
    """One at the position of each index along a last axis of `size`, zero elsewhere."""

    name = "one_hot"
    size: int
    dtype: DType = float32

    def infer(self, index: Type) -> Type:
        _check_index("one_hot", index)
        if self.size < 0:
            raise ShapeError(f"one_hot: size {self.size} is negative. Give a size of at least 0.")
        return Type(self.dtype, (*index.shape, self.size))

    def checks(self, *args: Node) -> list[Check]:
        return range_checks("one_hot", args[0], self.size, f"{self.size} classes")

    def eval(self, index: Array) -> Array:
        return (index[..., None] == np.arange(self.size)).astype(self.dtype.numpy)

    def vjp(self, ct: Node, out: Node, index: Node) -> list[Node | None]:
        return [None]

    def lower(self, index: Type) -> Compute:
        def element(*i: Node) -> Node:
            return convert(fn("eq", convert(load(0, index, *i[:-1]), int64), i[-1]), self.dtype)

        return compute((*index.shape, self.size), element)


def _check_along(what: str, axis: int, x: Type, index: Type) -> None:
    if not 0 <= axis < x.ndim:
        raise ShapeError(f"{what}: axis {axis} is out of range for {x}, which has {x.ndim} axes.")
    if index.ndim != x.ndim or without(index.shape, axis) != without(x.shape, axis):
        raise ShapeError(f"{what}: index {index} does not fit {x}. All sizes but that of axis {axis} must be equal.")


def without(shape: Sequence[int], axis: int) -> Shape:
    """Return a shape less one axis."""
    return (*shape[:axis], *shape[axis + 1 :])


def _along(axis: int, ndim: int) -> tuple[int, ...]:
    """Return the shape of a line along an axis."""
    return tuple(-1 if a == axis else 1 for a in range(ndim))


def _type(array: Array) -> Type:
    return Type(from_numpy(array.dtype), array.shape)
