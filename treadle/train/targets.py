"""The kinds of targets: yes or no, one class of many, several labels, numbers, counts, classes in order."""

from __future__ import annotations

from typing import Any, Self

from treadle.core import ConfigError, IndexRangeError, ShapeError, int64
from treadle.metrics import F1, MAE, R2, RMSE, ROCAUC, Accuracy, LogLoss, PoissonDeviance
from treadle.nn import CumulativeLink, Module
from treadle.nn import functional as F
from treadle.tensor import Tensor
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import asarray
from treadle.tensor.promotion import Operand

from .task import Array, Task, Views

# cross_entropy and nll_loss leave out the targets of one number; here every target counts.
NO_CLASS = -(2**63)


class _Numbers(Task):
    """One number of output for each number of the targets: [..., size], or [..., 1] and [...] where size is None."""

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ConfigError(f"{type(self).__name__}: size is {size}. It must be at least 1, or None.")
        self.size = size
        self.outputs = 1 if size is None else size

    @classmethod
    def of(cls, target: Array) -> Self:
        """Return the task of targets [n] or [n, size]."""
        return cls(target.shape[-1] if target.ndim > 1 else None)

    def numbers(self, output: Operand) -> Tensor:
        """Return an output in the shape of its targets."""
        x = self.fitted(output)
        return x.reshape(self.target_shape(x.shape))


class _Bits(_Numbers):
    """Numbers that are 0 or 1; the output is a logit for each, the loss binary cross-entropy (Bernoulli)."""

    kinds = ("bool", "int", "uint", "float")

    def wrong(self) -> str:
        """Return what is allowed."""
        return "targets contain {value}. Allowed: 0 and 1, or bools."

    def allowed(self, target: Tensor) -> Tensor:
        """Return where it is 0 or 1."""
        return (target == 0) | (target == 1)

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return the binary cross-entropy of each target."""
        return F.binary_cross_entropy_with_logits(self.numbers(output), target, reduction=reduction)

    def probabilities(self, output: Operand) -> Tensor:
        """Return the probability of 1 for each target."""
        return ew.sigmoid(self.numbers(output))

    def predict(self, output: Operand) -> Tensor:
        """Return the likelier of 0 and 1 for each target, as int64."""
        return (self.numbers(output) > 0).astype(int64)


class Binary(_Bits):
    """Yes or no: targets [...] of 0 and 1, or bools."""

    def __init__(self) -> None:
        super().__init__()

    @classmethod
    def of(cls, target: Array) -> Self:
        """Return the task."""
        return cls()

    def views(self) -> Views:
        """Return accuracy, log loss, and the area under the ROC curve."""
        return {
            "accuracy": (Accuracy(), self.predict),
            "log loss": (LogLoss(), self.probabilities),
            "ROC AUC": (ROCAUC(), self.probabilities),
        }


class Multilabel(_Bits):
    """Any number of labels for each example: targets [..., size] of 0 and 1, or bools.

    Args:
        size: how many labels there are, at least 2.
    """

    def __init__(self, size: int) -> None:
        if size < 2:
            raise ConfigError(f"Multilabel: size is {size}. It must be at least 2; for one label use Binary.")
        super().__init__(size)

    @classmethod
    def of(cls, target: Array) -> Self:
        """Return the task of targets [n, size]."""
        if target.ndim < 2:
            raise ShapeError(f"Multilabel: targets {list(target.shape)} are not [n, labels]. For one label use Binary.")
        return cls(target.shape[-1])

    def views(self) -> Views:
        """Return the share of labels that are right, and F1 averaged over the labels."""
        return {
            "accuracy": (Accuracy(), self.predict),
            "F1": (F1(self.outputs, multilabel=True), self.predict),
        }


class Regression(_Numbers):
    """Numbers, normally distributed about the output with a variance that is everywhere the same: mean squared error.

    Args:
        size: numbers per example, targets [..., size]; None for targets [...].
    """

    kinds = ("int", "uint", "float")

    def wrong(self) -> str:
        """Return what is allowed."""
        return "targets contain {value}, which is not finite. Leave such examples out."

    def allowed(self, target: Tensor) -> Tensor:
        """Return where it is neither NaN nor infinite."""
        return ew.isfinite(target)

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return the squared error of each target: twice the negative log likelihood for a variance of 1."""
        x = self.numbers(output)
        return F.mse_loss(x, target.astype(x.dtype), reduction=reduction)

    def predict(self, output: Operand) -> Tensor:
        """Return the mean for each target."""
        return self.numbers(output)

    def views(self) -> Views:
        """Return root mean square error, mean absolute error, and the share of the variance that is explained."""
        return {"RMSE": (RMSE(), self.predict), "MAE": (MAE(), self.predict), "R2": (R2(), self.predict)}


