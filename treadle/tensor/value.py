"""What every array function works on: values that read as tensors, and the making of new ones.

`made` is the single place where a tensor comes from a node. It decides whether the tensor takes part in gradients, and
computes tensors whose history has grown too long.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from treadle.core import TraceError
from treadle.ir import Node, user_source

from . import realize
from .markers import Detach, Variable
from .trace import state

if TYPE_CHECKING:
    from .cell import Cell
    from .tensor import Tensor

Number = bool | int | float

# Longest chain of operations that waits to be computed: bounds graphs that a Python loop would grow without end.
MAX_DEPTH = 2000

DETACH = Detach()


class Value:
    """A tensor, or a cell that holds one."""

    __slots__ = ()

    def read(self) -> Tensor:
        """Return the tensor this stands for now."""
        raise NotImplementedError


class Maker:
    """Knows the Tensor class, which is above the functions that make tensors; `tensor.py` sets it."""

    new: Any = None


def made(node: Node, *operands: Tensor) -> Tensor:
    """Return the tensor of a node that was computed from `operands`."""
    depth = 0
    needs_grad = False
    for operand in operands:
        depth = max(depth, operand.depth)
        if operand.requires_grad:
            needs_grad = True
    tensor = Maker.new(node, depth + 1, needs_grad and state.grad_enabled and node.type.dtype.kind == "float")
    if depth >= MAX_DEPTH and state.trace is None:
        _shorten(tensor)
    return tensor


def node_of(tensor: Tensor) -> Node:
    """Return the node to compute with: cut from its history while gradients are off."""
    node = tensor.node
    if tensor.requires_grad and not state.grad_enabled:
        return DETACH(node)
    return node


def made_all(nodes: Iterable[Node], *operands: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors of several nodes that were computed from `operands`."""
    return tuple(made(node, *operands) for node in nodes)


# --- computing ----------------------------------------------------------------------------------------------

# Tensors that will be asked for: new values of cells and collected gradients. Whatever is computed next computes them
# too, so a training step runs as one program and none of it runs twice. By identity: tensors compare elementwise.
_pending: dict[int, weakref.ref[Tensor]] = {}


def expect(tensor: Tensor) -> None:
    """Compute this tensor along with whatever is asked for next."""
    if tensor.depth:
        key = id(tensor)
        _pending[key] = weakref.ref(tensor, lambda _: _pending.pop(key, None))


def realized(*tensors: Tensor, why: str = "realize") -> list[realize.Handle]:
    """Return the data of tensors, computing what is not known in one program."""
    waiting = [t for t in tensors if t.handle is None]
    if waiting:
        together = [*waiting, *_also(waiting)]
        try:
            handles = realize.compute([t.node for t in together])
        except realize.UnknownInputError as error:
            raise _traced(why, waiting[0], error.node) from None
        for tensor, handle in zip(together, handles, strict=True):
            tensor.settle(handle)
    return [t.handle for t in tensors if t.handle is not None]


def _also(waiting: list[Tensor]) -> list[Tensor]:
    """Return the pending tensors that are not among `waiting`; inside a trace, none."""
    if not _pending or state.trace is not None:
        return []
    chosen = {id(t) for t in waiting}
    live = [ref() for key, ref in list(_pending.items()) if key not in chosen]
    _pending.clear()
    return [t for t in live if t is not None and t.handle is None]


def _shorten(tensor: Tensor) -> None:
    """Compute a tensor whose history is long. One that depends on a traced argument is left alone."""
    try:
        realized(tensor)
    except TraceError:
        return


def _traced(why: str, tensor: Tensor, argument: Node) -> TraceError:
    made_at = f", made at {tensor.node.source}" if tensor.node.source else ""
    return TraceError(
        f"{why}: asked at {user_source()} for the values of a {tensor.node.type!r}{made_at}, which depends on argument "
        f"{argument.type!r} of a function that is being compiled; values exist only when the compiled function runs. "
        f"Use td.where(condition, a, b) instead of a branch, or return the tensor and branch on it outside, or mark "
        "the argument static."
    )


# --- owners of gradients ------------------------------------------------------------------------------------

_uids = itertools.count(1)
_owners: weakref.WeakValueDictionary[int, Cell | Tensor] = weakref.WeakValueDictionary()


def new_uid() -> int:
    """Return a fresh number for a `variable` marker whose gradient belongs to nobody yet."""
    return next(_uids)


def set_owner(uid: int, owner: Cell | Tensor) -> None:
    """Let the gradient of a marker belong to `owner`."""
    _owners[uid] = owner


def new_variable(owner: Cell | Tensor) -> int:
    """Return a fresh number for a `variable` marker whose gradient belongs to `owner`."""
    uid = new_uid()
    set_owner(uid, owner)
    return uid


def owner_of(uid: int) -> Cell | Tensor | None:
    """Return what collects the gradient of a marker, if it still exists."""
    return _owners.get(uid)


def marked(uid: int, node: Node) -> Node:
    """Return the node with the marker of a variable put on."""
    return Variable(uid)(node)


def variable_tensor(source: Tensor) -> tuple[Tensor, int]:
    """Return a tensor of the same value with a marker of its own, and the number of the marker."""
    uid = next(_uids)
    tensor = Maker.new(marked(uid, source.node), source.depth, True)
    _owners[uid] = tensor
    return tensor, uid
