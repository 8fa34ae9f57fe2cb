"""Every scalar function against NumPy or mpmath, on both instruction sets: errors in ulp, special values, casts."""

import math
from functools import cache

import mpmath
import numpy as np
import pytest

from tests.codegen.native import Formula, compile_all, elementwise, ulps, undefined_symbols
from treadle import te
from treadle.codegen import scalars
from treadle.codegen.llvm import I32, PTR, Module, compute_type, storage_type
from treadle.codegen.memory import narrow, widen
from treadle.codegen.target import host
from treadle.codegen.toolchain import compile_object
from treadle.core import dtypes
from treadle.core.config import config
from treadle.core.errors import DTypeError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of the NaN we ask it for
CPUS = ("native", "avx2")
LONG = np.longdouble
INTEGERS = [d for d in dtypes.DTYPES if d.is_integer]


@pytest.fixture(params=CPUS)
def cpu(request):
    with config(cpu=request.param, checks=True):
        yield request.param


def formula(name, dtype, lanes):
    function = te.SCALARS[name]
    out = dtypes.bool_ if function.result == "bool" else dtype
    return Formula(lambda f, v: scalars.emit(f, name, v, dtype), [dtype] * function.arity, out, lanes)


@cache
def table(dtype, lanes, cpu):
    """The kernels of all functions of a dtype."""
    names = sorted(scalars.TABLES[dtype.kind].keys() & te.SCALARS.keys())
    kernels = compile_all({f"scalar_{name}": formula(name, dtype, lanes) for name in names})
    return {name: kernels[f"scalar_{name}"] for name in names}


def kernel(name, dtype, cpu, lanes=None):
    return table(dtype, lanes or host().lanes(max(dtype.bits, 32)), cpu)[name]


def by_mpmath(function, bits=100):
    """A longdouble array function from an mpmath one."""

    def one(x):
        if not math.isfinite(x):
            return LONG("nan")
        with mpmath.workprec(bits):
            y = function(mpmath.mpf(x))
        if y == 0:
            return LONG(0)
        m, e = mpmath.frexp(y)
        return np.ldexp(LONG(int(mpmath.ldexp(m, 64))), max(int(e), -30000) - 64)

    return lambda xs: np.array([one(float(x)) for x in xs], LONG)


REFERENCE = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2,
    "log10": np.log10, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "sinh": np.sinh,
    "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh,
    "acosh": np.arccosh, "atanh": np.arctanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x,
    "erf": by_mpmath(mpmath.erf), "erfc": by_mpmath(mpmath.erfc),
}  # fmt: skip
# Greatest error allowed, in ulp: for float32, for float64.
LIMITS = {
    "exp": (1, 1.1), "exp2": (1.1, 1.2), "expm1": (1.8, 2), "log": (1, 1), "log1p": (1.7, 1.7), "log2": (1.7, 1.7),
    "log10": (0.6, 0.6), "sin": (1.7, 3), "cos": (1.7, 3), "tan": (3.5, 4), "tanh": (1.5, 1.7), "sinh": (1.8, 1.8),
    "cosh": (1.6, 1.6), "asin": (2.5, 2.5), "acos": (1.5, 1.5), "atan": (2, 2), "asinh": (2.2, 2.2),
    "acosh": (2.4, 2.4), "atanh": (2.3, 2.3), "sigmoid": (2, 2), "sqrt": (0.51, 0.51), "rsqrt": (1.5, 1.5),
    "reciprocal": (0.51, 0.51), "erf": (1.6, 1.2), "erfc": (3.6, 3.6),
}  # fmt: skip
EDGES = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, 10, 100, 1000, 1e5, 1e10, 88.7, 88.72, 88.73, -87.3, -103, -104, -150, 89.41]
EDGES += [
    0.55,
    0.625,
    math.sqrt(0.5),
    math.sqrt(2),
    131071.9,
    131072.1,
    2.0**-149,
    -(2.0**-149),
    1e-39,
    3.4e38,
    -3.4e38,
]
EDGES64 = [709.7, 709.79, -708.5, -740, -746, 710.4, 710.5, 5e-324, -5e-324, 1e-310, 1.7e308, 1e22, 1e300, 2.0**30]


