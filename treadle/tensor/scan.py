"""`scan`: a Python function of one turn becomes a loop over time that is traced, differentiated and compiled once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from treadle.core import ShapeError, TraceError, Type, flatten, unflatten
from treadle.ir import Node, rebuilt, topological
from treadle.ops.scan import Loop, placeholder

from .markers import Detach, Variable
from .promotion import as_tensor
from .trace import Trace, state, tracing
from .value import Maker, node_of

if TYPE_CHECKING:
    from .cell import Cell
    from .tensor import Tensor


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Return the last carry and the stacked results of `carry, y = f(carry, x)` over the first axis of `xs`.

    The same as this, but `f` is run in Python only once, or twice if it assigns to buffers, and compiled once:

        ys = []
        for x in xs:
            init, y = f(init, x)
            ys.append(y)
        return init, stack(ys)

    Tensors and parameters that `f` closes over may be used, and get gradients. A buffer that it assigns to (the state
    of random numbers, running means) is carried from turn to turn.

    >>> import treadle as td
    >>> total, sums = td.scan(lambda c, x: (c + x, c + x), td.asarray(0.0), td.asarray([1.0, 2.0, 3.0]))
    >>> sums
    Tensor([1., 3., 6.], dtype=float32, shape=(3,))

    Args:
        f: takes the carry and the slices at this turn; returns the next carry and what to stack.
        init: the first carry: nested tuples, lists and dicts of tensors. `f` must return the same shapes and dtypes.
        xs: the same of tensors [length, ...], or None.
        length: the number of turns, needed where xs has no tensors.
        reverse: go from the last slice to the first; results are stacked at the place of their slice.

    Raises:
        ShapeError: lengths differ or are not known, or the carry changes its structure, shapes or dtypes.
        TraceError: `f` asks for the value of something that depends on the turn, or collects gradients in `.grad`.
    """
    firsts, structure = flatten(init)
    firsts = [as_tensor("scan", leaf) for leaf in firsts]
    stacks, xs_structure = flatten(xs)
    stacks = [as_tensor("scan", leaf) for leaf in stacks]
    turns = _length(stacks, length)
    depth = max((t.depth for t in [*firsts, *stacks]), default=0)
    cells: list[Cell] = []  # that the body assigns to
    while True:
        body = _Body(state.trace, depth)
        carried = [body.stand_in(t.node.type) for t in firsts]
        sliced = [body.stand_in(Type(t.dtype, t.shape[1:])) for t in stacks]
        before = {id(cell): cell.read() for cell in cells}
        for cell in cells:
            body.held[id(cell)] = cell, cell.reads(body.stand_in(before[id(cell)].node.type).node)
        held = [body.held[id(cell)][1] for cell in cells]
        with tracing(body):
            returned = f(unflatten(structure, carried), unflatten(xs_structure, sliced))
            news, ys, ys_structure = _returned(returned, structure, firsts)
        missed = [cell for key, (cell, _) in body.held.items() if key in body.written and key not in before]
        if not missed:
            break
        cells += missed
    operands = [*firsts, *before.values()]
    new = [*[node_of(t) for t in news], *[node_of(body.held[id(cell)][1]) for cell in cells]]
    inside = [_bare(t.node) for t in [*carried, *held]]
    slices = [t.node for t in sliced]
    made = _unmarked([*new, *[node_of(y) for y in ys]], {*inside, *slices})
    loop = Loop(
        [(p, node_of(t), n) for p, t, n in zip(inside, operands, made, strict=False)],
        [(p, node_of(t)) for p, t in zip(slices, stacks, strict=True)],
        made[len(inside) :],
        turns,
        reverse,
    )
    nodes = loop.close()
    needs_grad = state.grad_enabled and (
        any(t.requires_grad for t in [*operands, *stacks]) or any(map(_needs_grad, nodes))
    )
    depth = max((t.depth for t in [*news, *ys]), default=depth)
    found: list[Tensor] = [Maker.new(n, depth + 1, needs_grad and n.dtype.is_float) for n in nodes]
    for cell, value in zip(cells, found[len(firsts) :], strict=False):
        cell.value = value
    return unflatten(structure, found[: len(firsts)]), unflatten(ys_structure, found[len(operands) :])


