"""Losses of numbers: squared and absolute error, and what lies between."""

from __future__ import annotations

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor

from .reduce import check_reduction, chosen, paired, reduced


def mse_loss(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Operand | None = None,
) -> Tensor:
    """Return (input - target)^2, averaged over all elements.

    Args:
        input: any shape.
        target: the same shape.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum" or "none".
        weight: of the input's shape, what each element counts; the mean divides by its sum.
    """
    name = chosen("mse_loss", reduction, size_average, reduce)
    x, y = paired("mse_loss", input, target)
    difference = x - y
    return _weighted("mse_loss", difference * difference, weight, name)


def l1_loss(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Operand | None = None,
) -> Tensor:
    """Return |input - target|, averaged over all elements; its slope at 0 is 0. Arguments are those of `mse_loss`."""
    name = chosen("l1_loss", reduction, size_average, reduce)
    x, y = paired("l1_loss", input, target)
    return _weighted("l1_loss", ew.abs(x - y), weight, name)


def huber_loss(
    input: Operand,
    target: Operand,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Operand | None = None,
) -> Tensor:
    """Return d^2 / 2 where |d| < delta, delta (|d| - delta / 2) elsewhere, for d = input - target (Huber 1964).

    A weight multiplies each element; the mean is over the number of elements, as in PyTorch.
    """
    check_reduction("huber_loss", reduction)
    if not delta > 0:
        raise ConfigError(f"huber_loss: delta is {delta}. It must be above 0.")
    x, y = paired("huber_loss", input, target)
    losses = _rounded_corner(x - y, delta) * delta
    if weight is not None:
        losses = losses * _fitting("huber_loss", weight, losses)
    return reduced(losses, reduction)


def smooth_l1_loss(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Return d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = input - target.

    That is huber_loss / beta; with beta 0 it is the L1 loss (Girshick 2015, arXiv:1504.08083).
    """
    name = chosen("smooth_l1_loss", reduction, size_average, reduce)
    if not beta >= 0:
        raise ConfigError(f"smooth_l1_loss: beta is {beta}. It must be at least 0.")
    x, y = paired("smooth_l1_loss", input, target)
    return reduced(_rounded_corner(x - y, beta) if beta else ew.abs(x - y), name)


def _rounded_corner(d: Tensor, width: float) -> Tensor:
    """Return |d| - width / 2, and d^2 / (2 width) near 0: both have the same value and slope where they meet."""
    size = ew.abs(d)
    inside = size < width
    # The square of a large number is not taken: infinity in the branch that is not chosen would make the slope NaN.
    near = where(inside, d, 0.0)
    return where(inside, near * near * (0.5 / width), size - 0.5 * width)


def _weighted(what: str, losses: Tensor, weight: Operand | None, reduction: str) -> Tensor:
    """Return losses times a weight, reduced; their mean is over what they count."""
    if weight is None:
        return reduced(losses, reduction)
    factor = _fitting(what, weight, losses)
    if reduction == "mean":
        return (losses * factor).sum() / factor.sum()
    return reduced(losses * factor, reduction)


def _fitting(what: str, weight: Operand, losses: Tensor) -> Tensor:
    factor = as_tensor(what, weight)
    if factor.shape != losses.shape:
        raise ShapeError(f"{what}: weight {factor.node.type!r} does not have the input's shape {list(losses.shape)}.")
    return factor
