"""How good probabilities are: the logarithm of those given to the truth, perplexity, calibration."""

from __future__ import annotations

import math
from typing import Self

import numpy as np

from treadle.core import ConfigError, DataError
from treadle.tensor import reductions
from treadle.tensor.creation import asarray
from treadle.tensor.promotion import as_tensor

from .classification import class_numbers
from .metric import Array, Data, Metric, State, as_array, ratio, weights_of

NORMS = ("l1", "l2", "max")


class LogLoss(Metric):
    """The mean of -log p(truth), cross-entropy in nats.

    Args:
        eps: probabilities are kept within eps..1 - eps; that of their dtype when None, as in scikit-learn.
    """

    def __init__(self, *, eps: float | None = None) -> None:
        self.eps = eps
        super().__init__()

    def start(self) -> State:
        """Return no examples."""
        return {"total": np.zeros(()), "weight": np.zeros(())}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add probabilities [N, C], or of class 1 [N], and class numbers [N]."""
        p, y = as_array("LogLoss", input), class_numbers("LogLoss", as_array("LogLoss", target))
        eps = float(np.finfo(p.dtype if p.dtype.kind == "f" else np.float64).eps) if self.eps is None else self.eps
        rows = _rows("LogLoss", p, y)
        losses = -np.log(np.clip(np.take_along_axis(rows, y[:, None], axis=1)[:, 0], eps, 1 - eps))
        w = weights_of("LogLoss", weight, y.size)
        return self.add(total=(losses * w).sum(), weight=w.sum())

    def compute(self) -> float:
        """Return the mean."""
        return float(ratio(self.state["total"], self.state["weight"]))


class Perplexity(Metric):
    """exp of the mean of -log p(token) over all tokens.

    Args:
        ignore_index: targets of this value do not count.
    """

    def __init__(self, *, ignore_index: int | None = -100) -> None:
        self.ignore_index = ignore_index
        super().__init__()

    def start(self) -> State:
        """Return no tokens."""
        return {"total": np.zeros(()), "count": np.zeros(())}

    def update(self, input: Data, target: Data) -> Self:
        """Add logits [..., V] (log probabilities are logits, too) and tokens [...]."""
        logits, y = as_tensor("Perplexity", asarray(input)), as_array("Perplexity", target)
        if logits.shape[:-1] != y.shape or logits.ndim == 0 or not logits.dtype.is_float:
            raise DataError(
                f"Perplexity: logits {logits.node.type!r} do not fit tokens {list(y.shape)}. They must be floats with "
                "one more axis, the vocabulary."
            )
        tokens, size = class_numbers("Perplexity", y), logits.shape[-1]
        kept = np.ones(tokens.shape, bool) if self.ignore_index is None else tokens != self.ignore_index
        if not np.all((tokens[kept] >= 0) & (tokens[kept] < size)):
            raise DataError(
                f"Perplexity: tokens go from {tokens[kept].min()} to {tokens[kept].max()}. Allowed: 0 to {size - 1}."
            )
        # The vocabulary is large: one kernel instead of several passes over the logits.
        rows = logits.detach().reshape((tokens.size, size))
        rows = rows.astype("float32") if rows.dtype.bits < 32 else rows
        totals = reductions.logsumexp(rows, axis=-1).numpy().astype(np.float64)
        own = rows.numpy()[np.arange(tokens.size), np.where(kept, tokens, 0)].astype(np.float64)
        return self.add(total=np.where(kept, totals - own, 0.0).sum(), count=kept.sum())

    def compute(self) -> float:
        """Return the perplexity; infinite when it is too large for a float."""
        mean = float(ratio(self.state["total"], self.state["count"]))
        return math.exp(mean) if not mean > 709 else math.inf


class CalibrationError(Metric):
    """How far confidence lies from accuracy, in bins of equal width (Guo et al. 2017, arXiv:1706.04599).

    Bin k has confidences in (k / bins, (k + 1) / bins], and 0 belongs to the first.

    Args:
        bins: how many.
        norm: "l1", the mean distance weighted by each bin's size (ECE); "max", the largest (MCE); "l2", the root of the
            weighted mean square.
    """

    def __init__(self, bins: int = 15, *, norm: str = "l1") -> None:
        if bins < 1:
            raise ConfigError(f"CalibrationError: bins is {bins}. It must be at least 1.")
        if norm not in NORMS:
            raise ConfigError(f"CalibrationError: norm is {norm!r}. Allowed: {', '.join(NORMS)}.")
        self.bins, self.norm = bins, norm
        super().__init__()

    def start(self) -> State:
        """Return empty bins."""
        return {name: np.zeros(self.bins) for name in ("weight", "confidence", "right")}

    def update(self, input: Data, target: Data, weight: Data | None = None) -> Self:
        """Add probabilities [N, C], whose highest is the confidence, or of class 1 [N], and class numbers [N].

        For one probability p per example, p is the confidence that the class is 1.
        """
        what = "CalibrationError"
        p, y = as_array(what, input), class_numbers(what, as_array(what, target))
        rows = _rows(what, p, y)
        w = weights_of(what, weight, y.size)
        if p.ndim == 1:
            confidence, right = rows[:, 1], y == 1
        else:
            confidence, right = rows.max(axis=1, initial=0.0), rows.argmax(axis=1) == y
        place = np.clip(np.ceil(confidence * self.bins).astype(np.int64) - 1, 0, self.bins - 1)
        sums = {"weight": w, "confidence": w * confidence, "right": w * right}
        new = {name: np.bincount(place, weights=v, minlength=self.bins) for name, v in sums.items()}
        return self.add(**new)

    def compute(self) -> float:
        """Return the distance."""
        w = self.state["weight"]
        if not w.sum():
            return math.nan
        gap = np.abs(ratio(self.state["right"] - self.state["confidence"], w, 0.0))
        if self.norm == "max":
            return float(gap.max())
        mean = (gap ** (1 if self.norm == "l1" else 2) * w).sum() / w.sum()
        return float(mean) if self.norm == "l1" else math.sqrt(mean)


def _rows(what: str, p: Array, y: Array) -> Array:
    """Return probabilities as float64 [N, C]; one per example as those of two classes."""
    if p.ndim == 1 and p.shape == y.shape:
        p = np.stack([1 - p.astype(np.float64), p.astype(np.float64)], axis=1)
    if p.ndim != 2 or len(p) != y.size:
        raise DataError(f"{what}: probabilities {list(p.shape)} do not fit {y.size} targets. Give [N, C] or [N].")
    if p.size and not (p.min() >= 0 and p.max() <= 1 + 1e-5):
        raise DataError(f"{what}: probabilities go from {p.min()} to {p.max()}. Allowed: 0 to 1.")
    if y.size and not 0 <= y.min() <= y.max() < p.shape[1]:
        raise DataError(f"{what}: targets go from {y.min()} to {y.max()}. Allowed: 0 to {p.shape[1] - 1}.")
    return p.astype(np.float64)
