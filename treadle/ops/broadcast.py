"""What gradients need from broadcasting and its opposite: sums back to an operand's shape, tensors of one value."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import DType, Shape
from treadle.ir import Node, Number, Op, constant

# Ops are found by name: gradients of movement ops are reductions and the other way round; neither can import the other.


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """Return `x` in another shape of as many elements; `x` itself where nothing changes."""
    return x if x.shape == tuple(shape) else Op.registry["reshape"](tuple(shape))(x)


def broadcast_to(x: Node, shape: Sequence[int]) -> Node:
    """Return `x` repeated along new leading axes and axes of size 1; `x` itself where nothing changes."""
    return x if x.shape == tuple(shape) else Op.registry["broadcast_to"](tuple(shape))(x)


def sum_axes(x: Node, axes: Sequence[int]) -> Node:
    """Return `x` summed over axes; `x` itself where there are none."""
    return Op.registry["sum"](tuple(axes))(x) if axes else x


def unbroadcast(ct: Node, shape: Shape) -> Node:
    """Return the cotangent of an operand of this shape that was broadcast: the sum of `ct` over what was repeated."""
    if ct.shape == shape:
        return ct
    extra = len(ct.shape) - len(shape)
    repeated = [extra + a for a, size in enumerate(shape) if size == 1 and ct.shape[extra + a] != 1]
    return reshape(sum_axes(ct, [*range(extra), *repeated]), shape)


def restore_axes(x: Node, axes: Sequence[int], shape: Shape) -> Node:
    """Return a reduction's result with the folded axes back as size 1, whether or not it kept them."""
    return reshape(x, [1 if a in axes else size for a, size in enumerate(shape)])


def full(value: Number, dtype: DType, shape: Sequence[int]) -> Node:
    """Return a tensor of one value."""
    return broadcast_to(constant(value, dtype), shape)


def full_like(x: Node, value: Number) -> Node:
    """Return a tensor of one value, of the type of `x`."""
    return full(value, x.dtype, x.shape)


def zeros_like(x: Node) -> Node:
    """Return zeros of the type of `x`."""
    return full_like(x, 0)


def ones_like(x: Node) -> Node:
    """Return ones of the type of `x`."""
    return full_like(x, 1)


def scalar_like(x: Node, value: Number) -> Node:
    """Return a literal of the dtype of `x`; it broadcasts."""
    return constant(value, x.dtype)
