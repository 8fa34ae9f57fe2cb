"""Weight gradients of convolutions: the loop nest of a schedule around register tiles.

Buffers of a kernel: x, the cotangent, the result [K, C / groups, *taps].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from treadle.schedule.conv_grad import WeightGradSchedule

from .conv_pack import PixelPack, pack_pixels
from .conv_region import fill_region, region_pack
from .conv_tile import ConvTile, conv_tile
from .llvm import I64, PTR, Function, Module, Value, compute_type, const, storage_type
from .memory import narrow


def emit_conv_grad(schedule: WeightGradSchedule, name: str) -> str:
    """The kernel of a schedule as LLVM text."""
    module = Module(f"{name}: {schedule}")
    _ConvGrad(module, schedule, name).emit()
    return str(module)


@dataclass(frozen=True)
class _Block:
    """A parallel tile: its group, the first channel of x it copies and how many, its first channel out and panels."""

    group: Value
    channel: Value
    channels: int
    column: Value
    panels: Value


class _ConvGrad:
    """Writes one kernel. Functions it calls are written on first use."""

    def __init__(self, module: Module, schedule: WeightGradSchedule, name: str) -> None:
        self.module, self.s, self.p, self.name = module, schedule.conv, schedule.conv.problem, name
        self.result = schedule.dtype
        self.elem = compute_type(self.p.dtype)
        self.kind = self.elem.with_lanes(self.s.lanes)
        self.f = module.kernel(name)
        self.parts: dict[str, Function] = {}

    def part(self, name: str, make: Callable[[str], Function]) -> Function:
        if name not in self.parts:
            self.parts[name] = make(f"{self.name}_{name}")
        return self.parts[name]

    # ---- functions that are called

    def tile(self, rows: tuple[int, ...], vectors: int) -> Function:
        """The register tile whose rows begin at these places of x; its loops run over the pixels of a block."""
        s = self.s
        tile = ConvTile(
            self.kind,
            rows,
            tuple(i * s.width for i in range(len(rows))),
            vectors,
            s.region.steps[:3],
            s.region.steps[3],
            resumes=True,
            unroll=s.unroll,
            paired=self.p.paired,
        )
        name = f"tile_{rows[0]}_{len(rows)}by{vectors}"
        return self.part(name, lambda name: conv_tile(self.module, name, tile))

    def pack_x(self, channels: int) -> Function:
        spec = region_pack(self.p, self.s.region, self.kind, channels)
        return self.part(f"pack_x{channels}", lambda name: pack_pixels(self.module, name, spec))

    def pack_ct(self, columns: int) -> Function:
        """Copies `columns` columns of the cotangent: pixels follow each other without gaps."""
        p, s = self.p, self.s
        width = -(-columns // s.lanes) * s.lanes
        _, d, h, w = s.block
        pitches = (d * h * w * width, h * w * width, w * width, width)
        strides = (p.w.outer, *p.w.spatial)
        spec = PixelPack(p.w.dtype, self.kind, strides, p.w.inner, p.out, (1, 1, 1), columns, pitches)
        return self.part(f"pack_ct{columns}", lambda name: pack_pixels(self.module, name, spec))

    def write(self) -> Function:
        """A function (y, sums, channels, columns) that stores the sums in the order of a weight.

        y is where the block's first element goes.
        """
        s, p = self.s, self.p

        def make(name: str) -> Function:
            f = self.module.function(
                name, [("y", PTR), ("sums", PTR), ("channels", I64), ("columns", I64)], internal=True
            )
            y, sums, channels, columns = f.params
            d, h, w = p.kernel
            kind = storage_type(self.result)
            row = s.run * s.width  # of sums between outer taps
            across = s.channels * s.width if s.merged else row  # between neighbouring taps along a row
            apart = (h * row, row, across) if s.merged else (h * w * row, w * row, row)

            def column(k: Value, _: tuple[Value, ...]) -> None:
                panel, lane = f.idiv(k, s.width), f.imod(k, s.width)
                here = f.gep(sums, f.iadd(f.imul(panel, math.prod(s.outer_taps) * row), lane), self.elem)
                there = f.gep(y, f.imul(k, p.channels * d * h * w), kind)

                def channel(c: Value, _: tuple[Value, ...]) -> None:
                    axis(0, f.gep(here, f.imul(c, s.width), self.elem), f.gep(there, f.imul(c, d * h * w), kind))

                f.loop(0, channels, 1, [], channel)

            def axis(a: int, here: Value, there: Value) -> None:
                if a == 3:
                    f.store(narrow(f, f.load(here, self.elem), self.result), there)
                    return
                step = math.prod(p.kernel[a + 1 :])

                def tap(t: Value, _: tuple[Value, ...]) -> None:
                    axis(
                        a + 1,
                        f.gep(here, f.imul(t, apart[a]), self.elem),
                        f.gep(there, f.imul(t, step), kind),
                    )

                f.loop(0, p.kernel[a], 1, [], tap)

            f.loop(0, columns, 1, [], column)
            f.ret()
            return f

        return self.part("write", make)

    # ---- the loop nest, outside in

    def emit(self) -> None:
        s, p, f = self.s, self.p, self.f
        _, _, lo, hi, scratch = f.params
        self.x, self.ct, self.y = f.buffer(0), f.buffer(1), f.buffer(2)
        self.sums = scratch
        self.copied_x = f.gep(scratch, s.num_sums, self.elem)
        self.copied_ct = f.gep(self.copied_x, s.region.size, self.elem)
        _, ins, outs = s.grid
        all_panels = -(-p.columns // s.width)

        def one(t: Value, _: tuple[Value, ...]) -> None:
            number, among = f.idiv(t, outs), f.imod(t, outs)
            group, slab = f.idiv(number, ins), f.imod(number, ins)
            first = f.imul(among, s.panels)
            panels = f.imin(f.isub(all_panels, first), s.panels)

            def block(channels: int) -> None:
                column = f.imul(first, s.width)
                channel = column if p.paired else f.imul(slab, s.channels)
                self.block(_Block(group, channel, channels, column, panels))

            # A depthwise tile copies the channels of its columns.
            place, count = (among, outs) if p.paired else (slab, ins)
            rest = p.inputs % s.inputs
            if not rest:
                block(s.inputs)
            elif count == 1:
                block(rest)
            else:
                f.if_(f.icmp("eq", place, count - 1), lambda: block(rest), lambda: block(s.inputs))

        f.loop(lo, hi, 1, [], one)
        f.ret()

    def block(self, at: _Block) -> None:
        """The sums of a parallel tile over all blocks of pixels."""
        s, p, f = self.s, self.p, self.f
        zero = const(0, self.kind)
        f.loop(0, s.num_sums, s.lanes, [], lambda i, _: f.store(zero, f.gep(self.sums, i, self.elem)))
        whole = (p.images, *p.out)
        counts = [-(-n // b) for n, b in zip(whole, s.block, strict=True)]

        def pixels(i: Value, _: tuple[Value, ...]) -> None:
            starts: list[Value] = []
            for a in range(len(counts)):
                number = f.idiv(i, math.prod(counts[a + 1 :]))
                starts.append(f.imul(f.imod(number, counts[a]) if a else number, s.block[a]))
            extents = [f.imin(f.isub(n, start), b) for n, start, b in zip(whole, starts, s.block, strict=True)]
            first = f.iadd(f.imul(at.group, p.channels), at.channel)
            pack, buffers = self.pack_x(at.channels), (self.x, self.copied_x)
            fill_region(f, pack, buffers, p, s.region, s.phase, first, starts, extents)
            self.each_panel(at, lambda j, columns: self.fill_ct(at, j, columns, starts, extents))
            self.each_panel(at, lambda j, columns: self.panel(at, j, columns, extents))

        f.loop(0, math.prod(counts), 1, [], pixels)
        columns = f.imin(f.isub(p.columns, at.column), s.columns)
        k = f.iadd(f.imul(at.group, p.columns), at.column)
        channel, channels = (const(0, I64), 1) if p.paired else (at.channel, at.channels)
        first = f.imul(f.iadd(f.imul(k, p.channels), channel), math.prod(p.kernel))
        y = f.gep(self.y, first, storage_type(self.result))
        f.call(self.write(), y, self.sums, const(channels, I64), columns)

    def each_panel(self, at: _Block, body: Callable[[Value, int], None]) -> None:
        """Call body(number, columns) for the column panels of a parallel tile, of which the very last may be narrow."""
        s, f = self.s, self.f
        rest = self.p.columns % s.width
        full = f.imin(at.panels, f.isub(self.p.columns // s.width, f.idiv(at.column, s.width)))
        if self.p.columns >= s.width:
            f.loop(0, full, 1, [], lambda j, _: body(j, s.width))
        if rest:
            f.if_(f.icmp("slt", full, at.panels), lambda: body(full, rest))

    def fill_ct(self, at: _Block, j: Value, columns: int, starts: list[Value], extents: list[Value]) -> None:
        """Copy a panel of the cotangent."""
        f, ct = self.f, self.p.w
        column = f.iadd(f.iadd(f.imul(at.group, self.p.columns), at.column), f.imul(j, self.s.width))
        source = f.iadd(f.iadd(f.imul(starts[0], ct.outer), f.imul(column, ct.inner)), ct.offset)
        pointer = f.gep(self.ct, source, storage_type(ct.dtype))
        f.call(self.pack_ct(columns), pointer, self.copied_panel(j), extents[0], *starts[1:], *extents[1:])

    def copied_panel(self, j: Value) -> Value:
        return self.f.gep(self.copied_ct, self.f.imul(j, self.s.copied), self.elem)

    def panel(self, at: _Block, j: Value, columns: int, extents: list[Value]) -> None:
        """All taps and channels of one panel: its part of the cotangent stays in L1."""
        s, f = self.s, self.f
        vectors = -(-columns // s.lanes)
        ct, none = self.copied_panel(j), const(0, I64)

        def rows(x: Value, sums: Value, i: Value, places: tuple[int, ...]) -> None:
            f.call(self.tile(places, vectors), x, ct, f.gep(sums, f.imul(i, s.width), self.elem), none, *extents)

        def channels(x: Value, sums: Value) -> None:
            """The channels that meet one tap, or taps that lie side by side."""
            run = at.channels * (self.p.kernel[2] if s.merged else 1)
            whole, rest = run - run % s.rows, run % s.rows

            def some(i: Value, many: int) -> None:
                rows(f.gep(x, i, self.elem), sums, i, tuple(range(many)))

            f.loop(0, whole, s.rows, [], lambda i, _: some(i, s.rows))
            if rest:
                some(const(whole, I64), rest)

        def taps(a: int, x: Value, number: Value) -> None:
            if a == 3:
                channels(x, f.gep(self.sums, f.imul(number, s.run * s.width), self.elem))
                return

            def tap(t: Value, _: tuple[Value, ...]) -> None:
                onwards = f.gep(x, f.imul(t, s.region.taps[a]), self.elem)
                taps(a + 1, onwards, f.iadd(f.imul(number, s.outer_taps[a]), t))

            f.loop(0, s.outer_taps[a], 1, [], tap)

        if not self.p.paired:
            taps(0, self.copied_x, j)
            return
        steps = s.region.taps
        places = [sum(t * step for t, step in zip(tap, steps, strict=True)) for tap in np.ndindex(*self.p.kernel)]
        x = f.gep(self.copied_x, f.imul(j, s.width), self.elem)
        sums = f.gep(self.sums, f.imul(j, len(places) * s.width), self.elem)
        for i in range(0, len(places), s.rows):
            rows(x, sums, const(i, I64), tuple(places[i : i + s.rows]))
