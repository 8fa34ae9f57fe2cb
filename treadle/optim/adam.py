"""Adam, and AdamW, which takes the weight decay out of the gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import expm1, rsqrt, sqrt

from .optimizer import Group, Optimizer, Params, Rate, State


class AdamState(NamedTuple):
    """Running means of the gradient and of its square."""

    exp_avg: Tensor
    exp_avg_sq: Tensor


def adam(
    state: AdamState,
    grad: Tensor,
    *,
    lr: Tensor,
    count: Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[AdamState, Tensor]:
    """Return the new means and the step, as in Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.

    m' = b1 m + (1 - b1) g
    v' = b2 v + (1 - b2) g^2
    step = -lr (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)
    """
    b1, b2 = betas
    m = state.exp_avg * b1 + grad * (1 - b1)
    v = state.exp_avg_sq * b2 + grad * grad * (1 - b2)
    # Scalars, so they cost nothing; the two square roots keep PyTorch's order of rounding.
    step_size = lr / _one_minus_power(b1, count)
    scale = rsqrt(_one_minus_power(b2, count))
    return AdamState(m, v), -step_size * (m / (sqrt(v) * scale + eps))


def _one_minus_power(beta: float, count: Tensor) -> Tensor:
    """Return 1 - beta^count without cancellation: beta^count is close to 1 in the first steps."""
    if beta == 0:
        return count * 0 + 1
    return -expm1(count * math.log(beta))


class Adam(Optimizer):
    """Adam; `weight_decay` adds its multiple of the parameter to the gradient."""

    slots = AdamState._fields

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        for i, beta in enumerate(betas):
            if not 0 <= beta < 1:
                raise ConfigError(f"{name}: betas[{i}] is {beta}. Allowed: from 0 to below 1.")
        for what, value in (("eps", eps), ("weight_decay", weight_decay)):
            if not value >= 0:
                raise ConfigError(f"{name}: {what} is {value}. It must be at least 0.")
        super().__init__(params, lr, {"betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Apply `adam` to the gradient with decay."""
        if group.weight_decay:
            grad = grad + param * group.weight_decay
        new, change = adam(AdamState(**held), grad, lr=lr, count=count, betas=group.betas, eps=group.eps)
        return new._asdict(), change


class AdamW(Adam):
    """Adam with decoupled decay: -lr * weight_decay * p beside it (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Apply `adam`, and the decay beside it."""
        new, change = adam(AdamState(**held), grad, lr=lr, count=count, betas=group.betas, eps=group.eps)
        if group.weight_decay:
            change = change - lr * group.weight_decay * param
        return new._asdict(), change
