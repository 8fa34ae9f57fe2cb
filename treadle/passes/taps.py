"""The gradient of a convolution for its weight, tap by tap: each tap is a matrix product over all pixels.

What a tap meets of x is a slice of it, copied once in the order the product reads; so the sums run at the speed of
products. Where both steps of a geometry are above 1 the plain formula stays.
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
from treadle.ops.conv import ConvWeightGrad
from treadle.ops.movement import permute


def by_taps(node: Node) -> Node | None:
    """Return a weight gradient as one product per tap."""
    if not isinstance(node.op, ConvWeightGrad) or not node.dtype.is_float or not node.type.size:
        return None
    op, (x, ct) = node.op, node.args
    if not x.type.size or not ct.type.size or (max(op.strides) > 1 and max(op.input_dilation) > 1):
        return None
    wide = sum_dtype(node.dtype)
    x, ct = converted(x, wide), converted(ct, wide)
    products = [_product(op, *_met(op, x, ct, tap)) for tap in itertools.product(*map(range, op.taps))]
    columns = [reshape(p, (*p.shape, 1)) for p in products]
    joined = columns[0] if len(columns) == 1 else cast(Node, Op.registry["concat"](2)(*columns))
    return converted(reshape(joined, node.shape), node.dtype)


def _met(op: ConvWeightGrad, x: Node, ct: Node, tap: tuple[int, ...]) -> tuple[Node, Node]:
    """Return the parts of x and of the cotangent that meet at a tap, of equal spatial sizes."""
    axes = range(op.num_axes)
    if max(op.input_dilation) == 1:
        starts = [tap[a] * op.dilation[a] - op.low[a] for a in axes]
        return _taken(x, starts, ct.shape[1:-1], op.strides), ct
    # Place i of x stands at i * input_dilation; the result that meets it there is `low - tap * dilation` further on.
    starts = [op.low[a] - tap[a] * op.dilation[a] for a in axes]
    return x, _taken(ct, starts, x.shape[1:-1], op.input_dilation)


def _taken(x: Node, starts: list[int], sizes: tuple[int, ...], steps: tuple[int, ...]) -> Node:
    """Return x [N, *spatial, C] at starts + k * steps for k below sizes, zero outside."""
    low = [max(0, -s) for s in starts]
    high = [
        max(0, s + (n - 1) * step + 1 - size)
        for s, n, step, size in zip(starts, sizes, steps, x.shape[1:-1], strict=True)
    ]
    if any(low) or any(high):
        x = Pad((0, *low, 0), (0, *high, 0), 0)(x)
    first = tuple(s + width for s, width in zip(starts, low, strict=True))
    return Slice((0, *first, 0), (x.shape[0], *sizes, x.shape[-1]), (1, *steps, 1))(x)


def _product(op: ConvWeightGrad, x: Node, ct: Node) -> Node:
    """Return the sum over pixels of ct^T x, as [K, C / groups]."""
    pixels, g = math.prod(x.shape[:-1]), op.groups
    c, k = x.shape[-1] // g, ct.shape[-1] // g
    if g == 1:
        left, right = permute(reshape(ct, (pixels, k)), (1, 0)), reshape(x, (pixels, c))
    else:
        left = permute(reshape(ct, (pixels, g, k)), (1, 2, 0))
        right = permute(reshape(x, (pixels, g, c)), (1, 0, 2))
    return reshape(cast(Node, Op.registry["matmul"]()(left, right)), (g * k, c))


def taps(graph: Graph) -> Graph:
    """Return the graph with weight gradients of convolutions as matrix products."""
    rewriter = Rewriter(by_taps)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


TAPS = Pass("taps", taps, "weight gradients of convolutions become one matrix product per tap")
