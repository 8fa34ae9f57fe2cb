"""Powers, remainders and the like: functions of two numbers whose difficulty is exactness, not speed."""

from __future__ import annotations

from .approx import exp, log_near_one, split
from .llvm import Value, const
from .real import INF, LN2, NAN, Real

# (log((1 + s)/(1 - s))/s - 2 - 2z/3) / z^2 in z = s^2, sqrt(1/2) <= (1 + s)/(1 - s) <= sqrt(2): 2^-73.3
_LOG_TAIL = (
    0.12013443513027568,
    0.11671861806881652,
    0.13336464212585863,
    0.15384553026045086,
    0.18181818927103344,
    0.2222222221707014,
    0.28571428571447044,
    0.39999999999999974,
)
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LOG10E = (0.4342944819032518, 1.098319650216765e-17)
_FAR = (2.0**90, 2.0**800)


def _log_parts(r: Real, x: Value) -> tuple[Value, Value]:
    """Logarithm of a positive finite double as a sum of two numbers, good to about 2^-64 of itself."""
    f = r.f
    _, k, m = split(r, x)
    g = f.fsub(m, 1.0)
    d = f.fadd(g, 2.0)
    d_low = f.fsub(g, f.fsub(d, 2.0))
    s = f.fdiv(g, d)
    s_low = f.fdiv(f.fma(f.fneg(s), d_low, f.fma(f.fneg(s), d, g)), d)
    z = f.fmul(s, s)
    z_low = f.fma(f.fadd(s, s), s_low, f.fma(s, s, f.fneg(z)))
    tail = f.fmul(z, r.poly(z, ((), _LOG_TAIL)))
    c = f.fadd(tail, _TWO_THIRDS[0])
    c_low = f.fadd(f.fadd(f.fsub(_TWO_THIRDS[0], c), tail), _TWO_THIRDS[1])
    p = f.fmul(z, c)
    p_low = f.fma(z_low, c, f.fma(z, c_low, f.fma(z, c, f.fneg(p))))
    q = f.fmul(s, p)
    q_low = f.fma(s_low, p, f.fma(s, p_low, f.fma(s, p, f.fneg(q))))
    twice = f.fadd(s, s)
    near = f.fadd(twice, q)
    near_low = f.fadd(f.fadd(f.fsub(twice, near), q), f.fadd(f.fadd(s_low, s_low), q_low))
    high, low = LN2[r.wide]
    base = f.fmul(k, high)
    base_low = f.fma(k, low, f.fma(k, high, f.fneg(base)))
    total = f.fadd(base, near)
    rest = f.fadd(f.fadd(f.fsub(base, total), near), f.fadd(base_low, near_low))
    result = f.fadd(total, rest)
    return result, f.fadd(f.fsub(total, result), rest)


def log10(r: Real, x: Value) -> Value:
    """Logarithm to base 10; through double-length logarithms, so that powers of ten come out exact."""

    def compute(w: Real, v: Value) -> Value:
        f = w.f
        high, low = _log_parts(w, v)
        y = f.fmul(high, _LOG10E[0])
        rest = f.fma(low, _LOG10E[0], f.fma(high, _LOG10E[1], f.fma(high, _LOG10E[0], f.fneg(y))))
        y = f.fadd(y, rest)
        edge = w.select(f.fcmp("oeq", v, INF), INF, w.const(NAN))
        edge = w.select(f.fcmp("oeq", v, 0.0), -INF, edge)
        return f.select(w.is_positive_finite(v), y, edge)

    return r.in_double(x, compute=compute)


def pow(r: Real, x: Value, y: Value) -> Value:
    """X**y with the special cases of IEEE 754; float is computed in double."""

    def compute(w: Real, base: Value, exponent: Value) -> Value:
        return _positive_power(w, w.f.fabs(base), exponent, extended=r.wide)

    f = r.f
    a = f.fabs(x)
    p = r.in_double(x, y, compute=compute)
    rises = f.fcmp("ogt", y, 0.0)
    p = f.select(f.fcmp("oeq", a, 0.0), r.select(rises, 0.0, r.const(INF)), p)
    p = f.select(f.fcmp("oeq", a, INF), r.select(rises, INF, r.const(0.0)), p)
    p = r.select(f.fcmp("oeq", a, 1.0), 1.0, p)
    half = f.fmul(y, 0.5)
    whole = f.fcmp("oeq", f.round(y, "trunc"), y)
    odd = f.and_(whole, f.fcmp("one", f.round(half, "trunc"), half))
    p = f.select(odd, f.copysign(p, x), p)
    p = r.select(f.and_(f.and_(f.fcmp("olt", x, 0.0), f.fcmp("ogt", x, -INF)), f.not_(whole)), NAN, p)
    p = r.select(f.fcmp("uno", x, y), NAN, p)
    return r.select(f.or_(f.fcmp("oeq", y, 0.0), f.fcmp("oeq", x, 1.0)), 1.0, p)


def _positive_power(w: Real, a: Value, y: Value, *, extended: bool) -> Value:
    """exp(y log(a)) in double for positive finite a; `extended` where all of the double's digits are wanted."""
    f = w.f
    if not extended:
        _, k, m = split(w, a)
        return exp(w, f.fmul(y, log_near_one(w, f.fsub(m, 1.0), k)))
    high, low = _log_parts(w, a)
    e = f.fmul(y, high)
    rest = f.fma(y, low, f.fma(y, high, f.fneg(e)))
    return exp(w, e, low_part=w.select(f.fcmp("olt", f.fabs(e), 1024.0), rest, w.const(0.0)))


