"""Matrix product kernels of few rows by dot products: `x @ w.T` for one or a few x, and matrix times vector.

Every element has one chain of multiply-adds per vector lane; the lanes are added in a fixed tree. How many rows and
columns are computed together does not change that: a row of C has the same bits among any number of rows.
"""

from collections.abc import Sequence

from treadle.codegen.epilogue import Epilogue, batch_offset, finisher
from treadle.codegen.llvm import I64, PTR, Function, Module, Value, VType, compute_type, const, storage_type
from treadle.codegen.pack import load_wide, pack_rows
from treadle.schedule.matmul import DotSchedule

_LINE = 64  # bytes of a cache line


def sum_lanes(f: Function, vectors: Sequence[Value]) -> Value:
    """The sums over the lanes of 1, 2, 4, ... vectors, as a vector of that many lanes (a scalar for one)."""
    lanes, parts = vectors[0].type.lanes, 1
    while len(vectors) > 1 and parts < lanes:
        # Each vector holds `parts` sums still spread over `size` lanes; two vectors become one of twice the parts.
        size = lanes // parts
        first = [v * lanes + p * size + k for v in range(2) for p in range(parts) for k in range(size // 2)]
        second = [k + size // 2 for k in first]
        vectors = [
            f.fadd(f.shuffle(a, b, first), f.shuffle(a, b, second))
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        parts *= 2
    (total,) = vectors
    while total.type.lanes > max(parts, 2):
        size = total.type.lanes // parts
        first = [p * size + k for p in range(parts) for k in range(size // 2)]
        total = f.fadd(f.shuffle(total, None, first), f.shuffle(total, None, [k + size // 2 for k in first]))
    return total if parts > 1 else f.fadd(f.extract(total, 0), f.extract(total, 1))


def _group(module: Module, name: str, schedule: DotSchedule, rows: int) -> Function:
    """A function (a, b, sums) of the dot products of `rows` rows with `schedule.columns` columns."""
    s, p = schedule, schedule.problem
    f = module.function(name, [("a", PTR), ("b", PTR), ("sums", PTR)], internal=True)
    a, b, sums = f.params
    elem = compute_type(p.dtype)
    vector = elem.with_lanes(s.lanes)
    kind_a, kind_b = (p.dtype if s.pack_a else p.a.dtype), p.b.dtype
    a_row = s.packed_a_pitch if s.pack_a else p.a.row

    def ask_ahead(k: Value, count: int) -> None:
        """Ask for the lines of a later group of columns that are as far into it as this step is into this one.

        Columns lie one behind the other, so the lines are asked for in the order of memory, as hardware likes it.
        """
        start = f.gep(b, f.iadd(f.imul(k, s.columns), s.prefetch), storage_type(kind_b))
        for at in range(0, s.columns * count * kind_b.itemsize, _LINE):
            f.prefetch(f.gep(start, at), locality=2)

    def step(k: Value, carried: Sequence[Value], mask: Value | None) -> list[Value]:
        xs = [
            load_wide(f, f.gep(a, f.iadd(k, i * a_row), storage_type(kind_a)), kind_a, vector, mask)
            for i in range(rows)
        ]
        out: list[Value] = []
        if s.prefetch:
            ask_ahead(k, s.lanes if mask is None else p.k - whole)
        for j in range(s.columns):
            y = load_wide(f, f.gep(b, f.iadd(k, j * p.b.column), storage_type(kind_b)), kind_b, vector, mask)
            out += [f.fma(x, y, carried[j * rows + i]) for i, x in enumerate(xs)]
        return out

    whole = p.k // s.lanes * s.lanes
    totals: Sequence[Value] = [const(0, vector)] * (rows * s.columns)
    totals = f.loop(0, whole, s.lanes, totals, lambda k, v: step(k, v, None))
    if whole < p.k:
        totals = step(const(whole, I64), totals, f.lane_mask(p.k - whole, s.lanes))
    for i in range(rows):
        line = totals[i::rows]
        for at, count in _powers(s.columns, s.lanes):
            f.store(sum_lanes(f, line[at : at + count]), f.gep(sums, i * s.width + at, elem))
    f.ret()
    return f


def _powers(size: int, most: int) -> list[tuple[int, int]]:
    """`size` cut into powers of two: (start, length)."""
    out: list[tuple[int, int]] = []
    at = 0
    while at < size:
        count = min(most, 1 << (size - at).bit_length() - 1)
        out.append((at, count))
        at += count
    return out


def emit_dots(module: Module, schedule: DotSchedule, name: str, epilogue: Epilogue | None) -> None:
    """Write the kernel: per tile the sums of a block of columns go to scratch memory, then through the epilogue."""
    s, p = schedule, schedule.problem
    f = module.kernel(name)
    slots, args, lo, hi, scratch = f.params
    elem = compute_type(p.dtype)
    groups = {rows: _group(module, f"{name}_dots_{rows}", s, rows) for _, rows in s.row_panels}
    finish = finisher(module, f"{name}_finish", s, epilogue)
    packed = _pack(module, f"{name}_pack_a", s, elem.with_lanes(s.lanes)) if s.pack_a else None
    a0, b0 = f.buffer(int(s.swapped)), f.buffer(int(not s.swapped))
    sums = f.gep(scratch, s.sums_start, elem)
    kind_a, kind_b = (p.dtype if packed else p.a.dtype), p.b.dtype
    a_row = s.packed_a_pitch if packed else p.a.row

    def tile(t: Value, carried: tuple[Value, ...]) -> list[Value]:
        (packed_batch,) = carried
        batch, number = f.idiv(t, s.num_column_blocks), f.imod(t, s.num_column_blocks)
        column = f.imul(number, s.nc)
        columns = f.imin(f.isub(p.n, column), s.nc)
        a = f.gep(a0, batch_offset(f, p, p.a, batch), storage_type(p.a.dtype))
        b = f.gep(b0, batch_offset(f, p, p.b, batch), storage_type(p.b.dtype))
        if packed:

            def copy(pack: Function = packed, source: Value = a) -> None:
                f.call(pack, source, scratch)

            f.if_(f.icmp("ne", batch, packed_batch), copy)
            a = scratch

        def group(j: Value, _: tuple[Value, ...]) -> None:
            # The last group reaches back over columns of the group or block before: equal sums are written again.
            at = f.imin(f.iadd(column, j), p.n - s.columns)
            start = f.gep(b, f.imul(at, p.b.column), storage_type(kind_b))
            row = 0
            for count, rows in s.row_panels:

                def panel(i: Value, _: tuple[Value, ...], rows: int = rows, row: int = row) -> None:
                    first = f.iadd(f.imul(i, rows), row)
                    line = f.gep(sums, f.iadd(f.imul(first, s.width), f.isub(at, column)), elem)
                    f.call(groups[rows], f.gep(a, f.imul(first, a_row), storage_type(kind_a)), start, line)

                f.loop(0, count, 1, [], panel)
                row += count * rows

        f.loop(0, columns, s.columns, [], group)
        f.call(finish, slots, args, sums, batch, 0, column, p.m, columns)
        return [batch]

    f.loop(lo, hi, 1, [const(-1, I64)], tile)
    f.ret()


def _pack(module: Module, name: str, schedule: DotSchedule, wide: VType) -> Function:
    """A function (source, target) that copies the rows of A to where their k is contiguous."""
    p = schedule.problem
    rows = pack_rows(
        module,
        f"{name}_rows",
        dtype=p.a.dtype,
        wide=wide,
        row=p.a.row,
        column=p.a.column,
        pitch=schedule.packed_a_pitch,
    )
    f = module.function(name, [("source", PTR), ("target", PTR)], internal=True)
    source, target = f.params
    f.call(rows, source, target, p.k, p.m)
    f.ret()
    return f
