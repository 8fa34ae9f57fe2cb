"""Decomposition: no composite stays but those with a kernel of their own; values and attribution do."""

from __future__ import annotations

import numpy as np
import pytest

from treadle import ops
from treadle.core import Type, float32, int64
from treadle.ir import Graph, inputs_for, results, verify
from treadle.passes.decompose import DECOMPOSE, decompose, has_own_kernel

X, T = inputs_for([Type(float32, (4, 6)), Type(int64, (4,))])
Q, K, V = inputs_for([Type(float32, (1, 2, 5, 4))] * 3)


def composites(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes() if isinstance(n.op, ops.Composite)]


def same_value(before: Graph, after: Graph, *arrays: np.ndarray) -> None:
    for a, b in zip(ops.run_graph(before, arrays), ops.run_graph(after, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "node",
    [
        ops.Softmax(1)(X),
        ops.LogSoftmax(0)(ops.LayerNorm(1)(X)),
        ops.Var((0, 1))(X),  # its expansion holds a mean, itself a composite
        ops.CrossEntropy()(ops.Softmax(1)(X), T),
        ops.ArgMax(1)(ops.Softmax(1)(X)),
    ],
    ids=str,
)
def test_nothing_composite_stays(node) -> None:
    before = Graph((X, T), (node,))
    after = decompose(before)
    verify(after)
    assert composites(before)
    assert not composites(after)
    same_value(before, after, np.random.normal(size=(4, 6)).astype(np.float32), np.array([0, 5, 2, 2]))


def attention() -> Graph:
    out, lse = results(ops.Attention(True, 0.5)(ops.Softmax(3)(Q), K, V))
    return Graph((Q, K, V), (out + 1.0, lse, ops.LogSumExp((3,))(out)))


def test_attention_stays_whole_and_its_operands_do_not() -> None:
    after = decompose(attention())
    assert composites(after) == ["attention"]
    arrays = [np.random.normal(size=Q.shape).astype(np.float32) for _ in range(3)]
    same_value(attention(), after, *arrays)
    verify(after)


def test_attention_is_taken_apart_where_no_kernel_fits() -> None:
    after = decompose(attention(), keep=lambda node: has_own_kernel(node) and node.args[0].shape[-1] > 64)
    assert not composites(after)
    verify(after)
    arrays = [np.random.normal(size=Q.shape).astype(np.float32) for _ in range(3)]
    same_value(attention(), after, *arrays)


def test_one_result_of_several_may_be_read_alone() -> None:
    (_, lse) = results(ops.Attention(False, 0.5)(Q, K, V))
    after = decompose(Graph((Q, K, V), (lse,)), keep=lambda _: False)
    assert not composites(after)
    assert [n.op.name for n in after.nodes()].count("matmul") == 1


def test_nodes_of_an_expansion_belong_to_the_user_s_line() -> None:
    node = ops.Softmax(0)(X)
    after = decompose(Graph((X,), (node,)))
    assert node.source is not None
    assert {n.source for n in after.nodes() if n.op.name in ("exp", "max")} == {node.source}


def test_a_graph_without_composites_is_left_alone() -> None:
    graph = Graph((X,), (X + 1.0,))
    assert decompose(graph) == graph
    assert str(DECOMPOSE) == "decompose"
    assert {"softmax", "mean", "layer_norm", "cross_entropy"} <= DECOMPOSE.forbids
    assert "attention" not in DECOMPOSE.forbids


def test_shared_composites_are_expanded_once() -> None:
    """A chain of many composites takes linear time."""
    node = X
    for _ in range(400):
        node = ops.Softmax(1)(node) + node
    after = decompose(Graph((X,), (node,)))
    assert not composites(after)
    assert [n.op.name for n in after.nodes()].count("exp") == 400
