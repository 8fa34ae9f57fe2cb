"""What ops refuse, and how they say it; widths of sums; places of extremes."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import expanded, lowered
from tests.ops.compiled import compiled
from treadle import ops
from treadle.core import DTypeError, ShapeError, TreadleError, Type, bfloat16, bool_, float16, float32, int32, int64
from treadle.ir import inputs_for


def types(*given: Any) -> list[Type]:
    return [Type(d, s) for d, s in given]


@pytest.mark.parametrize(
    ("op", "operands", "error", "message"),
    [
        (
            ops.Add(),
            [(float32, (2, 3)), (float32, (2, 4))],
            ShapeError,
            "add: cannot broadcast [2, 3] and [2, 4]; axis -1",
        ),
        (
            ops.Add(),
            [(float32, ()), (int32, ())],
            DTypeError,
            "add: operands have dtypes float32, int32. They must be equal",
        ),
        (
            ops.Add(),
            [(bool_, ()), (bool_, ())],
            DTypeError,
            "add: does not take bool. Allowed: signed integer or unsigned",
        ),
        (ops.Divide(), [(int32, ()), (int32, ())], DTypeError, "divide: does not take int32. Allowed: float."),
        (
            ops.Exp(),
            [(int64, (2,))],
            DTypeError,
            "exp: does not take int64. Allowed: float. Convert with astype() first.",
        ),
        (ops.LogicalAnd(), [(int32, ()), (int32, ())], DTypeError, "logical_and: does not take int32. Allowed: bool."),
        (ops.BitwiseAnd(), [(float32, ()), (float32, ())], DTypeError, "bitwise_and: does not take float32."),
        (
            ops.Where(),
            [(int32, ()), (int32, ()), (int32, ())],
            DTypeError,
            "where: the condition is i32[]. It must be bool",
        ),
        (ops.Where(), [(bool_, ()), (int32, ()), (int64, ())], DTypeError, "where: operands have dtypes int32, int64."),
        (ops.Sum((2,)), [(float32, (2, 3))], ShapeError, "sum: axes (2,) do not fit f32[2,3], which has 2 axes."),
        (ops.Sum((1, 0)), [(float32, (2, 3))], ShapeError, "Allowed: distinct axes in rising order from 0."),
        (
            ops.Max((0,)),
            [(float32, (0, 3))],
            ShapeError,
            "max: f32[0,3] has no elements along axes (0,). Give it at least",
        ),
        (ops.AnyTrue((0,)), [(float32, (3,))], DTypeError, "any: does not take float32. Allowed: bool."),
        (ops.ArgMax(1), [(float32, (3,))], ShapeError, "argmax: axes (1,) do not fit f32[3]"),
        (ops.ArgMin(0), [(float32, (0,))], ShapeError, "argmin: f32[0] has no elements along axis 0."),
        (ops.Mean((0,)), [(int32, (3,))], DTypeError, "mean: does not take int32. Allowed: float."),
    ],
)
def test_operands_that_do_not_fit(op: Any, operands: Any, error: type[TreadleError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        op(*inputs_for(types(*operands)))


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_short_floats_are_summed_in_float32(dtype: Any) -> None:
    """Ten thousand ones: float16 stops counting at 2048, bfloat16 at 256."""
    ones = np.ones(10_000, dtype.numpy)
    for value in (ops.Sum((0,)).eval(ones), lowered(ops.Sum((0,)), ones)):
        assert value.dtype == dtype.numpy
        assert value == dtype.numpy.type(10_000)
    assert ops.Sum((0,)).lower(Type(dtype, (10_000,))).value.dtype is float32
    assert expanded(ops.Mean((0,)), np.full(100, 60000, np.float16))[0] == 60000  # the sum is beyond float16


def test_integer_sums_wrap_in_their_dtype() -> None:
    x = np.full(3, 100, np.int8)
    assert ops.Sum((0,)).eval(x) == lowered(ops.Sum((0,)), x) == np.int8(44)


def test_extremes_let_nan_through() -> None:
    x = np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)
    for op, last in ((ops.Max((1,)), 6), (ops.Min((1,)), 4)):
        np.testing.assert_array_equal(lowered(op, x), [np.nan, last])
    np.testing.assert_array_equal(ops.Maximum().eval(x, np.float32(2)), lowered(ops.Maximum(), x, np.float32(2)))


@pytest.mark.parametrize(("op", "numpy"), [(ops.ArgMax, np.argmax), (ops.ArgMin, np.argmin)])
def test_places_of_extremes_are_numpy_s(op: Any, numpy: Any) -> None:
    inf, nan = np.inf, np.nan
    rows = [
        [1, 3, 3, 2],
        [nan, 1, nan, 5],
        [5, inf, inf, -inf],
        [1, 2, 3, nan],
        [-inf] * 4,
        [inf] * 4,
        [0.0, -0.0, 0.0, 0.0],
    ]
    x = np.array(rows, np.float32)
    np.testing.assert_array_equal(expanded(op(1), x)[0], numpy(x, 1))
    np.testing.assert_array_equal(expanded(op(0, True), x)[0], numpy(x, 0, keepdims=True))
    k = np.array([[3, 3, -(1 << 63)], [0, (1 << 63) - 1, (1 << 63) - 1]])
    np.testing.assert_array_equal(expanded(op(1), k)[0], numpy(k, 1))


@pytest.mark.parametrize("size", [0, 1])
def test_means_of_little(size: int) -> None:
    x = np.ones((3, size), np.float32)
    with np.errstate(all="ignore"):
        for correction in (0.0, 1.0):
            op = ops.Var((1,), correction)
            np.testing.assert_array_equal(expanded(op, x)[0], op.eval(x))
            assert np.isnan(op.eval(x)).all() == (size <= correction)
    np.testing.assert_array_equal(expanded(ops.Mean((1,)), x)[0], [np.nan if size == 0 else 1] * 3)


def test_integer_powers() -> None:
    x = np.array([2, -2, 1, -1, -1, 0, 5, 0, 3], np.int32)
    y = np.array([-1, -3, -5, -4, -3, -1, 0, 0, 4], np.int32)
    expected = [0, 0, 1, 1, -1, 0, 1, 1, 81]
    assert ops.Pow().eval(x, y).tolist() == lowered(ops.Pow(), x, y).tolist() == expected


def test_rounding_is_to_even() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2**53 + 1, -0.0], np.float64)
    np.testing.assert_array_equal(lowered(ops.Round(), x), [0, 2, 2, -0.0, -2, 2**53 + 1, -0.0])
    big = np.array([(1 << 62) + 1])
    for op in (ops.Round(), ops.Floor(), ops.Ceil(), ops.Trunc()):
        assert lowered(op, big)[0] == op.eval(big)[0] == (1 << 62) + 1


@pytest.mark.parametrize("dtype", [float16, bfloat16], ids=str)
def test_every_short_float_has_its_neighbours(dtype: Any) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(dtype.numpy)
    with np.errstate(all="ignore"):
        for towards in (np.inf, -np.inf, 0.0):
            y = dtype.numpy.type(towards)
            expected = np.nextafter(x, y)
            for actual in (
                lowered(ops.NextAfter(), x, np.asarray(y)),
                compiled(ops.NextAfter(), [x, np.asarray(y)])[0],
            ):
                np.testing.assert_array_equal(actual.astype(np.float32), expected.astype(np.float32))


def test_casts_round_to_nearest() -> None:
    x = np.array([1 + 2**-8, 1 + 3 * 2**-9, 65519.9, 3e38], np.float32)
    bf = lowered(ops.Cast(bfloat16), x)
    assert bf.dtype == ml_dtypes.bfloat16
    assert bf.astype(np.float32)[:2].tolist() == [1.0, 1 + 2**-7]
    assert lowered(ops.Cast(float16), x)[2] == 65504
    assert lowered(ops.Cast(int32), np.array([-1.9, 1.9, -0.5])).tolist() == [-1, 1, 0]
    assert lowered(ops.Cast(bool_), np.array([0.0, -0.0, np.nan, 1e-40])).tolist() == [False, False, True, True]
