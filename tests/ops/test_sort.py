"""Sorting kernels against NumPy: every dtype, every way a schedule can sort, and what is dropped first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.compiled import compiled
from treadle.core import DTYPES, DType, DTypeError, ShapeError, Type, bfloat16, bool_, float32, int64
from treadle.ir import Graph, inputs_for, results
from treadle.jit import Plan
from treadle.ops import SearchSorted, Sort

Array = np.ndarray[Any, Any]


def rows(dtype: DType, shape: tuple[int, ...]) -> Array:
    """Return any bits at all; floats with NaN and zeros of both signs among them."""
    rng = np.random.default_rng(0)
    if dtype is bool_:
        return rng.random(shape) < 0.5
    x = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype.numpy)[..., 0]
    if dtype.is_float:
        x = np.where(rng.random(shape) < 0.2, rng.choice([-0.0, 0.0, np.nan, np.inf], shape).astype(x.dtype), x)
    return x.astype(dtype.numpy)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
def test_the_kernel_is_the_reference(dtype: DType, descending: bool) -> None:
    for shape in [(3, 1), (4, 40), (3, 41), (2, 2, 300), (0, 3), (3, 0)]:
        n = shape[-1]
        x = rows(dtype, shape)
        if dtype is bfloat16:  # NumPy does not order its NaN
            x = np.nan_to_num(x.astype(np.float32)).astype(dtype.numpy)
        for count in {n, n // 2, min(n, 2)}:
            op = Sort(count, descending)
            for got, want in zip(compiled(op, [x]), op.eval(x), strict=True):
                assert got.dtype == want.dtype
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [float32, int64], ids=repr)
def test_the_first_of_long_rows(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((2, 9000)) * 1000
    narrow = np.full((2, 9000), 5.0)  # nothing can be dropped: all of one digit
    for values in (spread, narrow, np.abs(spread)):
        x = values.astype(dtype.numpy)
        for descending in (False, True):
            op = Sort(100, descending)
            for got, want in zip(compiled(op, [x]), op.eval(x), strict=True):
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("which", [0, 1])
def test_one_result_alone(which: int) -> None:
    x = rows(float32, (3, 50))
    inputs = inputs_for([Type(float32, x.shape)])
    (got,) = Plan(Graph(inputs, (results(Sort(50)(*inputs))[which],))).run([x])
    np.testing.assert_array_equal(got, Sort(50).eval(x)[which])


def test_errors() -> None:
    x = Type(float32, (3, 4))
    with pytest.raises(ShapeError, match=r"sort: there are no 5 elements in the rows of f32\[3,4\]. Allowed: 0..4"):
        Sort(5).infer(x)
    with pytest.raises(ShapeError, match="has no axis to sort along"):
        Sort(0).infer(Type(float32, ()))
    with pytest.raises(ShapeError, match=r"rows of .* are too long"):
        Sort(1).infer(Type(float32, (1, 1 << 32)))
    with pytest.raises(ShapeError, match="searchsorted: the sorted rows"):
        SearchSorted().infer(x, Type(float32, (2, 4)))
    with pytest.raises(DTypeError, match="searchsorted"):
        SearchSorted().infer(x, Type(int64, (3, 4)))
