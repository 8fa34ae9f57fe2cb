"""Convolutions that become something simpler: the ops that are left, and that the values are those of the op."""

from __future__ import annotations

import numpy as np
import pytest

from treadle.core import Type, float32, int32
from treadle.ir import Graph, Node, inputs_for, verify
from treadle.ops import Conv, ConvWeightGrad
from treadle.ops.fused import run_graph
from treadle.passes.special_conv import SPECIAL_CONV


def geometry(
    stride: tuple[int, ...] = (1, 1),
    low: tuple[int, ...] = (0, 0),
    high: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    between: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Conv:
    return Conv(stride, low, high, dilation, between, groups)


def after(op: Conv | ConvWeightGrad, *shapes: tuple[int, ...]) -> tuple[Graph, Graph]:
    inputs = inputs_for([Type(float32, s) for s in shapes])
    before = Graph(inputs, (op(*inputs),))
    made = SPECIAL_CONV.apply(before)
    verify(made)
    return before, made


def ops(graph: Graph) -> set[str]:
    return {n.op.name for n in graph.nodes()}


def same(before: Graph, after: Graph) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(n.shape).astype("f4") for n in before.inputs]
    (expected,), (actual,) = run_graph(before, arrays), run_graph(after, arrays)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def weight_grad(conv: Conv, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[Graph, Graph]:
    """Return the gradient for a weight before and after the pass."""
    out = conv.infer(Type(float32, x), Type(float32, w)).shape
    return after(conv.weight_gradient(w[:-2]), x, out)


def test_one_tap_is_a_product() -> None:
    before, made = after(geometry(), (2, 5, 4, 6), (1, 1, 6, 3))
    assert "matmul" in ops(made)
    assert "conv" not in ops(made)
    same(before, made)


@pytest.mark.parametrize(
    "conv",
    [geometry(stride=(2, 1)), geometry(low=(1, 0)), geometry(high=(0, 2)), geometry(between=(2, 2))],
    ids=["strided", "padded", "padded behind", "spread"],
)
def test_one_tap_that_misses_pixels_stays(conv: Conv) -> None:
    before, made = after(conv, (2, 5, 4, 6), (1, 1, 6, 3))
    assert made == before


SPREAD = {
    "transposed": (geometry(between=(2, 2), low=(1, 2), high=(2, 1)), (2, 4, 5, 4), (3, 3, 4, 6)),
    "cut": (geometry(between=(2, 3), low=(-1, 0), high=(0, -1)), (2, 4, 5, 4), (2, 3, 4, 6)),
    "dilated": (geometry(between=(2, 1), dilation=(3, 2), low=(4, 1), high=(4, 2)), (2, 4, 5, 4), (3, 2, 4, 6)),
    "groups": (geometry(between=(2, 2), groups=2), (2, 4, 5, 4), (3, 3, 2, 6)),
    "strided too": (geometry((3, 2), (1, 1), (2, 1), (1, 1), (2, 3)), (2, 4, 5, 4), (3, 3, 4, 6)),
    "one tap": (geometry(between=(2, 2)), (2, 4, 5, 4), (1, 1, 4, 6)),
}


@pytest.mark.parametrize("name", SPREAD)
def test_a_weight_gradient_of_a_spread_input_exchanges_its_operands(name: str) -> None:
    before, made = weight_grad(*SPREAD[name])
    assert all(max(n.op.input_dilation) == 1 for n in made.nodes() if isinstance(n.op, ConvWeightGrad))
    same(before, made)


def test_integers_stay() -> None:
    inputs: tuple[Node, ...] = inputs_for((Type(int32, (1, 5, 5, 2)), Type(int32, (3, 3, 2, 2))))
    before = Graph(inputs, (geometry()(*inputs),))
    assert SPECIAL_CONV.apply(before) == before
