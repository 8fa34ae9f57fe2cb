"""Random numbers: Threefry's published answers, the numbers of jax.random, exact permutations, even integers."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from treadle.core import (
    DType,
    DTypeError,
    ShapeError,
    Type,
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int32,
    int64,
    uint8,
    uint32,
    uint64,
)
from treadle.ir import Graph, Input, Node
from treadle.ops import Erfinv, Threefry, random
from treadle.ops.fused import run_graph
from treadle.te import run

KEY = random.key_from_seed(42)


def value(node: Node, *arguments: np.ndarray) -> np.ndarray:
    return run_graph(Graph((), (node,)), arguments)[0]


# Random123's file kat_vectors: counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_the_hash_gives_the_published_answers(counter, key, result) -> None:
    operands = [np.asarray(word, np.uint32) for word in (*key, *counter)]
    for word in (0, 1):
        op = Threefry(word)
        assert int(op.eval(*operands)) == result[word]
        assert int(run(op.lower(*[Type(uint32)] * 4), operands)) == result[word]


def test_the_numbers_are_those_of_jax() -> None:
    # Printed by jax 0.10 for jax.random.key(42).
    assert value(KEY).tolist() == [0, 42]
    assert value(random.split(KEY)).tolist() == [[1832780943, 270669613], [64467757, 2916123636]]
    assert value(random.fold_in(KEY, 7)).tolist() == [2547012911, 1371500959]
    assert np.float32(value(random.normal(KEY, ()))) == np.float32(-0.028304616)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_installed_jax() -> None:
    jax = pytest.importorskip("jax")
    theirs = jax.random.PRNGKey(42)
    np.testing.assert_array_equal(value(random.split(KEY, 5)), jax.random.split(theirs, 5))
    np.testing.assert_array_equal(value(random.bits(KEY, (3, 5))), jax.random.bits(theirs, (3, 5)))
    for dtype in (float16, bfloat16, float32):
        ours = value(random.uniform(KEY, (999,), dtype))
        np.testing.assert_array_equal(ours, jax.random.uniform(theirs, (999,), dtype.name))
    ours = value(random.normal(KEY, (999,)))
    np.testing.assert_allclose(ours, jax.random.normal(theirs, (999,)), rtol=1e-5)


def test_streams_of_a_key_differ() -> None:
    drawn = [value(random.bits(k, (1000,))) for k in (KEY, random.fold_in(KEY, 0), random.fold_in(KEY, 1))]
    drawn += [value(random.words(KEY, (1000,), stream=1)[0]), value(random.words(KEY, (1000,))[0])]
    everything = np.concatenate(drawn)
    assert len(np.unique(everything)) == len(everything)


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 4)], ids=str)
def test_an_element_depends_on_its_position_only(shape) -> None:
    size = math.prod(shape)
    np.testing.assert_array_equal(value(random.bits(KEY, shape)).ravel(), value(random.bits(KEY, (100,)))[:size])


@pytest.mark.parametrize("dtype", [float16, bfloat16, float32, float64], ids=str)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.0, 3.0), (1000.0, 1000.1)])
def test_uniform_stays_in_its_bounds(dtype: DType, low: float, high: float) -> None:
    first, last = dtype.numpy.type(low), dtype.numpy.type(high)
    if first == last:
        pytest.skip("one number at this precision")
    drawn = value(random.uniform(KEY, (20000,), dtype, low, high))
    assert drawn.dtype == dtype.numpy
    assert drawn.min() >= first
    assert drawn.max() < last
    if dtype.bits >= 32:
        spread = (drawn.astype(np.float64) - float(first)) / (float(last) - float(first))
        assert abs(spread.mean() - 0.5) < 4 / math.sqrt(12 * 20000)
        assert abs(spread.var() - 1 / 12) < 0.005


@pytest.mark.parametrize("dtype", [float16, bfloat16, float32, float64], ids=str)
def test_normal_has_the_moments_of_the_normal_distribution(dtype: DType) -> None:
    z = value(random.normal(KEY, (200, 200), dtype)).astype(np.float64)
    n = z.size
    assert np.isfinite(z).all()
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    share = (np.abs(z) < 1).mean()
    assert abs(share - 0.6826895) < 4 * math.sqrt(0.6826895 * 0.3173105 / n)


@pytest.mark.parametrize(("dtype", "ulp"), [(float32, 2), (float64, 3)], ids=str)
def test_erfinv_is_accurate(dtype: DType, ulp: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    tail = 1 - 10.0 ** -np.arange(1, 15 if dtype is float64 else 7, 0.5)
    x = np.concatenate([np.linspace(-0.99, 0.99, 199), tail, -tail, 10.0 ** -np.arange(1.0, 12)]).astype(dtype.numpy)
    with mpmath.workdps(40):
        expected = np.array([float(mpmath.erfinv(mpmath.mpf(float(v)))) for v in x])
    actual = run(Erfinv().lower(Type(dtype, x.shape)), [x])
    miss = np.abs(actual - expected) / np.maximum(np.abs(expected), 1e-300) / np.finfo(dtype.numpy).eps
    assert miss.max() < ulp
    ends = np.array([1, -1, 2, np.nan, -0.0], dtype.numpy)
    np.testing.assert_array_equal(run(Erfinv().lower(Type(dtype, (5,))), [ends]), [np.inf, -np.inf, np.nan, np.nan, 0])


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(-3, 5, int64), (0, 256, uint8), (-128, 128, int8), (5, 6, int32), (0, 3, uint64), (0, 1 << 32, uint64)],
    ids=str,
)
def test_integers_are_even(low: int, high: int, dtype: DType) -> None:
    drawn = value(random.integers(KEY, (30000,), low, high, dtype))
    assert drawn.dtype == dtype.numpy
    assert low <= int(drawn.min())
    assert int(drawn.max()) < high
    width = max((high - low) // 8, 1)  # eight even bins, or one per number
    bins = (high - low) // width
    counts = np.bincount([(int(d) - low) // width for d in drawn], minlength=bins)
    expected = len(drawn) / bins
    assert len(counts) == bins
    assert ((counts - expected) ** 2 / expected).sum() < bins + 4 * math.sqrt(2 * bins)


@pytest.mark.parametrize("n", [7, 1 << 20, 1 << 32, (1 << 32) + 1, 3 << 61, 1 << 63, (1 << 64) - 1, 1 << 64])
def test_integers_are_the_scaled_bits(n: int) -> None:
    """The result is floor(bits * n / 2**k) in exact arithmetic, however large n is."""
    first, second = (value(w).tolist() for w in random.words(KEY, (50,)))
    third, fourth = (value(w).tolist() for w in random.words(KEY, (50,), stream=1))
    drawn = value(random.integers(KEY, (50,), 0, n, uint64)).tolist()
    if n <= 1 << 32:
        assert drawn == [((a << 32 | b) * n) >> 64 for a, b in zip(first, second, strict=True)]
    elif n < 1 << 64:
        limbs = zip(first, second, third, fourth, strict=True)
        assert drawn == [((a << 96 | b << 64 | c << 32 | d) * n) >> 128 for a, b, c, d in limbs]
    else:
        assert drawn == [a << 32 | b for a, b in zip(first, second, strict=True)]


def test_integers_reach_both_ends_of_int64() -> None:
    drawn = value(random.integers(KEY, (20000,), -(1 << 63), 1 << 63))
    assert drawn.min() < -0.999 * 2.0**63
    assert drawn.max() > 0.999 * 2.0**63


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 100, 1000, 4097, 8192])
def test_permutation_is_one(n: int) -> None:
    order = value(random.permutation(KEY, n))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutation_is_of_the_order_of_drawn_words() -> None:
    place = np.uint64(63)
    drawn = value(random.bits(KEY, (50,), uint64))
    packed = (drawn & ~place) | np.arange(50, dtype=np.uint64)
    np.testing.assert_array_equal(value(random.permutation(KEY, 50)), np.sort(packed) & place)


def test_every_order_of_three_is_as_likely() -> None:
    seen: dict[tuple[int, ...], int] = {}
    for i in range(1200):
        order = tuple(value(random.permutation(random.fold_in(KEY, i), 3)).tolist())
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 6
    assert sum((c - 200) ** 2 / 200 for c in seen.values()) < 20.5  # 99.9 % of chi-square with 5 degrees of freedom


def test_bernoulli_and_categorical_follow_their_probabilities() -> None:
    assert abs(value(random.bernoulli(KEY, (20000,), 0.3)).mean() - 0.3) < 0.015
    assert not value(random.bernoulli(KEY, (1000,), 0.0)).any()
    assert value(random.bernoulli(KEY, (1000,), 1.0)).all()
    p = np.array([0.1, 0.6, 0.3, 0.0])
    with np.errstate(divide="ignore"):
        logits = np.broadcast_to(np.log(p).astype(np.float32), (20000, 4))
    drawn = value(random.categorical(KEY, Input(0, Type(float32, (20000, 4)))()), logits)
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20000, p, atol=0.015)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: random.key_from_seed(-1), ValueError, "seed -1 is out of range. Allowed: 0..2**64 - 1."),
        (lambda: random.fold_in(KEY, 1 << 32), ValueError, "fold_in: 4294967296 is out of range"),
        (lambda: random.split(random.split(KEY)), DTypeError, "the key is u32[2,2]. It must be uint32[2]"),
        (lambda: random.uniform(KEY, (2,), int32), DTypeError, "uniform: does not take int32"),
        (lambda: random.uniform(KEY, (2,), float32, 1, 1), ValueError, "uniform: bounds 1 and 1 are not usable"),
        (lambda: random.integers(KEY, (2,), 3, 3), ValueError, "integers: [3, 3) is not a range of int64"),
        (lambda: random.integers(KEY, (2,), 0, 300, uint8), ValueError, "Allowed: low < high within 0..256."),
        (lambda: random.integers(KEY, (2,), 0, 3, float32), DTypeError, "integers: dtype is float32"),
        (lambda: random.bits(KEY, (2,), float32), DTypeError, "bits: float32 has no plain bits"),
        (lambda: random.bernoulli(KEY, (2,), 1.5), ValueError, "bernoulli: p=1.5 is not a probability"),
        (lambda: random.permutation(KEY, -1), ShapeError, "permutation: n=-1 is negative"),
        (lambda: Threefry(0)(*[Input(0, Type(int32))()] * 4), DTypeError, "All must be uint32."),
    ],
)
def test_bad_arguments(make, error, message) -> None:
    with pytest.raises(error, match=re.escape(message)):
        make()
