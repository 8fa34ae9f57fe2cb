"""Softmax and its kin: numbers as probabilities along one axis."""

from __future__ import annotations

from treadle.core import ConfigError, as_dtype, normalize_axis
from treadle.tensor import Tensor, creation, random, reductions
from treadle.tensor import elementwise as ew
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import Generator


def softmax(input: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: object | None = None) -> Tensor:
    """Return exp(x) scaled to sum to 1 along an axis, without overflow.

    Args:
        input: floats, or anything with `dtype`.
        dim: the axis; None is PyTorch's choice, axis 0 of 0, 1 or 3 axes, else axis 1.
        _stacklevel: not used; it keeps PyTorch's order of arguments.
        dtype: convert the input to it first.
    """
    return reductions.softmax(_converted("softmax", input, dtype), axis=_axis(input, dim))


def log_softmax(input: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: object | None = None) -> Tensor:
    """Return the logarithm of softmax; arguments are those of `softmax`."""
    return reductions.log_softmax(_converted("log_softmax", input, dtype), axis=_axis(input, dim))


def softmin(input: Operand, dim: int | None = None, _stacklevel: int = 3, dtype: object | None = None) -> Tensor:
    """Return softmax(-x); arguments are those of `softmax`."""
    return reductions.softmax(-_converted("softmin", input, dtype), axis=_axis(input, dim))


def gumbel_softmax(
    logits: Operand,
    tau: float = 1.0,
    hard: bool = False,
    eps: float = 1e-10,
    dim: int = -1,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return softmax((logits + g) / tau) with g from the Gumbel distribution, g = -log(-log(u)) (arXiv:1611.01144).

    Args:
        logits: unnormalised log probabilities.
        tau: the temperature, above 0; towards 0 the result approaches one-hot rows drawn from softmax(logits).
        hard: return the one-hot row of the largest element, with the gradient of the soft one.
        eps: not used, as in PyTorch.
        dim: the axis of the choices.
        generator: where random numbers come from; the default generator when None.
    """
    if not tau > 0:
        raise ConfigError(f"gumbel_softmax: tau is {tau}. It must be above 0.")
    x = as_tensor("gumbel_softmax", logits)
    # 1 - u lies in (0, 1]: its logarithm is finite, and so is that of the smallest number above 0 in its place.
    exponential = ew.maximum(-ew.log(1.0 - random.uniform(x.shape, generator=generator)), 1.2e-38)
    soft = reductions.softmax((x - ew.log(exponential).astype(x.dtype)) / tau, axis=dim)
    if not hard:
        return soft
    axis = normalize_axis("gumbel_softmax", dim, x.ndim or 1)
    if x.size == 0 or x.ndim == 0:
        return soft
    best = reductions.argmax(soft, axis=axis, keepdims=True)
    place = creation.arange(x.shape[axis]).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
    chosen = ew.equal(place, best).astype(x.dtype)
    return chosen + (soft - soft.detach())


def _converted(what: str, input: Operand, dtype: object | None) -> Tensor:
    x = as_tensor(what, input)
    return x if dtype is None else x.astype(as_dtype(dtype))


def _axis(input: Operand, dim: int | None) -> int:
    if dim is not None:
        return dim
    return 0 if as_tensor("softmax", input).ndim in (0, 1, 3) else 1
