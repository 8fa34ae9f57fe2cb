"""What all loop kernels share: their memory, expressions over it, how many lanes run, and the finished schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from treadle.core import DType
from treadle.ir import Const, Graph, Input, Node
from treadle.ops.formula import Inliner, lowered
from treadle.te import (
    Buffer,
    Comment,
    Fetch,
    For,
    Nest,
    Stmt,
    Var,
    coefficients,
    flatten_index,
    index,
    terms_of,
    variables,
)

STEPS = 4  # the widest distance of elements read without gathering them


class Cpu(Protocol):
    """What a schedule needs to know of the CPU; `codegen.target.Target` has it."""

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector register."""
        ...


@dataclass(frozen=True)
class LoopSchedule:
    """A decided loop kernel: its nest, how many parallel tiles it has, and what it costs.

    `flops` counts every arithmetic operation, a transcendental function as its table cost; `nbytes` counts each operand
    and each result once.
    """

    nest: Nest
    num_tiles: int
    flops: int
    nbytes: int
    shape: str

    def __str__(self) -> str:
        return f"{self.shape}; {self.num_tiles} tiles\n{self.nest}"


def is_reduction(node: Node) -> bool:
    """Whether a node folds elements in this kernel."""
    return not isinstance(node.op, Input | Const) and bool(lowered(node).reduce)


class LoopKernel(ABC):
    """A group on its way to a schedule.

    Args:
        body: the group.
        cpu: what it is to run on.
        name: of the kernel.
    """

    def __init__(self, body: Graph, cpu: Cpu, name: str) -> None:
        self.body = body
        self.cpu = cpu
        self.name = name
        self.arguments = {
            node: Buffer(f"x{k}", node.dtype, node.type.size, "arg", k) for k, node in enumerate(body.inputs)
        }
        first = len(body.inputs)
        self.results = [Buffer(f"y{k}", n.dtype, n.type.size, "arg", first + k) for k, n in enumerate(body.outputs)]
        self.reductions = [n for n in body.nodes() if is_reduction(n)]
        self.registers = {n: Buffer(f"s{k}", n.dtype, 1, "register") for k, n in enumerate(self.reductions)}
        # Where operands were read since this was last empty: what decides which loops walk memory evenly.
        self.reads: list[tuple[Buffer, Node]] = []

    @abstractmethod
    def run(self) -> LoopSchedule:
        """Return the schedule."""

    def inliner(self) -> Inliner:
        """Return a builder of expressions whose leaves are this kernel's memory and registers."""

        def leaf(node: Node, at: tuple[Node, ...]) -> Node | None:
            if node in self.arguments:
                where = flatten_index(at, node.shape)
                self.reads.append((self.arguments[node], where))
                return Fetch(self.arguments[node])(where)
            if node in self.registers:
                return Fetch(self.registers[node])()
            return None

        return Inliner(leaf, self.body.outputs)

    def lanes(self) -> int:
        """Return the elements of one vector register for the dtype most of the work is done in."""
        dtypes = [n.dtype for n in (*self.body.inputs, *self.body.outputs)]
        return max(1, self.cpu.vector_bytes // _working_nbytes(dtypes))

    def wide(self, extent: int) -> int:
        """Return the lanes of the widest step over this many elements: several registers hide latencies."""
        lanes = self.lanes()
        if extent < lanes:
            return 1 << max(extent - 1, 0).bit_length()
        return 4 * lanes if extent % (4 * lanes) == 0 or extent >= 16 * lanes else lanes

    def schedule(self, body: tuple[Stmt, ...], t: Node, tiles: int, flops: int, shape: str) -> LoopSchedule:
        """Return the finished schedule."""
        buffers = (*self.arguments.values(), *self.results)
        loop = For(t, index(0), index(tiles), body, "parallel")
        nest = Nest(self.name, buffers, (Comment(shape), loop))
        nbytes = sum(b.size * b.dtype.itemsize for b in buffers)
        return LoopSchedule(nest, tiles, flops, nbytes, shape)


def _working_nbytes(dtypes: Sequence[DType]) -> int:
    """Return the size of the elements that should fill a register: the floats', else the widest."""
    floats = [max(d.itemsize, 4) for d in dtypes if d.is_float]
    return max(floats) if floats else max((d.itemsize for d in dtypes), default=8)


def even_suffix(reads: Sequence[tuple[Buffer, Node]], axes: Sequence[Node], shape: Sequence[int]) -> int:
    """Return how many trailing axes can be walked as one: in every access each steps over just the next one's range."""
    count = 1 if shape else 0
    rows: list[tuple[int, ...]] = []
    for _, where in reads:
        found = coefficients(where, axes)
        if found is None:
            used = variables(where)
            terms, _extra = terms_of(where)
            found = (tuple(0 if a not in used else terms.get(a, -1) for a in axes), 0)
            inner = {a for t in terms if t not in axes for a in variables(t)}
            blocked = max((k for k, a in enumerate(axes) if a in inner), default=-1)
            rows.append(tuple(-1 - k if k <= blocked else c for k, c in enumerate(found[0])))
            continue
        rows.append(found[0])
    while count < len(shape):
        k = len(shape) - count - 1
        if shape[k] == 1 or all(row[k] == row[k + 1] * shape[k + 1] for row in rows):
            count += 1
        else:
            break
    return count


def extent_of(var: Node) -> int:
    assert isinstance(var.op, Var)
    return var.op.extent
