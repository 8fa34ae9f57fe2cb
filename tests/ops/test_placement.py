"""Where parts lie in a sum of padded views: against the sum itself, and what is not such a sum."""

import numpy as np
import pytest

from treadle.core import Type, float32
from treadle.ir import Graph, Input, Node
from treadle.ops import Add, Negative, Pad, Permute, Reshape
from treadle.ops.fused import run_graph
from treadle.ops.placement import placement


def leaf(number: int, *shape: int) -> Node:
    return Input(number, Type(float32, shape))()


def is_leaf(node: Node) -> bool:
    return isinstance(node.op, Input)


def pad(x: Node, low: tuple[int, ...], high: tuple[int, ...], value: float = 0) -> Node:
    return Pad(low, high, value)(x)


def check(node: Node, parts: list[Node]) -> None:
    """Writing every part to its place gives what the sum gives."""
    arrays = [np.random.normal(size=p.shape).astype(np.float32) for p in parts]
    (want,) = run_graph(Graph(tuple(parts), (node,)), arrays)
    places = placement(node, is_leaf)
    assert places is not None
    assert set(places) == set(parts)
    got = np.full(node.type.size, np.nan, np.float32)
    for part, array in zip(parts, arrays, strict=True):
        steps, offset = places[part]
        where = offset + sum(i * s for i, s in zip(np.indices(part.shape), steps, strict=True))
        got[where] = array
    np.testing.assert_array_equal(got.reshape(want.shape), want)


def test_halves_of_an_axis() -> None:
    a, b = leaf(0, 2, 3), leaf(1, 4, 3)
    check(Add()(pad(a, (0, 0), (4, 0)), pad(b, (2, 0), (0, 0))), [a, b])


def test_what_attention_needs() -> None:
    """[B, T, H, D] each, as [B, T, 3HD]; B is 1."""
    b, t, h, d = 1, 5, 3, 4
    parts = [leaf(k, b, t, h, d) for k in range(3)]
    pads = [
        pad(Reshape((1, b, h, t, d))(Permute((0, 2, 1, 3))(x)), (k, 0, 0, 0, 0), (2 - k, 0, 0, 0, 0))
        for k, x in enumerate(parts)
    ]
    total = Permute((1, 3, 0, 2, 4))(Add()(Add()(pads[2], pads[0]), pads[1]))
    check(total, parts)
    check(Reshape((b, t, 3 * h * d))(total), parts)


def test_quarters() -> None:
    shapes = [(2, 3), (2, 1), (4, 3), (4, 1)]
    parts = [leaf(k, *shape) for k, shape in enumerate(shapes)]
    corners = [(0, 0), (0, 3), (2, 0), (2, 3)]
    pads = [pad(x, at, (6 - at[0] - x.shape[0], 4 - at[1] - x.shape[1])) for x, at in zip(parts, corners, strict=True)]
    check(Add()(Add()(pads[0], pads[1]), Add()(pads[2], pads[3])), parts)


a, b = leaf(0, 2, 3), leaf(1, 2, 3)


@pytest.mark.parametrize(
    "node",
    [
        a,
        Add()(a, b),
        Add()(pad(a, (0, 0), (2, 0)), pad(b, (1, 0), (1, 0))),  # overlap
        Add()(pad(a, (0, 0), (3, 0)), pad(b, (2, 0), (1, 0))),  # a gap
        Add()(pad(a, (0, 0), (2, 0), 1.0), pad(b, (2, 0), (0, 0))),  # not zeros
        Add()(pad(a, (0, 0), (2, 0)), pad(a, (2, 0), (0, 0))),  # one part twice
        Add()(pad(a, (0, 0), (2, 0)), pad(Negative()(b), (2, 0), (0, 0))),  # computed with
        Negative()(Add()(pad(a, (0, 0), (2, 0)), pad(b, (2, 0), (0, 0)))),
        Add()(pad(leaf(0, 1, 3), (0, 0), (1, 0)), leaf(1, 2, 3)),  # not padded
    ],
)
def test_other_values_are_no_placement(node: Node) -> None:
    assert placement(node, is_leaf) is None


def test_parts_that_do_not_lie_evenly_are_refused() -> None:
    """Six elements as 2 x 3, turned, then seen as rows of 4."""
    x, y = leaf(0, 2, 3), leaf(1, 6)
    turned = Reshape((6,))(Permute((1, 0))(x))
    check(Add()(pad(turned, (0,), (6,)), pad(y, (6,), (0,))), [x, y])
    ragged = Permute((1, 0))(Reshape((4, 3))(Add()(pad(turned, (0,), (6,)), pad(y, (6,), (0,)))))
    assert placement(ragged, is_leaf) is None
