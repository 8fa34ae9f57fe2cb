"""Several schedulers on one optimiser: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.core import ConfigError
from treadle.optim.optimizer import Optimizer

from .scheduler import LRScheduler


class _Combined(LRScheduler):
    """Has schedulers, whose states are part of its own."""

    schedulers: list[LRScheduler]
    kept_out = ("optimizer", "schedulers", "base_lrs")

    def _check(self, name: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None) -> Optimizer:
        if not schedulers:
            raise ConfigError(f"{name}: there are no schedulers. Give at least one.")
        first = schedulers[0].optimizer if optimizer is None else optimizer
        for i, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not first:
                raise ConfigError(f"{name}: scheduler {i} belongs to another optimiser. Make all of them for one.")
        return first

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the schedulers, and where they stand."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        for scheduler, held in zip(self.schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(held)
        for name in super().state_dict():
            setattr(self, name, state_dict[name])


class SequentialLR(_Combined):
    """One scheduler after the other; the next takes over, from its epoch 0, at each milestone."""

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self.optimizer = self._check("SequentialLR", schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ConfigError(
                f"SequentialLR: {len(schedulers)} schedulers have {len(milestones)} milestones. Give one less."
            )
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        self.last_epoch = last_epoch + 1
        # Each has set the rates of its own start; only the first one's count.
        self.set_rates([float(group.initial_lr or 0.0) for group in optimizer.param_groups])
        for scheduler in self.schedulers:
            scheduler.last_epoch -= 1
        self.schedulers[0].begin()

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of the next epoch."""
        self.outside_of_a_trace()
        if epoch is not None:
            raise ConfigError("SequentialLR: step() takes no epoch. Leave it out.")
        self.last_epoch += 1
        index = bisect_right(self.milestones, self.last_epoch)
        starts = index > 0 and self.milestones[index - 1] == self.last_epoch
        self.schedulers[index].step(0 if starts else None)


class ChainedScheduler(_Combined):
    """All schedulers in each step, each going on from the rate that the one before it set."""

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self.optimizer = self._check("ChainedScheduler", schedulers, optimizer)
        self.schedulers = list(schedulers)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of the next epoch."""
        self.outside_of_a_trace()
        if epoch is not None:
            raise ConfigError("ChainedScheduler: step() takes no epoch. Leave it out.")
        for scheduler in self.schedulers:
            scheduler.step()
