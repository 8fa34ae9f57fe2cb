"""Copies of matrix blocks in the order a register tile reads them, widened to the compute dtype.

Written as internal functions of a module, for every kernel built on `microkernel`.
"""

from collections.abc import Sequence

from treadle.codegen.llvm import I64, PTR, Function, Module, Value, VType, const, storage_type
from treadle.codegen.memory import widen
from treadle.core.dtypes import DType


def load_wide(f: Function, pointer: Value, dtype: DType, wide: VType, mask: Value | None = None) -> Value:
    """Elements of `dtype` from memory as `wide`; zeros where the mask is false."""
    kind = storage_type(dtype, wide.lanes)
    value = f.load(pointer, kind) if mask is None else f.masked_load(pointer, kind, mask, 0)
    return to_shuffle(f, f.cast("fpext", widen(f, value, dtype), wide.elem), dtype)


def to_shuffle(f: Function, value: Value, dtype: DType) -> Value:
    """A widened vector that may be shuffled.

    LLVM 20 takes an interleaving of two widened 256-bit halves for the widening of one interleaving of both, which is
    wrong beyond the first 128 bits: float16 is widened before anything is shuffled.
    """
    return f.opaque(value) if dtype.name == "float16" and value.type.lanes > 1 else value


def transpose(f: Function, rows: Sequence[Value]) -> list[Value]:
    """The columns of a square block given as row vectors of 4 to 16 floats or doubles.

    Only shuffles within 128-bit lanes and of whole ones, which take one instruction without a table.
    """
    lanes = len(rows)
    per = 16 // rows[0].type.elem_nbytes  # elements of a 128-bit lane
    blocks = lanes // per

    def mix(x: Value, y: Value, *picks: int) -> Value:
        """The same picks within each 128-bit lane; numbers from `per` on are of y."""
        return f.shuffle(
            x, y, [base + k if k < per else lanes + base + k - per for base in range(0, lanes, per) for k in picks]
        )

    def join(x: Value, y: Value, *picks: int) -> Value:
        """Whole 128-bit lanes; numbers from `blocks` on are of y."""
        return f.shuffle(x, y, [block * per + k for block in picks for k in range(per)])

    # groups[g][x] holds, in its 128-bit lane l, column l * per + x of the rows of group g.
    groups: list[list[Value]] = []
    for g in range(0, lanes, per):
        if per == 2:
            groups.append([mix(rows[g], rows[g + 1], 0, 2), mix(rows[g], rows[g + 1], 1, 3)])
        else:
            a, b = mix(rows[g], rows[g + 1], 0, 4, 1, 5), mix(rows[g + 2], rows[g + 3], 0, 4, 1, 5)
            c, d = mix(rows[g], rows[g + 1], 2, 6, 3, 7), mix(rows[g + 2], rows[g + 3], 2, 6, 3, 7)
            groups.append([mix(a, b, 0, 1, 4, 5), mix(a, b, 2, 3, 6, 7), mix(c, d, 0, 1, 4, 5), mix(c, d, 2, 3, 6, 7)])
    turned: list[list[Value]] = []
    for same in zip(*groups, strict=True):
        if blocks == 1:
            turned.append(list(same))
        elif blocks == 2:
            turned.append([join(*same, 0, 2), join(*same, 1, 3)])
        else:
            a, b = join(same[0], same[1], 0, 1, 4, 5), join(same[2], same[3], 0, 1, 4, 5)
            c, d = join(same[0], same[1], 2, 3, 6, 7), join(same[2], same[3], 2, 3, 6, 7)
            turned.append(
                [join(a, b, 0, 2, 4, 6), join(a, b, 1, 3, 5, 7), join(c, d, 0, 2, 4, 6), join(c, d, 1, 3, 5, 7)]
            )
    return [turned[k % per][k // per] for k in range(lanes)]


def pack_columns(
    module: Module, name: str, *, dtype: DType, wide: VType, row: int, column: int, columns: int, whole: bool = False
) -> Function:
    """A function (source, target, kc, panels, width, valid) that packs columns of B as [panel][k][width].

    Of each panel `valid` columns exist: a multiple of the lanes or, in the last panel of all `columns`, what is left.
    `whole` promises that kc is a multiple of the lanes. Up to a vector of rows may be written past the end.
    """
    counts = ("kc", "panels", "width", "valid")
    f = module.function(name, [("source", PTR), ("target", PTR), *((x, I64) for x in counts)], internal=True)
    writer = _Columns(f, dtype, wide, row, column, columns, whole)
    if column == 1:
        writer.copy()
    elif row == 1:
        writer.turn()
    else:
        writer.gather()
    f.ret()
    return f


class _Columns:
    """The three ways to pack columns: copy rows, turn square blocks, or take element by element."""

    def __init__(
        self, f: Function, dtype: DType, wide: VType, row: int, column: int, columns: int, whole: bool
    ) -> None:
        self.f, self.dtype, self.wide, self.one = f, dtype, wide, wide.with_lanes(1)
        self.row, self.column, self.columns, self.whole = row, column, columns, whole
        self.kind, self.lanes = storage_type(dtype), wide.lanes
        self.source, self.target, self.kc, self.panels, self.width, self.valid = f.params
        self.full = f.and_(self.valid, -self.lanes)
        self.ragged = columns % self.lanes

    def load(self, pointer: Value, mask: Value | None = None) -> Value:
        return load_wide(self.f, pointer, self.dtype, self.wide, mask)

    def panel(self, p: Value) -> tuple[Value, Value]:
        """Where a panel comes from and goes to."""
        f = self.f
        columns = f.imul(p, self.width)
        s = f.gep(self.source, f.imul(columns, self.column), self.kind)
        return s, f.gep(self.target, f.imul(columns, self.kc), self.one)

    def elements(self, s: Value, t: Value, first: Value, k: Value) -> None:
        """Row k from column `first` on, one element at a time; zeros where columns are missing."""
        f = self.f
        s, t = f.gep(s, f.imul(k, self.row), self.kind), f.gep(t, f.imul(k, self.width), self.one)

        def element(j: Value, _: tuple[Value, ...]) -> None:
            value = load_wide(f, f.gep(s, f.imul(j, self.column), self.kind), self.dtype, self.one)
            f.store(value, f.gep(t, j, self.one))

        f.loop(first, self.valid, 1, [], element)
        f.loop(self.valid, self.width, 1, [], lambda j, _: f.store(const(0, self.one), f.gep(t, j, self.one)))

    def gather(self) -> None:
        f = self.f

        def panel(p: Value, _: tuple[Value, ...]) -> None:
            s, t = self.panel(p)
            f.loop(0, self.kc, 1, [], lambda k, _: self.elements(s, t, const(0, I64), k))

        f.loop(0, self.panels, 1, [], panel)

    def copy(self) -> None:
        """Several rows at a time across all panels, so that B is read along its rows."""
        f, many = self.f, 4
        mask = f.lane_mask(self.ragged, self.lanes)

        def rows(k: Value, count: int) -> None:
            def panel(p: Value, _: tuple[Value, ...]) -> None:
                s0, t0 = self.panel(p)
                s, t = f.gep(s0, f.imul(k, self.row), self.kind), f.gep(t0, f.imul(k, self.width), self.one)

                def vector(v: Value, mask: Value | None) -> None:
                    to = f.gep(t, v, self.one)
                    for q in range(count):
                        f.store(self.load(f.gep(s, f.iadd(v, q * self.row), self.kind), mask), to)
                        to = f.gep(to, self.width, self.one)

                f.loop(0, self.full, self.lanes, [], lambda v, _: vector(v, None))
                if self.ragged:
                    f.if_(f.icmp("slt", self.full, self.valid), lambda: vector(self.full, mask))

            f.loop(0, self.panels, 1, [], panel)

        main = f.and_(self.kc, -many)
        f.loop(0, main, many, [], lambda k, _: rows(k, many))
        f.loop(main, self.kc, 1, [], lambda k, _: rows(k, 1))

    def turn(self) -> None:
        """Square blocks through registers. Rows from kc on are written too, where the next panel or spare memory is."""
        f, lanes = self.f, self.lanes

        def block(s: Value, t: Value, k: Value, count: int) -> None:
            mask = None if self.whole else f.lane_mask(f.isub(self.kc, k), lanes)
            rows = [self.load(f.gep(s, q * self.column, self.kind), mask) for q in range(count)]
            for value in transpose(f, [*rows, *[const(0, self.wide)] * (lanes - count)]):
                f.store(value, t)
                t = f.gep(t, self.width, self.one)

        def panel(p: Value, _: tuple[Value, ...]) -> None:
            s0, t0 = self.panel(p)

            def rows(k: Value, _: tuple[Value, ...]) -> None:
                s, t = f.gep(s0, k, self.kind), f.gep(t0, f.imul(k, self.width), self.one)

                def vector(v: Value, _: tuple[Value, ...]) -> None:
                    block(f.gep(s, f.imul(v, self.column), self.kind), f.gep(t, v, self.one), k, lanes)

                if self.columns < lanes:
                    block(s, t, k, self.columns)
                else:
                    f.loop(0, self.full, lanes, [], vector)

            f.loop(0, self.kc, lanes, [], rows)
            if self.ragged and self.columns > lanes:
                f.if_(f.icmp("slt", self.full, self.valid), lambda: rest(s0, t0))

        def rest(s: Value, t: Value) -> None:
            f.loop(0, self.kc, 1, [], lambda k, _: self.elements(s, t, self.full, k))

        f.loop(0, self.panels, 1, [], panel)


def pack_rows(module: Module, name: str, *, dtype: DType, wide: VType, row: int, column: int, pitch: int) -> Function:
    """A function (source, target, kc, rows) that copies rows of A as [row][pitch]."""
    f = module.function(name, [("source", PTR), ("target", PTR), ("kc", I64), ("rows", I64)], internal=True)
    source, target, kc, rows = f.params
    kind, one = storage_type(dtype), wide.with_lanes(1)

    def one_row(i: Value, _: tuple[Value, ...]) -> None:
        s, t = f.gep(source, f.imul(i, row), kind), f.gep(target, f.imul(i, pitch), one)

        def vector(k: Value, _: tuple[Value, ...]) -> None:
            f.store(load_wide(f, f.gep(s, k, kind), dtype, wide), f.gep(t, k, one))

        def element(k: Value, _: tuple[Value, ...]) -> None:
            f.store(load_wide(f, f.gep(s, f.imul(k, column), kind), dtype, one), f.gep(t, k, one))

        main = f.and_(kc, -wide.lanes) if column == 1 else const(0, I64)
        f.loop(0, main, wide.lanes, [], vector)
        f.loop(main, kc, 1, [], element)

    f.loop(0, rows, 1, [], one_row)
    f.ret()
    return f


def pack_strip(module: Module, name: str, *, dtype: DType, wide: VType, row: int, column: int, pitch: int) -> Function:
    """A function (source, target, kc, rows) that copies rows of A as [k][pitch], in vectors if rows are neighbours."""
    f = module.function(name, [("source", PTR), ("target", PTR), ("kc", I64), ("rows", I64)], internal=True)
    source, target, kc, rows = f.params
    kind, one, lanes = storage_type(dtype), wide.with_lanes(1), wide.lanes
    main = f.and_(rows, -lanes) if row == 1 else const(0, I64)
    rest = f.lane_mask(f.isub(rows, main), lanes)

    def step(k: Value, _: tuple[Value, ...]) -> None:
        s, t = f.gep(source, f.imul(k, column), kind), f.gep(target, f.imul(k, pitch), one)

        def vector(i: Value, _: tuple[Value, ...]) -> None:
            f.store(load_wide(f, f.gep(s, i, kind), dtype, wide), f.gep(t, i, one))

        def tail() -> None:
            f.store(load_wide(f, f.gep(s, main, kind), dtype, wide, rest), f.gep(t, main, one))

        def element(i: Value, _: tuple[Value, ...]) -> None:
            f.store(load_wide(f, f.gep(s, f.imul(i, row), kind), dtype, one), f.gep(t, i, one))

        f.loop(0, main, lanes, [], vector)
        if row == 1:
            f.if_(f.icmp("slt", main, rows), tail)
        else:
            f.loop(0, rows, 1, [], element)

    f.loop(0, kc, 1, [], step)
    f.ret()
    return f
