"""Convolution and its gradient for the weight, on channels-last operands, in one, two or three spatial axes.

A geometry says which positions of x an element of the result reads. The gradient for x is a convolution again, with
the geometry turned round; that for the weight is an op of its own, and its gradients are the two others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treadle.core import Shape, ShapeError, Type, bool_, from_numpy
from treadle.ir import Node
from treadle.te import Compute, add, bounds, compute, convert, floordiv, fn, literal, load, mod, scale, select
from treadle.te.compute import INDEX

from .base import NUMERIC, Array, TensorOp, check_dtypes, sum_dtype
from .broadcast import reshape
from .movement import flip, permute


@dataclass(frozen=True)
class ConvOp(TensorOp):
    """An op whose result at o meets x at `o * strides + tap * dilation - low`, for every tap of a kernel.

    x is thought of with `input_dilation` - 1 places between neighbours, which take no part in any sum, and with `low`
    and `high` zeros around it, which do; negative widths cut off. All have one number per spatial axis. With groups
    channel block g of x meets channel block g of the result only.
    """

    strides: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int = 1

    @property
    def num_axes(self) -> int:
        """Spatial axes."""
        return len(self.strides)

    def out_sizes(self, sizes: Sequence[int], kernel: Sequence[int]) -> Shape:
        """Return the result's spatial sizes for those of x and of the kernel."""
        out: list[int] = []
        for axis, (size, taps) in enumerate(zip(sizes, kernel, strict=True)):
            room = spread_size(size, self.input_dilation[axis]) + self.low[axis] + self.high[axis]
            span = spread_size(taps, self.dilation[axis])
            if taps < 1 or room < span:
                raise ShapeError(
                    f"{self.name}: a kernel of {taps} taps, {span} places with dilation {self.dilation[axis]}, does "
                    f"not fit spatial axis {axis}, which has {room} places with padding. Give a smaller kernel with "
                    "at least one tap, or more padding."
                )
            out.append((room - span) // self.strides[axis] + 1)
        return tuple(out)

    def check(self, x: Type, other: Type, channels: int) -> None:
        """Raise unless operands have the right axes and dtypes, and both channel counts divide into the groups."""
        check_dtypes(self.name, (x, other), NUMERIC)
        counts = {len(x) for x in (self.low, self.high, self.dilation, self.input_dilation)} | {self.num_axes}
        if x.ndim != self.num_axes + 2 or other.ndim != x.ndim or len(counts) != 1:
            raise ShapeError(
                f"{self.name}: operands {x} and {other} do not fit a geometry of {self.num_axes} spatial axes. Both "
                "must have two axes more, and every parameter one number per spatial axis."
            )
        if self.groups < 1 or x.shape[-1] % self.groups or channels % self.groups:
            raise ShapeError(
                f"{self.name}: {x.shape[-1]} channels in and {channels} out do not divide into {self.groups} groups. "
                "Both must be multiples of the number of groups."
            )
        if min((*self.strides, *self.dilation, *self.input_dilation), default=1) < 1:
            raise ShapeError(f"{self.name}: {self} has a step below 1. Strides and dilations must be at least 1.")

    def element(
        self, x: Type, n: Node, out: Sequence[Node], taps: Sequence[Node], channel: Node, *, first: bool = False
    ) -> tuple[Node, Node]:
        """Return x as a result at `out` meets it with a tap, zero in the padding, and whether it takes part at all.

        `first` says that the channels of x are its second axis, not its last.
        """
        inside: list[Node] = []
        apart: list[Node] = []
        position: list[Node] = []
        sizes = x.shape[2:] if first else x.shape[1:-1]
        steps = zip(self.strides, self.dilation, self.input_dilation, self.low, sizes, strict=True)
        for o, r, (stride, dilation, between, low, size) in zip(out, taps, steps, strict=True):
            at = add(scale(o, stride), scale(r, dilation), -low)
            least, most = bounds(at)
            last = (size - 1) * between
            if between > 1:
                apart.append(fn("eq", mod(add(at, -(least // between) * between), between), literal(0, INDEX)))
            if least < 0:
                inside.append(fn("ge", at, literal(0, INDEX)))
            if most > last:
                inside.append(fn("le", at, literal(last, INDEX)))
            if least < 0:
                at = fn("max", at, literal(0, INDEX))
            if most > last:
                at = fn("min", at, literal(max(last, 0), INDEX))
            position.append(floordiv(at, between))
        zero, wide = literal(0, sum_dtype(x.dtype)), sum_dtype(x.dtype)
        where = (n, channel, *position) if first else (n, *position, channel)
        value = zero if x.size == 0 else convert(load(0, x, *where), wide)
        return select(_all(inside), value, zero) if inside else value, _all(apart)

    def taken(self, x: Array, kernel: Sequence[int]) -> list[tuple[tuple[int, ...], Array, Array]]:
        """Return for every tap what each result meets of x, [N, *out, C], and [*out, 1] whether it takes part."""
        sizes = x.shape[1:-1]
        out = self.out_sizes(sizes, kernel)
        axes: list[list[tuple[Array, Array, Array]]] = []  # per axis and tap: position in x, is it there, takes part
        for a, (size, taps) in enumerate(zip(sizes, kernel, strict=True)):
            between = self.input_dilation[a]
            places = [np.arange(out[a]) * self.strides[a] + r * self.dilation[a] - self.low[a] for r in range(taps)]
            axes.append([(p // between, (p >= 0) & (p // between < size), p % between == 0) for p in places])
        found: list[tuple[tuple[int, ...], Array, Array]] = []
        for tap in itertools.product(*(range(taps) for taps in kernel)):
            value = x
            takes = np.ones((), bool)
            for a, r in enumerate(tap):
                position, there, part = axes[a][r]
                shape = tuple(-1 if k == a else 1 for k in range(len(sizes)))
                picked = np.take(value, position, axis=a + 1, mode="clip") if sizes[a] else None
                if picked is None:
                    picked = np.zeros((*value.shape[: a + 1], len(position), *value.shape[a + 2 :]), x.dtype)
                value = np.where(there.reshape((1, *shape, 1)), picked, np.zeros((), x.dtype))
                takes = takes & part.reshape(shape)
            found.append((tap, value, np.broadcast_to(takes, out)[..., None]))
        return found


@dataclass(frozen=True)
class Conv(ConvOp):
    """The convolution (cross-correlation) of x [N, *spatial, C] with w [*kernel, C / groups, K], as [N, *out, K].

    Products of float16 and bfloat16 are summed in float32.
    """

    name = "conv"
    kernel = "conv"

    def infer(self, x: Type, w: Type) -> Type:
        channels = w.shape[-1] if w.shape else 0
        self.check(x, w, channels)
        if w.shape[-2] * self.groups != x.shape[-1]:
            raise ShapeError(
                f"conv: {x} has {x.shape[-1]} channels, weight {w} takes {w.shape[-2]} in each of {self.groups} "
                "groups. The product of the two must be the number of channels."
            )
        return Type(x.dtype, (x.shape[0], *self.out_sizes(x.shape[1:-1], w.shape[:-2]), channels))

    def eval(self, x: Array, w: Array) -> Array:
        wide = sum_dtype(from_numpy(x.dtype)).numpy
        n, g, k = x.shape[0], self.groups, w.shape[-1]
        out = self.out_sizes(x.shape[1:-1], w.shape[:-2])
        total = np.zeros((n, *out, k), wide)
        with np.errstate(all="ignore"):
            for tap, value, takes in self.taken(x.astype(wide), w.shape[:-2]):
                blocks = value.reshape((n, *out, g, x.shape[-1] // g))
                weights = w[tap].astype(wide).reshape((-1, g, k // g)) if k else w[tap].reshape((w.shape[-2], g, 0))
                product = np.einsum("...gc,cgk->...gk", blocks, weights).reshape(total.shape)
                total += np.where(takes, product, np.zeros((), wide))
            return total.astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node, w: Node) -> list[Node | None]:
        grad = self.weight_gradient(w.shape[:-2])(x, ct)
        return [self.input_gradient(ct, w, x.shape), permute(grad, (*range(2, self.num_axes + 2), 1, 0))]

    def lower(self, x: Type, w: Type) -> Compute:
        shape, wide = self.infer(x, w).shape, sum_dtype(x.dtype)
        axes, each = self.num_axes, w.shape[-2]

        def body(n: Node, *rest: Node) -> Node:
            o, (k, *taps, c) = rest[:axes], rest[axes:]
            channel = add(scale(floordiv(k, max(shape[-1] // self.groups, 1)), each), c)
            value, takes = self.element(x, n, o, taps, channel)
            product = fn("mul", value, convert(load(1, w, *taps, c, k), wide))
            return product if takes is TRUE else select(takes, product, literal(0, wide))

        return compute(shape, body, over=(*w.shape[:-2], each))

    def weight_gradient(self, kernel: Shape) -> ConvWeightGrad:
        """Return the op (x, cotangent) that is the gradient for a weight with these taps."""
        return ConvWeightGrad(
            self.strides, self.low, self.high, self.dilation, self.input_dilation, self.groups, kernel
        )

    def input_gradient(self, ct: Node, w: Node, shape: Shape) -> Node:
        """Return the gradient for an x of this shape: the convolution that sends every cotangent back where it met x.

        Strides and input dilation change roles, taps are met in opposite order, channels in and out change places.
        """
        kernel, sizes = w.shape[:-2], shape[1:-1]
        axes = range(self.num_axes)
        span = [(kernel[a] - 1) * self.dilation[a] for a in axes]
        low = tuple(span[a] - self.low[a] for a in axes)
        # As many places behind the last cotangent as make the result as long as x, spread out.
        high = tuple(
            spread_size(sizes[a], self.input_dilation[a]) + self.low[a] - spread_size(ct.shape[a + 1], self.strides[a])
            for a in axes
        )
        back = Conv(self.input_dilation, low, high, self.dilation, self.strides, self.groups)
        return back(ct, channels_exchanged(flip_taps(w), self.groups))


@dataclass(frozen=True)
class ConvWeightGrad(ConvOp):
    """The gradient of `conv` for its weight, as [K, C / groups, *taps], from x [N, *spatial, C] and ct [N, *out, K].

    Its axes are in the order in which weights are stored, so that the step that changes them reads it straight.
    """

    name = "conv_weight_grad"
    kernel = "conv_grad"
    taps: tuple[int, ...] = ()

    @property
    def conv(self) -> Conv:
        """The convolution with the same geometry."""
        return Conv(self.strides, self.low, self.high, self.dilation, self.input_dilation, self.groups)

    def infer(self, x: Type, ct: Type) -> Type:
        channels = ct.shape[-1] if ct.shape else 0
        self.check(x, ct, channels)
        wanted = (x.shape[0], *self.out_sizes(x.shape[1:-1], self.taps), channels)
        if ct.shape != wanted:
            raise ShapeError(
                f"conv_weight_grad: cotangent {ct} does not fit x {x} and a kernel of {self.taps} taps. Its shape "
                f"must be {list(wanted)}."
            )
        return Type(x.dtype, (channels, x.shape[-1] // self.groups, *self.taps))

    def eval(self, x: Array, ct: Array) -> Array:
        wide = sum_dtype(from_numpy(x.dtype)).numpy
        g, (n, *out, k) = self.groups, ct.shape
        total = np.zeros((k, x.shape[-1] // g, *self.taps), wide)
        right = ct.astype(wide).reshape((n, *out, g, k // g))
        with np.errstate(all="ignore"):
            for tap, value, takes in self.taken(x.astype(wide), self.taps):
                left = value.reshape((n, *out, g, x.shape[-1] // g))
                part = np.where(takes[..., None], right, np.zeros((), wide))
                left = np.where(takes[..., None], left, np.zeros((), wide))
                axes = "nabe"[: 1 + len(out)]
                total[:, :, *tap] = np.einsum(f"{axes}gc,{axes}gk->gkc", left, part).reshape(total.shape[:2])
            return total.astype(x.dtype)

    def vjp(self, ct: Node, out: Node, x: Node, ct_conv: Node) -> list[Node | None]:
        w = permute(ct, (*range(2, self.num_axes + 2), 1, 0))
        return [self.conv.input_gradient(ct_conv, w, x.shape), self.conv(x, w)]

    def lower(self, x: Type, ct: Type) -> Compute:
        shape, wide = self.infer(x, ct).shape, sum_dtype(x.dtype)
        axes, each = self.num_axes, shape[1]

        def body(k: Node, c: Node, *rest: Node) -> Node:
            taps, (n, *o) = rest[:axes], rest[axes:]
            channel = add(scale(floordiv(k, max(shape[0] // self.groups, 1)), each), c)
            value, takes = self.element(x, n, o, taps, channel)
            product = fn("mul", value, convert(load(1, ct, n, *o, k), wide))
            return product if takes is TRUE else select(takes, product, literal(0, wide))

        return compute(shape, body, over=ct.shape[:-1])


def spread_size(size: int, step: int) -> int:
    """Return the places `size` elements take that lie `step` apart."""
    return (size - 1) * step + 1 if size else 0


def flip_taps(w: Node) -> Node:
    """Return a weight [*kernel, C, K] with its taps in opposite order along every axis."""
    backward = [size > 1 for size in w.shape[:-2]]
    return flip(w, [*backward, False, False]) if any(backward) else w


def channels_exchanged(w: Node, groups: int) -> Node:
    """Return a weight [*kernel, C / groups, K] as [*kernel, K / groups, C], for the way back."""
    *kernel, each, channels = w.shape
    taps = tuple(range(len(kernel)))
    a = len(kernel)
    apart = reshape(w, (*kernel, each, groups, channels // groups))
    return reshape(permute(apart, (*taps, a + 2, a + 1, a)), (*kernel, channels // groups, groups * each))


TRUE = literal(True, bool_)


def _all(conditions: Sequence[Node]) -> Node:
    """Return the conjunction of scalar conditions."""
    if not conditions:
        return TRUE
    result = conditions[0]
    for condition in conditions[1:]:
        result = fn("and", result, condition)
    return result
