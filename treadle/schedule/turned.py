"""Elementwise kernels that read an operand across its memory, such as a transpose: by square blocks, in registers.

Where results are neighbours along one axis and an operand's elements along another, no order of loops suits both. So
a block of as many rows as a register has lanes is loaded along the operand's axis and turned in registers; then its
rows are what the results are computed from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from treadle.ir import Graph, Input, Node
from treadle.ops.formula import Inliner
from treadle.te import (
    Buffer,
    Fetch,
    Store,
    Var,
    coefficients,
    cost,
    flatten_index,
    index,
    show_scalar,
    terms_of,
    unflatten_index,
    variables,
)

from .loop_kernel import Cpu, is_reduction

BLOCK = 4096  # elements of a parallel tile, about


@dataclass(frozen=True)
class Turned:
    """An operand that is read across: element (o, i, j) is at `where`, `step` further on for the next j, 1 for i.

    Or 1 back, where it is read from its end.
    """

    buffer: Buffer
    register: Buffer
    where: Node
    step: int
    back: bool


@dataclass(frozen=True)
class TurnedSchedule:
    """Parallel tiles are outer places x blocks of rows x runs of columns, the last fastest.

    Args:
        buffers: operands, then results.
        turned: operands that are turned in registers.
        outer: the variable of places that are neither row nor column.
        row: the variable along which turned operands are dense.
        column: the variable along which results are dense.
        stores: what is computed for an element.
        lanes: rows and columns of a block.
        run: columns of a tile, a multiple of the lanes.
        flops: of all elements.
        nbytes: of all operands and results.
    """

    buffers: tuple[Buffer, ...]
    turned: tuple[Turned, ...]
    outer: Node
    row: Node
    column: Node
    stores: tuple[Store, ...]
    sizes: tuple[int, int, int]
    lanes: int
    run: int
    flops: int
    nbytes: int

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tiles along outer places, rows and columns."""
        outer, rows, columns = self.sizes
        return outer, -(-rows // self.lanes), -(-columns // self.run)

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return math.prod(self.grid)

    def __str__(self) -> str:
        outer, rows, columns = self.sizes
        lines = [f"elementwise, {outer} x {rows} rows of {columns}, blocks of {self.lanes} turned; {self.run} at once"]
        lines += [f"  {t.register.name} = turned {t.buffer.name}[{show_scalar(t.where)}]" for t in self.turned]
        lines += [f"  {s.buffer.name}[{show_scalar(s.index)}] = {show_scalar(s.value)}" for s in self.stores]
        return "\n".join(lines)


def schedule_turned(body: Graph, cpu: Cpu) -> TurnedSchedule | None:
    """Return the schedule of an elementwise group if an operand is to be turned, else None."""
    if any(is_reduction(n) for n in body.nodes()) or len({n.type.size for n in body.outputs}) != 1:
        return None
    shape = body.outputs[0].shape
    axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(shape))
    steps = [coefficients(where, axes) for _, where in _reads(body, axes)]
    if len(shape) < 2 or not steps or any(s is None for s in steps):
        return None
    merged, places = _merged(shape, [s[0] for s in steps if s is not None])
    row = _row(merged, places, cpu)
    return None if row is None else _scheduled(body, cpu, merged, row)


