"""The array API's functions of complex numbers, for the real ones that there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.core import DTypeError, bool_

from .creation import zeros_like
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor


def conj(x: Operand, /) -> Tensor:
    """Return the complex conjugate: of real numbers, x itself."""
    return _number("conj", x)


def real(x: Operand, /) -> Tensor:
    """Return the real part: of real numbers, x itself."""
    return _number("real", x)


def imag(x: Operand, /) -> Tensor:
    """Return the imaginary part: of real numbers, zeros."""
    return zeros_like(_number("imag", x))


def _number(what: str, x: Operand) -> Tensor:
    tensor = as_tensor(what, x)
    if tensor.dtype is bool_:
        raise DTypeError(f"{what}: does not take bool. Allowed: integers and floats. Convert with astype() first.")
    return tensor
