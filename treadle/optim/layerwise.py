"""Steps scaled to the size of each parameter, for large batches: LARS and LAMB."""

from __future__ import annotations

from treadle.tensor import Tensor
from treadle.tensor.elementwise import logical_and, sqrt, where

from .adam import one_minus_power
from .optimizer import Group, Optimizer, Params, Rate, State
from .settings import at_least_zero, betas_within, check_implementation, fractions


class LARS(Optimizer):
    """SGD with momentum and a rate for each layer (You et al. 2017, arXiv:1708.03888, algorithm 1).

    r = trust_coefficient |p| / (|g| + weight_decay |p| + eps), 1 where |p| or |g| is 0
    v' = momentum v + lr r (g + weight_decay p)
    step = -v'

    A group with trust_coefficient=0 is not scaled (r = 1): biases and norms are usually put into one, with
    weight_decay=0.
    """

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-1,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("LARS", implementation)
        fractions("LARS", momentum=momentum)
        numbers = {"weight_decay": weight_decay, "trust_coefficient": trust_coefficient, "eps": eps}
        at_least_zero("LARS", **numbers)
        super().__init__(params, lr, {"momentum": momentum, **numbers, "maximize": maximize})

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        decay, trust = group.weight_decay, group.trust_coefficient
        rate = lr
        if trust:
            size, slope = length(param), length(grad)
            ratio = size * trust / (slope + size * decay + group.eps)
            rate = lr * where(logical_and(size > 0, slope > 0), ratio, 1.0)
        v = held["momentum_buffer"] * group.momentum + rate * (grad + param * decay if decay else grad)
        return {"momentum_buffer": v}, -v


class LAMB(Optimizer):
    """Adam's step at the length of the parameter (You et al. 2020, arXiv:1904.00962, algorithm 2, phi(z) = z).

    m', v' as in Adam
    r = (m' / (1 - b1^t)) / (sqrt(v' / (1 - b2^t)) + eps) + weight_decay p
    step = -lr |p| / |r| r, -lr r where |p| or |r| is 0
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("LAMB", implementation)
        at_least_zero("LAMB", eps=eps, weight_decay=weight_decay)
        options = {"betas": betas_within("LAMB", betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, lr, {**options, "maximize": maximize})

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        b1, b2 = group.betas
        m = held["exp_avg"] * b1 + grad * (1 - b1)
        v = held["exp_avg_sq"] * b2 + grad * grad * (1 - b2)
        step = (m / one_minus_power(b1, count)) / (sqrt(v / one_minus_power(b2, count)) + group.eps)
        if group.weight_decay:
            step = step + param * group.weight_decay
        size, change = length(param), length(step)
        both = logical_and(size > 0, change > 0)
        ratio = where(both, size / where(both, change, 1.0), 1.0)
        return {"exp_avg": m, "exp_avg_sq": v}, -(lr * ratio) * step


def length(x: Tensor) -> Tensor:
    """Return the Euclidean norm of all elements."""
    return sqrt((x * x).sum())
