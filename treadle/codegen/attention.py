"""Attention kernels: register tiles on blocks of scores, with softmax or its gradient in between.

All operands are copied into scratch memory block by block, widened, turned where need be and padded to whole vectors, so
the innermost products see neither strides nor masks. Scratch areas are those of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from treadle.core import DType
from treadle.schedule.attention import AttentionSchedule, Operand

from . import scalars
from .llvm import I1, I64, PTR, Function, Index, Module, Value, compute_type, const, storage_type
from .memory import store_lanes
from .microkernel import Tile, microkernel
from .pack import pack_columns
from .real import INF

_UNROLLED = 4  # vectors of scores in flight
_LINE = 64  # bytes of a cache line


def emit_attention(schedule: AttentionSchedule, name: str) -> str:
    """Return the module text of a kernel; buffers are the group's operands, then its results."""
    module = Module(f"{name}: {schedule}")
    writer = _Backward if schedule.problem.grad else _Forward
    writer(module, schedule, name).emit()
    return str(module)


class _Writer:
    """What both kernels need: addresses, copies, and products of blocks."""

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
                f.call(self.tile("scores", width), a, at, f.gep(c, f.imul(j, self.s.width), self.elem), kc, 0, const(0, I1))

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

    def copy(self, name: str, start: Value, row: Value, count: Value, target: Value) -> None:
        """Copy rows of an operand to [row][depth] in scratch memory."""
        f, p, m = self.f, self.p, self.operands[name].matrix
        source = f.gep(start, f.imul(row, m.row), storage_type(m.dtype))
        f.call(self.packer(m.dtype, m.row, m.column, p.depth), source, target, count, 1, self.s.depth, p.depth)

    def turn(self, name: str, start: Value, row: Value, count: Value, target: Value) -> None:
        """Copy rows of an operand to [panel][depth][width] in scratch memory, as columns of panels."""
        f, s, depth, m = self.f, self.s, self.p.depth, self.operands[name].matrix
        kind = storage_type(m.dtype)
        source = f.gep(start, f.imul(row, m.row), kind)
        pack = self.packer(m.dtype, m.column, m.row, s.columns)
        full, rest = f.idiv(count, s.width), f.imod(count, s.width)
        f.call(pack, source, target, depth, full, s.width, s.width)

        def last() -> None:
            at = f.imul(full, s.width)
            end = f.gep(target, f.imul(at, depth), self.elem)
            f.call(pack, f.gep(source, f.imul(at, m.row), kind), end, depth, 1, s.width, rest)

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

    def operand(self, name: str, head: Value) -> Value:
        """Return where a head of an operand starts."""
        operand: Operand = self.operands[name]
        m, heads = operand.matrix, self.p.batch[1]
        b, h = self.f.idiv(head, heads), self.f.imod(head, heads)
        at = self.f.iadd(self.f.iadd(self.f.imul(b, m.batch[0]), self.f.imul(h, m.batch[1])), m.offset)
        return self.f.gep(self.f.buffer(operand.buffer), at, storage_type(m.dtype))

    def result(self, name: str, head: Value, rows: int) -> Value | None:
        """Return where a head of a [B, T, H, D] result starts; None if nobody reads it."""
        if name not in self.results:
            return None
        f, heads = self.f, self.p.batch[1]
        b, h = f.idiv(head, heads), f.imod(head, heads)
        at = f.imul(f.iadd(f.imul(b, rows * heads), h), self.p.depth)
        return f.gep(f.buffer(self.results[name]), at, storage_type(self.p.stored))

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
        """Run the body for block i and for block i from the other end; once if they are the same, not beyond the middle."""
        f = self.f
        other = f.isub(blocks - 1, i)
        f.loop(i, f.iadd(other, 1), f.imax(f.isub(other, i), 1), [], lambda block, _: body(block))

    # ---- memory that will be needed

    @property
    def awaited(self) -> tuple[str, ...]:
        """The operands of which rows are asked for while others are computed with."""
        raise NotImplementedError

    def rows_ahead(self, head: Value, row: Value) -> list[Value]:
        """Return where to ask for rows of each awaited operand, for a strip. It may be beyond the end: asking is safe."""
        f = self.f
        ahead: list[Value] = []
        for name in self.awaited:
            m = self.operands[name].matrix
            ahead.append(f.gep(self.operand(name, head), f.imul(row, m.row), storage_type(m.dtype)))
        return ahead

    def ask(self, f: Function, start: Value, step: int, row: Value, dtype: DType, *, write: bool = False) -> None:
        """Ask for one row of `depth` elements; rows are `step` elements apart."""
        here = f.gep(start, f.imul(row, step), storage_type(dtype))
        for at in range(0, self.p.depth * dtype.itemsize, _LINE):
            f.prefetch(f.gep(here, at), write=write, locality=3 if write else 2)

    def ask_ahead(self, f: Function, starts: Sequence[Value], row: Value) -> None:
        """Ask for one row of each awaited operand."""
        for name, start in zip(self.awaited, starts, strict=True):
            m = self.operands[name].matrix
            self.ask(f, start, m.row, row, m.dtype)

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
        """Run `step(index, so far, mask)` on vectors of `count` elements, then on masked ones up to `end`; combine all."""
        lanes = self.s.lanes
        several = _UNROLLED * lanes
        whole = f.and_(count, -several)

        def steps(j: Value, carried: tuple[Value, ...]) -> list[Value]:
            return [step(f.iadd(j, k * lanes), x, None) for k, x in enumerate(carried)]

        totals = list(f.loop(0, whole, several, [start] * _UNROLLED, steps))
        while len(totals) > 1:
            totals = [combine(a, b) for a, b in zip(totals[::2], totals[1::2], strict=True)]
        (total,) = f.loop(
            whole, end, lanes, totals, lambda j, x: [step(j, x[0], f.lane_mask(f.isub(count, j), lanes))]
        )
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

    def store_rows(self, name: str, *, scaled: bool) -> Function:
        """Return a function (source, target, rows) that stores [row][depth] to a result, times the scale if asked."""
        s, p = self.s, self.p

        def make(name: str) -> Function:
            f = self.module.function(name, [("source", PTR), ("target", PTR), ("rows", I64)], internal=True)
            source, target, rows = f.params
            factor = const(p.scale, self.vector) if scaled else None
            f.loop(0, rows, 1, [], lambda i, _: self.store_row(f, f.gep(source, f.imul(i, s.depth), self.elem), target, i, factor))
            f.ret()
            return f

        return self.part(name, make)

    def store_row(self, f: Function, source: Value, target: Value, row: Value, factor: Value | None) -> None:
        """Write a row in scratch memory, times a factor, to row number `row` of a result."""
        p, lanes = self.p, self.s.lanes
        start = f.imul(row, p.batch[1] * p.depth)
        for at in range(0, p.depth, lanes):
            x = f.load(f.gep(source, at, self.elem), self.vector)
            if factor is not None:
                x = f.fmul(x, factor)
            mask = f.lane_mask(p.depth - at, lanes) if at + lanes > p.depth else None
            store_lanes(f, x, target, f.iadd(start, at), p.stored, mask=mask)


