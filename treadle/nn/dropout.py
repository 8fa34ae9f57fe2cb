"""Layers that set random elements, or whole channels, to 0 while training; functions: `functional/dropout.py`.

`inplace` is PyTorch's and asks for nothing here: a tensor never changes, and the compiler reuses memory by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.random import Generator

from .functional.dropout import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from .module import Module


class _Dropout(Module):
    """A probability, and where random numbers come from; outside of training the layer does nothing."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ConfigError(f"{type(self).__name__}: p is {p}. It is a probability: 0 to 1.")
        self.p = p
        self.generator = generator

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with elements dropped."""
        return type(self).function(input, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        """Return the probability."""
        return f"p={self.p}"


class Dropout(_Dropout):
    """In training, sets elements to 0 with probability `p` and scales the others by 1 / (1 - p); else does nothing."""

    function = dropout


class Dropout1d(_Dropout):
    """Dropout of whole channels of [N, C, L] or [C, L]."""

    function = dropout1d


class Dropout2d(_Dropout):
    """Dropout of whole channels of [N, C, H, W]."""

    function = dropout2d


class Dropout3d(_Dropout):
    """Dropout of whole channels of [N, C, D, H, W] or [C, D, H, W]."""

    function = dropout3d


class AlphaDropout(_Dropout):
    """Dropout to the value where SELU saturates, which keeps mean and variance (Klambauer et al. 2017, 1706.02515)."""

    function = alpha_dropout


class FeatureAlphaDropout(_Dropout):
    """AlphaDropout of whole channels of [N, C, ...]."""

    function = feature_alpha_dropout
