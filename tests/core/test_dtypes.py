"""Promotion is the array API's table; dtypes are found by name, by NumPy dtype and by Python type."""

from __future__ import annotations

import copy
import itertools
import pickle
import re

import ml_dtypes
import numpy as np
import pytest

from treadle.core import (
    BY_NAME,
    BY_SHORT,
    DTYPES,
    DType,
    DTypeError,
    as_dtype,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    from_numpy,
    int8,
    int16,
    int32,
    int64,
    promote,
    uint8,
    uint16,
    uint32,
    uint64,
)

SIGNED, UNSIGNED = (int8, int16, int32, int64), (uint8, uint16, uint32, uint64)
# The array API standard, "Type promotion rules", mixed integers: rows are signed, columns unsigned.
MIXED = {
    int8: (int16, int32, int64, None),
    int16: (int16, int32, int64, None),
    int32: (int32, int32, int64, None),
    int64: (int64, int64, int64, None),
}


@pytest.mark.parametrize("kind", [SIGNED, UNSIGNED, (float32, float64)], ids=lambda k: k[0].name)
def test_within_a_kind_the_wider_wins(kind: tuple[DType, ...]) -> None:
    for a, b in itertools.product(kind, kind):
        assert promote(a, b) is kind[max(kind.index(a), kind.index(b))]


@pytest.mark.parametrize("signed", SIGNED, ids=str)
def test_mixed_integers_are_the_standard_s(signed: DType) -> None:
    for unsigned, expected in zip(UNSIGNED, MIXED[signed], strict=True):
        for a, b in ((signed, unsigned), (unsigned, signed)):
            if expected is None:
                with pytest.raises(
                    DTypeError, match=f"promote: {a.name} and {b.name} have no common integer type. Cast"
                ):
                    promote(a, b)
            else:
                assert promote(a, b) is expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bool_gives_way(dtype: DType) -> None:
    assert promote(bool_, dtype) is promote(dtype, bool_) is dtype


@pytest.mark.parametrize("short", [float16, bfloat16], ids=str)
def test_short_floats(short: DType) -> None:
    assert promote(short, short) is short
    assert promote(short, float32) is promote(float32, short) is float32
    assert promote(short, float64) is float64
    assert promote(float16, bfloat16) is promote(bfloat16, float16) is float32


def test_an_integer_beside_a_float_gives_the_float() -> None:
    for integer, real in itertools.product(SIGNED + UNSIGNED, (float16, bfloat16, float32, float64)):
        assert promote(integer, real) is promote(real, integer) is real


def test_promotion_is_commutative_and_idempotent() -> None:
    for a, b in itertools.product(DTYPES, DTYPES):
        try:
            joined = promote(a, b)
        except DTypeError:
            with pytest.raises(DTypeError):
                promote(b, a)
            continue
        assert promote(b, a) is joined
        assert promote(a, joined) is promote(joined, b) is joined
        assert promote(joined, joined) is joined


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_knows_itself(dtype: DType) -> None:
    assert as_dtype(dtype) is as_dtype(dtype.name) is as_dtype(dtype.numpy) is from_numpy(dtype.numpy) is dtype
    assert BY_NAME[dtype.name] is BY_SHORT[dtype.short] is dtype
    assert dtype.itemsize == dtype.numpy.itemsize
    assert pickle.loads(pickle.dumps(dtype)) is copy.deepcopy(dtype) is dtype
    assert repr(dtype) == dtype.short
    assert dtype.is_float == (dtype.kind == "float")
    assert dtype.is_integer == (dtype.numpy.kind in "iu")


def test_python_and_numpy_types() -> None:
    assert as_dtype(bool) is bool_
    assert as_dtype(int) is int64
    assert as_dtype(float) is float32
    assert as_dtype(np.int16) is int16
    assert as_dtype(np.float64) is float64
    assert as_dtype(ml_dtypes.bfloat16) is bfloat16
    assert as_dtype(">f4") is float32


@pytest.mark.parametrize("value", [np.complex64, "S3", object, np.dtype("datetime64[s]")], ids=str)
def test_dtypes_without_kernels(value: object) -> None:
    with pytest.raises(DTypeError, match=r"is not supported. Allowed: bool, int8, .* Convert with .astype\(\) first."):
        as_dtype(value)


@pytest.mark.parametrize("value", ["float33", 3.5, "nonsense"])
def test_what_is_not_a_dtype(value: object) -> None:
    with pytest.raises(DTypeError, match=re.escape(f"dtype: {value!r} is not a data type. Allowed: bool, int8,")):
        as_dtype(value)


def test_none_is_no_dtype() -> None:
    with pytest.raises(DTypeError, match=r"dtype: None is not a data type\."):
        as_dtype(None)  # NumPy takes it for float64
