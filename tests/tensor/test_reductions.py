"""Sums, extremes, statistics and truth against NumPy."""

from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle.core import DTYPES

AXES = [None, 0, -1, (0, 2), (1,), ()]


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std"])
def test_floats(name: str, axis: Any, keepdims: bool) -> None:
    x = np.random.uniform(0.5, 1.5, (2, 3, 4)).astype(np.float32)
    got = getattr(td, name)(td.asarray(x), axis=axis, keepdims=keepdims)
    want = getattr(np, name)(x.astype(np.float64), axis=axis, keepdims=keepdims)
    assert got.dtype is td.float32
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=3e-6, atol=1e-6)
    method = getattr(td.asarray(x), name)(axis, keepdims=keepdims)
    np.testing.assert_allclose(method.numpy(), want, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_of_sums(dtype: td.DType) -> None:
    x = td.ones((3, 2), dtype=dtype)
    want = {"bool": td.int64, "int": td.int64, "uint": td.uint64, "float": dtype}[dtype.kind]
    for name in ("sum", "prod"):
        result = getattr(td, name)(x, axis=0)
        assert result.dtype is want
        assert result.tolist() == [3 if name == "sum" else 1] * 2
    assert td.sum(x, axis=(), dtype=None).dtype is want
    assert td.mean(x).dtype is (dtype if dtype.is_float else td.float32)
    assert td.sum(x, dtype=td.float64).dtype is td.float64
    if dtype is not td.bool:
        assert td.max(x).dtype is dtype


def test_small_integers_do_not_overflow() -> None:
    x = np.full((1000,), 100, np.int8)
    assert td.sum(td.asarray(x)).item() == 100_000
    assert td.sum(td.asarray(x), dtype=td.int8).item() == int(x.sum(dtype=np.int8))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_positions(name: str, axis: int | None, keepdims: bool) -> None:
    x = np.random.randint(0, 4, (5, 6, 3))
    got = getattr(td, name)(td.asarray(x), axis=axis, keepdims=keepdims)
    want = getattr(np, name)(x, axis=axis, keepdims=keepdims)
    assert got.dtype is td.int64
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)
    assert getattr(td.asarray(5.0), name)().item() == 0
    mask = getattr(td, name)(td.asarray(x > 1), axis=axis).numpy()
    np.testing.assert_array_equal(mask, getattr(np, name)(x > 1, axis=axis))


@pytest.mark.parametrize("axis", AXES, ids=str)
def test_truth(axis: Any) -> None:
    x = np.random.randint(0, 2, (2, 3, 4))
    for name in ("any", "all", "count_nonzero"):
        for t in (td.asarray(x), td.asarray(x.astype(np.float32)), td.asarray(x.astype(bool))):
            got = getattr(td, name)(t, axis=axis)
            np.testing.assert_array_equal(got.numpy(), getattr(np, name)(x, axis=axis))
            assert got.dtype is (td.int64 if name == "count_nonzero" else td.bool)


def test_correction() -> None:
    x = np.random.randn(5, 4).astype(np.float32)
    for correction in (0, 1, 0.5):
        want = np.var(x.astype(np.float64), axis=0, ddof=correction)
        np.testing.assert_allclose(td.var(td.asarray(x), axis=0, correction=correction).numpy(), want, rtol=1e-5)


def test_what_does_not_exist() -> None:
    x = td.zeros((2, 0))
    assert td.sum(x, axis=1).tolist() == [0.0, 0.0]
    assert td.prod(x).item() == 1.0
    assert not td.any(x).item()
    assert td.all(x).item()
    assert td.max(x, axis=0).shape == (0,)
    with pytest.raises(td.ShapeError, match=r"max: axis 1 of f32\[2,0\] has size 0"):
        td.max(x)
    with pytest.raises(td.ShapeError, match="argmax: axis"):
        td.argmax(x, axis=1)
    with pytest.raises(td.ShapeError, match="sum: axis 2 is out of range for an operand with 2 axes"):
        td.sum(x, axis=2)
    with pytest.raises(td.ShapeError, match="name the same axis twice"):
        td.sum(x, axis=(0, -2))


def test_nan_travels() -> None:
    x = td.asarray([1.0, float("nan"), 3.0])
    for result in (x.max(), x.min(), x.sum(), x.mean()):
        assert np.isnan(result.item())


def test_softmax_and_its_kin() -> None:
    x = np.random.randn(3, 5).astype(np.float32) * 50
    t = td.asarray(x)
    shifted = x.astype(np.float64) - x.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(td.log_softmax(t).numpy(), log_p, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(t.softmax(1).numpy(), np.exp(log_p), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(td.logsumexp(t, axis=1).numpy(), (x - log_p)[:, 0], rtol=1e-5)
    with pytest.raises(td.DTypeError, match="softmax: does not take int64"):
        td.softmax(td.asarray([1, 2]))


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "any", "all", "argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, -1])
def test_a_number_can_be_folded_along_axis_0(name: str, axis: int) -> None:
    x = np.asarray(3.0, np.float32)
    for keepdims in (False, True):
        result = getattr(td, name)(td.asarray(x), axis=axis, keepdims=keepdims)
        assert result.shape == ()
        assert result.item() == getattr(np, name)(x.reshape(1), axis=0)
    with pytest.raises(td.ShapeError, match=f"{name}: axis 1 is out of range"):
        getattr(td, name)(td.asarray(x), axis=1)


def test_functions_along_the_axis_of_a_number() -> None:
    x = td.asarray(3.0)
    assert td.softmax(x, axis=0).item() == 1
    assert td.log_softmax(x).item() == 0
    assert td.softmax(x).shape == ()
    assert td.logsumexp(x, axis=0).item() == 3
    assert td.logsumexp(td.asarray([0, 0])).item() == pytest.approx(np.log(2))


def test_extremes_of_bools() -> None:
    x = np.array([[True, False], [False, False]])
    for name in ("max", "min"):
        result = getattr(td, name)(td.asarray(x), axis=1)
        assert result.dtype is td.bool
        np.testing.assert_array_equal(result, getattr(np, name)(x, axis=1))


def test_folds_in_a_dtype() -> None:
    x = td.asarray([[2, 0], [3, 4]])
    np.testing.assert_array_equal(td.sum(x, axis=1, dtype=td.bool).numpy(), [True, True])
    np.testing.assert_array_equal(td.prod(x, axis=1, dtype=td.bool).numpy(), [False, True])
    assert td.mean(x, dtype=td.float64).dtype is td.float64
    with pytest.raises(td.DTypeError, match="mean: does not take int64"):
        td.mean(x, dtype=td.int64)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "any", "all", "argmax", "argmin"])
def test_pytorchs_words_for_an_axis_are_taken_where_the_meaning_is_the_same(name: str) -> None:
    x = td.asarray([[1.0, 0.0, 3.0], [4.0, 5.0, 6.0]])
    wanted = getattr(x, name)(axis=1, keepdims=True).numpy()
    np.testing.assert_array_equal(getattr(x, name)(dim=1, keepdim=True).numpy(), wanted)
    np.testing.assert_array_equal(getattr(td, name)(x, dim=1, keepdim=True).numpy(), wanted)
    with pytest.raises(TypeError, match=f"{name}: dim and axis are the same. Give one of them"):
        getattr(x, name)(dim=1, axis=1)
