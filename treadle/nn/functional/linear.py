"""Products with a weight, rows of a table, and one-hot rows."""

from __future__ import annotations

from typing import Any

from treadle.core import DTypeError, IndexRangeError, ShapeError, as_dtype
from treadle.ir import Op
from treadle.tensor import Tensor, creation, made, node_of
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor


def linear(input: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    """Return input W^T + bias for W [out_features, in_features]; the transposed W is not copied."""
    x, w = as_tensor("linear", input), as_tensor("linear", weight)
    if w.ndim != 2 or x.ndim < 1 or x.shape[-1] != w.shape[1]:
        raise ShapeError(
            f"linear: input {x.node.type!r} does not fit weight {w.node.type!r}; the input's last axis must have "
            "the weight's "
            f"second size. Check in_features."
        )
    y = x @ w.mT
    return y if bias is None else y + bias


def embedding(input: Operand, weight: Operand, padding_idx: int | None = None) -> Tensor:
    """Return the rows of `weight` numbered by `input`, along a new last axis; a number out of range is an error.

    The row `padding_idx` gets no gradient.
    """
    x, w = as_tensor("embedding", input), as_tensor("embedding", weight)
    if w.ndim != 2:
        raise ShapeError(
            f"embedding: weight {w.node.type!r} is not a table. It must be [num_embeddings, embedding_dim]."
        )
    if not x.dtype.is_integer:
        raise DTypeError(f"embedding: numbers have dtype {x.dtype.name}. They must be integers; convert with astype().")
    rows = made(Op.registry["take"](0)(node_of(w), node_of(x)), x, w)
    if padding_idx is None:
        return rows
    if not -w.shape[0] <= padding_idx < w.shape[0]:
        raise IndexRangeError(
            f"embedding: padding_idx {padding_idx} is out of range for {w.shape[0]} rows. Allowed: "
            f"{-w.shape[0]} to {w.shape[0] - 1}."
        )
    padding = padding_idx % w.shape[0]
    return where(ew.equal(x, padding).reshape((*x.shape, 1)), rows.detach(), rows)


def one_hot(tensor: Operand, num_classes: int = -1, *, dtype: Any = "int64") -> Tensor:
    """Return 1 at the position of each number along a new last axis, 0 elsewhere.

    -1 classes means one more than the largest number, which must then be known.
    """
    if num_classes == -1:
        numbers = as_tensor("one_hot", tensor)
        if numbers.size == 0:
            raise ShapeError(f"one_hot: {numbers.node.type!r} has no elements to count classes by. Give num_classes.")
        num_classes = int(numbers.max()) + 1
    return creation.one_hot(tensor, num_classes, dtype=as_dtype(dtype))
