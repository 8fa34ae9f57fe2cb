"""Products with a weight, and one-hot rows."""

from __future__ import annotations

from typing import Any

from treadle.core import ShapeError, as_dtype
from treadle.tensor import Tensor, creation
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
