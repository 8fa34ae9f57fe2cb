"""Rates along half a wave of the cosine, once or again and again (Loshchilov & Hutter 2017, arXiv:1608.03983)."""

from __future__ import annotations

import math

from treadle.core import ConfigError
from treadle.optim.optimizer import Optimizer

from .scheduler import LRScheduler, at_least


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) (1 + cos(pi epoch / T_max)) / 2; it rises again after T_max."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        at_least("CosineAnnealingLR", 1, T_max=T_max)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate times the quotient of two heights; a step up from the lowest, where that is 0 / 0."""
        if self.last_epoch == 0:
            return lr
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:
            return lr + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        now, before = (1 + math.cos(math.pi * (self.last_epoch - k) / self.T_max) for k in (0, 1))
        return now / before * (lr - self.eta_min) + self.eta_min

    def closed(self, index: int, base: float) -> float:
        """Return the height of the wave."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half waves from the first rate to eta_min of T_0, T_0 T_mult, T_0 T_mult^2, ... epochs.

    `step(epoch)` takes fractions of an epoch, too.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        at_least("CosineAnnealingWarmRestarts", 1, T_0=T_0, T_mult=T_mult)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        self.T_i: int = T_0  # length of this wave
        self.T_cur: float = last_epoch  # where it stands
        super().__init__(optimizer, last_epoch)

    def begin(self) -> None:
        """Set the rates of the first step."""
        self.step()

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the height of this wave."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2

    def step(self, epoch: float | None = None) -> None:
        """Set the rates of the next epoch, or of the one given, which may be a fraction."""
        self.outside_of_a_trace()
        at = self.last_epoch + 1.0 if epoch is None else float(epoch)
        if at < 0:
            raise ConfigError(f"CosineAnnealingWarmRestarts: epoch is {epoch}. It must be at least 0.")
        if epoch is None:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur -= self.T_i
                self.T_i *= self.T_mult
        else:
            self.T_cur, self.T_i = self._within(at)
        self.last_epoch = math.floor(at)
        self.set_rates(self.get_lr())

    def _within(self, epoch: float) -> tuple[float, int]:
        """Return where an epoch stands in its wave, and the length of that."""
        length = self.T_0
        if self.T_mult == 1:
            return epoch % length, length
        while epoch >= length:
            epoch -= length
            length *= self.T_mult
        return epoch, length
