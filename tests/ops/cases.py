"""The op table: one line per op, with operands to try it on; `test_ops.py` runs over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from treadle import ops
from treadle.core import DTYPES, DType, Shape, bfloat16, bool_, float16, float32, float64, int32, int64, uint32
from treadle.nn.functional.resize_tables import transposed
from treadle.ops.base import ANY, BITS, FLOATS, INTEGERS, NUMERIC, Accepts, TensorOp

Array = np.ndarray
Domain = Callable[[np.random.Generator, Shape, DType], Array]


# Domains: where an op is defined, and smooth where its gradient is compared with differences.


def spread(low: float, high: float) -> Domain:
    """Numbers between two bounds: whole in an integer dtype, from 0 in an unsigned one."""

    def draw(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
        if dtype is bool_:
            return rng.random(shape) < 0.5
        lift = max(-low, 0) if dtype.kind == "uint" else 0
        values = rng.uniform(low + lift, high + lift, shape)
        return (np.floor(values) if dtype.is_integer else values).astype(dtype.numpy)

    return draw


real = spread(-3, 4)
positive = spread(0.2, 4)
unit = spread(-0.9, 0.9)
above_one = spread(1.2, 4)
count = spread(0, 4)
bits = spread(-100, 120)


def nonzero(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    """Numbers of magnitude 1 to 4."""
    sign = 1 if dtype.kind == "uint" else rng.choice([-1, 1], shape)
    return np.asarray(rng.uniform(1, 4, shape) * sign).astype(dtype.numpy)


def distinct(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    """Different numbers a half or more apart, whole in an integer dtype: nothing ties, within an operand or between."""
    n = int(np.prod(shape))
    step = 1.0 if dtype.is_integer else 0.5
    first = 0.0 if dtype.kind == "uint" else -n // 2 * step
    return (rng.permutation(n) * step + first).reshape(shape).astype(dtype.numpy)


def rising(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    """Small counts in rising order along the last axis."""
    return np.sort(count(rng, shape, dtype).astype(np.float64), axis=-1).astype(dtype.numpy)


def off_grid(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    """Like `distinct`, a quarter away from it."""
    values = distinct(rng, shape, dtype)
    return values if dtype.is_integer or dtype is bool_ else values + dtype.numpy.type(0.25)


def below(size: int) -> Domain:
    """Valid positions in an axis."""
    return lambda rng, shape, dtype: rng.integers(0, size, shape).astype(dtype.numpy)


def words(rng: np.random.Generator, shape: Shape, dtype: DType) -> Array:
    """Any bits at all."""
    info = np.iinfo(dtype.numpy)
    return rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True)


@dataclass(frozen=True)
class Operand:
    """How to make one operand; `dtype` is the case's unless it is fixed."""

    shape: Shape
    domain: Domain = real
    dtype: DType | None = None
    smooth: bool = True  # whether the gradient for it is compared with finite differences

    def make(self, rng: np.random.Generator, dtype: DType) -> Array:
        return np.asarray(self.domain(rng, self.shape, self.dtype or dtype))


@dataclass(frozen=True)
class Case:
    """An op on operands, for every dtype of the kinds named."""

    op: TensorOp
    operands: tuple[Operand, ...]
    kinds: Accepts = FLOATS
    tolerance: float = 1.0  # times that of the dtype
    only: tuple[DType, ...] = field(default=DTYPES)

    def dtypes(self) -> list[DType]:
        return [d for d in self.only if d.kind in self.kinds]

    def arguments(self, dtype: DType, seed: int = 0) -> list[Array]:
        rng = np.random.default_rng(seed)
        return [operand.make(rng, dtype) for operand in self.operands]

    def __str__(self) -> str:
        return f"{self.op}({', '.join('x'.join(map(str, o.shape)) or 'scalar' for o in self.operands)})"


def unary(op: TensorOp, domain: Domain = real, kinds: Accepts = FLOATS, **more: bool) -> Case:
    return Case(op, (Operand((3, 5), domain, **more),), kinds)


def binary(op: TensorOp, a: Domain = real, b: Domain = real, kinds: Accepts = FLOATS, **more: bool) -> Case:
    """Two operands that both broadcast."""
    return Case(op, (Operand((2, 1, 4), a, **more), Operand((3, 1), b, **more)), kinds)


def fold(op: TensorOp, shape: Shape = (3, 4, 5), domain: Domain = real, kinds: Accepts = NUMERIC) -> Case:
    return Case(op, (Operand(shape, domain),), kinds, tolerance=4)


