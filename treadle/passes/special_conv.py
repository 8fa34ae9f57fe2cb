"""Convolutions that are something simpler: a matrix product, or a short sum of shifted images.

What is left has a kernel of its own: `conv`, and `conv_weight_grad` without input dilation.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

from treadle.ir import Graph, Node, Op, Pass, Rewriter
from treadle.ops import Pad, Slice
from treadle.ops.base import sum_dtype
from treadle.ops.broadcast import reshape
from treadle.ops.cast import cast as converted
from treadle.ops.conv import Conv, ConvOp, ConvWeightGrad, spread_size
from treadle.ops.movement import flip, permute

MOST_TAPS = 64  # a depthwise convolution with more taps is no short sum


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


def depthwise(node: Node) -> Node | None:
    """Return a convolution of single channels as the sum over taps of what each meets, times its weight."""
    op = node.op
    if not isinstance(op, Conv) or not _is_depthwise(op, node.args[0], math.prod(node.args[1].shape[:-2])):
        return None
    x, w = (converted(a, sum_dtype(node.dtype)) for a in node.args)
    g, (*kernel, _, k) = op.groups, w.shape
    x = _padded(op, x)
    terms: list[Node] = []
    for tap in itertools.product(*map(range, kernel)):
        met = reshape(_met(op, x, tap, node.shape[1:-1]), (*node.shape[:-1], g, 1))
        weight = Slice((*tap, 0, 0), (*[1] * len(tap), 1, k), (1,) * w.type.ndim)(w)
        terms.append(Op.registry["multiply"]()(met, reshape(weight, (*[1] * (op.num_axes + 1), g, k // g))))
    return converted(reshape(_sum(terms), node.shape), node.dtype)


def depthwise_gradient(node: Node) -> Node | None:
    """Return the gradient for the weight of a convolution of single channels: for every tap a sum over pixels."""
    op = node.op
    if not isinstance(op, ConvWeightGrad) or not _is_depthwise(op, node.args[0], math.prod(op.taps)):
        return None
    x, ct = (converted(a, sum_dtype(node.dtype)) for a in node.args)
    g, k = op.groups, ct.shape[-1]
    apart, pixels = reshape(ct, (*ct.shape[:-1], g, k // g)), tuple(range(op.num_axes + 1))
    x = _padded(op, x)
    sums: list[Node] = []
    for tap in itertools.product(*map(range, op.taps)):
        met = reshape(_met(op, x, tap, ct.shape[1:-1]), (*ct.shape[:-1], g, 1))
        total = Op.registry["sum"](pixels)(Op.registry["multiply"]()(met, apart))
        sums.append(reshape(total, (k, 1, 1)))
    joined = sums[0] if len(sums) == 1 else cast(Node, Op.registry["concat"](2)(*sums))
    return converted(reshape(joined, node.shape), node.dtype)


def _is_depthwise(op: ConvOp, x: Node, taps: int) -> bool:
    """Whether every group is a single channel, none of them spread out."""
    channels = x.shape[-1]
    return 1 < op.groups == channels and x.dtype.is_float and taps <= MOST_TAPS and max(op.input_dilation) == 1


def _padded(op: ConvOp, x: Node) -> Node:
    """Return x with its padding in place; what is to be cut off stays."""
    low, high = tuple(max(p, 0) for p in op.low), tuple(max(p, 0) for p in op.high)
    return Pad((0, *low, 0), (0, *high, 0), 0)(x) if any(low) or any(high) else x


def _met(op: ConvOp, padded: Node, tap: tuple[int, ...], out: tuple[int, ...]) -> Node:
    """Return what results meet with a tap: a slice of x, whose padding is in place."""
    starts = [t * d - min(low, 0) for t, d, low in zip(tap, op.dilation, op.low, strict=True)]
    return Slice((0, *starts, 0), (padded.shape[0], *out, padded.shape[-1]), (1, *op.strides, 1))(padded)


def _sum(terms: list[Node]) -> Node:
    """Return the sum, added in pairs: no deep nesting, and a small error."""
    while len(terms) > 1:
        pairs = [Op.registry["add"]()(a, b) for a, b in itertools.pairwise(terms)][::2]
        terms = [*pairs, *terms[len(terms) - len(terms) % 2 :]]
    return terms[0]


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
    return pointwise(node) or depthwise(node) or depthwise_gradient(node) or exchanged(node)


def special_conv(graph: Graph) -> Graph:
    """Return the graph with convolutions made simpler where they can be."""
    rewriter = Rewriter(rule)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


SPECIAL_CONV = Pass(
    "special_conv",
    special_conv,
    "convolutions that are a matrix product or a short sum become one",
    about=frozenset((Conv.name, ConvWeightGrad.name)),
)
