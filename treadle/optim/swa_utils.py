"""Averages of weights along the way: a copy of a model that holds their mean, or a moving one; the rate for it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, Self, runtime_checkable

from treadle.core import ConfigError, int64
from treadle.tensor import Cell, Tensor, set_grad_enabled
from treadle.tensor.creation import asarray, zeros
from treadle.tensor.elementwise import equal, where

from .lr_scheduler import LRScheduler
from .optimizer import Optimizer, state_dtype

# From the average, the model's value and the number of values averaged before to the new average.
Average = Callable[[Tensor, Tensor, Tensor], Tensor]
STRATEGIES = ("cos", "linear")


class Model(Protocol):
    """What is asked of a model: cells to average, and that it can be called."""

    def parameters(self) -> Iterable[Cell]:
        """Return the parameters."""
        ...

    def buffers(self) -> Iterable[Cell]:
        """Return the buffers."""
        ...

    def modules(self) -> Iterable[Any]:
        """Return the modules it is made of."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Set it to training, or to inference."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the model's result."""
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return the values by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Set the values by name."""
        ...


def get_swa_avg_fn() -> Average:
    """Return the mean of all values: avg + (p - avg) / (n + 1) (Izmailov et al. 2018, arXiv:1803.05407)."""
    return lambda average, value, count: average + (value - average) / (count + 1)


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """Return the moving average decay avg + (1 - decay) p."""
    if not 0 <= decay <= 1:
        raise ConfigError(f"get_ema_avg_fn: decay is {decay}. Allowed: 0 to 1.")
    return lambda average, value, count: average * decay + value * (1 - decay)


@runtime_checkable
class Averaging(Protocol):
    """A module with statistics of batches that may be plain means for a while: batch normalisation."""

    def averaging(self) -> AbstractContextManager[None]:
        """Forget the statistics; within a `with` block, let them be plain means over its batches."""
        ...


class AveragedModel:
    """A copy of a model whose parameters are averages of the model's; the copy is `.module`.

    `update_parameters(model)` takes the present ones in: the first time as they are. It may stand in a compiled step.

    Args:
        model: what is copied.
        avg_fn: (average, value, number averaged) to the new average; the mean of all when None.
        use_buffers: average the buffers that are floats, too; otherwise buffers are copied.
    """

    def __init__(self, model: Model, avg_fn: Average | None = None, use_buffers: bool = False) -> None:
        self.module = copy.deepcopy(model)
        self.avg_fn = get_swa_avg_fn() if avg_fn is None else avg_fn
        self.use_buffers = use_buffers
        self.n_averaged = Cell(zeros((), dtype=int64))
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of the copy."""
        return self.module(*args, **kwargs)

    def parameters(self) -> Iterable[Cell]:
        """Return the averages."""
        return self.module.parameters()

    def buffers(self) -> Iterable[Cell]:
        """Return the buffers of the copy."""
        return self.module.buffers()

    def modules(self) -> Iterable[Any]:
        """Return the modules of the copy."""
        return self.module.modules()

    def train(self, mode: bool = True) -> Self:
        """Set the copy to training, or to inference; return the averaged model."""
        self.module.train(mode)
        return self

    def eval(self) -> Self:
        """Set the copy to inference; return the averaged model."""
        return self.train(False)

    def update_parameters(self, model: Model) -> None:
        """Take the model's parameters into the averages."""
        with set_grad_enabled(False):
            count = self.n_averaged.read()
            for average, cell in zip(self.module.parameters(), model.parameters(), strict=True):
                self._update(average, cell, count)
            for average, cell in zip(self.module.buffers(), model.buffers(), strict=True):
                if self.use_buffers and cell.dtype.is_float:
                    self._update(average, cell, count)
                else:
                    average.value = cell.read().detach()
            self.n_averaged.value = count + 1

    def _update(self, average: Cell, cell: Cell, count: Tensor) -> None:
        wide = state_dtype(cell.dtype)
        old, value = average.read().astype(wide), cell.read().detach().astype(wide)
        new = self.avg_fn(old, value, count.astype(wide))
        average.value = where(equal(count, 0), value, new).astype(average.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages as `module.NAME`, and `n_averaged`."""
        held = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        return {"n_averaged": self.n_averaged.value, **held}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        rest = dict(state_dict)
        count = rest.pop("n_averaged", 0)
        self.module.load_state_dict({name.removeprefix("module."): value for name, value in rest.items()})
        self.n_averaged.value = asarray(count).astype(int64).reshape(())


class EMA(AveragedModel):
    """An AveragedModel of moving averages, decay avg + (1 - decay) p; buffers are copied."""

    def __init__(self, model: Model, decay: float = 0.999, use_buffers: bool = False) -> None:
        super().__init__(model, get_ema_avg_fn(decay), use_buffers)


def update_bn(loader: Iterable[Any], model: Model) -> None:
    """Set the statistics of a model's batch normalisations to their means over the batches of a loader.

    An averaged model needs that once, before it is used: its weights were never run (Izmailov et al. 2018).

    Args:
        loader: batches, as the model takes them; of a tuple or list the first element.
        model: whose statistics are set; it is run in training, without gradients, and stays in the mode that it is in.
    """
    modules = list(model.modules())
    norms = [module for module in modules if isinstance(module, Averaging)]
    if not norms:
        return
    modes = [(module, module.training) for module in modules]
    with set_grad_enabled(False), ExitStack() as stack:
        for norm in norms:
            stack.enter_context(norm.averaging())
        model.train()
        for batch in loader:
            model(batch[0] if isinstance(batch, tuple | list) else batch)  # pyright: ignore[reportUnknownArgumentType]
    for module, mode in modes:
        module.training = mode


class SWALR(LRScheduler):
    """From the rate the groups have to `swa_lr` within `anneal_epochs`, which then stays (arXiv:1803.05407).

    Args:
        optimizer: whose rates are set.
        swa_lr: the rate at the end, or one for each group.
        anneal_epochs: how long it takes.
        anneal_strategy: "cos" or "linear".
        last_epoch: as in every scheduler.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        if anneal_strategy not in STRATEGIES:
            raise ConfigError(f"SWALR: anneal_strategy is {anneal_strategy!r}. Allowed: {', '.join(STRATEGIES)}.")
        if anneal_epochs < 0:
            raise ConfigError(f"SWALR: anneal_epochs is {anneal_epochs}. It must be at least 0.")
        self.optimizer = optimizer
        self.swa_lrs: list[float] = self.per_group("swa_lr", swa_lr)
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        super().__init__(optimizer, last_epoch)

    def following(self, index: int, lr: float, base: float) -> float:
        """Return a mean of the rate that there would be without annealing and the last one."""
        step = self.last_epoch if self.anneal_epochs else max(1, self.last_epoch)
        before, now = self._share(step - 1), self._share(step)
        goal = self.swa_lrs[index]
        plain = goal if before == 1 else (lr - before * goal) / (1 - before)
        return goal * now + plain * (1 - now)

    def _share(self, step: int) -> float:
        share = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return share if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2
