"""Gathering and scattering along an axis against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DTYPES, DType

Array = np.ndarray[Any, Any]
# Shapes of x, of the index, and the axis: equal on the other axes, smaller, on every axis, empty, 0-d.
PLACES = [
    ((5,), (9,), 0),
    ((5,), (0,), 0),
    ((3, 4), (3, 7), 1),
    ((3, 4), (8, 4), 0),
    ((3, 40), (3, 60), 1),
    ((4, 5), (2, 6), 1),
    ((2, 3, 40), (2, 9, 40), 1),
    ((2, 3, 4), (1, 2, 5), -1),
    ((), (), 0),
]


def drawn(dtype: DType, x: tuple[int, ...], at: tuple[int, ...], axis: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    values = [np.asarray(rng.integers(0, 2 if dtype is td.bool else 4, s)).astype(dtype.numpy) for s in (x, at)]
    index = np.asarray(rng.integers(0, x[axis] if x else 1, at))
    return values[0], index, values[1]


def pair(array: Array) -> tuple[Any, Any]:
    theirs = torch.tensor(array.astype(np.float32)).bfloat16() if array.dtype.kind == "V" else torch.tensor(array)
    return td.asarray(array), theirs


def same(got: td.Tensor, want: Any, tolerance: float = 0.0) -> None:
    assert got.shape == tuple(want.shape)
    assert got.dtype.name == str(want.dtype).removeprefix("torch.")
    np.testing.assert_allclose(got.numpy().astype(np.float64), want.double().numpy(), rtol=tolerance)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "uint" or d is td.uint8], ids=str)
def test_gather_and_scatter(dtype: DType) -> None:
    for shape, at, axis in PLACES:
        x, index, values = drawn(dtype, shape, at, axis)
        if dtype is td.bfloat16:
            continue
        (a, ta), (i, ti), (v, tv) = pair(x), pair(index), pair(values)
        same(a.gather(axis, i), ta.gather(axis, ti))
        # With several values for one place PyTorch's result is one of them; ours is the last.
        same(a.scatter(axis, i, v), _last(ta, axis, ti, tv))
        same(a.scatter(axis, i, 1), ta.scatter(axis, ti, 1))
        if dtype is not td.bool:
            same(a.scatter_add(axis, i, v), ta.scatter_add(axis, ti, tv))


def _last(x: Any, axis: int, index: Any, values: Any) -> Any:
    out = np.atleast_1d(x.numpy().copy())
    at, given = np.atleast_1d(index.numpy()), np.atleast_1d(values.numpy())
    for place in np.ndindex(at.shape):
        goal = list(place)
        goal[axis] = at[place]
        out[tuple(goal)] = given[place]
    return torch.tensor(out.reshape(x.shape))


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("dtype", [td.float32, td.float16, td.int32, td.uint8], ids=str)
def test_scatter_reduce(dtype: DType, reduce: str, include_self: bool) -> None:
    for shape, at, axis in PLACES:
        x, index, values = drawn(dtype, shape, at, axis)
        (a, ta), (i, ti), (v, tv) = pair(x), pair(index), pair(values)
        got = a.scatter_reduce(axis, i, v, reduce, include_self=include_self)
        same(
            got,
            ta.scatter_reduce(axis, ti, tv, reduce, include_self=include_self),
            1e-3 if dtype is td.float16 else 1e-6,
        )


def test_scatter_with_words_for_reductions() -> None:
    x, i, v = td.asarray([1.0, 2.0]), td.asarray([0, 0, 1]), td.asarray([3.0, 4.0, 5.0])
    assert td.scatter(x, 0, i, v, reduce="add").tolist() == [8, 7]
    assert td.scatter(x, 0, i, v, reduce="multiply").tolist() == [12, 10]


def test_sums_of_short_floats_are_made_in_float32() -> None:
    x, i = td.zeros((1,), dtype=td.bfloat16), td.zeros((1000,), dtype=td.int64)
    assert td.scatter_add(x, 0, i, td.ones((1000,), dtype=td.bfloat16)).item() == 1000


def test_slices_along_an_axis() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 3)).astype(np.float32)
    index = np.array([2, 0, 3])
    for axis in (0, 1, 2, -1):
        shape = list(x.shape)
        places = index % shape[axis]
        shape[axis] = 3
        source = rng.standard_normal(shape).astype(np.float32)
        (a, ta), (i, ti), (s, ts) = pair(x), pair(places), pair(source)
        same(td.index_select(a, axis, i), ta.index_select(axis, ti))
        same(a.index_add(axis, i, s, alpha=2), ta.index_add(axis, ti, ts, alpha=2), 1e-6)
        if len(set(places)) == 3:
            same(a.index_copy(axis, i, s), ta.index_copy(axis, ti, ts))
        same(a.index_fill(axis, i, 7), ta.index_fill(axis, ti, 7))
    assert td.asarray(2.0).index_select(0, td.asarray([0])).shape == ()


def test_masks() -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((3, 4)).astype(np.float32), rng.random((3, 4)) < 0.5
    source = rng.standard_normal(12).astype(np.float32)
    (a, ta), (m, tm), (s, ts) = pair(x), pair(mask), pair(source)
    same(td.masked_fill(a, m, 2), ta.masked_fill(tm, 2))
    same(a.masked_fill(m[:, :1], 2.5), ta.masked_fill(tm[:, :1], 2.5))
    same(a.masked_select(m), ta.masked_select(tm))
    same(td.masked_select(a, m[0]), ta.masked_select(tm[0]))
    same(a.masked_scatter(m, s), ta.masked_scatter(tm, ts))
    same(td.compile(lambda a, m, s: a.masked_scatter(m, s))(a, m, s), ta.masked_scatter(tm, ts))
    with pytest.raises(td.TraceError, match=r"the mask .* would give a shape that depends on its values"):
        td.compile(td.masked_select)(a, m)
    with pytest.raises(td.ShapeError, match=r"source f32\[1\] has 1"):
        a.masked_scatter(td.ones((3, 4), dtype=td.bool), s[:1])


def test_put_along_axis() -> None:
    x, index = np.arange(12.0).reshape(3, 4), np.array([[1], [-1], [0]])
    want = x.copy()
    np.put_along_axis(want, index, 9, 1)
    np.testing.assert_array_equal(td.put_along_axis(td.asarray(x), td.asarray(index), 9, 1).numpy(), want)
    np.put_along_axis(want, index[:1], np.array([[5.0]]), 0)
    got = td.put_along_axis(td.asarray(x), td.asarray(index), 9, 1)
    np.testing.assert_array_equal(td.put_along_axis(got, td.asarray(index[:1]), td.asarray([[5.0]]), 0).numpy(), want)


GRADIENTS = {
    "gather": (lambda x, i, s: td.gather(x, 1, i) * s, lambda x, i, s: torch.gather(x, 1, i) * s),
    "take_along_axis": (
        lambda x, i, s: td.take_along_axis(x, i, axis=1) * s,
        lambda x, i, s: torch.take_along_dim(x, i, 1) * s,
    ),
    "scatter_add": (lambda x, i, s: td.scatter_add(x, 1, i, s), lambda x, i, s: torch.scatter_add(x, 1, i, s)),
    **{
        f"{reduce}, {self}": (
            lambda x, i, s, r=reduce, k=self: td.scatter_reduce(x, 1, i, s, r, include_self=k),
            lambda x, i, s, r=reduce, k=self: torch.scatter_reduce(x, 1, i, s, r, include_self=k),
        )
        for reduce in ("sum", "prod", "mean", "amax", "amin")
        for self in (True, False)
    },
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    ours, theirs = GRADIENTS[name]
    rng = np.random.default_rng(0)
    x, s = rng.standard_normal((3, 6)), rng.standard_normal((3, 8))
    i = rng.integers(0, 6, (3, 8))
    twice_differentiable = "prod" not in name  # PyTorch has no second derivative of it
    t, u = torch.tensor(x, requires_grad=True), torch.tensor(s, requires_grad=True)
    loss = (theirs(t, torch.tensor(i), u) ** 2).sum()
    first = torch.autograd.grad(loss, (t, u), create_graph=twice_differentiable)

    def ours_loss(x: Any, s: Any) -> Any:
        return (ours(x, td.asarray(i), s) ** 2).sum()

    slopes = td.grad(ours_loss, argnums=(0, 1))
    for got, want in zip(slopes(td.asarray(x), td.asarray(s)), first, strict=True):
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-9, atol=1e-12)
    if not twice_differentiable:
        return
    total = sum((g**2).sum() for g in first)
    second = torch.autograd.grad(total, (t, u))

    def of_slopes(x: Any, s: Any) -> Any:
        a, b = slopes(x, s)
        return (a**2).sum() + (b**2).sum()

    for got, want in zip(td.grad(of_slopes, argnums=(0, 1))(td.asarray(x), td.asarray(s)), second, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-8, atol=1e-10)


def test_gradient_of_a_product_with_zeros() -> None:
    x = np.array([0.0, 2.0, 0.0, 3.0])
    s = np.array([5.0, 0.0, 7.0, 0.0, 4.0, 2.0])
    i = np.array([0, 1, 1, 2, 3, 3])
    t, u = torch.tensor(x, requires_grad=True), torch.tensor(s, requires_grad=True)
    torch.scatter_reduce(t, 0, torch.tensor(i), u, "prod").sum().backward()
    slopes = td.grad(lambda x, s: td.scatter_reduce(x, 0, td.asarray(i), s, "prod").sum(), argnums=(0, 1))
    for got, want in zip(slopes(td.asarray(x), td.asarray(s)), (t.grad, u.grad), strict=True):
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_the_value_that_stayed_gets_the_gradient() -> None:
    i = td.asarray([1, 0, 1])
    slope = td.grad(lambda s: (td.scatter(td.zeros((3,)), 0, i, s) * td.asarray([2.0, 3.0, 5.0])).sum())
    assert slope(td.asarray([1.0, 1.0, 1.0])).tolist() == [0, 2, 3]


def test_compiled_and_eager_give_the_same_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    x, i = td.asarray(rng.standard_normal((40, 30)).astype(np.float32)), td.asarray(rng.integers(0, 30, (40, 90)))
    j, s = td.asarray(rng.integers(0, 40, (90, 30))), td.asarray(rng.standard_normal((90, 40)).astype(np.float32))

    def everything(x: Any, i: Any, j: Any, s: Any) -> list[Any]:
        return [x.scatter_add(1, i, s.T), x.scatter_add(0, j, s[:, :30]), x.scatter_reduce(0, j, s[:, :30], "mean")]

    eager = [y.numpy() for y in everything(x, i, j, s)]
    for threads in (1, 2, 3):
        with td.config(threads=threads):
            for a, b in zip(td.compile(everything)(x, i, j, s), eager, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)


@pytest.mark.parametrize("bad", [-1, 4])
def test_an_index_out_of_range_raises(bad: int) -> None:
    x, s = td.zeros((3, 4)), td.zeros((3, 1))
    i = td.asarray(np.full((3, 1), bad))
    calls = [
        lambda x, i: td.gather(x, 1, i),
        lambda x, i: td.scatter(x, 1, i, s),
        lambda x, i: td.scatter_add(x, 1, i, s),
        lambda x, i: td.scatter_reduce(x, 1, i, s, "amax"),
    ]
    for call in calls:
        for run in (call, td.compile(call)):
            with pytest.raises(td.IndexRangeError, match=f"index {bad} is out of range"):
                run(x, i).numpy()


def test_errors() -> None:
    x, i = td.zeros((3, 4)), td.zeros((3, 2), dtype=td.int64)
    for call, message in [
        (lambda: td.gather(x, 1, i.float()), "gather: indices are float32"),
        (lambda: td.gather(x, 1, i[0]), r"gather: index i64\[2\] does not fit f32\[3,4\]"),
        (lambda: td.gather(x, 0, td.zeros((2, 5), dtype=td.int64)), "no larger than x"),
        (lambda: td.gather(x, 2, i), "gather: axis 2 is out of range"),
        (lambda: td.scatter(x, 1, i, x[:2]), "and the values"),
        (lambda: td.scatter(x.int(), 1, i, 1.5), "scatter: cannot put float32 into int32"),
        (lambda: td.scatter(x, 1, i, 1.0, reduce="max"), "no reduction 'max'"),
        (lambda: td.scatter_reduce(x, 1, i, x, "median"), "no reduction 'median'"),
        (lambda: td.index_select(x, 0, i), "index_select: index .* must be a vector"),
        (lambda: td.index_add(x, 0, i[0], x), "index_add: the source .* must have shape"),
        (lambda: td.index_fill(x, 0, i[0], x), "index_fill: the value is"),
        (lambda: td.masked_fill(x, x, 1), "masked_fill: the mask is float32"),
        (lambda: td.masked_fill(x, x > 0, x), "masked_fill: the value is"),
    ]:
        with pytest.raises(td.TreadleError, match=message):
            call()


@pytest.mark.parametrize("reduce", ["sum", "prod", "amax", "amin"])
def test_truth_values_are_combined(reduce: str) -> None:
    import torch

    x, src = np.array([True, False, True]), np.array([False, True, True, False])
    index = np.array([0, 1, 1, 2])
    for include_self in (False, True):
        got = td.scatter_reduce(x, 0, index, src, reduce, include_self=include_self)
        want = torch.scatter_reduce(
            torch.tensor(x), 0, torch.tensor(index), torch.tensor(src), reduce, include_self=include_self
        )
        assert got.dtype is td.bool
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_an_empty_index_has_a_gradient_of_zero() -> None:
    x = td.asarray([1.0, 2.0]).requires_grad_()
    td.gather(x, 0, td.asarray([], dtype="int64")).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0])


def test_a_mask_larger_than_what_is_filled() -> None:
    got = td.masked_scatter(td.asarray([0.0, 0.0]), td.asarray([[True, False], [True, True]]), td.asarray([1.0, 2, 3]))
    np.testing.assert_array_equal(got.numpy(), [[1, 0], [2, 3]])
