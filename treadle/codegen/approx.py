"""Exponentials, logarithms, hyperbolic and error functions as branch-free polynomials with fused multiply-add.

Polynomials are minimax fits (Remez exchange, relative error on the stated range in the comment, float then double);
errors in ulp of the whole functions are in `tests/codegen/test_scalars.py`.
"""

from __future__ import annotations

from .llvm import Value, const
from .real import INF, LN2, LOG2E, NAN, Real

# (exp(r) - 1 - r) / r^2, |r| <= ln(2)/2: 2^-27.9, 2^-56.6
_EXP = (
    (0.0013813140103593469, 0.008369418792426586, 0.04166845604777336, 0.16666515171527863, 0.4999999403953552),
    (
        2.5111203977733924e-08,
        2.763415656945372e-07,
        2.755723924445504e-06,
        2.480148330477921e-05,
        0.0001984126988935184,
        0.001388888895141117,
        0.008333333333321294,
        0.04166666666651012,
        0.16666666666666674,
        0.5000000000000011,
    ),
)
# The same weighted for exp(r) - 1: 2^-25.7, 2^-59.4
_EXPM1 = (
    (0.0013862840132787824, 0.008369973860681057, 0.04166755452752113, 0.16666516661643982, 0.4999999701976776),
    (
        2.087543303001003e-09,
        2.511010970951008e-08,
        2.755740554290556e-07,
        2.755724137007459e-06,
        2.480158716525184e-05,
        0.0001984126988868195,
        0.001388888888896808,
        0.008333333333320739,
        0.04166666666666649,
        0.16666666666666677,
        0.5,
    ),
)
# (log(1 + f) - f + f^2/2) / f^3, sqrt(1/2) <= 1 + f <= sqrt(2): 2^-27.3
_LOG_FLOAT = (
    -0.07634494453668594,
    0.12765465676784515,
    -0.13161969184875488,
    0.1420135796070099,
    -0.16623148322105408,
    0.20001237094402313,
    -0.2500082552433014,
    0.3333333134651184,
)
# (log((1 + s)/(1 - s))/s - 2) / s^2 in z = s^2, the same range: 2^-59.5
_LOG_DOUBLE = (
    0.14798870501866113,
    0.1531377713451637,
    0.18183574239001385,
    0.22222198398636295,
    0.2857142874391274,
    0.3999999999940874,
    0.6666666666666735,
)
# (tanh(x)/x - 1) / x^2 in z = x^2, x <= 0.625 and 0.55: 2^-27.7, 2^-58.8
_TANH = (
    (-0.005692296661436558, 0.02062816731631756, -0.05373651534318924, 0.13331405818462372, -0.3333328068256378),
    (
        7.4489563034433664e-06,
        -3.29666404184868e-05,
        9.396810141022431e-05,
        -0.00023821461339567626,
        0.0005898332052892803,
        -0.0014558058794647921,
        0.003592125166475396,
        -0.008863235336526764,
        0.021869488527838918,
        -0.053968253968043965,
        0.13333333333333067,
        -0.3333333333333333,
    ),
)
_TANH_SMALL = (0.625, 0.55)
# (sinh(x)/x - 1) / x^2 in z = x^2, x <= 1: 2^-25.2, 2^-61.8
_SINH = (
    (0.00020372193830553442, 0.008330283686518669, 0.1666671633720398),
    (
        7.776592891412796e-13,
        1.6056659414289595e-10,
        2.5052130996058065e-08,
        2.7557319106768e-06,
        0.00019841269841593394,
        0.008333333333332912,
        0.16666666666666669,
    ),
)
# erf(x)/x - 1 in z = x^2, x <= 1.15 and 1: 2^-26.1, 2^-56.3
_ERF_SMALL = (1.15, 1.0)
_ERF = (
    (
        6.85633858665824e-05,
        -0.0007688840269111097,
        0.005149473436176777,
        -0.026832159608602524,
        0.11283040046691895,
        -0.3761257529258728,
        0.12837915122509003,
    ),
    (
        5.945261359788205e-11,
        -1.1365665738220256e-09,
        1.465787982559904e-08,
        -1.6350025234801674e-07,
        1.6460972820693941e-06,
        -1.4925593507377258e-05,
        0.00012055331036936539,
        -0.0008548326978743897,
        0.005223977624780913,
        -0.026866170645072903,
        0.11283791670954857,
        -0.3761263890318375,
        0.1283791670955126,
    ),
)
# 1 - erf(t + 2.5), 1.15 <= t + 2.5 <= 4, absolute error: 2^-26.4. At the end it is below 2^-25, so that erf is 1 there.
_ERF_TAIL = (
    -1.362908051305567e-06,
    9.808184586290736e-06,
    -1.2624622286239173e-05,
    -6.560151086887345e-05,
    0.0002589594223536551,
    -0.000278985797194764,
    -0.0005477695376612246,
    0.002811211859807372,
    -0.006115638185292482,
    0.008618200197815895,
    -0.008350343443453312,
    0.005446223076432943,
    -0.002178271533921361,
    0.0004069417773280293,
)
_ERF_TAIL_CENTRE, _ERF_TAIL_END = 2.5, 4.0
# (1 + 2x) exp(x^2) erfc(x) in t = (x - c)/(x + c), 0.5 <= x <= 11 and 28: 2^-25.8, 2^-54.5
_ERFC_CENTRE, _ERFC_END = (2.0, 4.0), (11.0, 28.0)
_ERFC = (
    (
        -0.0001977960200747475,
        -0.0012685325928032398,
        0.0011227696668356657,
        0.008660724386572838,
        -0.007998921908438206,
        -0.05421146750450134,
        0.16404803097248077,
        -0.16603082418441772,
        -0.0927637442946434,
        1.2769783735275269,
    ),
    (
        -1.0026089696528249e-08,
        -1.2126233865499536e-08,
        1.0430919922863064e-07,
        6.675901824438544e-08,
        -8.207695357886127e-07,
        2.998627056583358e-07,
        5.707333181878491e-06,
        -1.1224924842773612e-05,
        -2.439839562581826e-05,
        0.00015062256815515985,
        -0.00019925688045953615,
        -0.0007577734656728045,
        0.005031970005371899,
        -0.01619773403588267,
        0.037167515534997954,
        -0.0663303658137966,
        0.09373283499847579,
        -0.10103906603624623,
        0.0680970542546897,
        0.015379652102618912,
        -0.1396211168405625,
        1.2329951186255526,
    ),
)

