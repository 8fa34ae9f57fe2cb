"""Adam's relatives: the largest gradient in place of a mean square, Nesterov's momentum, a rectified start."""

from __future__ import annotations

import math

from treadle.core import float32, float64
from treadle.tensor import Tensor
from treadle.tensor.creation import ones
from treadle.tensor.elementwise import abs, clip, exp, maximum, sqrt, where

from .adam import one_minus_power
from .optimizer import Group, Optimizer, Params, Rate, State, decayed
from .settings import at_least_zero, betas_within, check_implementation


class Adamax(Optimizer):
    """Adam with an infinity norm (Kingma & Ba 2015, arXiv:1412.6980, section 7.1).

    m' = b1 m + (1 - b1) g
    u' = max(b2 u, |g| + eps)
    step = -lr / (1 - b1^t) m' / u'
    """

    slots = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: Params,
        lr: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("Adamax", implementation)
        at_least_zero("Adamax", eps=eps, weight_decay=weight_decay)
        options = {"betas": betas_within("Adamax", betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, lr, {**options, "maximize": maximize})

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        b1, b2 = group.betas
        grad = decayed(group, param, grad)
        m = held["exp_avg"] * b1 + grad * (1 - b1)
        u = maximum(held["exp_inf"] * b2, abs(grad) + group.eps)
        return {"exp_avg": m, "exp_inf": u}, -(lr / one_minus_power(b1, count)) * (m / u)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum (Dozat 2016, "Incorporating Nesterov momentum into Adam").

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2),  M_t = mu_1 ... mu_t
    m', v' as in Adam
    step = -lr (mu_(t+1) m' / (1 - M_(t+1)) + (1 - mu_t) g / (1 - M_t)) / (sqrt(v' / (1 - b2^t)) + eps)
    """

    slots = ("exp_avg", "exp_avg_sq")
    shared = ("mu_product",)

    def __init__(
        self,
        params: Params,
        lr: Rate = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("NAdam", implementation)
        at_least_zero("NAdam", eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
        options = {
            "betas": betas_within("NAdam", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, lr, options)

    def first_shared(self, group: Group) -> State:
        """Return the empty product."""
        return {"mu_product": ones((), dtype=float32)}

    def next_shared(self, group: Group, lr: Tensor, count: Tensor, shared: State) -> State:
        """Return the product with one more factor."""
        return {"mu_product": shared["mu_product"] * _momentum(group, count)}

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        b1, b2 = group.betas
        aside = group.decoupled_weight_decay and group.weight_decay
        if not aside:
            grad = decayed(group, param, grad)
        mu, mu_next = _momentum(group, count), _momentum(group, count + 1)
        product = held["mu_product"] * mu
        m = held["exp_avg"] * b1 + grad * (1 - b1)
        v = held["exp_avg_sq"] * b2 + grad * grad * (1 - b2)
        root = sqrt(v / one_minus_power(b2, count)) + group.eps
        # Scalars are gathered first, so they cost nothing.
        ahead, now = lr * mu_next / (1 - product * mu_next), lr * (1 - mu) / (1 - product)
        change = -(ahead * (m / root) + now * (grad / root))
        if aside:
            # The steps are added to the decayed parameter.
            change = change - lr * group.weight_decay * param
        return {"exp_avg": m, "exp_avg_sq": v}, change


def _momentum(group: Group, count: Tensor) -> Tensor:
    b1 = group.betas[0]
    return (1.0 - exp(count * (group.momentum_decay * math.log(0.96))) * 0.5) * b1


class RAdam(Optimizer):
    """Adam whose first steps do not divide by a variance known too little (Liu et al. 2020, arXiv:1908.03265).

    m', v' as in Adam;  R = 2 / (1 - b2) - 1,  r = R - 2 t b2^t / (1 - b2^t)
    step = -lr m' / (1 - b1^t) s,  s = 1 where r <= 5, else
    s = sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r)) sqrt(1 - b2^t) / (sqrt(v') + eps)
    """

    slots = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Params,
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **implementation: bool | None,
    ) -> None:
        check_implementation("RAdam", implementation)
        at_least_zero("RAdam", eps=eps, weight_decay=weight_decay)
        options = {
            "betas": betas_within("RAdam", betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, lr, options)

    def update(
        self, group: Group, lr: Tensor, count: Tensor, param: Tensor, grad: Tensor, held: State
    ) -> tuple[State, Tensor]:
        """Return the state and the step of the equations above."""
        b1, b2 = group.betas
        aside = group.decoupled_weight_decay and group.weight_decay
        if not aside:
            grad = decayed(group, param, grad)
        m = held["exp_avg"] * b1 + grad * (1 - b1)
        v = held["exp_avg_sq"] * b2 + grad * grad * (1 - b2)
        # In float64: r is the small difference of two large numbers. Scalars, so it costs nothing.
        t = count.astype(float64)
        missing = one_minus_power(b2, t)
        most = 2 / (1 - b2) - 1
        length = most - t * 2 * (1 - missing) / missing
        known = length > 5
        safe = clip(length, 5.0)
        rectified = sqrt((safe - 4) * (safe - 2) * most / ((most - 4) * (most - 2) * safe)) * sqrt(missing)
        step_size = lr / one_minus_power(b1, count)
        scaled = m / (sqrt(v) + group.eps) * rectified.astype(m.dtype)
        change = -step_size * where(known, scaled, m)
        if aside:
            change = change - lr * group.weight_decay * param
        return {"exp_avg": m, "exp_avg_sq": v}, change
