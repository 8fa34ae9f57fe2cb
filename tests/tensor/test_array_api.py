"""The array API standard 2024.12 name by name: every function is there with its arguments, and agrees with NumPy.

Complex numbers are out of scope: their dtypes are missing, transforms say so, `conj`, `real`, `imag` take real numbers.
"""

from __future__ import annotations

import inspect
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import treadle as td

# ---- names and arguments, as the standard prints them

SIGNATURES = """
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
argsort(x, /, *, axis=-1, descending=False, stable=True)
asarray(obj, /, *, dtype=None, device=None, copy=None)
astype(x, dtype, /, *, copy=True, device=None)
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
can_cast(from_, to, /)
clip(x, /, min=None, max=None)
concat(arrays, /, *, axis=0)
conj(x, /)
count_nonzero(x, /, *, axis=None, keepdims=False)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
expand_dims(x, /, *, axis=0)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
finfo(type, /)
flip(x, /, *, axis=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
iinfo(type, /)
imag(x, /)
isdtype(dtype, kind)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
matmul(x1, x2, /)
matrix_transpose(x, /)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
meshgrid(*arrays, indexing='xy')
min(x, /, *, axis=None, keepdims=False)
moveaxis(x, source, destination, /)
nonzero(x, /)
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
permute_dims(x, /, axes)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
real(x, /)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
result_type(*arrays_and_dtypes)
roll(x, /, shift, *, axis=None)
searchsorted(x1, x2, /, *, side='left', sorter=None)
sort(x, /, *, axis=-1, descending=False, stable=True)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
tensordot(x1, x2, /, *, axes=2)
tile(x, repetitions, /)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
unique_all(x, /)
unique_counts(x, /)
unique_inverse(x, /)
unique_values(x, /)
unstack(x, /, *, axis=0)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
vecdot(x1, x2, /, *, axis=-1)
where(condition, x1, x2, /)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0)
linalg.eigh(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode='reduced')
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None)
fft.ifftshift(x, /, *, axes=None)
"""
SIGNATURES = dict(line.split("(", 1) for line in SIGNATURES.strip().splitlines())

UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "bitwise_invert",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "isfinite",
    "isinf",
    "isnan",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_not",
    "negative",
    "positive",
    "reciprocal",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
BINARY = [
    "add",
    "atan2",
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "copysign",
    "divide",
    "equal",
    "floor_divide",
    "greater",
    "greater_equal",
    "hypot",
    "less",
    "less_equal",
    "logaddexp",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "nextafter",
    "not_equal",
    "pow",
    "remainder",
    "subtract",
]
SIGNATURES |= dict.fromkeys(UNARY, "x, /)") | dict.fromkeys(BINARY, "x1, x2, /)")


def function(name: str) -> Any:
    found: Any = td
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments(name: str) -> None:
    """What the standard may be called with is accepted, with the same meaning; more may be."""
    scope: dict[str, Any] = {}
    exec(f"def standard({SIGNATURES[name]}: ...", scope)
    wanted = list(inspect.signature(scope["standard"]).parameters.values())
    own = inspect.signature(function(name))
    given = list(own.parameters.values())
    P = inspect.Parameter
    for place, want in enumerate(wanted):
        if want.kind is P.VAR_POSITIONAL:
            assert any(p.kind is P.VAR_POSITIONAL for p in given)
            continue
        if want.kind is P.POSITIONAL_ONLY or (want.kind is P.POSITIONAL_OR_KEYWORD and place < len(given)):
            assert given[place].kind in (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)
        if want.kind is P.POSITIONAL_ONLY:
            same = given[place]
        else:
            assert want.name in own.parameters, f"no argument {want.name}"
            same = own.parameters[want.name]
            assert same.kind in (P.KEYWORD_ONLY, P.POSITIONAL_OR_KEYWORD)
            if want.kind is P.POSITIONAL_OR_KEYWORD:
                assert same.kind is P.POSITIONAL_OR_KEYWORD
        if want.default is P.empty:
            assert place or same.default is P.empty or name == "expand_dims"
        elif want.name == "dtype" and same.default is td.float32:
            pass  # what None stands for
        elif want.name == "side":
            assert same.default in (None, "left")
        else:
            assert same.default == want.default
    required = [p for p in given if p.default is P.empty and p.kind not in (P.VAR_POSITIONAL, P.VAR_KEYWORD)]
    assert len(required) <= sum(p.default is P.empty for p in wanted)


