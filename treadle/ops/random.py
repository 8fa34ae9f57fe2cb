"""Random numbers as pure functions of a key, uint32[..., 2]: element i is a hash of the key and i, whatever runs first.

The hash is Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
Keys, bits, uniform and normal numbers (of 32 bits or more) are those of `jax.random`, partitionable, for the same key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from treadle.core import (
    ConfigError,
    DType,
    DTypeError,
    ShapeError,
    Type,
    float32,
    float64,
    int32,
    int64,
    uint32,
    uint64,
)
from treadle.ir import Node, constant
from treadle.te import fn, literal

from .arithmetic import Clip
from .base import Array, Elementwise, check_dtypes, sum_dtype
from .broadcast import full, reshape
from .cast import cast
from .compare import Equal, Less
from .indexing import Iota
from .logic import BitwiseAnd, BitwiseLeftShift, BitwiseOr, BitwiseRightShift, BitwiseXor, where
from .math import Log
from .movement import Slice
from .reduce import ArgMax
from .sort import sorted_rows
from .special import Erfinv

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA

Word = TypeVar("Word")


def threefry_rounds(
    key: tuple[Word, Word],
    counter: tuple[Word, Word],
    *,
    add: Callable[[Word, Word], Word],
    xor: Callable[[Word, Word], Word],
    rotate: Callable[[Word, int], Word],
    number: Callable[[int], Word],
) -> tuple[Word, Word]:
    """Return the two words of Threefry-2x32-20, in the arithmetic given: of arrays here, of scalars in the formula."""
    schedule = (key[0], key[1], xor(xor(key[0], key[1]), number(PARITY)))
    x0, x1 = add(counter[0], schedule[0]), add(counter[1], schedule[1])
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            x0 = add(x0, x1)
            x1 = xor(rotate(x1, distance), x0)
        x0 = add(x0, schedule[(group + 1) % 3])
        x1 = add(x1, add(schedule[(group + 2) % 3], number(group + 1)))
    return x0, x1


@dataclass(frozen=True)
class Threefry(Elementwise):
    """Word 0 or 1 of the hash of a counter (two words) under a key (two words), all uint32.

    The two words share all their rounds: a kernel that needs both computes them once.
    """

    name = "threefry"
    word: int

    def infer(self, *types: Type) -> Type:
        if any(t.dtype is not uint32 for t in types):
            raise DTypeError(f"threefry: key and counter are {', '.join(map(str, types))}. All must be uint32.")
        return super().infer(*types)

    def eval(self, *args: Array) -> Array:
        def rotate(x: Array, distance: int) -> Array:
            return (x << np.uint32(distance)) | (x >> np.uint32(32 - distance))

        k0, k1, c0, c1 = (np.asarray(a, np.uint32) for a in np.broadcast_arrays(*[np.atleast_1d(a) for a in args]))
        words = threefry_rounds((k0, k1), (c0, c1), add=np.add, xor=np.bitwise_xor, rotate=rotate, number=_uint32)
        return words[self.word].reshape(np.broadcast_shapes(*[a.shape for a in args]))

    def scalar(self, *args: Node) -> Node:
        def number(value: int) -> Node:
            return literal(value, uint32)

        def rotate(x: Node, distance: int) -> Node:
            return fn("or", fn("shl", x, number(distance)), fn("shr", x, number(32 - distance)))

        def add(x: Node, y: Node) -> Node:
            return fn("add", x, y)

        def xor(x: Node, y: Node) -> Node:
            return fn("xor", x, y)

        k0, k1, c0, c1 = args
        return threefry_rounds((k0, k1), (c0, c1), add=add, xor=xor, rotate=rotate, number=number)[self.word]

    def vjp(self, ct: Node, out: Node, *args: Any) -> Sequence[Node | None]:
        return [None] * 4


# Keys


def key_words(seed: int) -> tuple[int, int]:
    """Return the two words of the key of a seed: its high and its low 32 bits."""
    if not 0 <= seed < 1 << 64:
        raise ConfigError(f"random: seed {seed} is out of range. Allowed: 0..2**64 - 1.")
    return seed >> 32, seed & 0xFFFFFFFF


def key_from_seed(seed: int) -> Node:
    """Return the key of a seed."""
    high, low = key_words(seed)
    return _pair(constant(high, uint32), constant(low, uint32))


def split(key: Node, num: int = 2) -> Node:
    """Return `num` new keys, uint32[num, 2], that share nothing with each other or with numbers drawn from `key`."""
    if num < 0:
        raise ShapeError(f"split: num {num} is negative. Give the number of keys.")
    return _pair(*words(key, (num,)))


def fold_in(key: Node, data: Node | int) -> Node:
    """Return a new key made of a key and a number: an int below 2**32, or an integer scalar node such as a step."""
    if isinstance(data, int):
        if not 0 <= data < 1 << 32:
            raise ConfigError(f"fold_in: {data} is out of range. Allowed: 0..2**32 - 1.")
        data = constant(data, uint32)
    if data.shape:
        raise ShapeError(f"fold_in: the number is {data.type}. It must be a scalar.")
    k0, k1 = _halves(key)
    counter = (constant(0, uint32), cast(data, uint32))
    return _pair(Threefry(0)(k0, k1, *counter), Threefry(1)(k0, k1, *counter))


def _pair(first: Node, second: Node) -> Node:
    """Return two tensors side by side along a new last axis."""
    a, b = (reshape(x, (*x.shape, 1)) for x in (first, second))
    return where(Equal()(Iota(2, int32)(), constant(0, int32)), a, b)


def _halves(key: Node) -> tuple[Node, Node]:
    """Return the two words of a key as scalars."""
    if key.type != Type(uint32, (2,)):
        raise DTypeError(f"random: the key is {key.type}. It must be uint32[2], as from key(), split() or fold_in().")
    return reshape(Slice((0,), (1,), (1,))(key), ()), reshape(Slice((1,), (1,), (1,))(key), ())


# Bits


def words(key: Node, shape: Sequence[int], *, stream: int = 0) -> tuple[Node, Node]:
    """Return two independent uint32 tensors of random bits.

    Args:
        key: the key.
        shape: their shape; the element at row-major position i is the hash of i.
        stream: another number gives other bits of the same key; below 2**8.
    """
    size = math.prod(shape)
    assert size < 1 << 56, f"random: {list(shape)} has more elements than there are counters"
    position = Iota(size, uint32 if size <= 1 << 32 else uint64)()
    high = constant(stream << 24, uint32)
    if position.dtype is uint64:
        high = BitwiseOr()(cast(BitwiseRightShift()(position, constant(32, uint64)), uint32), high)
    low = cast(position, uint32)
    k0, k1 = _halves(key)
    return reshape(Threefry(0)(k0, k1, high, low), shape), reshape(Threefry(1)(k0, k1, high, low), shape)


def bits(key: Node, shape: Sequence[int], dtype: DType = uint32) -> Node:
    """Return random bits as an unsigned integer dtype."""
    if dtype.kind != "uint":
        raise DTypeError(f"bits: {dtype.name} has no plain bits. Allowed: uint8, uint16, uint32, uint64.")
    first, second = words(key, shape)
    return _joined(first, second) if dtype is uint64 else cast(BitwiseXor()(first, second), dtype)


def _joined(high: Node, low: Node) -> Node:
    shifted = BitwiseLeftShift()(cast(high, uint64), constant(32, uint64))
    return BitwiseOr()(shifted, cast(low, uint64))


# Distributions

# Digits after the point of a fraction, and the random bits they are the first of: bfloat16 uses 7 of 8.
FRACTION = {"float16": (10, 16), "bfloat16": (7, 8), "float32": (23, 32), "float64": (52, 64)}


def uniform(key: Node, shape: Sequence[int], dtype: DType = float32, low: float = 0.0, high: float = 1.0) -> Node:
    """Return floats in [low, high), evenly spaced by (high - low) / 2**23 in float32 (2**10, 2**7, 2**52 in others)."""
    _float_only("uniform", dtype)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"uniform: bounds {low} and {high} are not usable. They must be finite, the lower first.")
    digits, width = FRACTION[dtype.name]
    drawn = bits(key, shape, uint64 if width == 64 else uint32)
    if width < 32:
        drawn = BitwiseAnd()(drawn, constant((1 << width) - 1, uint32))
    whole = BitwiseRightShift()(drawn, constant(width - digits, drawn.dtype))
    # Whole numbers below 2**52 are positive in the signed type too, which CPUs convert faster.
    fraction = cast(cast(whole, int64 if width == 64 else int32), dtype) * 2.0**-digits
    if (low, high) == (0.0, 1.0):
        return fraction
    first, last = (float(dtype.numpy.type(v)) for v in (low, high))
    scaled = fraction * (last - first) + first
    # Rounding may reach `high`; the largest float below it is the end.
    end = float(np.nextafter(dtype.numpy.type(last), dtype.numpy.type(first)))
    return Clip()(scaled, constant(first, dtype), constant(end, dtype))


def normal(key: Node, shape: Sequence[int], dtype: DType = float32) -> Node:
    """Return normally distributed floats with mean 0 and variance 1, by inverting the distribution function.

    Shorter floats are float32's, rounded: their own few uniform numbers would leave out the tails.
    """
    _float_only("normal", dtype)
    wide = sum_dtype(dtype)
    above = float(np.nextafter(wide.numpy.type(-1), wide.numpy.type(0)))
    return cast(Erfinv()(uniform(key, shape, wide, above, 1.0)) * math.sqrt(2), dtype)


def integers(key: Node, shape: Sequence[int], low: int, high: int, dtype: DType = int64) -> Node:
    """Return integers in [low, high).

    A number is floor(bits * n / 2**k) for n = high - low and k = 64 random bits, 128 where n is above 2**32: no
    probability is off by more than n / 2**k of itself.
    """
    if not dtype.is_integer:
        raise DTypeError(f"integers: dtype is {dtype.name}. It must be an integer dtype.")
    info = np.iinfo(dtype.numpy)
    if not info.min <= low < high <= info.max + 1:
        raise ConfigError(
            f"integers: [{low}, {high}) is not a range of {dtype.name}. "
            f"Allowed: low < high within {info.min}..{info.max + 1}."
        )
    return cast(_below(key, shape, high - low) + (low % (1 << 64)), dtype)


def _below(key: Node, shape: Sequence[int], n: int) -> Node:
    """Return uint64 numbers below n."""
    first, second = words(key, shape)
    if n == 1 << 64:
        return _joined(first, second)
    limbs = [second, first]  # least significant first
    if n > 1 << 32:
        limbs = [*reversed(words(key, shape, stream=1)), *limbs]
    mask, shift = constant(0xFFFFFFFF, uint64), constant(32, uint64)
    total = full(0, uint64, shape)
    for limb in limbs:
        # floor((limb * n + total) / 2**32): dropping the fraction each time gives the floor of the whole product.
        wide = cast(limb, uint64)
        carry = BitwiseRightShift()(wide * (n & 0xFFFFFFFF) + BitwiseAnd()(total, mask), shift)
        total = carry + BitwiseRightShift()(total, shift)
        if n >> 32:
            total = total + wide * (n >> 32)
    return total


def bernoulli(key: Node, shape: Sequence[int], p: float | Node) -> Node:
    """Return bools that hold with probability p (a number, or a float tensor that broadcasts to the shape)."""
    if isinstance(p, Node):
        return Less()(uniform(key, shape, p.dtype), p)
    if not 0 <= p <= 1:
        raise ConfigError(f"bernoulli: p={p} is not a probability. Allowed: 0..1.")
    return Less()(uniform(key, shape, float32), constant(p, float32))


def categorical(key: Node, logits: Node) -> Node:
    """Return indices along the last axis, each with the probability of softmax(logits): the Gumbel-max trick."""
    _float_only("categorical", logits.dtype)
    dtype = float64 if logits.dtype is float64 else float32
    tiny = float(np.finfo(dtype.numpy).tiny)
    noise = -Log()(-Log()(uniform(key, logits.shape, dtype, tiny, 1.0)))
    return ArgMax(logits.type.ndim - 1)(cast(logits, dtype) + noise)


def permutation(key: Node, n: int) -> Node:
    """Return 0..n-1 in random order, int64[n]: the positions sorted by random numbers of 64 - log2(n) bits.

    Each order is as likely as another but for ties among those numbers, whose probability is below n**3 / 2**64.
    """
    if n < 0:
        raise ShapeError(f"permutation: n={n} is negative. Give the number of elements.")
    index_bits = max(n - 1, 1).bit_length()
    assert index_bits <= 32, f"permutation: {n} elements are too many"
    place = constant((1 << index_bits) - 1, uint64)
    drawn = bits(key, (n,), uint64)
    # The position in the lower bits makes all numbers different and travels along with them.
    packed = BitwiseOr()(BitwiseXor()(drawn, BitwiseAnd()(drawn, place)), Iota(n, uint64)())
    ordered, _ = sorted_rows(packed)
    return cast(BitwiseAnd()(ordered, place), int64)


def _uint32(value: int) -> Array:
    return np.asarray(value, np.uint32)


def _float_only(what: str, dtype: DType) -> None:
    check_dtypes(what, (Type(dtype),), ("float",))
