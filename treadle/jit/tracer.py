"""What a user's function becomes when it is run once on stand-ins: a graph, the cells it reads and writes, guards."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from treadle.core import TraceError, Type, flatten
from treadle.ir import Graph, Input, Node, substitute, topological
from treadle.tensor import Cell, Tensor
from treadle.tensor.realize import Data, Handle, bare, handle_of, is_traced
from treadle.tensor.trace import tracing
from treadle.tensor.value import Maker


@dataclass(eq=False)
class CellUse:
    """A cell lifted to an input, and what it holds at this point of the program."""

    cell: Cell
    input: Node
    held: Tensor
    written: bool = False
    requires_grad: bool = False
    hooks: tuple[object, ...] = ()


@dataclass(eq=False)
class GradUse:
    """The `.grad` of a cell or tensor.

    `local` means the function cleared it before anything else: the gradient is scratch of this function, and nobody
    pays for bringing it out. Otherwise it goes in (if it was there) and out like a cell. It is not `read` when the
    function put another in its place first: then it does not matter whether there was one.
    """

    owner: Any
    local: bool
    input: Node | None
    held: Tensor | None
    read: bool


@dataclass(frozen=True)
class Guard:
    """A Python value the trace looked at: the program is right only while it stays the same."""

    owner: Any
    attribute: str
    value: Any

    def holds(self) -> bool:
        """Whether the value is still what it was."""
        return getattr(self.owner, self.attribute) == self.value

    def changed(self) -> str:
        """Return what it was and is, in words."""
        now = getattr(self.owner, self.attribute)
        return f"{type(self.owner).__name__}.{self.attribute} was {self.value!r} and is {now!r}"


@dataclass
class Trace:
    """A function traced on given argument types.

    Attributes:
        graph: outputs are first the tensors among the results, then cells written, then gradients brought out.
        structure: the pytree of the result; `leaves` has, for each leaf, an output number or a static value.
        cells: inputs behind the arguments.
        written: the cells whose new values are outputs, in order.
        grads: gradients read or left behind.
        guards: what else the program depends on.
        constants: inputs behind all others, and the data each always has.
    """

    graph: Graph
    structure: Any
    leaves: list[tuple[bool, Any]]
    cells: list[CellUse]
    written: list[CellUse]
    grads: list[GradUse]
    guards: list[Guard]
    constants: list[tuple[Node, Handle]]


@dataclass
class Tracer:
    """The current trace while the user's function runs; see `treadle.tensor.trace.Trace`."""

    inputs: list[Node] = field(default_factory=list[Node])
    cells: dict[int, CellUse] = field(default_factory=dict[int, CellUse])
    first: dict[Node, Tensor] = field(default_factory=dict[Node, Tensor])  # by input; not kept beyond the trace
    grads: dict[int, GradUse] = field(default_factory=dict[int, GradUse])
    guards: dict[tuple[int, str], Guard] = field(default_factory=dict[tuple[int, str], Guard])

    def new_input(self, of: Type) -> Node:
        """Return the next input of the graph."""
        node = Input(len(self.inputs), of)()
        self.inputs.append(node)
        return node

    def _use(self, cell: Cell) -> CellUse:
        use = self.cells.get(id(cell))
        if use is None:
            node = self.new_input(cell.held.node.type)
            use = CellUse(cell, node, cell.reads(node), requires_grad=cell.requires_grad, hooks=cell.hooks)
            self.cells[id(cell)] = use
            self.first[node] = cell.held
        return use

    def read(self, cell: Cell) -> Tensor:
        """Return what the cell holds at this point of the program."""
        return self._use(cell).held

    def write(self, cell: Cell, value: Tensor) -> None:
        """Let the cell hold `value` from here on."""
        use = self._use(cell)
        use.held, use.written = value, True

    def read_grad(self, owner: Cell | Tensor) -> Tensor | None:
        """Return the gradient collected so far."""
        use = self.grads.get(id(owner))
        if use is None:
            outside = owner.collected
            node = None if outside is None else self.new_input(outside.node.type)
            held = None if node is None else Maker.new(node, 1, False)
            use = self.grads[id(owner)] = GradUse(owner, False, node, held, True)
        return use.held

    def write_grad(self, owner: Cell | Tensor, grad: Tensor | None) -> None:
        """Set the gradient from here on."""
        use = self.grads.get(id(owner))
        if use is None:
            use = self.grads[id(owner)] = GradUse(owner, grad is None, None, None, False)
        use.held = grad

    def guard(self, owner: Any, attribute: str, value: Any) -> None:
        """Note that the program depends on an attribute's value."""
        self.guards.setdefault((id(owner), attribute), Guard(owner, attribute, value))


def trace(function: Callable[..., Any], arguments: Callable[[Tracer], tuple[Any, Any]]) -> Trace:
    """Return the program of `function`; `arguments(tracer)` makes its stand-in positional and keyword arguments."""
    tracer = Tracer()
    args, kwargs = arguments(tracer)
    with tracing(tracer):
        result = function(*args, **kwargs)
        leaves, structure = flatten(result)
        leaves = [leaf.read() if isinstance(leaf, Cell) else leaf for leaf in leaves]
    del args, kwargs, result
    local = _forget_local(tracer)
    outputs: list[Node] = []

    def output(tensor: Tensor) -> int:
        outputs.append(bare(tensor.node))
        return len(outputs) - 1

    plan = [(True, output(leaf)) if isinstance(leaf, Tensor) else (False, leaf) for leaf in leaves]
    cells = list(tracer.cells.values())
    written = [use for use in cells if use.written and bare(use.held.node) is not use.input]
    for use in written:
        output(use.held)
    grads = list(tracer.grads.values())
    for use in grads:
        if not use.local and use.held is not None:
            output(use.held)
    outputs[:] = substitute(outputs, local)
    # Tensors the function closes over: their data stays where it is, as inputs that are bound once.
    found = [node for node in topological(outputs) if isinstance(node.op, Data)]
    inputs = {node: tracer.new_input(node.type) for node in found}
    constants = [(inputs[node], handle) for node in found if (handle := handle_of(node)) is not None]
    graph = Graph(tuple(tracer.inputs), substitute(outputs, inputs))
    return Trace(graph, structure, plan, cells, written, grads, list(tracer.guards.values()), constants)


def _forget_local(tracer: Tracer) -> dict[Node, Node]:
    """Drop the cells and gradients of what died with the call; return the first values of these cells by their inputs.

    A cell that the function makes and drops starts anew in every call. One that it leaves somewhere is made once, by
    the trace, and is state like any other.
    """
    cells, grads = list(tracer.cells.values()), list(tracer.grads.values())
    tracer.cells.clear()
    tracer.grads.clear()
    owners = [weakref.ref(use.cell) for use in cells], [weakref.ref(use.owner) for use in grads]
    for use in cells:
        del use.cell
    for use in grads:
        del use.owner
    local: dict[Node, Node] = {}
    for use, owner in zip(cells, owners[0], strict=True):
        cell = owner()
        if cell is None:
            local[use.input] = substitute([bare(tracer.first[use.input].node)], local)[0]
            continue
        if is_traced(tracer.first[use.input].node):
            raise TraceError(
                f"compile: a {type(cell).__name__} {use.input.type!r} was made from a value of the function being "
                f"compiled and outlives the call. Make it outside and assign to it inside."
            )
        use.cell = cell
        tracer.cells[id(cell)] = use
    for use, owner in zip(grads, owners[1], strict=True):
        use.owner = owner()
        if use.owner is not None:
            tracer.grads[id(use.owner)] = use
    return local
