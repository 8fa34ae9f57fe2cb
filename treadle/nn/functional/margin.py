"""Losses that ask for a margin between scores: nothing is lost once it is kept.

At the corner itself slopes are PyTorch's: losses made by `clip` pass the gradient there, those summed over classes do
not.
"""

from __future__ import annotations

from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.tensor import Tensor, creation, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.indexing import take, take_along_axis
from treadle.tensor.promotion import Operand, as_tensor

from .reduce import chosen, reduced, same_shape


def hinge_embedding_loss(
    input: Operand,
    target: Operand,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the input, a distance, where the target is 1, and max(0, margin - input) where it is -1."""
    name = chosen("hinge_embedding_loss", reduction, size_average, reduce)
    x, t = as_tensor("hinge_embedding_loss", input), as_tensor("hinge_embedding_loss", target)
    apart = where(ew.not_equal(t, 1), ew.clip(margin - x, 0.0), 0.0)
    return reduced(apart + where(ew.not_equal(t, -1), x, 0.0), name)


def margin_ranking_loss(
    input1: Operand,
    input2: Operand,
    target: Operand,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return max(0, margin - target (input1 - input2)): a target of 1 wants input1 larger, -1 input2."""
    what = "margin_ranking_loss"
    name = chosen(what, reduction, size_average, reduce)
    a, b, t = as_tensor(what, input1), as_tensor(what, input2), as_tensor(what, target)
    if not a.ndim == b.ndim == t.ndim:
        raise ShapeError(
            f"{what}: input1 {a.node.type!r}, input2 {b.node.type!r} and target {t.node.type!r} differ in their number "
            "of axes. They must be equal; reshape the others."
        )
    return reduced(ew.clip(-t * (a - b) + margin, 0.0), name)


def multi_margin_loss(
    input: Operand,
    target: Operand,
    p: int = 1,
    margin: float = 1.0,
    weight: Operand | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return sum_{j != y} w_y max(0, margin - x_y + x_j)^p / C for scores x of C classes and the class y.

    Args:
        input: scores [N, C], or [C] for one example.
        target: class numbers [N], or a scalar.
        p: 1 or 2.
        margin: how far the right class is to lie above the others.
        weight: [C], what each class counts.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum", or "none" for one loss per example.
    """
    what = "multi_margin_loss"
    name = chosen(what, reduction, size_average, reduce)
    if p not in (1, 2):
        raise ConfigError(f"{what}: p is {p}. Allowed: 1 and 2.")
    x, y = as_tensor(what, input), as_tensor(what, target)
    if x.ndim == 0:  # one score, so of one class
        x = x.reshape(1)
    if x.ndim not in (1, 2) or (y.shape != x.shape[:-1] and not (x.ndim == 1 and y.shape == (1,))):
        raise ShapeError(
            f"{what}: input {x.node.type!r} and target {y.node.type!r} do not fit. They must be [N, C] and [N], or [C] "
            "and a scalar."
        )
    _whole_numbers(what, y)
    count = x.shape[-1]
    index = y.reshape((*x.shape[:-1], 1))
    gap = margin - take_along_axis(x, index, axis=-1) + x
    others = ew.not_equal(creation.arange(count), index)
    short = where(ew.logical_and(gap > 0, others), gap, 0.0)
    if p == 2:
        short = short * short
    losses = short.sum(axis=-1)
    if weight is not None:
        factor = as_tensor(what, weight)
        if factor.shape != (count,):
            raise ShapeError(f"{what}: weight {factor.node.type!r} does not fit {count} classes. Give one for each.")
        losses = losses * take(factor, y.reshape(losses.shape), axis=0)
    losses = losses.reshape(y.shape)  # [1] where a target [1] came with one example
    return reduced(losses / count, name)


def multilabel_margin_loss(
    input: Operand,
    target: Operand,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return sum over labels j and other classes i of max(0, 1 - (x_j - x_i)) / C.

    Args:
        input: scores [N, C], or [C] for one example.
        target: of the same shape: class numbers from the front, those from the first -1 on do not count.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum", or "none" for one loss per example.
    """
    what = "multilabel_margin_loss"
    name = chosen(what, reduction, size_average, reduce)
    x, y = same_shape(what, input, target)
    if x.ndim > 2:
        raise ShapeError(f"{what}: input {x.node.type!r} has {x.ndim} axes. Allowed: [N, C], [C] or a scalar.")
    _whole_numbers(what, y)
    if x.ndim == 0:
        x, y = x.reshape((1,)), y.reshape((1,))
    count = x.shape[-1]
    if count == 0:
        return reduced(x.sum(axis=-1), name)
    place = creation.arange(count)
    ended = y < 0
    end = where(ended.any(axis=-1, keepdims=True), reductions.argmax(ended, axis=-1, keepdims=True), count)
    listed = place < end
    y = where(listed, y, 0)
    is_label = ew.logical_and(ew.equal(y.reshape((*y.shape, 1)), place), listed.reshape((*y.shape, 1))).any(axis=-2)
    wanted = take_along_axis(x, y, axis=-1)
    gap = 1.0 - wanted.reshape((*y.shape, 1)) + x.reshape((*x.shape[:-1], 1, count))
    pair = ew.logical_and(listed.reshape((*y.shape, 1)), ew.logical_not(is_label.reshape((*x.shape[:-1], 1, count))))
    short = where(ew.logical_and(gap > 0, pair), gap, 0.0)
    return reduced(short.sum(axis=(-2, -1)) / count, name)


def _whole_numbers(what: str, y: Tensor) -> None:
    if not y.dtype.is_integer:
        raise DTypeError(f"{what}: targets have dtype {y.dtype.name}. They must be integers, class numbers.")
