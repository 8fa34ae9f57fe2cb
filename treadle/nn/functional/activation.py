"""Activation functions."""

from __future__ import annotations

import math

from treadle.core import ConfigError
from treadle.tensor import Tensor, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor

GELU_APPROXIMATIONS = ("none", "tanh")


def relu(input: Operand) -> Tensor:
    """Return max(x, 0), NaN for NaN; its gradient at 0 is 0."""
    x = as_tensor("relu", input)
    # `x > 0 ? x : 0` would turn NaN into 0.
    return where(x <= 0, 0, x)


def gelu(input: Operand, approximate: str = "none") -> Tensor:
    """Return x Phi(x), Phi the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    "tanh" takes x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) instead.
    """
    x = as_tensor("gelu", input)
    if approximate == "none":
        return x * 0.5 * (1.0 + ew.erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        return x * 0.5 * (1.0 + ew.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)))
    raise ConfigError(f"gelu: approximate is {approximate!r}. Allowed: {', '.join(GELU_APPROXIMATIONS)}.")


def silu(input: Operand) -> Tensor:
    """Return x sigmoid(x)."""
    x = as_tensor("silu", input)
    return x * ew.sigmoid(x)


def sigmoid(input: Operand) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return ew.sigmoid(input)


def tanh(input: Operand) -> Tensor:
    """Return the hyperbolic tangent."""
    return ew.tanh(input)


def softplus(input: Operand, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, without overflow; x itself where beta x is above the threshold."""
    x = as_tensor("softplus", input)
    scaled = x if beta == 1 else x * beta
    smooth = ew.logaddexp(scaled, 0.0)
    return where(scaled > threshold, x, smooth if beta == 1 else smooth / beta)


def softmax(input: Operand, dim: int = -1) -> Tensor:
    """Return exp(x) scaled to sum to 1 along an axis."""
    return reductions.softmax(input, axis=dim)


def log_softmax(input: Operand, dim: int = -1) -> Tensor:
    """Return the logarithm of softmax along an axis."""
    return reductions.log_softmax(input, axis=dim)
