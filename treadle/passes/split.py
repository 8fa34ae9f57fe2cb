"""Long reductions to few elements, cut into parts: each part is a tile, so threads can share what would be one tile.

The number of parts depends on the shape alone: the bits are the same for any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import replace

from treadle.ir import Graph, Node, Op, Pass, Rewriter
from treadle.ops.base import Reduction, sum_dtype
from treadle.ops.broadcast import reshape
from treadle.ops.cast import cast
from treadle.ops.movement import Slice

PARTS = 32
FEW = 16  # results from which on there are tiles enough
LONG = 1 << 17  # elements below which one thread is done before another could help
JOIN = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "any": "logical_or", "all": "logical_and"}


def split(graph: Graph) -> Graph:
    """Return the graph with long reductions in two steps."""
    rewriter = Rewriter(in_parts)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


def in_parts(node: Node) -> Node | None:
    """Return a reduction as one of parts, what does not divide evenly joined at the end; None if it is short."""
    op = node.op
    if not isinstance(op, Reduction) or node.type.size > FEW or node.args[0].type.size < LONG:
        return None
    x = node.args[0]
    wide = sum_dtype(x.dtype) if op.combine in ("sum", "prod") else x.dtype
    x, axes = _merged(cast(x, wide), op.axes)
    axis = max(axes, key=lambda a: x.shape[a])
    each = x.shape[axis] // PARTS
    if each < PARTS:
        return None
    whole, rest = _cut(x, axis, each * PARTS)
    parts = reshape(whole, (*x.shape[:axis], PARTS, each, *x.shape[axis + 1 :]))
    inner = tuple(a + (a >= axis) for a in axes)
    folded = replace(op, axes=inner, keepdims=False)(parts)
    place = axis - sum(a < axis for a in axes)
    total = replace(op, axes=(place,), keepdims=False)(folded)
    if rest is not None:
        total = Op.registry[JOIN[op.combine]]()(total, replace(op, axes=axes, keepdims=False)(rest))
    return cast(reshape(total, node.shape), node.dtype)


def _merged(x: Node, axes: tuple[int, ...]) -> tuple[Node, tuple[int, ...]]:
    """Return the operand with its folded axes as one, where they are neighbours."""
    first, last = axes[0], axes[-1]
    if len(axes) == 1 or last - first != len(axes) - 1:
        return x, axes
    shape = (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :])
    return reshape(x, shape), (first,)


def _cut(x: Node, axis: int, size: int) -> tuple[Node, Node | None]:
    """Return the first `size` places of an axis, and the others if there are any."""
    if x.shape[axis] == size:
        return x, None
    sizes = [*x.shape]
    starts, steps = (0,) * len(sizes), (1,) * len(sizes)
    sizes[axis] = size
    whole = Slice(starts, tuple(sizes), steps)(x)
    sizes[axis] = x.shape[axis] - size
    return whole, Slice((*starts[:axis], size, *starts[axis + 1 :]), tuple(sizes), steps)(x)


SPLIT = Pass("split", split, "long reductions to few elements are cut into parts that threads share")