def on(op: TensorOp, *operands: Operand | Shape, kinds: Accepts = ANY, tolerance: float = 1.0) -> Case:
    made = tuple(o if isinstance(o, Operand) else Operand(o) for o in operands)
    return Case(op, made, kinds, tolerance)


def index(*shape: int, size: int, dtype: DType = int64) -> Operand:
    return Operand(shape, below(size), dtype)


def table(n: int, out: int, taps: int, *, back: bool) -> np.ndarray:
    """Return places [out, taps] in 0..n-1, or those of the transposed sum; its weights are in `table_weights`."""
    places = np.random.default_rng(5).integers(0, n, (out, taps))
    return transposed(places, np.ones(places.shape), n)[0] if back else places


def table_weights(n: int, out: int, taps: int, *, back: bool) -> np.ndarray:
    """Return the weights of a table."""
    places = table(n, out, taps, back=False)
    weights = np.random.default_rng(6).uniform(0.5, 2, (out, taps))
    return transposed(places, weights, n)[1] if back else weights


def resampled(axis: int, shape: Shape, taps: int) -> Case:
    """A sum with tables that belong together."""
    n, out = shape[axis], 4
    operands = [Operand(shape)]
    for back in (False, True):
        places, weights = table(n, out, taps, back=back), table_weights(n, out, taps, back=back)
        operands += [
            Operand(places.shape, lambda *_, p=places: p.astype(np.int32), int32),
            Operand(weights.shape, lambda *_, w=weights: w, float64, smooth=False),
        ]
    return Case(ops.Resample(axis), tuple(operands), only=(float64,))


