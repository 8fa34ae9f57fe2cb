"""Cells: the only things that change. A cell holds a tensor; the next one it is given takes its place."""

from __future__ import annotations

from typing import Any

from treadle.core import DType, GradientError, ShapeError
from treadle.ir import Node

from .creation import asarray
from .markers import Variable
from .operators import Operators
from .promotion import Operand, as_tensor, cast
from .realize import Data
from .tensor import Tensor
from .trace import state
from .value import Maker, Value, expect, marked, new_variable, node_of


class Cell(Operators):
    """A tensor that can be replaced by another of the same shape and dtype; usable wherever a tensor is.

    Reading gives the tensor held now, and inside a compiled function the one held when it runs. What is stored is cut
    from the history of how it was computed.
    """

    __slots__ = ("__weakref__", "_requires_grad", "_uid", "collected", "held", "lent")

    held: Tensor  # what reading gives, seen without lending it or asking the trace
    collected: Tensor | None  # the gradient outside of any trace
    lent: bool  # whether somebody else may hold the tensor, so that its memory must not be written to

    def __init__(self, value: Any, *, requires_grad: bool = False) -> None:
        tensor = asarray(value)
        self.lent = not _is_own(value, tensor.node)
        self._uid = new_variable(self)
        self.collected = None
        self._requires_grad = False
        self.held = self.reads(tensor.detach().node)
        self.requires_grad_(requires_grad)

    def read(self) -> Tensor:
        """Return the tensor held now."""
        if state.trace is not None:
            return state.trace.read(self)
        self.lent = True
        return self.held

    # What never changes is known without reading, which would lend the tensor.

    @property
    def dtype(self) -> DType:
        """The type of its elements."""
        return self.held.node.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of elements along every axis."""
        return self.held.node.type.shape

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.held.node.type.size

    @property
    def value(self) -> Tensor:
        """The tensor held now; assign to replace it."""
        return self.read()

    @value.setter
    def value(self, value: Operand) -> None:
        given = as_tensor("Cell", value)
        held = self.held.node.type
        if given.shape != held.shape:
            raise ShapeError(
                f"{type(self).__name__}: holds {held!r} and cannot take {given.node.type!r}; shapes must be equal. "
                f"Reshape the value, or make a new {type(self).__name__}."
            )
        node = cast(node_of(given.detach()), held.dtype)
        replacement = self.reads(node, given)
        if state.trace is not None:
            state.trace.write(self, replacement)
        else:
            self.held = replacement
            self.lent = not _is_own(value, node)
            expect(replacement)

    def reads(self, node: Node, *sources: Tensor) -> Tensor:
        """Return the tensor that reading gives when the cell holds `node`: marked if the cell collects a gradient."""
        depth = max((s.depth for s in sources), default=1)
        tensor = Maker.new(marked(self._uid, node) if self._requires_grad else node, depth, self._requires_grad)
        tensor.uid = self._uid if self._requires_grad else 0
        return tensor

    @property
    def uid(self) -> int:
        """The number of the marker that says whose gradient it is."""
        return self._uid

    @property
    def requires_grad(self) -> bool:
        """Whether backward() collects a gradient for it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Cell:
        """Start, or stop, collecting a gradient in `.grad`; return the cell itself."""
        if requires_grad and not self.held.dtype.is_float:
            raise GradientError(
                f"requires_grad_: {self.held.node.type!r} does not hold floats and has no gradient. Use a Buffer "
                "for it."
            )
        if requires_grad != self._requires_grad:
            depth = self.held.depth
            self._requires_grad = requires_grad
            self.held = self.reads(_bare(self.held.node))
            self.held.depth = depth
        return self

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() has collected, or None."""
        return self.collected if state.trace is None else state.trace.read_grad(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if state.trace is None:
            self.collected = value
        else:
            state.trace.write_grad(self, value)

    def detach(self) -> Tensor:
        """Return the tensor held now, not connected to gradients."""
        return self.read().detach()

    def __reduce__(self) -> Any:
        """Copy and pickle the value and whether it collects a gradient; the gradient stays behind, as in PyTorch."""
        return (_copied, (type(self), self.detach(), self._requires_grad, self._extras()))

    def _extras(self) -> dict[str, Any]:
        """Return what a subclass has besides."""
        return {}

    # In-place operators replace the tensor held; the name on the left keeps meaning the cell.

    def _replace(self, value: Tensor) -> Cell:
        self.value = value
        return self

    def __iadd__(self, other: Operand) -> Cell:
        return self._replace(self + other)

    def __isub__(self, other: Operand) -> Cell:
        return self._replace(self - other)

    def __imul__(self, other: Operand) -> Cell:
        return self._replace(self * other)

    def __itruediv__(self, other: Operand) -> Cell:
        return self._replace(self / other)


def _copied(kind: type[Cell], value: Tensor, requires_grad: bool, extras: dict[str, Any]) -> Cell:
    cell = object.__new__(kind)
    Cell.__init__(cell, value, requires_grad=requires_grad)
    for name, extra in extras.items():
        setattr(cell, name, extra)
    return cell


def _is_own(given: object, node: Node) -> bool:
    """Whether the data is a copy that was made of what was given, so that nobody else can hold it."""
    return not isinstance(given, Value) and isinstance(_bare(node).op, Data)


def _bare(node: Node) -> Node:
    return node.args[0] if isinstance(node.op, Variable) else node
