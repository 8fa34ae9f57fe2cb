"""Smooth activation functions: exponential, Gaussian and logistic ones, and gates. Those with corners: `rectifier.py`.

Where a formula holds on one side only, its argument on the other is replaced, not its result, so that an overflow there
reaches no gradient.
"""

from __future__ import annotations

import math

from treadle.core import ConfigError, ShapeError, normalize_axis
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.manipulation import split
from treadle.tensor.promotion import Operand, as_tensor

GELU_APPROXIMATIONS = ("none", "tanh")

# The fixed point of means and variances, in the digits of Klambauer et al. 2017, arXiv:1706.02515.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def sigmoid(input: Operand) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return ew.sigmoid(input)


def tanh(input: Operand) -> Tensor:
    """Return the hyperbolic tangent."""
    return ew.tanh(input)


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


def silu(input: Operand, inplace: bool = False) -> Tensor:
    """Return x sigmoid(x), also called swish."""
    x = as_tensor("silu", input)
    return x * ew.sigmoid(x)


def mish(input: Operand, inplace: bool = False) -> Tensor:
    """Return x tanh(softplus(x)) (Misra 2019, arXiv:1908.08681)."""
    x = as_tensor("mish", input)
    return x * ew.tanh(ew.logaddexp(x, 0.0))


def softplus(input: Operand, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, without overflow; x itself where beta x is above the threshold."""
    x = as_tensor("softplus", input)
    scaled = x if beta == 1 else x * beta
    smooth = ew.logaddexp(scaled, 0.0)
    return where(scaled > threshold, x, smooth if beta == 1 else smooth / beta)


def logsigmoid(input: Operand) -> Tensor:
    """Return log(sigmoid(x)), without taking the logarithm of a number that was rounded to 0 or 1."""
    return -ew.logaddexp(-as_tensor("logsigmoid", input), 0.0)


def softsign(input: Operand) -> Tensor:
    """Return x / (1 + |x|)."""
    x = as_tensor("softsign", input)
    return x / (ew.abs(x) + 1)


def tanhshrink(input: Operand) -> Tensor:
    """Return x - tanh(x)."""
    x = as_tensor("tanhshrink", input)
    return x - ew.tanh(x)


def elu(input: Operand, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x above 0, alpha (exp(x) - 1) elsewhere (Clevert et al. 2016, arXiv:1511.07289); slope alpha at 0."""
    x = as_tensor("elu", input)
    return where(x > 0, x, _below(x, 1.0) * alpha)


def celu(input: Operand, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x above 0, alpha (exp(x / alpha) - 1) elsewhere, whose slope at 0 is 1 (Barron 2017, arXiv:1704.07483)."""
    if alpha == 0:
        raise ConfigError("celu: alpha is 0, and x is divided by it. Allowed: any other number.")
    x = as_tensor("celu", input)
    return where(x > 0, x, _below(x, alpha) * alpha)


def selu(input: Operand, inplace: bool = False) -> Tensor:
    """Return elu of one alpha, scaled so that activations drift to mean 0 and variance 1 (arXiv:1706.02515)."""
    x = as_tensor("selu", input)
    return where(x > 0, x * SELU_SCALE, _below(x, 1.0) * (SELU_ALPHA * SELU_SCALE))


def _below(x: Tensor, alpha: float) -> Tensor:
    """Return exp(x / alpha) - 1 where x is not above 0, and 0 elsewhere."""
    low = where(x > 0, 0, x)
    return ew.expm1(low if alpha == 1 else low / alpha)


def glu(input: Operand, dim: int = -1) -> Tensor:
    """Return a sigmoid(b) for the halves a, b of the input along an axis (Dauphin et al. 2017, arXiv:1612.08083)."""
    x = as_tensor("glu", input)
    if x.ndim == 0:
        raise ShapeError("glu: a scalar has no halves. Give at least one axis, of an even size.")
    axis = normalize_axis("glu", dim, x.ndim)
    if x.shape[axis] % 2:
        raise ShapeError(f"glu: axis {dim} of {x.node.type!r} has an odd size. It must be even, to be halved.")
    a, b = split(x, x.shape[axis] // 2, axis=axis) if x.shape[axis] else (x, x)
    return a * ew.sigmoid(b)
