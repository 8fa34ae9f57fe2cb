"""The innermost product: a register tile of C gathers A's columns times B's rows over a block of k.

Sums are kept in registers as values of one loop; each is a chain of fused multiply-adds in the order of k.
"""

from dataclasses import dataclass

from treadle.codegen.llvm import I1, I64, PTR, Function, Module, Value, VType, const


@dataclass(frozen=True)
class Tile:
    """The shape of a register tile and how it reaches memory. Strides count elements; rows of B and C have no gaps.

    Args:
        elem: what is multiplied, added and stored: float or double.
        lanes: elements per vector.
        rows: rows of the tile.
        vectors: vectors per row of the tile.
        a_row: distance of the rows of A.
        a_k: distance of the columns of A.
        b_k: distance of the rows of B.
        c_row: distance of the rows of C.
        mask_b: whether the last vector of B reads only existing columns.
        mask_c: whether the last vector of C writes only existing columns.
        resumes: whether the sums may start from C instead of zero.
        exact: whether kc is always a multiple of `unroll`.
        unroll: k steps per turn of the loop.
        prefetch: elements ahead in B to ask for, 0 for none.
        prefetch_c: whether to ask for the tile of C before the sums begin.
    """

    elem: VType
    lanes: int
    rows: int
    vectors: int
    a_row: int
    a_k: int
    b_k: int
    c_row: int
    mask_b: bool = False
    mask_c: bool = False
    resumes: bool = False
    exact: bool = True
    unroll: int = 1
    prefetch: int = 0
    prefetch_c: bool = False


def microkernel(module: Module, name: str, tile: Tile) -> Function:
    """A function (a, b, c, kc, columns, resume) that computes one tile; the last two matter if it masks or resumes."""
    params = [("a", PTR), ("b", PTR), ("c", PTR), ("kc", I64), ("columns", I64), ("resume", I1)]
    f = module.function(name, params, internal=True)
    a, b, c, kc, columns, resume = f.params
    vector = tile.elem.with_lanes(tile.lanes)
    last = tile.vectors - 1
    mask = f.lane_mask(f.isub(columns, last * tile.lanes), tile.lanes) if tile.mask_b or tile.mask_c else None

    def spot(i: int, j: int) -> Value:
        return f.gep(c, i * tile.c_row + j * tile.lanes, tile.elem)

    places = [(i, j) for i in range(tile.rows) for j in range(tile.vectors)]

    def earlier() -> list[Value]:
        return [
            f.masked_load(spot(i, j), vector, mask, 0)
            if mask and tile.mask_c and j == last
            else f.load(spot(i, j), vector)
            for i, j in places
        ]

    if tile.prefetch_c:
        for i, j in places:
            f.prefetch(spot(i, j), write=True)
    zeros = [const(0, vector)] * len(places)
    start = f.if_(resume, earlier, lambda: zeros) if tile.resumes else tuple(zeros)

    def step(pa: Value, pb: Value, sums: list[Value], at: int) -> list[Value]:
        row: list[Value] = []
        for j in range(tile.vectors):
            p = f.gep(pb, at * tile.b_k + j * tile.lanes, tile.elem)
            if tile.prefetch:
                f.prefetch(f.gep(p, tile.prefetch, tile.elem))
            row.append(f.masked_load(p, vector, mask, 0) if mask and tile.mask_b and j == last else f.load(p, vector))
        out: list[Value] = []
        for i in range(tile.rows):
            x = f.splat(f.load(f.gep(pa, i * tile.a_row + at * tile.a_k, tile.elem), tile.elem), tile.lanes)
            out += [f.fma(x, y, sums[i * tile.vectors + j]) for j, y in enumerate(row)]
        return out

    def steps(carried: tuple[Value, ...], count: int) -> list[Value]:
        pa, pb, *sums = carried
        for at in range(count):
            sums = step(pa, pb, sums, at)
        return [f.gep(pa, count * tile.a_k, tile.elem), f.gep(pb, count * tile.b_k, tile.elem), *sums]

    unroll = tile.unroll
    main = kc if tile.exact or unroll == 1 else f.and_(kc, -unroll)
    carried = f.loop(0, main, unroll, [a, b, *start], lambda _, v: steps(v, unroll))
    if main is not kc:
        carried = f.loop(main, kc, 1, carried, lambda _, v: steps(v, 1))
    for (i, j), value in zip(places, carried[2:], strict=True):
        if mask and tile.mask_c and j == last:
            f.masked_store(value, spot(i, j), mask)
        else:
            f.store(value, spot(i, j))
    f.ret()
    return f