ATTRIBUTES = ["dtype", "device", "mT", "ndim", "shape", "size", "T"]
METHODS = [
    "__abs__",
    "__add__",
    "__and__",
    "__array_namespace__",
    "__bool__",
    "__complex__",
    "__dlpack__",
    "__dlpack_device__",
    "__eq__",
    "__float__",
    "__floordiv__",
    "__ge__",
    "__getitem__",
    "__gt__",
    "__index__",
    "__int__",
    "__invert__",
    "__le__",
    "__lshift__",
    "__lt__",
    "__matmul__",
    "__mod__",
    "__mul__",
    "__ne__",
    "__neg__",
    "__or__",
    "__pos__",
    "__pow__",
    "__rshift__",
    "__setitem__",
    "__sub__",
    "__truediv__",
    "__xor__",
    "to_device",
    "__radd__",
    "__rsub__",
    "__rmul__",
    "__rtruediv__",
    "__rfloordiv__",
    "__rmod__",
    "__rpow__",
    "__rmatmul__",
    "__rand__",
    "__ror__",
    "__rxor__",
    "__rlshift__",
    "__rrshift__",
]


def test_attributes_and_methods() -> None:
    x = td.ones((2, 2))
    assert [name for name in (*ATTRIBUTES, *METHODS) if not hasattr(x, name)] == []
    assert (x.ndim, x.shape, x.size, x.device, x.dtype) == (2, (2, 2), 4, "cpu", td.float32)
    assert x.to_device("cpu").shape == (2, 2)
    with pytest.raises(ValueError, match="to_device: there is no device 'cuda'"):
        x.to_device("cuda")


def test_the_namespace() -> None:
    assert td.__array_api_version__ == "2024.12"
    x = td.ones(2)
    for version in (None, "2021.12", "2022.12", "2023.12", "2024.12"):
        assert x.__array_namespace__(api_version=version) is td
    with pytest.raises(
        ValueError, match=r"__array_namespace__: version '1\.0' is unknown. Allowed: 2021\.12, .*2024\.12"
    ):
        x.__array_namespace__(api_version="1.0")
    assert (td.e, td.pi, td.inf, td.newaxis) == (math.e, math.pi, math.inf, None)
    assert math.isnan(td.nan)


def test_inspection() -> None:
    info = td.__array_namespace_info__()
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}
    assert info.default_device() == "cpu"
    assert info.devices() == ["cpu"]
    for device in (None, "cpu"):
        assert info.default_dtypes(device=device) == {
            "real floating": td.float32, "integral": td.int64, "indexing": td.int64,
        }  # fmt: skip
    ints, uints = ["int8", "int16", "int32", "int64"], ["uint8", "uint16", "uint32", "uint64"]
    floats = ["float32", "float64"]
    kinds = {
        "bool": ["bool"], "signed integer": ints, "unsigned integer": uints, "integral": [*ints, *uints],
        "real floating": floats, "complex floating": [], "numeric": [*ints, *uints, *floats],
        None: ["bool", *ints, *uints, *floats], ("bool", "real floating"): ["bool", *floats],
    }  # fmt: skip
    for kind, names in kinds.items():
        assert info.dtypes(kind=kind) == {name: getattr(td, name) for name in names}
    with pytest.raises(ValueError, match="dtypes: there is no device 'tpu'"):
        info.dtypes(device="tpu")


# ---- dtypes

