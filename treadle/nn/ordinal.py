"""The head of ordered classes: one score, cut into classes at thresholds that are learnt."""

from __future__ import annotations

import math

import numpy as np

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.creation import asarray, empty
from treadle.tensor.cumulative import cumulative_sum
from treadle.tensor.manipulation import concat

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class CumulativeLink(Module):
    """The logits of y > 0, ..., y > C - 2 for ordered classes: w x - t_k, with t_0 < t_1 < ... (McCullagh 1980).

    All thresholds share one direction w: what moves the first class towards the second moves every other up, too. The
    first threshold is `raw_thresholds[0]`; the steps to the others are the softplus of the rest, so they stay positive.
    `functional.ordinal_log_probabilities` turns the logits into probabilities of classes.

    Args:
        in_features: size of the last axis of inputs.
        num_classes: C, at least 2.
        dtype: of the parameters.
    """

    def __init__(self, in_features: int, num_classes: int, *, dtype: object = "float32") -> None:
        super().__init__()
        if in_features < 1 or num_classes < 2:
            raise ConfigError(
                f"CumulativeLink: in_features is {in_features}, num_classes {num_classes}. They must be at least 1 "
                "and 2."
            )
        self.in_features = in_features
        self.num_classes = num_classes
        self.weight = Parameter(empty((1, in_features), dtype=dtype))
        self.raw_thresholds = Parameter(empty((num_classes - 1,), dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as `Linear` does; set thresholds between which a score of 0 has equal probabilities."""
        bound = 1 / math.sqrt(self.in_features)
        init.uniform_(self.weight, -bound, bound)
        share = np.arange(1, self.num_classes) / self.num_classes
        thresholds = np.log(share / (1 - share))
        steps = np.log(np.expm1(np.diff(thresholds)))  # the inverse of softplus
        self.raw_thresholds.value = asarray(np.concatenate([thresholds[:1], steps]))

    @property
    def thresholds(self) -> Tensor:
        """The scores [C - 1] at which one class gives way to the next, in rising order."""
        raw = self.raw_thresholds
        return cumulative_sum(concat([raw[:1], F.softplus(raw[1:])]))

    def forward(self, input: Tensor) -> Tensor:
        """Return cumulative logits [..., C - 1] of inputs [..., in_features]."""
        return F.linear(input, self.weight) - self.thresholds

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}"
