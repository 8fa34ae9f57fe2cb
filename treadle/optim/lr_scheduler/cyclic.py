"""Rates up and down again, with momentum going the other way: one cycle, or many (Smith 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable

from treadle.core import ConfigError
from treadle.optim.optimizer import Group, Optimizer

from .scheduler import LRScheduler, at_least

ANNEALING = ("cos", "linear")
MODES = ("triangular", "triangular2", "exp_range")


class _WithMomentum(LRScheduler):
    """Sets the momentum, or the first beta, beside the rate."""

    cycle_momentum: bool

    def has_momentum(self, name: str) -> None:
        """Raise ConfigError unless the optimiser has a momentum to cycle."""
        for group in self.optimizer.param_groups:
            if "momentum" not in group and "betas" not in group:
                raise ConfigError(
                    f"{name}: {type(self.optimizer).__name__} has no momentum and no betas. Pass cycle_momentum=False."
                )

    def set_momentum(self, values: list[float]) -> None:
        """Give every group its momentum, as a cell, so that a compiled step stays."""
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group.vary(_momentum_of(group), value)
        self.optimizer.complete_state()

    def momenta(self) -> list[float]:
        """Return the momentum of each group at `last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__}.momenta is not defined.")

    def get_lr(self) -> list[float]:
        """Return the rates at `last_epoch`, and set the momentum beside them."""
        if self.cycle_momentum:
            self.set_momentum(self.momenta())
        return super().get_lr()


class OneCycleLR(_WithMomentum):
    """Up from max_lr / div_factor to max_lr and down to that over final_div_factor (Smith & Topin 2019, 1708.07120).

    Args:
        optimizer: whose rates are set.
        max_lr: the highest rate, or one for each group.
        total_steps: of the whole cycle; or else
        epochs: and
        steps_per_epoch: whose product it is.
        pct_start: share of the cycle that goes up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: let momentum (or the first beta) go from max_momentum to base_momentum and back.
        base_momentum: the least, at the highest rate; or one for each group.
        max_momentum: the largest; or one for each group.
        div_factor: of the first rate.
        final_div_factor: of the last rate, below the first.
        three_phase: go down as long as up, and then to the last rate; otherwise down in one.
        last_epoch: as in every scheduler.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ConfigError(
                    "OneCycleLR: the length is not known. Give total_steps, or epochs and steps_per_epoch."
                )
            at_least("OneCycleLR", 1, epochs=epochs, steps_per_epoch=steps_per_epoch)
            total_steps = epochs * steps_per_epoch
        at_least("OneCycleLR", 1, total_steps=total_steps)
        if not 0 <= pct_start <= 1:
            raise ConfigError(f"OneCycleLR: pct_start is {pct_start}. Allowed: 0 to 1.")
        if anneal_strategy not in ANNEALING:
            raise ConfigError(f"OneCycleLR: anneal_strategy is {anneal_strategy!r}. Allowed: {', '.join(ANNEALING)}.")
        self.optimizer = optimizer
        self.total_steps, self.anneal_strategy, self.cycle_momentum = total_steps, anneal_strategy, cycle_momentum
        self.max_lrs: list[float] = self.per_group("max_lr", max_lr)
        self.first_lrs = [most / div_factor for most in self.max_lrs]
        self.last_lrs = [first / final_div_factor for first in self.first_lrs]
        self.base_momenta: list[float] = self.per_group("base_momentum", base_momentum)
        self.max_momenta: list[float] = self.per_group("max_momentum", max_momentum)
        top = float(pct_start * total_steps) - 1
        # Phases: the last step, and where rate and momentum come from and go (0 first, 1 highest, 2 last).
        down = [(2 * top, 1, 0), (total_steps - 1.0, 0, 2)] if three_phase else [(total_steps - 1.0, 1, 2)]
        self.phases = [(top, 0, 1), *down]
        if cycle_momentum:
            self.has_momentum("OneCycleLR")
        if last_epoch == -1:
            for group, first in zip(optimizer.param_groups, self.first_lrs, strict=True):
                group.initial_lr = first
        super().__init__(optimizer, last_epoch)

    def _at(self, values: tuple[float, float, float]) -> float:
        """Return where a quantity stands, given its values at first, at the highest rate and at last."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ConfigError(
                f"OneCycleLR: step {step} was asked for; the cycle has {self.total_steps}. Make it longer."
            )
        start = 0.0
        for i, (end, source, target) in enumerate(self.phases):
            if step <= end or i == len(self.phases) - 1:
                share = (step - start) / (end - start)
                return self._between(values[source], values[target], share)
            start = end
        raise AssertionError("a cycle has phases")

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate at this point of the cycle."""
        return self._at((self.first_lrs[index], self.max_lrs[index], self.last_lrs[index]))

    def momenta(self) -> list[float]:
        """Return the momentum at this point of the cycle."""
        return [self._at((most, least, most)) for least, most in zip(self.base_momenta, self.max_momenta, strict=True)]


class CyclicLR(_WithMomentum):
    """Triangles between base_lr and max_lr (Smith 2017, arXiv:1506.01186); momentum in triangles the other way round.

    Args:
        optimizer: whose rates are set.
        base_lr: the least rate, or one for each group.
        max_lr: the highest rate, or one for each group.
        step_size_up: steps of a rising side.
        step_size_down: steps of a falling side; as many when None.
        mode: "triangular"; "triangular2", half as high each time; "exp_range", gamma^step as high.
        gamma: of "exp_range".
        scale_fn: the height instead, as a function of the cycle's number or of the step.
        scale_mode: which of them: "cycle" or "iterations".
        cycle_momentum: whether to set momentum (or the first beta).
        base_momentum: the least, at the highest rate; or one for each group.
        max_momentum: the largest; or one for each group.
        last_epoch: as in every scheduler.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if mode not in MODES and scale_fn is None:
            raise ConfigError(f"CyclicLR: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
        at_least("CyclicLR", 1, step_size_up=step_size_up)
        down = step_size_up if step_size_down is None else step_size_down
        self.optimizer = optimizer
        self.total_size = float(step_size_up + down)
        self.step_ratio = step_size_up / self.total_size
        self.max_lrs: list[float] = self.per_group("max_lr", max_lr)
        self.mode, self.gamma, self.cycle_momentum = mode, gamma, cycle_momentum
        self.scale_fn = scale_fn
        self.by_cycle = scale_mode == "cycle" if scale_fn is not None else mode != "exp_range"
        self.base_momenta: list[float] = self.per_group("base_momentum", base_momentum)
        self.max_momenta: list[float] = self.per_group("max_momentum", max_momentum)
        if cycle_momentum:
            self.has_momentum("CyclicLR")
        least: list[float] = self.per_group("base_lr", base_lr)
        if last_epoch == -1:
            for group, value in zip(optimizer.param_groups, least, strict=True):
                group.lr = value
                if group.initial_lr is None:
                    group.initial_lr = value
        self._least = least
        super().__init__(optimizer, last_epoch)
        self.base_lrs = least

    def _height(self) -> float:
        """Return how far up it stands, 0 to 1, times the height of this triangle."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        share = 1.0 + self.last_epoch / self.total_size - cycle
        up = share / self.step_ratio if share <= self.step_ratio else (share - 1) / (self.step_ratio - 1)
        at = cycle if self.by_cycle else self.last_epoch
        if self.scale_fn is not None:
            return up * self.scale_fn(at)
        return up * {"triangular": 1.0, "triangular2": 1 / 2.0 ** (at - 1), "exp_range": self.gamma**at}[self.mode]

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate at this point of the triangle."""
        return self._least[index] + (self.max_lrs[index] - self._least[index]) * self._height()

    def momenta(self) -> list[float]:
        """Return the momentum at this point of the triangle."""
        height = self._height()
        return [most - (most - least) * height for least, most in zip(self.base_momenta, self.max_momenta, strict=True)]


def _momentum_of(group: Group) -> str:
    return "betas" if "betas" in group else "momentum"