class _Forward(_Writer):
    """out = softmax(scale q k^T) v, a block of rows at a time.

    With several blocks of columns the sums of a row are rescaled whenever its greatest score grows (Milakov &
    Gimelshein 2018, arXiv:1805.02867).
    """

    def emit(self) -> None:
        """Write the kernel: tile i of a head has row blocks i and, from the other end, n - 1 - i."""
        f, s = self.f, self.s
        _, _, lo, hi, _ = f.params
        f.store(const(-1, I64), self.area("packed"))
        blocks = s.num_row_blocks

        def tile(t: Value, _: tuple[Value, ...]) -> None:
            head, i = f.idiv(t, s.tiles_per_head), f.imod(t, s.tiles_per_head)
            self.both_ends(i, blocks, lambda block: self.block(head, block))

        f.loop(lo, hi, 1, [], tile)
        f.ret()

    def block(self, head: Value, block: Value) -> None:
        """Compute a block of rows."""
        f, s, p = self.f, self.s, self.p
        first = f.imul(block, s.block_rows)
        rows = f.imin(f.isub(p.rows, first), s.block_rows)
        self.copy("q", self.operand("q", head), first, rows, self.area("q"))
        strips = f.idiv(f.iadd(rows, s.strip - 1), s.strip)
        several = s.num_column_blocks > 1
        if several:
            self.clear(f.imul(strips, s.strip))

        def columns(b: Value, _: tuple[Value, ...]) -> None:
            column = f.imul(b, s.block_columns)
            limit = f.imin(f.isub(s.columns, column), s.block_columns)
            self.pack(head, b, column, limit)
            f.loop(0, strips, 1, [], lambda i, _: self.strip(head, first, f.imul(i, s.strip), column, limit))

        f.loop(0, self.blocks_seen(f.iadd(first, rows)), 1, [], columns)
        out, lse = self.result("out", head, p.rows), self.results.get("lse")
        if out is not None:
            start = f.gep(out, f.imul(first, p.batch[1] * p.depth), storage_type(p.stored))
            f.call(self.finish(), self.area("out"), self.area("sum"), start, rows)
        if lse is not None:
            at = f.iadd(f.imul(head, p.rows), first)
            self.store_lse(f.gep(f.buffer(lse), at, self.elem), rows)

    def pack(self, head: Value, block: Value, column: Value, count: Value) -> None:
        """Copy a block of k and v, unless it is the one that was copied last."""
        f, s = self.f, self.s
        number = f.iadd(f.imul(head, s.num_column_blocks), block)

        def copy() -> None:
            self.turn("k", self.operand("k", head), column, count, self.area("k_turned"))
            self.copy("v", self.operand("v", head), column, count, self.area("v"))
            f.store(number, self.area("packed"))

        f.if_(f.icmp("ne", f.load(self.area("packed"), I64), number), copy)

    @property
    def awaited(self) -> tuple[str, ...]:
        return self.plain("q", "k", "v") if self.s.num_column_blocks == 1 else ()

    def strip(self, head: Value, start: Value, at: Value, column: Value, limit: Value) -> None:
        """Add a block of columns to a strip of rows, the one at `at` in the block of rows from `start` on."""
        f, s, p = self.f, self.s, self.p
        row = f.iadd(start, at)
        first = self.seen(row, column)
        count = f.imin(f.iadd(first, s.strip - 1), limit) if p.causal else limit

        def work() -> None:
            vectors = f.idiv(f.iadd(count, s.lanes - 1), s.lanes)
            scores, out = self.area("scores"), self.area("out", f.imul(at, s.depth))
            f.call(self.scores(), self.area("q", f.imul(at, s.depth)), self.area("k_turned"), scores, vectors)
            places = (self.area("top", at), self.area("sum", at), out)
            ahead = self.rows_ahead(f.iadd(head, 1), row)
            f.call(self.soften(), scores, first, limit, f.imul(vectors, s.lanes), *places, *ahead)
            self.weigh("rows", scores, self.area("v"), out, count, const(s.num_column_blocks > 1, I1))

        f.if_(f.icmp("sgt", count, 0), work)

    def clear(self, rows: Value) -> None:
        """Set the sums of a block of rows to what no column leaves."""
        f, s = self.f, self.s
        for name, size, value in (("top", rows, -INF), ("sum", rows, 0.0), ("out", f.imul(rows, s.depth), 0.0)):
            start, kind = self.area(name), self.elem if name != "out" else self.vector
            fill = const(value, kind)
            f.loop(0, size, kind.lanes, [], lambda i, _, p=start, v=fill: f.store(v, f.gep(p, i, self.elem)))

    def soften(self) -> Function:
        """Return a function that turns a strip of scores into exp(scale score - top), zeros where a row does not see.

        Parameters: scores, columns row 0 sees, columns there are, columns to fill, tops, sums, sums of rows of v.
        """
        numbers, places = ("first", "limit", "width"), ("tops", "sums", "out", *(f"next_{x}" for x in self.awaited))
        params = [("scores", PTR), *((x, I64) for x in numbers), *((x, PTR) for x in places)]

        def make(name: str) -> Function:
            f = self.module.function(name, params, internal=True)
            f.loop(0, self.s.strip, 1, [], lambda i, _: self.soften_row(f, i))
            f.ret()
            return f

        return self.part("soften", make)

    def soften_row(self, f: Function, i: Value) -> None:
        """Do so for one row."""
        s, p, lanes = self.s, self.p, self.s.lanes
        scores, first, limit, width, tops, sums, out, *ahead = f.params
        self.ask_ahead(f, ahead, i)
        line = f.gep(scores, f.imul(i, s.pitch), self.elem)
        count = self.visible(f, first, i, limit)
        # The greatest scaled score is that of the least score if the scale is negative.
        pick, worst = (f.fmax, -INF) if p.scale >= 0 else (f.fmin, INF)
        least = const(worst, self.vector)

        def extreme(j: Value, so_far: Value, mask: Value | None) -> Value:
            x = self.load(f, line, j, lanes)
            return pick(x if mask is None else f.select(mask, x, least), so_far)

        found = self.over_row(f, count, count, least, extreme, pick)
        top = f.fmul(found, p.scale)
        old = self.load(f, tops, i)
        if s.num_column_blocks > 1:
            top = f.fmax(top, old)
        f.store(top, f.gep(tops, i, self.elem))
        # Rows of -inf only would otherwise lose their sum of 0, which makes the logsumexp -inf.
        safe = f.select(f.fcmp("olt", f.fabs(top), INF), top, 0.0)
        shift = f.splat(f.fneg(safe), lanes)

        def exponential(j: Value, so_far: Value, mask: Value | None) -> Value:
            x = self.exp(f, f.fma(self.load(f, line, j, lanes), p.scale, shift))
            if mask is not None:
                x = f.select(mask, x, const(0, self.vector))
            f.store(x, f.gep(line, j, self.elem))
            return f.fadd(x, so_far)

        total = self.over_row(f, count, width, const(0, self.vector), exponential, f.fadd)
        place = f.gep(sums, i, self.elem)
        if s.num_column_blocks > 1:
            factor = self.exp(f, f.splat(f.fsub(old, safe), lanes))
            total = f.fma(f.load(place, self.elem), f.extract(factor, 0), total)
            row = f.gep(out, f.imul(i, s.depth), self.elem)
            for at in range(0, s.depth, lanes):
                here = f.gep(row, at, self.elem)
                f.store(f.fmul(f.load(here, self.vector), factor), here)
        f.store(total, place)

    def finish(self) -> Function:
        """Return a function (out, sums, target, rows) that stores sums of rows, divided by the sums of exponentials."""
        params = [("out", PTR), ("sums", PTR), ("target", PTR), ("rows", I64)]

        def make(name: str) -> Function:
            f = self.module.function(name, params, internal=True)
            out, sums, target, rows = f.params

            def row(i: Value, _: tuple[Value, ...]) -> None:
                factor = f.splat(f.fdiv(1.0, self.load(f, sums, i)), self.s.lanes)
                self.store_row(f, f.gep(out, f.imul(i, self.s.depth), self.elem), target, i, factor)

            f.loop(0, rows, 1, [], row)
            f.ret()
            return f

        return self.part("finish", make)

    def store_lse(self, target: Value, rows: Value) -> None:
        """Write the logsumexp of a block of rows."""
        f, lanes = self.f, self.s.lanes
        tops, sums = self.area("top"), self.area("sum")

        def some(i: Value, _: tuple[Value, ...]) -> None:
            log = scalars.emit(f, "log", [self.load(f, sums, i, lanes)], self.p.dtype)
            value = f.fadd(self.load(f, tops, i, lanes), log)
            f.masked_store(value, f.gep(target, i, self.elem), f.lane_mask(f.isub(rows, i), lanes))

        f.loop(0, rows, lanes, [], some)


