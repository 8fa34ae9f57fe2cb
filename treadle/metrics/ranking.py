"""How well scores rank: the areas under the ROC curve and under the precision-recall curve, exact or in bins."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from treadle.core import ConfigError, DataError

from .classification import class_numbers
from .metric import Array, Data, Metric, State, as_array, weights_of

AVERAGES = ("macro", "weighted", "none")


class _Curve(Metric):
    """A number that follows from how positives and negatives are spread over scores.

    Args:
        num_classes: None for scores of class 1; else [N, C] scores, each class against the rest.
        average: of classes: "macro", "weighted" (by how often each is the truth) or "none".
        bins: None keeps every score and is exact; else scores, which must lie in 0..1, are counted in this many bins of
            equal width, those in one bin as equal.
    """

    def __init__(
        self, num_classes: int | None = None, *, average: str | None = "macro", bins: int | None = None
    ) -> None:
        name = type(self).__name__
        average = "none" if average is None else average
        if average not in AVERAGES:
            raise ConfigError(f"{name}: average is {average!r}. Allowed: {', '.join(AVERAGES)}.")
        if bins is not None and bins < 2:
            raise ConfigError(f"{name}: bins is {bins}. It must be at least 2, or None for all scores.")
        if num_classes is not None and num_classes < 2:
            raise ConfigError(
                f"{name}: num_classes is {num_classes}. It must be at least 2, or None for scores of one."
            )
        self.num_classes, self.average, self.bins = num_classes, average, bins
        self.grows = 1 if bins is None else 0
        super().__init__()

    def start(self) -> State:
        """Return no examples."""
        columns = 1 if self.num_classes is None else self.num_classes
        if self.bins is not None:
            return {name: np.zeros((columns, self.bins)) for name in ("positive", "negative")}
        return {"scores": np.zeros((0, columns)), "target": np.zeros(0, np.int64), "weight": np.zeros(0)}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add scores [N] and targets [N] of 0 and 1; with classes, scores [N, C] and class numbers [N]."""
        name = type(self).__name__
        x, y = as_array(name, input).astype(np.float64), class_numbers(name, as_array(name, target))
        columns = 1 if self.num_classes is None else self.num_classes
        if x.size != y.size * columns or (self.num_classes is not None and x.shape != (y.size, columns)):
            raise DataError(
                f"{name}: scores {list(x.shape)} do not fit {y.size} targets and {columns} columns of scores."
            )
        if y.size and not 0 <= y.min() <= y.max() < max(2, columns):
            raise DataError(f"{name}: targets go from {y.min()} to {y.max()}. Allowed: 0 to {max(2, columns) - 1}.")
        if np.isnan(x).any():
            raise DataError(f"{name}: scores have NaN, which has no rank.")
        x, w = x.reshape(y.size, columns), weights_of(name, weight, y.size)
        self.state = self.join(self.state, self._seen(name, x, y, w))
        return self

    def _seen(self, name: str, x: Array, y: Array, w: Array) -> State:
        if self.bins is None:
            return {"scores": x, "target": y, "weight": w}
        if x.size and not 0 <= x.min() <= x.max() <= 1:
            raise DataError(f"{name}: scores go from {x.min()} to {x.max()}. Bins cover 0 to 1; use bins=None.")
        place = np.minimum((x * self.bins).astype(np.int64), self.bins - 1)
        new = self.start()
        for column in range(x.shape[1]):
            truth = self._truth(y, column)
            for key, chosen in (("positive", truth), ("negative", ~truth)):
                new[key][column] = np.bincount(place[chosen, column], weights=w[chosen], minlength=self.bins)
        return new

    def _truth(self, y: Array, column: int) -> Array:
        return y == (1 if self.num_classes is None else column)

    def join(self, mine: State, other: State) -> State:
        """Return the scores of both, or the sums of bins."""
        if self.bins is not None:
            return super().join(mine, other)
        return {name: np.concatenate([mine[name], other[name]]) for name in mine}

    def _counts(self, column: int) -> tuple[Array, Array]:
        """Return the weights of positives and of negatives at each score, the highest first."""
        if self.bins is not None:
            return self.state["positive"][column, ::-1], self.state["negative"][column, ::-1]
        scores, w = self.state["scores"][:, column], self.state["weight"]
        truth = self._truth(self.state["target"], column)
        levels, place = np.unique(-scores, return_inverse=True)
        count = len(levels)
        positive, negative = (np.bincount(place, weights=w * chosen, minlength=count) for chosen in (truth, ~truth))
        return positive, negative

    def area(self, positive: Array, negative: Array) -> float:
        """Return the metric of one class."""
        raise NotImplementedError(f"{type(self).__name__}.area is not defined.")

    def compute(self) -> Any:
        """Return the area, or one per class."""
        columns = range(1 if self.num_classes is None else self.num_classes)
        counts = [self._counts(column) for column in columns]
        each = np.array([self.area(p, n) for p, n in counts])
        if self.num_classes is None:
            return float(each[0])
        if self.average == "none":
            return each
        weights = np.array([p.sum() for p, _ in counts]) if self.average == "weighted" else np.ones(len(each))
        return float((each * weights).sum() / weights.sum()) if weights.sum() else math.nan


class ROCAUC(_Curve):
    """The probability that a positive scores above a negative, ties counting half; NaN when one of them is missing."""

    def area(self, positive: Array, negative: Array) -> float:
        """Return the area by trapezoids."""
        pairs = positive.sum() * negative.sum()
        if not pairs:
            return math.nan
        above = np.cumsum(positive) - positive
        return float((negative * (above + 0.5 * positive)).sum() / pairs)


class AveragePrecision(_Curve):
    """The precision at each score, averaged by the positives found there: sum (R_k - R_(k-1)) P_k.

    The area under the precision-recall curve without interpolation; NaN when there are no positives.
    """

    def area(self, positive: Array, negative: Array) -> float:
        """Return the sum over scores."""
        total = positive.sum()
        if not total:
            return math.nan
        found = np.cumsum(positive)
        taken = found + np.cumsum(negative)
        some = taken > 0
        return float((positive[some] / total * (found[some] / taken[some])).sum())


class PRAUC(AveragePrecision):
    """The same as AveragePrecision."""
