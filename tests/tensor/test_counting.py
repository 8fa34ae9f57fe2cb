"""Counts, histograms and positions against NumPy and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DType


def test_argwhere_and_nonzero() -> None:
    rng = np.random.default_rng(0)
    for shape in [(0,), (5,), (3, 4), (2, 0, 3), (2, 3, 4), ()]:
        x = np.asarray(rng.integers(0, 2, shape))
        np.testing.assert_array_equal(td.argwhere(td.asarray(x)).numpy(), torch.argwhere(torch.tensor(x)).numpy())
        if shape:
            for got, want in zip(td.asarray(x).nonzero(), np.nonzero(x), strict=True):
                np.testing.assert_array_equal(got.numpy(), want)
        assert td.asarray(x).count_nonzero().item() == np.count_nonzero(x)
    with pytest.raises(td.TraceError, match="shape that depends on its values"):
        td.compile(td.argwhere)(td.asarray([1, 0]))


@pytest.mark.parametrize("dtype", [td.int64, td.uint8, td.int32], ids=str)
def test_bincount(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, 50).astype(dtype.numpy)
    ours = td.asarray(x)
    for minlength in (0, 5, 20):
        np.testing.assert_array_equal(td.bincount(ours, minlength=minlength).numpy(), np.bincount(x, None, minlength))
    for weights in (rng.standard_normal(50), rng.standard_normal(50).astype(np.float32), rng.integers(0, 5, 50)):
        got = td.bincount(ours, td.asarray(weights))
        want = torch.bincount(torch.tensor(x), torch.tensor(weights))
        assert got.dtype.name == str(want.dtype).removeprefix("torch.")
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-6)
    assert td.bincount(td.zeros((0,), dtype=dtype)).shape == (0,)
    assert td.bincount(td.zeros((0,), dtype=dtype), minlength=3).tolist() == [0, 0, 0]


def test_the_gradient_of_weights() -> None:
    x = td.asarray([0, 2, 2])
    slope = td.grad(lambda w: (td.bincount(x, w) * td.asarray([1.0, 2.0, 3.0])).sum())
    assert slope(td.asarray([1.0, 1.0, 1.0])).tolist() == [1, 3, 3]


@pytest.mark.parametrize("dtype", [td.float32, td.float64], ids=str)
def test_histc(dtype: DType) -> None:
    x = np.random.default_rng(0).integers(-8, 9, (6, 20)).astype(dtype.numpy) / 2
    for bins, low, high in [(10, 0, 0), (7, -2, 3), (1, -1, 1), (100, -4, 4)]:
        got = td.histc(td.asarray(x), bins, low, high)
        assert got.dtype is dtype
        np.testing.assert_array_equal(got.numpy(), torch.histc(torch.tensor(x), bins, low, high).numpy())
    alike = torch.histc(torch.full((4,), 2.0), 3)
    np.testing.assert_array_equal(td.histc(td.full((4,), 2.0), 3).numpy(), alike.numpy())
    assert td.histc(td.zeros((0,)), 3).tolist() == [0, 0, 0]


def test_histogram() -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((5, 30)), rng.random((5, 30))
    edges = np.array([-1.0, -0.5, 0.0, 2.0])
    for bins, span in [(10, None), (4, (-1.0, 1.0)), (edges, None)]:
        for density in (False, True):
            for w in (None, weight):
                got = td.histogram(
                    td.asarray(x),
                    bins if isinstance(bins, int) else td.asarray(bins),
                    range=span,
                    weight=None if w is None else td.asarray(w),
                    density=density,
                )
                hist, at = np.histogram(x, bins, span, density, w)
                np.testing.assert_allclose(got.hist.numpy(), hist, rtol=1e-10)
                np.testing.assert_allclose(got.bin_edges.numpy(), at, rtol=1e-12, atol=1e-12)
    assert td.histogram(td.asarray([1, 2, 2, 3]), [1.0, 2.0, 3.0]).hist.tolist() == [1, 3]
    assert td.histogram(td.zeros((0,)), 2).hist.tolist() == [0, 0]


def test_compiled_and_eager_give_the_same() -> None:
    def both(x: Any) -> list[Any]:
        return [td.histc(x, 5), *td.histogram(x, 6)]

    x = td.asarray(np.random.default_rng(0).standard_normal(100).astype(np.float32))
    for a, b in zip(td.compile(both)(x), both(x), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_errors() -> None:
    x = td.asarray([1, 2])
    for call, message in [
        (lambda: td.bincount(x.float()), "bincount: takes a vector of integers"),
        (lambda: td.bincount(td.asarray([-1])), "bincount: x has -1 in it"),
        (lambda: td.bincount(x, td.ones((3,))), "bincount: weights"),
        (lambda: td.bincount(x, minlength=-1), "minlength is -1"),
        (lambda: td.compile(td.bincount)(x), "bincount: the shape of its result"),
        (lambda: td.histc(x), "histc: takes floats"),
        (lambda: td.histc(x.float(), 0), "histc: 0 bins"),
        (lambda: td.histc(x.float(), 3, 2, 1), "histc: the range is 2 to 1"),
        (lambda: td.histogram(x, 0), "histogram: 0 bins"),
        (lambda: td.histogram(x, 3, weight=td.ones((3,))), "histogram: weights"),
        (lambda: td.histogram(x, td.ones((2, 2))), "histogram: the edges are"),
    ]:
        with pytest.raises(td.TreadleError, match=message):
            call()
