"""How often classes are right: accuracy, the confusion matrix, precision, recall and F1 from its counts."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from treadle.core import ConfigError, DataError

from .metric import Array, Data, Metric, State, as_array, ratio, weights_of

AVERAGES = ("binary", "micro", "macro", "weighted", "none")
NORMALIZATIONS = (None, "true", "pred", "all")


def predicted(what: str, input: Data, target: Data, threshold: float) -> tuple[Array, Array]:
    """Return class numbers [n] of scores and of targets.

    Scores [N, C, ...] for targets [N, ...] give the class of the highest, the first of equal ones; floats of the
    target's shape are probabilities of class 1; integers are class numbers.
    """
    x, y = as_array(what, input), as_array(what, target)
    if x.shape == y.shape:
        chosen = (x >= threshold).astype(np.int64) if x.dtype.kind == "f" else x.astype(np.int64)
    elif x.ndim == y.ndim + 1 and x.ndim >= 2 and x.shape[:1] + x.shape[2:] == y.shape:
        chosen = x.argmax(axis=1)
    else:
        raise DataError(
            f"{what}: input {list(x.shape)} and target {list(y.shape)} do not fit. They must be [N, C, ...] and "
            "[N, ...], or equal."
        )
    return chosen.reshape(-1), class_numbers(what, y)


def class_numbers(what: str, y: Array) -> Array:
    """Return targets as int64[n]."""
    if y.dtype.kind == "f" and not np.all(y == np.floor(y)):
        raise DataError(f"{what}: targets are not whole. They must be class numbers.")
    return y.astype(np.int64).reshape(-1)


class Accuracy(Metric):
    """The share of examples whose class is among the `top_k` highest scores.

    Args:
        top_k: how many; of equal scores the class with the lower number counts as the higher one.
        threshold: of probabilities of class 1.
        ignore_index: targets of this value do not count.
    """

    def __init__(self, top_k: int = 1, *, threshold: float = 0.5, ignore_index: int | None = None) -> None:
        if top_k < 1:
            raise ConfigError(f"Accuracy: top_k is {top_k}. It must be at least 1.")
        self.top_k, self.threshold, self.ignore_index = top_k, threshold, ignore_index
        super().__init__()

    def start(self) -> State:
        """Return no examples."""
        return {"right": np.zeros(()), "weight": np.zeros(())}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add scores [N, C, ...], probabilities or class numbers [N, ...], and targets [N, ...]."""
        if self.top_k == 1:
            chosen, y = predicted("Accuracy", input, target, self.threshold)
            right = chosen == y
        else:
            right, y = self._among_highest(input, target)
        w = weights_of("Accuracy", weight, y.size)
        if self.ignore_index is not None:
            w = np.where(y == self.ignore_index, 0.0, w)
        return self.add(right=(right * w).sum(), weight=w.sum())

    def _among_highest(self, input: Data, target: Data) -> tuple[Array, Array]:
        x, y = as_array("Accuracy", input), as_array("Accuracy", target)
        if x.ndim != y.ndim + 1 or x.ndim < 2 or x.shape[:1] + x.shape[2:] != y.shape:
            raise DataError(f"Accuracy: top_k needs scores [N, C, ...], not {list(x.shape)} for {list(y.shape)}.")
        rows, y = np.moveaxis(x, 1, -1).reshape(y.size, x.shape[1]), class_numbers("Accuracy", y)
        known = (y >= 0) & (y < rows.shape[1])
        own = np.take_along_axis(rows, np.where(known, y, 0)[:, None], axis=1)
        before = np.arange(rows.shape[1]) < y[:, None]
        # Counted by what is not lower, so that NaN is never among the highest.
        ahead = np.where(before, ~(rows < own), ~(rows <= own))
        ahead[np.arange(y.size)[known], y[known]] = False
        return known & (ahead.sum(axis=1) < self.top_k) & ~np.isnan(own[:, 0]), y

    def compute(self) -> float:
        """Return the share."""
        return float(ratio(self.state["right"], self.state["weight"]))