DTYPES = [
    td.bool,
    td.int8,
    td.int16,
    td.int32,
    td.int64,
    td.uint8,
    td.uint16,
    td.uint32,
    td.uint64,
    td.float32,
    td.float64,
]
INTEGERS, FLOATS = DTYPES[1:9], DTYPES[9:]
NUMERIC = DTYPES[1:]


@pytest.mark.parametrize(("a", "b"), list(itertools.product(DTYPES, DTYPES)), ids=str)
def test_promotion(a: td.DType, b: td.DType) -> None:
    try:
        want = td.result_type(a, b)
    except td.DTypeError:
        assert {a.kind, b.kind} == {"int", "uint"}
        assert td.uint64 in (a, b)
        return
    if a.kind == b.kind or {a.kind, b.kind} == {"int", "uint"}:
        assert want.numpy == np.promote_types(a.numpy, b.numpy)
    for x, y in ((td.ones((), dtype=a), td.ones((2,), dtype=b)), (td.ones((0,), dtype=a), td.ones((), dtype=b))):
        assert td.result_type(x, y) is want
        assert td.result_type(a, y) is want
        assert (x * y).dtype is want
    assert td.can_cast(a, want)
    assert td.can_cast(b, want)


def test_limits() -> None:
    for dtype in INTEGERS:
        ours, theirs = td.iinfo(dtype), np.iinfo(dtype.numpy)
        assert (ours.bits, ours.max, ours.min, ours.dtype) == (theirs.bits, theirs.max, theirs.min, dtype)
        assert td.iinfo(td.ones(2, dtype=dtype)) == ours
    for dtype in FLOATS:
        ours, theirs = td.finfo(dtype), np.finfo(dtype.numpy)
        for name in ("bits", "eps", "max", "min", "smallest_normal"):
            assert getattr(ours, name) == getattr(theirs, name)
            assert type(getattr(ours, name)) in (int, float)
        assert ours.dtype is dtype
    for wrong, call in ((td.float32, td.iinfo), (td.bool, td.iinfo), (td.int8, td.finfo)):
        with pytest.raises(td.DTypeError):
            call(wrong)


def test_kinds() -> None:
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]
    for dtype in DTYPES:
        for kind in kinds:
            assert td.isdtype(dtype, kind) == np.isdtype(dtype.numpy, kind)
        assert td.isdtype(dtype, dtype)
        assert td.isdtype(dtype, (td.float32, "integral")) == (dtype is td.float32 or dtype.is_integer)
    with pytest.raises(td.DTypeError, match="isdtype: 'float' is not a kind"):
        td.isdtype(td.float32, "float")


def test_conversions() -> None:
    for a, b in itertools.product(DTYPES, DTYPES):
        x = np.array([0, 1, 100], a.numpy)
        got = td.astype(td.asarray(x), b)
        assert got.dtype is b
        np.testing.assert_array_equal(got.numpy(), x.astype(b.numpy))
        assert td.astype(td.asarray(x), b, copy=False, device="cpu").dtype is b
    with pytest.raises(ValueError, match="astype: there is no device 'gpu'"):
        td.astype(td.ones(2), td.float64, device="gpu")


# ---- elementwise functions over generated samples

SHAPES = [(), (0,), (1,), (3,), (2, 0, 3), (2, 3, 4)]
PAIRS = [((), ()), ((), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((0, 1), (1, 3)), ((2, 1, 4), (3, 1)), ((1,), (0,))]
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    math.inf,
    -math.inf,
    math.nan,
    1e30,
    -1e30,
    1e-30,
    88.0,
    1e-5,
]


