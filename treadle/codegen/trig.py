"""Trigonometric functions and their inverses.

Sine, cosine and tangent reduce by multiples of pi/2: in three fused multiply-adds up to `FAST_RANGE`, and exactly, with
1152 bits of 2/pi in integer arithmetic, for the rare vector with a larger argument. No finite argument is too large.
"""

from __future__ import annotations

from itertools import pairwise

from .llvm import F64, I64, PTR, Function, Module, Value, VType, const
from .real import HALF_PI, INF, NAN, Real

# (sin(x)/x - 1) / x^2 in z = x^2, x <= 1.02 pi/4: 2^-27.7, 2^-57.5
_SIN = (
    (-0.00019505145610310137, 0.008332093246281147, -0.16666653752326965),
    (
        1.588971100281999e-10,
        -2.5050636552295442e-08,
        2.75573129211689e-06,
        -0.00019841269827607726,
        0.008333333333319702,
        -0.1666666666666662,
    ),
)
# (cos(x) - 1 + z/2) / z^2 in z = x^2: 2^-32.6, 2^-63.5
_COS = (
    (2.4412085622316226e-05, -0.0013887130189687014, 0.04166664183139801),
    (
        -1.1354089224146724e-11,
        2.0875615558853754e-09,
        -2.755731355793807e-07,
        2.4801587286728944e-05,
        -0.0013888888888869719,
        0.041666666666666574,
    ),
)
# (atan(x)/x - 1) / x^2 in z = x^2, x <= tan(pi/8): 2^-30.4, 2^-58.3
_ATAN = (
    (-0.0608733706176281, 0.10598265379667282, -0.1424429714679718, 0.19998525083065033, -0.33333316445350647),
    (
        0.015166756710346563,
        -0.03344593036516429,
        0.04502297217371036,
        -0.05218089102245161,
        0.05876971552779898,
        -0.06666221482088751,
        0.07692282390509493,
        -0.09090908127705612,
        0.1111111108769468,
        -0.14285714285379952,
        0.19999999999997603,
        -0.33333333333333326,
    ),
)
# (asin(x)/x - 1) / x^2 in z = x^2, x <= 1/2: 2^-27.6, 2^-55.8
_ASIN = (
    (0.04216641187667847, 0.02418077364563942, 0.045469772070646286, 0.07495306432247162, 0.16666752099990845),
    (
        0.03193473258362362,
        -0.01625644603775099,
        0.019548400633431776,
        0.006520761308555957,
        0.012170845184251503,
        0.013884992134866225,
        0.017359728818465432,
        0.02237175649595949,
        0.030381959199977267,
        0.04464285682684927,
        0.07500000000338734,
        0.16666666666665403,
    ),
)

FAST_RANGE = (131072.0, 1073741824.0)
_TWO_OVER_PI = (0.6366197723675814, 0.6366197723675814)
_HALF_PI_THIRD = (-1.7151245100058819e-15, -1.4973849048591698e-33)
_TAN_EIGHTH = 0.41421356237309503
# 2/pi after the binary point, 64 bits a word, with a word of zeros before it.
_BITS = (
    0x0000000000000000, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0, 0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41,
    0x3991D639835339F4, 0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D, 0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB,
)  # fmt: skip


def _write_reduction(module: Module) -> Function:
    """`double reduce_by_half_pi(double x, ptr n)` for finite |x| >= 2**16: x - n pi/2, and n modulo 4 (as i64).

    x = m 2**e with a whole m. Words of 2/pi that contribute whole turns are left out, so that the product of m with the
    next 192 bits is x / (2 pi) modulo 1, in fixed point.
    """
    f = module.function("reduce_by_half_pi", [("x", F64), ("n", PTR)], result=F64, internal=True)
    i128 = VType("i128")
    table = module.table("two_over_pi_bits", _BITS, I64)
    x, place = f.params
    bits = f.bitcast(x, I64)
    exponent = f.and_(f.lshr(bits, 52), 0x7FF)
    m = f.or_(f.and_(bits, (1 << 52) - 1), 1 << 52)
    first = f.add(exponent, 64 - 2 - 1075)  # the bit of weight 2**(e - 2) in 2/pi, counted in the table
    word, shift = f.lshr(first, 6), f.and_(first, 63)
    words = [f.load(f.gep(table, f.iadd(word, k), I64), I64) for k in range(4)]
    high, middle, low = (f.intrinsic("llvm.fshl", I64, a, b, shift) for a, b in pairwise(words))

    def product(a: Value) -> Value:
        return f.mul(f.cast("zext", a, "i128"), f.cast("zext", m, "i128"))

    tail = f.add(product(middle), f.lshr(product(low), 64))
    turns = f.add(f.shl(product(high), 64), tail)
    quarter = f.lshr(f.add(turns, 1 << 125), 126)
    rest = f.sub(turns, f.shl(quarter, 126))
    negative = f.icmp("slt", rest, 0)
    size = f.select(negative, f.sub(0, rest), rest)
    zeros = f.intrinsic("llvm.ctlz", i128, size, Value("false", VType("i1")))
    top = f.cast("trunc", f.lshr(f.shl(size, zeros), 64 + 11), "i64")
    unit = f.bitcast(f.shl(f.sub(1023 - 53, f.cast("trunc", zeros, "i64")), 52), F64)
    angle = f.fmul(f.fmul(f.cast("sitofp", top, "double"), unit), 6.283185307179586)
    angle = f.select(negative, f.fneg(angle), angle)
    backwards = f.icmp("slt", bits, 0)
    n = f.cast("trunc", quarter, "i64")
    f.store(f.select(backwards, f.sub(0, n), n), place)
    angle = f.select(backwards, f.fneg(angle), angle)
    f.ret(f.select(f.icmp("eq", exponent, 0x7FF), const(NAN, F64), angle))
    return f


