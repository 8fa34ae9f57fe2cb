"""Convolutions that run with channels first: which ones do, and that the values are those of the op."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from treadle.core import Type, float32, int32
from treadle.ir import Graph, Node, inputs_for, verify
from treadle.ops import Conv, permute
from treadle.ops.fused import run_graph
from treadle.passes.conv_planes import CONV_PLANES

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SAME = Conv((1, 1), (1, 1), (1, 1), (1, 1), (1, 1), 1)
POINT = replace(SAME, low=(0, 0), high=(0, 0))


def names(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes() if n.op.name in ("conv", "conv_planes", "permute")]


def after(graph: Graph) -> Graph:
    made = CONV_PLANES.apply(graph)
    verify(made)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in graph.inputs]
    (expected,), (actual,) = run_graph(graph, arrays), run_graph(made, arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    return made


def alone(op: Conv, x: tuple[int, ...], w: tuple[int, ...]) -> Graph:
    inputs = inputs_for([Type(float32, x), Type(float32, w)])
    return Graph(inputs, (op(*inputs),))


@pytest.mark.parametrize("columns", [1, 3, 8])
def test_few_channels_out_are_planes(columns: int) -> None:
    assert "conv_planes" in names(after(alone(SAME, (1, 16, 16, 5), (3, 3, 5, columns))))


def test_few_channels_out_of_each_group_are_planes() -> None:
    assert "conv_planes" in names(after(alone(replace(SAME, groups=3), (1, 16, 16, 6), (3, 3, 2, 12))))


def test_channels_that_fill_a_vector_stay_last() -> None:
    before = alone(SAME, (1, 16, 16, 5), (3, 3, 5, 16))
    assert CONV_PLANES.apply(before) == before


def test_a_plane_too_small_for_a_vector_stays_last() -> None:
    before = alone(SAME, (1, 1, 2, 5), (3, 3, 5, 8))
    assert CONV_PLANES.apply(before) == before


def test_whole_numbers_and_empty_images_stay_as_they_are() -> None:
    empty = alone(SAME, (0, 16, 16, 5), (3, 3, 5, 3))
    inputs = inputs_for([Type(int32, (1, 16, 16, 5)), Type(int32, (3, 3, 5, 3))])
    for before in (empty, Graph(inputs, (SAME(*inputs),))):
        assert CONV_PLANES.apply(before) == before


def depthwise(size: int) -> tuple[tuple[Node, ...], Node]:
    """Return the inputs, and a depthwise convolution of an image that is channels first, channels last."""
    inputs = inputs_for([Type(float32, (2, 20, size, size)), Type(float32, (3, 3, 1, 20))])
    return inputs, replace(SAME, groups=20)(permute(inputs[0], LAST), inputs[1])


@pytest.mark.parametrize("size", [7, 24])
def test_depthwise_between_images_with_channels_first_moves_nothing(size: int) -> None:
    inputs, y = depthwise(size)
    made = after(Graph(inputs, (permute(y * y, FIRST),)))
    assert names(made) == ["conv_planes"]


@pytest.mark.parametrize("size", [7, 24])
def test_depthwise_that_leaves_with_channels_last_stays(size: int) -> None:
    inputs, y = depthwise(size)
    before = Graph(inputs, (y,))
    assert CONV_PLANES.apply(before) == before


@pytest.mark.parametrize("size", [7, 24])
def test_products_around_a_large_depthwise_convolution_follow_it(size: int) -> None:
    shapes = [(2, 4, size, size), (1, 1, 4, 20), (3, 3, 1, 20), (1, 1, 20, 4)]
    inputs = inputs_for([Type(float32, s) for s in shapes])
    x, *weights = inputs
    y = permute(x, LAST)
    for op, w in zip((POINT, replace(SAME, groups=20), POINT), weights, strict=True):
        y = op(y, w)
        y = y * y
    made = after(Graph(inputs, (permute(y, FIRST),)))
    if size == 7:
        assert sorted(names(made)) == ["conv", "conv", "conv", "permute", "permute"]
    else:
        assert names(made) == ["conv_planes"] * 3


def test_a_chain_as_long_as_a_deep_network() -> None:
    inputs = inputs_for([Type(float32, (1, 4, 24, 24)), Type(float32, (1, 1, 4, 4))])
    y = permute(inputs[0], LAST)
    for _ in range(400):
        y = POINT(y, inputs[1])
        y = y * y + y
    made = CONV_PLANES.apply(Graph(inputs, (permute(y, FIRST),)))
    assert set(names(made)) == {"conv_planes"}
