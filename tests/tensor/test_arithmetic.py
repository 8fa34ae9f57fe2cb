"""Arithmetic beyond the array API against PyTorch."""

import numpy as np
import pytest
import torch

import treadle as td
from tests.tensor.peer import agree

RNG = np.random.default_rng(0)
A, B, C = (RNG.uniform(-3, 3, (3, 4)) for _ in range(3))
ROW = RNG.uniform(0.5, 3, (4,))
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -2.5])

TWO = ["logaddexp2", "fmax", "fmin", "fmod", "heaviside", "float_power", "ldexp"]


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two(name: str) -> None:
    ours, theirs = getattr(td, name), getattr(torch, name)
    x = np.abs(A) if name == "float_power" else A
    agree(ours, theirs, x, ROW, gradients=name != "heaviside", rtol=1e-8)
    if name != "heaviside":
        agree(ours, theirs, x.astype(np.float32), ROW.astype(np.float32), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["fmax", "fmin", "heaviside"])
def test_functions_of_two_on_nan_and_infinity(name: str) -> None:
    x, y = np.meshgrid(ODD, ODD)
    agree(getattr(td, name), getattr(torch, name), x, y, gradients=False)


def test_remainders_have_the_sign_of_the_dividend() -> None:
    x, y = np.array([7.5, -7.5, 7.5, -7.5, -1e-10]), np.array([2.0, 2.0, -2.0, -2.0, 1.0])
    agree(td.fmod, torch.fmod, x, y)
    for dtype in (np.int32, np.int64, np.uint8):
        i, j = np.array([7, 7, 250]).astype(dtype), np.array([2, 3, 7]).astype(dtype)
        agree(td.fmod, torch.fmod, i, j)


@pytest.mark.parametrize("name", ["frac", "deg2rad", "rad2deg", "isposinf", "isneginf", "nan_to_num"])
def test_functions_of_one(name: str) -> None:
    agree(getattr(td, name), getattr(torch, name), A, gradients=not name.startswith("is"))
    if name != "frac":
        agree(getattr(td, name), getattr(torch, name), ODD, gradients=False)


def test_nan_to_num_with_numbers() -> None:
    agree(lambda x: td.nan_to_num(x, 1.0, 2.0, -3.0), lambda x: torch.nan_to_num(x, 1.0, 2.0, -3.0), ODD)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0, -2.0])
def test_lerp(weight: float) -> None:
    agree(lambda a, b: td.lerp(a, b, weight), lambda a, b: torch.lerp(a, b, weight), A, B)
    agree(td.lerp, torch.lerp, A, B, C)


def test_sums_of_products() -> None:
    for value in (1, -0.5):
        for name in ("addcmul", "addcdiv"):
            ours, theirs = getattr(td, name), getattr(torch, name)
            agree(lambda *x, f=ours, v=value: f(*x, value=v), lambda *x, f=theirs, v=value: f(*x, value=v), A, B, ROW)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frexp(dtype) -> None:
    x = np.array([0.0, -0.0, 1, -1, 0.5, 3.7, 1e30, -1e-30, 8, 1e-45, np.inf, np.nan]).astype(dtype)
    got = td.frexp(x)
    mantissa, exponent = np.frexp(x)
    np.testing.assert_array_equal(got.mantissa.numpy(), mantissa)
    np.testing.assert_array_equal(got.exponent.numpy()[:-2], exponent[:-2])
    if dtype is np.float64:
        extreme = np.array([5e-324, 1.7e308, 2.0**1023, 2.0**-1022])
        np.testing.assert_array_equal(td.frexp(extreme).mantissa.numpy(), np.frexp(extreme)[0])
        np.testing.assert_array_equal(td.frexp(extreme).exponent.numpy(), np.frexp(extreme)[1])


@pytest.mark.parametrize("name", ["gcd", "lcm"])
def test_common_divisors(name: str) -> None:
    x, y = RNG.integers(-60, 60, (5, 1)), RNG.integers(-60, 60, (6,))
    agree(getattr(td, name), getattr(torch, name), x, y)
    agree(getattr(td, name), getattr(torch, name), x.astype(np.int16), np.zeros(1, np.int16))
    with pytest.raises(td.DTypeError, match="gcd: does not take float32"):
        getattr(td, name)(td.asarray([1.0]), td.asarray([2.0]))


def test_what_is_close() -> None:
    x, y = np.meshgrid([*ODD, 1.5 + 1e-6], ODD)
    for equal_nan in (False, True):
        agree(
            lambda a, b, e=equal_nan: td.isclose(a, b, equal_nan=e),
            lambda a, b, e=equal_nan: torch.isclose(a, b, equal_nan=e),
            x,
            y,
            gradients=False,
        )
    agree(td.isclose, torch.isclose, np.array([2**60, 5]), np.array([2**60 + 1, 6]))
    assert td.allclose(A, A + 1e-9)
    assert not td.allclose(A, A + 1e-3)
    with pytest.raises(ValueError, match="rtol is -1"):
        td.isclose(A, A, rtol=-1)


SPECIAL = [-0.0, 0, 5, -5, 4, -4, np.inf, -np.inf, np.nan, 3.5, -3.5, 1000, -103.9, -500, 0.5, -1]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6), ("float16", 2e-3)])
def test_fmod_and_logaddexp2_of_special_values(dtype: str, tolerance: float) -> None:
    a, b = (x.astype(dtype) for x in np.meshgrid(SPECIAL, [3, -3, 2, np.inf, -np.inf, 0, -0.0, -0.5, -1, 1.5]))
    for name in ("fmod", "logaddexp2"):
        got = getattr(td, name)(td.asarray(a), td.asarray(b)).numpy()
        with np.errstate(all="ignore"):
            want = getattr(np, name)(a.astype(np.float64), b.astype(np.float64))
        assert got.dtype == a.dtype
        np.testing.assert_allclose(got, want.astype(dtype), rtol=tolerance, atol=tolerance if name != "fmod" else 0)
        numbers = ~np.isnan(want) & (name == "fmod")
        np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(want)[numbers])


def test_fmod_of_the_lowest_integer() -> None:
    a, b = np.meshgrid(np.array([-128, -127, -7, 0, 7, 127], np.int8), np.array([5, -5, 127, -128, 1, -1], np.int8))
    np.testing.assert_array_equal(td.fmod(td.asarray(a), td.asarray(b)).numpy(), np.fmod(a, b))
