"""The attention kernel: strips of scores become exponentials in L1, which weigh the rows of v."""

from __future__ import annotations

from treadle.schedule.attention import AttentionSchedule

from . import scalars
from .attention_blocks import Blocks
from .attention_grad import Backward
from .llvm import I1, I64, PTR, Function, Module, Value, const, storage_type
from .real import INF


def emit_attention(schedule: AttentionSchedule, name: str) -> str:
    """Return the module text of a kernel; buffers are the group's operands, then its results."""
    module = Module(f"{name}: {schedule}")
    kind = Backward if schedule.problem.grad else Forward
    kind(module, schedule, name).emit()
    return str(module)


class Forward(Blocks):
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
        f, s = self.f, self.s
        first = f.imul(block, s.block_rows)
        rows = f.imin(f.isub(self.p.rows, first), s.block_rows)
        self.copy("q", head, first, rows, self.area("q"))
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
        if "out" in self.results:
            start = self.row(self.results["out"], head, first)
            f.call(self.finish(), self.area("out"), self.area("sum"), start, rows)
        if "lse" in self.results:
            self.store_lse(self.row(self.results["lse"], head, first), rows)

    def pack(self, head: Value, block: Value, column: Value, count: Value) -> None:
        """Copy a block of k and v, unless it is the one that was copied last."""
        f, s = self.f, self.s
        number = f.iadd(f.imul(head, s.num_column_blocks), block)

        def copy() -> None:
            self.turn("k", head, column, count, self.area("k_turned"))
            self.copy("v", head, column, count, self.area("v"))
            f.store(number, self.area("packed"))

        f.if_(f.icmp("ne", f.load(self.area("packed"), I64), number), copy)

    @property
    def awaited(self) -> tuple[str, ...]:
        return self.plain("q", "k", "v") if self.s.num_column_blocks == 1 else ()

    @property
    def written(self) -> tuple[str, ...]:
        return ("out",) if "out" in self.results and self.s.num_column_blocks == 1 else ()

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
            ahead = self.rows_ahead(head, row, (f.iadd(head, 1), row))
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
        numbers, places = ("first", "limit", "width"), ("tops", "sums", "out", *self.names_ahead)
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
        m = self.results["out"].matrix

        def make(name: str) -> Function:
            f = self.module.function(name, params, internal=True)
            out, sums, target, rows = f.params

            def row(i: Value, _: tuple[Value, ...]) -> None:
                factor = f.splat(f.fdiv(1.0, self.load(f, sums, i)), self.s.lanes)
                here = f.gep(target, f.imul(i, m.row), storage_type(m.dtype))
                self.store_row(f, f.gep(out, f.imul(i, self.s.depth), self.elem), here, m, factor)

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
