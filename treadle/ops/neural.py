"""Softmax and its kin, layer norm and cross-entropy, defined by simple ops along one axis so that each is one kernel.

Forward and gradient build the nodes they share in the same way; nodes are interned, so they are computed once. Short
floats are widened first: their sums are as good as float32's wherever the kernels' borders fall.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treadle.core import DTypeError, ShapeError, Type, int32
from treadle.ir import Node

from .arithmetic import Reciprocal
from .base import FLOATS, Array, Composite, check_axes, check_dtypes, reduced_shape
from .broadcast import reshape, scalar_like, sum_axes, zeros_like
from .cast import cast
from .compare import Equal, IsFinite
from .indexing import Check, Iota, TakeAlongAxis, range_checks
from .logic import where
from .math import Exp, Log, Rsqrt
from .reduce import Max, Sum, widened


@dataclass(frozen=True)
class Softmax(Composite):
    """exp(x) / sum(exp(x)) along `axis`. A row of -inf only is NaN, as 0 / 0 is: there is nothing to choose from."""

    name = "softmax"
    axis: int

    def infer(self, x: Type) -> Type:
        return _float_with_axes("softmax", x, (self.axis,))

    def expand(self, x: Node) -> Node:
        if x.type.size == 0:
            return x
        e, total = _exponentials(x, (self.axis,))
        return cast(e * Reciprocal()(total), x.dtype)

    def eval(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            e = np.exp(_wide(x) - _wide(x).max(axis=self.axis, keepdims=True, initial=-np.inf))
            return (e / e.sum(axis=self.axis, keepdims=True)).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        p, ct = widened(out), widened(ct)
        return [cast(p * (ct - Sum((self.axis,), True)(ct * p)), x.dtype)]


@dataclass(frozen=True)
class LogSoftmax(Composite):
    """x - logsumexp(x) along `axis`, without taking the logarithm of a quotient."""

    name = "log_softmax"
    axis: int

    def infer(self, x: Type) -> Type:
        return _float_with_axes("log_softmax", x, (self.axis,))

    def expand(self, x: Node) -> Node:
        if x.type.size == 0:
            return x
        shifted = _shifted(x, (self.axis,))
        return cast(shifted - Log()(Sum((self.axis,), True)(Exp()(shifted))), x.dtype)

    def eval(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            shifted = _wide(x) - _wide(x).max(axis=self.axis, keepdims=True, initial=-np.inf)
            return (shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        wide = widened(ct)
        return [cast(wide - Exp()(widened(out)) * Sum((self.axis,), True)(wide), x.dtype)]


@dataclass(frozen=True)
class LogSumExp(Composite):
    """log(sum(exp(x))) over `axes`: -inf where all are -inf, inf where one is inf; `keepdims` leaves size 1."""

    name = "logsumexp"
    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: Type) -> Type:
        _float_with_axes("logsumexp", x, self.axes)
        return Type(x.dtype, reduced_shape(x.shape, self.axes, keepdims=self.keepdims))

    def expand(self, x: Node) -> Node:
        wide = widened(x)
        if any(x.shape[a] == 0 for a in self.axes):  # the largest of nothing does not exist, the sum of nothing does
            return cast(Log()(Sum(self.axes, self.keepdims)(Exp()(wide))), x.dtype)
        top = Max(self.axes, True)(wide)
        # An infinite maximum must not be subtracted: inf - inf is NaN.
        top = where(IsFinite()(top), top, 0.0)
        result = Log()(Sum(self.axes, True)(Exp()(wide - top))) + top
        return reshape(cast(result, x.dtype), self.infer(x.type).shape)

    def eval(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            wide = _wide(x)
            top = wide.max(axis=self.axes, keepdims=True, initial=-np.inf)
            top[~np.isfinite(top)] = 0
            total = np.log(np.exp(wide - top).sum(axis=self.axes, keepdims=True)) + top
            return np.reshape(total, reduced_shape(x.shape, self.axes, keepdims=self.keepdims)).astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        """Return ct * softmax(x); 0 for a row of -inf, NaN at inf, where the gradient is not defined."""
        kept = reduced_shape(x.shape, self.axes, keepdims=True)
        out, ct = widened(reshape(out, kept)), widened(reshape(ct, kept))
        out = where(Equal()(out, scalar_like(out, float("-inf"))), 0.0, out)
        return [cast(ct * Exp()(widened(x) - out), x.dtype)]


@dataclass(frozen=True)
class LayerNorm(Composite):
    """(x - mean) / sqrt(var + eps) over the last `num_axes` axes, times an optional weight, plus an optional bias.

    Weight and bias have the shape of those axes. The variance is the mean of squares about the mean.
    """

    name = "layer_norm"
    num_axes: int
    eps: float = 1e-5

    def infer(self, x: Type, *affine: Type) -> Type:
        if not 1 <= self.num_axes <= x.ndim:
            raise ShapeError(
                f"layer_norm: cannot normalise {self.num_axes} trailing axes of {x}. Allowed: 1..{x.ndim}."
            )
        check_dtypes("layer_norm", (x, *affine), FLOATS)
        for what, t in zip(("weight", "bias"), affine, strict=False):
            if t.shape != x.shape[-self.num_axes :]:
                raise ShapeError(
                    f"layer_norm: {what} {t} does not fit {x}; its shape must be {list(x.shape[-self.num_axes :])}, "
                    "that of the axes normalised."
                )
        return x

    def expand(self, x: Node, *affine: Node) -> Node:
        y, _ = self._normalised(x)
        if affine:
            y = y * widened(affine[0])
        if len(affine) > 1:
            y = y + widened(affine[1])
        return cast(y, x.dtype)

    def eval(self, x: Array, *affine: Array) -> Array:
        axes = tuple(range(x.ndim - self.num_axes, x.ndim))
        wide = _wide(x)
        size = max(math.prod(x.shape[a] for a in axes), 1)
        centered = wide - wide.sum(axis=axes, keepdims=True) / size
        y = centered / np.sqrt(np.square(centered).sum(axis=axes, keepdims=True) / size + self.eps)
        for combine, operand in zip((np.multiply, np.add), affine, strict=False):
            y = combine(y, _wide(operand))
        return y.astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node, *affine: Node) -> list[Node | None]:
        """With g = ct * weight: dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)."""
        xhat, scale = self._normalised(x)
        wide = widened(ct)
        g = wide * widened(affine[0]) if affine else wide
        dx = scale * (g - self._mean(g) - xhat * self._mean(g * xhat))
        leading = range(x.type.ndim - self.num_axes)
        sums = [sum_axes(wide * xhat, leading), sum_axes(wide, leading)][: len(affine)]
        return [cast(dx, x.dtype), *[cast(s, a.dtype) for s, a in zip(sums, affine, strict=True)]]

    def _normalised(self, x: Node) -> tuple[Node, Node]:
        """Return x with mean 0 and variance 1, and the factor that made it so."""
        wide = widened(x)
        centered = wide - self._mean(wide)
        scale = Rsqrt()(self._mean(centered * centered) + self.eps)
        return centered * scale, scale

    def _mean(self, x: Node) -> Node:
        axes = tuple(range(x.type.ndim - self.num_axes, x.type.ndim))
        return Sum(axes, True)(x) / float(math.prod(x.shape[a] for a in axes))


class CrossEntropy(Composite):
    """The loss of every row: logsumexp(logits) - logits[target], for logits [N, C] and integer targets [N].

    Ignored targets, smoothing, weights and the mean are made of this by the caller.
    """

    name = "cross_entropy"

    def infer(self, logits: Type, targets: Type) -> Type:
        check_dtypes("cross_entropy", (logits,), FLOATS)
        if not targets.dtype.is_integer:
            raise DTypeError(
                f"cross_entropy: targets have dtype {targets.dtype.name}. They must be integers, class numbers."
            )
        if logits.ndim != 2 or targets.shape != logits.shape[:1]:
            raise ShapeError(
                f"cross_entropy: logits {logits} and targets {targets} do not fit. They must be [N, C] and [N]; "
                "reshape other shapes first."
            )
        if logits.shape[1] == 0 and logits.shape[0]:
            raise ShapeError(f"cross_entropy: logits {logits} have no classes. Give at least one.")
        return Type(logits.dtype, targets.shape)

    def checks(self, *args: Node) -> list[Check]:
        logits, targets = args
        return range_checks("cross_entropy", targets, logits.shape[1], f"{logits.shape[1]} classes")

    def expand(self, logits: Node, targets: Node) -> Node:
        if logits.type.size == 0:
            return reshape(logits, targets.shape)
        _, total = _exponentials(logits, (1,))
        # Taken from the logits themselves: a kernel then reads one element of its operand.
        chosen = widened(TakeAlongAxis(1)(logits, reshape(targets, (*targets.shape, 1)))) - _top(logits, (1,))
        return cast(reshape(Log()(total) - chosen, targets.shape), logits.dtype)

    def eval(self, logits: Array, targets: Array) -> Array:
        with np.errstate(all="ignore"):
            shifted = _wide(logits) - _wide(logits).max(axis=1, keepdims=True, initial=-np.inf)
            total = np.log(np.exp(shifted).sum(axis=1))
            at = np.clip(targets.astype(np.int64), 0, max(logits.shape[1] - 1, 0))
            return (total - shifted[np.arange(len(at)), at]).astype(logits.dtype)

    def vjp(self, ct: Node, out: Node, logits: Node, targets: Node) -> list[Node | None]:
        """Return ct * (softmax(logits) - onehot(target)); the one-hot matrix is a comparison inside the kernel."""
        if logits.type.size == 0:
            return [zeros_like(logits), None]
        e, total = _exponentials(logits, (1,))
        p = e * Reciprocal()(total)
        rows = (*targets.shape, 1)
        # int32 is as wide as the float32 it is compared beside: kernels use one number of lanes.
        mine = Equal()(Iota(logits.shape[1], int32)(), cast(reshape(targets, rows), int32))
        return [cast(where(mine, p - 1.0, p) * widened(reshape(ct, rows)), logits.dtype), None]


def _wide(x: Array) -> Array:
    """Return a copy in float64: the reference is more exact than what it judges."""
    return x.astype(np.float64)


def _top(x: Node, axes: Sequence[int]) -> Node:
    return Max(tuple(axes), True)(widened(x))


def _shifted(x: Node, axes: Sequence[int]) -> Node:
    """Return x less its largest element: exp of it cannot overflow."""
    return widened(x) - _top(x, axes)


def _exponentials(x: Node, axes: Sequence[int]) -> tuple[Node, Node]:
    """Return exp(x - max) and its sum."""
    e = Exp()(_shifted(x, axes))
    return e, Sum(tuple(axes), True)(e)


def _float_with_axes(what: str, x: Type, axes: Sequence[int]) -> Type:
    check_dtypes(what, (x,), FLOATS)
    check_axes(what, axes, x)
    return x
