"""The lookup pass: products with rows of a small table become rows of a product, and unused rows take no part."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import treadle as td
from treadle.core import DType, Type, float16, float32, float64, int64
from treadle.ir import Graph, Node, inputs_for, verify
from treadle.ops import Matmul, Permute, Reshape, ScatterAdd, Take, permute
from treadle.ops.fused import run_graph
from treadle.passes.lookup import LOOKUP

ROWS, WIDTH, OUT = 5, 3, 4


def flat(x: Node, count: int) -> Node:
    return Reshape((count, x.shape[-1]))(x)


def matmuls(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes() if isinstance(n.op, Matmul)]


# What is computed from a table [5, 3], indices [4, 6] and a matrix; the longest side of its products shrinks to 5.
PROGRAMS: dict[str, tuple[Callable[[Node, Node, Node], Node], tuple[int, ...]]] = {
    "projected": (lambda e, i, w: Matmul()(flat(Take(0)(e, i), 24), w), (WIDTH, OUT)),
    "time first": (lambda e, i, w: Matmul()(flat(permute(Take(0)(e, i), (1, 0, 2)), 24), w), (WIDTH, OUT)),
    "from the right": (lambda e, i, a: Matmul()(a, flat(Take(0)(e, i), 24)), (OUT, 24)),
    "gradient of the matrix": (
        lambda e, i, g: Matmul()(permute(flat(permute(Take(0)(e, i), (1, 0, 2)), 24), (1, 0)), g),
        (24, OUT),
    ),
}


def case(name: str, dtype: DType = float32) -> tuple[Graph, list[np.ndarray]]:
    build, shape = PROGRAMS[name]
    inputs = inputs_for((Type(dtype, (ROWS, WIDTH)), Type(int64, (4, 6)), Type(dtype, shape)))
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(n.shape).astype(n.dtype.numpy) for n in inputs]
    arrays[1] = rng.integers(0, ROWS - 1, (4, 6))  # the last row is never used
    return Graph(inputs, (build(*inputs),)), arrays


@pytest.mark.parametrize("dtype", [float32, float64])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_table_is_multiplied(name: str, dtype: DType) -> None:
    before, arrays = case(name, dtype)
    after = LOOKUP.apply(before)
    verify(after)
    (product,) = matmuls(after)
    assert ROWS in (product.shape[0], product.args[0].shape[-1])
    (expected,), (actual,) = run_graph(before, arrays), run_graph(after, arrays)
    if name in ("projected", "time first"):
        np.testing.assert_array_equal(actual, expected)
    else:
        np.testing.assert_allclose(actual, expected, rtol=1e-5 if dtype is float32 else 1e-13, atol=1e-6)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_no_index_names_take_no_part(name: str, bad: float) -> None:
    before, arrays = case(name)
    arrays[0][-1] = bad
    (actual,) = run_graph(LOOKUP.apply(before), arrays)
    assert np.isfinite(actual).all()


def test_gradient_of_the_table_is_a_product_of_sums() -> None:
    inputs = inputs_for((Type(float32, (24, OUT)), Type(float32, (OUT, WIDTH)), Type(int64, (4, 6))))
    g, w, i = inputs
    values = permute(Reshape((6, 4, WIDTH))(Matmul()(g, w)), (1, 0, 2))
    before = Graph(inputs, (ScatterAdd(0, ROWS)(values, i),))
    after = LOOKUP.apply(before)
    (product,) = matmuls(after)
    assert product.shape == (ROWS, WIDTH)
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((24, OUT)), rng.standard_normal((OUT, WIDTH)), rng.integers(0, ROWS, (4, 6))]
    arrays = [a.astype(n.dtype.numpy) for a, n in zip(arrays, inputs, strict=True)]
    np.testing.assert_allclose(run_graph(after, arrays)[0], run_graph(before, arrays)[0], rtol=2e-5, atol=1e-6)


def test_a_product_that_is_read_elsewhere_stays() -> None:
    inputs = inputs_for((Type(float32, (24, OUT)), Type(float32, (OUT, WIDTH)), Type(int64, (24,))))
    product = Matmul()(*inputs[:2])
    before = Graph(inputs, (ScatterAdd(0, ROWS)(product, inputs[2]), product))
    assert LOOKUP.apply(before) == before


@pytest.mark.parametrize(
    ("rows", "dtype"), [(13, float32), (ROWS, float16)], ids=["a table as large as the index", "a short float"]
)
def test_no_gain_no_change(rows: int, dtype: DType) -> None:
    inputs = inputs_for((Type(dtype, (rows, WIDTH)), Type(int64, (24,)), Type(dtype, (WIDTH, OUT))))
    before = Graph(inputs, (Matmul()(Take(0)(inputs[0], inputs[1]), inputs[2]),))
    assert LOOKUP.apply(before) == before


def test_rows_that_are_cut_stay() -> None:
    inputs = inputs_for((Type(float32, (ROWS, 4)), Type(int64, (24,)), Type(float32, (2, OUT))))
    halves = Reshape((48, 2))(Take(0)(inputs[0], inputs[1]))
    turned = Permute((1, 0))(Reshape((2, 48))(Take(0)(inputs[0], inputs[1])))
    for rows in (halves, turned):
        before = Graph(inputs, (Matmul()(rows, inputs[2]),))
        assert LOOKUP.apply(before) == before


def test_compiled_training_step_agrees_with_eager() -> None:
    rng = np.random.default_rng(3)
    table, weight = (td.asarray(rng.standard_normal(s).astype("f4")) for s in ((ROWS, 16), (16, 8)))
    index = td.asarray(rng.integers(0, ROWS, (7, 9)))

    def loss(table: td.Tensor, weight: td.Tensor) -> td.Tensor:
        return (td.tanh(td.take(table, index, axis=0) @ weight) ** 2).sum()

    expected = (np.tanh(table.numpy().astype("f8")[index.numpy()] @ weight.numpy().astype("f8")) ** 2).sum()
    value, grads = td.compile(td.value_and_grad(loss, argnums=(0, 1)))(table, weight)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    step = 1e-3
    for k, (given, grad) in enumerate(zip((table, weight), grads, strict=True)):
        towards = rng.standard_normal(given.shape).astype("f4")
        ends = [
            float(
                loss(*[g + sign * step * td.asarray(towards) if j == k else g for j, g in enumerate((table, weight))])
            )
            for sign in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((grad.numpy() * towards).sum()), rel=2e-2)
