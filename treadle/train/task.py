"""What a kind of target asks for: the head that predicts it, the loss, the metrics, and a check that these fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from treadle.core import DataError, DType, DTypeError, ShapeError
from treadle.core.dtypes import Kind
from treadle.metrics import Metric
from treadle.nn import Linear, Module
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.require import require

Array = np.ndarray[Any, Any]
Views = dict[str, tuple[Metric, Callable[[Tensor], Tensor]]]  # metrics, and what of the output each looks at
KINDS: dict[Kind, str] = {"bool": "bools", "int": "integers", "uint": "integers", "float": "floats"}


class Task:
    """Base of the kinds of targets, which stand in `targets.py`.

    A model is any backbone and then `head`. Its output goes to `loss`, `predict` and `metrics` as it is, without an
    activation in between: losses of logits and of log rates are the stable ones. Targets that belong to another task
    are refused, in a compiled step before it changes anything.

    Attributes:
        error: the class of the error for values that cannot be targets.
        outputs: size of the output's last axis.
        size: size of the targets' last axis; None where there is one target per example, without an axis of its own.
    """

    outputs: int
    size: int | None = None
    kinds: tuple[Kind, ...]  # of dtypes that targets may have
    error: type[Exception] = DataError

    @classmethod
    def of(cls, target: Array) -> Self:
        """Return the task of targets, whose dtype is right, with its sizes read off them."""
        raise NotImplementedError(f"{cls.__name__}.of is not defined.")

    def allowed(self, target: Tensor) -> Tensor:
        """Return where values can be targets."""
        raise NotImplementedError(f"{type(self).__name__}.allowed is not defined.")

    def wrong(self) -> str:
        """Return what an error says of a value that cannot be a target, {value}."""
        raise NotImplementedError(f"{type(self).__name__}.wrong is not defined.")

    def losses(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        """Return the negative log likelihood of targets [n] or [n, size] beside outputs [n, outputs]."""
        raise NotImplementedError(f"{type(self).__name__}.losses is not defined.")

    def predict(self, output: Operand) -> Tensor:
        """Return the targets that an output [..., outputs] stands for: class numbers, labels, means or rates."""
        raise NotImplementedError(f"{type(self).__name__}.predict is not defined.")

    def views(self) -> Views:
        """Return fresh metrics by name, each with the function of the output that it looks at."""
        raise NotImplementedError(f"{type(self).__name__}.views is not defined.")

    # --- the same for all

    def head(self, in_features: int) -> Module:
        """Return the last layer of a model: from features [..., in_features] to outputs [..., outputs]."""
        return Linear(in_features, self.outputs)

    def loss(self, output: Operand, target: Operand, reduction: str = "mean") -> Tensor:
        """Return the negative log likelihood of targets in nats, without terms that no parameter changes.

        Args:
            output: [..., outputs], what the head gives.
            target: [...], or [..., size] where `size` is not None.
            reduction: "mean", "sum" or "none".

        Raises:
            ShapeError, DTypeError: output or targets belong to another task.
            IndexRangeError: a class number is out of range.
            DataError: another value cannot be a target.
        """
        x, y = self.paired(output, target)
        losses = self.losses(*self.rows(x, y), reduction)
        return losses.reshape(y.shape) if reduction == "none" else losses

    @classmethod
    def check_dtype(cls, dtype: DType) -> None:
        """Raise DTypeError unless targets may have this dtype."""
        if dtype.kind not in cls.kinds:
            allowed = " or ".join(dict.fromkeys(KINDS[kind] for kind in cls.kinds))
            raise DTypeError(
                f"{cls.__name__}: targets have dtype {dtype.name}. They must be {allowed}; convert them, or use the "
                "task of these targets."
            )

    def check(self, target: Operand) -> Tensor:
        """Return targets as a tensor; raise an error unless they can be targets of this task."""
        y = as_tensor(str(self), target)
        self.check_dtype(y.dtype)
        if self.size is not None and (y.ndim == 0 or y.shape[-1] != self.size):
            raise ShapeError(
                f"{self}: targets {list(y.shape)} do not have {self.size} along their last axis. Give [..., "
                f"{self.size}]."
            )
        if y.dtype.kind == "bool":  # any bool is as good
            return y
        said = f"{str(self).replace('{', '{{').replace('}', '}}')}: {self.wrong()}"
        return require(y, self.allowed(y.detach()), said, self.error)

    def fitted(self, output: Operand) -> Tensor:
        """Return an output as a tensor; raise an error unless the head of this task can have made it."""
        x = as_tensor(str(self), output)
        if not x.dtype.is_float or x.ndim == 0 or x.shape[-1] != self.outputs:
            raise ShapeError(
                f"{self}: the output {x.node.type!r} does not fit. It must be floats [..., {self.outputs}], as the "
                "layer that head(in_features) returns gives them."
            )
        return x

    def target_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of targets beside an output of this shape."""
        return shape[:-1] if self.size is None else (*shape[:-1], self.size)

    def paired(self, output: Operand, target: Operand) -> tuple[Tensor, Tensor]:
        """Return output and targets as tensors; raise an error unless they fit the task and each other."""
        x, y = self.fitted(output), self.check(target)
        wanted = self.target_shape(x.shape)
        if y.shape != wanted:
            raise ShapeError(
                f"{self}: targets {list(y.shape)} do not fit the output {list(x.shape)}. They must be "
                f"{list(wanted)}; reshape them, or use the task of these targets."
            )
        return x, y

    def rows(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs as [n, outputs] and their targets as [n] or [n, size]."""
        shape = (-1, self.outputs)
        return output.reshape(shape), target.reshape(self.target_shape(shape))

    def metrics(self) -> TaskMetrics:
        """Return the metrics of this task, before the first example."""
        return TaskMetrics(self)

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.__dict__.items() if name != "outputs" and value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class TaskMetrics:
    """The metrics of a task by name, over batches and shards: `update`, `merge`, `compute`."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.views = task.views()

    def update(self, output: Operand, target: Operand) -> Self:
        """Add the outputs of a model and their targets; returns the metrics."""
        x, y = self.task.rows(*self.task.paired(output, target))
        for metric, view in self.views.values():
            metric.update(view(x.detach()), y)
        return self

    def merge(self, *others: TaskMetrics) -> Self:
        """Add the examples of other metrics of the same task; returns the metrics."""
        for name, (metric, _) in self.views.items():
            metric.merge(*[other.views[name][0] for other in others])
        return self

    def reset(self) -> Self:
        """Forget all examples; returns the metrics."""
        for metric, _ in self.views.values():
            metric.reset()
        return self

    def compute(self) -> dict[str, float]:
        """Return each metric of all examples so far."""
        return {name: metric.compute() for name, (metric, _) in self.views.items()}
