"""The last layer of a classifier and its loss in one: class scores that nobody else sees."""

from __future__ import annotations

import math

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand, as_tensor

from .classification import cross_entropy
from .linear import linear


def linear_cross_entropy(
    input: Operand,
    linear_weight: Operand,
    target: Operand,
    *,
    linear_bias: Operand | None = None,
    weight: Operand | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: None = None,
) -> Tensor:
    """Return `cross_entropy(linear(input, linear_weight, linear_bias), target)`.

    Args:
        input: [N, F], or [F] for one example.
        linear_weight: [C, F], or [C, d1, ..., F] for a loss at each place.
        target: class numbers [N, d1, ...], or probabilities [N, C, d1, ...]; see `cross_entropy`.
        linear_bias: [C, d1, ...].
        weight: as in `cross_entropy`.
        reduction: as in `cross_entropy`.
        ignore_index: as in `cross_entropy`, -100 when None; not with probabilities.
        label_smoothing: as in `cross_entropy`.
        options: PyTorch's settings of its chunks, which are not needed: must be None.
    """
    what = "linear_cross_entropy"
    if options is not None:
        raise ConfigError(f"{what}: options are PyTorch's way to split the work. Leave them out.")
    x, w, t = (as_tensor(what, given) for given in (input, linear_weight, target))
    if x.ndim not in (1, 2) or w.ndim < 2 or x.shape[-1] != w.shape[-1] or (w.ndim > 2 and x.ndim == 1):
        raise ShapeError(
            f"{what}: input {x.node.type!r} does not fit linear_weight {w.node.type!r}. They must be [N, F] or [F], "
            "and [C, F]; or [N, F] and [C, d1, ..., F]."
        )
    outputs = w.shape[:-1]
    b = None if linear_bias is None else as_tensor(what, linear_bias)
    if b is not None and b.shape != outputs:
        raise ShapeError(f"{what}: linear_bias {b.node.type!r} must have shape {list(outputs)}.")
    shape = (*x.shape[:-1], *outputs)
    if ignore_index is not None and t.shape == shape:
        raise ConfigError(f"{what}: ignore_index is {ignore_index}, and targets are probabilities. Leave it out.")
    count = math.prod(outputs)
    logits = linear(x, w.reshape((count, w.shape[-1])), None if b is None else b.reshape((count,)))
    return cross_entropy(
        logits.reshape(shape),
        t,
        weight,
        ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )
