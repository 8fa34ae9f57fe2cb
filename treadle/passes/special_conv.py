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
from treadle.ops.conv_planes import ConvPlanes
from treadle.ops.movement import flip, permute

from .conv_planes import MOST_COLUMNS, comes_first, is_pointwise


def pointwise(node: Node) -> Node | None:
    """Return a convolution with one tap that meets every pixel as matrix products over channels.

    Of channels-last pixels it is one product. Of images that lie channels first it is one for each image: [K, C] with
    [C, pixels] where the result is wanted channels first, too, else [pixels, C] with [C, K]; none of them is copied.
    """
    op = node.op
    if (
        not isinstance(op, Conv | ConvPlanes)
        or not is_pointwise(node)
        or not node.type.size
        or not node.args[0].type.size
    ):
        return None
    (x, w), matmul = node.args, Op.registry["matmul"]()
    square = reshape(w, w.shape[-2:])
    last = isinstance(op, Conv)
    if last and not comes_first(x):
        return reshape(cast(Node, matmul(reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])), square)), node.shape)
    planes = x.args[0] if last else x
    product = matmul(permute(square, (1, 0)), reshape(planes, (*planes.shape[:2], math.prod(planes.shape[2:]))))
    # Which way round it is computed is decided by how it is read (see `orient`).
    return reshape(permute(cast(Node, product), (0, 2, 1)) if last else cast(Node, product), node.shape)


def exchanged(node: Node) -> Node | None:
    """Return a weight gradient with x and the cotangent in each other's role, where that is better.

    One with input dilation becomes one with strides, one with few channels out one with few channels in.
    Element i of x stands at `i * input_dilation` and meets, with tap r, the cotangent at `i * input_dilation + low -
    r * dilation`: what a convolution of the cotangent with the taps in opposite order reads.
    """
    op = node.op
    if not isinstance(op, ConvWeightGrad) or not node.dtype.is_float or not _better_exchanged(op, node):
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


def _better_exchanged(op: ConvWeightGrad, node: Node) -> bool:
    """Whether the other operand's channels in lanes, or the other's distances, make a better kernel."""
    columns, channels = node.shape[0] // op.groups, node.shape[1]
    return max(op.input_dilation) > 1 or (max(op.strides) == 1 and columns <= MOST_COLUMNS and 2 * columns <= channels)


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
    about=frozenset((Conv.name, ConvPlanes.name, ConvWeightGrad.name)),
)