# Beyond these exp is 0 or infinite, also after halving (as sinh and cosh do).
_EXP_LOW, _EXP_HIGH = (-104.0, -746.0), (90.0, 711.0)
_EXPM1_LOW = (-25.0, -45.0)


def exp(r: Real, x: Value, *, halvings: int = 0, low_part: Value | None = None, base2: bool = False) -> Value:
    """`exp(x + low_part) / 2**halvings`, or `2**x` for base2.

    x = n ln(2) + r with |r| <= ln(2)/2; exp(x) = 2**n exp(r).
    """
    f = r.f
    if base2:
        x = r.clamp(x, r.pick(_EXP_LOW) * 1.45, r.pick(_EXP_HIGH) * 1.45)
        n = f.round(x, "roundeven")
        rest = f.fmul(f.fsub(x, n), LN2[r.wide][0])
    else:
        x = r.clamp(x, r.pick(_EXP_LOW), r.pick(_EXP_HIGH))
        n = f.fsub(f.fma(x, LOG2E[r.wide][0], r.magic), r.magic)
        rest = f.fma(n, -LN2[r.wide][1], f.fma(n, -LN2[r.wide][0], x))
    if low_part is not None:
        rest = f.fadd(rest, low_part)
    y = f.fma(f.fma(r.poly(rest, _EXP), rest, 1.0), rest, 1.0)
    return r.scale(y, f.fsub(n, float(halvings)) if halvings else n)


def exp2(r: Real, x: Value) -> Value:
    """2**x."""
    return exp(r, x, base2=True)


def expm1(r: Real, x: Value) -> Value:
    """`exp(x) - 1` = 2 (2**(n-1) (exp(r) - 1) + 2**(n-1) - 1/2), so that neither large nor small x loses digits."""
    f = r.f
    z = r.clamp(x, r.pick(_EXPM1_LOW), r.pick(_EXP_HIGH))
    t = f.fma(z, LOG2E[r.wide][0], r.magic)
    n = f.fsub(t, r.magic)
    rest = f.fma(n, -LN2[r.wide][1], f.fma(n, -LN2[r.wide][0], z))
    small = f.fma(r.poly(rest, _EXPM1), f.fmul(rest, rest), rest)
    half = r.power_of_two(r.bits(t), -1)  # the shift drops the magic number's own bits
    y = f.fma(half, small, f.fsub(half, 0.5))
    y = f.fadd(y, y)
    # 2**(n-1) is infinite already where exp(x) need not be; those x are beyond the range anyway.
    y = r.select(f.fcmp("ogt", x, r.pick((88.8, 709.9))), INF, y)
    return f.copysign(y, x)


