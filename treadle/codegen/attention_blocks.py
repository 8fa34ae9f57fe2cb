"""What attention kernels share: blocks of operands copied into scratch memory, and products of such blocks.

Copies are widened, turned where need be and padded to whole vectors, so the innermost products see neither strides nor
masks. Scratch areas are those of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from treadle.core import DType
from treadle.schedule.attention import AttentionSchedule, Operand
from treadle.schedule.matmul import Matrix

from . import scalars
from .llvm import I1, I64, PTR, Function, Index, Module, Value, compute_type, const, storage_type
from .memory import store_lanes
from .microkernel import Tile, microkernel
from .pack import pack_columns

UNROLLED = 4  # vectors of scores in flight
_LINE = 64  # bytes of a cache line


class Blocks:
    """Writes an attention kernel; subclasses have the loops."""

    def __init__(self, module: Module, schedule: AttentionSchedule, name: str) -> None:
        self.module, self.s, self.p, self.name = module, schedule, schedule.problem, name
        self.elem = compute_type(self.p.dtype)
        self.vector = self.elem.with_lanes(schedule.lanes)
        self.f = module.kernel(name)
        self.parts: dict[str, Function] = {}
        self.operands = dict(self.p.operands)
        self.results = dict(self.p.results)

    # ---- functions that are called

    def part(self, name: str, make: Callable[[str], Function]) -> Function:
        """Return the internal function of that name, written on first use."""
        if name not in self.parts:
            self.parts[name] = make(f"{self.name}_{name}")
        return self.parts[name]

    def tile(self, kind: str, vectors: int) -> Function:
        """Return a register tile (a, b, c, kc, columns, resume).

        "scores" are dot products of rows; "rows" adds rows of B weighted by a row of scores; "columns" by a column.
        """
        s = self.s
        a_row, a_k = {"scores": (s.depth, 1), "rows": (s.pitch, 1), "columns": (1, s.pitch)}[kind]
        scores = kind == "scores"
        tile = Tile(
            self.elem,
            s.lanes,
            s.strip,
            vectors,
            a_row,
            a_k,
            b_k=s.width if scores else s.depth,
            c_row=s.pitch if scores else s.depth,
            resumes=not scores,
            exact=scores and self.p.depth % s.unroll == 0,
            unroll=s.unroll,
        )
        return self.part(f"{kind}_{vectors}", lambda name: microkernel(self.module, name, tile))

    def scores(self) -> Function:
        """Return a function (a, b, c, vectors): a strip of A times a block of turned B."""

        def make(name: str) -> Function:
            f = self.module.function(name, [("a", PTR), ("b", PTR), ("c", PTR), ("vectors", I64)], internal=True)
            a, b, c, vectors = f.params
            kc = self.p.depth

            def panel(j: Value, width: int) -> None:
                at = f.gep(b, f.imul(j, kc * self.s.width), self.elem)
                f.call(
                    self.tile("scores", width), a, at, f.gep(c, f.imul(j, self.s.width), self.elem), kc, 0, const(0, I1)
                )

            pairs = f.idiv(vectors, 2)
            f.loop(0, pairs, 1, [], lambda j, _: panel(j, 2))
            f.if_(f.icmp("ne", f.imod(vectors, 2), 0), lambda: panel(pairs, 1))
            f.ret()
            return f

        return self.part("scores", make)

    def weigh(self, kind: str, scores: Value, b: Value, c: Value, kc: Value, resume: Value) -> None:
        """Add to the rows of C: rows of B weighted by a strip of scores."""
        f, s = self.f, self.s
        vectors = s.depth // s.lanes
        for first in range(0, vectors, 2):
            tile = self.tile(kind, min(2, vectors - first))
            at = first * s.lanes
            f.call(tile, scores, f.gep(b, at, self.elem), f.gep(c, at, self.elem), kc, 0, resume)

    def copy(self, name: str, head: Value, row: Value, count: Value, target: Value) -> None:
        """Copy rows of an operand to [row][depth] in scratch memory."""
        f, p, m = self.f, self.p, self.operands[name].matrix
        source = self.row(self.operands[name], head, row)
        f.call(self.packer(m.dtype, m.row, m.column, p.depth), source, target, count, 1, self.s.depth, p.depth)

    def turn(self, name: str, head: Value, row: Value, count: Value, target: Value) -> None:
        """Copy rows of an operand to [panel][depth][width] in scratch memory, as columns of panels."""
        f, s, depth, m = self.f, self.s, self.p.depth, self.operands[name].matrix
        source = self.row(self.operands[name], head, row)
        pack = self.packer(m.dtype, m.column, m.row, s.columns)
        full, rest = f.idiv(count, s.width), f.imod(count, s.width)
        f.call(pack, source, target, depth, full, s.width, s.width)

        def last() -> None:
            at = f.imul(full, s.width)
            end = f.gep(target, f.imul(at, depth), self.elem)
            f.call(pack, f.gep(source, f.imul(at, m.row), storage_type(m.dtype)), end, depth, 1, s.width, rest)

        if s.columns % s.width:
            f.if_(f.icmp("ne", rest, 0), last)

    def packer(self, dtype: DType, row: int, column: int, columns: int) -> Function:
        """Return a copying function of `codegen.pack`."""
        name = f"pack_{dtype.short}_{row}_{column}_{columns}".replace("-", "m")
        make = partial(pack_columns, dtype=dtype, wide=self.vector, row=row, column=column, columns=columns)
        return self.part(name, lambda name: make(self.module, name))

    # ---- addresses

    def area(self, name: str, index: Index = 0) -> Value:
        """Return the address of an element of scratch memory."""
        return self.f.gep(self.f.params[4], self.f.iadd(self.s.areas[name], index), self.elem)

    def row(self, operand: Operand, head: Value, row: Value) -> Value:
        """Return where a row of a head of an operand or result starts."""
        f, m, heads = self.f, operand.matrix, self.p.batch[1]
        b, h = f.idiv(head, heads), f.imod(head, heads)
        at = f.iadd(f.iadd(f.imul(b, m.batch[0]), f.imul(h, m.batch[1])), m.offset)
        start = f.gep(f.buffer(operand.buffer), at, storage_type(m.dtype))
        return f.gep(start, f.imul(row, m.row), storage_type(m.dtype))

    def seen(self, row: Value, first_column: Value) -> Value:
        """Return how many columns of the block from `first_column` on a row sees, if it has that many."""
        return self.f.isub(self.f.iadd(row, 1), first_column)

    def blocks_seen(self, rows: Value) -> Index:
        """Return how many column blocks the first `rows` rows see."""
        f, s = self.f, self.s
        if not self.p.causal:
            return s.num_column_blocks
        return f.imin(f.idiv(f.iadd(rows, s.block_columns - 1), s.block_columns), s.num_column_blocks)

    def both_ends(self, i: Value, blocks: int, body: Callable[[Value], None]) -> None:
        """Run the body for block i and block i from the other end: once if they are the same, not beyond the middle."""
        f = self.f
        other = f.isub(blocks - 1, i)
        f.loop(i, f.iadd(other, 1), f.imax(f.isub(other, i), 1), [], lambda block, _: body(block))

    # ---- memory that will be needed

    @property
    def awaited(self) -> tuple[str, ...]:
        """The operands of which rows are asked for while others are computed with; those to come when a row is done."""
        raise NotImplementedError

    @property
    def written(self) -> tuple[str, ...]:
        """The results of which a row is asked for shortly before it is written."""
        raise NotImplementedError

    def rows_ahead(self, head: Value, row: Value, then: tuple[Value, Value]) -> list[Value]:
        """Return where rows of the results, and (from head and row `then` on) of operands, will be needed for a strip.

        It may be beyond their end: asking for memory that does not exist does nothing.
        """
        written = [self.row(self.results[name], head, row) for name in self.written]
        return [*written, *(self.row(self.operands[name], *then) for name in self.awaited)]

    def ask_ahead(self, f: Function, starts: Sequence[Value], row: Value) -> None:
        """Ask for row number `row` of what `rows_ahead` found."""
        operands = [*(self.results[name] for name in self.written), *(self.operands[name] for name in self.awaited)]
        for number, (start, operand) in enumerate(zip(starts, operands, strict=True)):
            m, write = operand.matrix, number < len(self.written)
            here = f.gep(start, f.imul(row, m.row), storage_type(m.dtype))
            for at in range(0, self.p.depth * m.dtype.itemsize, _LINE):
                f.prefetch(f.gep(here, at), write=write, locality=3 if write else 2)

    @property
    def names_ahead(self) -> tuple[str, ...]:
        """Names for what `rows_ahead` finds."""
        return (*(f"this_{x}" for x in self.written), *(f"next_{x}" for x in self.awaited))

    def plain(self, *names: str) -> tuple[str, ...]:
        """Return those operands whose rows are contiguous."""
        return tuple(n for n in names if self.operands[n].matrix.column == 1)

    # ---- pieces of functions

    def over_row(
        self,
        f: Function,
        count: Value,
        end: Value,
        start: Value,
        step: Callable[[Value, Value, Value | None], Value],
        combine: Callable[[Value, Value], Value],
    ) -> Value:
        """Run `step(index, so far, mask)` on vectors of `count` elements, on masked ones up to `end`; combine all."""
        lanes = self.s.lanes
        several = UNROLLED * lanes
        whole = f.and_(count, -several)

        def steps(j: Value, carried: tuple[Value, ...]) -> list[Value]:
            return [step(f.iadd(j, k * lanes), x, None) for k, x in enumerate(carried)]

        totals = list(f.loop(0, whole, several, [start] * UNROLLED, steps))
        while len(totals) > 1:
            totals = [combine(a, b) for a, b in zip(totals[::2], totals[1::2], strict=True)]
        (total,) = f.loop(whole, end, lanes, totals, lambda j, x: [step(j, x[0], f.lane_mask(f.isub(count, j), lanes))])
        return f.reduce(total, combine)

    def exp(self, f: Function, x: Value) -> Value:
        """Return e to the x."""
        return scalars.emit(f, "exp", [x], self.p.dtype)

    def load(self, f: Function, pointer: Value, index: Value, lanes: int = 1) -> Value:
        """Return elements of scratch memory."""
        return f.load(f.gep(pointer, index, self.elem), self.elem.with_lanes(lanes))

    def visible(self, f: Function, first: Value, i: Value, limit: Value) -> Value:
        """Return how many columns row i of a strip sees, given what row 0 does and how many columns there are."""
        return f.imax(f.imin(f.iadd(first, i), limit), 0) if self.p.causal else limit

    def store_row(self, f: Function, source: Value, target: Value, m: Matrix, factor: Value | None) -> None:
        """Write a row in scratch memory, times a factor, to a row of a result."""
        p, lanes = self.p, self.s.lanes
        for at in range(0, p.depth, lanes):
            x = f.load(f.gep(source, at, self.elem), self.vector)
            if factor is not None:
                x = f.fmul(x, factor)
            mask = f.lane_mask(p.depth - at, lanes) if at + lanes > p.depth else None
            store_lanes(f, x, target, const(at, I64), m.dtype, mask=mask)
