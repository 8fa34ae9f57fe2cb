"""Muon: momentum of a matrix made orthogonal before it is applied."""

from __future__ import annotations

import math

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import maximum

from .layerwise import length
from .optimizer import Group, Optimizer, Params, Rate, State
from .settings import at_least_zero, fractions

ADJUSTMENTS = ("original", "match_rms_adamw")


class Muon(Optimizer):
    """Momentum made orthogonal, for matrices of hidden layers (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    b' = momentum b + (1 - momentum) g
    u = momentum b' + (1 - momentum) g with Nesterov, else b'
    step = -lr a orthogonal(u) - lr weight_decay p
    a = sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)) with "match_rms_adamw" (Liu et al. 2025)

    Products are in the parameter's dtype (at least 32 bits); PyTorch rounds them to bfloat16. Embeddings, heads, biases
    and norms belong to another optimiser.
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        at_least_zero("Muon", weight_decay=weight_decay, eps=eps)
        fractions("Muon", momentum=momentum)
        if adjust_lr_fn is not None and adjust_lr_fn not in ADJUSTMENTS:
            raise ConfigError(f"Muon: adjust_lr_fn is {adjust_lr_fn!r}. Allowed: None, {', '.join(ADJUSTMENTS)}.")
        if not 0 <= ns_steps < 100:
            raise ConfigError(f"Muon: ns_steps is {ns_steps}. Allowed: 0 to 99.")
        options = {
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": tuple(ns_coefficients),
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, lr, options)
        for parameter in self.parameters():
            if parameter.ndim != 2:
                raise ConfigError(
                    f"Muon: a parameter has shape {list(parameter.shape)}. It takes matrices; give others to AdamW."
                )

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        momentum = group.momentum
        buffer = held["momentum_buffer"] * momentum + grad * (1 - momentum)
        step = buffer * momentum + grad * (1 - momentum) if group.nesterov else buffer
        step = orthogonal(step, group.ns_coefficients, group.ns_steps, group.eps)
        rows, columns = param.shape
        if group.adjust_lr_fn == "match_rms_adamw":
            factor = 0.2 * math.sqrt(max(rows, columns))
        else:
            factor = math.sqrt(max(1.0, rows / columns))
        return {"momentum_buffer": buffer}, -(lr * factor) * step - lr * group.weight_decay * param


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Return about U V^T for a matrix U S V^T: Newton-Schulz steps X <- a X + (b X X^T + c (X X^T)^2) X.

    With the usual coefficients singular values end between about 0.7 and 1.2, which is near enough.
    """
    a, b, c = coefficients
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.mT
    x = x / maximum(length(x), eps)
    for _ in range(steps):
        square = x @ x.mT
        x = x * a + (square * b + (square @ square) * c) @ x
    return x if wide else x.mT