def sample(shape: tuple[int, ...], dtype: td.DType, seed: int, low: float = -8, high: float = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype is td.bool:
        return rng.random(shape) < 0.5
    if dtype.is_integer:
        return rng.integers(0 if dtype.kind == "uint" else int(low), int(high), shape).astype(dtype.numpy)
    return rng.uniform(low, high, shape).astype(dtype.numpy)


def same(got: td.Tensor, want: Any, dtype: td.DType | None = None, ulps: float = 8) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    if dtype is not None:
        assert got.dtype is dtype
    have = got.numpy()
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(have, want)
    else:
        eps = float(np.finfo(have.dtype).eps)
        np.testing.assert_allclose(have, want, rtol=ulps * eps, atol=ulps * eps * 1e-2, equal_nan=True)


# name: dtypes it must take, whether it returns bools, NumPy's function where that has another name
ONE: dict[str, tuple[list[td.DType], bool]] = dict.fromkeys(UNARY, (FLOATS, False)) | {
    "abs": (NUMERIC, False), "negative": (list(NUMERIC), False), "positive": (NUMERIC, False),
    "square": (NUMERIC, False), "sign": (NUMERIC, False), "ceil": (NUMERIC, False), "floor": (NUMERIC, False),
    "round": (NUMERIC, False), "trunc": (NUMERIC, False), "isfinite": (NUMERIC, True), "isinf": (NUMERIC, True),
    "isnan": (NUMERIC, True), "logical_not": ([td.bool], True), "signbit": (FLOATS, True),
    "bitwise_invert": ([td.bool, *INTEGERS], False),
}  # fmt: skip
TWO: dict[str, tuple[list[td.DType], bool]] = dict.fromkeys(BINARY, (FLOATS, False)) | {
    **dict.fromkeys(
        ["add", "subtract", "multiply", "floor_divide", "remainder", "pow", "maximum", "minimum"], (NUMERIC, False)
    ),
    **dict.fromkeys(["bitwise_and", "bitwise_or", "bitwise_xor"], ([td.bool, *INTEGERS], False)),
    **dict.fromkeys(["bitwise_left_shift", "bitwise_right_shift"], (INTEGERS, False)),
    **dict.fromkeys(["equal", "not_equal"], (DTYPES, True)),
    **dict.fromkeys(["less", "less_equal", "greater", "greater_equal"], (NUMERIC, True)),
    **dict.fromkeys(["logical_and", "logical_or", "logical_xor"], ([td.bool], True)),
}
DOMAINS = {"acos": (-1, 1), "asin": (-1, 1), "atanh": (-1, 1), "acosh": (1, 8)}
DOMAINS |= dict.fromkeys(["log", "log2", "log10", "sqrt"], (0, 8)) | {"log1p": (-1, 8)}


@pytest.mark.parametrize("name", ONE)
def test_functions_of_one(name: str) -> None:
    dtypes, truth = ONE[name]
    theirs = getattr(np, name)
    for dtype in dtypes:
        for seed, shape in enumerate(SHAPES):
            x = sample(shape, dtype, seed, *DOMAINS.get(name, (-8, 8)))
            with np.errstate(all="ignore"):
                want = theirs(x)
            same(function(name)(td.asarray(x)), want, td.bool if truth else dtype)
        if dtype in FLOATS:
            x = np.array(SPECIAL, dtype.numpy)
            with np.errstate(all="ignore"):
                want = theirs(x)
            got = function(name)(td.asarray(x))
            same(got, want)
            if not truth and name not in ("sign",):
                zero = want == 0
                np.testing.assert_array_equal(np.signbit(got.numpy()[zero]), np.signbit(want[zero]))


def floor_divide(x: Any, y: Any) -> Any:
    """The standard's: NumPy goes by the remainder where an operand is infinite."""
    return np.where(np.isinf(x) | np.isinf(y), np.divide(x, y), np.floor_divide(x, y)).astype(x.dtype)


@pytest.mark.parametrize("name", TWO)
def test_functions_of_two(name: str) -> None:
    dtypes, truth = TWO[name]
    theirs = floor_divide if name == "floor_divide" else getattr(np, name)
    for dtype in dtypes:
        for seed, (a, b) in enumerate(PAIRS):
            low = 0 if name in ("pow", "bitwise_left_shift", "bitwise_right_shift") else -8
            x, y = sample(a, dtype, seed, low), sample(b, dtype, seed + 99, low, 7 if "shift" not in name else 8)
            if name in ("floor_divide", "remainder") and dtype.is_integer:
                y = np.where(y == 0, 1, y).astype(dtype.numpy)
            if name == "pow" and dtype.is_integer:
                x, y = x % 3, y % 4
            with np.errstate(all="ignore"):
                want = theirs(x, y)
            same(function(name)(td.asarray(x), td.asarray(y)), want, td.bool if truth else dtype)
        if dtype in FLOATS:
            x, y = (g.ravel() for g in np.meshgrid(np.array(SPECIAL, dtype.numpy), np.array(SPECIAL, dtype.numpy)))
            with np.errstate(all="ignore"):
                want = theirs(x, y)
            same(function(name)(td.asarray(x), td.asarray(y)), want)


def test_functions_of_complex_parts_take_real_numbers() -> None:
    for dtype in NUMERIC:
        x = sample((2, 3), dtype, 0)
        for name in ("conj", "real", "imag"):
            same(function(name)(td.asarray(x)), getattr(np, name)(x), dtype)
        with pytest.raises(td.DTypeError, match="conj: does not take bool"):
            td.conj(td.asarray([True]))


def test_clip() -> None:
    for dtype in NUMERIC:
        x = sample((3, 4), dtype, 0)
        for low, high in [(None, None), (2, None), (None, 5), (2, 5), (5, 2), (2, td.full((4,), 5, dtype=dtype))]:
            bounds = [b.numpy() if isinstance(b, td.Tensor) else b for b in (low, high)]
            same(td.clip(td.asarray(x), low, high), x if bounds == [None, None] else np.clip(x, *bounds), dtype)
            same(td.clip(td.asarray(x), min=low, max=high), x if bounds == [None, None] else np.clip(x, *bounds), dtype)


# ---- operators, with tensors and with Python numbers

OPERATORS = {
    operator.add: NUMERIC, operator.sub: NUMERIC, operator.mul: NUMERIC, operator.truediv: FLOATS,
    operator.floordiv: NUMERIC, operator.mod: NUMERIC, operator.pow: NUMERIC, operator.eq: DTYPES, operator.ne: DTYPES,
    operator.lt: NUMERIC, operator.le: NUMERIC, operator.gt: NUMERIC, operator.ge: NUMERIC,
    operator.and_: [td.bool, *INTEGERS], operator.or_: [td.bool, *INTEGERS], operator.xor: [td.bool, *INTEGERS],
    operator.lshift: INTEGERS, operator.rshift: INTEGERS,
}  # fmt: skip


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
def test_operators(op: Callable[..., Any]) -> None:
    comparison = op in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
    for dtype in OPERATORS[op]:
        x, y = sample((2, 3), dtype, 0, 1, 4), sample((3,), dtype, 1, 1, 4)
        if dtype.kind == "uint":
            x, y = x % 3 + 1, y % 3 + 1
        kept = td.bool if comparison else dtype
        with np.errstate(all="ignore"):
            same(op(td.asarray(x), td.asarray(y)), op(x, y), kept)
            numbers = [True] if dtype is td.bool else [2] if dtype.is_integer else [2, 2.5]
            for number in numbers:
                same(op(td.asarray(x), number), op(x, dtype.numpy.type(number)), kept)
                same(op(number, td.asarray(x)), op(dtype.numpy.type(number), x), kept)
        changed = before = td.asarray(x)
        name = f"__i{op.__name__.strip('_')}__"
        if hasattr(operator, name) and (op is not operator.truediv or dtype.is_float):
            changed = getattr(operator, name)(changed, td.asarray(y))
            same(changed, op(x, y), kept)
            same(before, x)  # the old value is as it was


def test_operators_of_one() -> None:
    for dtype in NUMERIC:
        x = sample((2, 3), dtype, 0)
        for op in (operator.neg, operator.pos, operator.abs):
            same(op(td.asarray(x)), op(x), dtype)
    for dtype in (td.bool, *INTEGERS):
        x = sample((2, 3), dtype, 0)
        same(~td.asarray(x), ~x, dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_a_number_that_an_integer_does_not_hold_is_refused(dtype: td.DType) -> None:
    x, info = td.ones((2,), dtype=dtype), np.iinfo(dtype.numpy)
    for number in (int(info.max) + 1, int(info.min) - 1):
        for call in (lambda n: x + n, lambda n: n * x, lambda n: x < n, lambda n: td.where(x > 0, x, n)):
            with pytest.raises(td.DTypeError, match=f"does not fit {dtype.name}, which holds {info.min} to {info.max}"):
                call(number)
    assert (x + int(info.max) - 1).dtype is dtype


def test_python_numbers_do_not_widen() -> None:
    for dtype in FLOATS:
        x = td.ones((), dtype=dtype)
        for number in (True, 2, 2.5, 1e300):
            assert (x * number).dtype is dtype
    for dtype in INTEGERS:
        assert (td.ones((), dtype=dtype) * 3).dtype is dtype
        assert (td.ones((), dtype=dtype) * True).dtype is dtype
    assert td.result_type(td.int8, 3) is td.int8
    assert td.result_type(td.float64, 3, 1.5) is td.float64
    with pytest.raises(TypeError):
        td.ones(2) + 1j
    with pytest.raises(TypeError):
        td.ones(2) + "a"


def test_conversion_to_python() -> None:
    for dtype in DTYPES:
        one = td.ones((), dtype=dtype)
        assert bool(one) is True
        assert int(one) == 1
        assert type(int(one)) is int
        assert float(one) == 1.0
        assert type(float(one)) is float
        assert complex(one) == 1 + 0j
        assert type(complex(one)) is complex
        assert bool(td.zeros((), dtype=dtype)) is False
        if dtype.is_integer:
            assert operator.index(one) == 1
            assert [10, 20][one] == 20
        else:
            with pytest.raises(TypeError, match=r"index: a .* tensor is not a whole number"):
                operator.index(one)
    for value in (math.inf, -math.inf, math.nan):
        assert str(float(td.asarray(value))) == str(value)
        assert bool(td.asarray(value))
        with pytest.raises((OverflowError, ValueError)):
            int(td.asarray(value))
    for call in (bool, int, float, complex):
        with pytest.raises(td.ShapeError, match="has 2 elements; only a tensor with one"):
            call(td.ones(2))


def test_tensors_do_not_change() -> None:
    x = td.zeros(3)
    with pytest.raises(TypeError, match=r"x\[1\] = ... is not possible, tensors do not change. Use x = x.at\[1\].set"):
        x[1] = 5
    same(x.at[1].set(5.0), [0, 5, 0])
    same(x, [0, 0, 0])


# ---- the other functions


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "std", "var", "any", "all", "count_nonzero"])
def test_folds(name: str) -> None:
    dtypes = {"mean": FLOATS, "std": FLOATS, "var": FLOATS}.get(name, NUMERIC)
    dtypes = DTYPES if name in ("any", "all", "count_nonzero") else dtypes
    for dtype in dtypes:
        x = sample((2, 3, 4), dtype, 0, -2, 3)
        for axis in (None, 0, -1, (0, 2), (1, -1), (0, 1, 2)):
            for keep in (False, True):
                want = getattr(np, name)(x, axis=axis, keepdims=keep)
                same(function(name)(td.asarray(x), axis=axis, keepdims=keep), want, ulps=100)
        got = function(name)(td.asarray(x))
        if name in ("sum", "prod"):
            assert got.dtype is {"int": td.int64, "uint": td.uint64, "float": dtype}[dtype.kind]
            assert function(name)(td.asarray(x), dtype=td.float64).dtype is td.float64
        elif name in ("any", "all", "count_nonzero"):
            assert got.dtype is (td.int64 if name == "count_nonzero" else td.bool)
        else:
            assert got.dtype is dtype
        same(function(name)(td.asarray(x[0, 0, 0])), getattr(np, name)(x[0, 0, 0]))
        if name not in ("max", "min"):
            empty = x[:, :0]
            with np.errstate(all="ignore"), pytest.warns() if name in ("mean", "std", "var") else np.errstate():
                want = getattr(np, name)(empty, axis=1)
            same(function(name)(td.asarray(empty), axis=1), want)
            assert function(name)(td.asarray(empty), axis=0).shape == (0, 4)
    if name in ("std", "var"):
        x = sample((3, 4), td.float64, 0)
        for correction in (0, 1, 0.5, 2.0):
            same(
                function(name)(td.asarray(x), axis=1, correction=correction),
                getattr(np, name)(x, axis=1, ddof=correction),
            )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arranging(dtype: td.DType) -> None:
    x = sample((2, 3, 4), dtype, 0)
    t = td.asarray(x)
    calls = [
        lambda m, x: m.moveaxis(x, 0, 2),
        lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)),
        lambda m, x: m.flip(x),
        lambda m, x: m.flip(x, axis=(0, 2)),
        lambda m, x: m.roll(x, 3),
        lambda m, x: m.roll(x, (1, -2), axis=(0, 2)),
        lambda m, x: m.tile(x, (2, 1)),
        lambda m, x: m.tile(x, (2, 1, 1, 3)),
        lambda m, x: m.repeat(x, 2),
        lambda m, x: m.repeat(x, 2, axis=1),
        lambda m, x: m.expand_dims(x, axis=1),
        lambda m, x: m.reshape(x, (4, -1)),
        lambda m, x: m.broadcast_to(x, (5, 2, 3, 4)),
        lambda m, x: m.squeeze(x[:, :1], axis=1),
        lambda m, x: m.concat([x, x], axis=-1),
        lambda m, x: m.concat([x, x[0]], axis=None),
        lambda m, x: m.stack([x, x], axis=-1),
        lambda m, x: m.permute_dims(x, (2, 0, 1)),
        lambda m, x: m.matrix_transpose(x),
        lambda m, x: m.tril(x, k=1),
        lambda m, x: m.triu(x, k=-1),
        lambda m, x: x[..., None, ::-2],
        lambda m, x: m.take(x, m.asarray([1, 0, 1]), axis=1),
        lambda m, x: m.where(x == x[0], x, x[::-1]),
        lambda m, x: m.zeros_like(x),
        lambda m, x: m.full_like(x, 1),
        lambda m, x: m.repeat(x, m.asarray([1, 0, 2]), axis=1),
    ]
    for call in calls:
        same(call(td, t), call(np, x), dtype)
    for got, want in zip(td.unstack(t, axis=1), np.unstack(x, axis=1), strict=True):
        same(got, want, dtype)
    for got, want in zip(td.broadcast_arrays(t, t[0]), np.broadcast_arrays(x, x[0]), strict=True):
        same(got, want, dtype)


