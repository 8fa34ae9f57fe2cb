"""Values brought to mean 0 and variance 1 over some axes, with the mean and variance they had.

Variances are means of squares about the mean, which loses no digits when the mean is large. Over a batch they are taken
in two steps: mean and squares about it for each example, whose data is still in cache for the second, then over the
examples, the squares about the common mean by Chan, Golub and LeVeque (1979), `Updating formulae ... sample variances`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import ShapeError, Type, from_numpy
from treadle.ir import Node

from .base import FLOATS, Array, Composite, check_axes, check_dtypes, reduced_shape, sum_dtype
from .broadcast import broadcast_to, reshape
from .cast import cast
from .math import Rsqrt
from .reduce import Sum, widened

Cotangents = tuple[Node | None, Node | None, Node | None]


@dataclass(frozen=True)
class Standardize(Composite):
    """(x - mean) / sqrt(var + eps) over `axes`; also the mean and the variance, which keep the axes with size 1.

    Mean and variance of 16-bit floats are float32.
    """

    name = "standardize"
    axes: tuple[int, ...]
    eps: float = 1e-5

    def infer(self, x: Type) -> tuple[Type, ...]:
        check_dtypes(self.name, (x,), FLOATS)
        check_axes(self.name, self.axes, x)
        kept = Type(sum_dtype(x.dtype), reduced_shape(x.shape, self.axes, keepdims=True))
        return x, kept, kept

    def expand(self, x: Node) -> tuple[Node, ...]:
        centered, mean, var = self.parts(x)
        return cast(centered * Rsqrt()(var + self.eps), x.dtype), mean, var

    def parts(self, x: Node) -> tuple[Node, Node, Node]:
        """Return x less its mean, the mean, and the variance."""
        wide, n = widened(x), _count(x.shape, self.axes)
        mean = Sum(self.axes, True)(wide) / n
        centered = wide - mean
        return centered, mean, Sum(self.axes, True)(centered * centered) / n

    def eval(self, x: Array) -> tuple[Array, ...]:
        y, mean, var = _standard(x, self.axes, self.eps)
        wide = sum_dtype(from_numpy(x.dtype)).numpy
        return y.astype(x.dtype), mean.astype(wide), var.astype(wide)

    def vjp(self, ct: Cotangents, out: Node, x: Node) -> list[Node | None]:
        """With g the first cotangent: dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps)."""
        centered, _, var = self.parts(x)
        n, scale = _count(x.shape, self.axes), Rsqrt()(var + self.eps)
        total: Node | None = None
        if ct[0] is not None:
            g, xhat = widened(ct[0]), centered * scale
            mean, product = Sum(self.axes, True)(g) / n, Sum(self.axes, True)(g * xhat) / n
            total = scale * (g - mean - xhat * product)
        return [cast(_with_statistics(total, ct, centered, n), x.dtype)]


@dataclass(frozen=True)
class BatchNorm(Composite):
    """(x - mean) / sqrt(var + eps) over all axes but `axis`, times a weight, plus a bias; also mean and variance.

    Weight, bias, mean and variance have one element for each place on `axis`, in float32 where x is a shorter float.
    """

    name = "batch_norm"
    axis: int
    eps: float = 1e-5

    def infer(self, x: Type, weight: Type, bias: Type) -> tuple[Type, ...]:
        check_dtypes(self.name, (x,), FLOATS)
        check_axes(self.name, (self.axis,), x)
        one = Type(sum_dtype(x.dtype), (x.shape[self.axis],))
        for what, t in (("weight", weight), ("bias", bias)):
            if t != one:
                raise ShapeError(f"batch_norm: {what} {t} does not fit {x}; it must be {one}, one for each channel.")
        return x, one, one

    def expand(self, x: Node, weight: Node, bias: Node) -> tuple[Node, ...]:
        mean, var = self.statistics(x)
        scale = Rsqrt()(var + self.eps) * weight
        y = (widened(x) - self.line(mean, x)) * self.line(scale, x) + self.line(bias, x)
        return cast(y, x.dtype), mean, var

    def statistics(self, x: Node) -> tuple[Node, Node]:
        """Return mean and variance."""
        wide, axes, batch = widened(x), self.example_axes(x), self.batch_axes(x)
        count, examples = _count(x.shape, axes), _count(x.shape, batch)
        if not axes:
            mean = Sum(batch)(wide) / examples
            centered = wide - self.line(mean, x)
            return mean, Sum(batch)(centered * centered) / examples
        each = Sum(axes, True)(wide) / count
        centered = wide - each
        squares = Sum(axes, True)(centered * centered)
        mean = self.over_batch(each) / examples
        apart = each - self.line(mean, x)
        return mean, self.over_batch(squares + apart * apart * count) / (count * examples)

    def total(self, x: Node) -> Node:
        """Return the sum over all axes but `axis`."""
        axes = self.example_axes(x)
        return self.over_batch(Sum(axes, True)(x) if axes else x)

    def over_batch(self, x: Node) -> Node:
        """Return the sum of what is left per example: one element for each channel."""
        batch = self.batch_axes(x)
        return reshape(Sum(batch)(x) if batch else x, (x.shape[self.axis],))

    def batch_axes(self, x: Node) -> tuple[int, ...]:
        """Return the axis examples lie along."""
        return () if self.axis == 0 else (0,)

    def example_axes(self, x: Node) -> tuple[int, ...]:
        """Return the axes of an example that are folded."""
        return tuple(a for a in range(1, x.type.ndim) if a != self.axis)

    def line(self, values: Node, x: Node) -> Node:
        """Return one value per channel in a shape that broadcasts with x."""
        return reshape(values, [n if a == self.axis else 1 for a, n in enumerate(x.shape)])

    def eval(self, x: Array, weight: Array, bias: Array) -> tuple[Array, ...]:
        axes = tuple(a for a in range(x.ndim) if a != self.axis)
        y, mean, var = _standard(x, axes, self.eps)
        line = tuple(-1 if a == self.axis else 1 for a in range(x.ndim))
        with np.errstate(all="ignore"):
            y = y * weight.astype(np.float64).reshape(line) + bias.astype(np.float64).reshape(line)
        return y.astype(x.dtype), mean.reshape(-1).astype(weight.dtype), var.reshape(-1).astype(weight.dtype)

    def vjp(self, ct: Cotangents, out: Node, x: Node, weight: Node, bias: Node) -> list[Node | None]:
        """Return dx as in `Standardize`; the weight is the same for all that is averaged, so two sums serve all."""
        mean, var = self.statistics(x)
        scale = Rsqrt()(var + self.eps)
        centered, n = (
            widened(x) - self.line(mean, x),
            _count(x.shape, [a for a in range(x.type.ndim) if a != self.axis]),
        )
        dx = dweight = dbias = None
        if ct[0] is not None:
            g, xhat = widened(ct[0]), centered * self.line(scale, x)
            dbias, dweight = self.total(g), self.total(g * xhat)
            dx = self.line(scale * weight, x) * (g - self.line(dbias / n, x) - xhat * self.line(dweight / n, x))
        dmean, dvar = (None if c is None else self.line(c, x) for c in ct[1:])
        return [cast(_with_statistics(dx, (None, dmean, dvar), centered, n), x.dtype), dweight, dbias]


def _with_statistics(dx: Node | None, ct: Cotangents, centered: Node, n: float) -> Node:
    """Return a gradient plus what flows back from the mean and the variance of n elements."""
    terms = [] if dx is None else [dx]
    if ct[1] is not None:
        terms.append(broadcast_to(ct[1] / n, centered.shape))
    if ct[2] is not None:
        terms.append(centered * (ct[2] * (2 / n if n else 0.0)))
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _standard(x: Array, axes: Sequence[int], eps: float) -> tuple[Array, Array, Array]:
    """Return x standardised, its mean and its variance, in float64."""
    with np.errstate(all="ignore"):
        wide: Any = x.astype(np.float64)
        n = np.float64(_count(x.shape, axes))
        mean = wide.sum(axis=tuple(axes), keepdims=True) / n
        var = np.square(wide - mean).sum(axis=tuple(axes), keepdims=True) / n
        return (wide - mean) / np.sqrt(var + eps), mean, var


def _count(shape: Sequence[int], axes: Sequence[int]) -> float:
    return float(math.prod(shape[a] for a in axes))
