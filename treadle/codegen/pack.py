"""Copies of matrix blocks in the order a register tile reads them, widened to the compute dtype.

Written as internal functions of a module, for every kernel built on `microkernel`.
"""

from collections.abc import Sequence

from treadle.codegen.llvm import I64, PTR, Function, Module, Value, VType, const, storage_type
from treadle.core.dtypes import DType


def load_wide(f: Function, pointer: Value, dtype: DType, wide: VType, mask: Value | None = None) -> Value:
    """Elements of `dtype` from memory as `wide`; zeros where the mask is false."""
    kind = storage_type(dtype, wide.lanes)
    value = f.load(pointer, kind) if mask is None else f.masked_load(pointer, kind, mask, 0)
    return widen(f, value, dtype, wide)


def widen(f: Function, value: Value, dtype: DType, wide: VType) -> Value:
    """Stored elements of `dtype` as `wide`, exactly."""
    if dtype.name == "bfloat16":
        bits = f.shl(f.cast("zext", value, "i32"), 16)
        value = f.bitcast(bits, VType("float", wide.lanes))
    return f.cast("fpext", value, wide.elem)


def narrow(f: Function, value: Value, dtype: DType) -> Value:
    """A computed value as `dtype` is stored, rounded to nearest even; NaN stays NaN."""
    kind = storage_type(dtype, value.type.lanes)
    if dtype.name != "bfloat16":
        return f.cast("fptrunc", value, kind.elem)
    if value.type.elem == "double":
        value = f.cast("fptrunc", value, "float")
    bits = f.bitcast(value, value.type.with_elem("i32"))
    even = f.and_(f.lshr(bits, 16), 1)
    rounded = f.lshr(f.add(f.add(bits, 0x7FFF), even), 16)
    nan = f.or_(f.lshr(bits, 16), 0x40)
    return f.cast("trunc", f.select(f.fcmp("uno", value, value), nan, rounded), "i16")


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
    module: Module,
    name: str,
    *,
    dtype: DType,
    wide: VType,
    row: int,
    column: int,
    width: int,
    valid: int,
    whole: bool = False,
) -> Function:
    """A function (source, target, kc, panels) that packs panels of `width` columns of B as [panel][k][width].

    Only the first `valid` columns of each panel exist; the others become zero. A call with `valid < width` is for one
    panel. `whole` promises that kc is a multiple of the lanes. Up to a vector of rows may be written past the end.
    """
    f = module.function(name, [("source", PTR), ("target", PTR), ("kc", I64), ("panels", I64)], internal=True)
    if column == 1:
        _copy_columns(f, dtype, wide, row, width, valid)
    elif row == 1:
        _turn_columns(f, dtype, wide, column, (width, valid), whole=whole)
    else:
        _gather_columns(f, dtype, wide, (row, column), width, valid)
    f.ret()
    return f


def _copy_columns(f: Function, dtype: DType, wide: VType, row: int, width: int, valid: int) -> None:
    source, target, kc, panels = f.params
    kind, lanes = storage_type(dtype), wide.lanes
    stride = f.imul(kc, width)

    def some_rows(k: Value, count: int) -> None:
        start = f.gep(source, f.imul(k, row), kind)
        end = f.gep(target, f.imul(k, width), wide.with_lanes(1))

        def panel(p: Value, _: tuple[Value, ...]) -> None:
            s = f.gep(start, f.imul(p, width), kind)
            t = f.gep(end, f.imul(p, stride), wide.with_lanes(1))
            for q in range(count):
                for at in range(0, width, lanes):
                    mask = f.lane_mask(valid - at, lanes) if at + lanes > valid else None
                    value = (
                        load_wide(f, f.gep(s, q * row + at, kind), dtype, wide, mask) if at < valid else const(0, wide)
                    )
                    f.store(value, f.gep(t, q * width + at, wide.with_lanes(1)))

        f.loop(0, panels, 1, [], panel)

    many = 4
    main = f.and_(kc, -many)
    f.loop(0, main, many, [], lambda k, _: some_rows(k, many))
    f.loop(main, kc, 1, [], lambda k, _: some_rows(k, 1))


def _turn_columns(f: Function, dtype: DType, wide: VType, column: int, widths: tuple[int, int], *, whole: bool) -> None:
    width, valid = widths
    source, target, kc, panels = f.params
    kind, lanes = storage_type(dtype), wide.lanes
    stride = f.imul(kc, width)

    def block(s: Value, t: Value, k: Value, count: int) -> None:
        """Turn `count` columns; rows from kc on are written too, where the next panel or spare memory is."""
        mask = None if whole else f.lane_mask(f.isub(kc, k), lanes)
        rows = [load_wide(f, f.gep(s, q * column, kind), dtype, wide, mask) for q in range(count)]
        turned = transpose(f, [*rows, *[const(0, wide)] * (lanes - count)])
        for q, value in enumerate(turned):
            f.store(value, f.gep(t, q * width, wide.with_lanes(1)))

    def panel(p: Value, _: tuple[Value, ...]) -> None:
        s0 = f.gep(source, f.imul(p, width * column), kind)
        t0 = f.gep(target, f.imul(p, stride), wide.with_lanes(1))

        def rows(k: Value, _: tuple[Value, ...]) -> None:
            s, t = f.gep(s0, k, kind), f.gep(t0, f.imul(k, width), wide.with_lanes(1))

            def vector(v: Value, _: tuple[Value, ...]) -> None:
                block(f.gep(s, f.imul(v, column), kind), f.gep(t, v, wide.with_lanes(1)), k, lanes)

            full = valid // lanes * lanes
            f.loop(0, full, lanes, [], vector)
            if valid > full:
                block(f.gep(s, full * column, kind), f.gep(t, full, wide.with_lanes(1)), k, valid - full)

        f.loop(0, kc, lanes, [], rows)

    f.loop(0, panels, 1, [], panel)


def _gather_columns(f: Function, dtype: DType, wide: VType, strides: tuple[int, int], width: int, valid: int) -> None:
    source, target, kc, panels = f.params
    kind, one = storage_type(dtype), wide.with_lanes(1)
    row, column = strides

    def panel(p: Value, _: tuple[Value, ...]) -> None:
        s0 = f.gep(source, f.imul(p, width * column), kind)
        t0 = f.gep(target, f.imul(p, f.imul(kc, width)), one)

        def rows(k: Value, _: tuple[Value, ...]) -> None:
            s, t = f.gep(s0, f.imul(k, row), kind), f.gep(t0, f.imul(k, width), one)

            def element(j: Value, _: tuple[Value, ...]) -> None:
                f.store(load_wide(f, f.gep(s, f.imul(j, column), kind), dtype, one), f.gep(t, j, one))

            f.loop(0, valid, 1, [], element)
            f.loop(valid, width, 1, [], lambda j, _: f.store(const(0, one), f.gep(t, j, one)))

        f.loop(0, kc, 1, [], rows)

    f.loop(0, panels, 1, [], panel)


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
