"""Convolutions that run with channels first: those with few channels out, and depthwise ones of large images.

A channels-last kernel has channels out in the lanes of a vector. Where they do not fill it, places along a row do; and
a depthwise convolution, which meets every element few times, then needs no more than its rows. A convolution with one
tap is a matrix product, for which either order is as good: it follows what reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from treadle.ir import Graph, Node, Pass, attributed_to, rebuilt, users_of
from treadle.ops import Elementwise, Permute, Reduction
from treadle.ops.conv import Conv
from treadle.ops.conv_planes import ConvPlanes
from treadle.ops.movement import permute

from .layout import channels_first, layout

LANES = 16  # of the widest vectors, counted in elements of 4 bytes
MOST_COLUMNS = 8  # channels out of a group: half of a vector
MOST_ALONG, MOST_TAPS = 16, 256  # taps along a row, and all of them: code for each of the former is written out
LARGE = 400  # places of an image from which on depthwise convolutions and products around them are quicker in planes


def conv_planes(graph: Graph) -> Graph:
    """Return the graph with convolutions made `conv_planes` where that is quicker."""
    first, or_product = wanted_first(graph), wanted_first(graph, products=True)
    graph = _turned(graph, lambda n: is_quicker(n, first, or_product))
    first = wanted_first(graph)
    return _turned(graph, lambda n: is_pointwise(n) and n in first and (is_large(n) or comes_first(n.args[0])))


def _turned(graph: Graph, chosen: Callable[[Node], bool]) -> Graph:
    """Return the graph with the chosen convolutions channels first, and the permutes around them moved on."""
    made: dict[Node, Node] = {}
    any_chosen = False
    for node in graph.nodes():
        args = tuple(made[a] for a in node.args)
        new, op = node if args == node.args else rebuilt(node, args), node.op
        if isinstance(op, Conv) and node.dtype.is_float and node.type.size and chosen(node):
            any_chosen = True
            planes = ConvPlanes(op.strides, op.low, op.high, op.dilation, op.input_dilation, op.groups)
            with attributed_to(node.source):
                new = permute(planes(permute(args[0], planes.first), args[1]), planes.last)
        made[node] = new
    return layout(Graph(graph.inputs, tuple(made[n] for n in graph.outputs))) if any_chosen else graph


def is_quicker(node: Node, first: set[Node], or_product: set[Node]) -> bool:
    """Whether a convolution with several taps runs quicker with places in lanes (see `wanted_first`)."""
    op, (x, w) = node.op, node.args
    assert isinstance(op, Conv)
    *kernel, _, channels = w.shape
    columns = channels // op.groups
    if not w.type.size or is_pointwise(node) or kernel[-1] > MOST_ALONG or math.prod(kernel) > MOST_TAPS:
        return False
    if 1 < op.groups == x.shape[-1] == channels:
        return node in or_product if is_large(node) else comes_first(x) and node in first
    if columns > MOST_COLUMNS:
        return False
    *_, height, width = (1, *node.shape[1:-1])
    between = (kernel[-1] - 1) * op.dilation[-1] // max(op.strides[-1], op.input_dilation[-1])
    places = height * (width + between)  # of a plane, with what falls between rows
    filled = height * width / (-(-places // LANES) * LANES)
    return filled > 1.25 * columns / LANES


def is_large(node: Node) -> bool:
    """Whether a channels-last image has many places."""
    return math.prod(node.shape[1:-1]) >= LARGE


def is_pointwise(node: Node) -> bool:
    """Whether a convolution has one tap that meets every place: it is a product of matrices."""
    op = node.op
    assert isinstance(op, Conv | ConvPlanes)
    taps = (n - 1 for n in (*op.strides, *op.input_dilation, *node.args[1].shape[:-2]))
    return op.groups == 1 and not any((*op.low, *op.high, *taps))


def comes_first(x: Node) -> bool:
    """Whether an image lies channels first in memory."""
    return isinstance(x.op, Permute) and x.op.inverse() == channels_first(x.type.ndim)


def wanted_first(graph: Graph, *, products: bool = False) -> set[Node]:
    """Return the images that all readers, element by element, want channels first, or are sums and take as they are.

    A convolution with one tap wants what its own readers want; with `products` it wants channels first.
    """
    found: set[Node] = set()
    users = users_of(graph.nodes())

    def wish(reader: Node, node: Node) -> bool | None:
        op = reader.op
        if isinstance(op, Permute):
            return op.axes == channels_first(node.type.ndim)
        if isinstance(op, Reduction):
            return None
        if isinstance(op, Conv) and is_pointwise(reader) and reader.args[0] is node:
            return products or reader in found
        return isinstance(op, Elementwise) and reader.shape == node.shape and reader in found

    for node in reversed(graph.nodes()):
        wishes = [wish(reader, node) for reader in users.get(node, [])]
        if True in wishes and False not in wishes:
            found.add(node)
    return found


CONV_PLANES = Pass(
    "conv_planes",
    conv_planes,
    "convolutions with few channels out, and depthwise ones, run with channels first",
    about=frozenset((Conv.name,)),
)
