"""Activation functions as modules, for Sequential; the functions are in `functional`."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.tensor import Tensor

from . import functional as F
from .functional.activation import GELU_APPROXIMATIONS
from .module import Module


class Identity(Module):
    """Returns its input."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the input."""
        return input


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return max(x, 0)."""
        return F.relu(input)


class GELU(Module):
    """x times the normal distribution function of x, or its tanh approximation."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in GELU_APPROXIMATIONS:
            raise ConfigError(f"GELU: approximate is {approximate!r}. Allowed: {', '.join(GELU_APPROXIMATIONS)}.")
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Return GELU of the input."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """Return the approximation."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x sigmoid(x)."""
        return F.silu(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        """Return tanh(x)."""
        return F.tanh(input)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        """Return sigmoid(x)."""
        return F.sigmoid(input)


class Softmax(Module):
    """exp(x) scaled to sum to 1 along `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Return softmax(x)."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the axis."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of softmax along `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Return log_softmax(x)."""
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the axis."""
        return f"dim={self.dim}"