def test_creation() -> None:
    for dtype in DTYPES:
        for shape in [(), 0, 3, (2, 0), (2, 3)]:
            for name in ("zeros", "ones"):
                same(function(name)(shape, dtype=dtype), getattr(np, name)(shape, dtype.numpy), dtype)
            same(td.full(shape, 1, dtype=dtype), np.full(shape, 1, dtype.numpy), dtype)
            assert td.empty(shape, dtype=dtype).shape == np.empty(shape).shape
        for arguments in [(3,), (3, 4), (3, 0)]:
            for k in (-1, 0, 2):
                same(td.eye(*arguments, k=k, dtype=dtype), np.eye(*arguments, k=k, dtype=dtype.numpy), dtype)
    for name in ("zeros", "ones", "empty"):
        assert function(name)(2).dtype is function(name)(2, dtype=None, device="cpu").dtype is td.float32
    assert (td.full(2, 1).dtype, td.full(2, 1.0).dtype, td.full(2, True).dtype) == (td.int64, td.float32, td.bool)
    for arguments in [(5,), (2, 7), (0, 10, 3), (10, 0, -3), (5, 2), (0.0, 1.0, 0.25), (1, 2, 0.5)]:
        same(td.arange(*arguments, dtype=td.float64), np.arange(*arguments, dtype=np.float64))
        whole = all(isinstance(a, int) for a in arguments)
        assert td.arange(*arguments).dtype is (td.int64 if whole else td.float32)
    for endpoint in (True, False):
        for num in (0, 1, 2, 7):
            same(
                td.linspace(-1, 3, num, dtype=td.float64, endpoint=endpoint), np.linspace(-1, 3, num, endpoint=endpoint)
            )
    for indexing in ("xy", "ij"):
        vectors = [np.arange(3.0), np.arange(2.0), np.arange(4.0)]
        for count in (1, 2, 3):
            theirs = np.meshgrid(*vectors[:count], indexing=indexing)
            for got, want in zip(
                td.meshgrid(*[td.asarray(v) for v in vectors[:count]], indexing=indexing), theirs, strict=True
            ):
                same(got, want)


