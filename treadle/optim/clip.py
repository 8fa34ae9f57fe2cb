"""Limits on gradients between `backward()` and `step()`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from treadle.core import ConfigError, NonFiniteError, float32
from treadle.tensor import Cell, Tensor, set_grad_enabled
from treadle.tensor.creation import zeros
from treadle.tensor.elementwise import abs, clip, isfinite, maximum, minimum, sqrt


def get_total_norm(tensors: Sequence[Tensor], norm_type: float = 2.0) -> Tensor:
    """Return the norm of all elements of all tensors: (sum |x|^p)^(1/p), or the largest size for infinity.

    Powers are summed in float32 (float64 for float64), tensor by tensor in the order given.
    """
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
    owners = [p for p in ([parameters] if isinstance(parameters, Cell) else parameters) if p.grad is not None]
    with set_grad_enabled(False):
        grads = [p.grad for p in owners]
        norm = get_total_norm([g for g in grads if g is not None], norm_type)
        if error_if_nonfinite and not bool(isfinite(norm)):
            raise NonFiniteError(
                f"clip_grad_norm_: the norm of the gradients is {float(norm)}. Find where it came from, or pass "
                "error_if_nonfinite=False to go on."
            )
        scale = minimum(max_norm / (norm + 1e-6), 1.0)
        for owner, grad in zip(owners, grads, strict=True):
            if grad is not None:
                owner.grad = grad * scale.astype(grad.dtype)
    return norm


def clip_grad_value_(parameters: Iterable[Cell] | Cell, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of every gradient to [-clip_value, clip_value]."""
    if not clip_value > 0:
        raise ConfigError(f"clip_grad_value_: clip_value is {clip_value}. It must be above 0.")
    for owner in [parameters] if isinstance(parameters, Cell) else parameters:
        if owner.grad is not None:
            owner.grad = clip(owner.grad, -clip_value, clip_value)