def arguments(dtype, n):
    """Numbers of every size, denormals among them, and dense ones where functions bend."""
    rng = np.random.default_rng(7)
    word = np.uint32 if dtype.bits == 32 else np.uint64
    any_bits = rng.integers(0, 2**dtype.bits, 2 * n, dtype=word, endpoint=False).view(dtype.numpy)
    parts = [
        EDGES if dtype.bits == 32 else EDGES + EDGES64,
        any_bits[np.isfinite(any_bits)],
        rng.uniform(-1, 1, n),
        rng.uniform(-12, 12, n),
        rng.uniform(-110, 110, n) if dtype.bits == 32 else rng.uniform(-750, 750, n),
        np.exp(rng.uniform(-20, 20, n)),
        1 + rng.normal(size=n) * 1e-3,
        rng.integers(1, 100000, n) * np.pi / 2,
        rng.uniform(-1, 1, n) * (np.finfo(dtype.numpy).tiny * 2.0),
    ]
    return np.concatenate(parts).astype(dtype.numpy)


def test_names_are_those_of_the_formulas():
    assert set(te.SCALARS) <= scalars.NAMES
    assert scalars.NAMES - set(te.SCALARS) == {"fma"}


@pytest.mark.parametrize("name", LIMITS)
def test_float32_error(name, cpu):
    slow = name in ("erf", "erfc")
    x = arguments(dtypes.float32, 250 if slow else 8000)
    want = REFERENCE[name](x if slow else x.astype(LONG)).astype(LONG)
    error = ulps(kernel(name, dtypes.float32, cpu)(x), want)
    worst = int(np.argmax(error))
    assert error[worst] <= LIMITS[name][0], f"{name}({x[worst]!r}) is wrong by {error[worst]} ulp"


@pytest.mark.parametrize("name", LIMITS)
def test_float64_error(name, cpu):
    slow = name in ("erf", "erfc", "sin", "cos", "tan")  # where the C library's long double is not good enough
    x = arguments(dtypes.float64, 150 if slow else 3000)
    if name in ("erf", "erfc"):
        x = x[np.abs(x) < 100]
    digits = 100 if name.startswith("erf") else 1200  # sin(1e300) needs so many
    reference = by_mpmath(getattr(mpmath, name), digits) if slow else REFERENCE[name]
    want = reference(x if slow else x.astype(LONG)).astype(LONG)
    error = ulps(kernel(name, dtypes.float64, cpu)(x), want)
    worst = int(np.argmax(error))
    assert error[worst] <= LIMITS[name][1], f"{name}({x[worst]!r}) is wrong by {error[worst]} ulp"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exp", "tanh", "log", "expm1", "log1p", "sigmoid", "sin", "cos"])
def test_float32_error_everywhere(name, cpu):
    x = np.arange(0, 2**32, 1031, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    error = ulps(kernel(name, dtypes.float32, cpu)(x), REFERENCE[name](x.astype(LONG)))
    assert error.max() <= 2


NUMPY_UNARY = [n for n, s in te.SCALARS.items() if s.arity == 1 and n not in ("erf", "erfc", "sigmoid", "not")]


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("name", NUMPY_UNARY)
def test_special_values_are_exact(name, dtype, cpu):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, -2.0, 0.5, 1.5, 2.5, -2.5], dtype.numpy)
    exact = (np.isnan(x) | np.isinf(x) | (x == 0)) if not _is_exact(name) else np.ones(len(x), bool)
    got = kernel(name, dtype, cpu)(x)[exact]
    want = te.SCALARS[name].numpy(x)[exact]
    special = np.isnan(want) | np.isinf(want) | (want == 0) | _is_exact(name)
    np.testing.assert_array_equal(got[special], want[special])
    if got.dtype.kind == "f":
        np.testing.assert_array_equal(
            np.signbit(got[special & ~np.isnan(want)]), np.signbit(want[special & ~np.isnan(want)])
        )
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype.bits == 32 else 1e-15)


def _is_exact(name):
    return (
        name in ("neg", "abs", "sign", "sqrt", "reciprocal", "signbit")
        or name in ("floor", "ceil", "trunc", "round")
        or name.startswith("is")
    )


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_erf_sigmoid_special_values(dtype, cpu):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype.numpy)
    np.testing.assert_array_equal(kernel("erf", dtype, cpu)(x), [0, 0, 1, -1, np.nan])
    assert np.signbit(kernel("erf", dtype, cpu)(x)[1])
    np.testing.assert_array_equal(kernel("erfc", dtype, cpu)(x), [1, 1, 0, 2, np.nan])
    np.testing.assert_array_equal(kernel("sigmoid", dtype, cpu)(x), [0.5, 0.5, 1, 0, np.nan])


@pytest.mark.parametrize("cpu", CPUS)
def test_sine_of_the_largest_floats_and_next_to_multiples_of_pi(cpu):
    with config(cpu=cpu):
        # The double nearest to a multiple of pi/2 that there is: 2^797 x 6381956970095103.
        x = np.array([6381956970095103.0 * 2.0**797, 1.7976931348623157e308, 2.0**30 + 1, -(2.0**1000)])
        error = ulps(kernel("cos", dtypes.float64, cpu)(x), by_mpmath(mpmath.cos, 1200)(x))
        assert error.max() <= 4
        assert np.isnan(kernel("sin", dtypes.float64, cpu)(np.array([np.inf, -np.inf, 1e300]))).tolist() == [
            True,
            True,
            False,
        ]


SPECIAL_PAIRS = np.array([0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan, 7.5])
BINARY = [n for n, s in te.SCALARS.items() if s.arity == 2 and n not in ("and", "or", "xor", "shl", "shr")]


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary_floats(name, dtype, cpu):
    rng = np.random.default_rng(3)
    x, y = (a.ravel() for a in np.meshgrid(SPECIAL_PAIRS, SPECIAL_PAIRS))
    u, v = np.exp(rng.uniform(-30, 30, 2000)), np.exp(rng.uniform(-2, 2, 2000)) * rng.choice([-1, 1], 2000)
    x = np.concatenate([x, u, rng.normal(size=2000) * 20]).astype(dtype.numpy)
    y = np.concatenate([y, v, rng.normal(size=2000) * 5]).astype(dtype.numpy)
    got = kernel(name, dtype, cpu)(x, y)
    want = te.SCALARS[name].numpy(x, y)
    if want.dtype.kind == "b" or name in ("add", "sub", "mul", "div", "copysign", "nextafter", "min", "max", "mod"):
        np.testing.assert_array_equal(got, want)
    elif name == "logaddexp":  # log(a + b) near 1 has no relative accuracy to give
        np.testing.assert_allclose(
            got, want, rtol=1e-6 if dtype.bits == 32 else 4e-15, atol=1e-7 if dtype.bits == 32 else 1e-15
        )
    elif name == "floor_div":
        np.testing.assert_allclose(got, want, rtol=2 * np.finfo(dtype.numpy).eps)
    else:
        exact = te.SCALARS[name].numpy(x.astype(LONG), y.astype(LONG))
        error = ulps(got, exact)
        worst = int(np.argmax(error))
        assert error[worst] <= 3.5, f"{name}({x[worst]!r}, {y[worst]!r}) is wrong by {error[worst]} ulp"
    if name in ("atan2", "mod", "pow", "floor_div", "copysign"):
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(want[known]))


def test_remainder_is_exact_over_the_whole_range(cpu):
    rng = np.random.default_rng(5)
    for dtype, word in ((dtypes.float32, np.uint32), (dtypes.float64, np.uint64)):
        x, y = rng.integers(0, 2**dtype.bits, (2, 4000), dtype=word, endpoint=False).view(dtype.numpy)
        np.testing.assert_array_equal(kernel("mod", dtype, cpu)(x, y), np.remainder(x, y))


def test_power_of_doubles(cpu):
    rng = np.random.default_rng(6)
    x = np.exp(rng.uniform(-300, 300, 1500))
    y = rng.uniform(-1, 1, 1500) * 700 / np.abs(np.log(x))
    with mpmath.workprec(120):
        exact = [mpmath.power(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
        want = np.array([LONG(mpmath.nstr(e, 25)) for e in exact])
    assert ulps(kernel("pow", dtypes.float64, cpu)(x, y), want).max() <= 1.5


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers(dtype, cpu):
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype.numpy)
    edges = np.array([0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1, info.max // 2], dtype.numpy)
    if dtype.kind == "int":
        edges = np.concatenate([edges, np.array([-1, -2, -3, -7], dtype.numpy)])
    x, y = (a.ravel() for a in np.meshgrid(edges, edges))
    more = rng.integers(info.min, info.max, (2, 500), dtype=dtype.numpy, endpoint=True)
    more[1, :250] = rng.integers(max(info.min, -20), 20, 250)
    x, y = np.concatenate([x, more[0]]), np.concatenate([y, more[1]])
    lanes = host().lanes(dtype.bits)
    with np.errstate(all="ignore"):
        for name in sorted(scalars.TABLES[dtype.kind]):
            function = te.SCALARS[name]
            a, b = x, y
            if name == "pow":
                b = np.where(y < 0, 3, y).astype(dtype.numpy)
            if name == "reciprocal":
                a = np.where(x == 0, 3, x).astype(dtype.numpy)
            args = (a, b)[: function.arity]
            if name == "signbit":
                want = a < 0
            elif name.startswith("is"):
                want = np.full(a.shape, name == "isfinite")
            else:
                want = function.numpy(*args)
            for width in (lanes, 1):
                got = kernel(name, dtype, cpu, width)(*args)
                np.testing.assert_array_equal(got, want, err_msg=f"{name} of {dtype} in {width} lanes")


def test_negative_integer_powers_round_towards_zero(cpu):
    x, n = np.array([1, -1, -1, 2, 0, -3], np.int32), np.array([-3, -3, -2, -1, -1, -5], np.int32)
    assert kernel("pow", dtypes.int32, cpu)(x, n).tolist() == [1, -1, 1, 0, 0, 0]


@pytest.mark.parametrize("divisor", [1, 7, -7, 64, -1, 0])
def test_integer_division_by_a_literal(divisor, cpu):
    x = np.array([0, 1, -1, 63, -64, 2**31 - 1, -(2**31), 1000], np.int32)

    def divide(name):
        def emit(f, v):
            return scalars.emit(f, name, [v[0], f.splat(divisor, 8, I32)], dtypes.int32)

        return Formula(emit, [dtypes.int32], dtypes.int32, 8)

    for name, made in compile_all({n: divide(n) for n in ("floor_div", "mod")}).items():
        with np.errstate(all="ignore"):
            want = te.SCALARS[name].numpy(x, np.full_like(x, divisor))
        np.testing.assert_array_equal(made(x), want)


def casting(source, target, lanes):
    return Formula(lambda f, v: scalars.cast(f, v[0], source, target), [source], target, lanes)


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=str)
def test_a_short_float_that_was_read_is_stored_as_it_was(dtype):
    f = Module("test").kernel("kernel")
    stored = f.load(f.buffer(0), storage_type(dtype, 8))
    wide = widen(f, stored, dtype)
    assert narrow(f, wide, dtype) is stored
    assert narrow(f, f.fmul(wide, 2.0), dtype) is not stored
    other = dtypes.bfloat16 if dtype is dtypes.float16 else dtypes.float16
    assert narrow(f, wide, other) is not stored


def test_bools(cpu):
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])
    want = {"add": x | y, "max": x | y, "or": x | y, "mul": x & y, "min": x & y, "and": x & y, "xor": x ^ y}
    want |= {"sub": x ^ y, "ne": x ^ y, "eq": x == y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}
    want |= {"pow": x | ~y}
    for name, expected in want.items():
        np.testing.assert_array_equal(kernel(name, dtypes.bool_, cpu)(x, y), expected, err_msg=name)
    np.testing.assert_array_equal(kernel("not", dtypes.bool_, cpu)(x), ~x)


@pytest.mark.parametrize("source", dtypes.DTYPES, ids=str)
def test_casts(source, cpu):
    rng = np.random.default_rng(4)
    if source.is_float:
        values = np.concatenate(
            [rng.normal(size=300) * 50, np.exp(rng.uniform(-12, 11, 200)), [0.0, -0.0, 1.5, 2.5, 1e-7]]
        )
        x = values.astype(source.numpy)
    elif source.kind == "bool":
        x = np.array([True, False, True])
    else:
        info = np.iinfo(source.numpy)
        x = np.concatenate(
            [rng.integers(info.min, info.max, 300, dtype=source.numpy, endpoint=True), [info.min, info.max, 0, 1]]
        )
        x = x.astype(source.numpy)
    made = compile_all({f"to_{to}_{n}": casting(source, to, n) for to in dtypes.DTYPES for n in (8, 1)})
    for to in dtypes.DTYPES:
        given = x
        if source.is_float and to.is_integer:
            info = np.iinfo(to.numpy)
            wide = x.astype(np.float64)
            given = x[(np.trunc(wide) >= info.min) & (np.trunc(wide) <= info.max) & (wide < 2.0**62)]
        want = given.astype(to.numpy).view(f"u{to.itemsize}")
        for lanes in (8, 1):
            got = made[f"to_{to}_{lanes}"](given).view(f"u{to.itemsize}")
            np.testing.assert_array_equal(got, want, err_msg=f"{source} to {to} in {lanes} lanes")


@pytest.mark.parametrize("source", [dtypes.float32, dtypes.float64], ids=str)
def test_floats_beyond_an_integer_type_saturate(source, cpu):
    x = np.array([1e30, -1e30, np.inf, -np.inf, np.nan], source.numpy)
    for target, made in zip(
        INTEGERS, compile_all({f"to_{to}": casting(source, to, 8) for to in INTEGERS}).values(), strict=True
    ):
        info = np.iinfo(target.numpy)
        assert made(x).tolist() == [info.max, info.min, info.max, info.min, 0], target


def test_half_precision_casts_round_once_and_at_once(cpu):
    # 1 + 2^-11 + 2^-40 is above the middle between two float16; rounding to float32 first would land on the middle.
    x = np.array(
        [1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519.999999, 65520.0, 1e-8, 2.0**-25, np.nan]
    )
    made = compile_all({"halves": casting(dtypes.float64, dtypes.float16, 8)})
    np.testing.assert_array_equal(made["halves"](x), x.astype(np.float16))

    def there_and_back(f, v):
        return scalars.cast(f, scalars.cast(f, v[0], dtypes.float32, dtypes.bfloat16), dtypes.bfloat16, dtypes.float32)

    y = np.array([1.001, 3.14159, -2.7e38, 1e-40, np.inf, np.nan, 1.00390625, 1.01171875], np.float32)
    got = elementwise(there_and_back, [dtypes.float32], dtypes.float32, 8)(y)
    np.testing.assert_array_equal(got, y.astype(dtypes.bfloat16.numpy).astype(np.float32))


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype, cpu):
    x = np.random.default_rng(1).normal(size=100).astype(dtype.numpy)
    for name in ("exp", "tanh", "erf", "sin"):
        want = te.SCALARS[name].numpy(x.astype(np.float32)).astype(dtype.numpy)
        got = kernel(name, dtype, cpu)(x)
        near = np.abs(got.astype(np.float32) - want.astype(np.float32)) <= np.abs(want.astype(np.float32)) * 2.0**-7
        assert near.all()
        assert (got == want).mean() > 0.9
    np.testing.assert_array_equal(kernel("add", dtype, cpu)(x, x[::-1]), x + x[::-1])


def test_any_number_of_lanes(cpu):
    x = np.linspace(-150, 100, 200).astype(np.float32)
    for name in ("exp", "log", "sin", "erf", "pow"):
        args = [np.abs(x), x / 100] if name == "pow" else [x]
        widths = (1, 2, 3, 4, 8, 16, 32, 64)
        made = compile_all({f"{name}{n}": formula(name, dtypes.float32, n) for n in widths})
        alone, *others = (made[f"{name}{n}"](*args) for n in widths)
        for n, got in zip(widths[1:], others, strict=True):
            np.testing.assert_array_equal(got, alone, err_msg=f"{name} in {n} lanes")


def test_text_without_a_target_suits_every_cpu(cpu):
    x = np.linspace(-150, 100, 200).astype(np.float32)
    plain = compile_all({"exp": formula("exp", dtypes.float32, 16)}, portable=True)["exp"]
    np.testing.assert_array_equal(plain(x), kernel("exp", dtypes.float32, cpu)(x))


@pytest.mark.parametrize("dtype", dtypes.DTYPES, ids=str)
def test_no_function_needs_a_library(dtype, cpu):
    module = Module("all", host())
    for lanes in (1, host().lanes(dtype.bits)):
        for name in sorted(scalars.TABLES[dtype.kind]):
            arity = 3 if name == "fma" else te.SCALARS[name].arity
            f = module.function(f"{name}_{lanes}", [("p", PTR)])
            kind = compute_type(dtype, lanes)
            values = [f.load(f.gep(f.params[0], k * 64 * 64), kind) for k in range(arity)]
            f.store(scalars.emit(f, name, values, dtype), f.params[0])
            f.ret()
        for to in dtypes.DTYPES:
            f = module.function(f"to_{to}_{lanes}", [("p", PTR)])
            f.store(scalars.cast(f, f.load(f.params[0], compute_type(dtype, lanes)), dtype, to), f.params[0])
            f.ret()
    assert undefined_symbols(compile_object(str(module), host())) == []


def test_a_function_without_meaning_for_a_dtype_says_so():
    f = Module().function("f", [])
    with pytest.raises(DTypeError, match=r"exp: is not defined for int32. It takes float"):
        scalars.emit(f, "exp", [], dtypes.int32)
