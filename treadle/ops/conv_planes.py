"""Convolution with channels first: the op of convolutions whose kernel takes neighbours along a row as lanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treadle.core import Type
from treadle.ir import Node
from treadle.te import Compute, add, compute, convert, floordiv, fn, literal, load, scale, select

from .base import Array, sum_dtype
from .conv import TRUE, Conv, ConvOp
from .movement import permute


@dataclass(frozen=True)
class ConvPlanes(ConvOp):
    """What `conv` computes, of x [N, C, *spatial] and w [*kernel, C / groups, K], as [N, K, *out].

    A pass makes it (see `passes.conv_planes`); programs are written with `conv`.
    """

    name = "conv_planes"
    kernel = "conv_planes"

    @property
    def conv(self) -> Conv:
        """The convolution with the same geometry, channels last."""
        return Conv(self.strides, self.low, self.high, self.dilation, self.input_dilation, self.groups)

    @property
    def first(self) -> tuple[int, ...]:
        """The order that makes [N, *spatial, C] [N, C, *spatial]."""
        return (0, self.num_axes + 1, *range(1, self.num_axes + 1))

    @property
    def last(self) -> tuple[int, ...]:
        """The order that makes [N, C, *spatial] [N, *spatial, C]."""
        return (0, *range(2, self.num_axes + 2), 1)

    def infer(self, x: Type, w: Type) -> Type:
        if x.ndim != self.num_axes + 2:
            return self.conv.infer(x, w)  # which says what is wrong
        out = self.conv.infer(Type(x.dtype, tuple(x.shape[a] for a in self.last)), w)
        return Type(out.dtype, tuple(out.shape[a] for a in self.first))

    def eval(self, x: Array, w: Array) -> Array:
        return np.ascontiguousarray(self.conv.eval(x.transpose(self.last), w).transpose(self.first))

    def vjp(self, ct: Node, out: Node, x: Node, w: Node) -> list[Node | None]:
        back, grad = self.conv.vjp(permute(ct, self.last), permute(out, self.last), permute(x, self.last), w)
        assert back is not None
        return [permute(back, self.first), grad]

    def lower(self, x: Type, w: Type) -> Compute:
        shape, wide = self.infer(x, w).shape, sum_dtype(x.dtype)
        axes, each = self.num_axes, w.shape[-2]

        def body(n: Node, k: Node, *rest: Node) -> Node:
            o, (*taps, c) = rest[:axes], rest[axes:]
            channel = add(scale(floordiv(k, max(shape[1] // self.groups, 1)), each), c)
            value, takes = self.element(x, n, o, taps, channel, first=True)
            product = fn("mul", value, convert(load(1, w, *taps, c, k), wide))
            return product if takes is TRUE else select(takes, product, literal(0, wide))

        return compute(shape, body, over=(*w.shape[:-2], each))