def test_memory_of_others() -> None:
    for dtype in DTYPES:
        x = sample((2, 3), dtype, 0)
        same(td.from_dlpack(x), x, dtype)
        t = td.asarray(x)
        assert t.__dlpack_device__() == (1, 0)
        np.testing.assert_array_equal(np.from_dlpack(t), x)
        same(td.from_dlpack(t, device="cpu", copy=True), x, dtype)
        same(td.asarray(t, copy=True), x, dtype)
        assert t.__dlpack__(max_version=(1, 0), dl_device=(1, 0), copy=None) is not None
    strided = np.arange(12.0).reshape(3, 4)[:, ::2]
    same(td.from_dlpack(strided), strided)
    with pytest.raises(ValueError, match="from_dlpack: copy=False, but the data is not C-contiguous"):
        td.from_dlpack(strided, copy=False)
    with pytest.raises(ValueError, match="from_dlpack: there is no device 'gpu'"):
        td.from_dlpack(strided, device="gpu")


# ---- fft


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("d", [1.0, 0.1, 2])
def test_frequencies(n: int, d: float) -> None:
    for dtype in (None, td.float32, td.float64):
        wanted = td.float32 if dtype is None else dtype
        same(td.fft.fftfreq(n, d=d, dtype=dtype), np.fft.fftfreq(n, d).astype(wanted.numpy), wanted)
        same(td.fft.rfftfreq(n, d=d, dtype=dtype, device="cpu"), np.fft.rfftfreq(n, d).astype(wanted.numpy), wanted)


