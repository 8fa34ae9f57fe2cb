"""Softmax over many classes of very different frequency: frequent ones directly, rare ones in narrower clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from treadle.core import ConfigError, IndexRangeError, ShapeError
from treadle.tensor import Tensor, node_of
from treadle.tensor.elementwise import greater_equal, less, logical_and, where
from treadle.tensor.manipulation import concat
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.realize import handle_of

from . import functional as F
from .containers import ModuleList, Sequential
from .layers import Linear
from .module import Module

IGNORED = -100  # the class number that cross_entropy counts as nothing


class ASMOutput(NamedTuple):
    """The logarithm of the probability of each target, and the mean of their negatives."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log probabilities of classes numbered by falling frequency, in a head and clusters (Grave et al. 2017).

    The head knows the first classes, up to the first cutoff, and one more for each cluster; cluster i, between two
    cutoffs, sees its input through in_features / div_value^(i + 1) features. Where PyTorch computes a cluster for
    those rows that have their target in it, all rows are computed here: shapes never depend on values, so a compiled
    step may hold the layer. Source: arXiv:1609.04309.

    Args:
        in_features: width of the input.
        n_classes: number of classes.
        cutoffs: the first class of each cluster, rising, above 0 and below n_classes.
        div_value: by what the width falls from cluster to cluster.
        head_bias: whether the head has a bias.
        dtype: of the parameters.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        firsts = [int(c) for c in cutoffs]
        if not firsts or firsts != sorted(set(cutoffs)) or firsts[0] < 1 or firsts[-1] >= n_classes:
            raise ConfigError(
                f"AdaptiveLogSoftmaxWithLoss: cutoffs are {list(cutoffs)}. Give whole numbers that rise, from 1 to "
                f"{n_classes - 1}: at least one."
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*firsts, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = firsts[0]
        self.n_clusters = len(firsts)
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, dtype=dtype)
        self.tail = ModuleList()
        for i, (first, behind) in enumerate(self._clusters()):
            width = int(in_features // div_value ** (i + 1))
            if width < 1:
                raise ConfigError(
                    f"AdaptiveLogSoftmaxWithLoss: cluster {i} would have {width} features: {in_features} / "
                    f"{div_value}^{i + 1}. Give fewer cutoffs or a smaller div_value."
                )
            narrow = Linear(in_features, width, bias=False, dtype=dtype)
            self.tail.append(Sequential(narrow, Linear(width, behind - first, bias=False, dtype=dtype)))

    def _clusters(self) -> list[tuple[int, int]]:
        return list(zip(self.cutoffs[:-1], self.cutoffs[1:], strict=True))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, input_: Operand, target_: Operand) -> ASMOutput:
        """Return log probabilities of targets [N] for inputs [N, in_features], and their loss; or both without N."""
        what = "AdaptiveLogSoftmaxWithLoss"
        x, target = as_tensor(what, input_), as_tensor(what, target_)
        if target.ndim > 1 or x.shape != (*target.shape, self.in_features):
            raise ShapeError(
                f"{what}: input {x.node.type!r} and target {target.node.type!r} do not fit. They must be "
                f"[N, {self.in_features}] and [N], or [{self.in_features}] and a scalar."
            )
        self._check(target)
        rows, classes = x.reshape((-1, self.in_features)), target.reshape((-1,))
        # A class of a cluster is, in the head, the cluster; one that does not exist is none there, either.
        place = where(less(classes, 0), self.n_classes, classes)
        losses: list[Tensor] = []
        for i, (first, behind) in enumerate(self._clusters()):
            inside = logical_and(greater_equal(classes, first), less(classes, behind))
            place = where(inside, self.shortlist_size + i, place)
            own = where(inside, classes - first, IGNORED)
            losses.append(F.cross_entropy(self.tail[i](rows), own, ignore_index=IGNORED, reduction="none"))
        total = F.cross_entropy(self.head(rows), place, reduction="none")
        for part in losses:
            total = total + part
        return ASMOutput(-total.reshape(target.shape), total.mean())

    def _check(self, target: Tensor) -> None:
        """Raise IndexRangeError for class numbers that are known and do not exist."""
        handle = handle_of(node_of(target))
        if handle is None or not handle.array.size:
            return
        low, high = int(handle.array.min()), int(handle.array.max())
        if low < 0 or high >= self.n_classes:
            raise IndexRangeError(
                f"AdaptiveLogSoftmaxWithLoss: target {low if low < 0 else high} is out of range for {self.n_classes} "
                f"classes. Allowed: 0 to {self.n_classes - 1}."
            )

    def log_prob(self, input: Operand) -> Tensor:
        """Return the log probabilities of all classes [N, n_classes]."""
        x = as_tensor("log_prob", input)
        head = F.log_softmax(self.head(x), dim=-1)
        parts = [head[..., : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            at = self.shortlist_size + i
            parts.append(F.log_softmax(cluster(x), dim=-1) + head[..., at : at + 1])
        return concat(parts, axis=-1)

    def predict(self, input: Operand) -> Tensor:
        """Return the most probable class of each row."""
        return self.log_prob(input).argmax(axis=-1)
