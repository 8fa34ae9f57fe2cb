"""The base of metrics: sums that grow batch by batch and shard by shard, and the number computed from them at the end.

State is arrays by name in at least 64 bits, so it can be saved, sent and added up; a metric of shards is that of all
examples, never a mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from treadle.core import CheckpointError, ConfigError, DataError
from treadle.tensor import Value

Array = np.ndarray[Any, Any]
State = dict[str, Array]
Data = Any  # what metrics take: tensors, parameters, NumPy arrays, nested lists of numbers


class Metric:
    """Base of metrics. A subclass says the state it starts from, how examples add to it, and what follows from it."""

    state: State

    def __init__(self) -> None:
        self.reset()

    def start(self) -> State:
        """Return the state before the first example."""
        raise NotImplementedError(f"{type(self).__name__}.start is not defined.")

    def update(self, *args: Any, **kwargs: Any) -> Self:
        """Add examples; returns the metric."""
        raise NotImplementedError(f"{type(self).__name__}.update is not defined.")

    def compute(self) -> Any:
        """Return the metric of all examples so far; NaN where it is not defined."""
        raise NotImplementedError(f"{type(self).__name__}.compute is not defined.")

    def reset(self) -> Self:
        """Forget all examples; returns the metric."""
        self.state = self.start()
        return self

    def join(self, mine: State, other: State) -> State:
        """Return the state of the examples of two states: their sums."""
        return {name: np.asarray(mine[name] + other[name]) for name in mine}

    def add(self, **sums: Any) -> Self:
        """Add numbers to sums of the state; returns the metric."""
        self.state = self.join(
            self.state, {**self.start(), **{name: np.asarray(value) for name, value in sums.items()}}
        )
        return self

    def merge(self, *others: Metric) -> Self:
        """Add the examples that other metrics with the same settings have seen; returns the metric."""
        for other in others:
            if type(other) is not type(self) or not self._fits(other.state):
                raise ConfigError(
                    f"{type(self).__name__}: cannot merge {other!r} into {self!r}. Both must have the same settings."
                )
        for other in others:
            self.state = self.join(self.state, other.state)
        return self

    def state_dict(self) -> State:
        """Return copies of the arrays of the state."""
        return {name: np.array(value) for name, value in self.state.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        found = {name: as_array(type(self).__name__, value) for name, value in state_dict.items()}
        if set(found) != set(self.state) or not self._fits(found):
            raise CheckpointError(
                f"{type(self).__name__}: the state {_shapes(found)} is not one of this metric, {_shapes(self.state)}."
            )
        self.state = {name: value.astype(self.state[name].dtype) for name, value in found.items()}

    def _fits(self, other: State) -> bool:
        """Whether a state has the shapes of this one; those that grow with the examples may differ in their length."""
        return all(
            name in other
            and value.ndim == other[name].ndim
            and value.shape[self.grows :] == other[name].shape[self.grows :]
            for name, value in self.state.items()
        )

    grows = 0  # how many leading axes of the state grow with the examples

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items() if name != "state")
        return f"{type(self).__name__}({settings})"


def as_array(what: str, x: Data) -> Array:
    """Return data as a NumPy array; short floats as float32."""
    array = np.asarray(x.read().detach()) if isinstance(x, Value) else np.asarray(x)
    if array.dtype.kind in "OUS":
        raise DataError(f"{what}: cannot take data of dtype {array.dtype}. Give tensors, arrays or lists of numbers.")
    if array.dtype.kind not in "biuf" or (array.dtype.itemsize < 4 and array.dtype.kind == "f"):
        return array.astype(np.float32)
    return array


def weights_of(what: str, weight: Data | None, count: int) -> Array:
    """Return one weight per example, as float64; 1 for each when None."""
    if weight is None:
        return np.ones(count)
    w = as_array(what, weight).astype(np.float64).reshape(-1)
    if w.shape != (count,):
        raise DataError(f"{what}: there are {w.size} weights for {count} examples. Give one for each.")
    return w


def paired(what: str, input: Data, target: Data) -> tuple[Array, Array]:
    """Return two arrays of one shape as float64 vectors."""
    x, y = as_array(what, input), as_array(what, target)
    if x.shape != y.shape:
        raise DataError(f"{what}: input {list(x.shape)} and target {list(y.shape)} differ in shape. Reshape one.")
    return x.astype(np.float64).reshape(-1), y.astype(np.float64).reshape(-1)


def ratio(numerator: Any, denominator: Any, default: float = float("nan")) -> Any:
    """Return numerator / denominator, `default` where that is 0 / 0 or divides by 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    safe = np.where(bottom == 0, 1.0, bottom)
    return np.where(bottom == 0, default, top / safe)


def _shapes(state: State) -> str:
    return str({name: list(value.shape) for name, value in state.items()})