def hypot(r: Real, x: Value, y: Value) -> Value:
    """`sqrt(x^2 + y^2)` without overflow on the way; infinite if either is, even beside NaN."""
    f = r.f

    def compute(w: Real, a: Value, b: Value) -> Value:
        if not r.wide:
            return f.sqrt(f.fma(a, a, f.fmul(b, b)))
        a, b = f.fabs(a), f.fabs(b)
        size = f.fmax(a, b)
        large, small = f.fcmp("ogt", size, 2.0**500), f.fcmp("olt", size, 2.0**-500)
        up = w.select(large, 2.0**-600, w.select(small, 2.0**600, w.const(1.0)))
        down = w.select(large, 2.0**600, w.select(small, 2.0**-600, w.const(1.0)))
        a, b = f.fmul(a, up), f.fmul(b, up)
        return f.fmul(f.sqrt(f.fma(a, a, f.fmul(b, b))), down)

    either = f.or_(f.fcmp("oeq", f.fabs(x), INF), f.fcmp("oeq", f.fabs(y), INF))
    return r.select(either, INF, r.in_double(x, y, compute=compute))


def _truncated_remainder(r: Real, x: Value, y: Value) -> Value:
    """|x| modulo |y| with the sign of x, exact.

    A rounded quotient leaves a remainder that is representable, perhaps a negative one. It has no more correct digits
    than the type, so that far numbers take several turns; one turn is usual.
    """
    f = r.f
    b = f.fabs(y)

    def unfinished(carried: tuple[Value, ...]) -> Value:
        return f.any(f.fcmp("oge", f.fabs(carried[0]), b))

    def turn(carried: tuple[Value, ...]) -> list[Value]:
        (a,) = carried
        size, divisor = f.fabs(a), b
        for _ in range(2):  # a multiple of y near x, so that the quotient is finite
            far = f.fmul(divisor, r.pick(_FAR))
            divisor = f.select(f.fcmp("oge", size, far), far, divisor)
        quotient = f.round(f.fdiv(a, divisor), "trunc")
        rest = f.fma(f.fneg(quotient), divisor, a)
        return [f.select(f.fcmp("oge", size, b), rest, a)]

    legal = f.and_(f.fcmp("olt", f.fabs(x), INF), f.fcmp("ogt", b, 0.0))
    start = r.select(legal, f.fabs(x), r.const(NAN))  # NaN ends the loop
    (rest,) = f.while_([start], unfinished, turn)
    return f.copysign(f.select(f.fcmp("olt", rest, 0.0), f.fadd(rest, b), rest), x)


def _signs_differ(r: Real, rest: Value, y: Value) -> Value:
    f = r.f
    return f.and_(f.icmp("slt", f.xor(r.bits(rest), r.bits(y)), 0), f.fcmp("one", rest, 0.0))


def mod(r: Real, x: Value, y: Value) -> Value:
    """Remainder with the sign of the divisor, as Python's."""
    f = r.f
    rest = _truncated_remainder(r, x, y)
    floored = f.select(_signs_differ(r, rest, y), f.fadd(rest, y), rest)
    return f.select(f.fcmp("oeq", rest, 0.0), f.copysign(r.const(0.0), y), floored)


def floor_div(r: Real, x: Value, y: Value) -> Value:
    """Largest whole number not above x / y: from the exact remainder, as the quotient alone may round up.

    Where x or y is infinite or y is 0, x / y is whole, infinite or NaN itself.
    """
    f = r.f
    rest = _truncated_remainder(r, x, y)
    q = f.fdiv(f.fsub(x, rest), y)
    q = f.select(_signs_differ(r, rest, y), f.fsub(q, 1.0), q)
    whole = f.round(q, "floor")
    whole = f.select(f.fcmp("ogt", f.fsub(q, whole), 0.5), f.fadd(whole, 1.0), whole)
    plain = f.fdiv(x, y)
    whole = f.select(f.fcmp("oeq", q, 0.0), f.copysign(r.const(0.0), plain), whole)
    infinite = f.or_(f.fcmp("oeq", f.fabs(x), INF), f.fcmp("oeq", f.fabs(y), INF))
    return f.select(f.or_(f.fcmp("oeq", y, 0.0), infinite), plain, whole)


def nextafter(r: Real, x: Value, y: Value) -> Value:
    """The neighbour of x in the direction of y."""
    f = r.f
    bits = r.bits(x)
    away = f.icmp("eq", f.icmp("sgt", bits, -1), f.fcmp("olt", x, y))
    step = f.select(away, const(1, r.int_kind), const(-1, r.int_kind))
    moved = r.from_bits(f.add(bits, step))
    tiny = f.copysign(r.from_bits(const(1, r.int_kind)), y)
    moved = f.select(f.fcmp("oeq", x, 0.0), tiny, moved)
    moved = f.select(f.fcmp("oeq", x, y), y, moved)
    return r.select(f.fcmp("uno", x, y), NAN, moved)
