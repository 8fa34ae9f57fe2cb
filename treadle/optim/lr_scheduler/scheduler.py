"""The base of learning-rate schedulers: each step sets the rates of an optimiser's groups.

As in PyTorch a rate follows from the one before it, so that several schedulers can act on one optimiser. Rates are
cells: a new one compiles nothing. A step is Python outside of compiled functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from treadle.core import CheckpointError, ConfigError, TraceError
from treadle.optim.optimizer import Optimizer
from treadle.tensor import state
from treadle.tensor.promotion import is_sequence


class LRScheduler:
    """Base of schedulers. A subclass says how a rate follows from the one before, and from the first one.

    Making one sets the rates of step 0; `step()` is called after each epoch, or after each step of the optimiser.
    `last_epoch` is its number, which may be set to go on from there; rates then start from what the optimiser's state
    says they were at 0.
    """

    kept_out: tuple[str, ...] = ("optimizer",)  # attributes that are no part of the state dict

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        given: Any = optimizer
        if not isinstance(given, Optimizer):
            raise ConfigError(f"{name}: a {type(given).__name__} is no optimiser. Give one of treadle.optim.")
        for i, group in enumerate(optimizer.param_groups):
            if callable(group.lr):
                raise ConfigError(
                    f"{name}: the rate of group {i} is a function of the step already. Give a number to the optimiser."
                )
            if last_epoch == -1 and group.initial_lr is None:
                group.initial_lr = group.lr
            if group.initial_lr is None:
                raise ConfigError(
                    f"{name}: last_epoch is {last_epoch}, and group {i} has no initial_lr to go on from. Load the "
                    "optimiser's state first, or leave last_epoch at -1."
                )
        self.optimizer = optimizer
        self.base_lrs = [float(group.initial_lr or 0.0) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.begin()

    def begin(self) -> None:
        """Set the rates of the first step."""
        self.last_epoch += 1
        self.set_rates(self.get_lr())

    def following(self, index: int, lr: float, base: float) -> float:
        """Return the rate of a group at `last_epoch`, given the one before it and the one at the start."""
        raise NotImplementedError(f"{type(self).__name__}.following is not defined.")

    def closed(self, index: int, base: float) -> float | None:
        """Return the rate of a group at `last_epoch` from that at the start alone; None where there is no such form."""
        return None

    def get_lr(self) -> list[float]:
        """Return the rates at `last_epoch`, given those that the groups have."""
        groups = self.optimizer.param_groups
        return [
            self.following(i, float(g.lr), base) for i, (g, base) in enumerate(zip(groups, self.base_lrs, strict=True))
        ]

    def step(self, epoch: Any = None) -> None:
        """Set the rates of the next epoch, or of the one given."""
        self.outside_of_a_trace()
        if epoch is None:
            self.last_epoch += 1
            self.set_rates(self.get_lr())
            return
        self.last_epoch = epoch
        rates = [self.closed(i, base) for i, base in enumerate(self.base_lrs)]
        known = [rate for rate in rates if rate is not None]
        self.set_rates(known if len(known) == len(rates) else self.get_lr())

    def outside_of_a_trace(self) -> None:
        """Raise TraceError inside a function that is being compiled, where a step would be taken once."""
        if state.trace is not None:
            raise TraceError(
                f"{type(self).__name__}: step() was called inside a compiled function, which would take it once, when "
                "compiling. Call it after the compiled step, or give the optimiser a schedule of treadle.optim as lr."
            )

    def set_rates(self, rates: Sequence[float]) -> None:
        """Give every group its rate."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group.lr = rate

    def get_last_lr(self) -> list[float]:
        """Return the rates that the groups have now."""
        return [float(group.lr) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return all numbers of the scheduler; the optimiser and functions are not among them."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in self.kept_out and not callable(value) and not _holds_functions(value)
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned. The optimiser's rates are in its own state."""
        unknown = [name for name in self.state_dict() if name not in state_dict]
        if unknown:
            raise CheckpointError(f"{type(self).__name__}: the state has no {unknown}, only {list(state_dict)}.")
        for name in self.state_dict():
            setattr(self, name, state_dict[name])

    def per_group(self, name: str, value: Any) -> list[Any]:
        """Return a setting that is given once, or for each group, as a list."""
        count = len(self.optimizer.param_groups)
        if not is_sequence(value):
            return [value] * count
        values = list(value)
        if len(values) != count:
            raise ConfigError(
                f"{type(self).__name__}: {name} has {len(values)} values for {count} groups. Give one, or one for each."
            )
        return values


def _holds_functions(value: Any) -> bool:
    return is_sequence(value) and any(callable(item) for item in value)


def at_least(what: str, low: float, **settings: float) -> None:
    """Raise ConfigError for a setting below a limit."""
    for name, value in settings.items():
        if not value >= low:
            raise ConfigError(f"{what}: {name} is {value}. It must be at least {low}.")
