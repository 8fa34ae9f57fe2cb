"""Sorting, the first few, medians, quantiles and binary search against PyTorch and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DTYPES, DType

Array = np.ndarray[Any, Any]
SHAPES = [(1,), (0, 4), (2, 0, 3), (3, 5), (2, 50, 2), (2, 300)]


def values_of(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    """Return values with many ties; floats with NaN, infinities and both zeros among them."""
    rng = np.random.default_rng(seed)
    if dtype is td.bool:
        return rng.random(shape) < 0.5
    low = 0 if dtype.kind == "uint" else -6
    x = rng.integers(low, 7, shape).astype(np.float64)
    if dtype.is_float:
        special = rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0], shape)
        x = np.where(rng.random(shape) < 0.3, special, x)
    return x.astype(dtype.numpy)


def stable_order(x: Array, axis: int, *, descending: bool) -> Array:
    keys = x.astype(np.float64)
    if not descending:
        return np.argsort(keys, axis=axis, kind="stable")
    n = x.shape[axis]
    return n - 1 - np.flip(np.argsort(np.flip(keys, axis), axis=axis, kind="stable"), axis)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sort(dtype: DType, descending: bool) -> None:
    for shape in SHAPES:
        x = values_of(dtype, shape)
        for axis in {0, -1}:
            order = stable_order(x, axis, descending=descending)
            want = np.take_along_axis(x, order, axis)
            got = td.sort(td.asarray(x), axis=axis, descending=descending)
            assert got.dtype is dtype
            np.testing.assert_array_equal(got.numpy().view(np.uint8), np.ascontiguousarray(want).view(np.uint8))
            places = td.argsort(td.asarray(x), axis=axis, descending=descending)
            assert places.dtype is td.int64
            np.testing.assert_array_equal(places.numpy(), order)


@pytest.mark.parametrize("dtype", [td.int8, td.uint8, td.int64, td.uint64, td.float64, td.float16], ids=str)
def test_sort_over_the_whole_range(dtype: DType) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (3, 200 * dtype.itemsize), np.uint8).view(dtype.numpy)
    with np.errstate(invalid="ignore"):
        want = np.sort(x, axis=-1)
    np.testing.assert_array_equal(td.sort(td.asarray(x)).numpy(), want)


def test_a_scalar_is_sorted() -> None:
    assert td.sort(td.asarray(3.0)).item() == 3
    assert td.argsort(td.asarray(3.0), axis=-1).item() == 0
    assert td.topk(td.asarray(3.0), 1).indices.shape == ()


def test_words_of_pytorch() -> None:
    x = td.asarray([[3.0, 1.0], [0.0, 2.0]])
    assert td.sort(x, dim=0).tolist() == [[0, 1], [3, 2]]  # pyright: ignore[reportCallIssue]
    assert x.kthvalue(1, dim=1, keepdim=True).values.tolist() == [[1], [0]]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="dim and axis are the same"):
        td.sort(x, dim=0, axis=0)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(
    ("shape", "k"), [((5,), 0), ((5,), 5), ((4, 9), 3), ((3, 1000), 7), ((2, 9000), 5), ((2, 60, 2), 1)]
)
def test_topk(shape: tuple[int, ...], k: int, largest: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    for axis in range(len(shape)):
        size = min(k, shape[axis])
        got = td.asarray(x).topk(size, axis, largest)
        want = torch.topk(torch.tensor(x), size, axis, largest)
        np.testing.assert_array_equal(got.values.numpy(), want.values.numpy())
        np.testing.assert_array_equal(got.indices.numpy(), want.indices.numpy())


@pytest.mark.parametrize("dtype", [td.float32, td.int64, td.uint8, td.bfloat16], ids=str)
def test_topk_takes_the_first_of_ties(dtype: DType) -> None:
    x = values_of(dtype, (3, 200))
    order = stable_order(x, -1, descending=True)[:, :9]
    np.testing.assert_array_equal(td.topk(td.asarray(x), 9).indices.numpy(), order)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_kthvalue(k: int, keepdims: bool) -> None:
    x = np.random.default_rng(0).permutation(60).reshape(5, 12).astype(np.float32)
    for axis in (0, 1, -1):
        got = td.kthvalue(td.asarray(x), k, axis, keepdims)
        want = torch.kthvalue(torch.tensor(x), k, axis, keepdims)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", ["median", "nanmedian"])
@pytest.mark.parametrize("shape", [(1,), (6,), (7,), (4, 5), (3, 1, 8), ()])
def test_median(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for nans in (0.0, 0.2, 1.0):
        x = np.asarray(rng.permutation(int(np.prod(shape))).reshape(shape), np.float32)
        x = np.where(rng.random(shape) < nans, np.nan, x).astype(np.float32)
        whole = getattr(td, name)(td.asarray(x))
        np.testing.assert_array_equal(whole.numpy(), getattr(torch, name)(torch.tensor(x)).numpy())
        for axis in range(-1, max(len(shape), 1)):
            for keepdims in (False, True):
                got = getattr(td.asarray(x), name)(axis, keepdims)
                want = getattr(torch, name)(torch.tensor(x), axis, keepdims)
                np.testing.assert_array_equal(got.values.numpy(), want.values.numpy())
                picked = np.take_along_axis(
                    np.atleast_1d(x), np.atleast_1d(got.indices.numpy().reshape(_with(x, axis))), axis
                )
                np.testing.assert_array_equal(picked.ravel(), want.values.numpy().ravel())


def _with(x: Array, axis: int) -> tuple[int, ...]:
    shape = list(x.shape or (1,))
    shape[axis] = 1
    return tuple(shape)


def test_median_of_integers_and_nothing() -> None:
    assert td.median(td.asarray([4, 1, 3, 2])).item() == 2
    assert np.isnan(td.median(td.asarray(np.zeros(0, np.float32))).item())


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
def test_quantile(name: str, interpolation: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6, 5))
    x[0, 2, 1] = np.nan
    x[:, 1, 1] = np.nan
    q = np.array([0.0, 0.11, 0.5, 0.77, 1.0])
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            for part in (q, q[1:2], q[3]):
                got = getattr(td, name)(td.asarray(x), td.asarray(part), axis, keepdims, interpolation=interpolation)
                want = getattr(torch, name)(
                    torch.tensor(x), torch.tensor(part), axis, keepdims, interpolation=interpolation
                )
                assert got.shape == tuple(want.shape)
                np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12)
    assert td.quantile(td.asarray([1.0, np.inf, np.inf]), 0.75).item() == np.inf
    assert td.asarray([1.0, 2.0, 4.0]).quantile([0.25, 0.5]).tolist() == [1.5, 2.0]


def test_mode() -> None:
    rng = np.random.default_rng(0)
    for shape in [(1,), (9,), (4, 30), (3, 20, 2)]:
        x = rng.integers(0, 5, shape)
        for axis in range(len(shape)):
            got, want = td.mode(td.asarray(x), axis), torch.mode(torch.tensor(x), axis)
            np.testing.assert_array_equal(got.values.numpy(), want.values.numpy())
            places = np.expand_dims(got.indices.numpy(), axis)
            np.testing.assert_array_equal(np.take_along_axis(x, places, axis).squeeze(axis), want.values.numpy())
    assert td.mode(td.asarray(4.0)).values.item() == 4


# --- binary search


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", [td.float32, td.float16, td.int8, td.uint8, td.int64], ids=str)
def test_searchsorted(dtype: DType, side: str) -> None:
    for n in (0, 1, 2, 3, 7, 64, 100):
        rows = np.sort(values_of(dtype, (n,)), kind="stable")
        values = values_of(dtype, (4, 9), 1)
        got = td.searchsorted(td.asarray(rows), td.asarray(values), side=side)
        assert got.dtype is td.int64
        np.testing.assert_array_equal(got.numpy(), np.searchsorted(rows, values, side))
        order = np.random.default_rng(2).permutation(n)
        mixed = np.empty_like(rows)
        mixed[order] = rows
        again = td.searchsorted(td.asarray(mixed), td.asarray(values), side=side, sorter=td.asarray(order))
        np.testing.assert_array_equal(again.numpy(), got.numpy())


def test_searchsorted_in_rows_and_bucketize() -> None:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.standard_normal((2, 3, 20)), axis=-1)
    values = rng.standard_normal((2, 3, 5))
    for right in (False, True):
        got = td.searchsorted(td.asarray(rows), td.asarray(values), right=right, out_int32=True)
        want = torch.searchsorted(torch.tensor(rows), torch.tensor(values), right=right, out_int32=True)
        assert got.dtype is td.int32
        np.testing.assert_array_equal(got.numpy(), want.numpy())
        got = td.bucketize(td.asarray(values), td.asarray(rows[0, 0]), right=right)
        want = torch.bucketize(torch.tensor(values), torch.tensor(rows[0, 0]), right=right)
        np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert td.searchsorted(td.asarray([1.0, 2.0]), 1.5).shape == ()


# --- gradients, compilation, threads, errors

DIFFERENTIABLE = {
    "sort": (lambda x: td.sort(x, axis=0), lambda x: torch.sort(x, 0).values),
    "descending": (lambda x: td.sort(x, descending=True), lambda x: torch.sort(x, descending=True).values),
    "topk": (lambda x: td.topk(x, 3).values, lambda x: torch.topk(x, 3).values),
    "kthvalue": (lambda x: td.kthvalue(x, 4, 0).values, lambda x: torch.kthvalue(x, 4, 0).values),
    "median": (lambda x: td.median(x, 1).values, lambda x: torch.median(x, 1).values),
    "nanmedian": (lambda x: td.nanmedian(x, 0).values, lambda x: torch.nanmedian(x, 0).values),
    "median of all": (td.median, torch.median),
    "quantile": (
        lambda x: td.quantile(x, td.asarray([0.3, 0.8], dtype=td.float64), 1),
        lambda x: torch.quantile(x, torch.tensor([0.3, 0.8], dtype=torch.float64), 1),
    ),
    "mode": (lambda x: td.mode(x, 0).values, lambda x: torch.sort(x, 0).values[0]),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str) -> None:
    ours, theirs = DIFFERENTIABLE[name]
    x = np.random.default_rng(0).standard_normal((6, 9))
    weight = np.random.default_rng(1).standard_normal(tuple(theirs(torch.tensor(x)).shape))

    def loss(x: Any) -> Any:
        return (ours(x) ** 3 * td.asarray(weight)).sum()

    t = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad((theirs(t) ** 3 * torch.tensor(weight)).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), t)
    np.testing.assert_allclose(td.grad(loss)(td.asarray(x)).numpy(), first.detach().numpy(), rtol=1e-10)
    twice = td.grad(lambda x: (td.grad(loss)(x) ** 2).sum())(td.asarray(x))
    np.testing.assert_allclose(twice.numpy(), second.numpy(), rtol=1e-9)


def everything(x: Any) -> list[Any]:
    return [
        td.sort(x),
        td.argsort(x, axis=0, descending=True),
        *td.topk(x, 3),
        *td.median(x, 1),
        td.quantile(x, 0.3, 0),
        td.searchsorted(td.sort(x[0]), x),
    ]


def test_compiled_and_eager_give_the_same() -> None:
    x = td.asarray(np.random.default_rng(0).standard_normal((17, 101)).astype(np.float32))
    for a, b in zip(td.compile(everything)(x), everything(x), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_any_number_of_threads_gives_the_same_bits() -> None:
    x = td.asarray(np.random.default_rng(0).standard_normal((64, 200)).astype(np.float32))
    found: list[list[Array]] = []
    for threads in (1, 2, 3):
        with td.config(threads=threads):
            found.append([y.numpy() for y in td.compile(everything)(x)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_kernel_gives_values_and_places() -> None:
    plan = td.compile(lambda x: tuple(td.topk(x, 3))).plan(td.zeros((8, 100)))
    assert [s.kernel.kind for s in plan.steps] == ["sort"]


def test_errors() -> None:
    x = td.zeros((3, 4))
    for call, message in [
        (lambda: td.topk(x, 5), "topk: k is 5, axis -1 of f32.3,4. has 4 elements"),
        (lambda: td.kthvalue(x, 0), "kthvalue: k is 0"),
        (lambda: td.sort(x, axis=2), "sort: axis 2 is out of range"),
        (lambda: td.median(td.zeros((2, 0)), 1), "median: axis 1 of .* has no elements"),
        (lambda: td.quantile(x, 1.5), r"quantile: q is 1.5\. Allowed: numbers in 0..1"),
        (lambda: td.quantile(x.int(), 0.5), "quantile: takes float32 or float64"),
        (lambda: td.quantile(x, 0.5, interpolation="cubic"), "no interpolation 'cubic'"),
        (lambda: td.searchsorted(x, td.zeros((2, 4))), "searchsorted: the sorted rows"),
        (lambda: td.searchsorted(x[0], 1.0, side="middle"), "side is 'middle'"),
        (lambda: td.bucketize(x, x), "bucketize: boundaries are"),
    ]:
        with pytest.raises(td.TreadleError, match=message):
            call()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize(("size", "count"), [(1024, 1), (1025, 1), (8192, 8), (10_000, 3), (9215, 8)])
def test_the_largest_of_long_rows_are_found_by_blocks(size: int, count: int, dtype: str) -> None:
    x = np.random.default_rng(size).integers(0, 200, (2, size)).astype(dtype)
    if x.dtype.kind == "f":
        x[0, [5, size - 1]] = np.nan, np.inf
        x[1] = -np.inf
    got = td.topk(td.asarray(x), count)
    keys = np.where(np.isnan(x), np.inf, x).astype(np.float64) + np.where(np.isnan(x), 0, 0)
    keys = np.where(np.isnan(x), 1e300, np.clip(keys, -1e299, 1e299))
    order = np.argsort(-keys, axis=-1, kind="stable")[:, :count]
    np.testing.assert_array_equal(got.indices.numpy(), order)
    np.testing.assert_array_equal(got.values.numpy(), np.take_along_axis(x, order, -1))
    assert td.msort(td.asarray([[3, 1], [2, 5]])).tolist() == [[2, 1], [3, 5]]
