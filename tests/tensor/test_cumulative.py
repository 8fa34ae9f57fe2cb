"""Running sums, products, extremes and differences against NumPy and PyTorch."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import DTYPES, DType

Array = np.ndarray[Any, Any]
SHAPES = [(1,), (0,), (5,), (3, 0), (0, 3), (2, 37), (40, 3), (3, 9, 20), ()]


def numbers(dtype: DType, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(0)
    low = 0 if dtype.kind in ("uint", "bool") else -2
    return np.asarray(rng.integers(low, 3, shape)).astype(dtype.numpy)


def epsilon(dtype: DType) -> float:
    return float(ml_dtypes.finfo(dtype.numpy).eps) if dtype.is_float else 0.0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_sums_and_products(name: str, dtype: DType) -> None:
    wide = {"bool": td.int64, "int": td.int64, "uint": td.uint64, "float": dtype}[dtype.kind]
    for shape in SHAPES:
        x = numbers(dtype, shape)
        for axis in {0, -1}:
            got = getattr(td, name)(td.asarray(x), axis)
            line = np.atleast_1d(x).astype(np.float64 if dtype.is_float else wide.numpy)
            want = getattr(np, name)(line, axis=axis).reshape(shape)
            assert got.dtype is wide
            assert got.shape == shape
            np.testing.assert_allclose(got.numpy().astype(want.dtype), want, rtol=4 * epsilon(dtype))
    flat = getattr(td, name)(td.asarray(numbers(dtype, (3, 4))))
    assert flat.shape == (12,)
    assert getattr(td, name)(td.asarray(numbers(dtype, (3,))), 0, dtype=td.float64).dtype is td.float64


@pytest.mark.parametrize(("name", "start"), [("cumulative_sum", 0), ("cumulative_prod", 1)])
def test_names_of_the_array_api(name: str, start: int) -> None:
    x = td.asarray(np.arange(1, 7, dtype=np.int32).reshape(2, 3))
    short = "cumsum" if start == 0 else "cumprod"
    for axis in (0, 1):
        got = getattr(td, name)(x, axis=axis, include_initial=True).numpy()
        want = getattr(np, short)(x.numpy(), axis=axis, dtype=np.int64)
        first = np.full_like(np.take(want, [0], axis), start)
        np.testing.assert_array_equal(got, np.concatenate([first, want], axis))
    assert getattr(td, name)(x[0]).shape == (3,)
    assert getattr(td, name)(x[0], dtype=td.float32).dtype is td.float32
    empty = getattr(td, name)(td.zeros((0,)), include_initial=True)
    assert empty.tolist() == [start]
    with pytest.raises(td.ShapeError, match=f"{name}: i32.2,3. has 2 axes. Say which with axis="):
        getattr(td, name)(x)
    with pytest.raises(td.ShapeError, match="a 0-d tensor has no axis"):
        getattr(td, name)(td.asarray(1.0))


def test_short_floats_are_summed_in_float32() -> None:
    x = td.ones((3000,), dtype=td.float16)
    assert td.cumsum(x, 0)[-1].item() == 3000  # in float16, 2048 + 1 is 2048


def test_signs_of_zero_and_special_values() -> None:
    x = np.array([-0.0, -0.0, 1.0, np.inf, -np.inf, 2.0], np.float32)
    with np.errstate(invalid="ignore"):
        want = np.cumsum(x)
    np.testing.assert_array_equal(td.cumsum(td.asarray(x), 0).numpy(), want)
    assert np.signbit(td.cumsum(td.asarray(x), 0).numpy()[:2]).all()
    np.testing.assert_array_equal(
        td.logcumsumexp(td.asarray(np.array([-np.inf, -np.inf, 0.0, np.inf, 1.0, np.nan], np.float32)), 0).numpy(),
        np.array([-np.inf, -np.inf, 0.0, np.inf, np.inf, np.nan], np.float32),
    )


@pytest.mark.parametrize("name", ["cummax", "cummin"])
@pytest.mark.parametrize("dtype", [td.float32, td.float64, td.bfloat16, td.int8, td.uint8, td.int64, td.bool], ids=str)
def test_extremes(name: str, dtype: DType) -> None:
    for shape in SHAPES:
        x = numbers(dtype, shape)
        if dtype.is_float and x.size > 6:
            x.flat[x.size // 2] = np.nan
        theirs = torch.tensor(x.astype(np.float32)).to(getattr(torch, dtype.name))
        for axis in {0, -1}:
            got, want = getattr(td, name)(td.asarray(x), axis), getattr(torch, name)(theirs, axis)
            assert got.values.dtype is dtype
            np.testing.assert_array_equal(got.values.numpy().astype(np.float64), want.values.double().numpy())
            assert got.indices.dtype is td.int64
            np.testing.assert_array_equal(got.indices.numpy(), want.indices.numpy())


@pytest.mark.parametrize("dtype", [td.float32, td.float64, td.float16], ids=str)
def test_logcumsumexp(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x = np.asarray(20 * rng.standard_normal(shape)).astype(dtype.numpy)
        for axis in {0, -1}:
            want = np.logaddexp.accumulate(np.atleast_1d(x).astype(np.float64), axis=axis).reshape(shape)
            got = td.logcumsumexp(td.asarray(x), axis)
            np.testing.assert_allclose(got.numpy(), want, rtol=16 * epsilon(dtype), atol=16 * epsilon(dtype))
    with pytest.raises(td.DTypeError, match="logcumsumexp"):
        td.logcumsumexp(td.asarray([1, 2]), 0)


def test_diff() -> None:
    x = np.random.default_rng(0).integers(0, 9, (4, 6)).astype(np.float32)
    for n in range(8):
        for axis in (0, 1, -1):
            np.testing.assert_array_equal(td.diff(td.asarray(x), n, axis).numpy(), np.diff(x, n, axis))
            np.testing.assert_array_equal(td.diff(td.asarray(x > 4), n, axis).numpy(), np.diff(x > 4, n, axis))
    before, after = x[:, :2], x[:, -1:]
    got = td.diff(td.asarray(x), axis=1, prepend=td.asarray(before), append=td.asarray(after))
    np.testing.assert_array_equal(got.numpy(), np.diff(x, axis=1, prepend=before, append=after))
    np.testing.assert_array_equal(td.diff(td.asarray(x), prepend=0).numpy(), np.diff(x, prepend=0))
    assert td.diff(td.zeros((0,))).shape == (0,)
    with pytest.raises(td.ShapeError, match="diff: n is -1"):
        td.diff(td.asarray(x), -1)
    with pytest.raises(td.ShapeError, match="diff: a 0-d tensor"):
        td.diff(td.asarray(1.0))


DIFFERENTIABLE = {
    "cumsum": (td.cumsum, torch.cumsum),
    "cumprod": (td.cumprod, torch.cumprod),
    "cummax": (lambda x, a: td.cummax(x, a).values, lambda x, a: torch.cummax(x, a).values),
    "cummin": (lambda x, a: td.cummin(x, a).values, lambda x, a: torch.cummin(x, a).values),
    "logcumsumexp": (td.logcumsumexp, torch.logcumsumexp),
    "diff": (lambda x, a: td.diff(x, 2, a), lambda x, a: torch.diff(x, 2, a)),
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name: str, axis: int) -> None:
    ours, theirs = DIFFERENTIABLE[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 6))
    if name == "cumprod":
        x[1, 2] = x[3, 2] = x[2, 0] = 0  # one zero in a line, and two
    weight = rng.standard_normal(tuple(theirs(torch.tensor(x), axis).shape))

    def loss(x: Any) -> Any:
        return (ours(x, axis) ** 2 * td.asarray(weight)).sum()

    t = torch.tensor(x, requires_grad=True)
    (first,) = torch.autograd.grad((theirs(t, axis) ** 2 * torch.tensor(weight)).sum(), t, create_graph=True)
    np.testing.assert_allclose(td.grad(loss)(td.asarray(x)).numpy(), first.detach().numpy(), rtol=1e-9, atol=1e-12)
    twice = td.grad(lambda x: (td.grad(loss)(x) ** 2).sum())(td.asarray(x)).numpy()
    if name == "cumprod":  # PyTorch's second derivative is not right where there are zeros
        step = 1e-6
        for at in [(1, 2), (3, 2), (0, 1), (2, 0)]:
            sides: list[float] = []
            for sign in (1, -1):
                moved = x.copy()
                moved[at] += sign * step
                sides.append(float((td.grad(loss)(td.asarray(moved)) ** 2).sum()))
            np.testing.assert_allclose(twice[at], (sides[0] - sides[1]) / (2 * step), rtol=1e-5, atol=1e-6)
        return
    (second,) = torch.autograd.grad((first**2).sum(), t, allow_unused=True)
    np.testing.assert_allclose(twice, second.numpy(), rtol=1e-8, atol=1e-10)


def test_gradient_of_logcumsumexp_where_nothing_was_reached() -> None:
    x = td.asarray([-np.inf, 0.0, 1.0, -np.inf])
    assert np.isfinite(td.grad(lambda x: td.logcumsumexp(x, 0)[1:].sum())(x).numpy()).all()


def everything(x: Any) -> list[Any]:
    return [td.cumsum(x, 0), td.cumsum(x, 1), td.cumprod(x, 1), *td.cummax(x, 0), td.logcumsumexp(x, 1), td.diff(x)]


def test_compiled_and_eager_give_the_same_for_any_number_of_threads() -> None:
    x = td.asarray(np.random.default_rng(0).standard_normal((70, 101)).astype(np.float32))
    eager = [y.numpy() for y in everything(x)]
    for threads in (1, 2, 3):
        with td.config(threads=threads):
            for a, b in zip(td.compile(everything)(x), eager, strict=True):
                np.testing.assert_array_equal(a.numpy(), b)


def test_a_running_sum_is_one_kernel() -> None:
    plan = td.compile(lambda x: td.cumsum(x, 1)).plan(td.zeros((8, 100)))
    assert [s.kernel.kind for s in plan.steps] == ["cumulative"]


def test_no_differences_at_all_leave_everything_as_it_is() -> None:
    x = td.asarray([1, 4, 9])
    assert td.diff(x, n=0, prepend=x, append=x).tolist() == [1, 4, 9]
