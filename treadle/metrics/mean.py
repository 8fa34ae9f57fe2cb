"""The mean of numbers, such as a loss per batch with the batch's size as its weight."""

from __future__ import annotations

from typing import Self

import numpy as np

from .metric import Data, Metric, State, as_array, ratio, weights_of


class Mean(Metric):
    """sum w x / sum w."""

    def start(self) -> State:
        """Return no sum."""
        return {"total": np.zeros(()), "weight": np.zeros(())}

    def update(self, input: Data, weight: Data | None = None) -> Self:
        """Add numbers of any shape, each with its weight, or all with one."""
        x = as_array("Mean", input).astype(np.float64).reshape(-1)
        if weight is not None and np.ndim(as_array("Mean", weight)) == 0:
            w = np.full(x.size, float(as_array("Mean", weight)))
        else:
            w = weights_of("Mean", weight, x.size)
        return self.add(total=(x * w).sum(), weight=w.sum())

    def compute(self) -> float:
        """Return the mean."""
        return float(ratio(self.state["total"], self.state["weight"]))
