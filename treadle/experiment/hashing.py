"""Hashes of unit ids: splitmix64 for integers, xxh64 for strings; one at a time and over arrays, the same bits.

`unit_hash(salt, unit)` is the one definition everything else (buckets, variants, hold-outs, SQL) rests on:

    integer:  splitmix64(unit + salt mod 2^64)      two's complement, so -1 and 2^64 - 1 are one unit
    string:   xxh64(utf-8 bytes, seed = salt)

Sources: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the finalizer is
Stafford's variant 13); Collet, "xxHash fast digest algorithm", specification 0.2. A salt is itself the xxh64 of a
readable text, `salt_of("layer", "checkout", 3)`.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError, DataError, DTypeError

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the increment of splitmix64
MIX1, MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
PRIME1, PRIME2, PRIME3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
PRIME4, PRIME5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

BLOCK = 8192  # ids hashed at a time: 64 kB a temporary, so that all of them stay in a core's second cache

Unit = int | str
Words = NDArray[np.uint64]


# ---- one at a time ---------------------------------------------------------------------------------------------------


def splitmix64(x: int) -> int:
    """The splitmix64 output for state `x`, as an integer in [0, 2^64). Takes any integer modulo 2^64."""
    z = (x + GOLDEN) & MASK
    z = (z ^ z >> 30) * MIX1 & MASK
    z = (z ^ z >> 27) * MIX2 & MASK
    return z ^ z >> 31


def xxh64(data: str | bytes, seed: int = 0) -> int:
    """The 64-bit xxHash of bytes (a string's utf-8 bytes), as an integer in [0, 2^64)."""
    if isinstance(data, str):
        data = data.encode()
    size, at = len(data), 0
    if size >= 32:
        h, at = _stripes(data, seed)
    else:
        h = seed + PRIME5
    h = h + size & MASK
    # Products are reduced once, after the multiplication that follows a rotation: what a rotation leaves above bit 64
    # vanishes there.
    while at + 8 <= size:
        k = int.from_bytes(data[at : at + 8], "little") * PRIME2 & MASK
        h ^= (k << 31 | k >> 33) * PRIME1 & MASK
        h = (h << 27 | h >> 37) * PRIME1 + PRIME4 & MASK
        at += 8
    if at + 4 <= size:
        h ^= int.from_bytes(data[at : at + 4], "little") * PRIME1 & MASK
        h = (h << 23 | h >> 41) * PRIME2 + PRIME3 & MASK
        at += 4
    while at < size:
        h ^= data[at] * PRIME5 & MASK
        h = (h << 11 | h >> 53) * PRIME1 & MASK
        at += 1
    h = (h ^ h >> 33) * PRIME2 & MASK
    h = (h ^ h >> 29) * PRIME3 & MASK
    return h ^ h >> 32


def _stripes(data: bytes, seed: int) -> tuple[int, int]:
    """The four accumulators over the whole 32-byte stripes of `data`, merged; and where the stripes end."""
    lanes = [seed + PRIME1 + PRIME2 & MASK, seed + PRIME2 & MASK, seed, seed - PRIME1 & MASK]
    end = len(data) // 32 * 32
    for at in range(0, end, 8):
        lane = at // 8 % 4
        lanes[lane] = _round(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
    h = sum((v << r | v >> 64 - r) & MASK for v, r in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
    for v in lanes:
        h = ((h ^ _round(0, v)) * PRIME1 + PRIME4) & MASK
    return h, end


def _round(lane: int, word: int) -> int:
    lane = lane + word * PRIME2 & MASK
    return (lane << 31 | lane >> 33) * PRIME1 & MASK


def salt_of(*parts: Unit) -> int:
    """The 64-bit salt named by `parts`.

    It is the xxh64 of their texts, each with its length, so that ("a", "bc") and ("ab", "c") differ.
    """
    return xxh64("".join(f"{len(text)}:{text}" for text in map(str, parts)))


def unit_hash(salt: int, unit: Unit) -> int:
    """The hash of one unit under a salt, in [0, 2^64).

    Raises:
        DTypeError: `unit` is neither an integer nor a string.
        DataError: an integer outside [-2^63, 2^64).
    """
    if type(unit) is int:
        if -0x8000000000000000 <= unit <= MASK:
            return splitmix64(unit + salt)
        raise DataError(
            f"unit_hash: the id {unit} has more than 64 bits; an integer id lies in [-2^63, 2^64); give it as a string."
        )
    if isinstance(unit, str):
        return xxh64(unit, salt)
    if isinstance(unit, np.integer):
        return splitmix64(int(unit) + salt)
    raise DTypeError(
        f"unit_hash: a unit id is an integer or a string, got {unit!r} ({type(unit).__name__}); convert it first."
    )


# ---- over arrays -----------------------------------------------------------------------------------------------------


def unit_hashes(salt: int, units: Any) -> Words:
    """The hashes of many units under a salt: uint64[n], element i equal to `unit_hash(salt, units[i])`.

    Args:
        salt: 64-bit integer, see `salt_of`.
        units: integers (any width; NumPy array, pandas or polars column, sequence) or strings, see `as_units`.

    Raises:
        DTypeError, DataError: as `as_units`.
    """
    ids = as_units(units)
    return ids.xxh64(salt) if isinstance(ids, Strings) else _hash_blocks(salt, ids, None)


def _hash_blocks(salt: int, ids: Words, buckets: int | None) -> Words:
    out = np.empty(len(ids), np.uint64)
    add = np.uint64(salt + GOLDEN & MASK)
    scratch = np.empty(min(BLOCK, len(ids)), np.uint64)
    for at in range(0, len(ids), BLOCK):
        block = out[at : at + BLOCK]
        np.add(ids[at : at + BLOCK], add, out=block)
        mix(block, scratch[: len(block)])
        if buckets is not None:
            modulo(block, buckets, scratch[: len(block)])
    return out


def mix(z: Words, scratch: Words) -> None:
    """The splitmix64 finalizer over `z`, in place.

    `scratch` has its size. The caller has added the salt and `GOLDEN`.
    """
    for shift, factor in ((30, MIX1), (27, MIX2)):
        np.right_shift(z, np.uint64(shift), out=scratch)
        np.bitwise_xor(z, scratch, out=z)
        np.multiply(z, np.uint64(factor), out=z)
    np.right_shift(z, np.uint64(31), out=scratch)
    np.bitwise_xor(z, scratch, out=z)


def modulo(z: Words, size: int, scratch: Words) -> None:
    """`z mod size` in place. NumPy vectorises the division by a constant but not the remainder."""
    if size & size - 1 == 0:
        np.bitwise_and(z, np.uint64(size - 1), out=z)
        return
    np.floor_divide(z, np.uint64(size), out=scratch)
    np.multiply(scratch, np.uint64(size), out=scratch)
    np.subtract(z, scratch, out=z)


def buckets_of(salt: int, units: Any, buckets: int) -> Words:
    """The buckets H(salt, unit) mod `buckets` of many units: uint64[n].

    Raises:
        ConfigError: `buckets` is not in 1..2^32.
        DTypeError, DataError: as `as_units`.
    """
    if not 1 <= buckets <= 1 << 32:
        raise ConfigError(f"buckets_of: the number of buckets is {buckets}; it must be between 1 and 2^32.")
    ids = as_units(units)
    if not isinstance(ids, Strings):
        return _hash_blocks(salt, ids, buckets)
    z = ids.xxh64(salt)
    modulo(z, buckets, np.empty_like(z))
    return z


def as_units(units: Any) -> "Words | Strings":
    """The ids as 64-bit words (integers, two's complement) or as `Strings`; nothing is dropped or guessed.

    Raises:
        DTypeError: floats, booleans, or integers mixed with strings.
        DataError: a missing id (None, NaN, masked), an integer with more than 64 bits, or more than one axis; the
            message names the first rows.
    """
    if isinstance(units, Strings):
        return units
    array = _as_array(units)
    if array.ndim != 1:
        raise DataError(f"units: the ids have shape {array.shape}; give one axis, one id a row.")
    if array.dtype.kind == "u":
        return array.astype(np.uint64, copy=False)
    if array.dtype.kind == "i":
        return array.astype(np.int64, copy=False).view(np.uint64)
    if array.dtype.kind in "UT":
        return Strings(array.tolist())
    if array.dtype.kind == "O":
        return _from_objects(array.tolist())
    raise DTypeError(
        f"units: ids of dtype {array.dtype} are not allowed; a unit id is an integer or a string; cast "
        "the column, "
        "and see that no missing value turned integers into floats."
    )


def _as_array(units: Any) -> NDArray[Any]:
    column: Any = units  # of pandas, polars, Arrow, numpy.ma, or any sequence
    if isinstance(units, np.ma.MaskedArray):
        _no_missing(np.flatnonzero(np.ma.getmaskarray(column)), len(column))
    elif hasattr(column, "to_numpy"):
        _no_missing(np.flatnonzero(_null_rows(column)), len(column))
        column = column.to_numpy(zero_copy_only=False) if hasattr(column, "to_pylist") else column.to_numpy()
    if isinstance(column, np.ndarray):
        return column  # pyright: ignore[reportUnknownVariableType]
    items: list[Any] = list(column)
    if items and all(type(item) is int for item in items):
        try:
            return np.array(items, np.int64)
        except OverflowError:
            return np.array(items, object)
    return np.array(items, object) if items else np.empty(0, np.int64)


def _null_rows(column: Any) -> NDArray[np.bool_]:
    nulls = column.isna() if hasattr(column, "isna") else column.is_null()
    return np.asarray(nulls.to_numpy() if hasattr(nulls, "combine_chunks") else nulls, np.bool_)


def _no_missing(rows: NDArray[Any], total: int) -> None:
    if len(rows):
        raise DataError(
            f"units: {len(rows):,} of {total:,} ids are missing, first at rows "
            f"{[int(i) for i in rows[:5]]}; every row needs an id; "
            "filter these rows and count them, or mend the source."
        )


def _from_objects(units: list[Any]) -> "Words | Strings":
    _no_missing(
        np.asarray([i for i, u in enumerate(units) if u is None or (isinstance(u, float) and math.isnan(u))]),
        len(units),
    )
    if all(isinstance(unit, str) for unit in units):
        return Strings(units)
    wrong = [i for i, unit in enumerate(units) if not isinstance(unit, int | np.integer) or isinstance(unit, bool)]
    if wrong:
        unit = units[wrong[0]]
        raise DTypeError(
            f"units: {len(wrong):,} of {len(units):,} ids are not integers while others are, first at row "
            f"{wrong[0]}: {unit!r} "
            f"({type(unit).__name__}); ids are all integers or all strings; convert the column to one "
            "type."
        )
    large = [i for i, unit in enumerate(units) if not -(1 << 63) <= unit <= MASK]
    if large:
        raise DataError(
            f"units: {len(large):,} of {len(units):,} ids have more than 64 bits, first at row {large[0]}: "
            f"{units[large[0]]}; an integer id "
            "lies in [-2^63, 2^64); give them as strings."
        )
    return np.fromiter((int(unit) & MASK for unit in units), np.uint64, len(units))


class Strings:
    """Many strings as one run of utf-8 bytes with offsets.

    They are grouped by length so that a group hashes without branches.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        texts = list(strings)
        joined = "".join(texts)
        if joined.isascii():
            data = joined.encode()
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        else:
            encoded = [text.encode() for text in texts]
            data = b"".join(encoded)
            lengths = np.fromiter(map(len, encoded), np.int64, len(texts))
        self.texts = texts
        self.lengths = lengths
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)[:-1]]) if texts else lengths
        buffer = data + bytes(8)  # a word may be read past the last byte
        self.bytes = np.frombuffer(buffer, np.uint8)
        self.words4 = np.ndarray((len(data) + 1,), "<u4", buffer, strides=(1,))  # the word that starts at each byte
        self.words8 = np.ndarray((len(data) + 1,), "<u8", buffer, strides=(1,))
        self._groups: list[NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: NDArray[np.int64]) -> "Strings":
        numbers: list[int] = rows.tolist()
        return Strings([self.texts[i] for i in numbers])

    @property
    def groups(self) -> list[NDArray[np.int64]]:
        """The rows of each length, in order."""
        if self._groups is None:
            order = np.argsort(self.lengths, kind="stable")
            cuts = np.flatnonzero(np.diff(self.lengths[order])) + 1
            self._groups = np.split(order, cuts) if len(order) else []
        return self._groups

    def xxh64(self, seed: int = 0) -> Words:
        """The hashes of all strings with one seed: uint64[n]."""
        out = np.empty(len(self), np.uint64)
        for rows in self.groups:
            size = int(self.lengths[rows[0]])
            for at in range(0, len(rows), BLOCK):
                block = rows[at : at + BLOCK]
                out[block] = self._hash_block(self.starts[block], size, seed)
        return out

    def _hash_block(self, starts: NDArray[np.int64], size: int, seed: int) -> Words:
        short = np.full(len(starts), seed + PRIME5 & MASK, np.uint64)
        h = self._stripes(starts, size, seed) if size >= 32 else short
        h += np.uint64(size)
        for at in range(size // 32 * 32, size - 7, 8):
            h ^= _rotate(self.words8[starts + at] * np.uint64(PRIME2), 31) * np.uint64(PRIME1)
            h = _rotate(h, 27) * np.uint64(PRIME1) + np.uint64(PRIME4)
        at = size // 8 * 8
        if size & 4:
            h ^= self.words4[starts + at].astype(np.uint64) * np.uint64(PRIME1)
            h = _rotate(h, 23) * np.uint64(PRIME2) + np.uint64(PRIME3)
        for at in range(size // 4 * 4, size):
            h ^= self.bytes[starts + at].astype(np.uint64) * np.uint64(PRIME5)
            h = _rotate(h, 11) * np.uint64(PRIME1)
        h = (h ^ h >> np.uint64(33)) * np.uint64(PRIME2)
        h = (h ^ h >> np.uint64(29)) * np.uint64(PRIME3)
        return h ^ h >> np.uint64(32)

    def _stripes(self, starts: NDArray[np.int64], size: int, seed: int) -> Words:
        lanes = [
            np.full(len(starts), v & MASK, np.uint64)
            for v in (seed + PRIME1 + PRIME2, seed + PRIME2, seed, seed - PRIME1)
        ]
        for at in range(0, size // 32 * 32, 8):
            lane = at // 8 % 4
            lanes[lane] = _rotate(lanes[lane] + self.words8[starts + at] * np.uint64(PRIME2), 31) * np.uint64(PRIME1)
        h = _rotate(lanes[0], 1) + _rotate(lanes[1], 7) + _rotate(lanes[2], 12) + _rotate(lanes[3], 18)
        for v in lanes:
            h ^= _rotate(v * np.uint64(PRIME2), 31) * np.uint64(PRIME1)
            h = h * np.uint64(PRIME1) + np.uint64(PRIME4)
        return h


def _rotate(x: Words, bits: int) -> Words:
    return x << np.uint64(bits) | x >> np.uint64(64 - bits)
