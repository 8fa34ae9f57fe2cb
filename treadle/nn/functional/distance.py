"""Distances within one set of vectors, and the bilinear form of two."""

from __future__ import annotations

from treadle.core import ShapeError
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor import manipulation as shapes
from treadle.tensor.distance import pdist
from treadle.tensor.linalg import matmul
from treadle.tensor.promotion import Operand, as_tensor


def bilinear(input1: Operand, input2: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    """Return y_o = x1 W_o x2 + b_o for x1 [..., I], x2 [..., J], W [O, I, J] and b [O].

    One matrix product makes x1 W, [..., O J]; what follows is one sum.
    """
    a, b, w = (as_tensor("bilinear", x) for x in (input1, input2, weight))
    if w.ndim != 3 or not a.ndim or a.shape[:-1] != b.shape[:-1] or (a.shape[-1], b.shape[-1]) != w.shape[1:]:
        raise ShapeError(
            f"bilinear: inputs {a.node.type!r} and {b.node.type!r} do not fit weight {w.node.type!r}. They are "
            "[..., I], [..., J] and [O, I, J], the leading axes of the inputs equal."
        )
    out, left, right = w.shape
    table = shapes.reshape(shapes.permute_dims(w, (1, 0, 2)), (left, out * right))
    half = shapes.reshape(matmul(a, table), (*a.shape[:-1], out, right))
    products = ew.multiply(half, shapes.expand_dims(b, -2))
    y = products.sum(axis=-1, dtype=products.dtype)  # integers stay as narrow as they are
    return y if bias is None else ew.add(y, bias)


__all__ = ["bilinear", "pdist"]
