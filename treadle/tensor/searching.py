"""Functions whose result has a shape that depends on values: their operands must be known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.core import ShapeError, bool_

from .data_types import astype
from .indexing import positions_of
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor


def nonzero(x: Operand, /) -> tuple[Tensor, ...]:
    """Return the positions of the elements that are not zero, one int64 vector per axis."""
    tensor = as_tensor("nonzero", x)
    if tensor.ndim == 0:
        raise ShapeError("nonzero: a 0-d tensor has no positions. Use bool(x), or reshape it to (1,).")
    return tuple(m.positions for m in positions_of(astype(tensor, bool_)))
