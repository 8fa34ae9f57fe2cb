"""Ordered classes: their probabilities from cumulative logits, as in the proportional-odds model."""

from __future__ import annotations

import math

from treadle.core import ShapeError
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import full
from treadle.tensor.manipulation import concat
from treadle.tensor.promotion import Operand, as_tensor


def ordinal_log_probabilities(input: Operand) -> Tensor:
    """Return log P(y = k), [..., C], for C ordered classes from the logits of P(y > 0), ..., P(y > C - 2).

    P(y = k) = s(a) - s(b) for the logits a of y > k - 1 and b of y > k, s the sigmoid (McCullagh 1980). It is computed
    as s(a) s(-b) (1 - exp(b - a)), in which nothing cancels. `nll_loss` makes a loss of it.

    Args:
        input: cumulative logits [..., C - 1], which fall along the last axis, as those of `nn.CumulativeLink` do; NaN
            where they rise.

    Raises:
        ShapeError: the input has no last axis, or nothing along it.
    """
    x = as_tensor("ordinal_log_probabilities", input)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ShapeError(
            f"ordinal_log_probabilities: input {x.node.type!r} has no logits. Give [..., C - 1], at least one."
        )
    # y > -1 is certain and y > C - 1 impossible.
    edge = full((*x.shape[:-1], 1), math.inf, dtype=x.dtype)
    above, below = concat([edge, x], axis=-1), concat([x, -edge], axis=-1)
    both = ew.logaddexp(-above, 0.0) + ew.logaddexp(below, 0.0)
    return ew.log(-ew.expm1(below - above)) - both
