"""Convolutions that are something simpler: a matrix product, or a weight gradient that reads its input in place.

What is left has a kernel of its own: `conv`, and `conv_weight_grad` without input dilation.
"""

from __future__ import annotations

import math
from typing import cast

from treadle.ir import Graph, Node, Op, Pass, Rewriter
from treadle.ops import Pad, Slice
from treadle.ops.broadcast import reshape
from treadle.ops.conv import Conv, ConvWeightGrad, spread_size
from treadle.ops.movement import flip, permute


def pointwise(node: Node) -> Node | None:
    """Return a convolution with one tap that meets every pixel as one matrix product over channels."""
    op = node.op
    if not isinstance(op, Conv) or op.groups > 1 or not node.type.size:
        return None
    x, w = node.args
    moves = (*op.low, *op.high, *(n - 1 for n in (*op.strides, *op.input_dilation, *w.shape[:-2])))
    if any(moves) or not x.type.size:
        return None
    left, right = reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])), reshape(w, w.shape[-2:])
    return reshape(cast(Node, Op.registry["matmul"]()(left, right)), node.shape)


def exchanged(node: Node) -> Node | None:
    """Return a weight gradient with input dilation as one with strides: x and the cotangent change roles.

    Element i of x stands at `i * input_dilation` and meets, with tap r, the cotangent at `i * input_dilation + low -
    r * dilation`: what a convolution of the cotangent with the taps in opposite order reads.
    """
    op = node.op
    if not isinstance(op, ConvWeightGrad) or max(op.input_dilation) == 1 or not node.dtype.is_float:
        return None
    x, ct = node.args[0], _spread(node.args[1], op.strides)
    axes, g = range(op.num_axes), op.groups
    span = [(op.taps[a] - 1) * op.dilation[a] for a in axes]
    low = tuple(span[a] - op.low[a] for a in axes)
    high = tuple(spread_size(x.shape[a + 1], op.input_dilation[a]) + span[a] - ct.shape[a + 1] - low[a] for a in axes)
    ones = (1,) * op.num_axes
    turned = ConvWeightGrad(op.input_dilation, low, high, op.dilation, ones, g, op.taps)(ct, x)
    c, k = x.shape[-1] // g, ct.shape[-1] // g
    backward = [False, False, *(n > 1 for n in op.taps)]
    turned = flip(turned, backward) if any(backward) else turned
    apart = permute(reshape(turned, (g, c, k, *op.taps)), (0, 2, 1, *range(3, 3 + op.num_axes)))
    return reshape(apart, node.shape)


def _spread(x: Node, steps: tuple[int, ...]) -> Node:
    """Return x [N, *spatial, C] with steps - 1 zeros between neighbours along the spatial axes."""
    for axis, step in enumerate(steps, 1):
        size = x.shape[axis]
        if step > 1 and size > 1:
            before, behind = x.shape[: axis + 1], x.shape[axis + 1 :]
            single = reshape(x, (*before, 1, *behind))
            zeros = tuple(step - 1 if a == axis + 1 else 0 for a in range(single.type.ndim))
            wide = reshape(Pad((0,) * len(zeros), zeros, 0)(single), (*x.shape[:axis], size * step, *behind))
            sizes = (*x.shape[:axis], spread_size(size, step), *behind)
            x = Slice((0,) * len(sizes), sizes, (1,) * len(sizes))(wide)
    return x


def rule(node: Node) -> Node | None:
    """Return a convolution as something simpler, or None."""
    return pointwise(node) or exchanged(node)


def special_conv(graph: Graph) -> Graph:
    """Return the graph with convolutions made simpler where they can be."""
    rewriter = Rewriter(rule)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


SPECIAL_CONV = Pass(
    "special_conv",
    special_conv,
    "convolutions that are something simpler become it",
    about=frozenset((Conv.name, ConvWeightGrad.name)),
)
