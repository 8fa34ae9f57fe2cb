"""The matrix product. Transposed operands are permute nodes, which are index maps: nothing is copied for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from treadle.core import ShapeError, Type, broadcast_shapes, from_numpy
from treadle.ir import Node
from treadle.te import Compute, compute, convert, fn, load

from .base import NUMERIC, Array, TensorOp, check_dtypes, sum_dtype
from .broadcast import reshape, unbroadcast
from .movement import swap_last


class Matmul(TensorOp):
    """The product of matrices [..., M, K] and [..., K, N]; leading axes broadcast.

    Products of float16 and bfloat16 are summed in float32. `[..., M, K] @ [K, N]` is best built from a reshape to
    [..., K]: then it is one product with many rows, as its gradients are (see `matmul`).
    """

    name = "matmul"
    kernel = "matmul"

    def infer(self, a: Type, b: Type) -> Type:
        check_dtypes("matmul", (a, b), NUMERIC)
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(
                f"matmul: {a} and {b} must have at least two axes each. Reshape vectors to one row or column."
            )
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(
                f"matmul: {a} and {b} do not fit; the last axis of the first has size {a.shape[-1]}, the last but one "
                f"of the second {b.shape[-2]}. They must be equal."
            )
        batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
        return Type(a.dtype, (*batch, a.shape[-2], b.shape[-1]))

    def eval(self, a: Array, b: Array) -> Array:
        wide = sum_dtype(from_numpy(a.dtype)).numpy
        with np.errstate(all="ignore"):
            return np.matmul(a.astype(wide), b.astype(wide)).astype(a.dtype)

    def vjp(self, ct: Node, out: Node, a: Node, b: Node) -> list[Node | None]:
        if b.type.ndim == 2 and a.type.ndim > 2:
            # Sum over the batch inside one product instead of after a batch of them.
            rows = flat_rows(ct)
            return [reshape(Matmul()(rows, swap_last(b)), a.shape), Matmul()(swap_last(flat_rows(a)), rows)]
        return [
            unbroadcast(Matmul()(ct, swap_last(b)), a.shape),
            unbroadcast(Matmul()(swap_last(a), ct), b.shape),
        ]

    def lower(self, a: Type, b: Type) -> Compute:
        wide = sum_dtype(a.dtype)
        shape = self.infer(a, b).shape

        def element(*i: Node) -> Node:
            *batch, m, n, k = i
            left = load(0, a, *_batch_of(a, batch), m, k)
            right = load(1, b, *_batch_of(b, batch), k, n)
            return fn("mul", convert(left, wide), convert(right, wide))

        return compute(shape, element, over=(a.shape[-1],))


def flat_rows(x: Node) -> Node:
    """Return [..., M, K] as one matrix of many rows."""
    return reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def matmul(a: Node, b: Node) -> Node:
    """Return the product, as one product with many rows where b is a single matrix."""
    if b.type.ndim == 2 and a.type.ndim > 2:
        return reshape(Matmul()(flat_rows(a), b), (*a.shape[:-1], b.shape[-1]))
    return Matmul()(a, b)


def _batch_of(x: Type, position: Sequence[Node]) -> list[Node | int]:
    """Return the operand's own position on its leading axes, those of size 1 being broadcast."""
    own = x.shape[:-2]
    return [0 if size == 1 else i for i, size in zip(position[len(position) - len(own) :], own, strict=True)]
