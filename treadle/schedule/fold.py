"""Loop kernels with reductions: rows or columns, folded in as many passes as reductions wait for each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from treadle.ir import Graph, Node
from treadle.ops.base import Reduction
from treadle.ops.formula import lowered
from treadle.te import (
    Alloc,
    Buffer,
    Fetch,
    For,
    Mod,
    Reduce,
    Stmt,
    Store,
    Var,
    add,
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

from .loop_kernel import STEPS, Cpu, LoopKernel, LoopSchedule, even_suffix, extent_of
from .stash import nodes_of, stashed


class Fold(LoopKernel):
    """Results that fold the inner elements of an outer one: `outer` results of `inner` elements each."""

    def __init__(self, body: Graph, cpu: Cpu, name: str) -> None:
        super().__init__(body, cpu, name)
        root = self.reductions[0]
        self.outer = root.type.size
        self.extents = [extent_of(v) for v in lowered(root).reduce]
        self.inner = math.prod(self.extents)

    def run(self) -> LoopSchedule:
        """Return rows or columns, whichever walks memory evenly."""
        root = self.reductions[0]
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
            split = even_suffix(reads, axes, self.extents)
        inner = math.prod(self.extents[len(self.extents) - split :])
        turns = self.inner // max(inner, 1)
        v = Var("r", inner)()
        k = Var("k", turns)()
        r = add(scale(k, inner), v) if turns > 1 else v
        levels, last = self.passes(t, r)
        lanes = self.wide(inner)
        body: list[Stmt] = []
        levels, stash = stashed(levels, r, self.inner) if turns == 1 else (levels, [])
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
            over = unflatten_index(r, [extent_of(v) for v in formula.reduce])
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
        buffers = {n.op.buffer for n in nodes_of(value) if isinstance(n.op, Fetch)}
        return [n for n, b in self.registers.items() if b in buffers]

    def work(self, levels: list[tuple[Stmt, ...]], last: tuple[Stmt, ...]) -> int:
        """Return the flops of all passes."""
        stmts = [s for level in levels for s in level if isinstance(s, Store | Reduce)]
        inside = sum(cost(s.value) + isinstance(s, Reduce) for s in stmts)
        after = sum(cost(s.value) for s in last if isinstance(s, Store))
        return self.outer * (self.inner * inside + after)


def _evenness(reads: Sequence[tuple[Buffer, Node]], var: Node) -> tuple[int, int]:
    """Return how few bytes of operands are gathered, and how many lie side by side, when `var` runs in lanes."""
    gathered = even = 0
    for buffer, where in reads:
        step = terms_of(where)[0].get(var, 0)
        nbytes = buffer.size * buffer.dtype.itemsize
        gathered += nbytes * (abs(step) > STEPS or (step == 0 and var in variables(where)))
        even += nbytes * (step == 1)
    return -gathered, even
