"""The different elements, and membership, against NumPy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DTYPES, DType

Array = np.ndarray[Any, Any]
SHAPES = [(), (0,), (1,), (9,), (3, 0), (4, 5), (2, 3, 20)]


def numbers(dtype: DType, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(0)
    low = 0 if dtype.kind in ("uint", "bool") else -4
    return np.asarray(rng.integers(low, 2 if dtype is td.bool else 5, shape)).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d is not td.bfloat16], ids=str)
def test_names_of_the_array_api(dtype: DType) -> None:
    for shape in SHAPES:
        x = numbers(dtype, shape)
        values, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
        got = td.unique_all(td.asarray(x))
        assert got.values.dtype is dtype
        assert {part.dtype for part in got[1:]} == {td.int64}
        for part, want in zip(got, (values, first, inverse.reshape(shape), counts), strict=True):
            np.testing.assert_array_equal(part.numpy(), want)
        np.testing.assert_array_equal(td.unique_values(td.asarray(x)).numpy(), values)
        np.testing.assert_array_equal(td.unique_counts(td.asarray(x)).counts.numpy(), counts)
        np.testing.assert_array_equal(td.unique_inverse(td.asarray(x)).inverse_indices.numpy(), inverse.reshape(shape))


def test_nan_and_zeros() -> None:
    x = np.array([np.nan, 0.0, -0.0, np.inf, np.nan, -np.inf], np.float32)
    got = td.unique_all(td.asarray(x))
    np.testing.assert_array_equal(got.values.numpy(), [-np.inf, 0, np.inf, np.nan, np.nan])
    np.testing.assert_array_equal(got.counts.numpy(), [1, 2, 1, 1, 1])
    assert len(set(got.inverse_indices.numpy()[[0, 4]])) == 2


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique_of_pytorch(axis: int | None) -> None:
    rng = np.random.default_rng(0)
    for shape in [(6, 3), (3, 9), (1, 4), (5, 1)]:
        x = rng.integers(0, 2, shape)
        got = td.unique(td.asarray(x), return_inverse=True, return_counts=True, axis=axis)
        want = torch.unique(torch.tensor(x), return_inverse=True, return_counts=True, dim=axis)
        assert isinstance(got, tuple)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
        got = td.unique_consecutive(td.asarray(x), True, True, axis)
        want = torch.unique_consecutive(torch.tensor(x), True, True, axis)
        assert isinstance(got, tuple)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert td.asarray([3, 1, 3]).unique().tolist() == [1, 3]  # pyright: ignore[reportAttributeAccessIssue]


def test_isin() -> None:
    x = numbers(td.int64, (4, 6))
    for pool in ([], [1], [3, -2, 3, 7]):
        for invert in (False, True):
            got = td.isin(td.asarray(x), td.asarray(np.array(pool, np.int64)), invert=invert)
            np.testing.assert_array_equal(got.numpy(), np.isin(x, pool, invert=invert))
    special = np.array([np.nan, 0.0, np.inf, 1.0])
    pool = np.array([np.nan, -0.0, np.inf])
    np.testing.assert_array_equal(td.isin(td.asarray(special), td.asarray(pool)).numpy(), np.isin(special, pool))
    assert td.isin(td.asarray([1, 2, 3]), 2).tolist() == [False, True, False]
    compiled = td.compile(lambda x: td.isin(x, td.asarray([1, 2])))(td.asarray(x))
    np.testing.assert_array_equal(compiled.numpy(), np.isin(x, [1, 2]))
    assert td.isin(td.zeros((0, 2)), td.asarray([1.0])).shape == (0, 2)


def test_a_gradient_flows_through_the_values() -> None:
    slope = td.grad(lambda x: (td.unique_values(x) * td.asarray([1.0, 2.0, 3.0])).sum())
    assert slope(td.asarray([5.0, 1.0, 5.0, 3.0])).tolist() == [3, 1, 0, 2]


@pytest.mark.parametrize("name", ["unique_all", "unique_counts", "unique_inverse", "unique_values", "unique"])
def test_a_compiled_function_cannot_have_them(name: str) -> None:
    def step(x: Any) -> Any:
        return getattr(td, name)(x)

    with pytest.raises(
        td.TraceError, match=rf"{name}: the shape of its result at .*test_sets\.py:\d+ depends on the val"
    ):
        td.compile(step)(td.asarray([1, 2]))
