"""What changes in a model: parameters, which are trained, and buffers, which are kept beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from treadle.core import ShapeError
from treadle.tensor import Cell, Tensor
from treadle.tensor.creation import empty, zeros
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


def renew(cell: Parameter | Buffer, value: Operand) -> None:
    """Let a cell hold a value of any shape and dtype, as if it were new; optimisers that hold it go on holding it."""
    if isinstance(cell, Parameter):
        Parameter.__init__(cell, value, cell.requires_grad)
    else:
        Buffer.__init__(cell, value, persistent=cell.persistent)


class Uninitialized:
    """A parameter or buffer whose shape is not known yet: that of a lazy module before its first call.

    `materialize` makes it one like others; it stays the same object, so that what holds it need not know.
    """

    __slots__ = ()
    becomes: ClassVar[type[Parameter | Buffer]]

    @property
    def held(self) -> Tensor:
        """There is none: ShapeError."""
        raise ShapeError(
            f"{type(self).__name__}: it has no shape and no value yet; its lazy module finds them out when it is first "
            "called. Call the model once with an input like those to come, or load a state dict, before you save "
            "it, make an optimiser for it or count its parameters."
        )

    @held.setter
    def held(self, value: Tensor) -> None:
        _HELD.__set__(self, value)

    @property
    def dtype(self) -> Any:
        """The type that its elements will have."""
        return _HELD.__get__(self).dtype

    def materialize(self: Any, shape: Sequence[int], *, dtype: object = None) -> None:
        """Become one of this shape, whose value is to be set."""
        value = empty(tuple(shape), dtype=self.dtype if dtype is None else dtype)
        self.__class__ = self.becomes
        renew(self, value)

    def retype(self, dtype: object) -> None:
        """Set the type that its elements will have."""
        self.held = zeros((0,), dtype=dtype)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Set whether it will collect a gradient; return it."""
        self._requires_grad = requires_grad
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype.name})"


_HELD: Any = Cell.__dict__["held"]  # the slot, here a tensor without elements that knows the dtype


class UninitializedParameter(Uninitialized, Parameter):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A parameter without a shape; see `LazyModule`."""

    __slots__ = ()
    becomes = Parameter

    def __init__(self, requires_grad: bool = True, *, dtype: object = "float32") -> None:
        Parameter.__init__(self, zeros((0,), dtype=dtype), requires_grad)

    def __reduce__(self) -> Any:
        return _uninitialized, (type(self), {"requires_grad": self.requires_grad, "dtype": self.dtype})


class UninitializedBuffer(Uninitialized, Buffer):  # pyright: ignore[reportIncompatibleVariableOverride]
    """A buffer without a shape; see `LazyModule`."""

    __slots__ = ()
    becomes = Buffer

    def __init__(self, *, dtype: object = "float32", persistent: bool = True) -> None:
        Buffer.__init__(self, zeros((0,), dtype=dtype), persistent=persistent)

    def __reduce__(self) -> Any:
        return _uninitialized, (type(self), {"dtype": self.dtype, "persistent": self.persistent})


def _uninitialized(kind: type[Any], settings: dict[str, Any]) -> Any:
    return kind(**settings)