def test_shifts() -> None:
    for shape in [(5,), (4,), (3, 4), (1,), (0, 2)]:
        x = sample(shape, td.float32, 0)
        for axes in (None, 0, (0,), tuple(range(len(shape)))):
            same(td.fft.fftshift(td.asarray(x), axes=axes), np.fft.fftshift(x, axes))
            same(td.fft.fftshift(td.asarray(x), dim=axes), np.fft.fftshift(x, axes))
            same(td.fft.ifftshift(td.asarray(x), axes=axes), np.fft.ifftshift(x, axes))


@pytest.mark.parametrize("name", ["fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft"])
def test_transforms_need_complex_numbers(name: str) -> None:
    with pytest.raises(td.DTypeError, match=f"{name}: Fourier transforms have complex numbers .* no complex dtype"):
        getattr(td.fft, name)(td.ones(4), axis=-1)


def test_errors_of_frequencies() -> None:
    with pytest.raises(ValueError, match=r"fftfreq: 0 samples\. Give at least 1"):
        td.fft.fftfreq(0)
    with pytest.raises(td.DTypeError, match="rfftfreq: dtype int64 is not floating point"):
        td.fft.rfftfreq(4, dtype=td.int64)
    with pytest.raises(ValueError, match="distance between samples is 0"):
        td.fft.fftfreq(4, d=0)
