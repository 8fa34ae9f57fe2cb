"""Products of vectors and matrices. All of them end in the `matmul` op on at least two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from treadle import ops
from treadle.core import ShapeError, broadcast_shapes, normalize_axis, several, whole_number
from treadle.ir import Node, Op, constant

from . import manipulation as shapes
from .manipulation import reshaped
from .promotion import Operand, as_tensor, meet
from .value import made

if TYPE_CHECKING:
    from .tensor import Tensor


def matmul(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the matrix product; a vector counts as a row on the left, as a column on the right; batches broadcast."""
    (a, b), tensors, _ = meet("matmul", as_tensor("matmul", x1), as_tensor("matmul", x2))
    if not a.shape or not b.shape:
        raise ShapeError(
            f"matmul: cannot multiply {a.type!r} and {b.type!r}; both need at least one axis. Use * for products with "
            "numbers."
        )
    left = reshaped(a, (1, a.shape[0])) if len(a.shape) == 1 else a
    right = reshaped(b, (b.shape[0], 1)) if len(b.shape) == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: cannot multiply {a.type!r} and {b.type!r}; the last axis of the first has {left.shape[-1]} "
            "elements, "
            f"the {'only' if len(b.shape) == 1 else 'second to last'} axis of the second {right.shape[-2]}. They must "
            "be equal; transpose one with .mT?"
        )
    product = _product(left, right)
    if len(a.shape) == 1 or len(b.shape) == 1:
        rows = product.shape[-2:-1] if len(a.shape) > 1 else ()
        columns = product.shape[-1:] if len(b.shape) > 1 else ()
        product = reshaped(product, (*product.shape[:-2], *rows, *columns))
    return made(product, *tensors)


def _product(left: Node, right: Node) -> Node:
    if 0 in left.shape[:-1] or 0 in (*right.shape[:-2], right.shape[-1]):  # nothing to compute, so no product
        shape = broadcast_shapes("matmul", left.shape[:-2], right.shape[:-2])
        return Op.registry["broadcast_to"]((*shape, left.shape[-2], right.shape[-1]))(constant(0, left.dtype))
    return ops.matmul(left, right)


def matrix_transpose(x: Operand, /) -> Tensor:
    """Return x with its last two axes exchanged."""
    tensor = as_tensor("matrix_transpose", x)
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_transpose: takes matrices, got {tensor.node.type!r}. Allowed: at least 2 axes.")
    return shapes.swapaxes(tensor, -1, -2)


def vecdot(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the sum of products along an axis, counted from the end; the other axes broadcast."""
    a, b = as_tensor("vecdot", x1), as_tensor("vecdot", x2)
    if axis >= 0 and a.ndim != b.ndim:
        raise ShapeError(
            f"vecdot: axis {axis} is ambiguous for {a.ndim} and {b.ndim} axes. Count it from the end: axis < 0."
        )
    for t in (a, b):
        normalize_axis("vecdot", axis, t.ndim)
    if a.shape[axis] != b.shape[axis]:
        raise ShapeError(
            f"vecdot: axis {axis} has sizes {a.shape[axis]} and {b.shape[axis]} in {a.node.type!r} and "
            f"{b.node.type!r}. They must be equal."
        )
    if a.ndim == b.ndim == 1:
        return matmul(a, b)
    product = a * b
    return product.sum(axis=axis, dtype=product.dtype)


def outer(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the products of every element of a vector with every element of another."""
    a, b = as_tensor("outer", x1), as_tensor("outer", x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError(
            f"outer: takes two vectors, got {a.node.type!r} and {b.node.type!r}. Use reshape(x, -1) first."
        )
    return shapes.expand_dims(a, 1) * b


def tensordot(x1: Operand, x2: Operand, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Return the product summed over axes: the last and first `axes` ones, or the listed axes of either operand."""
    a, b = as_tensor("tensordot", x1), as_tensor("tensordot", x2)
    given: Any = axes
    if several(given):
        over_a, over_b = (
            [normalize_axis("tensordot", i, t.ndim) for i in g] for t, g in zip((a, b), given, strict=True)
        )
    else:
        count = whole_number("tensordot", given)
        if not 0 <= count <= min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot: cannot sum over {count} axes of {a.node.type!r} and {b.node.type!r}.")
        over_a, over_b = list(range(a.ndim - count, a.ndim)), list(range(count))
    if [a.shape[i] for i in over_a] != [b.shape[i] for i in over_b]:
        raise ShapeError(
            f"tensordot: axes {over_a} of {a.node.type!r} and {over_b} of {b.node.type!r} differ in size. They must be "
            "equal in pairs."
        )
    keep_a = [i for i in range(a.ndim) if i not in over_a]
    keep_b = [i for i in range(b.ndim) if i not in over_b]
    inner = math.prod(a.shape[i] for i in over_a)
    left = shapes.permute_dims(a, [*keep_a, *over_a])
    right = shapes.permute_dims(b, [*over_b, *keep_b])
    shape = [a.shape[i] for i in keep_a] + [b.shape[i] for i in keep_b]
    rows, columns = math.prod(shape[: len(keep_a)]), math.prod(shape[len(keep_a) :])
    product = matmul(shapes.reshape(left, (rows, inner)), shapes.reshape(right, (inner, columns)))
    return shapes.reshape(product, shape)
