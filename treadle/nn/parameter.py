"""What changes in a model: parameters, which are trained, and buffers, which are kept beside them."""

from __future__ import annotations

from treadle.tensor import Cell
from treadle.tensor.promotion import Operand


class Parameter(Cell):
    """A cell whose value is trained: `backward()` collects its gradient in `.grad`."""

    __slots__ = ()

    def __init__(self, data: Operand, requires_grad: bool = True) -> None:  # PyTorch's signature
        super().__init__(data, requires_grad=requires_grad)


class Buffer(Cell):
    """A cell whose value is not trained: counters, statistics, optimiser state.

    `persistent` ones are part of the state dict.
    """

    __slots__ = ("persistent",)

    def __init__(self, data: Operand, *, persistent: bool = True) -> None:
        super().__init__(data, requires_grad=False)
        self.persistent = persistent

    def _extras(self) -> dict[str, bool]:
        return {"persistent": self.persistent}