CASES: Sequence[Case] = (
    # arithmetic
    binary(ops.Add(), kinds=NUMERIC),
    binary(ops.Subtract(), kinds=NUMERIC),
    binary(ops.Multiply(), kinds=NUMERIC),
    binary(ops.Divide(), b=nonzero),
    binary(ops.FloorDivide(), off_grid, nonzero, NUMERIC),
    Case(ops.Remainder(), (Operand((2, 1, 4), off_grid), Operand((3, 1), nonzero)), NUMERIC, 8),
    binary(ops.Pow(), positive, unit),
    binary(ops.Pow(), spread(-3, 4), spread(-2, 4), INTEGERS),
    unary(ops.Negative(), kinds=NUMERIC),
    unary(ops.Abs(), nonzero, NUMERIC),
    unary(ops.Sign(), nonzero, NUMERIC),
    unary(ops.Reciprocal(), nonzero),
    binary(ops.CopySign(), nonzero, nonzero),
    binary(ops.NextAfter(), smooth=False),
    binary(ops.Maximum(), distinct, off_grid, NUMERIC),
    binary(ops.Minimum(), distinct, off_grid, NUMERIC),
    on(
        ops.Clip(),
        Operand((4, 5), distinct),
        Operand((5,), spread(1.1, 1.2)),
        Operand((), spread(3.1, 3.2)),
        kinds=NUMERIC,
    ),
    unary(ops.Floor(), off_grid, NUMERIC),
    unary(ops.Ceil(), off_grid, NUMERIC),
    unary(ops.Trunc(), off_grid, NUMERIC),
    unary(ops.Round(), spread(-0.4, 0.4), NUMERIC),
    # functions
    unary(ops.Exp()),
    unary(ops.Exp2()),
    unary(ops.Expm1()),
    unary(ops.Log(), positive),
    unary(ops.Log1p(), positive),
    unary(ops.Log2(), positive),
    unary(ops.Log10(), positive),
    binary(ops.LogAddExp()),
    unary(ops.Sqrt(), positive),
    unary(ops.Rsqrt(), positive),
    binary(ops.Hypot(), nonzero, nonzero),
    unary(ops.Sin()),
    unary(ops.Cos()),
    unary(ops.Tan(), unit),
    unary(ops.Asin(), unit),
    unary(ops.Acos(), unit),
    unary(ops.Atan()),
    binary(ops.Atan2(), nonzero, nonzero),
    unary(ops.Sinh()),
    unary(ops.Cosh()),
    unary(ops.Tanh()),
    unary(ops.Asinh()),
    unary(ops.Acosh(), above_one),
    unary(ops.Atanh(), unit),
    unary(ops.Sigmoid()),
    unary(ops.Erf()),
    unary(ops.Erfc()),
    unary(ops.Erfinv(), unit),
    unary(ops.Erfcx()),
    unary(ops.LogNdtr()),
    unary(ops.Ndtri(), spread(0.02, 0.98)),
    Case(ops.Lgamma(), (Operand((3, 5), positive),), tolerance=32),
    Case(ops.Digamma(), (Operand((3, 5), positive),), tolerance=16),
    unary(ops.Polygamma(1), positive),
    unary(ops.Polygamma(2), spread(0.5, 3)),
    Case(ops.Zeta(), (Operand((2, 1, 4), above_one, smooth=False), Operand((3, 1), positive))),
    *[unary(ops.BesselI(order, scaled)) for order in (0, 1) for scaled in (False, True)],
    # comparison
    binary(ops.Equal(), count, count, ANY),
    binary(ops.NotEqual(), count, count, ANY),
    binary(ops.Less(), count, count, NUMERIC),
    binary(ops.LessEqual(), count, count, NUMERIC),
    binary(ops.Greater(), count, count, NUMERIC),
    binary(ops.GreaterEqual(), count, count, NUMERIC),
    unary(ops.IsNan(), kinds=NUMERIC),
    unary(ops.IsInf(), kinds=NUMERIC),
    unary(ops.IsFinite(), kinds=NUMERIC),
    unary(ops.SignBit()),
    # logic
    binary(ops.LogicalAnd(), kinds=("bool",)),
    binary(ops.LogicalOr(), kinds=("bool",)),
    binary(ops.LogicalXor(), kinds=("bool",)),
    unary(ops.LogicalNot(), kinds=("bool",)),
    binary(ops.BitwiseAnd(), bits, bits, BITS),
    binary(ops.BitwiseOr(), bits, bits, BITS),
    binary(ops.BitwiseXor(), bits, bits, BITS),
    unary(ops.BitwiseInvert(), bits, BITS),
    binary(ops.BitwiseLeftShift(), bits, spread(-2, 70), INTEGERS),
    binary(ops.BitwiseRightShift(), bits, spread(-2, 70), INTEGERS),
    on(ops.Where(), Operand((4, 1), dtype=bool_), (3, 1, 5), (5,)),
    # cast
    *[unary(ops.Cast(d), spread(-3, 4) if d.kind != "uint" else count, ANY, smooth=d is float64) for d in DTYPES],
    # reductions
    fold(ops.Sum((1,))),
    fold(ops.Sum((0, 2), True)),
    fold(ops.Sum(())),
    fold(ops.Sum((0, 1, 2))),
    fold(ops.Prod((1,)), domain=nonzero),
    fold(ops.Prod((0, 2), True), (2, 4, 3), nonzero),
    fold(ops.Max((1,)), domain=distinct),
    fold(ops.Max((0, 2), True), domain=distinct),
    fold(ops.Min((1,), True), domain=distinct),
    fold(ops.Min((0, 1, 2)), domain=distinct),
    fold(ops.AnyTrue((1,)), kinds=("bool",)),
    fold(ops.AllTrue((0, 2), True), kinds=("bool",)),
    fold(ops.ArgMax(1), domain=count),
    fold(ops.ArgMin(2, True), domain=count),
    fold(ops.Mean((0, 2)), kinds=FLOATS),
    fold(ops.Mean((1,), True), kinds=FLOATS),
    fold(ops.Var((1,)), kinds=FLOATS),
    fold(ops.Var((0, 2), 1.0, True), kinds=FLOATS),
    # movement
    on(ops.Reshape((4, 3, 5)), (2, 5, 6)),
    on(ops.Permute((2, 0, 1)), (2, 3, 4)),
    on(ops.BroadcastTo((2, 3, 4)), (3, 1)),
    on(ops.Slice((1, 5, 0), (2, 3, 1), (1, -2, 1)), (3, 6, 4)),
    on(ops.Pad((1, 0), (0, 2), 1), (3, 4)),
    on(ops.Concat(1), (2, 1, 3), (2, 4, 3), (2, 2, 3)),
    # indexing
    on(ops.Take(1), (3, 5, 2), index(4, 2, size=5)),
    on(ops.Take(0), (6, 3), index(7, size=6, dtype=int32)),
    on(ops.ScatterAdd(0, 6), (7, 3), index(7, size=6), kinds=NUMERIC),
    on(ops.TakeAlongAxis(1), (3, 5), index(3, 2, size=5)),
    on(ops.ScatterAddAlongAxis(1, 5), (3, 4), index(3, 4, size=5), kinds=NUMERIC),
    on(ops.SearchSorted(), Operand((9,), rising), Operand((2, 5), count)),
    on(ops.SearchSorted(True), Operand((3, 7), rising), Operand((3, 5), count)),
    *[on(ops.Iota(7, d), kinds=("bool",)) for d in DTYPES if d.kind != "bool"],
    on(ops.Tril(1), (2, 4, 5), kinds=NUMERIC),
    on(ops.Triu(-1), (2, 5, 4), kinds=NUMERIC),
    *[on(ops.OneHot(5, d), index(3, 2, size=5), kinds=("bool",)) for d in DTYPES],
    # random numbers
    *[
        on(ops.Threefry(k), *[Operand(s, words, uint32) for s in ((2, 1), (), (3,), (2, 3))], kinds=("bool",))
        for k in (0, 1)
    ],
    # products and networks
    on(ops.Matmul(), (2, 1, 3, 4), (3, 4, 5), kinds=NUMERIC, tolerance=8),
    on(ops.Conv((2,), (1,), (2,), (2,), (1,), 2), (2, 7, 4), (3, 2, 6), kinds=NUMERIC, tolerance=8),
    on(ops.Conv((1, 1), (2, 1), (1, -1), (1, 2), (2, 3)), (2, 3, 4, 3), (3, 2, 3, 5), kinds=NUMERIC, tolerance=16),
    on(ops.ConvPlanes((2,), (1,), (2,), (2,), (1,), 2), (2, 4, 7), (3, 2, 6), kinds=NUMERIC, tolerance=8),
    on(
        ops.ConvPlanes((1, 1), (2, 1), (1, -1), (1, 2), (2, 3)), (2, 3, 3, 4), (3, 2, 3, 5), kinds=NUMERIC, tolerance=16
    ),
    on(ops.ConvWeightGrad((2,), (1,), (2,), (2,), (1,), 2, (3,)), (2, 7, 4), (2, 3, 6), kinds=NUMERIC, tolerance=16),
    on(
        ops.ConvWeightGrad((1, 2), (2, 1), (1, 0), (1, 2), (2, 1), 1, (3, 2)),
        (2, 3, 4, 3),
        (2, 6, 2, 5),
        kinds=NUMERIC,
        tolerance=16,
    ),
    on(ops.Softmax(1), (3, 5, 2), kinds=FLOATS, tolerance=4),
    on(ops.LogSoftmax(0), (3, 5), kinds=FLOATS, tolerance=4),
    on(ops.LogSumExp((1,)), (3, 5), kinds=FLOATS, tolerance=4),
    on(ops.LayerNorm(1), (4, 6), (6,), (6,), kinds=FLOATS, tolerance=8),
    on(ops.CrossEntropy(), (4, 6), index(4, size=6), kinds=FLOATS, tolerance=4),
    on(ops.Standardize((1, 3)), (2, 3, 4, 5), kinds=FLOATS, tolerance=16),
    on(ops.Standardize((0,), 0.1), (4, 3), kinds=FLOATS, tolerance=16),
    *[
        Case(
            ops.BatchNorm(axis, 0.01),
            (Operand(shape), *[Operand((shape[axis],), dtype=float64 if float64 in only else float32)] * 2),
            tolerance=16,
            only=only,
        )
        for axis, shape in ((1, (3, 4, 5)), (1, (6, 3)), (3, (3, 2, 4, 5)), (0, (3, 7)))
        for only in ((float64,), (float32, float16, bfloat16))
    ],
    # interpolation
    on(ops.TakeOrZero(), (2, 3, 5), Operand((2, 3, 4), spread(-3, 5), int32), kinds=NUMERIC),
    on(ops.AddOrSkip(5), (2, 3, 4), Operand((2, 3, 4), spread(-3, 5), int32), kinds=NUMERIC, tolerance=4),
    *[resampled(axis, shape, taps) for axis, shape, taps in ((1, (2, 4, 3), 2), (2, (2, 3, 5), 9), (0, (3,), 1))],
    *[
        on(ops.Extend(axis, low, high, mode), shape)
        for mode in ("reflect", "replicate", "circular")
        for axis, low, high, shape in ((1, 2, 3, (2, 4, 3)), (2, 1, 0, (2, 1, 5)), (0, 0, 2, (3,)))
    ],
    # windows
    on(
        ops.Unpool(9),
        (2, 4),
        Operand(
            (2, 4),
            lambda rng, shape, dtype: rng.permuted(np.tile(np.arange(9, dtype=dtype.numpy), (shape[0], 1)), axis=1)[
                :, : shape[1]
            ],
            int64,
        ),
    ),
    *[
        case
        for spans, shape, lengths in (
            (((2, 2, 1, 0, 2), (2, 2, 1, 0, 3)), (2, 2, 3), (4, 6)),
            (((3, 2, 1, 1, 3), (2, 1, 2, 0, 2)), (2, 3, 2), (5, 4)),
            (((3, 2, 2, 2, 3), (3, 0, 1, 0, 3)), (2, 3, 3), (5, 5)),
            (((7, 3, 1, 2, 3), (6, 1, 1, 1, 2)), (2, 3, 2), (9, 7)),
            (((2, 0, 1, 0, 5), (3, 3, 3, 1, 1)), (2, 5, 1), (3, 9)),
        )
        for case in (
            on(ops.WindowSum((1, 2), spans), (2, *lengths), kinds=NUMERIC, tolerance=8),
            on(ops.WindowMax((1, 2), spans), Operand((2, *lengths), distinct), kinds=NUMERIC),
            on(ops.WindowPlace((1, 2), spans), Operand((2, *lengths), count), Operand(shape, count), kinds=NUMERIC),
            on(ops.WindowSpread((1, 2), spans, lengths), shape, kinds=NUMERIC, tolerance=8),
            on(ops.WindowSpreadAt((1, 2), spans, lengths), shape, index(*shape, size=4), kinds=NUMERIC, tolerance=8),
            on(ops.WindowTakeAt((1, 2), spans), (2, *lengths), index(*shape, size=4, dtype=int32), kinds=NUMERIC),
            on(ops.Windows((1, 2), spans), (2, *lengths)),
            on(
                ops.WindowsAdd((1, 2), spans, lengths),
                (*shape, spans[0][0], spans[1][0]),
                kinds=NUMERIC,
                tolerance=8,
            ),
        )
    ],
    on(ops.Attention(True, 0.5), (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4), kinds=FLOATS, tolerance=8),
)

