"""A rate that falls when a number, mostly the validation loss, no longer improves."""

from __future__ import annotations

import math
from typing import Any

from treadle.core import ConfigError
from treadle.optim.optimizer import Optimizer

from .scheduler import LRScheduler

MODES = ("min", "max")
THRESHOLD_MODES = ("rel", "abs")


class ReduceLROnPlateau(LRScheduler):
    """The rate times `factor` after more than `patience` epochs without a better value.

    Args:
        optimizer: whose rates are set.
        mode: whether "min" or "max" is better.
        factor: below 1.
        patience: epochs to wait for a better value.
        threshold: by how much a value must be better to count.
        threshold_mode: as a share of the best ("rel") or as it is ("abs").
        cooldown: epochs after a reduction in which none is counted.
        min_lr: the least rate, or one for each group.
        eps: a reduction by less than this is left out.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if not factor < 1:
            raise ConfigError(f"ReduceLROnPlateau: factor is {factor}. It must be below 1.")
        for name, value, allowed in (("mode", mode, MODES), ("threshold_mode", threshold_mode, THRESHOLD_MODES)):
            if value not in allowed:
                raise ConfigError(f"ReduceLROnPlateau: {name} is {value!r}. Allowed: {', '.join(allowed)}.")
        self.optimizer = optimizer
        self.min_lrs: list[float] = self.per_group("min_lr", min_lr)
        self.mode, self.factor, self.patience = mode, factor, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.cooldown, self.eps = cooldown, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        super().__init__(optimizer)

    def begin(self) -> None:
        """Leave the rates as they are."""
        self.last_epoch = 0

    def step(self, metrics: Any = None, epoch: int | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take note of the value of an epoch, and reduce the rates when it is time."""
        self.outside_of_a_trace()
        if metrics is None:
            raise ConfigError("ReduceLROnPlateau: step() was given no value. Pass the number that is to improve.")
        value = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def is_better(self, value: float) -> bool:
        """Whether a value is better than the best by the threshold."""
        sign = 1.0 if self.mode == "min" else -1.0
        change = self.threshold * (self.best if self.threshold_mode == "rel" else 1.0)
        if math.isinf(self.best):
            return sign * value < sign * self.best
        return sign * value < sign * (self.best - sign * change)

    def _reduce(self) -> None:
        for group, least in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
            old = float(group.lr)
            new = max(old * self.factor, least)
            if old - new > self.eps:
                group.lr = new
