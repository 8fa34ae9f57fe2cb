"""From nodes to numbers: leaves that hold data, the executor that computes the rest, and what it computed before.

`executor` and `memory` are hooks that `treadle/__init__.py` sets: what compiles and runs, and the allocator. The
executor gets nodes and calls `lift` to see them as a graph over inputs, in which nothing is left of the particular
data: equal programs are equal graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from treadle.core import Type, from_numpy
from treadle.ir import Const, Graph, Input, Node, Op, bare_node, rebuilt, topological

from .markers import unmarked

Array = np.ndarray[Any, Any]
Executor = Callable[[list[Node]], list[Array]]

ALIGNMENT = 64


class Memory(Protocol):
    """A block of memory that NumPy can look at."""

    address: int

    def numpy(self, dtype: Any, shape: tuple[int, ...]) -> Array:
        """Return a view of the block that keeps it alive."""
        ...


class Handle:
    """The data a tensor holds, C-contiguous; nobody writes to it again."""

    __slots__ = ("_array", "_memory", "address", "type")

    address: int
    type: Type
    _array: Array | None
    _memory: Memory | None

    def __init__(self, array: Array) -> None:
        assert array.flags.c_contiguous, "a handle holds contiguous data"
        self._array = array
        self._memory = None
        self.address = array.__array_interface__["data"][0]
        self.type = Type(from_numpy(array.dtype), array.shape)

    @staticmethod
    def of(memory: Memory, type: Type) -> Handle:
        """Return the handle of a block; NumPy sees it only when somebody asks."""
        handle = object.__new__(Handle)
        handle._array = None
        handle._memory = memory
        handle.address = memory.address
        handle.type = type
        return handle

    @property
    def array(self) -> Array:
        """The data as NumPy sees it."""
        if self._array is None:
            assert self._memory is not None
            self._array = self._memory.numpy(self.type.dtype.numpy, self.type.shape)
        return self._array

    def __repr__(self) -> str:
        return f"<{self.type!r}>"


@dataclass(frozen=True)
class Data(Op):
    """A tensor whose elements are known."""

    name = "data"
    handle: Handle

    def infer(self) -> Type:
        return self.handle.type


def leaf(handle: Handle) -> Node:
    """Return the node of known data. Each call makes its own: equal data need not be one node."""
    return bare_node(Data(handle), handle.type)


def data(array: Array) -> Node:
    """Return the node of an array, which must be C-contiguous and is not copied."""
    return leaf(Handle(array))


def aligned_copy(array: Array) -> Array:
    """Return a C-contiguous copy that starts at a cache line, so that no vector load crosses one needlessly."""
    dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
    if array.size * dtype.itemsize <= ALIGNMENT:
        return np.array(array, dtype, order="C")
    return filled(array.shape, dtype, array)


def filled(shape: tuple[int, ...], dtype: np.dtype[Any], value: Array | int) -> Array:
    """Return an array of its own that starts at a cache line."""
    made = memory(math.prod(shape) * dtype.itemsize).numpy(dtype, shape)
    made[...] = value
    return made


# What was computed for nodes that must keep their history, or that other unrealised nodes still read.
_known: WeakKeyDictionary[Node, Handle] = WeakKeyDictionary()


def remember(node: Node, array: Array) -> Handle:
    """Note the value of a node, so that whatever reads it does not compute it again."""
    handle = Handle(np.ascontiguousarray(array).reshape(array.shape))
    _known[node] = handle
    return handle


def bare(node: Node) -> Node:
    """Return the node without the markers that matter to gradients only."""
    while (inner := unmarked(node)) is not None:
        node = inner
    return node


def handle_of(node: Node) -> Handle | None:
    """Return the data of a node if it is known."""
    node = bare(node)
    return node.op.handle if isinstance(node.op, Data) else _known.get(node)


class Lifted(NamedTuple):
    """A graph over inputs only, and the array of each input."""

    graph: Graph
    arrays: list[Array]


class UnknownInputError(Exception):
    """A node reads an argument of a function that is being traced: it has no value yet."""

    def __init__(self, node: Node) -> None:
        super().__init__(f"{node} has no value")
        self.node = node


def lift(outputs: Sequence[Node]) -> Lifted:
    """Return the program of `outputs` with known data as inputs, numbered in the order they are met."""
    known: dict[Node, Handle] = {}

    def is_known(node: Node) -> bool:
        handle = node.op.handle if isinstance(node.op, Data) else _known.get(node)
        if handle is not None:
            known[node] = handle
        return handle is not None

    new: dict[Node, Node] = {}
    arrays: list[Array] = []
    inputs: dict[int, Node] = {}  # by identity of the handle
    for node in topological(outputs, stop=is_known):
        handle = known.get(node)
        if handle is not None:
            leaf = inputs.get(id(handle))
            if leaf is None:
                leaf = inputs[id(handle)] = Input(len(arrays), handle.type)()
                arrays.append(handle.array)
            new[node] = leaf
        elif (inner := unmarked(node)) is not None:
            new[node] = new[inner]
        elif isinstance(node.op, Input):
            raise UnknownInputError(node)
        else:
            new[node] = rebuilt(node, [new[a] for a in node.args])
    return Lifted(Graph(tuple(inputs.values()), tuple(new[n] for n in outputs)), arrays)


def _no_executor(nodes: list[Node]) -> list[Array]:
    raise AssertionError("no executor is set: treadle/__init__.py sets tensor.realize.executor")


def _no_memory(nbytes: int) -> Memory:
    raise AssertionError("no memory is set: treadle/__init__.py sets tensor.realize.memory")


executor: Executor = _no_executor
memory: Callable[[int], Memory] = _no_memory


def set_executor(function: Executor) -> Executor:
    """Set what computes nodes; returns what it was."""
    global executor
    before, executor = executor, function
    return before


def set_memory(allocate: Callable[[int], Memory]) -> Callable[[int], Memory]:
    """Set where the memory of data comes from, so many bytes from a cache line on; returns what it was."""
    global memory
    before, memory = memory, allocate
    return before


def compute(nodes: Sequence[Node]) -> list[Handle]:
    """Return the data of nodes, computing together all that is not known."""
    nodes = [bare(node) for node in nodes]
    found = [handle_of(node) for node in nodes]
    missing = list(dict.fromkeys(node for node, handle in zip(nodes, found, strict=True) if handle is None))
    if missing:
        made = dict(zip(missing, executor(missing), strict=True))
        handles = {node: remember(node, array) for node, array in made.items()}
        found = [handle or handles[node] for node, handle in zip(nodes, found, strict=True)]
    return [handle for handle in found if handle is not None]


def private(node: Node) -> Handle:
    """Return the data of a node in memory that nobody else holds: computed for the caller alone, copied if known."""
    node = bare(node)
    known = handle_of(node)
    if known is not None:
        return Handle(aligned_copy(known.array))
    if is_zeros(node):
        return Handle(filled(node.shape, node.dtype.numpy, 0))
    (array,) = executor([node])
    return Handle(np.ascontiguousarray(array).reshape(array.shape))


def is_zeros(node: Node) -> bool:
    """Whether a node is known to be zeros (not -0.0) without computing it."""
    node = node.args[0] if node.op.name == "broadcast_to" else node
    return isinstance(node.op, Const) and node.op.value == 0 and math.copysign(1, node.op.value) > 0


def is_traced(node: Node) -> bool:
    """Whether a node depends on an argument of a function being traced."""
    return any(isinstance(n.op, Input) for n in topological([node], stop=lambda n: handle_of(n) is not None))
