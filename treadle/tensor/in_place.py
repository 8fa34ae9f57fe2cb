"""Changes in place, by PyTorch's names: another tensor is put in the place of the one that is held."""

from __future__ import annotations

from typing import Any, Self

from . import arithmetic
from . import elementwise as ew
from .creation import full, zeros
from .indexing import Key
from .manipulation import broadcast_to
from .operators import Operators
from .promotion import Number, Operand, as_tensor
from .tensor import Tensor


class InPlace(Operators):
    """What holds a tensor that can be replaced. The name on the left of `+=` goes on meaning it."""

    __slots__ = ()

    @property
    def value(self) -> Tensor:
        """The tensor held now; assign to replace it."""
        raise NotImplementedError(f"{type(self).__name__}.value")

    @value.setter
    def value(self, value: Operand) -> None:
        raise NotImplementedError(f"{type(self).__name__}.value")

    def _replace(self, value: Tensor) -> Self:
        self.value = value
        return self

    def __iadd__(self, other: Operand) -> Self:
        return self._replace(self + other)

    def __isub__(self, other: Operand) -> Self:
        return self._replace(self - other)

    def __imul__(self, other: Operand) -> Self:
        return self._replace(self * other)

    def __itruediv__(self, other: Operand) -> Self:
        return self._replace(self / other)

    def __setitem__(self, key: Key, value: Any) -> None:
        self._replace(self.read().at[key].set(as_tensor("[] =", value)))

    def copy_(self, src: Operand) -> Self:
        """Hold the elements of another tensor, broadcast to this shape; return itself."""
        return self._replace(broadcast_to(as_tensor("copy_", src), self.shape))

    def fill_(self, value: Number) -> Self:
        """Set every element; return itself."""
        return self._replace(full(self.shape, value, dtype=self.dtype))

    def zero_(self) -> Self:
        """Set every element to 0; return itself."""
        return self._replace(zeros(self.shape, dtype=self.dtype))

    def add_(self, other: Operand, *, alpha: Number = 1) -> Self:
        """Add `alpha` times another tensor; return itself."""
        return self._replace(self + (other if alpha == 1 else ew.multiply(other, alpha)))

    def sub_(self, other: Operand, *, alpha: Number = 1) -> Self:
        """Subtract `alpha` times another tensor; return itself."""
        return self._replace(self - (other if alpha == 1 else ew.multiply(other, alpha)))

    def mul_(self, other: Operand) -> Self:
        """Multiply with another tensor; return itself."""
        return self._replace(self * other)

    def div_(self, other: Operand) -> Self:
        """Divide by another tensor; return itself."""
        return self._replace(self / other)

    def lerp_(self, end: Operand, weight: Operand) -> Self:
        """Go the share `weight` of the way to `end`; return itself."""
        return self._replace(arithmetic.lerp(self, end, weight))

    def clamp_(self, min: Operand | None = None, max: Operand | None = None) -> Self:
        """Limit every element; return itself."""
        return self._replace(ew.clip(self, min, max))
