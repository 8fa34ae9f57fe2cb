"""The kernel of attention's gradient: probabilities are made again from the logsumexp, block by block."""

from __future__ import annotations

from .attention_blocks import UNROLLED, Blocks
from .llvm import I1, I64, PTR, Function, Value, const, storage_type


class Backward(Blocks):
    """dv = P^T ct, dq = scale dS k, dk = scale dS^T q, with P = exp(scale q k^T - lse), dS = P (ct v^T - delta)."""

    def emit(self) -> None:
        """Write the kernel; tiles are heads, or blocks of rows and of columns from both ends of a head."""
        f, s = self.f, self.s
        _, _, lo, hi, _ = f.params

        def head(t: Value, _: tuple[Value, ...]) -> None:
            f.loop(0, s.num_column_blocks, 1, [], lambda b, _: self.column_block(t, b))
            if not self.dq_at_once:
                self.store("dq", t, const(0, I64), const(self.p.rows, I64), self.area("dq"))

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
            last = f.icmp("eq", b, s.num_row_blocks - 1)

            def column_strip(c: Value, _: tuple[Value, ...]) -> None:
                at = f.imul(c, s.strip)
                self.column_strip(first, number, column, at)
                f.if_(last, lambda: store(at))

            f.loop(0, strips, 1, [], column_strip)

        def store(at: Value) -> None:
            """The strip is in L1 now."""
            for name in ("dk", "dv"):
                source = self.area(name, f.imul(at, s.depth))
                self.store(name, head, f.iadd(column, at), f.imin(f.isub(count, at), s.strip), source)

        # At least the last block of rows: it stores.
        start = f.imin(f.idiv(column, s.block_rows), s.num_row_blocks - 1) if p.causal else 0
        f.loop(start, s.num_row_blocks, 1, [], rows)

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
        if not self.dq_at_once:
            self.store("dq", head, first, number, self.area("dq"))

    def load_columns(self, head: Value, column: Value, count: Value, *, plain: bool) -> None:
        """Copy a block of k and v as the products need it."""
        for name in ("k", "v"):
            self.turn(name, head, column, count, self.area(f"{name}_turned"))
        if plain and "dq" in self.results:
            self.copy("k", head, column, count, self.area("k"))

    def load_rows(self, head: Value, first: Value) -> Value:
        """Copy a block of rows of q, ct and lse, and compute rowsum(ct out); give the number of rows."""
        f, s = self.f, self.s
        number = f.imin(f.isub(self.p.rows, first), s.block_rows)
        for name in ("q", "ct", "out"):
            self.copy(name, head, first, number, self.area(name))
        lse = self.row(self.operands["lse"], head, first)
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

    @property
    def written(self) -> tuple[str, ...]:
        return ("dq",) if self.dq_at_once else ()

    @property
    def dq_at_once(self) -> bool:
        """Whether rows of dq are complete when their one block of columns is."""
        return "dq" in self.results and self.s.num_column_blocks == 1

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
                ahead = self.rows_ahead(head, row, following(row))
                f.call(
                    self.soften(), scores, ds, seen, limit, fill, self.area("lse", at), self.area("delta", at), *ahead
                )
                if with_dq:
                    dq = self.area("dq", here if self.s.num_dq_blocks == 1 else f.imul(row, s.depth))
                    self.weigh("rows", ds, self.area("k"), dq, count, f.icmp("sgt", column, 0))
                    if self.dq_at_once:
                        self.store("dq", head, row, f.imin(f.isub(number, at), s.strip), dq)

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
                    self.weigh(
                        "columns",
                        self.area(weights, start),
                        self.area(rows, row),
                        self.area(name, sums),
                        count,
                        const(1, I1),
                    )

        f.if_(f.icmp("sgt", count, 0), work)

    def soften(self) -> Function:
        """Return a function that turns strips of scores and of ct v^T into P and dS, zeros where a row does not see.

        Parameters: both, columns row 0 sees, columns there are, columns to fill, lse and delta of the rows.
        """
        s, p, lanes = self.s, self.p, self.s.lanes
        numbers = ("first", "limit", "width")
        places = ("lse", "delta", *self.names_ahead)
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
                    for k in range(UNROLLED):
                        step(f.iadd(j, k * lanes), None)

                whole = f.and_(count, -UNROLLED * lanes)
                f.loop(0, whole, UNROLLED * lanes, [], steps)
                f.loop(whole, width, lanes, [], lambda j, _: step(j, f.lane_mask(f.isub(count, j), lanes)))

            f.loop(0, s.strip, 1, [], row)
            f.ret()
            return f

        return self.part("soften", make)

    def store(self, name: str, head: Value, first: Value, number: Value, source: Value) -> None:
        """Write rows of a result, if somebody reads it."""
        if name in self.results:
            self.f.call(self.store_rows(name), source, self.row(self.results[name], head, first), number)

    def store_rows(self, name: str) -> Function:
        """Return a function (source, target, rows) that stores [row][depth] to a result; dq and dk get their scale."""
        m = self.results[name].matrix
        factor = const(self.p.scale, self.vector) if name != "dv" else None

        def make(name: str) -> Function:
            f = self.module.function(name, [("source", PTR), ("target", PTR), ("rows", I64)], internal=True)
            source, target, rows = f.params

            def row(i: Value, _: tuple[Value, ...]) -> None:
                here = f.gep(target, f.imul(i, m.row), storage_type(m.dtype))
                self.store_row(f, f.gep(source, f.imul(i, self.s.depth), self.elem), here, m, factor)

            f.loop(0, rows, 1, [], row)
            f.ret()
            return f

        return self.part(f"store_{m.row}{'' if factor is None else '_scaled'}", make)