class ConfusionMatrix(Metric):
    """How often each class (rows) was taken for each (columns), as weights; float64 [C, C].

    Args:
        num_classes: C.
        normalize: None, or divide by the sum of each row ("true"), each column ("pred"), or of "all"; 0 / 0 is 0.
        threshold: of probabilities of class 1.
    """

    def __init__(self, num_classes: int, *, normalize: str | None = None, threshold: float = 0.5) -> None:
        _check_classes("ConfusionMatrix", num_classes)
        if normalize not in NORMALIZATIONS:
            raise ConfigError(f"ConfusionMatrix: normalize is {normalize!r}. Allowed: None, true, pred, all.")
        self.num_classes, self.normalize, self.threshold = num_classes, normalize, threshold
        super().__init__()

    def start(self) -> State:
        """Return no examples."""
        return {"counts": np.zeros((self.num_classes, self.num_classes))}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add scores [N, C, ...], probabilities or class numbers [N, ...], and targets [N, ...]."""
        chosen, y = predicted("ConfusionMatrix", input, target, self.threshold)
        w = weights_of("ConfusionMatrix", weight, y.size)
        return self.add(counts=_confusion("ConfusionMatrix", chosen, y, w, self.num_classes))

    def compute(self) -> Array:
        """Return the matrix."""
        counts = self.state["counts"]
        sums = {
            "true": counts.sum(axis=1, keepdims=True),
            "pred": counts.sum(axis=0, keepdims=True),
            "all": counts.sum(),
        }
        return counts.copy() if self.normalize is None else ratio(counts, sums[self.normalize], 0.0)


class _PerClass(Metric):
    """A share of examples for each class, averaged over classes.

    Args:
        num_classes: how many classes, or labels.
        average: "macro", the mean over all classes; "weighted", by how often each is the truth; "micro", of the sums
            over all classes; "binary", of class 1 alone; "none" for one number per class.
        zero_division: what a class gets that has no examples to divide by: 0, 1, or NaN, which is left out of means.
        threshold: of probabilities.
        multilabel: input and target are [N, C], with any number of classes for an example.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        average: str | None = "macro",
        zero_division: float = 0.0,
        threshold: float = 0.5,
        multilabel: bool = False,
    ) -> None:
        name = type(self).__name__
        _check_classes(name, num_classes)
        average = "none" if average is None else average
        if average not in AVERAGES:
            raise ConfigError(f"{name}: average is {average!r}. Allowed: {', '.join(AVERAGES)}.")
        if average == "binary" and (num_classes != 2 or multilabel):
            raise ConfigError(f"{name}: average 'binary' needs 2 classes, not {num_classes}. Use 'macro'.")
        self.num_classes, self.average, self.zero_division = num_classes, average, zero_division
        self.threshold, self.multilabel = threshold, multilabel
        super().__init__()

    def start(self) -> State:
        """Return no examples."""
        return {name: np.zeros(self.num_classes) for name in ("right", "predicted", "actual")}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add scores [N, C, ...], probabilities or class numbers [N, ...], and targets [N, ...]."""
        name = type(self).__name__
        if self.multilabel:
            new = self._labels(name, input, target, weight)
        else:
            chosen, y = predicted(name, input, target, self.threshold)
            counts = _confusion(name, chosen, y, weights_of(name, weight, y.size), self.num_classes)
            new = {"right": counts.diagonal(), "predicted": counts.sum(axis=0), "actual": counts.sum(axis=1)}
        return self.add(**new)

    def _labels(self, name: str, input: Data, target: Data, weight: Data | None) -> State:
        x, y = as_array(name, input), as_array(name, target)
        if x.shape != y.shape or x.ndim != 2 or x.shape[1] != self.num_classes:
            raise DataError(
                f"{name}: input {list(x.shape)} and target {list(y.shape)} must both be [N, {self.num_classes}]."
            )
        chosen, truth = (x >= self.threshold if x.dtype.kind == "f" else x != 0), y != 0
        w = weights_of(name, weight, len(x))[:, None]
        return {
            "right": (w * (chosen & truth)).sum(axis=0),
            "predicted": (w * chosen).sum(axis=0),
            "actual": (w * truth).sum(axis=0),
        }

    def share(self, right: Array, predicted: Array, actual: Array) -> Any:
        """Return the metric of counts."""
        raise NotImplementedError(f"{type(self).__name__}.share is not defined.")

    def compute(self) -> Any:
        """Return a number, or one per class."""
        counts = [self.state[name] for name in ("right", "predicted", "actual")]
        if self.average == "micro":
            return float(self.share(*[np.sum(c) for c in counts]))
        each = np.asarray(self.share(*counts))
        if self.average == "none":
            return each
        if self.average == "binary":
            return float(each[1])
        weights = np.ones(self.num_classes) if self.average == "macro" else counts[2]
        known = ~np.isnan(each)
        total = weights[known].sum()
        return float((each[known] * weights[known]).sum() / total) if total else float(self.zero_division)


class Precision(_PerClass):
    """Right ones among those predicted, tp / (tp + fp)."""

    def share(self, right: Array, predicted: Array, actual: Array) -> Any:
        """Return tp / (tp + fp)."""
        return ratio(right, predicted, self.zero_division)


class Recall(_PerClass):
    """Those found among the true ones, tp / (tp + fn)."""

    def share(self, right: Array, predicted: Array, actual: Array) -> Any:
        """Return tp / (tp + fn)."""
        return ratio(right, actual, self.zero_division)


class F1(_PerClass):
    """The harmonic mean of precision and recall, 2 tp / (2 tp + fp + fn)."""

    def share(self, right: Array, predicted: Array, actual: Array) -> Any:
        """Return 2 tp / (2 tp + fp + fn)."""
        return ratio(2 * right, predicted + actual, self.zero_division)


def _confusion(what: str, chosen: Array, y: Array, w: Array, count: int) -> Array:
    """Return the sums of weights by true class (rows) and predicted class."""
    for name, numbers in (("input", chosen), ("target", y)):
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
            raise DataError(
                f"{what}: {name} has classes from {numbers.min()} to {numbers.max()}. Allowed: 0 to {count - 1}."
            )
    flat = np.bincount(y * count + chosen, weights=w, minlength=count * count)
    return flat.reshape(count, count)


def _check_classes(what: str, num_classes: int) -> None:
    if num_classes < 2:
        raise ConfigError(f"{what}: num_classes is {num_classes}. It must be at least 2.")
