"""Losses of class scores: cross-entropy and negative log likelihood."""

from __future__ import annotations

import math

from treadle.core import ConfigError, DTypeError, ShapeError, float32
from treadle.ir import Op
from treadle.tensor import Tensor, made, node_of, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.indexing import take
from treadle.tensor.promotion import Operand, as_tensor

from .reduce import chosen, reduced


def cross_entropy(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return -log softmax(input)[target], averaged over the targets that are not ignored.

    A target outside 0..C-1 that is not `ignore_index` is an error that names it.

    Args:
        input: logits [N, C] or [N, C, d1, ...], or [C] for one example.
        target: class numbers [N], [N, d1, ...] or a scalar; or, of the input's shape and of floats, the probability of
            every class.
        weight: [C], what an example of each class counts; the mean divides by the sum of what was counted.
        size_average: older than `reduction`: whether to average; see `reduce`.
        ignore_index: targets of this value count for nothing.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum", or "none" for one loss per target.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
    """
    what = "cross_entropy"
    reduction = chosen(what, reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(f"{what}: label_smoothing is {label_smoothing}. Allowed: 0 to 1.")
    logits, classes = as_tensor(what, input), as_tensor(what, target)
    if logits.ndim and classes.dtype.is_float and classes.shape == logits.shape:
        share = classes * (1 - label_smoothing) + label_smoothing / logits.shape[min(1, logits.ndim - 1)]
        return _soft_cross_entropy(logits, share if label_smoothing else classes, weight, reduction)
    rows, targets, shape = _classified(what, logits, classes)
    targets, kept = _kept(targets, ignore_index)
    factor = _factor(what, weight, rows.shape[-1])
    losses = made(Op.registry[what]()(node_of(rows), node_of(targets)), rows, targets)
    counts = None if factor is None else take(factor, targets, axis=0)
    if counts is not None:
        losses = losses * counts
    if label_smoothing:
        even = reductions.log_softmax(rows, axis=-1)
        even = -(even if factor is None else even * factor).mean(axis=-1)
        losses = losses * (1 - label_smoothing) + even * label_smoothing
    return _averaged(losses, counts, kept, reduction, shape)


def _soft_cross_entropy(logits: Tensor, share: Tensor, weight: Operand | None, reduction: str) -> Tensor:
    """Return the cross-entropy of logits and the probabilities of all classes, averaged over examples."""
    axis = min(1, logits.ndim - 1)
    products = reductions.log_softmax(logits, axis=axis) * share
    factor = _factor("cross_entropy", weight, logits.shape[axis])
    if factor is not None:
        products = products * factor.reshape((-1,) + (1,) * (logits.ndim - 1 - axis))
    return reduced(-products.sum(axis=axis), reduction)


def nll_loss(
    input: Operand,
    target: Operand,
    weight: Operand | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return -input[target] for log probabilities; shapes and arguments are those of `cross_entropy`."""
    what = "nll_loss"
    reduction = chosen(what, reduction, size_average, reduce)
    rows, targets, shape = _classified(what, as_tensor(what, input), as_tensor(what, target))
    targets, kept = _kept(targets, ignore_index)
    factor = _factor(what, weight, rows.shape[-1])
    index = targets.reshape((targets.shape[0], 1))
    picked = made(Op.registry["take_along_axis"](1)(node_of(rows), node_of(index)), rows, index)
    losses = -picked.reshape(targets.shape)
    counts = None if factor is None else take(factor, targets, axis=0)
    return _averaged(losses if counts is None else losses * counts, counts, kept, reduction, shape)


def _classified(what: str, scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Return the scores as rows [n, C], the class numbers as [n], and the shape they had."""
    shape = classes.shape
    axis = min(1, scores.ndim - 1)
    if scores.ndim == 0 or scores.shape[:axis] + scores.shape[axis + 1 :] != shape:
        raise ShapeError(
            f"{what}: input {scores.node.type!r} and target {classes.node.type!r} do not fit. They must be [N, C] "
            "and [N], or [N, C, d1, ...] and [N, d1, ...]; reshape others first."
        )
    if not classes.dtype.is_integer:
        raise DTypeError(f"{what}: targets have dtype {classes.dtype.name}. They must be integers, class numbers.")
    if scores.ndim > 2:
        scores = scores.permute(0, *range(2, scores.ndim), 1)
    count = math.prod(shape)
    return scores.reshape((count, scores.shape[-1])), classes.reshape((count,)), shape


def _kept(targets: Tensor, ignore_index: int) -> tuple[Tensor, Tensor | None]:
    """Return targets with 0 for the ignored ones, and which are not ignored (None: all)."""
    # An unsigned target cannot be the usual -100, nor compared with it.
    if targets.dtype.kind == "uint" and ignore_index < 0:
        return targets, None
    kept = ew.not_equal(targets, ignore_index)
    return where(kept, targets, 0), kept


def _factor(what: str, weight: Operand | None, num_classes: int) -> Tensor | None:
    if weight is None:
        return None
    factor = as_tensor(what, weight)
    if factor.shape != (num_classes,):
        raise ShapeError(f"{what}: weight {factor.node.type!r} does not fit {num_classes} classes. Give one for each.")
    return factor


def _averaged(
    losses: Tensor, counts: Tensor | None, kept: Tensor | None, reduction: str, shape: tuple[int, ...]
) -> Tensor:
    """Return losses without the ignored ones; their mean is over what each counts."""
    if kept is not None:
        losses = where(kept, losses, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum" or (kept is None and counts is None):
        return losses.sum() if reduction == "sum" else losses.mean()
    wide = losses.dtype if losses.dtype.bits > 16 else float32
    if counts is None:
        assert kept is not None
        total = kept.astype(wide).sum()
    else:
        total = (counts if kept is None else where(kept, counts, 0.0)).astype(wide).sum()
    return losses.sum() / total.astype(losses.dtype)
