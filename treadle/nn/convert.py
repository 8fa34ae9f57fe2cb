"""Modules in another dtype: what the arguments of `Module.to` ask for, and the conversion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from treadle.core import ConfigError, DType, DTypeError, as_dtype
from treadle.tensor import Value

from .parameter import Uninitialized, renew

if TYPE_CHECKING:
    from .module import Module

DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")  # what PyTorch programs name
M = TypeVar("M", bound="Module")


def wanted_dtype(
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    tensor: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
) -> DType | None:
    """Return the dtype that arguments as PyTorch's `to` takes them ask for; None where they name the CPU only."""
    del non_blocking, copy  # copies between devices
    for given in (*args, device, dtype, tensor):
        if given is None or isinstance(given, bool):
            continue
        if isinstance(given, Value):
            dtype = given.read().dtype
        elif isinstance(given, str) and given.partition(":")[0] in DEVICES:
            if given != "cpu":
                raise ConfigError(f"to: there is no device {given!r}. Allowed: 'cpu'.")
        else:
            dtype = given
    if dtype is None:
        return None
    wanted = as_dtype(dtype)
    if not wanted.is_float:
        raise DTypeError(f"to: parameters cannot be {wanted.name}. Allowed: floating-point dtypes.")
    return wanted


def converted(module: M, dtype: DType) -> M:
    """Convert floating-point parameters and buffers; a cell stays the same object, as optimisers hold it."""
    for _, cell in module.named_cells():
        if isinstance(cell, Uninitialized):
            cell.retype(dtype)
        elif cell.dtype.is_float:
            renew(cell, cell.detach().astype(dtype))
    return module
