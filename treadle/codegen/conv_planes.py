"""Kernels of convolutions with few channels out: vectors of neighbouring places times single weights.

Buffers of a kernel: x, the weight, then what follows names.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from treadle.schedule.conv_planes import FusedPlanesSchedule

from .conv_pack import PixelPack, pack_pixels
from .conv_turn import PlanePack, pack_planes
from .epilogue import finish_row
from .llvm import I64, PTR, Function, Module, Value, VType, compute_type, const, storage_type
from .pack import load_wide
from .product import Finish


def emit_conv_planes(schedule: FusedPlanesSchedule, name: str) -> str:
    """The kernel of a schedule as LLVM text."""
    module = Module(f"{name}: {schedule}")
    _Planes(module, schedule, name).emit()
    return str(module)


@dataclass(frozen=True)
class PlanesTile:
    """The shape of a register tile. Distances count elements.

    Args:
        kind: a vector of what is multiplied, added and stored.
        columns: channels out.
        vectors: vectors of places.
        rows: where each row of taps meets the planes of a channel.
        along: what is added for every tap along a row.
        channels: channels in, and the distance between them.
        channel: see channels.
        apart: distance between the sums of two channels out.
    """

    kind: VType
    columns: int
    vectors: int
    rows: tuple[int, ...]
    along: tuple[int, ...]
    channels: int
    channel: int
    apart: int


MOST_UNROLLED = 4  # rows of taps; more of them are a loop over a table of where they lie


def planes_tile(module: Module, name: str, tile: PlanesTile) -> Function:
    """A function (x, weights [row][channel][along][column], sums) for one tile."""
    f = module.function(name, [("x", PTR), ("w", PTR), ("sums", PTR)], internal=True)
    x, w, sums = f.params
    kind, elem, lanes = tile.kind, tile.kind.with_lanes(1), tile.kind.lanes
    each = len(tile.along) * tile.columns  # weights of a channel

    def channels(row: Value, weights: Value, accs: Sequence[Value]) -> list[Value]:
        def channel(c: Value, carried: tuple[Value, ...]) -> list[Value]:
            here, at, *out = carried
            for t, place in enumerate(tile.along):
                scalars = [f.load(f.gep(at, t * tile.columns + k, elem), elem) for k in range(tile.columns)]
                wide = [f.splat(s, lanes) for s in scalars]
                for v in range(tile.vectors):
                    places = f.load(f.gep(here, place + v * lanes, elem), kind)
                    for k, weight in enumerate(wide):
                        out[k * tile.vectors + v] = f.fma(places, weight, out[k * tile.vectors + v])
            return [f.gep(here, tile.channel, elem), f.gep(at, each, elem), *out]

        return list(f.loop(0, tile.channels, 1, [row, weights, *accs], channel)[1:])

    carried: list[Value] = [w, *[const(0, kind)] * (tile.columns * tile.vectors)]
    if len(tile.rows) <= MOST_UNROLLED:
        for at in tile.rows:
            carried = channels(f.gep(x, at, elem), carried[0], carried[1:])
    elif tile.along:
        table = module.table(f"{name}_rows", tile.rows, I64)

        def row(i: Value, values: tuple[Value, ...]) -> list[Value]:
            return channels(f.gep(x, f.load(f.gep(table, i, I64), I64), elem), values[0], values[1:])

        carried = list(f.loop(0, len(tile.rows), 1, carried, row))
    for k, v in itertools.product(range(tile.columns), range(tile.vectors)):
        f.store(carried[1 + k * tile.vectors + v], f.gep(sums, k * tile.apart + v * lanes, elem))
    f.ret()
    return f


class _Planes:
    """Writes one kernel. Functions it calls are written on first use."""

    def __init__(self, module: Module, schedule: FusedPlanesSchedule, name: str) -> None:
        self.module, self.s, self.p, self.name = module, schedule.conv, schedule.conv.problem, name
        self.after = schedule.after
        self.elem = compute_type(self.p.dtype)
        self.kind = self.elem.with_lanes(self.s.lanes)
        self.f = module.kernel(name)
        self.parts: dict[str, Function] = {}
        self.phases = list(itertools.product(*(range(n) for n in self.s.periods)))

    def part(self, name: str, make: Callable[[str], Function]) -> Function:
        if name not in self.parts:
            self.parts[name] = make(f"{self.name}_{name}")
        return self.parts[name]

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """The first channel out, and their number, of every register tile of a group."""
        s, columns = self.s, self.p.columns
        return [(k, min(s.columns, columns - k)) for k in range(0, columns, s.columns)]

    # ---- functions that are called

    def tile(self, phase: int, columns: int, vectors: int) -> Function:
        s, which = self.s, self.phases[phase]
        apart = len(self.phases) * s.sums_plane
        shape = PlanesTile(
            self.kind, columns, vectors, s.rows(which), s.along(which), self.p.channels, s.channel, apart
        )
        return self.part(f"tile{phase}_{columns}by{vectors}", lambda name: planes_tile(self.module, name, shape))

    def copy(self) -> Function:
        """A function (source, target, count of channels, first of each axis, count of each): one copy of each plane."""
        p, s = self.p, self.s
        step = tuple(axis.step for axis in s.axes)
        _, nh, nw = s.extents
        pitches = (s.channel, nh * nw, nw, 1)
        if p.x.inner == 1 and p.x.spatial[2] != 1 and p.channels > 1:
            turned = PlanePack(p.x.dtype, self.kind, p.x.spatial, p.sizes, step, p.channels, pitches)
            return self.part("copy", lambda name: pack_planes(self.module, name, turned))
        spec = PixelPack(p.x.dtype, self.kind, (p.x.inner, *p.x.spatial), 1, p.sizes, step, 1, pitches)
        return self.part("copy", lambda name: pack_pixels(self.module, name, spec))

    def weights(self) -> Function:
        """A function (source, target) that orders the weights of a group as register tiles read them."""
        p = self.p

        def make(name: str) -> Function:
            f = self.module.function(name, [("source", PTR), ("target", PTR)], internal=True)
            source, at = f.params
            for number, phase in enumerate(p.phases):
                d, h, w = (
                    [(axis.tap_start + t * axis.tap_step) * step for t in range(axis.taps)]
                    for axis, step in zip(phase, p.w.spatial, strict=True)
                )
                rows = [i + j for i, j in itertools.product(d, h)]
                for first, columns in self.pieces:
                    inner = [i + (first + k) * p.w.inner for i, k in itertools.product(w, range(columns))]
                    if rows and inner:
                        at = self.copy_weights(f, f"{name}{number}_{first}", source, at, rows, inner)
            f.ret()
            return f

        return self.part("weights", make)

    def copy_weights(
        self, f: Function, name: str, source: Value, target: Value, rows: list[int], inner: list[int]
    ) -> Value:
        """Copy the weights that lie at `rows`, of every channel, at `inner`, in this order; what comes behind them."""
        w, kind = self.p.w, storage_type(self.p.w.dtype)
        outer_table = self.module.table(f"{name}_rows", rows, I64)
        inner_table = self.module.table(f"{name}_inner", inner, I64)

        def row(i: Value, at: tuple[Value, ...]) -> list[Value]:
            begin = f.gep(source, f.load(f.gep(outer_table, i, I64), I64), kind)

            def channel(c: Value, at: tuple[Value, ...]) -> list[Value]:
                here = f.gep(begin, f.imul(c, w.outer), kind)

                def one(j: Value, _: tuple[Value, ...]) -> None:
                    where = f.gep(here, f.load(f.gep(inner_table, j, I64), I64), kind)
                    f.store(load_wide(f, where, w.dtype, self.elem), f.gep(at[0], j, self.elem))

                f.loop(0, len(inner), 1, [], one)
                return [f.gep(at[0], len(inner), self.elem)]

            return list(f.loop(0, self.p.channels, 1, at, channel))

        return f.loop(0, len(rows), 1, [target], row)[0]

    def finish(self) -> Function:
        """A function (slots, args, sums, first row, column, results along each axis): what follows a parallel tile.

        The first row is that of the group's first channel; rows of a plane follow each other.
        """
        p, s = self.p, self.s
        numbers = ("first", "column", "d", "h", "w")
        _, height, _ = p.out
        _, nh, nw = s.extents
        pd, ph, pw = s.periods

        def make(name: str) -> Function:
            params = [("slots", PTR), ("args", PTR), ("sums", PTR), *((x, I64) for x in numbers)]
            f = self.module.function(name, params, internal=True)
            _, _, sums, first, column, d, h, w = f.params
            after = Finish(self.after)
            buffers = [f.buffer(2 + i) for i in range(after.num_buffers)]

            def line(k: Value, i: Value, j: Value) -> None:
                phase = f.iadd(f.imul(f.imod(i, pd), ph), f.imod(j, ph))
                plane = f.imul(f.iadd(f.imul(k, pd * ph), phase), pw * s.sums_plane)
                at = f.iadd(plane, f.imul(f.iadd(f.imul(f.idiv(i, pd), nh), f.idiv(j, ph)), nw))
                row = f.iadd(first, f.iadd(f.imul(f.iadd(f.imul(k, p.out[0]), i), height), j))

                def emit(c: Value, acc: Value, mask: Value | None) -> None:
                    after.emit(f, buffers, const(0, I64), row, f.iadd(column, c), acc, mask)

                self.finish_row(f, f.gep(sums, at, self.elem), w, emit)

            def channel(k: Value, _: tuple[Value, ...]) -> None:
                def place(i: Value, _: tuple[Value, ...]) -> None:
                    f.loop(0, h, 1, [], lambda j, _: line(k, i, j))

                f.loop(0, d, 1, [], place)

            f.loop(0, p.columns, 1, [], channel)
            f.ret()
            return f

        return self.part("finish", make)

    def finish_row(
        self, f: Function, line: Value, count: Value, emit: Callable[[Value, Value, Value | None], None]
    ) -> None:
        """Call `emit(column, sums, mask)` for every vector of a row of results, whose phases take turns."""
        period, lanes = self.s.periods[2], self.s.lanes
        if period == 1:
            finish_row(f, line, count, self.kind, emit, False)
            return

        def vector(j: Value, mask: Value | None) -> None:
            phase = [f.gep(line, i * self.s.sums_plane, self.elem) for i in range(period)]
            if lanes in (period * 2, period * 4, period * 8):
                each = lanes // period
                parts = [f.load(f.gep(at, f.idiv(j, period), self.elem), self.elem.with_lanes(each)) for at in phase]
                while len(parts) > 1:
                    parts = [f.join(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
                emit(j, f.shuffle(parts[0], None, [i % period * each + i // period for i in range(lanes)]), mask)
                return
            number = f.add(f.splat(j, lanes), f.iota(lanes))
            turn = f.binary("urem", number, const(period, number.type))
            place = f.binary("udiv", number, const(period, number.type))
            where = f.add(f.mul(turn, const(self.s.sums_plane, number.type)), place)
            emit(j, f.gather(f.gep(line, where, self.elem), self.kind), mask)

        full = f.and_(count, -lanes)
        f.loop(0, full, lanes, [], lambda j, _: vector(j, None))
        f.if_(f.icmp("slt", full, count), lambda: vector(full, f.lane_mask(f.isub(count, full), lanes)))

    # ---- the loop nest, outside in

    def emit(self) -> None:
        """Tiles lo..hi: those of a group go together and share its weights."""
        s, f = self.s, self.f
        self.slots, self.args, lo, hi, scratch = f.params
        self.x, self.w = f.buffer(0), f.buffer(1)
        self.ordered, self.copied = scratch, f.gep(scratch, s.weights_size, self.elem)
        self.sums = f.gep(self.copied, s.region_size, self.elem)
        each = s.num_tiles // self.p.groups

        def run(carried: tuple[Value, ...]) -> list[Value]:
            group = f.idiv(carried[0], each)
            begin = f.imul(group, each)
            end = f.imin(f.isub(hi, begin), each)
            at = f.iadd(f.imul(group, self.p.columns * self.p.w.inner), self.p.w.offset)
            f.call(self.weights(), f.gep(self.w, at, storage_type(self.p.w.dtype)), self.ordered)
            f.loop(f.isub(carried[0], begin), end, 1, [], lambda i, _: self.block(group, i))
            return [f.iadd(begin, end)]

        f.while_([lo], lambda v: f.icmp("slt", v[0], hi), run)
        f.ret()

    def block(self, group: Value, number: Value) -> None:
        """One parallel tile: copy what it meets of x, all its register tiles, then what follows."""
        s, p, f = self.s, self.p, self.f
        image = f.idiv(number, math.prod(s.blocks))
        starts = [
            f.imul(f.imod(f.idiv(number, math.prod(s.blocks[a + 1 :])), n), s.block[a]) for a, n in enumerate(s.blocks)
        ]
        counts = [axis[0].count for axis in p.axis_phases]
        extents = [f.imin(f.isub(n, at), b) for n, at, b in zip(counts, starts, s.block, strict=True)]
        self.fill(group, image, starts, extents)
        f.loop(0, extents[0], 1, [], lambda d, _: self.plane(d, extents[1]))
        begin = [f.imul(at, n) for at, n in zip(starts, s.periods, strict=True)]
        sizes = [
            f.imin(f.isub(n, at), b * period) for n, at, b, period in zip(p.out, begin, s.block, s.periods, strict=True)
        ]
        channel = f.imul(f.iadd(f.imul(image, p.groups), group), p.columns)
        row = f.iadd(f.imul(f.iadd(f.imul(channel, p.out[0]), begin[0]), p.out[1]), begin[1])
        f.call(self.finish(), self.slots, self.args, self.sums, row, begin[2], *sizes)

    def fill(self, group: Value, image: Value, starts: list[Value], extents: list[Value]) -> None:
        """Copy the part of x that a parallel tile meets."""
        s, p, f = self.s, self.p, self.f
        at = f.iadd(f.iadd(f.imul(image, p.x.outer), f.imul(group, p.channels * p.x.inner)), p.x.offset)
        source = f.gep(self.x, at, storage_type(p.x.dtype))
        counts = [f.iadd(n, axis.reach) for n, axis in zip(extents, s.axes, strict=True)]
        for number, shifts in enumerate(itertools.product(*(axis.shifts for axis in s.axes))):
            firsts = [
                f.iadd(f.imul(start, axis.step), axis.first + shift)
                for start, axis, shift in zip(starts, s.axes, shifts, strict=True)
            ]
            target = f.gep(self.copied, number * s.plane, self.elem)
            f.call(self.copy(), source, target, const(p.channels, I64), *firsts, *counts)

    def plane(self, d: Value, rows: Value) -> None:
        """All register tiles of the results with one place along the first axis."""
        s, f = self.s, self.f
        _, nh, nw = s.extents
        at = f.imul(d, nh * nw)
        full = last = s.run(s.block[1])
        run = const(full, I64)
        if fewer := self.p.axis_phases[1][0].count % s.block[1]:
            last = s.run(fewer)
            run = f.select(f.icmp("eq", rows, s.block[1]), run, const(last, I64))
        whole = f.imul(f.idiv(run, s.vectors), s.vectors)
        f.loop(0, whole, s.vectors, [], lambda v, _: self.tiles(f.iadd(at, f.imul(v, s.lanes)), s.vectors))
        here = f.iadd(at, f.imul(whole, s.lanes))
        for rest in sorted({full % s.vectors, last % s.vectors} - {0}):
            f.if_(f.icmp("eq", f.isub(run, whole), rest), partial(self.tiles, here, rest))

    def tiles(self, at: Value, vectors: int) -> None:
        """The register tiles of some vectors of places: all channels out of all phases."""
        s, f = self.s, self.f
        x = f.gep(self.copied, at, self.elem)
        weights = 0
        for number, phase in enumerate(self.phases):
            steps = len(s.rows(phase)) * len(s.along(phase)) * self.p.channels
            for first, columns in self.pieces:
                plane = (first * len(self.phases) + number) * s.sums_plane
                sums = f.gep(f.gep(self.sums, plane, self.elem), at, self.elem)
                f.call(self.tile(number, columns, vectors), x, f.gep(self.ordered, weights, self.elem), sums)
                weights += steps * columns