def reduce_half_pi(r: Real, x: Value) -> tuple[Value, Value]:
    """X - n pi/2, at most a little over pi/4 in size, and whole n (its low two bits are what counts)."""
    f = r.f
    t = f.fma(x, r.pick(_TWO_OVER_PI), r.magic)
    n = f.fsub(t, r.magic)
    rest = f.fma(n, -HALF_PI[r.wide][0], x)
    rest = f.fma(n, -HALF_PI[r.wide][1], rest)
    rest = f.fma(n, -r.pick(_HALF_PI_THIRD), rest)
    whole = r.bits(t)
    big = f.fcmp("ogt", f.fabs(x), r.pick(FAST_RANGE))
    lanes = r.kind.lanes

    def exactly() -> list[Value]:
        reduction = f.module.shared("reduce_by_half_pi", _write_reduction)
        numbers = f.alloca(F64, lanes)
        wholes = f.alloca(I64, lanes)
        f.store(f.cast("fpext", x, "double"), numbers)

        def lane(i: Value, _: tuple[Value, ...]) -> None:
            place = f.gep(numbers, i, F64)
            value = f.load(place, F64)
            safe = f.select(f.fcmp("ogt", f.fabs(value), 65536.0), value, 65536.0)
            f.store(f.call(reduction, safe, f.gep(wholes, i, I64)), place)

        f.loop(0, lanes, 1, (), lane)
        exact = f.cast("fptrunc", f.load(numbers, F64.with_lanes(lanes)), r.kind.elem)
        count = f.cast("trunc", f.load(wholes, I64.with_lanes(lanes)), r.int_kind.elem)
        return [f.select(big, exact, rest), f.select(big, count, whole)]

    reduced, number = f.if_(f.any(big), exactly, lambda: [rest, whole])
    return reduced, number


def _sin_cos(r: Real, x: Value) -> tuple[Value, Value]:
    """Sine and cosine of |x| <= pi/4."""
    f = r.f
    z = f.fmul(x, x)
    sine = f.fma(f.fmul(r.poly(z, _SIN), z), x, x)
    cosine = f.fma(f.fmul(r.poly(z, _COS), z), z, f.fma(z, -0.5, 1.0))
    return sine, cosine


def _quarter(r: Real, x: Value, n: Value) -> Value:
    """Sine of x + n pi/2."""
    f = r.f
    sine, cosine = _sin_cos(r, x)
    odd = f.icmp("ne", f.and_(n, 1), 0)
    y = f.select(odd, cosine, sine)
    sign = f.shl(f.and_(n, 2), r.int_kind.elem_bits - 2)
    return r.from_bits(f.xor(r.bits(y), sign))


def sin(r: Real, x: Value) -> Value:
    """Sine."""
    reduced, n = reduce_half_pi(r, x)
    return r.f.select(r.f.fcmp("oeq", x, 0.0), x, _quarter(r, reduced, n))


def cos(r: Real, x: Value) -> Value:
    """Cosine."""
    reduced, n = reduce_half_pi(r, x)
    return _quarter(r, reduced, r.f.add(n, 1))


