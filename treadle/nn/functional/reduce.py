"""What losses share: their reduction, by either of PyTorch's names for it, and operands that are to fit each other."""

from __future__ import annotations

import warnings

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.manipulation import broadcast_arrays
from treadle.tensor.promotion import Operand, as_tensor

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(what: str, reduction: str) -> None:
    """Raise ConfigError unless the name of a reduction is known."""
    if reduction not in REDUCTIONS:
        raise ConfigError(f"{what}: reduction is {reduction!r}. Allowed: {', '.join(REDUCTIONS)}.")


def chosen(what: str, reduction: str, size_average: bool | None, reduce: bool | None) -> str:
    """Return the name of the reduction; PyTorch's two older arguments, where given, count instead of the name."""
    if size_average is not None or reduce is not None:
        if reduce is False:
            return "none"
        return "sum" if size_average is False else "mean"
    check_reduction(what, reduction)
    return reduction


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the losses, their mean or their sum."""
    match reduction:
        case "mean":
            return losses.mean()
        case "sum":
            return losses.sum()
        case _:
            return losses


def paired(what: str, input: Operand, target: Operand) -> tuple[Tensor, Tensor]:
    """Return input and target of one shape. They broadcast with a warning: that is seldom what was meant."""
    x, y = as_tensor(what, input), as_tensor(what, target)
    if x.shape == y.shape:
        return x, y
    try:
        a, b = broadcast_arrays(x, y)
    except ShapeError:
        raise _differ(what, x, y) from None
    warnings.warn(
        f"{what}: input {x.node.type!r} and target {y.node.type!r} differ in shape and are broadcast to "
        f"{list(a.shape)}. Reshape one if that is not meant.",
        stacklevel=3,
    )
    return a, b


def same_shape(what: str, input: Operand, target: Operand) -> tuple[Tensor, Tensor]:
    """Return input and target; raise ShapeError unless their shapes are equal."""
    x, y = as_tensor(what, input), as_tensor(what, target)
    if x.shape != y.shape:
        raise _differ(what, x, y)
    return x, y


def _differ(what: str, x: Tensor, y: Tensor) -> ShapeError:
    return ShapeError(
        f"{what}: input {x.node.type!r} and target {y.node.type!r} differ in shape. They must be equal; reshape one."
    )
