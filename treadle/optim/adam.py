"""Adam, and AdamW, which takes the weight decay out of the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from treadle.tensor import Tensor, Value
from treadle.tensor.elementwise import expm1, log, maximum, rsqrt, sqrt

from .optimizer import Group, Optimizer, Params, Rate, State, decayed
from .settings import at_least_zero, betas_within, check_implementation


class AdamState(NamedTuple):
    """Running means of the gradient and of its square; with amsgrad, the largest of the latter so far."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
    max_exp_avg_sq: Tensor | None = None


def adam(
    state: AdamState,
    grad: Tensor,
    *,
    lr: Tensor,
    count: Tensor,
    betas: tuple[float | Tensor, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[AdamState, Tensor]:
    """Return the new means and the step, as in Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1.

    m' = b1 m + (1 - b1) g
    v' = b2 v + (1 - b2) g^2
    step = -lr (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps)

    With amsgrad the largest v' so far stands for v' in the step (Reddi et al. 2018, arXiv:1904.09237).
    """
    b1, b2 = betas
    m = state.exp_avg * b1 + grad * (1 - b1)
    v = state.exp_avg_sq * b2 + grad * grad * (1 - b2)
    largest = None if state.max_exp_avg_sq is None else maximum(state.max_exp_avg_sq, v)
    # Scalars, so they cost nothing; the two square roots keep PyTorch's order of rounding.
    step_size = lr / one_minus_power(b1, count)
    scale = rsqrt(one_minus_power(b2, count))
    root = sqrt(v if largest is None else largest)
    return AdamState(m, v, largest), -step_size * (m / (root * scale + eps))


def one_minus_power(beta: float | Tensor, count: Tensor) -> Tensor:
    """Return 1 - beta^count without cancellation: beta^count is close to 1 in the first steps."""
    if isinstance(beta, Value):
        return -expm1(count * log(beta))
    if beta == 0:
        return count * 0 + 1
    return -expm1(count * math.log(beta))


class Adam(Optimizer):
    """Adam; `weight_decay` adds its multiple of the parameter to the gradient, or is taken off beside it as in AdamW.

    Args:
        params: parameters, or groups of them: `{"params": [...], "lr": 1e-3}`.
        lr: the rate, or a schedule.
        betas: of the means of the gradient and of its square.
        eps: added to the root.
        weight_decay: see above.
        amsgrad: never let the root become smaller again.
        maximize: go up the gradient.
        decoupled_weight_decay: -lr weight_decay p beside the step, not in the gradient.
        implementation: foreach, fused and capturable, as PyTorch has them; they change nothing.
    """

    slots = AdamState._fields[:2]

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **implementation: bool | None,
    ) -> None:
        name = type(self).__name__
        check_implementation(name, implementation)
        at_least_zero(name, eps=eps, weight_decay=weight_decay)
        options = {"betas": betas_within(name, betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        more = {"maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, lr, {**options, **more})

    def slots_of(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the two means, with amsgrad the maximum, too."""
        return AdamState._fields if options["amsgrad"] else self.slots

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Apply `adam` to the gradient with decay, or with the decay beside it."""
        aside = group.decoupled_weight_decay and group.weight_decay
        if not aside:
            grad = decayed(group, param, grad)
        new, change = adam(AdamState(**held), grad, lr=lr, count=count, betas=group.betas, eps=group.eps)
        if aside:
            change = change - lr * group.weight_decay * param
        return {name: value for name, value in new._asdict().items() if value is not None}, change


class AdamW(Adam):
    """Adam with decoupled decay: -lr * weight_decay * p beside it (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
            **implementation,
        )
