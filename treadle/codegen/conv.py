"""Convolution kernels: the loop nest of a schedule around register tiles.

Buffers of a kernel: x, the weight, then what follows names (for a plain convolution: the result).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from treadle.schedule.conv import FusedConvSchedule, Phase

from .conv_pack import WeightPack, pack_pixels, pack_weights
from .conv_region import fill_region, region_pack
from .conv_tile import ConvTile, conv_tile
from .epilogue import finish_row
from .llvm import I64, PTR, Function, Module, Value, compute_type, const, storage_type
from .product import Finish


def emit_conv(schedule: FusedConvSchedule, name: str) -> str:
    """The kernel of a schedule as LLVM text."""
    module = Module(f"{name}: {schedule}")
    _Conv(module, schedule, name).emit()
    return str(module)


@dataclass(frozen=True)
class _Run:
    """Blocks of pixels of one column block of one group, whose weights are packed."""

    phase: Phase
    number: int
    group: Value
    column: Value  # the first, within the group
    panels: Value


@dataclass(frozen=True)
class _Pixels:
    """A block of pixels: where it begins, and its extents, along images and spatial axes."""

    starts: list[Value]
    extents: list[Value]


class _Conv:
    """Writes one kernel. Functions it calls are written on first use."""

    def __init__(self, module: Module, schedule: FusedConvSchedule, name: str) -> None:
        self.module, self.s, self.p, self.name = module, schedule.conv, schedule.conv.problem, name
        self.after = schedule.after
        self.elem = compute_type(self.p.dtype)
        self.kind = self.elem.with_lanes(self.s.lanes)
        self.f = module.kernel(name)
        self.parts: dict[str, Function] = {}
        self.ragged = self.p.columns % self.s.width != 0
        _, d, h, w = (self.p.images, *self.p.out)
        steps = [axis[0].step for axis in self.p.axis_phases]
        # Distances of neighbouring results of a phase, counted in results.
        self.apart = (d * h * w, steps[0] * h * w, steps[1] * w, steps[2])
        self.row = self.p.groups * self.p.columns

    def part(self, name: str, make: Callable[[str], Function]) -> Function:
        if name not in self.parts:
            self.parts[name] = make(f"{self.name}_{name}")
        return self.parts[name]

    # ---- functions that are called

    def tile(self, sizes: Sequence[int], *, last: bool) -> Function:
        """The register tile of a box of pixels; `last` is that of the last column panel where it is not full."""
        s = self.s
        vectors = s.tail_vectors if last else s.vectors

        def rows(steps: Sequence[int]) -> tuple[int, ...]:
            places = itertools.product(*(range(n) for n in sizes))
            return tuple(sum(i * step for i, step in zip(place, steps, strict=True)) for place in places)

        many = math.prod(sizes)
        tile = ConvTile(
            self.kind,
            rows(s.region.steps),
            tuple(o * self.row for o in rows(self.apart)) if s.direct else tuple(i * s.width for i in range(many)),
            vectors,
            tuple(s.region.taps[a] for a in self.tap_axes()),
            s.region.taps[2] if self.p.paired else 1,
            mask=s.direct and last and self.p.columns % s.lanes != 0,
            unroll=s.unroll,
            paired=self.p.paired,
        )
        name = f"tile_{'x'.join(map(str, sizes))}by{vectors}{'_last' if last else ''}"
        return self.part(name, lambda name: conv_tile(self.module, name, tile))

    def tap_axes(self) -> list[int]:
        """The axes over whose taps a tile's outer loops run; those along a row may be part of the innermost one."""
        several = [a for a, axis in enumerate(self.p.axis_phases) if max(q.taps for q in axis) != 1]
        return [a for a in several if a != 2 or not (self.s.merged or self.p.paired)]

    def counts(self, phase: Phase) -> list[int]:
        """The turns of a tile's loops in a phase."""
        inner = self.p.channels * (phase[2].taps if self.s.merged or self.p.paired else 1)
        outer = [phase[a].taps for a in self.tap_axes()]
        return [*outer, inner if self.s.num_steps(phase) else 0]

    def pack_x(self) -> Function:
        spec = region_pack(self.p, self.s.region, self.kind, self.p.inputs)
        return self.part("pack_x", lambda name: pack_pixels(self.module, name, spec))

    def pack_w(self, run: _Run, *, last: bool) -> Function:
        p, s = self.p, self.s
        valid = p.columns % s.width if last else s.width
        spec = WeightPack(
            p.w.dtype,
            self.kind,
            tuple((a.taps, a.tap_start, a.tap_step) for a in run.phase),
            p.w.spatial,
            p.channels,
            p.w.outer,
            p.w.inner,
            (s.tail_vectors if last else s.vectors) * s.lanes,
            valid,
        )
        name = f"pack_w{run.number}{'_last' if last else ''}"
        return self.part(name, lambda name: pack_weights(self.module, name, spec))

    def finish(self) -> Function:
        """A function (slots, args, sums, first result, column, columns, extents of the box): what follows a tile."""
        numbers = ("first", "column", "columns", "n", "d", "h", "w")

        def make(name: str) -> Function:
            params = [("slots", PTR), ("args", PTR), ("sums", PTR), *((x, I64) for x in numbers)]
            f = self.module.function(name, params, internal=True)
            _, _, sums, first, column, columns, *extents = f.params
            after = Finish(self.after)
            buffers = [f.buffer(2 + i) for i in range(after.num_buffers)]

            def axis(a: int, number: Value, row: Value) -> None:
                if a == len(extents):
                    line = f.gep(sums, f.imul(number, self.s.width), self.elem)
                    finish_row(f, line, columns, self.kind, lambda j, acc, mask: emit(row, j, acc, mask), whole)
                    return

                def place(i: Value, _: tuple[Value, ...]) -> None:
                    within = f.iadd(f.imul(number, extents[a]), i)
                    axis(a + 1, within, f.iadd(row, f.imul(i, self.apart[a])))

                f.loop(0, extents[a], 1, [], place)

            def emit(row: Value, j: Value, acc: Value, mask: Value | None) -> None:
                after.emit(f, buffers, const(0, I64), row, f.iadd(column, j), acc, mask)

            whole = self.p.columns % self.s.lanes == 0
            axis(0, const(0, I64), first)
            f.ret()
            return f

        return self.part("finish", make)

    # ---- the loop nest, outside in

    def emit(self) -> None:
        """Tiles lo..hi: as long as the column block stays the same, blocks of pixels go together and share weights."""
        s, f = self.s, self.f
        self.slots, self.args, lo, hi, scratch = f.params
        self.x, self.w = f.buffer(0), f.buffer(1)
        self.y = f.buffer(2) if s.direct else None
        self.packed, self.copied = scratch, f.gep(scratch, s.packed_size, self.elem)
        self.sums = f.gep(self.copied, s.region.size, self.elem)
        start = 0
        for number, phase in enumerate(self.p.phases):
            tiles = s.phase_tiles(phase)
            first, last = f.imax(f.isub(lo, start), 0), f.imin(f.isub(hi, start), tiles)
            start += tiles
            self.runs(phase, number, first, last)
        f.ret()

    def runs(self, phase: Phase, number: int, first: Value, last: Value) -> None:
        """The tiles first..last of a phase."""
        s, f = self.s, self.f
        each = math.prod(s.num_blocks(phase))

        def run(carried: tuple[Value, ...]) -> list[Value]:
            block = f.idiv(carried[0], each)
            begin = f.imul(block, each)
            panel = f.imul(f.imod(block, s.num_column_blocks), s.panels)
            this = _Run(
                phase,
                number,
                f.idiv(block, s.num_column_blocks),
                f.imul(panel, s.width),
                f.imin(f.isub(s.num_panels, panel), s.panels),
            )
            end = f.imin(f.isub(last, begin), each)
            if s.num_steps(phase):
                self.fill_weights(this)
            f.loop(f.isub(carried[0], begin), end, 1, [], lambda i, _: self.pixels(this, i))
            return [f.iadd(begin, end)]

        f.while_([first], lambda v: f.icmp("slt", v[0], last), run)

    def each_panel(self, run: _Run, body: Callable[[Value, bool], None]) -> None:
        """Call body(number, last) for the column panels of a run, `last` where one is not full."""
        s, f = self.s, self.f
        full = f.imin(run.panels, f.isub(self.p.columns // s.width, f.idiv(run.column, s.width)))
        if self.p.columns >= s.width:
            f.loop(0, full, 1, [], lambda j, _: body(j, False))
        if self.ragged:
            f.if_(f.icmp("slt", full, run.panels), lambda: body(full, True))

    def fill_weights(self, run: _Run) -> None:
        """Pack the weights of a run's column block."""
        f, w = self.f, self.p.w
        first = f.iadd(f.imul(run.group, self.p.columns), run.column)
        source = f.gep(self.w, f.iadd(f.imul(first, w.inner), w.offset), storage_type(w.dtype))

        def panel(j: Value, last: bool) -> None:
            here = f.gep(source, f.imul(j, self.s.width * w.inner), storage_type(w.dtype))
            f.call(self.pack_w(run, last=last), here, self.panel(run, j))

        self.each_panel(run, panel)

    def panel(self, run: _Run, j: Value) -> Value:
        """Where a panel's packed weights lie."""
        return self.f.gep(self.packed, self.f.imul(j, self.s.width * self.s.num_steps(run.phase)), self.elem)

    def pixels(self, run: _Run, i: Value) -> None:
        """Block i of pixels: copy what it meets of x, then all its register tiles."""
        s, f = self.s, self.f
        blocks, counts = s.num_blocks(run.phase), (self.p.images, *(a.count for a in run.phase))
        starts: list[Value] = []
        for a in range(len(blocks)):
            number = f.idiv(i, math.prod(blocks[a + 1 :]))
            starts.append(f.imul(f.imod(number, blocks[a]) if a else number, s.block[a]))
        extents = [f.imin(f.isub(n, at), b) for n, at, b in zip(counts, starts, s.block, strict=True)]
        these = _Pixels(starts, extents)
        if s.num_steps(run.phase):
            channel = f.imul(run.group, self.p.channels)
            buffers = (self.x, self.copied)
            fill_region(f, self.pack_x(), buffers, self.p, s.region, run.phase, channel, starts, extents)
        self.boxes(run, these, [], [])

    def boxes(self, run: _Run, pixels: _Pixels, starts: list[Value], sizes: list[int]) -> None:
        """The register tiles of a block of pixels, along one axis after the other; the last may be smaller."""
        f, a = self.f, len(starts)
        if a == len(self.s.box):
            self.box(run, pixels, starts, sizes)
            return
        size, count = self.s.box[a], (self.p.images, *(axis.count for axis in run.phase))[a]
        whole = f.imul(f.idiv(pixels.extents[a], size), size)
        if count >= size:
            f.loop(0, whole, size, [], lambda i, _: self.boxes(run, pixels, [*starts, i], [*sizes, size]))
        if count % size:
            f.if_(
                f.icmp("slt", whole, pixels.extents[a]),
                lambda: self.boxes(run, pixels, [*starts, whole], [*sizes, count % size]),
            )

    def box(self, run: _Run, pixels: _Pixels, starts: list[Value], sizes: list[int]) -> None:
        """One box of pixels, from left to right over the column panels: its part of x stays in L1."""
        s, f = self.s, self.f
        a, first = const(0, I64), const(0, I64)
        for axis, (start, within) in enumerate(zip(pixels.starts, starts, strict=True)):
            a = f.iadd(a, f.imul(within, s.region.steps[axis]))
            first = f.iadd(first, f.imul(f.iadd(start, within), self.apart[axis]))
        _, h, w = self.p.out
        first = f.iadd(first, (run.phase[0].start * h + run.phase[1].start) * w + run.phase[2].start)
        source = f.gep(self.copied, a, self.elem)
        before = f.iadd(f.imul(run.group, self.p.columns), run.column)

        def panel(j: Value, last: bool) -> None:
            across = f.imul(j, s.width)
            column = f.iadd(before, across)
            columns = f.isub(f.isub(self.p.columns, run.column), across)
            c = self.sums
            if self.y is not None:
                c = f.gep(self.y, f.iadd(f.imul(first, self.row), column), self.elem)
            tile = self.tile(sizes, last=last)
            x = f.gep(source, f.iadd(run.column, across), self.elem) if self.p.paired else source
            counts = [const(n, I64) for n in self.counts(run.phase)]
            f.call(tile, x, self.panel(run, j), c, columns, *counts)
            if self.y is None:
                wide = f.imin(columns, s.width)
                f.call(
                    self.finish(),
                    self.slots,
                    self.args,
                    self.sums,
                    first,
                    column,
                    wide,
                    *(const(n, I64) for n in sizes),
                )

        self.each_panel(run, panel)