def tan(r: Real, x: Value) -> Value:
    """Tangent: sine over cosine, or -cosine over sine in odd quarters."""
    f = r.f
    reduced, n = reduce_half_pi(r, x)
    sine, cosine = _sin_cos(r, reduced)
    odd = f.icmp("ne", f.and_(n, 1), 0)
    y = f.fdiv(f.select(odd, f.fneg(cosine), sine), f.select(odd, sine, cosine))
    return f.select(f.fcmp("oeq", x, 0.0), x, y)


def _atan_ratio(r: Real, top: Value, bottom: Value) -> Value:
    """atan(top / bottom) for 0 <= top <= bottom, bottom > 0; pi/4 + atan((t - 1)/(t + 1)) above t = tan(pi/8)."""
    f = r.f
    above = f.fcmp("ogt", top, f.fmul(bottom, _TAN_EIGHTH))
    t = f.fdiv(f.select(above, f.fsub(top, bottom), top), f.select(above, f.fadd(top, bottom), bottom))
    z = f.fmul(t, t)
    tail = f.fmul(f.fmul(r.poly(z, _ATAN), z), t)
    high, low = (h / 2 for h in HALF_PI[r.wide])
    tail = f.fadd(tail, r.select(above, low, r.const(0.0)))
    return f.fadd(r.select(above, high, r.const(0.0)), f.fadd(t, tail))


def atan(r: Real, x: Value) -> Value:
    """Inverse of tangent: of 1/|x| where |x| > 1."""
    f = r.f
    a = f.fabs(x)
    over = f.fcmp("ogt", a, 1.0)
    bottom = f.select(over, a, r.const(1.0))
    y = _atan_ratio(r, r.select(over, 1.0, a), bottom)
    high, low = HALF_PI[r.wide]
    y = f.select(over, f.fsub(high, f.fsub(y, low)), y)
    return f.copysign(y, x)


def atan2(r: Real, y: Value, x: Value) -> Value:
    """Angle of the point (x, y), in the quadrant of the signs, also of zeros and infinities."""
    f = r.f
    ay, ax = f.fabs(y), f.fabs(x)
    top, bottom = f.fmin(ay, ax), f.fmax(ay, ax)
    endless = f.fcmp("oeq", bottom, INF)
    both = f.fcmp("oeq", top, INF)
    shrink = r.select(f.fcmp("ogt", bottom, 2.0 ** (r.bias - 1)), 0.25, r.const(1.0))  # top + bottom must be finite
    top, bottom = f.fmul(top, shrink), f.fmul(bottom, shrink)
    top = f.select(endless, r.select(both, 1.0, r.const(0.0)), top)
    flat = f.or_(endless, f.fcmp("oeq", bottom, 0.0))
    angle = _atan_ratio(r, top, r.select(flat, 1.0, bottom))
    high, low = HALF_PI[r.wide]
    angle = f.select(f.fcmp("ogt", ay, ax), f.fsub(high, f.fsub(angle, low)), angle)
    left = f.icmp("slt", r.bits(x), 0)
    angle = f.select(left, f.fsub(2 * high, f.fsub(angle, 2 * low)), angle)
    return r.select(f.fcmp("uno", x, y), NAN, f.copysign(angle, y))


def _asin_parts(r: Real, x: Value) -> tuple[Value, Value, Value]:
    """|x|, whether it is at most 1/2, and asin of it, or of sqrt((1 - |x|)/2) above 1/2."""
    f = r.f
    a = f.fabs(x)
    inner = f.fcmp("ole", a, 0.5)
    outer = f.fmul(f.fsub(1.0, a), 0.5)
    z = f.select(inner, f.fmul(a, a), outer)
    s = f.select(inner, a, f.sqrt(outer))
    return a, inner, f.fma(f.fmul(r.poly(z, _ASIN), z), s, s)


def asin(r: Real, x: Value) -> Value:
    """Inverse of sine; above 1/2 by pi/2 less twice that of sqrt((1 - |x|)/2)."""
    f = r.f
    _, inner, p = _asin_parts(r, x)
    high, low = HALF_PI[r.wide]
    outer = f.fsub(high, f.fsub(f.fadd(p, p), low))
    return f.copysign(f.select(inner, p, outer), x)


def acos(r: Real, x: Value) -> Value:
    """Inverse of cosine: 2 asin(sqrt((1 - |x|)/2)) above 1/2."""
    f = r.f
    _, inner, p = _asin_parts(r, x)
    high, low = HALF_PI[r.wide]
    twice = f.fadd(p, p)
    outer = f.select(f.fcmp("olt", x, 0.0), f.fsub(2 * high, f.fsub(twice, 2 * low)), twice)
    near = f.fsub(high, f.fsub(f.copysign(p, x), low))
    return f.select(inner, near, outer)
