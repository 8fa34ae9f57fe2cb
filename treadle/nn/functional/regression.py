"""Losses of numbers: squared error."""

from __future__ import annotations

from treadle.core import ShapeError
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand, as_tensor

from .reduce import check_reduction, reduced


def mse_loss(input: Operand, target: Operand, *, reduction: str = "mean") -> Tensor:
    """Return (input - target)^2, averaged over all elements."""
    check_reduction("mse_loss", reduction)
    x, y = as_tensor("mse_loss", input), as_tensor("mse_loss", target)
    if x.shape != y.shape:
        raise ShapeError(
            f"mse_loss: input {x.node.type!r} and target {y.node.type!r} differ in shape. They must be equal; "
            "reshape one."
        )
    difference = x - y
    return reduced(difference * difference, reduction)
