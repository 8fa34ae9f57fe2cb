"""Elementwise functions and operators against NumPy, for every dtype they take."""

import operator

import numpy as np
import pytest

import treadle as td
from treadle.core import DTYPES, ConfigError

FLOATS = [td.float16, td.bfloat16, td.float32, td.float64]
NUMERIC = [d for d in DTYPES if d is not td.bool]
INTEGERS = [d for d in DTYPES if d.is_integer]
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 2e-6, "float64": 1e-12}

ANY_FLOAT = {
    "abs": np.abs, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "atan": np.arctan, "asinh": np.arcsinh, "negative": np.negative,
    "sign": np.sign, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "square": np.square,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "signbit": np.signbit, "positive": np.positive,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}  # fmt: skip
POSITIVE = {
    "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
}  # fmt: skip
UNIT = {"asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh}
BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "equal": np.equal, "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "floor_divide": np.floor_divide,
    "remainder": np.remainder, "atan2": np.arctan2, "hypot": np.hypot, "copysign": np.copysign,
    "logaddexp": np.logaddexp,
}  # fmt: skip


def check(got: td.Tensor, want: np.ndarray, dtype: td.DType) -> None:
    assert got.shape == want.shape
    if want.dtype == bool:
        assert got.dtype is td.bool
        np.testing.assert_array_equal(got.numpy(), want)
        return
    assert got.dtype is dtype
    tolerance = TOLERANCE.get(dtype.name, 0)
    np.testing.assert_allclose(
        got.numpy().astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance / 10
    )


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", [*ANY_FLOAT, *POSITIVE, *UNIT])
def test_functions_of_one_float(name: str, dtype: td.DType) -> None:
    low, high = (-3, 3) if name in ANY_FLOAT else (0.1, 4) if name in POSITIVE else (-0.9, 0.9)
    x = np.random.uniform(low, high, (3, 5)).astype(dtype.numpy)
    function = {**ANY_FLOAT, **POSITIVE, **UNIT}[name]
    want = function(x.astype(np.float64))
    check(getattr(td, name)(td.asarray(x)), want, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_floats_broadcast(name: str, dtype: td.DType) -> None:
    x = np.random.uniform(-3, 3, (3, 1, 5)).astype(dtype.numpy)
    y = np.random.uniform(0.5, 3, (4, 1)).astype(dtype.numpy)
    want = BINARY[name](x.astype(np.float64), y.astype(np.float64))
    if name in ("floor_divide", "remainder"):  # a quotient near a whole number may round either way
        x, y = (np.round(v.astype(np.float64) * 4) / 4 for v in (x, y))
        x, y = x.astype(dtype.numpy), y.astype(dtype.numpy)
        want = BINARY[name](x.astype(np.float64), y.astype(np.float64))
    check(getattr(td, name)(td.asarray(x), td.asarray(y)), want, dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_arithmetic_wraps_as_in_numpy(dtype: td.DType) -> None:
    info = np.iinfo(dtype.numpy)
    x = np.arange(1, 8).astype(dtype.numpy)
    y = np.array([info.max, info.min, 1, 2, 3, info.max, 5], dtype.numpy)
    a, b = td.asarray(x), td.asarray(y)
    with np.errstate(all="ignore"):
        for name in ("add", "sub", "mul", "and_", "or_", "xor"):
            got = getattr(operator, name)(a, b)
            assert got.dtype is dtype
            np.testing.assert_array_equal(got.numpy(), getattr(operator, name)(x, y))
        nonzero = np.where(y == 0, 1, y).astype(dtype.numpy)
        np.testing.assert_array_equal((a // td.asarray(nonzero)).numpy(), x // nonzero)
        np.testing.assert_array_equal((a % td.asarray(nonzero)).numpy(), x % nonzero)
        np.testing.assert_array_equal((~a).numpy(), ~x)
        np.testing.assert_array_equal((a << 2).numpy(), x << 2)
        np.testing.assert_array_equal((b >> 1).numpy(), y >> 1)
        np.testing.assert_array_equal((a**2).numpy(), x**2)


@pytest.mark.parametrize("a", DTYPES, ids=str)
@pytest.mark.parametrize("b", DTYPES, ids=str)
def test_the_dtype_two_tensors_meet_in_does_not_depend_on_their_order(a: td.DType, b: td.DType) -> None:
    x, y = td.ones(2, dtype=a), td.ones(2, dtype=b)
    try:
        want = td.result_type(a, b)
    except td.DTypeError:
        with pytest.raises(td.DTypeError, match="no common integer type"):
            _ = x == y
        return
    assert td.result_type(b, a) is want
    assert td.maximum(x, y).dtype is want if want is not td.bool else td.logical_and(x, y).dtype is want


@pytest.mark.parametrize("dtype", NUMERIC, ids=str)
def test_python_numbers_adopt_the_dtype(dtype: td.DType) -> None:
    x = td.asarray([1, 2, 3], dtype=dtype)
    for result in (x + 1, 1 + x, x - 1, 2 - x, x * 2, x // 2, 7 // x, x % 2, x**2, x + True):
        assert result.dtype is dtype
    want = dtype if dtype.is_float else td.float32
    for result in (x + 0.5, 0.5 * x, x / 2, 1 / x, x**0.5, td.exp(x), td.mean(x), x + np.float64(0.5)):
        assert result.dtype is want
    assert (x < 2.5).tolist() == [True, True, False]


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(td.DTypeError, match=r"add: the number 300 does not fit uint8, which holds 0 to 255\."):
        td.asarray([1], dtype=td.uint8) + 300
    with pytest.raises(td.DTypeError, match="does not fit uint8"):
        td.asarray([1], dtype=td.uint8) * -1


def test_no_float64_sneaks_in() -> None:
    x = td.asarray([1.0, 2.0])
    assert x.dtype is td.float32
    for result in (x * np.pi, x * np.float64(2), np.float64(2) * x, x + td.pi, x / np.sqrt(2.0), td.asarray(1.5)):
        assert result.dtype is td.float32
    assert td.asarray(np.array([1.0])).dtype is td.float64
    assert (x + np.array([1.0])).dtype is td.float64


def test_bools() -> None:
    x, y = td.asarray([True, True, False]), td.asarray([True, False, False])
    assert (x & y).tolist() == [True, False, False]
    assert (x | y).tolist() == [True, True, False]
    assert (x ^ y).tolist() == [False, True, False]
    assert (~x).tolist() == [False, False, True]
    assert (x + 1).dtype is td.int64
    assert (x * 1.0).dtype is td.float32
    assert td.logical_not(td.asarray([0.0, 2.0])).tolist() == [True, False]
    assert td.logical_xor(x, y).tolist() == [False, True, False]
    for ours, numpys in (
        (td.add, np.add), (td.multiply, np.multiply), (td.maximum, np.maximum), (td.minimum, np.minimum),
        (td.less, np.less), (td.less_equal, np.less_equal), (td.greater, np.greater),
        (td.greater_equal, np.greater_equal),
    ):  # fmt: skip
        result = ours(x[:, None], y)
        assert result.dtype is td.bool
        np.testing.assert_array_equal(result, numpys(x.numpy()[:, None], y.numpy()))
    with pytest.raises(td.DTypeError, match="subtract: does not take bool"):
        x - y


def test_operators_with_numpy_arrays_give_tensors() -> None:
    x, array = td.asarray([1.0, 2.0]), np.array([3, 4], np.float32)
    for result in (array + x, x + array, array * x, array - x, array / x, array @ x, x @ array, array == x, array < x):
        assert isinstance(result, td.Tensor)
    assert (array - x).tolist() == [2.0, 2.0]
    np.testing.assert_allclose(np.sin(x), np.sin([1, 2]), rtol=1e-6)


def test_operators_with_strangers() -> None:
    x = td.asarray([1.0])
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "a"  # pyright: ignore
    assert (x == "a") is False
    assert (x != None) is True  # noqa: E711
    with pytest.raises(td.DTypeError, match="add: cannot take a str as an operand"):
        td.add(x, "a")


def test_clip_keeps_the_dtype() -> None:
    x = np.arange(-3, 4)
    assert td.clip(td.asarray(x), -1, 2).tolist() == np.clip(x, -1, 2).tolist()
    assert td.clip(td.asarray(x), max=2).tolist() == np.minimum(x, 2).tolist()
    assert td.asarray(x).clip(td.asarray(np.arange(-6, 1))).dtype is td.int64
    assert td.clip(td.asarray([0.5, 3.0]), 0, 1).tolist() == [0.5, 1.0]
    with pytest.raises(td.DTypeError, match=r"limit 0.5 is a float"):
        td.clip(td.asarray(x), 0.5)
    # A limit of another dtype is not wrapped around into that of x.
    limited = td.clip(td.asarray(np.array([3, 250], np.uint8)), td.asarray(np.array([-7, 300])))
    assert limited.dtype is td.int64
    assert limited.tolist() == [3, 300]
    with pytest.raises(td.DTypeError, match="clip: does not take bool"):
        td.clip(td.asarray([True]), False)


def test_where_promotes_its_branches() -> None:
    got = td.where(td.asarray([True, False]), td.asarray([1, 2], dtype=td.int32), 0.5)
    assert got.dtype is td.float32
    assert got.tolist() == [1.0, 0.5]
    assert td.where(td.asarray([True, False]), 1, 2).dtype is td.int64
    assert td.where(True, td.asarray([1.0]), 0).tolist() == [1.0]


def test_special_values() -> None:
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38], np.float32)
    t = td.asarray(x)
    with np.errstate(all="ignore"):
        for name, function in [("sqrt", np.sqrt), ("exp", np.exp), ("log", np.log), ("tanh", np.tanh), ("abs", np.abs)]:
            np.testing.assert_allclose(getattr(td, name)(t).numpy(), function(x), rtol=1e-6)
        np.testing.assert_array_equal(td.maximum(t, 0.0).numpy(), np.maximum(x, 0))
        np.testing.assert_array_equal(td.signbit(t).numpy(), np.signbit(x))


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(td.ShapeError, match=r"add: cannot broadcast \[2, 3\] and \[2, 4\]; axis -1 has sizes \[3, 4\]"):
        td.ones((2, 3)) + td.ones((2, 4))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,)], ids=str)
