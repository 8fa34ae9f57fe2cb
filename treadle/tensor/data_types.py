"""Functions of the array API about dtypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from treadle.core import DType, DTypeError, as_dtype, bfloat16, promote

from .creation import check_device
from .promotion import Operand, as_tensor, cast, integer_range, is_sequence, result_type
from .value import Value, made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

__all__ = [
    "FloatInfo",
    "IntegerInfo",
    "astype",
    "can_cast",
    "finfo",
    "iinfo",
    "isdtype",
    "result_type",
]


@dataclass(frozen=True)
class FloatInfo:
    """The limits of a floating-point dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IntegerInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def _dtype_of(what: object) -> DType:
    return what.read().dtype if isinstance(what, Value) else as_dtype(what)


def astype(x: Operand, dtype: object, /, *, copy: bool = True, device: object | None = None) -> Tensor:
    """Return x in another dtype. Tensors do not change, so `copy` makes no difference."""
    check_device("astype", device)
    tensor = as_tensor("astype", x)
    wanted = as_dtype(dtype)
    return tensor if tensor.dtype is wanted else made(cast(node_of(tensor), wanted), tensor)


def can_cast(from_: object, to: object, /) -> bool:
    """Whether every value of a dtype, or of a tensor's, is kept by promotion to another."""
    target = as_dtype(to)
    try:
        return promote(_dtype_of(from_), target) is target
    except DTypeError:
        return False


def finfo(type: object, /) -> FloatInfo:
    """Return the limits of a floating-point dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not dtype.is_float:
        raise DTypeError(f"finfo: {dtype.name} is not floating point. Use iinfo() for integers.")
    if dtype is bfloat16:  # float32 without the lower half
        high = (2 - 2**-7) * 2.0**127
        return FloatInfo(16, 2.0**-7, high, -high, 2.0**-126, dtype)
    info = np.finfo(dtype.numpy)
    return FloatInfo(dtype.bits, float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), dtype)


def iinfo(type: object, /) -> IntegerInfo:
    """Return the limits of an integer dtype, or of a tensor's."""
    dtype = _dtype_of(type)
    if not dtype.is_integer:
        raise DTypeError(f"iinfo: {dtype.name} is not an integer dtype. Use finfo() for floats.")
    low, high = integer_range(dtype)
    return IntegerInfo(dtype.bits, high, low, dtype)


_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int",),
    "unsigned integer": ("uint",),
    "integral": ("int", "uint"),
    "real floating": ("float",),
    "complex floating": (),
    "numeric": ("int", "uint", "float"),
}


def isdtype(dtype: object, kind: object) -> bool:
    """Whether a dtype is of a kind: a dtype, one of the array API's kind names, or a tuple of those."""
    if is_sequence(kind):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype).kind in _KINDS[kind]
    if isinstance(kind, DType):
        return as_dtype(dtype) is kind
    raise DTypeError(
        f"isdtype: {kind!r} is not a kind. Allowed: {', '.join(map(repr, _KINDS))}, a dtype, or a tuple of them."
    )
