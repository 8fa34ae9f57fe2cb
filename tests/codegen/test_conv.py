"""Convolution kernels against the op's NumPy meaning: geometries, layouts, dtypes, special values, threads, CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.native import guarded_scratch
from treadle.codegen.target import host
from treadle.core import DType, Type, bfloat16, config, float16, float32, float64
from treadle.ir import Graph, inputs_for
from treadle.jit.plan import Plan
from treadle.ops import Conv, ConvOp, ConvPlanes, permute

CPUS = ("avx2", "avx512") if host().has_avx512 else ("avx2",)
Array = np.ndarray[Any, Any]


def ran(graph: Graph, arrays: list[Array], *, threads: int = 1) -> Array:
    with config(threads=threads):
        plan = Plan(graph)
        for k, array in enumerate(arrays):
            plan.slots[k] = array.ctypes.data
        with guarded_scratch():
            (result,) = plan.run_bound()
    return result


def of(op: ConvOp, arrays: list[Array], dtype: DType = float32) -> Graph:
    inputs = inputs_for([Type(dtype, a.shape) for a in arrays])
    return Graph(inputs, (op(*inputs),))


def check_permuted(op: ConvOp, arrays: list[Array], firsts: Sequence[Sequence[int]]) -> None:
    """Hold the kernel against the op where each operand is stored with its axes in another order."""
    stored = [np.ascontiguousarray(a.transpose(first)) for a, first in zip(arrays, firsts, strict=True)]
    inputs = inputs_for([Type(float32, a.shape) for a in stored])
    views = [permute(n, tuple(map(int, np.argsort(f)))) for n, f in zip(inputs, firsts, strict=True)]
    actual = ran(Graph(inputs, (op(*views),)), stored)
    np.testing.assert_allclose(actual, op.eval(*arrays), rtol=1e-4, atol=1e-3)


def drawn(seed: int, *shapes: tuple[int, ...], dtype: DType = float32) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s).astype(dtype.numpy) for s in shapes]


def check(op: ConvOp, arrays: list[Array], dtype: DType = float32, tolerance: float = 2e-5) -> None:
    """Hold the kernel against the op in float64, relative to the sums of magnitudes that were added."""
    actual = ran(of(op, arrays, dtype), arrays).astype("f8")
    wide = [a.astype("f8") for a in arrays]
    expected, scale = op.eval(*wide), op.eval(*map(np.abs, wide))
    assert actual.shape == expected.shape
    np.testing.assert_array_less(np.abs(actual - expected), tolerance * (scale + 1))


def in_planes(conv: Conv) -> ConvPlanes:
    return ConvPlanes(conv.strides, conv.low, conv.high, conv.dilation, conv.input_dilation, conv.groups)


def planes_first(arrays: list[Array]) -> list[Array]:
    """Return x [N, *spatial, C] as [N, C, *spatial], the weight as it is."""
    return [np.ascontiguousarray(np.moveaxis(arrays[0], -1, 1)), arrays[1]]


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...], tuple[int, ...]]:
    """Draw a convolution with shapes of x and the weight that fit it."""
    axes = draw(st.integers(1, 3))
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    each = draw(st.sampled_from((1, 2, 3, 8, 17, 33))), draw(st.sampled_from((1, 2, 5, 16, 31, 50)))
    if draw(st.integers(0, 3)) == 0:  # depthwise
        groups, each = draw(st.sampled_from((2, 8, 16, 37, 70))), (1, 1)
    pick = st.integers

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(pick(low, high)) for _ in range(axes))

    kernel, sizes = per_axis(1, 4), per_axis(1, 9 if axes < 3 else 5)
    stride, dilation, between = per_axis(1, 3), per_axis(1, 2), per_axis(1, 2)
    low, high = per_axis(-1, 3), list(per_axis(0, 3))
    for a in range(axes):  # make the kernel fit
        span = (kernel[a] - 1) * dilation[a] + 1
        high[a] += max(0, span - ((sizes[a] - 1) * between[a] + 1 + low[a] + high[a]))
    conv = Conv(stride, low, tuple(high), dilation, between, groups)
    return conv, (draw(pick(1, 3)), *sizes, groups * each[0]), (*kernel, each[0], groups * each[1])


@settings(max_examples=60, deadline=None)
@given(geometries(), st.sampled_from(CPUS), st.data())
def test_any_geometry(geometry: tuple[Conv, tuple[int, ...], tuple[int, ...]], cpu: str, data: st.DataObject) -> None:
    conv, x, w = geometry
    with config(cpu=cpu):
        arrays = drawn(0, x, w)
        check(conv, arrays)
        check(in_planes(conv), planes_first(arrays))
        out = conv.eval(*arrays)
        gradient, operands = conv.weight_gradient(w[:-2]), [arrays[0], *drawn(1, out.shape)]
        check(gradient, operands)
        orders = st.permutations(range(len(x)))
        for op, given in ((conv, arrays), (in_planes(conv), planes_first(arrays)), (gradient, operands)):
            check_permuted(op, given, [data.draw(orders), data.draw(orders)])


def same(kernel: int = 3, stride: int = 1) -> Conv:
    side = ((kernel - 1) // 2,) * 2
    return Conv((stride,) * 2, side, side, (1, 1), (1, 1))


LARGE = {
    "many blocks of pixels": (same(), (3, 40, 36, 20), (3, 3, 20, 40)),
    "many channels in and out": (same(), (2, 5, 5, 300), (3, 3, 300, 200)),
    "a wide image": (same(), (1, 3, 700, 3), (3, 3, 3, 5)),
    "a stem": (same(7, 2), (2, 50, 50, 3), (7, 7, 3, 64)),
    "strided": (same(3, 2), (4, 17, 15, 70), (3, 3, 70, 100)),
    "depthwise": (replace(same(), groups=300), (3, 30, 31, 300), (3, 3, 1, 300)),
    "depthwise, many taps": (replace(same(9, 2), groups=40), (2, 40, 41, 40), (9, 9, 1, 40)),
}
PLANES = {
    "few channels out": (same(), (2, 61, 59, 40), (3, 3, 40, 3)),
    "many channels in": (same(), (1, 40, 40, 700), (3, 3, 700, 5)),
    "a wide image": (same(), (1, 3, 9000, 19), (3, 3, 19, 2)),
    "rows of taps in a loop": (same(9), (2, 33, 35, 16), (9, 9, 16, 3)),
    "transposed": (Conv((1, 1), (2, 2), (2, 2), (1, 1), (2, 2), 1), (3, 16, 16, 32), (4, 4, 32, 3)),
    "transposed by 3": (Conv((1, 1), (3, 3), (4, 4), (1, 1), (3, 3), 1), (2, 17, 19, 8), (5, 5, 8, 3)),
    "transposed by 4, strided": (Conv((1, 3), (3, 3), (4, 4), (1, 2), (4, 4), 1), (2, 17, 19, 8), (5, 5, 8, 3)),
    "dilated": (Conv((1, 1), (20, 20), (20, 20), (20, 20), (1, 1), 1), (1, 50, 50, 9), (3, 3, 9, 1)),
    "strided": (same(3, 2), (2, 70, 71, 20), (3, 3, 20, 4)),
    "strided far": (same(3, 7), (2, 170, 171, 2), (3, 3, 2, 4)),
    "groups": (replace(same(), groups=5), (2, 30, 31, 20), (3, 3, 4, 35)),
    "depthwise": (replace(same(), groups=70), (2, 56, 56, 70), (3, 3, 1, 70)),
    "time": (Conv((1,), (2,), (2,), (1,), (1,), 1), (2, 1000, 30), (5, 30, 2)),
    "volume": (Conv((1,) * 3, (1,) * 3, (1,) * 3, (1,) * 3, (2, 1, 2), 1), (2, 9, 10, 11, 12), (3, 3, 3, 12, 2)),
}


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", LARGE)
def test_more_than_one_block(name: str, cpu: str) -> None:
    conv, x, w = LARGE[name]
    with config(cpu=cpu):
        arrays = drawn(0, x, w)
        check(conv, arrays)
        check(conv.weight_gradient(w[:-2]), [arrays[0], *drawn(1, conv.eval(*arrays).shape)])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("name", PLANES)
def test_planes(name: str, cpu: str) -> None:
    conv, x, w = PLANES[name]
    with config(cpu=cpu):
        check(in_planes(conv), planes_first(drawn(0, x, w)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(float64, 1e-13), (float16, 2e-3), (bfloat16, 2e-2)], ids=str)
def test_dtypes(dtype: DType, tolerance: float) -> None:
    conv, x, w = same(), (2, 9, 8, 19), (3, 3, 19, 21)
    arrays = drawn(0, x, w, dtype=dtype)
    check(conv, arrays, dtype, tolerance)
    check(in_planes(conv), planes_first(arrays), dtype, tolerance)
    far = in_planes(replace(conv, strides=(2, 3), input_dilation=(3, 2)))
    check(far, planes_first(arrays), dtype, tolerance)
    check(conv.weight_gradient((3, 3)), [arrays[0], *drawn(1, (2, 9, 8, 21), dtype=dtype)], dtype, tolerance)


@pytest.mark.parametrize("first", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 2, 1)])
def test_operands_may_lie_anyhow(first: tuple[int, ...]) -> None:
    conv, x, w = same(), (3, 7, 6, 18), (3, 3, 18, 20)
    arrays = drawn(0, x, w)
    out = conv.eval(*arrays)
    ct = drawn(1, out.shape)[0]
    grad = conv.weight_gradient((3, 3))
    for op, others in ((conv, arrays), (in_planes(conv), planes_first(arrays)), (grad, [arrays[0], ct])):
        check_permuted(op, others, [first, first])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_reach_what_meets_them_and_nothing_else(value: float) -> None:
    conv = same()
    x, w = drawn(0, (2, 9, 9, 5), (3, 3, 5, 7))
    x[0, 4, 4, 2] = value
    actual, expected = ran(of(conv, [x, w]), [x, w]), conv.eval(x, w)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    planes = ran(of(in_planes(conv), planes_first([x, w])), planes_first([x, w]))
    np.testing.assert_array_equal(np.isfinite(np.moveaxis(planes, 1, -1)), np.isfinite(expected))
    assert np.isfinite(actual[1]).all()
    assert not np.isfinite(actual[0, 3:6, 3:6]).any()
    (ct,) = drawn(1, (2, 9, 9, 7))
    grad = conv.weight_gradient((3, 3))
    actual, expected = ran(of(grad, [x, ct]), [x, ct]), grad.eval(x, ct)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    assert np.isfinite(actual[:, [0, 1, 3, 4]]).all()


def test_the_same_bits_for_every_number_of_threads() -> None:
    conv, x, w = same(), (3, 19, 18, 33), (3, 3, 33, 70)
    arrays = drawn(0, x, w)
    grad = [arrays[0], *drawn(1, conv.eval(*arrays).shape)]
    for op, given_ in (
        (conv, arrays),
        (in_planes(conv), planes_first(arrays)),
        (conv.weight_gradient((3, 3)), grad),
    ):
        first = ran(of(op, given_), given_)
        for threads in (2, 3, 7):
            np.testing.assert_array_equal(ran(of(op, given_), given_, threads=threads), first)


def test_nothing_to_add_up_is_zero() -> None:
    conv = same()
    x, ct = drawn(0, (0, 5, 5, 3), (0, 5, 5, 4))
    grad = conv.weight_gradient((3, 3))
    np.testing.assert_array_equal(ran(of(grad, [x, ct]), [x, ct]), np.zeros((4, 3, 3, 3)))
    x, w = drawn(0, (2, 5, 5, 0), (3, 3, 0, 4))
    np.testing.assert_array_equal(ran(of(conv, [x, w]), [x, w]), np.zeros((2, 5, 5, 4)))
    first = planes_first([x, w])
    np.testing.assert_array_equal(ran(of(in_planes(conv), first), first), np.zeros((2, 4, 5, 5)))
