"""Which programs are one kernel, which are not and why; every fused graph means what the graph meant."""

from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
import treadle.nn.functional as F
from tests.reference import evaluate
from treadle.ir import Graph
from treadle.jit import Plan
from treadle.ops.fused import Fused
from treadle.passes.decompose import decompose
from treadle.passes.fuse import Fusion, fuse
from treadle.passes.simplify import simplify
from treadle.tensor import lift


def graph_of(*tensors: td.Tensor) -> Graph:
    return simplify(decompose(lift([t.node for t in tensors]).graph, keep=lambda _: False))


def kinds(fusion: Fusion) -> list[str]:
    """The kinds of kernels, in order."""
    return [n.op.kind for n in fusion.graph.nodes() if isinstance(n.op, Fused)]


def data(*shape: int) -> td.Tensor:
    return td.asarray(np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32))


def adam(p: td.Tensor, g: td.Tensor, m: td.Tensor, v: td.Tensor) -> tuple[td.Tensor, ...]:
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    return p - 0.001 * m / (td.sqrt(v) + 1e-8), m, v


ONE_KERNEL: dict[str, Callable[[], object]] = {
    "chain": lambda: td.tanh(data(33, 70) * 2 + 1) - data(70),
    "softmax": lambda: td.softmax(data(33, 70), axis=-1),
    "log_softmax": lambda: td.log_softmax(data(33, 70), axis=-1),
    "layer_norm": lambda: F.layer_norm(data(33, 70), 70, data(70), data(70)),
    "adam": lambda: adam(data(50, 60), data(50, 60), data(50, 60), data(50, 60)),
    "sum of squares": lambda: td.sum(td.square(data(33, 70) - 1), axis=1),
    "middle axis": lambda: td.sum(td.exp(data(6, 33, 70)), axis=1) * 2,
    "views": lambda: td.pad(td.permute_dims(data(6, 33, 70), (2, 0, 1))[::2], 1) + 1,
    "linear": lambda: F.gelu(data(33, 70) @ data(70, 40) + data(40)) + data(33, 40),
    "transposed": lambda: data(33, 70) @ data(40, 70).mT,
}


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_is_one_kernel(name: str) -> None:
    made = ONE_KERNEL[name]()
    fusion = fuse(graph_of(*(made if isinstance(made, tuple) else (made,))))
    assert kinds(fusion) == ["matmul" if name in ("linear", "transposed") else "loop"], str(fusion.graph)


def test_two_products_are_two_kernels_and_the_reason_is_kept() -> None:
    fusion = fuse(graph_of(td.tanh(data(33, 70) @ data(70, 40)) @ data(40, 5)))
    assert kinds(fusion) == ["matmul", "matmul"]
    fusion = fuse(graph_of(td.sum(data(33, 70), axis=1) + td.sum(td.sum(data(33, 70), axis=0))))
    assert any(not d.fused and d.reason for d in fusion.decisions)


def test_a_value_that_is_read_in_another_order_is_stored() -> None:
    h = td.exp(data(40, 40)) @ data(40, 40)
    fusion = fuse(graph_of(h + h.mT))
    assert kinds(fusion)[-1] == "loop"
    assert len(kinds(fusion)) == 3


def test_kernels_know_the_lines_they_compute() -> None:
    fusion = fuse(graph_of(td.tanh(data(5)) + 1))
    (kernel,) = [n for n in fusion.graph.nodes() if isinstance(n.op, Fused)]
    assert any(__file__ in str(source) for source in fusion.sources(kernel))


@pytest.mark.parametrize("name", ONE_KERNEL)
def test_the_kernels_mean_what_the_ops_mean(name: str) -> None:
    made = ONE_KERNEL[name]()
    graph, arrays = lift([t.node for t in (made if isinstance(made, tuple) else (made,))])
    for got, want in zip(Plan(graph).run(arrays), evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
