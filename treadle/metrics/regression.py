"""How far numbers lie from their targets."""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from treadle.core import DataError

from .metric import Array, Data, Metric, State, paired, ratio, weights_of


class _MeanError(Metric):
    """The weighted mean of an error of each element."""

    def error(self, x: Array, y: Array) -> Array:
        """Return the error of each element."""
        raise NotImplementedError(f"{type(self).__name__}.error is not defined.")

    def start(self) -> State:
        """Return no sum."""
        return {"total": np.zeros(()), "weight": np.zeros(())}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add numbers and their targets, of one shape, each with a weight."""
        x, y = paired(type(self).__name__, input, target)
        w = weights_of(type(self).__name__, weight, x.size)
        return self.add(total=(self.error(x, y) * w).sum(), weight=w.sum())

    def compute(self) -> float:
        """Return the mean."""
        return float(ratio(self.state["total"], self.state["weight"]))


class MSE(_MeanError):
    """The mean of (x - y)^2."""

    def error(self, x: Array, y: Array) -> Array:
        """Return (x - y)^2."""
        return (x - y) ** 2


class RMSE(MSE):
    """The root of the mean of (x - y)^2."""

    def compute(self) -> float:
        """Return the root."""
        return math.sqrt(super().compute())


class MAE(_MeanError):
    """The mean of |x - y|."""

    def error(self, x: Array, y: Array) -> Array:
        """Return |x - y|."""
        return np.abs(x - y)


class PoissonDeviance(_MeanError):
    """The mean of 2 (y log(y / x) - y + x) for rates x above 0 and counts y; 0 when every rate is its count.

    Twice how much likelier, in nats, counts are under their own value than under the rate.
    """

    def error(self, x: Array, y: Array) -> Array:
        """Return 2 (y log(y / x) - y + x), with 0 log 0 = 0."""
        if x.size and not (x.min() > 0 and y.min() >= 0):
            raise DataError(
                f"PoissonDeviance: rates go down to {x.min()}, counts to {y.min()}. Rates must be above 0, counts at "
                "least 0."
            )
        return 2 * (y * np.log(np.where(y > 0, y, 1) / np.where(y > 0, x, 1)) - y + x)


class R2(Metric):
    """1 - sum w (x - y)^2 / sum w (y - mean y)^2: the share of the targets' variance that is explained.

    When all targets are equal it is 1 for exact predictions and 0 otherwise, as in scikit-learn; with fewer than two
    examples NaN. Its state is weight, mean and squared distances from it, which join by the formula of Chan et al.
    1979: a difference of two large sums would lose digits.
    """

    def start(self) -> State:
        """Return no examples."""
        return {name: np.zeros(()) for name in ("count", "weight", "mean", "spread", "error")}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add numbers and their targets, of one shape, each with a weight."""
        x, y = paired("R2", input, target)
        w = weights_of("R2", weight, x.size)
        total = w.sum()
        mean = (w * y).sum() / total if total else 0.0
        new = (float(x.size), total, mean, (w * (y - mean) ** 2).sum(), (w * (x - y) ** 2).sum())
        self.state = self.join(self.state, {k: np.asarray(v) for k, v in zip(self.state, new, strict=True)})
        return self

    def join(self, mine: State, other: State) -> State:
        """Return the state of the examples of both."""
        weight = mine["weight"] + other["weight"]
        share = ratio(other["weight"], weight, 0.0)
        gap = other["mean"] - mine["mean"]
        joined = {
            "count": mine["count"] + other["count"],
            "weight": weight,
            "mean": mine["mean"] + gap * share,
            "spread": mine["spread"] + other["spread"] + gap * gap * mine["weight"] * share,
            "error": mine["error"] + other["error"],
        }
        return {name: np.asarray(value) for name, value in joined.items()}

    def compute(self) -> float:
        """Return the share."""
        if self.state["count"] < 2:
            return math.nan
        if self.state["spread"] == 0:
            return 1.0 if self.state["error"] == 0 else 0.0
        return float(1 - self.state["error"] / self.state["spread"])
