"""Steps divided by the size that gradients had so far: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core import ConfigError
from treadle.tensor import Cell, Tensor
from treadle.tensor.creation import full
from treadle.tensor.elementwise import sqrt

from .optimizer import Group, Optimizer, Params, Rate, State, decayed, state_dtype
from .settings import at_least_zero, check_implementation


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (Duchi et al. 2011).

    s' = s + g^2
    step = -lr / (1 + (t - 1) lr_decay) g / (sqrt(s') + eps)
    """

    slots = ("sum",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Adagrad", implementation)
        options = {
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
        }
        at_least_zero("Adagrad", **options)
        super().__init__(params, lr, {**options, "maximize": maximize})

    def first(self, group: Group, parameter: Cell) -> State:
        """Return the sum before the first step."""
        return {
            "sum": full(parameter.shape, float(group.initial_accumulator_value), dtype=state_dtype(parameter.dtype))
        }

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        grad = decayed(group, param, grad)
        total = held["sum"] + grad * grad
        rate = lr / ((count - 1) * group.lr_decay + 1) if group.lr_decay else lr
        return {"sum": total}, -rate * (grad / (sqrt(total) + group.eps))


class Adadelta(Optimizer):
    """Steps in units of earlier steps (Zeiler 2012, arXiv:1212.5701).

    v' = rho v + (1 - rho) g^2
    d = sqrt(u + eps) / sqrt(v' + eps) g
    u' = rho u + (1 - rho) d^2
    step = -lr d
    """

    slots = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: Params,
        lr: Rate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Adadelta", implementation)
        at_least_zero("Adadelta", eps=eps, weight_decay=weight_decay)
        if not 0 <= rho <= 1:
            raise ConfigError(f"Adadelta: rho is {rho}. Allowed: 0 to 1.")
        options = {"rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, lr, options)

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        rho, eps = group.rho, group.eps
        grad = decayed(group, param, grad)
        v = held["square_avg"] * rho + grad * grad * (1 - rho)
        delta = sqrt(held["acc_delta"] + eps) / sqrt(v + eps) * grad
        u = held["acc_delta"] * rho + delta * delta * (1 - rho)
        return {"square_avg": v, "acc_delta": u}, -lr * delta


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of squared gradients (Tieleman & Hinton 2012, lecture 6.5).

    v' = alpha v + (1 - alpha) g^2
    r = sqrt(v') + eps,  centered (Graves 2013, arXiv:1308.0850): sqrt(v' - a'^2) + eps,  a' = alpha a + (1 - alpha) g
    step = -lr g / r,  with momentum -lr b',  b' = momentum b + g / r
    """

    slots = ("square_avg",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("RMSprop", implementation)
        numbers = {"momentum": momentum, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        at_least_zero("RMSprop", **numbers)
        super().__init__(params, lr, {**numbers, "centered": centered, "maximize": maximize})

    def slots_of(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the mean square; with momentum the velocity, centered the mean."""
        more = (("momentum_buffer", options["momentum"] > 0), ("grad_avg", options["centered"]))
        return (*self.slots, *[name for name, needed in more if needed])

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        alpha = group.alpha
        grad = decayed(group, param, grad)
        v = held["square_avg"] * alpha + grad * grad * (1 - alpha)
        new = {"square_avg": v}
        if group.centered:
            # Towards g by the difference, as PyTorch does it: v - a^2 is a small difference where its rounding shows.
            mean = held["grad_avg"] + (grad - held["grad_avg"]) * (1 - alpha)
            new["grad_avg"] = mean
            v = v - mean * mean
        step = grad / (sqrt(v) + group.eps)
        if "momentum_buffer" in held:
            step = new["momentum_buffer"] = held["momentum_buffer"] * group.momentum + step
        return new, -lr * step