def split(r: Real, x: Value, *, denormals: bool = True) -> tuple[Value, Value, Value]:
    """Positive x = 2**k m with sqrt(1/2) <= m < sqrt(2): k as integer (not for denormals), k as number, m."""
    f = r.f
    magic = r.const(r.magic)
    if denormals:
        tiny = f.fcmp("olt", x, r.min_normal)
        shift = float(r.mantissa + 2)
        x = f.select(tiny, f.fmul(x, 2.0**shift), x)
        magic = r.select(tiny, r.magic + shift, magic)
    root_half = 0x3FE6A09E667F3BCD if r.wide else 0x3F3504F3
    above = f.sub(r.bits(x), root_half)
    k = f.ashr(above, r.mantissa)
    m = r.from_bits(f.add(f.and_(above, (1 << r.mantissa) - 1), root_half))
    return k, f.fsub(r.from_bits(f.add(k, r.magic_bits)), magic), m


def log_near_one(r: Real, g: Value, k: Value | None = None) -> Value:
    """`log(1 + g) + k ln(2)` for sqrt(1/2) <= 1 + g <= sqrt(2)."""
    f = r.f
    high, low = LN2[r.wide]
    square = f.fmul(g, g)
    if r.wide:
        # log((1 + s)/(1 - s)) with s = g/(2 + g), arranged so that g itself is added last.
        s = f.fdiv(g, f.fadd(g, 2.0))
        z = f.fmul(s, s)
        half_square = f.fmul(square, 0.5)
        y = f.fmul(s, f.fadd(half_square, f.fmul(z, r.poly(z, ((), _LOG_DOUBLE)))))
        if k is None:
            return f.fsub(g, f.fsub(half_square, y))
        return f.fma(k, high, f.fsub(g, f.fsub(half_square, f.fma(k, low, y))))
    y = f.fmul(f.fmul(r.poly(g, (_LOG_FLOAT, ())), square), g)
    if k is not None:
        y = f.fma(k, low, y)
    y = f.fadd(g, f.fma(square, -0.5, y))
    return y if k is None else f.fma(k, high, y)


def log_edges(r: Real, x: Value, y: Value) -> Value:
    """Y where 0 < x < inf; else what a logarithm gives: -inf at 0, inf at inf, NaN."""
    f = r.f
    edge = r.select(f.fcmp("oeq", x, INF), INF, r.const(NAN))
    edge = r.select(f.fcmp("oeq", x, 0.0), -INF, edge)
    return f.select(r.is_positive_finite(x), y, edge)


def log(r: Real, x: Value) -> Value:
    """Natural logarithm."""
    _, k, m = split(r, x)
    return log_edges(r, x, log_near_one(r, r.f.fsub(m, 1.0), k))


def log2(r: Real, x: Value) -> Value:
    """Logarithm to base 2, exact at powers of two."""
    f = r.f
    high, low = LOG2E[r.wide]
    _, k, m = split(r, x)
    near = log_near_one(r, f.fsub(m, 1.0))
    return log_edges(r, x, f.fma(near, high, f.fma(near, low, k)))


def log1p(r: Real, x: Value) -> Value:
    """`log(1 + x)`; what rounding 1 + x loses is added back to the reduced argument."""
    f = r.f
    u = f.fadd(x, 1.0)
    moved = f.fsub(u, 1.0)
    lost = f.fadd(f.fsub(1.0, f.fsub(u, moved)), f.fsub(x, moved))
    k, number, m = split(r, u, denormals=False)
    at_most = const(r.bias - 1, r.int_kind)  # beyond, nothing is lost
    back = r.from_bits(f.shl(f.sub(r.bias, f.intrinsic("llvm.smin", r.int_kind, k, at_most)), r.mantissa))
    y = log_near_one(r, f.fma(lost, back, f.fsub(m, 1.0)), number)
    edge = r.select(f.fcmp("oeq", x, INF), INF, r.const(NAN))
    edge = r.select(f.fcmp("oeq", x, -1.0), INF, edge)
    inside = f.and_(f.fcmp("ogt", x, -1.0), f.fcmp("olt", x, INF))
    return f.copysign(f.select(inside, y, edge), x)


def tanh(r: Real, x: Value) -> Value:
    """A polynomial near 0, else `1 - 2 / (exp(2|x|) + 1)`."""
    f = r.f
    a = f.fabs(x)
    z = f.fmul(a, a)
    small = f.fma(f.fmul(r.poly(z, _TANH), z), a, a)
    large = f.fsub(1.0, f.fdiv(2.0, f.fadd(exp(r, f.fadd(a, a)), 1.0)))
    return f.copysign(f.select(f.fcmp("olt", a, r.pick(_TANH_SMALL)), small, large), x)


def sigmoid(r: Real, x: Value) -> Value:
    """`1 / (1 + exp(-x))`, with exp of a negative number only, so that small results keep their digits."""
    f = r.f
    e = exp(r, f.fneg(f.fabs(x)))
    top = r.select(f.fcmp("oge", x, 0.0), 1.0, e)
    bottom = f.fadd(e, 1.0)
    y = f.fdiv(top, bottom)
    return f.fma(y, f.fsub(f.fsub(bottom, 1.0), e), y)  # what rounding 1 + e lost


