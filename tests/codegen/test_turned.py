"""Kernels that turn blocks in registers: permutations, fused work, tails, dtypes, threads; when they are chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.codegen.target import host
from treadle.core import DType, Type, bfloat16, bool_, config, float16, float32, float64, int8, int64, uint8, uint16
from treadle.ir import Graph, Node, inputs_for
from treadle.jit.plan import Plan
from treadle.ops import Sum, flip, permute, reshape
from treadle.schedule import schedule_turned

CPUS = ("avx2", "avx512") if host().has_avx512 else ("avx2",)


def ran(graph: Graph, arrays: list[np.ndarray], *, threads: int = 1) -> np.ndarray:
    with config(threads=threads):
        plan = Plan(graph)
        for k, array in enumerate(arrays):
            plan.slots[k] = array.ctypes.data
        return plan.run_bound()[0]


def drawn(shape: tuple[int, ...], dtype: DType = float32) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    if dtype.is_float:
        return rng.standard_normal(shape).astype(dtype.numpy)
    return rng.integers(0, 2 if dtype is bool_ else 100, shape).astype(dtype.numpy)


@st.composite
def permuted(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    ndim = draw(st.integers(2, 4))
    sides = st.sampled_from((1, 2, 7, 8, 15, 16, 17, 31, 33, 40))
    shape = tuple(draw(sides) for _ in range(ndim))
    return (shape if np.prod(shape) < 50_000 else (*shape[:2], *[2] * (ndim - 2))), tuple(
        draw(st.permutations(range(ndim)))
    )


@settings(max_examples=80, deadline=None)
@given(
    permuted(),
    st.sampled_from((float32, float64, int64, float16, bfloat16, int8, uint16, bool_)),
    st.sampled_from(CPUS),
)
def test_any_permutation_is_numpys(case: tuple[tuple[int, ...], tuple[int, ...]], dtype: DType, cpu: str) -> None:
    shape, axes = case
    inputs = inputs_for((Type(dtype, shape),))
    x = drawn(shape, dtype)
    with config(cpu=cpu):
        actual = ran(Graph(inputs, (permute(inputs[0], axes),)), [x])
    np.testing.assert_array_equal(actual, x.transpose(axes))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("shape", [(16, 16), (40, 23), (9, 33), (2100, 19)])
@pytest.mark.parametrize("dtype", [float32, float64, int8], ids=repr)
def test_what_is_read_from_its_ends(dtype: DType, shape: tuple[int, int], cpu: str) -> None:
    x = drawn(shape, dtype)
    inputs = inputs_for((Type(dtype, shape),))
    for over in ([True, False], [False, True], [True, True]):
        graph = Graph(inputs, (flip(permute(inputs[0], (1, 0)), over),))
        with config(cpu=cpu):
            actual = ran(graph, [x])
        np.testing.assert_array_equal(actual, np.flip(x.T, [k for k in (0, 1) if over[k]]))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("rows", [16, 19, 100])
@pytest.mark.parametrize("columns", [16, 23, 2100])
def test_work_on_straight_turned_and_repeated_operands(rows: int, columns: int, cpu: str) -> None:
    types = [Type(float32, s) for s in ((columns, rows), (rows, columns), (rows, 1), (columns, rows))]
    inputs = inputs_for(types)
    a, b, c, d = inputs
    formula: Node = permute(a * d, (1, 0)) * b + c + permute(d, (1, 0))
    arrays = [drawn(t.shape) + k for k, t in enumerate(types)]
    x, y, z, w = arrays
    with config(cpu=cpu):
        first = ran(Graph(inputs, (formula,)), arrays)
        np.testing.assert_allclose(first, (x * w).T * y + z + w.T, rtol=1e-6, atol=1e-6)
        for threads in (2, 3):
            np.testing.assert_array_equal(ran(Graph(inputs, (formula,)), arrays, threads=threads), first)


def test_results_of_two_shapes() -> None:
    inputs = inputs_for((Type(float32, (4, 30, 20)),))
    turned = permute(inputs[0], (0, 2, 1)) * 2.0
    graph = Graph(inputs, (reshape(turned, (80, 30)), turned + 1.0))
    x = drawn((4, 30, 20))
    with config(threads=1):
        plan = Plan(graph)
        plan.slots[0] = x.ctypes.data
        flat, full = plan.run_bound()
    np.testing.assert_array_equal(flat, (x.transpose(0, 2, 1) * 2).reshape(80, 30))
    np.testing.assert_array_equal(full, x.transpose(0, 2, 1) * 2 + np.float32(1))


def scheduled(build: Callable[[Node], Node], x: Type) -> bool:
    inputs = inputs_for((x,))
    return schedule_turned(Graph(inputs, (build(inputs[0]),)), host()) is not None


def test_what_is_turned() -> None:
    image = Type(float32, (2, 30, 40, 64))
    assert scheduled(lambda x: permute(x, (0, 3, 1, 2)), image)
    assert scheduled(lambda x: permute(permute(x, (0, 3, 1, 2)) + 1.0, (0, 2, 1, 3)), image)
    assert not scheduled(lambda x: permute(x, (1, 0, 2, 3)), image)  # rows stay rows
    assert not scheduled(lambda x: x + 1.0, image)
    assert not scheduled(lambda x: Sum((0,))(permute(x, (1, 0))), Type(float32, (64, 64)))
    assert not scheduled(lambda x: permute(x, (1, 0)), Type(float32, (64, 2)))  # too narrow to repay
    assert scheduled(lambda x: permute(x, (1, 0)), Type(float16, (64, 64)))
    assert scheduled(lambda x: flip(permute(x, (1, 0)), (True, False)), Type(uint8, (64, 64)))
    assert not scheduled(lambda x: permute(x, (1, 0)), Type(bool_, (64, 64)))  # a register of these is of bits
