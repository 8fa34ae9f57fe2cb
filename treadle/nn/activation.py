"""Activation functions as modules, for Sequential; the functions are in `functional`.

`inplace` is PyTorch's and asks for nothing here: a tensor never changes, and the compiler reuses memory by itself.
"""

from __future__ import annotations

from typing import Any

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import full
from treadle.tensor.random import Generator

from . import functional as F
from .functional.activation import GELU_APPROXIMATIONS
from .module import Module
from .parameter import Parameter


class _Activation(Module):
    """An activation function with settings, which are attributes and are shown in the repr."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self.settings = tuple(settings)

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)


class Identity(Module):
    """Returns its input; takes any arguments, so that it can stand in for any module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return the input."""
        return input


# --- smooth


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, input: Tensor) -> Tensor:
        """Return sigmoid(x)."""
        return F.sigmoid(input)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        """Return tanh(x)."""
        return F.tanh(input)


class GELU(_Activation):
    """x times the normal distribution function of x, or its tanh approximation."""

    approximate: str

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in GELU_APPROXIMATIONS:
            raise ConfigError(f"GELU: approximate is {approximate!r}. Allowed: {', '.join(GELU_APPROXIMATIONS)}.")
        super().__init__(approximate=approximate)

    def forward(self, input: Tensor) -> Tensor:
        """Return GELU of the input."""
        return F.gelu(input, approximate=self.approximate)


class SiLU(Module):
    """x sigmoid(x)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return x sigmoid(x)."""
        return F.silu(input)


class Mish(Module):
    """x tanh(softplus(x))."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return mish(x)."""
        return F.mish(input)


class Softplus(_Activation):
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""

    beta: float
    threshold: float

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)

    def forward(self, input: Tensor) -> Tensor:
        """Return softplus(x)."""
        return F.softplus(input, self.beta, self.threshold)


class LogSigmoid(Module):
    """log(sigmoid(x))."""

    def forward(self, input: Tensor) -> Tensor:
        """Return log(sigmoid(x))."""
        return F.logsigmoid(input)


class Softsign(Module):
    """x / (1 + |x|)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return softsign(x)."""
        return F.softsign(input)


class Tanhshrink(Module):
    """x - tanh(x)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return x - tanh(x)."""
        return F.tanhshrink(input)


class ELU(_Activation):
    """x above 0, alpha (exp(x) - 1) elsewhere."""

    alpha: float

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)

    def forward(self, input: Tensor) -> Tensor:
        """Return elu(x)."""
        return F.elu(input, self.alpha)


class CELU(_Activation):
    """x above 0, alpha (exp(x / alpha) - 1) elsewhere."""

    alpha: float

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)

    def forward(self, input: Tensor) -> Tensor:
        """Return celu(x)."""
        return F.celu(input, self.alpha)


class SELU(Module):
    """A scaled ELU that keeps mean 0 and variance 1."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return selu(x)."""
        return F.selu(input)


class GLU(_Activation):
    """a sigmoid(b) for the halves a, b of the input along `dim`."""

    dim: int

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)

    def forward(self, input: Tensor) -> Tensor:
        """Return the gated half."""
        return F.glu(input, self.dim)


# --- made of straight pieces


class ReLU(Module):
    """max(x, 0)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return max(x, 0)."""
        return F.relu(input)


class ReLU6(Module):
    """x limited to 0..6."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return x limited to 0..6."""
        return F.relu6(input)


class LeakyReLU(_Activation):
    """x above 0, negative_slope x elsewhere."""

    negative_slope: float

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope)

    def forward(self, input: Tensor) -> Tensor:
        """Return leaky_relu(x)."""
        return F.leaky_relu(input, self.negative_slope)


class PReLU(_Activation):
    """x above 0, weight x elsewhere; one weight for all elements, or one for each channel along axis 1."""

    num_parameters: int

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: object = "float32") -> None:
        if num_parameters < 1:
            raise ConfigError(f"PReLU: num_parameters is {num_parameters}. It must be at least 1.")
        super().__init__(num_parameters=num_parameters)
        self.init = init
        self.weight = Parameter(full((num_parameters,), float(init), dtype=dtype))

    def reset_parameters(self) -> None:
        """Set every weight to its first value."""
        self.weight.value = full((self.num_parameters,), float(self.init), dtype=self.weight.dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Return prelu(x)."""
        return F.prelu(input, self.weight)


class RReLU(_Activation):
    """x above 0, elsewhere x times a slope drawn from [lower, upper) in training, their mean otherwise."""

    lower: float
    upper: float

    def __init__(
        self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False, *, generator: Generator | None = None
    ) -> None:
        super().__init__(lower=lower, upper=upper)
        self.generator = generator

    def forward(self, input: Tensor) -> Tensor:
        """Return rrelu(x)."""
        return F.rrelu(input, self.lower, self.upper, self.training, generator=self.generator)


class Threshold(_Activation):
    """x above the threshold, `value` elsewhere."""

    threshold: float
    value: float

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value)

    def forward(self, input: Tensor) -> Tensor:
        """Return x or the value."""
        return F.threshold(input, self.threshold, self.value)


class Hardtanh(_Activation):
    """x limited to min_val..max_val."""

    min_val: float
    max_val: float

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(min_val=min_val, max_val=max_val)

    def forward(self, input: Tensor) -> Tensor:
        """Return x within the limits."""
        return F.hardtanh(input, self.min_val, self.max_val)


class Hardsigmoid(Module):
    """(x + 3) / 6 limited to 0..1."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return hardsigmoid(x)."""
        return F.hardsigmoid(input)


class Hardswish(Module):
    """x hardsigmoid(x)."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return hardswish(x)."""
        return F.hardswish(input)


class Hardshrink(_Activation):
    """x where |x| is above lambd, 0 elsewhere."""

    lambd: float

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def forward(self, input: Tensor) -> Tensor:
        """Return hardshrink(x)."""
        return F.hardshrink(input, self.lambd)


class Softshrink(_Activation):
    """x moved towards 0 by lambd."""

    lambd: float

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)

    def forward(self, input: Tensor) -> Tensor:
        """Return softshrink(x)."""
        return F.softshrink(input, self.lambd)


# --- probabilities


class Softmax(_Activation):
    """exp(x) scaled to sum to 1 along `dim`; None is axis 0 of 0, 1 or 3 axes, else axis 1."""

    dim: int | None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def forward(self, input: Tensor) -> Tensor:
        """Return softmax(x)."""
        return F.softmax(input, self.dim)


class LogSoftmax(_Activation):
    """The logarithm of softmax along `dim`."""

    dim: int | None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def forward(self, input: Tensor) -> Tensor:
        """Return log_softmax(x)."""
        return F.log_softmax(input, self.dim)


class Softmin(_Activation):
    """Softmax of -x along `dim`."""

    dim: int | None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def forward(self, input: Tensor) -> Tensor:
        """Return softmin(x)."""
        return F.softmin(input, self.dim)


class Softmax2d(Module):
    """Softmax over the channels of each place: of [N, C, H, W] or [C, H, W] along C."""

    def forward(self, input: Tensor) -> Tensor:
        """Return softmax(x) along the third axis from the end."""
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: input {input.node.type!r} must be [N, C, H, W] or [C, H, W].")
        return F.softmax(input, -3)