# Ops without a line of their own, and what tries them instead.
ELSEWHERE = {
    "fused": "made by the fusion pass from other ops; tests/passes",
    "attention_grad": "takes results of attention; tests/ops/test_attention.py",
    "cumulative": "has a kernel and no formula; tests/ops/test_cumulative.py",
    "linear_scan": "has a kernel and no formula; tests/ops/test_cumulative.py",
    "scatter_along": "has a kernel and no formula; tests/ops/test_scatter.py",
    "require": "is its first operand; tests/tensor/test_require.py",
    "scan": "holds the graph of a turn; tests/tensor/test_scan.py",
    "sort": "has a kernel and no formula; tests/ops/test_sort.py",
    "cholesky": "runs in Python; tests/tensor/test_factorizations.py",
    "cofactor": "runs in Python; tests/tensor/test_factorizations.py",
    "gammainc": "runs in Python; tests/tensor/test_special.py",
    "gcd": "runs in Python; tests/tensor/test_arithmetic.py",
    "det": "runs in Python; tests/tensor/test_factorizations.py",
    "eigh": "runs in Python; tests/tensor/test_factorizations.py",
    "eigvalsh": "runs in Python; tests/tensor/test_factorizations.py",
    "inv": "runs in Python; tests/tensor/test_factorizations.py",
    "lstsq": "runs in Python; tests/tensor/test_factorizations.py",
    "matrix_exp": "runs in Python; tests/tensor/test_factorizations.py",
    "pinv": "runs in Python; tests/tensor/test_factorizations.py",
    "qr": "runs in Python; tests/tensor/test_factorizations.py",
    "slogdet": "runs in Python; tests/tensor/test_factorizations.py",
    "solve": "runs in Python; tests/tensor/test_factorizations.py",
    "solve_triangular": "runs in Python; tests/tensor/test_factorizations.py",
    "svd": "runs in Python; tests/tensor/test_factorizations.py",
    "svdvals": "runs in Python; tests/tensor/test_factorizations.py",
}

SPECIALS = {
    "float": [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -2.5,
        2.0,
        3.0,
        np.inf,
        -np.inf,
        np.nan,
        1e-40,
        -1e-40,
        5e-324,
        6e-8,
        1e30,
        -1e30,
        65504.0,
    ],
    "int": [0, 1, -1, 2, -3, 7, np.iinfo(np.int64).max, np.iinfo(np.int64).min],
    "uint": [0, 1, 2, 7, 100, 255, np.iinfo(np.uint64).max],
    "bool": [False, True],
}


def special_values(dtype: DType) -> Array:
    """Values at the edges of a dtype: infinities, NaN, both zeros, denormals, the ends of the range."""
    values = SPECIALS[dtype.kind]
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        values = [*[v for v in values if info.min <= v <= info.max], info.min, info.max]
    with np.errstate(all="ignore"):
        return np.array(values).astype(dtype.numpy)