def _reads(body: Graph, position: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Return the operands read, and where, for the element of the results at an index of the first one's shape."""
    reads: list[tuple[Node, Node]] = []

    def leaf(node: Node, at: tuple[Node, ...]) -> Node | None:
        if not isinstance(node.op, Input):
            return None
        where = flatten_index(at, node.shape)
        reads.append((node, where))
        return Fetch(Buffer(f"x{body.inputs.index(node)}", node.dtype, node.type.size, "arg", 0))(where)

    inliner, flat = Inliner(leaf, body.outputs), flatten_index(position, body.outputs[0].shape)
    for node in body.outputs:
        inliner.value(node, unflatten_index(flat, node.shape))
    return reads


def _merged(shape: Sequence[int], steps: Sequence[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """Return the shape with neighbouring axes joined that every read walks as one, and the steps of each read in it."""
    sizes = [shape[-1]]
    found = [[s[-1]] for s in steps]
    for a in reversed(range(len(shape) - 1)):
        if shape[a] == 1:
            continue
        if sizes[0] == 1 or all(s[a] == f[0] * sizes[0] for s, f in zip(steps, found, strict=True)):
            for s, f in zip(steps, found, strict=True):
                f[0] = s[a] if sizes[0] == 1 else f[0]
            sizes[0] *= shape[a]
        else:
            sizes.insert(0, shape[a])
            for s, f in zip(steps, found, strict=True):
                f.insert(0, s[a])
    return sizes, found


def _row(sizes: Sequence[int], steps: Sequence[Sequence[int]], cpu: Cpu) -> int | None:
    """Return the axis along which operands read across are dense, if there are such and the blocks are worth it."""
    rows = {a for s in steps if s[-1] not in (0, 1) for a in range(len(sizes) - 1) if abs(s[a]) == 1}
    if len(rows) != 1:
        return None
    (row,) = rows
    least = cpu.vector_bytes // 4 // 2
    return row if min(sizes[row], sizes[-1]) >= least else None


def _scheduled(body: Graph, cpu: Cpu, merged: Sequence[int], axis: int) -> TurnedSchedule | None:
    rest = [n for a, n in enumerate(merged[:-1]) if a != axis]
    sizes = math.prod(rest), merged[axis], merged[-1]
    outer, row, column = (index(0) if n == 1 else Var(v, n)() for v, n in zip("oij", sizes, strict=True))
    within = list(unflatten_index(outer, rest))
    within.insert(axis, row)
    flat = flatten_index([*within, column], merged)
    shape = body.outputs[0].shape

    arguments = [Buffer(f"x{k}", n.dtype, n.type.size, "arg", k) for k, n in enumerate(body.inputs)]
    results = [Buffer(f"y{k}", n.dtype, n.type.size, "arg", len(arguments) + k) for k, n in enumerate(body.outputs)]
    turned: dict[tuple[Buffer, Node], Turned] = {}

    def leaf(node: Node, at: tuple[Node, ...]) -> Node | None:
        if not isinstance(node.op, Input):
            return None
        buffer, where = arguments[body.inputs.index(node)], flatten_index(at, node.shape)
        terms, _ = terms_of(where)
        across = terms.get(column, 0)
        even = not any({row, column} & variables(t) for t in terms if t not in (row, column))
        down = terms.get(row, 0)
        if across in (0, 1) or abs(down) != 1 or not even:
            return Fetch(buffer)(where)
        if (buffer, where) not in turned:
            register = Buffer(f"t{len(turned)}", buffer.dtype, 1, "register")
            turned[buffer, where] = Turned(buffer, register, where, across, down < 0)
        return Fetch(turned[buffer, where].register)()

    inliner = Inliner(leaf, body.outputs)
    values = [inliner.value(n, unflatten_index(flat, n.shape)) for n in body.outputs]
    widths = {max(t.buffer.dtype.itemsize, 4) for t in turned.values()}
    flags = any(t.buffer.dtype.kind == "bool" for t in turned.values())  # a bit each in registers
    if len(widths) != 1 or flags or math.prod(shape) == 0:
        return None
    lanes = cpu.vector_bytes // widths.pop()
    run = max(BLOCK // lanes // lanes, 1) * lanes
    stores = tuple(Store(b, flat, v) for b, v in zip(results, values, strict=True))
    buffers = (*arguments, *results)
    nbytes = sum(b.size * b.dtype.itemsize for b in buffers)
    flops = sum(cost(v) for v in values) * math.prod(sizes)
    return TurnedSchedule(buffers, tuple(turned.values()), outer, row, column, stores, sizes, lanes, run, flops, nbytes)
