"""Integer functions of the scalar table: NumPy's results, without traps. Division by zero gives 0."""

from __future__ import annotations

from treadle.core.dtypes import DType

from .llvm import Function, Value, const


def _is_literal(x: Value) -> bool:
    return not x.name.startswith("%")


def _signed(dtype: DType) -> bool:
    return dtype.kind == "int"


def compare(predicate: str, f: Function, dtype: DType, a: Value, b: Value) -> Value:
    """Comparison by a word such as `lt`, signed or not as the dtype is."""
    prefix = "" if predicate in ("eq", "ne") else "s" if _signed(dtype) else "u"
    return f.icmp(prefix + predicate, a, b)


def extremum(word: str, f: Function, dtype: DType, a: Value, b: Value) -> Value:
    """`min` or `max`."""
    return f.intrinsic(f"llvm.{'s' if _signed(dtype) else 'u'}{word}", a.type, a, b)


def absolute(f: Function, dtype: DType, a: Value) -> Value:
    """Magnitude; the smallest number stays itself."""
    return f.select(f.icmp("slt", a, 0), f.sub(0, a), a) if _signed(dtype) else a


def negative(f: Function, dtype: DType, a: Value) -> Value:
    """0 - a, wrapping."""
    return f.sub(0, a)


def signbit(f: Function, dtype: DType, a: Value) -> Value:
    """Whether a < 0."""
    return f.icmp("slt", a, 0) if _signed(dtype) else const(0, a.type.with_elem("i1"))


def sign(f: Function, dtype: DType, a: Value) -> Value:
    """-1, 0 or 1."""
    positive = f.select(compare("gt", f, dtype, a, const(0, a.type)), const(1, a.type), 0)
    return f.select(f.icmp("slt", a, 0), const(-1, a.type), positive) if _signed(dtype) else positive


def _truncated_quotient(f: Function, dtype: DType, a: Value, b: Value) -> Value:
    """A / b towards zero for b that is neither 0 nor makes the quotient overflow.

    Vectors have no integer division: up to 32 bits a float quotient, cut, is exact, since two quotients differ by more
    than its rounding.
    """
    word = "s" if _signed(dtype) else "u"
    if dtype.bits == 64 or a.type.lanes == 1 or _is_literal(b):  # dividing by a literal is a multiplication
        return f.binary(f"{word}div", a, b)
    if dtype.bits < 32:
        a, b = (f.cast(f"{word}ext".replace("u", "z"), v, "i32") for v in (a, b))
        q = f.fdiv(f.cast("sitofp", a, "float"), f.cast("sitofp", b, "float"))
        return f.cast("trunc", f.cast("fptosi", q, "i32"), f"i{dtype.bits}")
    q = f.fdiv(f.cast(f"{word}itofp", a, "double"), f.cast(f"{word}itofp", b, "double"))
    return f.cast(f"fpto{word}i", q, "i32")


def _divide(f: Function, dtype: DType, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """Quotient and remainder towards minus infinity, for the divisor 1 where b is 0, and whether it is."""
    zero = f.icmp("eq", b, 0)
    if not _signed(dtype):
        safe = b if _is_literal(b) and b.const_int else f.select(zero, const(1, b.type), b)
        q = _truncated_quotient(f, dtype, a, safe)
        return q, f.sub(a, f.mul(q, safe)), zero
    # The smallest number by -1 overflows and traps; by 1 it gives the bits that wrapping would.
    smallest = f.and_(f.icmp("eq", a, const(-(1 << (dtype.bits - 1)), a.type)), f.icmp("eq", b, -1))
    safe = f.select(f.or_(zero, smallest), const(1, b.type), b)
    if _is_literal(b) and (b.const_int or 0) > 0:
        safe = b
    q = _truncated_quotient(f, dtype, a, safe)
    rest = f.sub(a, f.mul(q, safe))
    below = f.and_(f.icmp("ne", rest, 0), f.icmp("slt", f.xor(rest, safe), 0))
    return f.select(below, f.sub(q, 1), q), f.select(below, f.add(rest, safe), rest), zero


def floor_div(f: Function, dtype: DType, a: Value, b: Value) -> Value:
    """Quotient rounded towards minus infinity."""
    q, _, zero = _divide(f, dtype, a, b)
    return f.select(zero, const(0, a.type), q)


def mod(f: Function, dtype: DType, a: Value, b: Value) -> Value:
    """Remainder with the sign of the divisor."""
    _, rest, zero = _divide(f, dtype, a, b)
    return f.select(zero, const(0, a.type), rest)


def reciprocal(f: Function, dtype: DType, a: Value) -> Value:
    """1 / a towards zero: a itself for 1 and -1, else 0."""
    size = absolute(f, dtype, a)
    return f.select(f.icmp("eq", size, 1), a, const(0, a.type))


def power(f: Function, dtype: DType, a: Value, n: Value) -> Value:
    """A power by squaring, wrapping. For negative n what 1 / a**-n is towards zero, and 0 for a = 0."""
    count = absolute(f, dtype, n)

    def go_on(carried: tuple[Value, ...]) -> Value:
        return f.any(f.icmp("ne", carried[2], 0))

    def square(carried: tuple[Value, ...]) -> list[Value]:
        result, base, left = carried
        odd = f.icmp("ne", f.and_(left, 1), 0)
        return [f.select(odd, f.mul(result, base), result), f.mul(base, base), f.lshr(left, 1)]

    result, _, _ = f.while_([const(1, a.type), a, count], go_on, square)
    if not _signed(dtype):
        return result
    unit = f.icmp("eq", absolute(f, dtype, a), 1)
    return f.select(f.and_(f.icmp("slt", n, 0), f.not_(unit)), const(0, a.type), result)


def shift_left(f: Function, dtype: DType, a: Value, n: Value) -> Value:
    """Shift left; 0 from the width on and for negative n."""
    far = f.icmp("uge", n, dtype.bits)
    return f.select(far, const(0, a.type), f.shl(a, f.select(far, const(0, n.type), n)))


def shift_right(f: Function, dtype: DType, a: Value, n: Value) -> Value:
    """Shift right, keeping the sign; from the width on and for negative n all digits are gone."""
    if _signed(dtype):
        return f.ashr(a, f.intrinsic("llvm.umin", n.type, n, const(dtype.bits - 1, n.type)))
    far = f.icmp("uge", n, dtype.bits)
    return f.select(far, const(0, a.type), f.lshr(a, f.select(far, const(0, n.type), n)))
