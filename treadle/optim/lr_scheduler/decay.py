"""Rates times a factor: by a function of the epoch, in steps, along a line, a power, an exponential."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from treadle.core import ConfigError
from treadle.optim.optimizer import Optimizer

from .scheduler import LRScheduler, at_least

Factor = Callable[[int], float]


class LambdaLR(LRScheduler):
    """base lr_lambda(epoch); one function, or one for each group."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.lr_lambdas: list[Factor] = self.per_group("lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the first rate times the function."""
        return base * self.lr_lambdas[index](self.last_epoch)


class MultiplicativeLR(LRScheduler):
    """The rate before times lr_lambda(epoch); one function, or one for each group."""

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | list[Factor], last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.lr_lambdas: list[Factor] = self.per_group("lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate times the function."""
        return lr * self.lr_lambdas[index](self.last_epoch) if self.last_epoch > 0 else lr


class StepLR(LRScheduler):
    """The rate times gamma after every `step_size` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        at_least("StepLR", 1, step_size=step_size)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate, times gamma at a multiple of the step size."""
        return lr if self.last_epoch == 0 or self.last_epoch % self.step_size else lr * self.gamma

    def closed(self, index: int, base: float) -> float:
        """Return the first rate times a power of gamma."""
        return base * self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """The rate times gamma at every milestone; twice where a milestone stands twice."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate, times gamma at a milestone."""
        return lr * self.gamma ** self.milestones[self.last_epoch]

    def closed(self, index: int, base: float) -> float:
        """Return the first rate times a power of gamma."""
        return base * self.gamma ** sum(n for at, n in self.milestones.items() if at <= self.last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return all numbers; milestones as a plain dict."""
        return {**super().state_dict(), "milestones": dict(self.milestones)}

    def load_state_dict(self, state_dict: Any) -> None:
        """Go on from what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self.milestones = Counter({int(at): int(n) for at, n in state_dict["milestones"].items()})


class ConstantLR(LRScheduler):
    """The rate times `factor` until epoch `total_iters`."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        _share("ConstantLR", factor=factor)
        if factor == 0:
            raise ConfigError("ConstantLR: factor is 0, from which no rate returns. Allowed: above 0, to 1.")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate, times the factor at first and over it at the end."""
        if self.last_epoch == 0:
            return lr * self.factor
        return lr * (1.0 / self.factor) if self.last_epoch == self.total_iters else lr

    def closed(self, index: int, base: float) -> float:
        """Return the first rate, times the factor before the end."""
        return base * (self.factor + (self.last_epoch >= self.total_iters) * (1 - self.factor))


class LinearLR(LRScheduler):
    """The rate times a factor that goes from start_factor to end_factor in `total_iters` epochs: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        _share("LinearLR", start_factor=start_factor, end_factor=end_factor)
        if start_factor == 0:
            raise ConfigError("LinearLR: start_factor is 0, from which no rate returns. Allowed: above 0, to 1.")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate times the quotient of two factors."""
        if self.last_epoch == 0:
            return lr * self.start_factor
        if self.last_epoch > self.total_iters:
            return lr
        rise = self.end_factor - self.start_factor
        return lr * (1.0 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))

    def closed(self, index: int, base: float) -> float:
        """Return the first rate times the factor."""
        done = min(self.total_iters, self.last_epoch) / self.total_iters if self.total_iters else 1.0
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class ExponentialLR(LRScheduler):
    """The rate times gamma after every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate times gamma."""
        return lr * self.gamma if self.last_epoch > 0 else lr

    def closed(self, index: int, base: float) -> float:
        """Return the first rate times a power of gamma."""
        return base * self.gamma**self.last_epoch


class PolynomialLR(LRScheduler):
    """base (1 - epoch / total_iters)^power, 0 from there on."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        at_least("PolynomialLR", 1, total_iters=total_iters)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate times the quotient of two powers."""
        if self.last_epoch == 0 or self.last_epoch > self.total_iters:
            return lr
        now, before = (1.0 - (self.last_epoch - k) / self.total_iters for k in (0, 1))
        return lr * (now / before) ** self.power

    def closed(self, index: int, base: float) -> float:
        """Return the first rate times the power."""
        return base * (1.0 - min(self.total_iters, self.last_epoch) / self.total_iters) ** self.power


def _share(what: str, **settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{what}: {name} is {value}. Allowed: 0 to 1.")
