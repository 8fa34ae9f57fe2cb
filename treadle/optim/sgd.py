"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from treadle.core import ConfigError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import where

from .optimizer import Group, Optimizer, Params, Rate, State, decayed
from .settings import at_least_zero, check_implementation


class SGDState(NamedTuple):
    """The velocity; None without momentum."""

    momentum_buffer: Tensor | None


def sgd(
    state: SGDState,
    grad: Tensor,
    *,
    lr: Tensor,
    count: Tensor,
    momentum: float | Tensor = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> tuple[SGDState, Tensor]:
    """Return the new velocity and the step -lr v, as in Sutskever et al. 2013 with PyTorch's place of the rate.

    v' = momentum v + (1 - dampening) g,  v' = g in the first step
    step = -lr v',  with Nesterov -lr (g + momentum v')
    """
    if state.momentum_buffer is None:
        return state, -lr * grad
    velocity = state.momentum_buffer * momentum + grad * (1 - dampening)
    if dampening:
        velocity = where(count == 1, grad, velocity)
    return SGDState(velocity), -lr * (grad + velocity * momentum if nesterov else velocity)


class SGD(Optimizer):
    """p += -lr v, v = momentum v + g; `weight_decay` adds its multiple of p to g, `maximize` goes up the gradient."""

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,  # PyTorch's signature
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("SGD", implementation)
        at_least_zero("SGD", momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ConfigError(
                f"SGD: nesterov needs momentum above 0 and no dampening; they are {momentum} and {dampening}."
            )
        options = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, lr, {**options, "maximize": maximize})

    def slots_of(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the velocity, or nothing without momentum."""
        return ("momentum_buffer",) if options["momentum"] else ()

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Apply `sgd` to the gradient with decay."""
        new, change = sgd(
            SGDState(held.get("momentum_buffer")),
            decayed(group, param, grad),
            lr=lr,
            count=count,
            momentum=group.momentum,
            dampening=group.dampening,
            nesterov=group.nesterov,
        )
        return {} if new.momentum_buffer is None else {"momentum_buffer": new.momentum_buffer}, change
