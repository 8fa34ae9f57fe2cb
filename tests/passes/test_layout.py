"""The layout pass: permutes of channels-last values sink through what follows, cancel, and change no bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from treadle.core import Type, float32
from treadle.ir import Graph, Node, inputs_for, verify
from treadle.ops import BroadcastTo, Concat, Extend, Max, Pad, Permute, Reshape, Slice, Sum
from treadle.ops.fused import run_graph
from treadle.ops.movement import permute
from treadle.passes.layout import LAYOUT

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
IMAGE = Type(float32, (2, 5, 6, 4))  # channels-last
CHANNELS = Type(float32, (4,))
OUTSIDE = Type(float32, (2, 4, 5, 6))


def graph_of(build: Callable[..., Node], *types: Type) -> Graph:
    inputs = inputs_for(types)
    return Graph(inputs, (build(*inputs),))


def permutes(graph: Graph) -> list[Permute]:
    return [n.op for n in graph.nodes() if isinstance(n.op, Permute)]


def same_bits(before: Graph, after: Graph) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in before.inputs]
    (expected,), (actual,) = run_graph(before, arrays), run_graph(after, arrays)
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def column(x: Node) -> Node:
    return Reshape((4, 1, 1))(x)


# What stands between one channels-last kernel and the next.
BETWEEN: dict[str, tuple[Callable[..., Node], tuple[Type, ...]]] = {
    "elementwise": (lambda x: x * 2.0 + x, (IMAGE,)),
    "per channel": (lambda x, c: x * column(c) + column(c), (IMAGE, CHANNELS)),
    "residual": (lambda x, y: x + permute(y, FIRST), (IMAGE, IMAGE)),
    "broadcast": (lambda x, c: x * BroadcastTo(OUTSIDE.shape)(column(c)), (IMAGE, CHANNELS)),
    "broadcast of equal rank": (
        lambda x, c: x * BroadcastTo(OUTSIDE.shape)(Reshape((1, 4, 1, 1))(c)),
        (IMAGE, CHANNELS),
    ),
    "pad": (Pad((0, 0, 1, 2), (0, 3, 1, 0), 7.0), (IMAGE,)),
    "extend": (Extend(2, 1, 3, "reflect"), (IMAGE,)),
    "slice": (Slice((0, 1, 0, 5), (2, 3, 2, 3), (1, 1, 2, -2)), (IMAGE,)),
    "concat": (lambda x: Concat(1)(x, x * 2.0), (IMAGE,)),
    "centred": (lambda x: x - Sum((0, 2, 3), True)(x), (IMAGE,)),
    "groups of channels": (lambda x: Reshape((2, 4, 5, 6))(Reshape((2, 2, 2, 5, 6))(x) * 3.0), (IMAGE,)),
    "repeated": (lambda x: BroadcastTo(OUTSIDE.shape)(Max((2, 3), True)(x)), (IMAGE,)),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_permutes_on_both_sides_cancel(name: str) -> None:
    between, types = BETWEEN[name]
    before = graph_of(lambda x, *more: permute(between(permute(x, FIRST), *more), LAST), *types)
    after = LAYOUT.apply(before)
    verify(after)
    assert not permutes(after)
    same_bits(before, after)


REDUCED: dict[str, Callable[[Node], Node]] = {
    "mean of images": Sum((2, 3)),
    "statistics": Sum((0, 2, 3)),
    "of channels": Sum((1,)),
    "of rows": Sum((2,)),
    "of all": Sum((0, 1, 2, 3)),
}


@pytest.mark.parametrize("name", REDUCED)
def test_reductions_fold_what_is_stored(name: str) -> None:
    before = graph_of(lambda x: REDUCED[name](permute(x, FIRST) * 2.0), IMAGE)
    after = LAYOUT.apply(before)
    (fold,) = [n for n in after.nodes() if isinstance(n.op, Sum)]
    assert fold.args[0].shape == IMAGE.shape
    same_bits(before, after)


def test_rows_and_columns_are_joined_before_the_permute() -> None:
    before = graph_of(lambda x: permute(Reshape((2, 4, 30))(permute(x, FIRST)), (0, 2, 1)), IMAGE)
    after = LAYOUT.apply(before)
    assert not permutes(after)
    same_bits(before, after)


def test_a_reshape_that_mixes_channels_and_rows_stays_behind() -> None:
    before = graph_of(lambda x: Reshape((2, 120))(permute(x, FIRST)), IMAGE)
    assert LAYOUT.apply(before) == before


def test_other_permutes_stay() -> None:
    before = graph_of(lambda x: permute(x, (0, 2, 1, 3)) + 1.0, IMAGE)
    assert LAYOUT.apply(before) == before


def test_most_operands_decide() -> None:
    before = graph_of(lambda x, y, z: permute(x, FIRST) + (y + z) * (y - z), IMAGE, OUTSIDE, OUTSIDE)
    after = LAYOUT.apply(before)
    verify(after)
    same_bits(before, after)


def test_a_small_permuted_operand_does_not_turn_a_large_one() -> None:
    small = Type(float32, (1, 5, 6, 4))
    before = graph_of(lambda x, y: permute(x, FIRST) * y, small, OUTSIDE)
    assert LAYOUT.apply(before) == before


def test_a_value_of_more_axes_keeps_the_permute() -> None:
    more = Type(float32, (3, 2, 4, 5, 6))
    before = graph_of(lambda x, y: permute(x, FIRST) * y, IMAGE, more)
    assert LAYOUT.apply(before) == before
