"""The bilinear layer: a form of two inputs."""

from __future__ import annotations

import math

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.creation import empty

from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class Bilinear(Module):
    """y_o = x1 W_o x2 + b_o, with W [out_features, in1_features, in2_features]."""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        sizes = (out_features, in1_features, in2_features)
        if min(sizes) < 1:
            raise ConfigError(
                f"Bilinear: sizes {in1_features}, {in2_features}, {out_features}. Each must be at least 1."
            )
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        self.weight = Parameter(empty(sizes, dtype=dtype))
        self.bias = Parameter(empty((out_features,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly within 1 / sqrt(in1_features)."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Return x1 W x2 + b."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )
