"""The table from scalar functions to instructions: what a formula may say, for any number of lanes and every dtype.

Values are what `llvm.compute_type` says: i1 for bool, float for float16 and bfloat16. Nothing emitted calls a library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from treadle.core.dtypes import DType
from treadle.core.errors import DTypeError

from . import approx, integers, power, trig
from .llvm import I1, Function, Value, compute_type, const
from .memory import narrow, widen
from .real import INF, Real, real


def emit(f: Function, name: str, args: Sequence[Value], dtype: DType) -> Value:
    """The value of scalar function `name` at arguments of `dtype`. Comparisons and predicates give i1."""
    emitter = TABLES[dtype.kind].get(name)
    if emitter is None:
        allowed = ", ".join(kind for kind, table in TABLES.items() if name in table)
        raise DTypeError(f"{name}: is not defined for {dtype.name}. It takes {allowed}. Convert the operands first.")
    return emitter(f, dtype, *args)


def cast(f: Function, value: Value, source: DType, target: DType) -> Value:
    """The value in another dtype, as NumPy's `astype`; floats beyond an integer type saturate and NaN gives 0."""
    if source is target:
        return value
    kind = compute_type(target, value.type.lanes)
    if target.kind == "bool":
        return f.fcmp("une", value, 0.0) if source.is_float else f.icmp("ne", value, 0)
    if source.kind == "bool":
        return f.select(value, const(1, kind), 0)
    if target.is_float:
        return _to_float(f, value, source, target)
    if source.is_float:
        return _float_to_int(f, value, target)
    if source.bits >= target.bits:
        return f.cast("trunc", value, kind.elem)
    return f.cast("sext" if source.kind == "int" else "zext", value, kind.elem)


def _to_float(f: Function, value: Value, source: DType, target: DType) -> Value:
    elem = compute_type(target).elem
    if not source.is_float:
        value = f.cast("sitofp" if source.kind == "int" else "uitofp", value, elem)
    elif source.bits == 64:
        value = f.cast("fptrunc", value, elem) if target.bits == 32 else _round_to_odd(f, value)
    elif target.bits == 64:
        return f.cast("fpext", value, elem)
    if target.bits == 16 and not (source.is_float and source is target):
        return widen(f, narrow(f, value, target), target)  # later steps must not see digits the dtype does not have
    return value


def _round_to_odd(f: Function, value: Value) -> Value:
    """A double as float with the last digit odd where it is inexact, so that rounding it again rounds only once."""
    near = f.cast("fptrunc", value, "float")
    back = f.cast("fpext", near, "double")
    r = real(f, near)
    bits = r.bits(near)
    further = f.fcmp("ogt", f.fabs(value), f.fabs(back))
    step = f.select(further, const(1, bits.type), const(-1, bits.type))
    even = f.icmp("eq", f.and_(bits, 1), 0)
    moved = r.from_bits(f.add(bits, step))
    return f.select(f.and_(f.fcmp("one", value, back), even), moved, near)


def _float_to_int(f: Function, value: Value, target: DType) -> Value:
    r = real(f, value)
    signed = target.kind == "int"
    low = -(1 << (target.bits - 1)) if signed else 0
    high = (1 << (target.bits - 1)) - 1 if signed else (1 << target.bits) - 1
    digits = r.mantissa + 1
    size = high.bit_length()
    below = high if size <= digits else high - (1 << (size - digits)) + 1  # the largest such number that is not above
    safe = r.clamp(f.select(f.fcmp("ord", value, value), value, r.const(0.0)), float(low), float(below))
    if target.bits < 32:
        return f.cast("trunc", f.cast("fptosi", safe, "i32"), f"i{target.bits}")
    result = f.cast("fptosi" if signed else "fptoui", safe, f"i{target.bits}")
    if below == high:
        return result
    return f.select(f.fcmp("ogt", value, float(below)), const(high, result.type), result)


# ---- floats


def _extremum(word: str, r: Real, x: Value, y: Value) -> Value:
    y_if_nan = r.f.fmax(x, y) if word == "max" else r.f.fmin(x, y)
    return r.f.select(r.f.fcmp("uno", x, x), x, y_if_nan)


def _float_sign(r: Real, x: Value) -> Value:
    f = r.f
    unit = f.copysign(r.const(1.0), x)
    return f.select(f.fcmp("one", x, 0.0), unit, f.fabs(x))  # 0 and NaN


def _reciprocal(r: Real, x: Value) -> Value:
    return r.f.fdiv(1.0, x)


def _reciprocal_root(r: Real, x: Value) -> Value:
    return r.f.fdiv(1.0, r.f.sqrt(x))


def _isnan(r: Real, x: Value) -> Value:
    return r.f.fcmp("uno", x, x)


def _isinf(r: Real, x: Value) -> Value:
    return r.f.fcmp("oeq", r.f.fabs(x), INF)


def _isfinite(r: Real, x: Value) -> Value:
    return r.f.fcmp("olt", r.f.fabs(x), INF)


def _signbit(r: Real, x: Value) -> Value:
    return r.f.icmp("slt", r.bits(x), 0)


_REAL: dict[str, Callable[..., Value]] = {
    "floor_div": power.floor_div,
    "mod": power.mod,
    "sign": _float_sign,
    "min": partial(_extremum, "min"),
    "max": partial(_extremum, "max"),
    "pow": power.pow,
    "rsqrt": _reciprocal_root,
    "reciprocal": _reciprocal,
    "exp": approx.exp,
    "exp2": approx.exp2,
    "expm1": approx.expm1,
    "log": approx.log,
    "log1p": approx.log1p,
    "log2": approx.log2,
    "log10": power.log10,
    "sin": trig.sin,
    "cos": trig.cos,
    "tan": trig.tan,
    "tanh": approx.tanh,
    "sinh": approx.sinh,
    "cosh": approx.cosh,
    "asin": trig.asin,
    "acos": trig.acos,
    "atan": trig.atan,
    "atan2": trig.atan2,
    "asinh": approx.asinh,
    "acosh": approx.acosh,
    "atanh": approx.atanh,
    "sigmoid": approx.sigmoid,
    "erf": approx.erf,
    "erfc": approx.erfc,
    "isnan": _isnan,
    "isinf": _isinf,
    "isfinite": _isfinite,
    "signbit": _signbit,
    "nextafter": power.nextafter,
    "hypot": power.hypot,
    "logaddexp": approx.logaddexp,
}
_PLAIN: dict[str, Callable[..., Value]] = {
    "add": Function.fadd,
    "sub": Function.fsub,
    "mul": Function.fmul,
    "div": Function.fdiv,
    "fma": Function.fma,
    "neg": Function.fneg,
    "abs": Function.fabs,
    "sqrt": Function.sqrt,
    "copysign": Function.copysign,
}
_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
_ROUND = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven"}


def _on_real(emitter: Callable[..., Value], f: Function, dtype: DType, *args: Value) -> Value:
    return emitter(real(f, args[0]), *args)


def _plain(method: Callable[..., Value], f: Function, dtype: DType, *args: Value) -> Value:
    return method(f, *args)


def _float_compare(predicate: str, f: Function, dtype: DType, x: Value, y: Value) -> Value:
    return f.fcmp(predicate, x, y)


def _float_round(mode: str, f: Function, dtype: DType, x: Value) -> Value:
    return f.round(x, mode)


_FLOAT: dict[str, Callable[..., Value]] = {
    **{name: partial(_on_real, emitter) for name, emitter in _REAL.items()},
    **{name: partial(_plain, method) for name, method in _PLAIN.items()},
    **{name: partial(_float_compare, predicate) for name, predicate in _COMPARE.items()},
    **{name: partial(_float_round, mode) for name, mode in _ROUND.items()},
}

# ---- integers and bools


def _binary(op: str, f: Function, dtype: DType, a: Value, b: Value) -> Value:
    return f.binary(op, a, b)


def _bool_compare(invert: str, op: str, f: Function, dtype: DType, a: Value, b: Value) -> Value:
    x, y = (f.not_(v) if side in invert else v for side, v in (("a", a), ("b", b)))
    return f.binary(op, x, y)


def _not(f: Function, dtype: DType, a: Value) -> Value:
    return f.not_(a)


def _same(f: Function, dtype: DType, a: Value) -> Value:
    return a


def _answer(answer: bool, f: Function, dtype: DType, a: Value) -> Value:
    return const(answer, I1.with_lanes(a.type.lanes))


_EVERYWHERE: dict[str, Callable[..., Value]] = {
    **{op: partial(_binary, op) for op in ("and", "or", "xor")},
    **dict.fromkeys(_ROUND, _same),
    **{word: partial(_answer, word == "isfinite") for word in ("isnan", "isinf", "isfinite")},
    "not": _not,
}
_INTEGER: dict[str, Callable[..., Value]] = {
    **_EVERYWHERE,
    **{op: partial(_binary, op) for op in ("add", "sub", "mul")},
    **{word: partial(integers.compare, word) for word in _COMPARE},
    **{word: partial(integers.extremum, word) for word in ("min", "max")},
    "floor_div": integers.floor_div,
    "mod": integers.mod,
    "neg": integers.negative,
    "abs": integers.absolute,
    "sign": integers.sign,
    "signbit": integers.signbit,
    "pow": integers.power,
    "reciprocal": integers.reciprocal,
    "shl": integers.shift_left,
    "shr": integers.shift_right,
}
_BOOL: dict[str, Callable[..., Value]] = {
    **_EVERYWHERE,
    **dict.fromkeys(("add", "max"), partial(_binary, "or")),
    **dict.fromkeys(("mul", "min"), partial(_binary, "and")),
    **dict.fromkeys(("sub", "ne"), partial(_binary, "xor")),
    "eq": partial(_bool_compare, "a", "xor"),
    "lt": partial(_bool_compare, "a", "and"),
    "gt": partial(_bool_compare, "b", "and"),
    "le": partial(_bool_compare, "a", "or"),
    "ge": partial(_bool_compare, "b", "or"),
    "pow": partial(_bool_compare, "b", "or"),
    "signbit": partial(_answer, False),
    "abs": _same,
    "sign": _same,
}

# By kind of dtype: name to `(f, dtype, *arguments) -> value`.
TABLES: dict[str, dict[str, Callable[..., Value]]] = {
    "float": _FLOAT,
    "int": _INTEGER,
    "uint": _INTEGER,
    "bool": _BOOL,
}

NAMES = frozenset(name for table in TABLES.values() for name in table)