def test_small_shapes(shape: tuple[int, ...]) -> None:
    x = td.ones(shape)
    assert (x + x * 2).shape == shape
    np.testing.assert_array_equal((x + x).numpy(), np.full(shape, 2.0))


def test_integers_are_whole_already() -> None:
    x = td.asarray([1, 2])
    assert td.floor(x) is x
    assert td.round(x) is x
    assert td.isnan(x).tolist() == [False, False]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "float32", "float64"])
def test_division_rounds_as_asked(dtype: str) -> None:
    x, y = np.array([7, 100, 7, 0, 120, 6]), np.array([2, 3, 4, 5, 127, 3])
    if dtype[0] != "u":
        x, y = np.concatenate([x, -x, x, -x, [-128]]), np.concatenate([y, y, -y, -y, [3]])
    a, b = (td.asarray(v.astype(dtype)) for v in (x, y))
    for mode, want in (("floor", np.floor(x / y)), ("trunc", np.trunc(x / y))):
        got = td.divide(a, b, rounding_mode=mode)
        assert got.dtype is a.dtype
        np.testing.assert_array_equal(got.numpy(), want)
    with pytest.raises(ConfigError, match=r"divide: rounding_mode is 'up'\. Allowed: None, 'floor', 'trunc'"):
        td.divide(a, b, rounding_mode="up")
