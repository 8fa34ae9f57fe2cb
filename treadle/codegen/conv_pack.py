"""Copies for convolutions: blocks of images with their padding, channels last; weights in the order tiles read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from treadle.core import DType

from .llvm import I1, I64, PTR, Function, Module, Value, VType, const, storage_type
from .memory import widen
from .pack import load_wide, transpose


@dataclass(frozen=True)
class PixelPack:
    """A copy of `channels` channels of a block of pixels. Strides and pitches are of images, then spatial axes.

    Args:
        dtype: what the source holds.
        wide: a vector of what the copy holds.
        strides: distances in the source.
        inner: distance of channels in the source.
        sizes: spatial sizes of the source; pixels outside are zeros.
        gaps: places of the source between pixels of the copy.
        channels: channels copied.
        pitches: distances in the copy; channels have none.
    """

    dtype: DType
    wide: VType
    strides: tuple[int, ...]
    inner: int
    sizes: tuple[int, ...]
    gaps: tuple[int, ...]
    channels: int
    pitches: tuple[int, ...]


def pack_pixels(module: Module, name: str, spec: PixelPack) -> Function:
    """A function (source, target, images, first of each spatial axis, count of each).

    It writes up to a vector of pixels, and a vector, behind the end.
    """
    numbers = [f"{what}{a}" for what in ("first", "count") for a in range(3)]
    params = [("source", PTR), ("target", PTR), ("images", I64), *((x, I64) for x in numbers)]
    f = module.function(name, params, internal=True)
    _PixelWriter(f, spec).write()
    f.ret()
    return f


MOST_SHUFFLED = 4  # distance of elements up to which picking them from vectors is quicker than gathering them


class _PixelWriter:
    def __init__(self, f: Function, spec: PixelPack) -> None:
        self.f, self.s = f, spec
        self.kind, self.elem, self.lanes = storage_type(spec.dtype), spec.wide.with_lanes(1), spec.wide.lanes
        self.source, self.target, self.images, *numbers = f.params
        self.first, self.count = numbers[:3], numbers[3:]
        self.pitch = spec.pitches[3]

    def write(self) -> None:
        f, s = self.f, self.s
        low, high = self.existing(2)

        def row(source: Value, target: Value, there: Value) -> None:
            def copied() -> None:
                self.zeros(target, const(0, I64), low)
                at = f.iadd(f.imul(self.first[2], s.strides[3]), f.imul(low, s.gaps[2] * s.strides[3]))
                begin = f.gep(target, f.imul(low, self.pitch), self.elem)
                self.copy(f.gep(source, at, self.kind), begin, f.isub(high, low))
                self.zeros(target, high, self.count[2])

            def empty() -> None:
                self.zeros(target, const(0, I64), self.count[2])

            f.if_(there, copied, empty)

        def axis(a: int, source: Value, target: Value, there: Value) -> None:
            if a == 2:
                row(source, target, there)
                return

            def place(i: Value, _: tuple[Value, ...]) -> None:
                at = f.iadd(self.first[a], f.imul(i, s.gaps[a]))
                inside = f.icmp("ult", at, s.sizes[a])
                onwards = f.gep(source, f.imul(at, s.strides[a + 1]), self.kind)
                axis(a + 1, onwards, f.gep(target, f.imul(i, s.pitches[a + 1]), self.elem), f.and_(there, inside))

            f.loop(0, self.count[a], 1, [], place)

        def image(n: Value, _: tuple[Value, ...]) -> None:
            source = f.gep(self.source, f.imul(n, s.strides[0]), self.kind)
            axis(0, source, f.gep(self.target, f.imul(n, s.pitches[0]), self.elem), const(1, I1))

        f.loop(0, self.images, 1, [], image)

    def existing(self, a: int) -> tuple[Value, Value]:
        """The pixels low..high of the copy that exist in the source along an axis."""
        f, gap, first, count = self.f, self.s.gaps[a], self.first[a], self.count[a]

        def places(distance: Value) -> Value:
            """How many pixels lie below a distance from the first."""
            return f.idiv(f.imax(f.iadd(distance, gap - 1), 0), gap)

        low = f.imin(places(f.isub(0, first)), count)
        return low, f.imax(low, f.imin(places(f.isub(self.s.sizes[a], first)), count))

    def zeros(self, target: Value, low: Value, high: Value) -> None:
        """Zero the pixels low..high of a row, and up to a vector behind them."""
        f, zero = self.f, const(0, self.s.wide)
        begin, end = f.imul(low, self.pitch), f.imul(high, self.pitch)
        f.loop(begin, end, self.lanes, [], lambda i, _: f.store(zero, f.gep(target, i, self.elem)))

    def load(self, pointer: Value, mask: Value | None = None) -> Value:
        return load_wide(self.f, pointer, self.s.dtype, self.s.wide, mask)

    def copy(self, source: Value, target: Value, pixels: Value) -> None:
        """Copy pixels of a row."""
        s = self.s
        # An axis of one place has no stride; one that is broadcast has many places and a stride of 0.
        apart = self.pitch if s.sizes[2] == 1 else s.gaps[2] * s.strides[3]
        if s.inner == 1 or s.channels == 1:
            if apart == self.pitch == s.channels:
                self.run(source, target, self.f.imul(pixels, s.channels))
            elif self.pitch == s.channels == 1:
                self.every(source, target, pixels, apart)
            else:
                self.channels(source, target, pixels, apart)
        elif apart == 1:
            self.turn(source, target, pixels)
        else:
            self.elements(source, target, pixels, apart)

    def run(self, source: Value, target: Value, count: Value) -> None:
        """Copy neighbouring elements."""
        f = self.f
        full = f.and_(count, -self.lanes)

        def vector(i: Value, mask: Value | None) -> None:
            f.store(self.load(f.gep(source, i, self.kind), mask), f.gep(target, i, self.elem))

        f.loop(0, full, self.lanes, [], lambda i, _: vector(i, None))
        if count.const_int is None or count.const_int % self.lanes:
            rest = f.isub(count, full)
            f.if_(f.icmp("slt", full, count), lambda: vector(full, f.lane_mask(rest, self.lanes)))

    def every(self, source: Value, target: Value, pixels: Value, apart: int) -> None:
        """Copy elements that lie apart to neighbouring ones."""
        f, s, lanes = self.f, self.s, self.lanes

        def few(here: Value, count: Value | None) -> Value:
            """Picks from as many vectors as elements lie apart; the last ends with the last element that is read."""
            found = None
            for k in range(apart):
                begin = k * lanes if k < apart - 1 else (lanes - 1) * (apart - 1)
                reach = f.isub(f.imul(f.isub(count, 1), apart), begin - 1) if count else None
                part = self.load(f.gep(here, begin, self.kind), f.lane_mask(reach, lanes) if reach else None)
                picks = [i * apart - begin for i in range(lanes)]
                if found is None:
                    found = f.shuffle(part, None, [at if at < lanes else -1 for at in picks])
                else:
                    found = f.shuffle(found, part, [lanes + at if 0 <= at < lanes else i for i, at in enumerate(picks)])
            assert found is not None
            return found

        def many(here: Value, count: Value | None) -> Value:
            places = f.mul(f.iota(lanes), const(apart, I64.with_lanes(lanes)))
            mask = f.lane_mask(count, lanes) if count else None
            stored = f.gather(f.gep(here, places, self.kind), storage_type(s.dtype, lanes), mask, 0)
            return f.cast("fpext", widen(f, stored, s.dtype), s.wide.elem)

        def vector(i: Value, count: Value | None) -> None:
            here = f.gep(source, f.imul(i, apart), self.kind)
            f.store((few if 0 < apart <= MOST_SHUFFLED else many)(here, count), f.gep(target, i, self.elem))

        full = f.and_(pixels, -lanes)
        f.loop(0, full, lanes, [], lambda i, _: vector(i, None))
        f.if_(f.icmp("slt", full, pixels), lambda: vector(full, f.isub(pixels, full)))

    def channels(self, source: Value, target: Value, pixels: Value, apart: int) -> None:
        """Copy pixel after pixel, the channels of each as a run."""
        f = self.f

        def pixel(i: Value, _: tuple[Value, ...]) -> None:
            there = f.gep(target, f.imul(i, self.pitch), self.elem)
            here = f.gep(source, f.imul(i, apart), self.kind)
            full = self.s.channels // self.lanes * self.lanes

            def vector(c: Value | int, mask: Value | None) -> None:
                f.store(self.load(f.gep(here, c, self.kind), mask), f.gep(there, c, self.elem))

            f.loop(0, full, self.lanes, [], lambda c, _: vector(c, None))
            if full < self.s.channels:
                vector(full, f.lane_mask(self.s.channels - full, self.lanes))

        f.loop(0, pixels, 1, [], pixel)

    def turn(self, source: Value, target: Value, pixels: Value) -> None:
        """Copy square blocks through registers: neighbours in the source are pixels, in the copy channels."""
        f, s, lanes = self.f, self.s, self.lanes
        tail = s.channels % lanes

        def block(w: Value, c: Value | int, count: int, mask: Value | None) -> None:
            here = f.gep(f.gep(source, w, self.kind), f.imul(c, s.inner), self.kind)
            rows = [self.load(f.gep(here, q * s.inner, self.kind), mask) for q in range(count)]
            there = f.gep(f.gep(target, f.imul(w, self.pitch), self.elem), c, self.elem)
            for value in transpose(f, [*rows, *[const(0, s.wide)] * (lanes - count)]):
                if count < lanes:
                    f.masked_store(value, there, f.lane_mask(count, lanes))
                else:
                    f.store(value, there)
                there = f.gep(there, self.pitch, self.elem)

        def columns(w: Value, mask: Value | None) -> None:
            f.loop(0, s.channels - tail, lanes, [], lambda c, _: block(w, c, lanes, mask))
            if tail:
                block(w, s.channels - tail, tail, mask)

        full = f.and_(pixels, -lanes)
        f.loop(0, full, lanes, [], lambda w, _: columns(w, None))
        rest = f.isub(pixels, full)
        f.if_(f.icmp("slt", full, pixels), lambda: columns(full, f.lane_mask(rest, lanes)))

    def elements(self, source: Value, target: Value, pixels: Value, apart: int) -> None:
        """Copy one element at a time."""
        f, s = self.f, self.s

        def pixel(i: Value, _: tuple[Value, ...]) -> None:
            there = f.gep(target, f.imul(i, self.pitch), self.elem)
            here = f.gep(source, f.imul(i, apart), self.kind)

            def channel(c: Value, _: tuple[Value, ...]) -> None:
                value = load_wide(f, f.gep(here, f.imul(c, s.inner), self.kind), s.dtype, self.elem)
                f.store(value, f.gep(there, c, self.elem))

            f.loop(0, s.channels, 1, [], channel)

        f.loop(0, pixels, 1, [], pixel)


@dataclass(frozen=True)
class WeightPack:
    """A copy of the weights of `valid` output channels as [tap][channel][width].

    Args:
        dtype: what the source holds.
        wide: a vector of what the copy holds.
        taps: (count, first, step) of each axis.
        strides: distances of taps in the source.
        channels: input channels, and their distance in the source.
        outer: see channels.
        inner: distance of output channels in the source.
        width: elements of a row of the copy.
        valid: output channels, the rest of a row holds anything.
    """

    dtype: DType
    wide: VType
    taps: tuple[tuple[int, int, int], ...]
    strides: tuple[int, ...]
    channels: int
    outer: int
    inner: int
    width: int
    valid: int

    @property
    def places(self) -> list[int]:
        """Where each tap lies in the source, in the order of the copy."""
        found = [0]
        for (count, first, step), stride in zip(self.taps, self.strides, strict=True):
            found = [at + (first + t * step) * stride for at in found for t in range(count)]
        return found


def pack_weights(module: Module, name: str, spec: WeightPack) -> Function:
    """A function (source, target). It may write up to a vector of rows behind the end."""
    f = module.function(name, [("source", PTR), ("target", PTR)], internal=True)
    writer = _WeightWriter(f, spec)
    if spec.inner == 1 or spec.valid == 1:
        writer.copy()
    elif spec.outer == 1:
        writer.turn_channels()
    else:
        writer.turn_taps()
    f.ret()
    return f


class _WeightWriter:
    """Three ways to copy weights, by what lies side by side in the source: output channels, input channels, taps."""

    def __init__(self, f: Function, spec: WeightPack) -> None:
        self.f, self.s = f, spec
        self.kind, self.elem, self.lanes = storage_type(spec.dtype), spec.wide.with_lanes(1), spec.wide.lanes
        self.source, self.target = f.params

    def each_tap(self, body: Callable[[Value, Value], None]) -> None:
        """Loop over taps: where each lies in the source, and the place of its first row in the copy."""
        f, s = self.f, self.s

        def axis(a: int, source: Value, target: Value) -> None:
            if a == len(s.taps):
                body(source, target)
                return
            count, first, step = s.taps[a]
            rows = s.channels
            for more, _, _ in s.taps[a + 1 :]:
                rows *= more

            def tap(t: Value, _: tuple[Value, ...]) -> None:
                at = f.imul(f.iadd(f.imul(t, step), first), s.strides[a])
                axis(a + 1, f.gep(source, at, self.kind), f.gep(target, f.imul(t, rows * s.width), self.elem))

            f.loop(0, count, 1, [], tap)

        axis(0, self.source, self.target)

    def vectors(self, body: Callable[[int, int], None]) -> None:
        """Call body(first column, columns) for every vector of a row."""
        for j in range(0, self.s.valid, self.lanes):
            body(j, min(self.lanes, self.s.valid - j))

    def load(self, pointer: Value, mask: Value | None) -> Value:
        return load_wide(self.f, pointer, self.s.dtype, self.s.wide, mask)

    def mask(self, count: int) -> Value | None:
        return None if count == self.lanes else self.f.lane_mask(count, self.lanes)

    def copy(self) -> None:
        """Rows as they are."""
        f, s = self.f, self.s

        def tap(source: Value, target: Value) -> None:
            def row(c: Value, _: tuple[Value, ...]) -> None:
                here, there = f.gep(source, f.imul(c, s.outer), self.kind), f.gep(target, f.imul(c, s.width), self.elem)

                def vector(j: int, count: int) -> None:
                    f.store(self.load(f.gep(here, j, self.kind), self.mask(count)), f.gep(there, j, self.elem))

                self.vectors(vector)

            f.loop(0, s.channels, 1, [], row)

        self.each_tap(tap)

    def block(
        self, source: Value, target: Value, count: int, mask: Value | None, wanted: list[tuple[int, int]]
    ) -> None:
        """Turn a square block: of `count` rows of the source, columns q become rows r of the copy, (q, r) in wanted."""
        f, s = self.f, self.s
        rows = [self.load(f.gep(source, i * s.inner, self.kind), mask) for i in range(count)]
        turned = transpose(f, [*rows, *[const(0, s.wide)] * (self.lanes - count)])
        for q, r in wanted:
            f.store(turned[q], f.gep(target, r * s.width, self.elem))

    def turn_channels(self) -> None:
        """Square blocks of output and input channels through registers."""
        f, s, lanes = self.f, self.s, self.lanes
        full, rest = s.channels // lanes * lanes, s.channels % lanes

        def tap(source: Value, target: Value) -> None:
            def step(c: Value | int, size: int) -> None:
                here, there = f.gep(source, c, self.kind), f.gep(target, f.imul(c, s.width), self.elem)

                def vector(j: int, count: int) -> None:
                    at = f.gep(here, j * s.inner, self.kind)
                    self.block(at, f.gep(there, j, self.elem), count, self.mask(size), [(q, q) for q in range(size)])

                self.vectors(vector)

            f.loop(0, full, lanes, [], lambda c, _: step(c, lanes))
            if rest:
                step(full, rest)

        self.each_tap(tap)

    def turn_taps(self) -> None:
        """Square blocks of output channels and runs of taps through registers, channel after channel."""
        f, s, lanes = self.f, self.s, self.lanes
        rows = {at: r for r, at in enumerate(s.places)}
        left = sorted(rows)

        def channel(c: Value, _: tuple[Value, ...]) -> None:
            source, target = (
                f.gep(self.source, f.imul(c, s.outer), self.kind),
                f.gep(self.target, f.imul(c, s.width), self.elem),
            )
            todo = list(left)
            while todo:
                first = todo[0]
                now = [at for at in todo if at < first + lanes]
                todo = todo[len(now) :]
                wanted = [(at - first, rows[at] * s.channels) for at in now]
                here, span = f.gep(source, first, self.kind), now[-1] - first + 1

                def vector(
                    j: int, count: int, here: Value = here, span: int = span, wanted: list[tuple[int, int]] = wanted
                ) -> None:
                    at = f.gep(here, j * s.inner, self.kind)
                    self.block(at, f.gep(target, j, self.elem), count, self.mask(span), wanted)

                self.vectors(vector)

        f.loop(0, s.channels, 1, [], channel)
