"""Cells: the only things that change. A cell holds a tensor; the next one it is given takes its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treadle.core import DType, GradientError, ShapeError, TraceError
from treadle.ir import Node

from .creation import asarray
from .in_place import InPlace
from .markers import Variable, Watch
from .promotion import Operand, as_tensor, cast
from .realize import Data
from .tensor import Tensor
from .trace import state
from .value import Maker, Value, expect, marked, new_variable, node_of
from .watch import GradientHook, hooked


class Cell(InPlace):
    """A tensor that can be replaced by another of the same shape and dtype; usable wherever a tensor is.

    Reading gives the tensor held now, and inside a compiled function the one held when it runs. What is stored is cut
    from the history of how it was computed.
    """

    __slots__ = ("__weakref__", "_requires_grad", "_uid", "collected", "held", "hooks", "lent")

    held: Tensor  # what reading gives, seen without lending it or asking the trace
    collected: Tensor | None  # the gradient outside of any trace
    hooks: tuple[GradientHook, ...]  # that see the gradient before it is collected
    lent: bool  # whether somebody else may hold the tensor, so that its memory must not be written to

    def __init__(self, value: Any, *, requires_grad: bool = False) -> None:
        tensor = asarray(value)
        self.lent = not _is_own(value, tensor.node)
        self._uid = new_variable(self)
        self.collected = None
        self.hooks = ()
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
        if self._requires_grad:
            node = marked(self._uid, node)
            node = hooked(node, self.hooks) if self.hooks else node
        tensor = Maker.new(node, depth, self._requires_grad)
        tensor.uid = self._uid if self._requires_grad else 0
        return tensor

    @property
    def data(self) -> CellData:
        """What is held, apart from gradients; assign to it, or change it in place, to change this."""
        return CellData(self)

    @data.setter
    def data(self, value: Operand) -> None:
        self.value = value

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
            self._requires_grad = requires_grad
            self._mark_again()
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> CellHook:
        """Call `hook(gradient)` before a gradient is added to `.grad`; what it returns, if not None, is added instead.

        In a compiled function it is called when that is traced; one registered or removed later compiles it anew.
        `remove()` of the result ends it.
        """
        if not self._requires_grad:
            raise GradientError(f"register_hook: {self!r} collects no gradient. Call requires_grad_() first.")
        if state.trace is not None:
            raise TraceError("register_hook: a compiled function cannot hook what outlives it. Do it before the call.")
        found = CellHook(self, hook)
        self.hooks = (*self.hooks, found)
        self._mark_again()
        return found

    def unhook(self, hook: CellHook) -> None:
        """Take a hook off; nothing happens if it is not there."""
        if hook in self.hooks:
            self.hooks = tuple(h for h in self.hooks if h is not hook)
            self._mark_again()

    def _mark_again(self) -> None:
        depth = self.held.depth
        self.held = self.reads(_bare(self.held.node))
        self.held.depth = depth

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


class CellData(InPlace):
    """What a cell holds, apart from gradients: PyTorch's `.data`. What changes it in place changes the cell."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def read(self) -> Tensor:
        """Return the tensor held now, not connected to gradients."""
        return self._cell.detach()

    @property
    def requires_grad(self) -> bool:
        """No gradient passes through it."""
        return False

    def detach(self) -> Tensor:
        """Return the tensor held now."""
        return self.read()

    @property
    def value(self) -> Tensor:
        """The tensor held now; assign to replace it."""
        return self.read()

    @value.setter
    def value(self, value: Operand) -> None:
        self._cell.value = value


class CellHook(GradientHook):
    """A function that sees the gradient that a cell collects; `remove()` ends that."""

    def __init__(self, cell: Cell, function: Callable[[Any], Any]) -> None:
        super().__init__(function)
        self.cell = cell

    def remove(self) -> None:
        """See no gradient any more; nothing happens the second time."""
        super().remove()
        self.cell.unhook(self)


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
    while isinstance(node.op, Variable | Watch):
        node = node.args[0]
    return node
