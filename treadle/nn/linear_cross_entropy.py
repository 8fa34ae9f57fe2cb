"""A linear layer that ends in the cross-entropy of its scores."""

from __future__ import annotations

import math

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand

from . import functional as F
from .functional.reduce import check_reduction
from .layers import Linear
from .module import Module
from .parameter import Buffer


class LinearCrossEntropyLoss(Module):
    """The cross-entropy of class scores that a linear layer of its own makes; see `functional.linear_cross_entropy`.

    Args:
        in_features: width F of the input.
        num_classes: C.
        out_features: (d1, ...): a loss at each of these places, with scores of its own.
        bias: whether the linear layer has one.
        dtype: of the parameters.
        reduction: "mean", "sum" or "none".
        weight: [C], what an example of each class counts.
        ignore_index: targets of this value count for nothing; -100 when None.
        label_smoothing: share of the target spread evenly over all classes, 0 to 1.
        options: PyTorch's settings of its chunks, which are not needed: must be None.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: object = "float32",
        reduction: str = "mean",
        weight: Operand | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: None = None,
    ) -> None:
        super().__init__()
        what = "LinearCrossEntropyLoss"
        check_reduction(what, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(f"{what}: label_smoothing is {label_smoothing}. Allowed: 0 to 1.")
        if options is not None:
            raise ConfigError(f"{what}: options are PyTorch's way to split the work. Leave them out.")
        self.num_classes = num_classes
        self.out_features = tuple(out_features)
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.weight = None if weight is None else Buffer(weight)
        if self.weight is not None and self.weight.shape != (num_classes,):
            raise ShapeError(f"{what}: weight {self.weight.node.type!r} must have shape {[num_classes]}.")
        self.linear = Linear(in_features, math.prod((num_classes, *out_features)), bias, dtype=dtype)

    def forward(self, input: Operand, target: Operand) -> Tensor:
        """Return the loss of inputs [N, F] for targets [N, d1, ...]."""
        outputs = (self.num_classes, *self.out_features)
        bias = self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape((*outputs, self.linear.in_features)),
            target,
            linear_bias=None if bias is None else bias.reshape(outputs),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, "
            f"out_features={self.out_features}, bias={self.linear.bias is not None}, reduction={self.reduction}, "
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing}"
        )
