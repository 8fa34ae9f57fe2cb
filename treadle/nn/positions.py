"""Layers that add to each token where it stands."""

from __future__ import annotations

from treadle.core import ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import empty
from treadle.tensor.elementwise import clip
from treadle.tensor.promotion import Operand

from . import functional as F
from . import init
from .kv_cache import positions_from
from .module import Module
from .parameter import Buffer, Parameter


class _Positions(Module):
    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.length, self.width = length, width

    def table(self) -> Tensor:
        """Return one row for each position."""
        raise NotImplementedError

    def forward(self, x: Tensor, at: Operand | None = None) -> Tensor:
        """Return [..., T, C] with T rows of the table added: the first, or those from the position `at` on.

        `at` is [] or, where x is [B, T, C], [B]; positions past the table's end take its last row.
        """
        if x.ndim < 2 or x.shape[-1] != self.width or x.shape[-2] > self.length:
            raise ShapeError(
                f"{type(self).__name__}: {x.node.type!r} must be [..., T, {self.width}] with T up to {self.length}."
            )
        if at is None:
            return x + self.table()[: x.shape[-2]]
        rows = self.table()[clip(positions_from(at, x.shape[-2]), 0, self.length - 1)]
        return x + (rows if x.ndim > 2 else rows[0])

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.length}, {self.width}"


class SinusoidalPositions(_Positions):
    """Adds sines and cosines of fixed wavelengths (Vaswani et al. 2017, section 3.5)."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__(length, width)
        self.rows = Buffer(F.sinusoidal_positions(length, width), persistent=False)

    def table(self) -> Tensor:
        """Return the fixed table."""
        return self.rows.read()


class LearnedPositions(_Positions):
    """Adds a trained row for each position."""

    def __init__(self, length: int, width: int, *, std: float = 0.02) -> None:
        super().__init__(length, width)
        self.weight = Parameter(empty((length, width)))
        init.normal_(self.weight, std=std)

    def table(self) -> Tensor:
        """Return the trained table."""
        return self.weight.read()
