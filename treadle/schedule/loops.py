"""From a fused group of ops to a loop nest: which loops, which of them in vector lanes, how many passes over a row.

Three shapes of nest. *Elementwise*: blocks of a flat range, or rows of the last axes where elements are read in another
order. *Rows*: one turn of the outer loop folds the inner elements, in as many passes as reductions wait for each other
(softmax: max, sum, quotient). *Columns*: the outer elements lie side by side, so they run in lanes and each lane folds
its own column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from treadle.core import DType
from treadle.ir import Const, Graph, Input, Node
from treadle.ops.base import Reduction
from treadle.ops.formula import Inliner, lowered
from treadle.ops.placement import Place, placement
from treadle.te import (
    Alloc,
    Buffer,
    Comment,
    Fetch,
    For,
    Mod,
    Nest,
    Reduce,
    Stmt,
    Store,
    Var,
    add,
    coefficients,
    cost,
    flatten_index,
    floordiv,
    fn,
    identity_of,
    index,
    mod,
    scale,
    substitute_index,
    terms_of,
    unflatten_index,
    variables,
)

from .pieces import Piece, periods, pieces

BLOCK = 4096  # elements of an elementwise tile
STEPS = 4  # the widest distance of elements read without gathering them
STASH_COST = 12  # flops from which a value used in two passes over a row is kept instead of computed again
STASH_NBYTES = 32 * 1024  # and the most memory for it: it has to stay in the first-level cache


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


def schedule_loops(body: Graph, cpu: Cpu, name: str = "loops") -> LoopSchedule:
    """Return the schedule of a group whose outputs and reductions share their loops (see `passes.fuse`)."""
    return _Scheduler(body, cpu, name).run()


def is_reduction(node: Node) -> bool:
    """Whether a node folds elements in this kernel."""
    return not isinstance(node.op, Input | Const) and bool(lowered(node).reduce)


class _Scheduler:
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
        self.reads: list[tuple[Buffer, Node]] = []

    def run(self) -> LoopSchedule:
        """Return the schedule."""
        return self.folded() if self.reductions else self.elementwise()

    # ---- expressions

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

    # ---- elementwise kernels

    def elementwise(self) -> LoopSchedule:
        """Return rows of trailing axes that every access walks evenly; one flat row if all of them."""
        places = self.places()
        parts = list(places)
        shape = parts[0].shape if parts else self.body.outputs[0].shape
        axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(shape))
        self.values_at(axes, parts)
        self.reads.extend((self.results[0], _placed(axes, place)) for place in places.values())
        count = _even_suffix(self.reads, axes, shape)
        self.reads.clear()
        outer, inner = math.prod(shape[: len(shape) - count]), math.prod(shape[len(shape) - count :])
        blocks = max(1, -(-inner // BLOCK))
        t, r = Var("t", outer * blocks)(), Var("r", inner)()
        o, block = floordiv(t, blocks), mod(t, blocks)
        position = (
            *unflatten_index(o, shape[: len(shape) - count]),
            *unflatten_index(r, shape[len(shape) - count :]),
        )
        values = self.values_at(position, parts)
        where = add(scale(o, inner), r)
        if places:
            wheres = [_placed(position, place) for place in places.values()]
            stores = tuple(Store(self.results[0], w, v) for w, v in zip(wheres, values, strict=True))
        else:
            stores = tuple(Store(b, where, v) for b, v in zip(self.results, values, strict=True))
        low = scale(block, BLOCK)
        high = fn("min", add(low, BLOCK), index(inner)) if inner % BLOCK else add(low, BLOCK)
        if blocks == 1:
            low, high = index(0), index(inner)
        parts = pieces(r, stores) if inner >= self.lanes() else [(0, r, stores)]
        if blocks > 1 and any(periods(v, inside) for _, v, inside in parts[1:]):
            parts = [(0, r, stores)]
        rows = [self.piece(part, low, high, inner, blocks) for part in parts]
        work = sum(cost(v) for v in values) * outer * inner
        kind = "elementwise, flat" if outer == 1 else f"elementwise, {outer} rows of {inner}"
        return self.schedule(tuple(rows), t, outer * blocks, work, kind)

    def piece(self, part: Piece, low: Node, high: Node, inner: int, blocks: int) -> For:
        """Return the loop over what a block, from low to high, has of a piece of a row."""
        start, v, stores = part
        extent = _extent(v)
        if blocks == 1:
            low, high = index(0), index(extent)
        elif extent < inner:
            low = fn("min", fn("max", add(low, -start), index(0)), index(extent))
            high = fn("max", low, fn("min", add(high, -start), index(extent)))
        lanes, common = self.wide(min(extent, BLOCK)), periods(v, stores)
        while lanes > self.lanes() and common % lanes:  # lanes that lie in one period read it evenly
            lanes //= 2
        return For(v, low, high, stores, "vector", lanes if common % lanes == 0 else self.wide(min(extent, BLOCK)))

    def places(self) -> dict[Node, Place]:
        """Return the parts of the one result and where in it each lies, if it is nothing but parts side by side.

        Written part by part, each element is computed once; as a sum of padded parts, all of them would be for each.
        """
        (value, *others) = self.body.outputs
        found = {} if others else placement(value, lambda n: not isinstance(n.op, Input | Const)) or {}
        alike = len({n.shape for n in found}) == 1 and len(found) > 1
        return found if alike and all(steps[-1] == 1 for steps, _ in found.values()) else {}

    def values_at(self, position: Sequence[Node], parts: Sequence[Node] = ()) -> list[Node]:
        """Return the expressions of all results, or of `parts`, at an index of the first one's shape."""
        nodes = parts or self.body.outputs
        shape = nodes[0].shape
        flat = flatten_index(position, shape)
        inliner = self.inliner()
        return [
            inliner.value(n, tuple(position) if n.shape == shape else unflatten_index(flat, n.shape)) for n in nodes
        ]

    # ---- kernels with reductions

    def folded(self) -> LoopSchedule:
        """Return rows or columns, whichever walks memory evenly."""
        root = self.reductions[0]
        self.outer = root.type.size
        self.extents = [_extent(v) for v in lowered(root).reduce]
        self.inner = math.prod(self.extents)
        columns = self.column_extent(root)
        lanes = self.lanes()
        if self.inner < lanes // 2 and self.outer >= 4 * lanes and columns < lanes:
            turned = self.turned_extent()
            columns = turned if turned >= lanes else self.outer
        r, c = Var("r", self.inner)(), Var("c", columns)()
        self.passes(add(scale(Var("p", self.outer // max(columns, 1))(), columns), c), r)
        along_rows = _evenness(self.reads, r)
        along_columns = _evenness(self.reads, c)
        self.reads.clear()
        if columns > 1 and (along_columns > along_rows or self.inner < lanes // 2):
            return self.columns(columns)
        return self.rows()

    def column_extent(self, root: Node) -> int:
        """Return how many neighbouring results lie side by side in the operand: the axes behind the last folded one."""
        if not isinstance(root.op, Reduction):
            return root.shape[-1] if root.shape else 1
        shape = root.args[0].shape
        behind = math.prod(shape[max(root.op.axes, default=-1) + 1 :])
        return behind if behind > 1 else self.turned_extent()

    def turned_extent(self) -> int:
        """Return how many neighbouring results lie side by side in operands whose axes are read in another order."""
        t = Var("t", self.outer)()
        self.passes(t, Var("r", self.inner)())
        nbytes: dict[int, int] = {}
        for buffer, where in self.reads:
            for term, step in terms_of(where)[0].items():
                if 1 <= step <= STEPS and isinstance(term.op, Mod) and term.args[0] is t:
                    extent = term.op.by
                elif step == 1 and term is t:
                    extent = self.outer
                else:
                    continue
                if self.outer % extent == 0:
                    nbytes[extent] = nbytes.get(extent, 0) + buffer.size * buffer.dtype.itemsize
        self.reads.clear()
        return max(nbytes, key=lambda extent: nbytes[extent], default=1)

    def rows(self) -> LoopSchedule:
        """Return one row after the other, its elements in lanes."""
        t = Var("t", self.outer)()
        split = len(self.extents)
        if split > 1:
            r = Var("r", self.inner)()
            self.passes(t, r)
            axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(self.extents))
            reads = [(b, substitute_index(w, {r: flatten_index(axes, self.extents)})) for b, w in self.reads]
            self.reads.clear()
            split = _even_suffix(reads, axes, self.extents)
        inner = math.prod(self.extents[len(self.extents) - split :])
        turns = self.inner // max(inner, 1)
        v = Var("r", inner)()
        k = Var("k", turns)()
        r = add(scale(k, inner), v) if turns > 1 else v
        levels, last = self.passes(t, r)
        lanes = self.wide(inner)
        body: list[Stmt] = []
        levels, stash = self.stashed(levels, r) if turns == 1 else (levels, [])
        body.extend(stash)
        for level in levels:
            body.extend(Alloc(s.buffer, identity_of(s.combine, s.buffer.dtype)) for s in level if isinstance(s, Reduce))
            loop = For(v, index(0), index(inner), level, "vector", lanes)
            body.append(For(k, index(0), index(turns), (loop,)) if turns > 1 else loop)
        body.extend(last)
        return self.schedule(tuple(body), t, self.outer, self.work(levels, last), f"{self.outer} rows of {self.inner}")

    def columns(self, columns: int) -> LoopSchedule:
        """Return blocks of neighbouring columns, one per lane, each folded from top to bottom."""
        lanes = self.wide(columns)
        blocks = -(-columns // lanes)
        t, c, r = Var("t", self.outer // columns * blocks)(), Var("c", columns)(), Var("r", self.inner)()
        p, block = floordiv(t, blocks), mod(t, blocks)
        o = add(scale(p, columns), c)
        levels, last = self.passes(o, r)
        inside: list[Stmt] = []
        for level in levels:
            folds = [s for s in level if isinstance(s, Reduce)]
            inside.extend(Alloc(s.buffer, identity_of(s.combine, s.buffer.dtype)) for s in folds)
            inside.append(For(r, index(0), index(self.inner), level))
        low = scale(block, lanes)
        high = fn("min", add(low, lanes), index(columns)) if columns % lanes else add(low, lanes)
        if blocks == 1:
            low, high = index(0), index(columns)
        body = (For(c, low, high, (*inside, *last), "vector", lanes),)
        tiles = self.outer // columns * blocks
        return self.schedule(body, t, tiles, self.work(levels, last), f"{self.outer} columns of {self.inner}")

    def passes(self, o: Node, r: Node) -> tuple[list[tuple[Stmt, ...]], tuple[Stmt, ...]]:
        """Return the statements of each pass over the inner elements, and those that follow, once per outer element."""
        inliner = self.inliner()
        depth: dict[Node, int] = {}
        levels: dict[int, list[Stmt]] = {}
        last: list[Stmt] = []
        for node in self.reductions:
            formula = lowered(node)
            over = unflatten_index(r, [_extent(v) for v in formula.reduce])
            value = inliner.element(node, formula, unflatten_index(o, node.shape), over)
            depth[node] = 1 + max((depth[d] for d in self.needed(value)), default=0)
            levels.setdefault(depth[node], []).append(Reduce(self.registers[node], formula.combine, value))
        flat = self.position(o, r)
        for node, buffer in zip(self.body.outputs, self.results, strict=True):
            full = node not in self.registers and node.type.size == self.outer * self.inner and self.inner != 1
            if not full:
                value = inliner.value(node, unflatten_index(o, node.shape))
                last.append(Store(buffer, o, value))
                continue
            value = inliner.value(node, unflatten_index(flat, node.shape))
            level = 1 + max((depth[d] for d in self.needed(value)), default=0)
            levels.setdefault(level, []).append(Store(buffer, flat, value))
        return [tuple(levels[k]) for k in sorted(levels)], tuple(last)

    def position(self, o: Node, r: Node) -> Node:
        """Return the flat place of element (o, r) in a result with all elements."""
        root = self.reductions[0]
        if not isinstance(root.op, Reduction):
            return add(scale(o, self.inner), r)
        shape = root.args[0].shape
        kept = [a for a in range(len(shape)) if a not in root.op.axes]
        outer = unflatten_index(o, [shape[a] for a in kept])
        inner = unflatten_index(r, [shape[a] for a in root.op.axes])
        place = dict(zip(kept, outer, strict=True)) | dict(zip(root.op.axes, inner, strict=True))
        return flatten_index([place[a] for a in range(len(shape))], shape)

    def needed(self, value: Node) -> list[Node]:
        """Return the reductions an expression reads."""
        buffers = _buffers(value)
        return [n for n, b in self.registers.items() if b in buffers]

    def stashed(self, levels: list[tuple[Stmt, ...]], r: Node) -> tuple[list[tuple[Stmt, ...]], list[Stmt]]:
        """Keep costly values that several passes over a row need in a scratch row, instead of computing them again."""
        seen: dict[Node, int] = {}
        keep: dict[Node, tuple[int, Buffer]] = {}
        for k, level in enumerate(levels):
            for stmt in level:
                assert isinstance(stmt, Store | Reduce)
                for node in _outermost(stmt.value, lambda n, k=k: n in seen and seen[n] < k and n not in keep):
                    room = STASH_NBYTES - sum(b.size * b.dtype.itemsize for _, b in keep.values())
                    if node.dtype.itemsize < 4:
                        continue  # a row of them would be rounded, and the first pass has not seen that
                    if r in variables(node) and cost(node) >= STASH_COST and self.inner * node.dtype.itemsize <= room:
                        keep[node] = (seen[node], Buffer(f"row{len(keep)}", node.dtype, self.inner, "scratch"))
            for stmt in level:
                assert isinstance(stmt, Store | Reduce)
                for node in _all_nodes(stmt.value):
                    seen.setdefault(node, k)
        if not keep:
            return levels, []
        out: list[tuple[Stmt, ...]] = []
        for k, level in enumerate(levels):
            swap = {n: Fetch(b)(r) for n, (made, b) in keep.items() if made < k}
            stores = [Store(b, r, n) for n, (made, b) in keep.items() if made == k]
            out.append((*[_swapped(s, swap) for s in level], *stores))
        return out, [Alloc(b) for _, b in keep.values()]

    # ---- the result

    def work(self, levels: list[tuple[Stmt, ...]], last: tuple[Stmt, ...]) -> int:
        """Return the flops of all passes."""
        stmts = [s for level in levels for s in level if isinstance(s, Store | Reduce)]
        inside = sum(cost(s.value) + isinstance(s, Reduce) for s in stmts)
        after = sum(cost(s.value) for s in last if isinstance(s, Store))
        return self.outer * (self.inner * inside + after)

    def schedule(self, body: tuple[Stmt, ...], t: Node, tiles: int, flops: int, shape: str) -> LoopSchedule:
        """Return the finished schedule."""
        buffers = (*self.arguments.values(), *self.results)
        loop = For(t, index(0), index(tiles), body, "parallel")
        nest = Nest(self.name, buffers, (Comment(shape), loop))
        nbytes = sum(b.size * b.dtype.itemsize for b in buffers)
        return LoopSchedule(nest, tiles, flops, nbytes, shape)


def _placed(position: Sequence[Node], place: Place) -> Node:
    """Return where in a result the element of a part at an index lies."""
    steps, offset = place
    at: Node = index(offset)
    for i, step in zip(position, steps, strict=True):
        at = add(at, scale(i, step))
    return at


def _working_nbytes(dtypes: Sequence[DType]) -> int:
    """Return the size of the elements that should fill a register: the floats', else the widest."""
    floats = [max(d.itemsize, 4) for d in dtypes if d.is_float]
    return max(floats) if floats else max((d.itemsize for d in dtypes), default=8)


def _even_suffix(reads: Sequence[tuple[Buffer, Node]], axes: Sequence[Node], shape: Sequence[int]) -> int:
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


def _evenness(reads: Sequence[tuple[Buffer, Node]], var: Node) -> tuple[int, int]:
    """Return how few bytes of operands are gathered, and how many lie side by side, when `var` runs in lanes."""
    gathered = even = 0
    for buffer, where in reads:
        step = terms_of(where)[0].get(var, 0)
        nbytes = buffer.size * buffer.dtype.itemsize
        gathered += nbytes * (abs(step) > STEPS or (step == 0 and var in variables(where)))
        even += nbytes * (step == 1)
    return -gathered, even


def _extent(var: Node) -> int:
    assert isinstance(var.op, Var)
    return var.op.extent


def _all_nodes(node: Node) -> set[Node]:
    found: set[Node] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n not in found:
            found.add(n)
            stack.extend(n.args)
    return found


def _buffers(node: Node) -> set[Buffer]:
    return {n.op.buffer for n in _all_nodes(node) if isinstance(n.op, Fetch)}


def _outermost(node: Node, wanted: Callable[[Node], bool]) -> list[Node]:
    """Return the largest parts of an expression that `wanted` holds for."""
    found: dict[Node, None] = {}
    stack, seen = [node], set[Node]()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if wanted(n):
            found[n] = None
        else:
            stack.extend(n.args)
    return list(found)


def _swapped(stmt: Stmt, swap: dict[Node, Node]) -> Stmt:
    """Return the statement with parts of its value replaced."""
    assert isinstance(stmt, Store | Reduce)
    memo: dict[Node, Node] = dict(swap)

    def visit(node: Node) -> Node:
        if node not in memo:
            args = tuple(visit(a) for a in node.args)
            memo[node] = node if args == node.args else node.op(*args)
        return memo[node]

    if isinstance(stmt, Store):
        return Store(stmt.buffer, stmt.index, visit(stmt.value))
    return Reduce(stmt.buffer, stmt.combine, visit(stmt.value))


__all__ = ["Cpu", "LoopSchedule", "schedule_loops"]
