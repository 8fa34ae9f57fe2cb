"""Matrix product kernels: the loop nest of a schedule around register tiles.

Buffers of a kernel: A, B, then what the epilogue names (the plain one: C).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from treadle.codegen.dots import emit_dots
from treadle.codegen.epilogue import Epilogue, Store, batch_offset, finisher
from treadle.codegen.llvm import I1, Function, Module, Value, compute_type, const, storage_type
from treadle.codegen.microkernel import Tile, microkernel
from treadle.codegen.pack import pack_columns, pack_rows, pack_strip
from treadle.schedule.matmul import DotSchedule, MatmulSchedule, TileSchedule

__all__ = ["Epilogue", "Store", "emit_matmul"]


def emit_matmul(schedule: MatmulSchedule, name: str, epilogue: Epilogue | None = None) -> str:
    """The kernel of a schedule as LLVM text. Give an epilogue exactly when the schedule was made with `fused=True`."""
    module = Module(f"{name}: {schedule}")
    if isinstance(schedule, DotSchedule):
        emit_dots(module, schedule, name, epilogue)
    else:
        assert epilogue is None or not schedule.direct, f"{name}: the schedule was not made for an epilogue"
        _Tiles(module, schedule, name, epilogue).emit()
    return str(module)


@dataclass(frozen=True)
class _Run:
    """A run of row panels of one column block: where its operands lie, with what is constant for it."""

    slots: Value
    args: Value
    a: Value
    b: Value
    c: Value
    packed_b: Value
    packed_a: Value
    tiles: Value
    batch: Value
    column: Value
    first: Value
    last: Value
    ends: Value  # whether the block is the last of its row, where narrower panels are


@dataclass(frozen=True)
class _Block:
    """A block of k within a run, with B packed if it is to be."""

    k: Value
    kc: Value
    b: Value
    tail_b: Value
    whole: Value  # column panels of full width


class _Tiles:
    """Writes one kernel of register tiles. Functions it calls are written on first use."""

    def __init__(self, module: Module, schedule: TileSchedule, name: str, epilogue: Epilogue | None) -> None:
        self.module, self.s, self.p, self.name, self.epilogue = module, schedule, schedule.problem, name, epilogue
        self.elem = compute_type(self.p.dtype)
        self.f = module.kernel(name)
        self.parts: dict[str, Function] = {}

    # ---- functions that are called

    def part(self, name: str, make: Callable[[str], Function]) -> Function:
        if name not in self.parts:
            self.parts[name] = make(f"{self.name}_{name}")
        return self.parts[name]

    def tile(self, rows: int, vectors: int) -> Function:
        s, p = self.s, self.p
        a_row, a_k = {"no": (p.a.row, p.a.column), "rows": (s.packed_a_pitch, 1), "strip": (1, s.packed_a_pitch)}[
            s.pack_a
        ]
        ragged = p.n % s.lanes != 0 and vectors == (s.tail_vectors or s.vectors)
        tile = Tile(
            self.elem,
            s.lanes,
            rows,
            vectors,
            a_row,
            a_k,
            b_k=p.b.row if s.pack_b == "no" else vectors * s.lanes,
            c_row=p.c.row if s.direct else s.width,
            mask_b=ragged and s.pack_b == "no",
            mask_c=ragged and s.direct,
            resumes=s.num_k_blocks > 1,
            exact=p.k % s.unroll == 0 and s.kc % s.unroll == 0,
            unroll=s.unroll,
            prefetch=s.prefetch,
            prefetch_c=s.prefetch_c and s.direct,
        )
        return self.part(f"tile_{rows}x{vectors}", lambda name: microkernel(self.module, name, tile))

    def pack_b(self) -> Function:
        make = partial(
            pack_columns,
            dtype=self.p.b.dtype,
            wide=self.elem.with_lanes(self.s.lanes),
            row=self.p.b.row,
            column=self.p.b.column,
            columns=self.p.n,
            whole=self.p.k % self.s.lanes == 0 and self.s.kc % self.s.lanes == 0,
        )
        return self.part("pack_b", lambda name: make(self.module, name))

    def pack_a(self) -> Function:
        a, make = self.p.a, pack_rows if self.s.pack_a == "rows" else pack_strip
        call = partial(
            make,
            dtype=a.dtype,
            wide=self.elem.with_lanes(self.s.lanes),
            row=a.row,
            column=a.column,
            pitch=self.s.packed_a_pitch,
        )
        return self.part("pack_a", lambda name: call(self.module, name))

    def finish(self) -> Function:
        return self.part("finish", lambda name: finisher(self.module, name, self.s, self.epilogue))

    # ---- the loop nest, outside in

    def emit(self) -> None:
        """Tiles lo..hi: as long as the column block stays the same, row panels go together and share packed B."""
        s, p, f = self.s, self.p, self.f
        slots, args, lo, hi, scratch = f.params
        a, b = f.buffer(int(s.swapped)), f.buffer(int(not s.swapped))
        c = f.buffer(2) if s.direct else None
        packed_a = f.gep(scratch, s.packed_b_size, self.elem)
        tiles = f.gep(packed_a, s.packed_a_size, self.elem)
        panels = s.num_row_panels
        most = s.segment if s.num_scratch_tiles > 1 else panels

        def run(carried: tuple[Value, ...]) -> list[Value]:
            (t,) = carried
            block = f.idiv(t, panels)
            start = f.imul(block, panels)
            last = f.imin(f.isub(f.imin(hi, f.iadd(t, most)), start), panels)
            batch, number = f.idiv(block, s.num_column_blocks), f.imod(block, s.num_column_blocks)
            this = _Run(
                slots,
                args,
                a=f.gep(a, batch_offset(f, p, p.a, batch), storage_type(p.a.dtype)),
                b=f.gep(b, batch_offset(f, p, p.b, batch), storage_type(p.b.dtype)),
                c=f.gep(c, batch_offset(f, p, p.c, batch), self.elem) if c else scratch,
                packed_b=scratch,
                packed_a=packed_a,
                tiles=tiles,
                batch=batch,
                column=f.imul(number, s.nc),
                first=f.isub(t, start),
                last=last,
                ends=f.icmp("eq", number, s.num_column_blocks - 1) if s.num_column_blocks > 1 else const(1, I1),
            )
            f.loop(0, max(p.k, 1), s.kc, [], lambda k, _: self.k_block(this, k))
            return [f.iadd(start, last)]

        f.while_([lo], lambda v: f.icmp("slt", v[0], hi), run)
        f.ret()

    def k_block(self, run: _Run, k: Value) -> None:
        """Add the products of k ... k + kc to the tiles of a run."""
        s, p, f = self.s, self.p, self.f
        kc = f.imin(f.isub(p.k, k), s.kc)
        vectors = f.idiv(f.iadd(f.imin(f.isub(p.n, run.column), s.nc), s.lanes - 1), s.lanes)
        whole = f.idiv(vectors, s.vectors)
        b = f.gep(run.b, f.iadd(f.imul(k, p.b.row), f.imul(run.column, p.b.column)), storage_type(p.b.dtype))
        if s.pack_b == "no":
            block = _Block(k, kc, b, f.gep(b, f.imul(whole, s.width), self.elem), whole)
        else:
            self.fill_b(run, b, kc, whole)
            tail = f.gep(run.packed_b, f.imul(f.imul(whole, s.width), kc), self.elem)
            block = _Block(k, kc, run.packed_b, tail, whole)
        panel, row = 0, 0  # where the panels of one size begin
        for count, rows in s.row_panels:
            low, high = f.imax(run.first, panel), f.imin(run.last, panel + count)
            self.row_panels(run, block, rows, row - panel * rows, low, high)
            panel, row = panel + count, row + count * rows

    def fill_b(self, run: _Run, b: Value, kc: Value, whole: Value) -> None:
        """Pack a block of B; its last panel may be narrower or have columns that do not exist."""
        s, p, f = self.s, self.p, self.f
        missing = -p.n % s.lanes
        ragged = int(missing > 0 and s.tail_vectors == 0)  # panels of full width that lack columns
        full = f.isub(whole, f.cast("zext", run.ends, "i64")) if ragged else whole
        if s.num_full_panels > ragged:
            f.call(self.pack_b(), b, run.packed_b, kc, full, s.width, s.width)
        if not (s.tail_vectors or ragged):
            return
        width = (s.tail_vectors or s.vectors) * s.lanes

        def last() -> None:
            at = f.imul(full, s.width)
            source = f.gep(b, f.imul(at, p.b.column), storage_type(p.b.dtype))
            target = f.gep(run.packed_b, f.imul(at, kc), self.elem)
            f.call(self.pack_b(), source, target, kc, 1, width, width - missing)

        f.if_(run.ends, last)

    def row_panels(self, run: _Run, block: _Block, rows: int, base: int, low: Value, high: Value) -> None:
        """Row panels low..high, all of `rows` rows, panel i from row base + i * rows on; groups are packed together."""
        s, p, f = self.s, self.p, self.f

        def source(i: Value) -> Value:
            at = f.iadd(f.imul(f.iadd(f.imul(i, rows), base), p.a.row), f.imul(block.k, p.a.column))
            return f.gep(run.a, at, storage_type(p.a.dtype))

        def in_place(i: Value, _: tuple[Value, ...]) -> None:
            self.row_panel(run, block, rows, base, i, source(i))

        def group(g: Value, _: tuple[Value, ...]) -> None:
            number = f.imin(f.isub(high, g), s.group)
            f.call(self.pack_a(), source(g), run.packed_a, block.kc, f.imul(number, rows))
            pitch = s.packed_a_pitch if s.pack_a == "rows" else 1

            def member(i: Value, _: tuple[Value, ...]) -> None:
                at = f.imul(f.isub(i, g), rows * pitch)
                self.row_panel(run, block, rows, base, i, f.gep(run.packed_a, at, self.elem))

            f.loop(g, f.iadd(g, number), 1, [], member)

        if s.pack_a == "no":
            f.loop(low, high, 1, [], in_place)
        else:
            f.loop(low, high, s.group, [], group)

    def row_panel(self, run: _Run, block: _Block, rows: int, base: int, i: Value, a: Value) -> None:
        """The register tiles of row panel i, left to right: its part of A stays in L1."""
        s, p, f = self.s, self.p, self.f
        row = f.iadd(f.imul(i, rows), base)
        several = s.num_k_blocks > 1
        resume = f.icmp("sgt", block.k, 0) if several else const(0, I1)
        done = f.icmp("sge", f.iadd(block.k, s.kc), p.k) if several else const(1, I1)
        line = f.gep(run.c, f.iadd(f.imul(row, p.c.row), run.column), self.elem) if s.direct else run.tiles
        if s.num_scratch_tiles > 1:
            line = f.gep(line, f.imul(f.isub(i, run.first), -(-s.nc // s.width) * s.width * s.rows), self.elem)

        def one(j: Value, vectors: int, b: Value) -> None:
            across = f.imul(j, s.width)
            column = f.iadd(run.column, across)
            columns = f.isub(p.n, column)
            c = line
            if s.direct or s.num_scratch_tiles > 1:
                c = f.gep(line, across if s.direct else f.imul(across, s.rows), self.elem)
            f.call(self.tile(rows, vectors), a, b, c, block.kc, columns, resume)
            if not s.direct:
                wide = f.imin(columns, vectors * s.lanes)
                f.if_(done, lambda: finish(c, column, wide))

        def finish(c: Value, column: Value, columns: Value) -> None:
            f.call(self.finish(), run.slots, run.args, c, run.batch, row, column, rows, columns)

        def full(j: Value, _: tuple[Value, ...]) -> None:
            pitch = s.width if s.pack_b == "no" else f.imul(block.kc, s.width)
            one(j, s.vectors, f.gep(block.b, f.imul(j, pitch), self.elem))

        if s.num_full_panels:
            f.loop(0, block.whole, 1, [], full)
        if s.tail_vectors:
            f.if_(run.ends, lambda: one(block.whole, s.tail_vectors, block.tail_b))
