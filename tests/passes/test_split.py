"""Long reductions in parts: the same value, for every combine, axis and remainder; short ones stay as they are."""

import numpy as np
import pytest

from tests.reference import evaluate
from treadle.core import DType, Type, bfloat16, bool_, float32, float64, int32
from treadle.ir import Graph, Input, Node, Op
from treadle.jit import Plan
from treadle.passes.split import LONG, split

SHAPES = [
    ((LONG,), (0,)),
    ((LONG + 37,), (0,)),
    ((3, 50_001), (1,)),
    ((50_001, 3), (0,)),
    ((61, 47, 53), (0, 1, 2)),
    ((9000, 2, 9), (0, 2)),
]


def reduction(name: str, shape: tuple[int, ...], axes: tuple[int, ...], dtype: DType, *, keepdims: bool) -> Graph:
    x = Input(0, Type(dtype, shape))()
    node: Node = Op.registry[name](axes, keepdims)(x)
    return Graph((x,), (node,))


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("name", ["sum", "max", "min", "prod", "any", "all"])
def test_parts_give_the_same(name: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    dtype = bool_ if name in ("any", "all") else float64
    array = rng.standard_normal(shape) if dtype is float64 else rng.random(shape) < 1e-5
    if name == "prod":
        array = np.exp(1e-3 * array)
    graph = reduction(name, shape, axes, dtype, keepdims=len(axes) > 1)
    cut = split(graph)
    assert cut.outputs != graph.outputs
    assert cut.outputs[0].type == graph.outputs[0].type
    np.testing.assert_allclose(evaluate(cut, [array])[0], evaluate(graph, [array])[0], rtol=1e-9, atol=1e-9)


def test_special_values_survive() -> None:
    array = np.zeros(LONG + 5, np.float32)
    array[[3, -1]] = np.nan, np.inf
    for name in ("sum", "max"):
        (result,) = evaluate(split(reduction(name, array.shape, (0,), float32, keepdims=False)), [array])
        assert np.isnan(result)


@pytest.mark.parametrize("dtype", [float32, bfloat16, int32])
def test_threads_do_not_change_the_bits(dtype: DType) -> None:
    graph = reduction("sum", (2, LONG), (1,), dtype, keepdims=False)
    array = (100 * np.random.default_rng(1).standard_normal((2, LONG))).astype(dtype.numpy)
    one, three = (Plan(graph, num_threads=n).run([array])[0] for n in (1, 3))
    assert one.tobytes() == three.tobytes()
    np.testing.assert_allclose(one.astype(np.float64), array.astype(np.float64).sum(1), rtol=1e-2, atol=1.0)


def test_short_ones_and_those_with_many_results_stay() -> None:
    for shape, axes in (((1000,), (0,)), ((64, LONG // 32), (1,))):
        graph = reduction("sum", shape, axes, float32, keepdims=False)
        assert split(graph).outputs == graph.outputs
