"""The IDX files of MNIST and its kin: a magic number, the sizes, the bytes (LeCun's format, gzip-packed or not)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray[Any, Any]:
    """Return the array in an IDX file.

    Raises:
        DataError: the file cannot be read, is of another format, or is cut short.
    """
    try:
        raw = Path(path).read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"read_idx: {path} cannot be read: {error}. Give an IDX file, gzip-packed or not.") from None
    return parse_idx(data, str(path))


def parse_idx(data: bytes, what: str = "the data") -> np.ndarray[Any, Any]:
    """Return the array in the bytes of an IDX file, in the machine's byte order."""
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise DataError(f"read_idx: {what} begins with {data[:4]!r}; an IDX file begins with 00 00, a type and a rank.")
    dtype, ndim = np.dtype(DTYPES[data[2]]), data[3]
    start = 4 + 4 * ndim
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">u4")) if len(data) >= start else ()
    wanted = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(data) != wanted:
        raise DataError(
            f"read_idx: {what} has {len(data)} bytes; an array of {list(shape)} takes {wanted}. The file is damaged or "
            "cut short; get it again."
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
