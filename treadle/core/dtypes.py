"""Data types and the promotion lattice of the Python array API standard (2024.12), real types only."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import ml_dtypes
import numpy as np

from .errors import DTypeError

Kind = Literal["bool", "int", "uint", "float"]


@dataclass(frozen=True, eq=False)
class DType:
    """A data type. `short` is its name in printed programs (`f32`); compare with `is` or `==`."""

    name: str
    kind: Kind
    bits: int
    short: str

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory (a bool takes one byte)."""
        return max(self.bits, 8) // 8

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the same layout; bfloat16 comes from `ml_dtypes`."""
        return np.dtype(ml_dtypes.bfloat16) if self.name == "bfloat16" else np.dtype(self.name)

    @property
    def is_float(self) -> bool:
        """Whether values are floating point."""
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        """Whether values are signed or unsigned integers (bool is neither)."""
        return self.kind in ("int", "uint")

    def __repr__(self) -> str:
        return self.short

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return "bool_" if self.name == "bool" else self.name


bool_ = DType("bool", "bool", 1, "b1")
int8 = DType("int8", "int", 8, "i8")
int16 = DType("int16", "int", 16, "i16")
int32 = DType("int32", "int", 32, "i32")
int64 = DType("int64", "int", 64, "i64")
uint8 = DType("uint8", "uint", 8, "u8")
uint16 = DType("uint16", "uint", 16, "u16")
uint32 = DType("uint32", "uint", 32, "u32")
uint64 = DType("uint64", "uint", 64, "u64")
float16 = DType("float16", "float", 16, "f16")
bfloat16 = DType("bfloat16", "float", 16, "bf16")
float32 = DType("float32", "float", 32, "f32")
float64 = DType("float64", "float", 64, "f64")

DTYPES = (bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64)
BY_NAME = {d.name: d for d in DTYPES}
BY_SHORT = {d.short: d for d in DTYPES}
_BY_NUMPY = {d.numpy: d for d in DTYPES}
_SIGNED = {8: int8, 16: int16, 32: int32, 64: int64}
_ALIASES: dict[Any, DType] = {bool: bool_, int: int64, float: float32}


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """Return the DType of a NumPy dtype; DTypeError for one that treadle has no kernels for (complex, object, ...)."""
    found = _BY_NUMPY.get(dtype if dtype.isnative else dtype.newbyteorder("="))
    if found is None:
        raise DTypeError(
            f"dtype: {dtype} is not supported. Allowed: {', '.join(BY_NAME)}. Convert with .astype() first."
        )
    return found


def as_dtype(value: object) -> DType:
    """Return the DType meant by a DType, its name, a NumPy dtype, or Python's bool, int (int64), float (float32)."""
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in BY_NAME:
        return BY_NAME[value]
    if isinstance(value, type) and value in _ALIASES:
        return _ALIASES[value]
    try:
        if value is None:  # which NumPy takes for float64
            raise TypeError
        dtype: np.dtype[Any] = np.dtype(value)  # pyright: ignore[reportCallIssue, reportArgumentType]  # it judges
    except TypeError:
        raise DTypeError(f"dtype: {value!r} is not a data type. Allowed: {', '.join(BY_NAME)}.") from None
    return from_numpy(dtype)


def promote(a: DType, b: DType) -> DType:
    """Return the type two array operands meet in: the array API's table, and PyTorch's where that leaves a mix open.

    int with float gives the float; bool with anything gives the other; uint64 with a signed integer is refused.
    float16 with bfloat16 gives float32.
    """
    if a is b:
        return a
    if a.kind == "bool" or b.kind == "bool":
        return b if a.kind == "bool" else a
    if a.is_float and b.is_float:
        return float32 if a.bits == b.bits else (a if a.bits > b.bits else b)
    if a.is_float or b.is_float:
        return a if a.is_float else b
    if a.kind == b.kind:
        return a if a.bits > b.bits else b
    signed, unsigned = (a, b) if a.kind == "int" else (b, a)
    if signed.bits > unsigned.bits:
        return signed
    if unsigned.bits == 64:
        raise DTypeError(
            f"promote: {a.name} and {b.name} have no common integer type. "
            "Cast one of them, for instance to int64 or float64."
        )
    return _SIGNED[unsigned.bits * 2]
