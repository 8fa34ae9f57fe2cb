"""Averaged stochastic gradient descent."""

from __future__ import annotations

from treadle.core import float32
from treadle.tensor import Cell, Tensor
from treadle.tensor.creation import full, ones, zeros
from treadle.tensor.elementwise import equal, maximum, where

from .optimizer import Group, Optimizer, Params, Rate, State, decayed, state_dtype
from .settings import at_least_zero, check_implementation


class ASGD(Optimizer):
    """SGD that also keeps the mean of its parameters in the state `ax` (Polyak & Juditsky 1992; Bottou 2012).

    p' = p (1 - lambd eta) - eta g
    ax' = ax + mu (p' - ax)
    eta' = lr / (1 + lambd lr t)^alpha,  mu' = 1 / max(1, t - t0)
    """

    slots = ("ax",)
    shared = ("eta", "mu")

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("ASGD", implementation)
        at_least_zero("ASGD", weight_decay=weight_decay)
        options = {"lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, lr, options)

    def first(self, group: Group, parameter: Cell) -> State:
        """Return zeros: the first step puts the parameter in their place."""
        return {"ax": zeros(parameter.shape, dtype=state_dtype(parameter.dtype))}

    def first_shared(self, group: Group) -> State:
        """Return the learning rate, and 1: the mean starts at the parameter."""
        return {"eta": full((), group.first_rate(), dtype=float32), "mu": ones((), dtype=float32)}

    def next_shared(self, group: Group, lr: Tensor, count: Tensor, shared: State) -> State:
        """Return eta' and mu' of the equations above."""
        eta = lr / (count * (lr * group.lambd) + 1.0) ** group.alpha
        return {"eta": eta, "mu": 1.0 / maximum(count - group.t0, 1.0)}

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        eta, mu = held["eta"], held["mu"]
        change = -(eta * group.lambd) * param - eta * decayed(group, param, grad)
        new = param + change
        ax = where(equal(mu, 1.0), new, held["ax"] + (new - held["ax"]) * mu)
        return {"ax": ax}, change