def _length(stacks: list[Tensor], length: int | None) -> int:
    """Return the number of turns."""
    for x in stacks:
        if not x.ndim:
            raise ShapeError(
                f"scan: xs holds a {x.node.type!r}, which has no first axis to go along. Close over it instead, or "
                "give it an axis."
            )
    lengths = {x.shape[0] for x in stacks} | ({length} if length is not None else set[int]())
    if len(lengths) != 1 or min(lengths) < 0:
        raise ShapeError(
            f"scan: the first axes of xs, and length, are {sorted(lengths)}. All must be one number of turns; give "
            "length= where xs has no tensors."
        )
    return lengths.pop()


def _returned(returned: Any, structure: Any, firsts: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Any]:
    """Return the new carries, the values to stack, and how these are nested."""
    if not isinstance(returned, tuple) or len(cast(tuple[Any, ...], returned)) != 2:
        found = type(cast(object, returned)).__name__
        raise ShapeError(f"scan: the function returned {found}. It must return (carry, y).")
    leaves, found = flatten(returned[0])
    if found != structure:
        raise ShapeError(
            f"scan: the carry is nested as {structure} and the function returned it nested as {found}. They must be "
            "equal."
        )
    news = [as_tensor("scan", leaf) for leaf in leaves]
    for k, (first, new) in enumerate(zip(firsts, news, strict=True)):
        if new.node.type != first.node.type:
            raise ShapeError(
                f"scan: tensor {k} of the carry is {first.node.type!r} and the function returned "
                f"{new.node.type!r}. Shape and dtype must stay the same; broadcast or cast the first one."
            )
    ys, ys_structure = flatten(returned[1])
    return news, [as_tensor("scan", leaf) for leaf in ys], ys_structure


def _bare(node: Node) -> Node:
    """Return the placeholder itself."""
    return node.args[0] if isinstance(node.op, Variable) else node


def _unmarked(outputs: list[Node], own: set[Node]) -> list[Node]:
    """Return nodes without markers of variables on what depends on the turn: their gradients were taken inside of it.

    They have numbers of their own every time, and would make equal loops differ.
    """
    new: dict[Node, Node] = {}
    varies = set(own)
    for node in topological(outputs, stop=own.__contains__):
        if node in own or not any(a in varies for a in node.args):
            new[node] = node
            continue
        varies.add(node)
        args = [new[a] for a in node.args]
        new[node] = args[0] if isinstance(node.op, Variable) else rebuilt(node, args)
    return [new[n] for n in outputs]


def _needs_grad(node: Node) -> bool:
    return any(isinstance(n.op, Variable) for n in topological([node], stop=lambda n: isinstance(n.op, Detach)))


@dataclass
class _Body:
    """The trace of a turn: cells it assigns to hold their new values only in here."""

    outer: Trace | None
    depth: int
    held: dict[int, tuple[Cell, Tensor]] = field(default_factory=dict[int, "tuple[Cell, Tensor]"])
    written: set[int] = field(default_factory=set[int])

    def stand_in(self, of: Type) -> Tensor:
        """Return a tensor for a value of a turn; what is computed from floats may need a gradient."""
        return Maker.new(placeholder(of), self.depth + 1, of.dtype.is_float and state.grad_enabled)

    def read(self, cell: Cell) -> Tensor:
        """Return what the cell holds at this point of the turn."""
        if id(cell) in self.held:
            return self.held[id(cell)][1]
        with tracing(self.outer):
            return cell.read()

    def write(self, cell: Cell, value: Tensor) -> None:
        """Let the cell hold `value` until the turn ends."""
        self.held[id(cell)] = cell, value
        self.written.add(id(cell))

    def read_grad(self, owner: Cell | Tensor) -> Tensor | None:
        """Return the gradient collected before the loop."""
        with tracing(self.outer):
            return owner.grad

    def write_grad(self, owner: Cell | Tensor, grad: Tensor | None) -> None:
        """Refuse: a gradient collected in a turn would belong to that turn."""
        raise TraceError(
            "scan: the function of a turn sets `.grad`, by backward() or zero_grad(). Use td.grad inside of it, or "
            "call backward() on what the loop returns."
        )

    def guard(self, owner: object, attribute: str, value: object) -> None:
        """Note that the program around depends on an attribute's value."""
        if self.outer is not None:
            self.outer.guard(owner, attribute, value)
