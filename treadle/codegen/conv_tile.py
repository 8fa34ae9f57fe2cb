"""The register tile of convolutions: rows anywhere in A, sums over nested loops that step A freely and B in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .llvm import I64, PTR, Function, Module, Value, VType, const


@dataclass(frozen=True)
class ConvTile:
    """The shape of a register tile. Strides count elements.

    Args:
        kind: a vector of what is multiplied, added and stored.
        rows: where the rows of A begin.
        results: where the rows of C begin.
        vectors: vectors per row of C, and of B, whose rows follow each other without gaps.
        steps: distances in A between turns of the outer loops, outermost first.
        step: distance in A between turns of the innermost one.
        mask: whether the last vector of C writes only existing columns.
        resumes: whether the sums start from C instead of zero.
        unroll: turns of the innermost loop written in a row; divides their number.
        paired: whether a vector of A, not one element, is multiplied with each vector of B.
    """

    kind: VType
    rows: tuple[int, ...]
    results: tuple[int, ...]
    vectors: int
    steps: tuple[int, ...]
    step: int
    mask: bool = False
    resumes: bool = False
    unroll: int = 1
    paired: bool = False


def conv_tile(module: Module, name: str, tile: ConvTile) -> Function:
    """A function (a, b, c, columns, count of each outer loop, count of the innermost) for one tile."""
    counted = [(f"count{k}", I64) for k in range(len(tile.steps) + 1)]
    params = [("a", PTR), ("b", PTR), ("c", PTR), ("columns", I64), *counted]
    f = module.function(name, params, internal=True)
    a, b, c, columns, *counts = f.params
    kind, elem, lanes = tile.kind, tile.kind.with_lanes(1), tile.kind.lanes
    last = tile.vectors - 1
    mask = f.lane_mask(f.isub(columns, last * lanes), lanes) if tile.mask else None
    places = [(i, j) for i in range(len(tile.rows)) for j in range(tile.vectors)]

    def spot(i: int, j: int) -> Value:
        return f.gep(c, tile.results[i] + j * lanes, elem)

    def turn(pa: Value, pb: Value, sums: Sequence[Value]) -> list[Value]:
        row = [f.load(f.gep(pb, j * lanes, elem), kind) for j in range(tile.vectors)]
        out: list[Value] = []
        for i, at in enumerate(tile.rows):
            for j, y in enumerate(row):
                if tile.paired:
                    x = f.load(f.gep(pa, at + j * lanes, elem), kind)
                else:
                    x = f.splat(f.load(f.gep(pa, at, elem), elem), lanes)
                out.append(f.fma(x, y, sums[i * tile.vectors + j]))
        return out

    def turns(_: Value, carried: tuple[Value, ...]) -> list[Value]:
        pa, pb, *sums = carried
        for _k in range(tile.unroll):
            sums = turn(pa, pb, sums)
            pa, pb = f.gep(pa, tile.step, elem), f.gep(pb, tile.vectors * lanes, elem)
        return [pa, pb, *sums]

    def nest(level: int, pa: Value, pb: Value, sums: Sequence[Value]) -> list[Value]:
        """The loops from `level` on: what B has come to, and the sums."""
        if level == len(tile.steps):
            return list(f.loop(0, counts[level], tile.unroll, [pa, pb, *sums], turns)[1:])

        def body(_: Value, carried: tuple[Value, ...]) -> list[Value]:
            here, rest, *inside = carried
            return [f.gep(here, tile.steps[level], elem), *nest(level + 1, here, rest, inside)]

        return list(f.loop(0, counts[level], 1, [pa, pb, *sums], body)[1:])

    start = [f.load(spot(i, j), kind) if tile.resumes else const(0, kind) for i, j in places]
    sums = nest(0, a, b, start)[1:]
    for (i, j), value in zip(places, sums, strict=True):
        if mask is not None and j == last:
            f.masked_store(value, spot(i, j), mask)
        else:
            f.store(value, spot(i, j))
    f.ret()
    return f