class Count(_Numbers):
    """How often something happened, Poisson distributed; the output is the logarithm of the rate.

    Args:
        size: counts per example, targets [..., size]; None for targets [...].
    """

    kinds = ("int", "uint", "float")

    def wrong(self) -> str:
        """Return what is allowed."""
        return "targets contain {value}. Counts are whole numbers from 0 on; for other numbers use Regression."

    def allowed(self, target: Tensor) -> Tensor:
        """Return where it is a whole number from 0 on."""
        return (target >= 0) & (target == ew.floor(target)) & ew.isfinite(target)

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return r - t log r for each target t and its rate r."""
        x = self.numbers(output)
        return F.poisson_nll_loss(x, target.astype(x.dtype), reduction=reduction)

    def predict(self, output: Operand) -> Tensor:
        """Return the rate for each target."""
        return ew.exp(self.numbers(output))

    def views(self) -> Views:
        """Return the deviance from the best possible rates, and the mean absolute error."""
        return {"deviance": (PoissonDeviance(), self.predict), "MAE": (MAE(), self.predict)}


class _Classes(Task):
    """Class numbers [...], 0 to num_classes - 1."""

    kinds = ("int", "uint")
    error = IndexRangeError

    def __init__(self, num_classes: int) -> None:
        if num_classes < 2:
            raise ConfigError(f"{type(self).__name__}: num_classes is {num_classes}. It must be at least 2.")
        self.num_classes = num_classes

    @classmethod
    def of(cls, target: Array) -> Self:
        """Return the task of targets among which every class occurs."""
        return cls(max(2, int(target.max(initial=0)) + 1))

    def wrong(self) -> str:
        """Return what is allowed."""
        most = self.num_classes - 1
        return f"targets contain {{value}}. Allowed: 0 to {most}; number the classes from 0, or raise num_classes."

    def allowed(self, target: Tensor) -> Tensor:
        """Return where it is the number of a class."""
        return (target >= 0) & (target < self.num_classes)

    def log_probabilities(self, output: Operand) -> Tensor:
        """Return the logarithm of each class's probability, [..., num_classes]."""
        raise NotImplementedError(f"{type(self).__name__}.log_probabilities is not defined.")

    def probabilities(self, output: Operand) -> Tensor:
        """Return the probability of each class, [..., num_classes]."""
        return ew.exp(self.log_probabilities(output))


class Multiclass(_Classes):
    """One class of several without an order; the output is a logit for each, the loss cross-entropy (categorical).

    Args:
        num_classes: at least 2; targets [...] are 0 to num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.outputs = num_classes

    def log_probabilities(self, output: Operand) -> Tensor:
        """Return the logarithm of each class's probability, [..., num_classes]."""
        return F.log_softmax(self.fitted(output), dim=-1)

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return -log p(class) of each target."""
        return F.cross_entropy(output, target.astype(int64), ignore_index=NO_CLASS, reduction=reduction)

    def predict(self, output: Operand) -> Tensor:
        """Return the likeliest class for each target."""
        return self.fitted(output).argmax(axis=-1)

    def views(self) -> Views:
        """Return accuracy and log loss."""
        return {"accuracy": (Accuracy(), self.predict), "log loss": (LogLoss(), self.probabilities)}


class Ordinal(_Classes):
    """One class of several in order, such as grades; the output is the logits of being above each class but the last.

    The head is `nn.CumulativeLink`: one score, cut at thresholds. Unlike `Multiclass` it knows that a mistake by one
    class is smaller than one by two; unlike `Regression` it does not take the steps between classes for equal.

    Args:
        num_classes: at least 2; targets [...] are 0 to num_classes - 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.outputs = num_classes - 1

    def head(self, in_features: int) -> Module:
        """Return the last layer of a model: from features [..., in_features] to outputs [..., num_classes - 1]."""
        return CumulativeLink(in_features, self.num_classes)

    def log_probabilities(self, output: Operand) -> Tensor:
        """Return the logarithm of each class's probability, [..., num_classes]."""
        return F.ordinal_log_probabilities(self.fitted(output))

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return -log p(class) of each target."""
        p = self.log_probabilities(output)
        return F.nll_loss(p, target.astype(int64), ignore_index=NO_CLASS, reduction=reduction)

    def predict(self, output: Operand) -> Tensor:
        """Return the median of each target's classes, for which the expected distance from the target is least."""
        return (self.fitted(output) > 0).astype(int64).sum(axis=-1)

    def views(self) -> Views:
        """Return accuracy, log loss, and by how many classes the median is wrong."""
        return {
            "accuracy": (Accuracy(), self.predict),
            "log loss": (LogLoss(), self.probabilities),
            "MAE": (MAE(), self.predict),
        }


TASKS: dict[str, type[Task]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "multilabel": Multilabel,
    "regression": Regression,
    "count": Count,
    "ordinal": Ordinal,
}


def task_of(kind: str, target: Any) -> Task:
    """Return the task of a kind of target, with its sizes read off the targets, which are checked.

    Args:
        kind: "binary", "multiclass", "multilabel", "regression", "count" or "ordinal".
        target: all targets, [n] or [n, size]; of classes the last one must occur.

    Raises:
        ConfigError: there is no such kind.
        ShapeError, DTypeError, IndexRangeError, DataError: these are no targets of this kind.
    """
    if kind not in TASKS:
        raise ConfigError(f"task_of: kind is {kind!r}. Allowed: {', '.join(TASKS)}.")
    y = asarray(target)
    TASKS[kind].check_dtype(y.dtype)
    task = TASKS[kind].of(y.numpy())
    task.check(y)
    return task
