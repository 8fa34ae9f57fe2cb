"""Limits on gradients between `backward()` and `step()`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from treadle.core import ConfigError, NonFiniteError, float32
from treadle.tensor import Cell, Tensor, set_grad_enabled
from treadle.tensor.creation import zeros
from treadle.tensor.elementwise import abs, clip, isfinite, maximum, minimum, sqrt


def get_total_norm(
    tensors: Iterable[Tensor] | Tensor,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Return the norm of all elements of all tensors: (sum |x|^p)^(1/p), or the largest size for infinity.

    Powers are summed in float32 (float64 for float64), tensor by tensor in the order given. With `error_if_nonfinite` a
    norm that is NaN or infinite raises NonFiniteError; not inside a compiled function, where values are not known.
    """
    norm = _total(list(tensors) if not isinstance(tensors, Tensor) else [tensors], norm_type)
    if error_if_nonfinite and not bool(isfinite(norm)):
        raise NonFiniteError(
            f"get_total_norm: the norm of the gradients is {float(norm)}. Find where it came from, or pass "
            "error_if_nonfinite=False to go on."
        )
    return norm


def _total(tensors: Sequence[Tensor], norm_type: float) -> Tensor:
    if not norm_type > 0:
        raise ConfigError(f"get_total_norm: norm_type is {norm_type}. Allowed: numbers above 0, and inf.")
    total = zeros((), dtype=float32)
    for tensor in tensors:
        wide = tensor.astype(float32) if tensor.dtype.bits < 32 else tensor
        if norm_type == math.inf:
            total = maximum(total, abs(wide).max()) if wide.size else total
        else:
            total = total + (wide * wide if norm_type == 2 else abs(wide) ** norm_type).sum()
    if norm_type in (1, math.inf):
        return total
    return sqrt(total) if norm_type == 2 else total ** (1 / norm_type)


def clip_grad_norm_(
    parameters: Iterable[Cell] | Cell,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients together so that their norm is at most `max_norm`; return the norm they had.

    With `error_if_nonfinite` a norm that is NaN or infinite raises NonFiniteError; not inside a compiled function,
    where values are not known.
    """
    if not max_norm > 0:
        raise ConfigError(f"clip_grad_norm_: max_norm is {max_norm}. It must be above 0.")
    owners = _with_gradients(parameters)
    with set_grad_enabled(False):
        norm = get_total_norm([p.grad for p in owners if p.grad is not None], norm_type, error_if_nonfinite)
    clip_grads_with_norm_(owners, max_norm, norm)
    return norm


def clip_grads_with_norm_(
    parameters: Iterable[Cell] | Cell, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale all gradients by max_norm / total_norm, where that is below 1."""
    if not max_norm > 0:
        raise ConfigError(f"clip_grads_with_norm_: max_norm is {max_norm}. It must be above 0.")
    with set_grad_enabled(False):
        scale = minimum(max_norm / (total_norm + 1e-6), 1.0)
        for owner in _with_gradients(parameters):
            if owner.grad is not None:
                owner.grad = owner.grad * scale.astype(owner.grad.dtype)


def clip_grad_value_(parameters: Iterable[Cell] | Cell, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    if not clip_value > 0:
        raise ConfigError(f"clip_grad_value_: clip_value is {clip_value}. It must be above 0.")
    for owner in _with_gradients(parameters):
        if owner.grad is not None:
            owner.grad = clip(owner.grad, -clip_value, clip_value)


def _with_gradients(parameters: Iterable[Cell] | Cell) -> list[Cell]:
    return [p for p in ([parameters] if isinstance(parameters, Cell) else parameters) if p.grad is not None]
