"""Steps of which the gradient says the direction alone: Rprop, Lion."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.tensor import Cell, Tensor
from treadle.tensor.creation import full, zeros
from treadle.tensor.elementwise import clip, sign, where

from .optimizer import Group, Optimizer, Params, Rate, State, state_dtype
from .settings import at_least_zero, betas_within, check_implementation


class Rprop(Optimizer):
    """A step size for each element, larger while the sign stays, smaller when it turns (Riedmiller & Braun 1993).

    d' = d eta_plus where g g_before > 0, d eta_minus where < 0, kept within step_sizes
    step = -d' sign(g), and none where the sign turned; g then counts as 0 in the next step
    """

    slots = ("prev", "step_size")

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Rprop", implementation)
        if not 0 < etas[0] < 1 < etas[1]:
            raise ConfigError(f"Rprop: etas are {etas}. Allowed: one between 0 and 1, one above 1.")
        options = {"etas": tuple(etas), "step_sizes": tuple(step_sizes), "maximize": maximize}
        super().__init__(params, lr, options)

    def first(self, group: Group, parameter: Cell) -> State:
        """Return no gradient, and the learning rate as the first step size."""
        wide = state_dtype(parameter.dtype)
        start = group.first_rate()
        return {"prev": zeros(parameter.shape, dtype=wide), "step_size": full(parameter.shape, start, dtype=wide)}

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        (minus, plus), (least, most) = group.etas, group.step_sizes
        turn = grad * held["prev"]
        size = clip(held["step_size"] * where(turn > 0, plus, where(turn < 0, minus, 1.0)), least, most)
        grad = where(turn < 0, 0.0, grad)
        return {"prev": grad, "step_size": size}, -sign(grad) * size


class Lion(Optimizer):
    """Signs of a momentum, found by a search over programs (Chen et al. 2023, arXiv:2302.06675, algorithm 2).

    c = b1 m + (1 - b1) g
    step = -lr (sign(c) + weight_decay p)
    m' = b2 m + (1 - b2) g
    """

    slots = ("exp_avg",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Lion", implementation)
        at_least_zero("Lion", weight_decay=weight_decay)
        options = {"betas": betas_within("Lion", betas), "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, lr, options)

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        b1, b2 = group.betas
        m = held["exp_avg"]
        step = sign(m * b1 + grad * (1 - b1))
        if group.weight_decay:
            step = step + param * group.weight_decay
        return {"exp_avg": m * b2 + grad * (1 - b2)}, -lr * step
