"""Losses of yes or no: of probabilities, of logits, of signs, one question or several per example."""

from __future__ import annotations

from treadle.core import ConfigError, DType, ShapeError, broadcast_shapes, float32
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.require import is_cheap, require

from .reduce import check_reduction, chosen, reduced, same_shape

# As in PyTorch: logarithms stop at -100, and p (1 - p), by which slopes are divided, at 1e-12.
LEAST_LOG = -100.0
LEAST_VARIANCE = 1e-12


def binary_cross_entropy(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -(t log p + (1 - t) log(1 - p)) for probabilities p; from logits use the stable one, `..._with_logits`.

    Logarithms are at least -100, and the slope stays finite at p = 0 and 1: there it is (p - t) / 1e-12.

    Args:
        input: probabilities, 0 to 1. DataError for others, where no model need be run to see it; else the loss is NaN,
            as in PyTorch's compiled code.
        target: of the same shape, 0 to 1.
        weight: what each element counts; broadcasts to the input's shape. The mean is over the number of elements.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum" or "none".
    """
    what = "binary_cross_entropy"
    name = chosen(what, reduction, size_average, reduce)
    p, t = same_shape(what, input, target)
    if p.is_realized or is_cheap(p.node):
        said = f"{what}: the input contains {{value}}. Allowed: probabilities, 0 to 1. For logits use "
        p = require(p, ((p >= 0) & (p <= 1)).detach(), f"{said}{what}_with_logits().")
    dtype = p.dtype
    wide = _wide(dtype)
    p, t = p.astype(wide), t.astype(wide)
    inside = p * (1 - p) > LEAST_VARIANCE
    q = where(inside, p, 0.5)
    smooth = -(t * ew.log(q) + (1 - t) * ew.log1p(-q))
    fixed = p.detach()
    least = -(t * ew.maximum(ew.log(fixed), LEAST_LOG) + (1 - t) * ew.maximum(ew.log1p(-fixed), LEAST_LOG))
    # A parabola that adds nothing but its slope.
    slope = (p - t.detach()) * (p - t.detach()) * (0.5 / LEAST_VARIANCE)
    losses = where(inside, smooth, least + (slope - slope.detach()))
    return reduced(_times(what, losses.astype(dtype), weight), name)


def binary_cross_entropy_with_logits(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Operand | None = None,
) -> Tensor:
    """Return -(w t log s + (1 - t) log(1 - s)) for s = sigmoid(input) and w = pos_weight.

    Exact for logits of any size: no sigmoid is formed, and nothing cancels.

    Args:
        input: logits.
        target: of the same shape, 0 to 1.
        weight: what each element counts; broadcasts to the input's shape. The mean is over the number of elements.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum" or "none".
        pos_weight: what a target of 1 counts; broadcasts to the input's shape.
    """
    what = "binary_cross_entropy_with_logits"
    name = chosen(what, reduction, size_average, reduce)
    x, t = same_shape(what, input, target)
    losses = _cross_entropy(what, x, t.astype(x.dtype), pos_weight)
    return reduced(_times(what, losses, weight), name)


def _cross_entropy(what: str, x: Tensor, t: Tensor, pos_weight: Operand | None = None) -> Tensor:
    """Return (1 - t) max(x, 0) + w t max(-x, 0) + (1 + (w - 1) t) log(1 + exp(-|x|))."""
    # One product, so that the slope (0 or 1) - t is exact; where() has no kink at 0, as |x| would.
    rest = ew.logaddexp(where(x > 0, -x, x), 0.0)
    if pos_weight is None:
        return x * (where(x > 0, 1.0, 0.0).astype(x.dtype) - t) + rest
    w = _broadcasting(what, "pos_weight", pos_weight, x)
    return x * where(x > 0, 1 - t, -(w * t)) + (1 + (w - 1) * t) * rest


def sigmoid_focal_loss(
    inputs: Operand, targets: Operand, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Return alpha_t (1 - p_t)^gamma (-log p_t), with p_t the probability given to the truth (Lin et al. 2017).

    arXiv:1708.02002; arguments are those of torchvision.ops.

    Args:
        inputs: logits.
        targets: of the same shape, 0 or 1.
        alpha: weight of targets of 1, 1 - alpha that of 0; negative for no weights.
        gamma: how much well-classified examples are played down; 0 is cross-entropy.
        reduction: "none", "mean" or "sum".
    """
    what = "sigmoid_focal_loss"
    check_reduction(what, reduction)
    if not gamma >= 0:
        raise ConfigError(f"{what}: gamma is {gamma}. It must be at least 0.")
    x, t = same_shape(what, inputs, targets)
    t = t.astype(x.dtype)
    losses = _cross_entropy(what, x, t)
    if gamma:
        missed = ew.sigmoid(x) * (1 - t) + ew.sigmoid(-x) * t  # 1 - p_t
        some = missed > 0
        losses = losses * where(some, where(some, missed, 1.0) ** gamma, 0.0)
    if alpha >= 0:
        losses = losses * (t * alpha + (1 - t) * (1 - alpha))
    return reduced(losses, reduction)


def soft_margin_loss(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return log(1 + exp(-target input)) for targets 1 and -1, without overflow."""
    name = chosen("soft_margin_loss", reduction, size_average, reduce)
    x, t = same_shape("soft_margin_loss", input, target)
    return reduced(ew.logaddexp(-(x * t.astype(x.dtype)), 0.0), name)


def multilabel_soft_margin_loss(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the binary cross-entropy of logits, averaged over the classes: the last axis.

    Args:
        input: logits [..., C].
        target: of the same shape, 0 or 1 for each class.
        weight: [C], what each class counts.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum", or "none" for one loss per example.
    """
    what = "multilabel_soft_margin_loss"
    name = chosen(what, reduction, size_average, reduce)
    x, t = same_shape(what, input, target)
    if x.ndim == 0:
        raise ShapeError(f"{what}: input is a scalar. Give [..., C], a logit for each class.")
    return reduced(_times(what, _cross_entropy(what, x, t.astype(x.dtype)), weight).mean(axis=-1), name)


def _wide(dtype: DType) -> DType:
    return float32 if dtype.bits < 32 else dtype


def _times(what: str, losses: Tensor, weight: Operand | None) -> Tensor:
    return losses if weight is None else losses * _broadcasting(what, "weight", weight, losses)


def _broadcasting(what: str, name: str, weight: Operand, x: Tensor) -> Tensor:
    """Return the weight of losses shaped like x."""
    factor = as_tensor(what, weight)
    try:
        fits = broadcast_shapes(what, factor.shape, x.shape) == x.shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"{what}: {name} {factor.node.type!r} does not broadcast to the input's {list(x.shape)}.")
    return factor.astype(x.dtype)
