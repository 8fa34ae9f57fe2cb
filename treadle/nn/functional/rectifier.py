"""Activation functions made of straight pieces: rectifiers, shrinkage, and hard versions of the smooth ones.

At corners their slopes are PyTorch's. NaN stays NaN. `inplace` is PyTorch's and asks for nothing here: a tensor never
changes, and the compiler reuses memory by itself.
"""

from __future__ import annotations

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, random
from treadle.tensor.elementwise import logical_and, where
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import Generator


def relu(input: Operand, inplace: bool = False) -> Tensor:
    """Return max(x, 0), NaN for NaN; its gradient at 0 is 0."""
    x = as_tensor("relu", input)
    # `x > 0 ? x : 0` would turn NaN into 0.
    return where(x <= 0, 0, x)


def relu6(input: Operand, inplace: bool = False) -> Tensor:
    """Return x limited to 0..6; slope 0 at both ends."""
    return _limited(as_tensor("relu6", input), 0, 6)


def hardtanh(input: Operand, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x limited to min_val..max_val; slope 0 at both ends."""
    if min_val > max_val:
        raise ConfigError(f"hardtanh: min_val {min_val} is above max_val {max_val}. Give min_val <= max_val.")
    return _limited(as_tensor("hardtanh", input), min_val, max_val)


def hardsigmoid(input: Operand, inplace: bool = False) -> Tensor:
    """Return (x + 3) / 6 limited to 0..1; slope 0 at both ends."""
    x = as_tensor("hardsigmoid", input)
    return where(x <= -3, 0.0, where(x >= 3, 1.0, (x + 3) / 6))


def hardswish(input: Operand, inplace: bool = False) -> Tensor:
    """Return x hardsigmoid(x) (Howard et al. 2019, arXiv:1905.02244); slope 0 at -3 and 1 at 3."""
    x = as_tensor("hardswish", input)
    return where(x <= -3, -0.0, where(x >= 3, x, x * (x + 3) / 6))


def threshold(input: Operand, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return x above the threshold, `value` elsewhere."""
    x = as_tensor("threshold", input)
    return where(x <= threshold, value, x)


def leaky_relu(input: Operand, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x above 0, negative_slope x elsewhere (Maas et al. 2013); the slope at 0 is the negative side's."""
    x = as_tensor("leaky_relu", input)
    return where(x > 0, x, x * negative_slope)


def prelu(input: Operand, weight: Operand) -> Tensor:
    """Return x above 0, weight x elsewhere, with a weight that is learned (He et al. 2015, arXiv:1502.01852).

    Args:
        input: [N, C, ...], or any shape when there is one weight.
        weight: [1] or a scalar for all elements, or [C], one for each channel along axis 1.
    """
    x, w = as_tensor("prelu", input), as_tensor("prelu", weight)
    if w.ndim > 1 or (w.size != 1 and w.size != (x.shape[1] if x.ndim > 1 else 1)):
        raise ShapeError(
            f"prelu: weight {w.node.type!r} does not fit input {x.node.type!r}. It must have one element, or one for "
            "each channel along axis 1."
        )
    w = w.reshape(()) if w.size == 1 else w.reshape((-1,) + (1,) * (x.ndim - 2))
    # The side where the weight counts for nothing is put to 0 first: infinity there reaches no gradient.
    return where(x > 0, x, where(x > 0, 0, x) * w)


def rrelu(
    input: Operand,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return x above 0, elsewhere x times a slope (Xu et al. 2015, arXiv:1505.00853).

    The slope is drawn evenly from [lower, upper) for each element while training, and their mean otherwise.
    """
    if not lower <= upper:
        raise ConfigError(f"rrelu: lower {lower} is above upper {upper}. Give lower <= upper.")
    x = as_tensor("rrelu", input)
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    slope = random.uniform(x.shape, lower, upper, generator=generator).astype(x.dtype)
    return where(x > 0, x, x * slope)


def hardshrink(input: Operand, lambd: float = 0.5) -> Tensor:
    """Return x where |x| is above lambd, 0 elsewhere."""
    x = as_tensor("hardshrink", input)
    return where(logical_and(x >= -lambd, x <= lambd), 0, x)


def softshrink(input: Operand, lambd: float = 0.5) -> Tensor:
    """Return x moved towards 0 by lambd, and 0 where |x| is not above it."""
    if not lambd >= 0:
        raise ConfigError(f"softshrink: lambd is {lambd}. It must be at least 0.")
    x = as_tensor("softshrink", input)
    return where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0))


def _limited(x: Tensor, low: float, high: float) -> Tensor:
    """Return x within limits, the limits themselves having slope 0; integers stay integers."""
    if x.dtype.is_integer:
        low, high = int(low), int(high)
    return where(x <= low, low, where(x >= high, high, x))