class _Backward(_Writer):
    """With P = exp(scale q k^T - lse) and dS = P (ct v^T - rowsum(ct out)): dv = P^T ct, dq = scale dS k, dk = scale dS^T q."""

    def emit(self) -> None:
        """Write the kernel; tiles are heads, or blocks of rows and of columns from both ends of a head."""
        f, s = self.f, self.s
        _, _, lo, hi, _ = f.params

        def head(t: Value, _: tuple[Value, ...]) -> None:
            f.loop(0, s.num_column_blocks, 1, [], lambda b, _: self.column_block(t, b))
            self.store("dq", t, const(0, I64), const(self.p.rows, I64))

        def part(t: Value, _: tuple[Value, ...]) -> None:
            head, i = f.idiv(t, s.tiles_per_head), f.imod(t, s.tiles_per_head)
            if "dq" in self.results:
                self.both_ends(i, s.num_row_blocks, lambda b: self.row_block(head, b))
            if not {"dk", "dv"}.isdisjoint(self.results):
                self.both_ends(i, s.num_column_blocks, lambda b: self.column_block(head, b))

        f.loop(lo, hi, 1, [], head if s.whole_heads else part)
        f.ret()

    def column_block(self, head: Value, block: Value) -> None:
        """Compute dk and dv of a block of columns from all rows that see it; with whole heads also its part of dq."""
        f, s, p = self.f, self.s, self.p
        column = f.imul(block, s.block_columns)
        count = f.imin(f.isub(p.columns, column), s.block_columns)
        self.load_columns(head, column, count, plain=s.whole_heads)
        for name in ("dk", "dv"):
            start, zero = self.area(name), const(0, self.vector)
            size = s.block_sums
            f.loop(0, size, s.lanes, [], lambda i, _, start=start, zero=zero: f.store(zero, f.gep(start, i, self.elem)))

        def rows(b: Value, _: tuple[Value, ...]) -> None:
            first = f.imul(b, s.block_rows)
            number = self.load_rows(head, first)
            self.strips(head, first, number, column, count, with_dq=s.whole_heads)
            strips = f.idiv(f.iadd(count, s.strip - 1), s.strip)
            f.loop(0, strips, 1, [], lambda c, _: self.column_strip(first, number, column, f.imul(c, s.strip)))

        f.loop(f.idiv(column, s.block_rows) if p.causal else 0, s.num_row_blocks, 1, [], rows)
        for name in ("dk", "dv"):
            self.store(name, head, column, count)

    def row_block(self, head: Value, block: Value) -> None:
        """Compute dq of a block of rows."""
        f, s = self.f, self.s
        first = f.imul(block, s.block_rows)
        number = self.load_rows(head, first)

        def columns(b: Value, _: tuple[Value, ...]) -> None:
            column = f.imul(b, s.block_columns)
            count = f.imin(f.isub(self.p.columns, column), s.block_columns)
            self.load_columns(head, column, count, plain=True)
            self.strips(head, first, number, column, count, with_dq=True)

        f.loop(0, self.blocks_seen(f.iadd(first, number)), 1, [], columns)
        self.store("dq", head, first, number)

    def load_columns(self, head: Value, column: Value, count: Value, *, plain: bool) -> None:
        """Copy a block of k and v as the products need it."""
        for name in ("k", "v"):
            self.turn(name, self.operand(name, head), column, count, self.area(f"{name}_turned"))
        if plain and "dq" in self.results:
            self.copy("k", self.operand("k", head), column, count, self.area("k"))

    def load_rows(self, head: Value, first: Value) -> Value:
        """Copy a block of rows of q, ct and lse, and compute rowsum(ct out); give the number of rows."""
        f, s = self.f, self.s
        number = f.imin(f.isub(self.p.rows, first), s.block_rows)
        for name in ("q", "ct", "out"):
            self.copy(name, self.operand(name, head), first, number, self.area(name))
        step = self.operands["lse"].matrix.row
        lse = f.gep(self.operand("lse", head), f.imul(first, step), self.elem)
        f.call(self.row_sums(), self.area("ct"), self.area("out"), self.area("delta"), lse, self.area("lse"), number)
        return number

    def row_sums(self) -> Function:
        """Return a function (ct, out, delta, lse, copy, rows) for delta = rowsum(ct out) and for a copy of lse."""
        s, step = self.s, self.operands["lse"].matrix.row

        def make(name: str) -> Function:
            places = ("ct", "out", "delta", "lse", "copy")
            f = self.module.function(name, [*((x, PTR) for x in places), ("rows", I64)], internal=True)
            ct, out, delta, lse, copy, rows = f.params

            def row(i: Value, _: tuple[Value, ...]) -> None:
                total = const(0, self.vector)
                for at in range(0, s.depth, s.lanes):
                    here = f.iadd(f.imul(i, s.depth), at)
                    total = f.fma(self.load(f, ct, here, s.lanes), self.load(f, out, here, s.lanes), total)
                f.store(f.reduce(total, f.fadd), f.gep(delta, i, self.elem))
                f.store(self.load(f, lse, f.imul(i, step)), f.gep(copy, i, self.elem))

            f.loop(0, rows, 1, [], row)
            f.ret()
            return f

        return self.part("row_sums", make)

    @property
    def awaited(self) -> tuple[str, ...]:
        single = self.s.whole_heads and self.s.num_column_blocks == 1
        return self.plain("q", "k", "v", "out", "ct") if single else self.plain("q", "out", "ct")

    def strips(self, head: Value, first: Value, number: Value, column: Value, limit: Value, *, with_dq: bool) -> None:
        """Make P and dS of a block, strip by strip, and add to dq."""
        f, s, p = self.f, self.s, self.p
        with_dq = with_dq and "dq" in self.results

        def following(row: Value) -> tuple[Value, Value]:
            """The head and row that will be needed a head, or a block of rows, later."""
            single = s.whole_heads and s.num_column_blocks == 1
            return (f.iadd(head, 1), row) if single else (head, f.iadd(row, s.block_rows))

        def strip(i: Value, _: tuple[Value, ...]) -> None:
            at = f.imul(i, s.strip)
            row = f.iadd(first, at)
            seen = self.seen(row, column)
            count = f.imin(f.iadd(seen, s.strip - 1), limit) if p.causal else limit

            def work() -> None:
                vectors = f.idiv(f.iadd(count, s.lanes - 1), s.lanes)
                here, line = f.imul(at, s.depth), f.imul(at, s.pitch)
                scores, ds = self.area("p", line), self.area("ds", line)
                f.call(self.scores(), self.area("q", here), self.area("k_turned"), scores, vectors)
                f.call(self.scores(), self.area("ct", here), self.area("v_turned"), ds, vectors)
                fill = f.iadd(count, s.strip) if p.causal else count
                ahead = self.rows_ahead(*following(row))
                f.call(self.soften(), scores, ds, seen, limit, fill, self.area("lse", at), self.area("delta", at), *ahead)
                if with_dq:
                    dq = self.area("dq", f.imul(row, s.depth) if s.whole_heads else here)
                    self.weigh("rows", ds, self.area("k"), dq, count, f.icmp("sgt", column, 0))

            f.if_(f.icmp("sgt", count, 0), work)

        f.loop(0, f.idiv(f.iadd(number, s.strip - 1), s.strip), 1, [], strip)

    def column_strip(self, first: Value, number: Value, column: Value, at: Value) -> None:
        """Add a block of rows to a strip of dk and dv. Rows above the diagonal of its first column do not see it."""
        f, s = self.f, self.s
        skipped = f.imax(f.isub(f.iadd(column, at), first), 0) if self.p.causal else const(0, I64)
        count = f.isub(number, skipped)

        def work() -> None:
            start, row, sums = f.iadd(f.imul(skipped, s.pitch), at), f.imul(skipped, s.depth), f.imul(at, s.depth)
            for name, weights, rows in (("dv", "p", "ct"), ("dk", "ds", "q")):
                if name in self.results:
                    self.weigh("columns", self.area(weights, start), self.area(rows, row), self.area(name, sums), count, const(1, I1))

        f.if_(f.icmp("sgt", count, 0), work)

    def soften(self) -> Function:
        """Return a function that turns strips of scores and of ct v^T into P and dS, zeros where a row does not see.

        Parameters: both, columns row 0 sees, columns there are, columns to fill, lse and delta of the rows.
        """
        s, p, lanes = self.s, self.p, self.s.lanes
        numbers = ("first", "limit", "width")
        places = ("lse", "delta", *(f"next_{x}" for x in self.awaited))
        params = [("p", PTR), ("ds", PTR), *((x, I64) for x in numbers), *((x, PTR) for x in places)]

        def make(name: str) -> Function:
            f = self.module.function(name, params, internal=True)
            probabilities, ds, first, limit, width, lse, delta, *ahead = f.params

            def row(i: Value, _: tuple[Value, ...]) -> None:
                self.ask_ahead(f, ahead, i)
                here, there = (f.gep(x, f.imul(i, s.pitch), self.elem) for x in (probabilities, ds))
                count = self.visible(f, first, i, limit)
                shift, along = (f.splat(x, lanes) for x in (f.fneg(self.load(f, lse, i)), self.load(f, delta, i)))

                def step(j: Value, mask: Value | None) -> None:
                    x = self.exp(f, f.fma(self.load(f, here, j, lanes), p.scale, shift))
                    y = f.fmul(x, f.fsub(self.load(f, there, j, lanes), along))
                    for value, line in ((x, here), (y, there)):
                        kept = value if mask is None else f.select(mask, value, const(0, self.vector))
                        f.store(kept, f.gep(line, j, self.elem))

                def steps(j: Value, _: tuple[Value, ...]) -> None:
                    for k in range(_UNROLLED):
                        step(f.iadd(j, k * lanes), None)

                whole = f.and_(count, -_UNROLLED * lanes)
                f.loop(0, whole, _UNROLLED * lanes, [], steps)
                f.loop(whole, width, lanes, [], lambda j, _: step(j, f.lane_mask(f.isub(count, j), lanes)))

            f.loop(0, s.strip, 1, [], row)
            f.ret()
            return f

        return self.part("soften", make)

    def store(self, name: str, head: Value, first: Value, number: Value) -> None:
        """Write rows of a result, if somebody reads it."""
        f, p = self.f, self.p
        target = self.result(name, head, p.rows if name == "dq" else p.columns)
        if target is not None:
            scaled = name != "dv"
            start = f.gep(target, f.imul(first, p.batch[1] * p.depth), storage_type(p.stored))
            f.call(self.store_rows("store_scaled" if scaled else "store", scaled=scaled), self.area(name), start, number)