def sinh(r: Real, x: Value) -> Value:
    """A polynomial up to 1, else (exp(|x|) - exp(-|x|)) / 2."""
    f = r.f
    a = f.fabs(x)
    z = f.fmul(a, a)
    small = f.fma(f.fmul(r.poly(z, _SINH), z), a, a)
    e = exp(r, a, halvings=1)
    large = f.fsub(e, f.fdiv(0.25, e))
    return f.copysign(f.select(f.fcmp("olt", a, 1.0), small, large), x)


def cosh(r: Real, x: Value) -> Value:
    """`(exp(|x|) + exp(-|x|)) / 2`."""
    e = exp(r, r.f.fabs(x), halvings=1)
    return r.f.fadd(e, r.f.fdiv(0.25, e))


def asinh(r: Real, x: Value) -> Value:
    """`log(|x| + sqrt(x^2 + 1))` by log1p; for huge x, where the square would overflow, log(2|x|)."""
    f = r.f
    a = f.fabs(x)
    huge = f.fcmp("ogt", a, r.pick((1e10, 1e100)))
    root = f.sqrt(f.fma(a, a, 1.0))
    near = f.fadd(a, f.fdiv(f.fmul(a, a), f.fadd(root, 1.0)))
    y = log1p(r, f.select(huge, a, near))
    return f.copysign(f.fadd(y, r.select(huge, LN2[r.wide][0], r.const(0.0))), x)


def acosh(r: Real, x: Value) -> Value:
    """`log(x + sqrt(x^2 - 1))` by log1p of x - 1."""
    f = r.f
    huge = f.fcmp("ogt", x, r.pick((1e10, 1e100)))
    t = f.fsub(x, 1.0)
    near = f.fadd(t, f.sqrt(f.fma(t, t, f.fadd(t, t))))
    y = f.fadd(log1p(r, f.select(huge, x, near)), r.select(huge, LN2[r.wide][0], r.const(0.0)))
    return r.select(f.fcmp("olt", x, 1.0), NAN, y)


def atanh(r: Real, x: Value) -> Value:
    """`log((1 + x)/(1 - x)) / 2` by log1p."""
    f = r.f
    a = f.fabs(x)
    y = log1p(r, f.fdiv(f.fadd(a, a), f.fsub(1.0, a)))
    return f.copysign(f.fmul(y, 0.5), x)


def logaddexp(r: Real, x: Value, y: Value) -> Value:
    """`log(exp(x) + exp(y))` = max + log1p(exp(-|x - y|))."""
    f = r.f
    gap = r.select(f.fcmp("oeq", x, y), 0.0, f.fneg(f.fabs(f.fsub(x, y))))
    return f.fadd(f.fmax(x, y), log1p(r, exp(r, gap)))


def erf(r: Real, x: Value) -> Value:
    """Error function: a polynomial up to about 1; beyond it `1 - erfc(|x|)`, for float by a second polynomial."""
    f = r.f
    a = f.fabs(x)
    small = f.fma(r.poly(f.fmul(a, a), _ERF), a, a)
    if r.wide:
        large = f.fsub(1.0, _erfc_large(r, a))
    else:
        t = f.fsub(f.fmin(r.const(_ERF_TAIL_END), a), _ERF_TAIL_CENTRE)
        large = f.fsub(1.0, r.poly(t, (_ERF_TAIL, ())))
    return f.copysign(f.select(f.fcmp("olt", a, r.pick(_ERF_SMALL)), small, large), x)


def erfc(r: Real, x: Value) -> Value:
    """`1 - erf(x)`, with full relative accuracy in the tail."""
    f = r.f
    a = f.fabs(x)
    near = f.fsub(1.0, f.fma(r.poly(f.fmul(x, x), _ERF), x, x))
    far = _erfc_large(r, a)
    far = f.select(f.fcmp("olt", x, 0.0), f.fsub(2.0, far), far)
    return f.select(f.fcmp("olt", a, 0.5), near, far)


def _erfc_large(r: Real, a: Value) -> Value:
    """`exp(-a^2) ((1 + 2a) exp(a^2) erfc(a)) / (1 + 2a)` for a >= 1/2, the square in two parts."""
    f = r.f
    a = f.fmin(r.const(r.pick(_ERFC_END)), a)
    c = r.pick(_ERFC_CENTRE)
    t = f.fdiv(f.fsub(a, c), f.fadd(a, c))
    square = f.fmul(a, a)
    e = exp(r, f.fneg(square), low_part=f.fneg(f.fma(a, a, f.fneg(square))))
    return f.fmul(e, f.fdiv(r.poly(t, _ERFC), f.fma(a, 2.0, 1.0)))
