"""Float arithmetic for writing approximations once for float and double: constants come in pairs, bits are at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .llvm import F32, F64, Function, Operand, Value, VType, const

# A number, or a polynomial's coefficients from the highest power, for float and for double.
Pair = tuple[float, float]
Coefficients = tuple[Sequence[float], Sequence[float]]

INF = float("inf")
NAN = float("nan")
LN2 = ((0.6931471824645996, -1.9046542121259336e-09), (0.6931471805599453, 2.3190468138462996e-17))
LOG2E = ((1.4426950216293335, 1.925963033500011e-08), (1.4426950408889634, 2.0355273740931033e-17))
HALF_PI = ((1.5707963705062866, -4.371138828673793e-08), (1.5707963267948966, 6.123233995736766e-17))
_SCALEF = {("float", 16): "ps.512", ("float", 8): "ps.256", ("float", 4): "ps.128"} | {
    ("double", 8): "pd.512",
    ("double", 4): "pd.256",
    ("double", 2): "pd.128",
}


class Real:
    """Instructions on one float type of a function being written."""

    def __init__(self, f: Function, kind: VType) -> None:
        assert kind.elem in ("float", "double"), f"no float arithmetic on {kind}"
        self.f = f
        self.kind = kind
        self.wide = kind.elem == "double"
        self.int_kind = kind.with_elem("i64" if self.wide else "i32")
        self.mantissa = 52 if self.wide else 23
        self.bias = 1023 if self.wide else 127
        self.min_normal = 2.0 ** (1 - self.bias)
        self.magic = 1.5 * 2.0**self.mantissa  # added to a small number, leaves its nearest integer in the low bits
        self.magic_bits = 0x4338000000000000 if self.wide else 0x4B400000
        self.inf_bits = (2 * self.bias + 1) << self.mantissa

    def const(self, value: float) -> Value:
        """The number in every lane."""
        return const(value, self.kind)

    def pick(self, pair: Pair) -> float:
        """The member of a pair that belongs to this type."""
        return pair[self.wide]

    def poly(self, x: Value, coefficients: Coefficients) -> Value:
        """The polynomial at x by Horner's rule."""
        first, *rest = coefficients[self.wide]
        y = self.const(first)
        for c in rest:
            y = self.f.fma(y, x, c)
        return y

    def bits(self, x: Value) -> Value:
        """The number's bits as integers."""
        return self.f.bitcast(x, self.int_kind)

    def from_bits(self, x: Value) -> Value:
        """The number with these bits."""
        return self.f.bitcast(x, self.kind)

    def power_of_two(self, k: Value, offset: int = 0) -> Value:
        """2**(k + offset) for integers within the range of normal numbers."""
        return self.from_bits(self.f.shl(self.f.add(k, self.bias + offset), self.mantissa))

    def clamp(self, x: Value, low: float, high: float) -> Value:
        """X between the bounds; NaN stays."""
        return self.f.fmin(self.const(high), self.f.fmax(self.const(low), x))

    def scale(self, x: Value, n: Value) -> Value:
        """X * 2**n for numbers n that are whole, with one rounding, also into denormals and infinity."""
        f = self.f
        target = f.module.target
        if target is not None and target.has_avx512 and self.kind.lanes > 1:
            if name := _SCALEF.get((self.kind.elem, self.kind.lanes)):
                return self._scalef(name, x, n)
            if self.kind.lanes * self.kind.elem_nbytes > 64:
                half = Real(f, self.kind.with_lanes(self.kind.lanes // 2))
                low, high = (half.scale(f.half(x, high=h), f.half(n, high=h)) for h in (False, True))
                return f.join(low, high)
        # Half of the exponent at a time, since 2**n itself may not be representable.
        k = f.sub(self.bits(f.fadd(n, self.magic)), self.magic_bits)
        first = f.ashr(k, 1)
        return f.fmul(f.fmul(x, self.power_of_two(first)), self.power_of_two(f.sub(k, first)))

    def _scalef(self, name: str, x: Value, n: Value) -> Value:
        args = [x, n, self.const(0.0), const(-1, VType("i16" if self.kind.lanes == 16 else "i8"))]
        if name.endswith("512"):
            args.append(const(4, VType("i32")))
        return self.f.intrinsic(f"llvm.x86.avx512.mask.scalef.{name}", self.kind, *args, overload=())

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """A where the condition holds, else b."""
        x = a if isinstance(a, Value) else self.const(a)
        return self.f.select(condition, x, b)

    def is_positive_finite(self, x: Value) -> Value:
        """Whether 0 < x < inf, by one integer comparison."""
        return self.f.icmp("ult", self.f.sub(self.bits(x), 1), const(self.inf_bits - 1, self.int_kind))

    def in_double(self, x: Value, *others: Value, compute: Callable[..., Value]) -> Value:
        """Compute(real, x, ...) in double; for float the result is rounded once more."""
        if self.wide:
            return compute(self, x, *others)
        wide = Real(self.f, self.kind.with_elem("double"))
        y = compute(wide, *(self.f.cast("fpext", v, "double") for v in (x, *others)))
        return self.f.cast("fptrunc", y, "float")


def real(f: Function, x: Value) -> Real:
    """The arithmetic of a value's type."""
    assert x.type.elem in (F32.elem, F64.elem), f"{x.type} is not computed with as a float"
    return Real(f, x.type)
