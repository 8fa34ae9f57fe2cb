"""Copies of blocks of channels-last images as planes, one for each channel, with their padding."""

from __future__ import annotations

from dataclasses import dataclass

from treadle.core import DType

from .llvm import I1, I64, PTR, Function, Module, Value, VType, const, storage_type
from .pack import load_wide, transpose


@dataclass(frozen=True)
class PlanePack:
    """A copy of a block of places of every channel.

    Args:
        dtype: what the source holds.
        wide: a vector of what the copy holds.
        strides: distances of places in the source along each axis; channels follow each other.
        sizes: places of the source along each axis; those outside are zeros.
        gaps: places of the source between places of the copy.
        channels: channels copied.
        pitches: distances in the copy of channels, then of places along each axis, the last of which is 1.
    """

    dtype: DType
    wide: VType
    strides: tuple[int, ...]
    sizes: tuple[int, ...]
    gaps: tuple[int, ...]
    channels: int
    pitches: tuple[int, ...]


def pack_planes(module: Module, name: str, spec: PlanePack) -> Function:
    """A function (source, target, channels, first place of each axis, count of each).

    It writes up to a vector behind the end of each channel. The number of channels is that of the spec.
    """
    numbers = [f"{what}{a}" for what in ("first", "count") for a in range(3)]
    f = module.function(
        name, [("source", PTR), ("target", PTR), ("channels", I64), *((x, I64) for x in numbers)], internal=True
    )
    _PlaneWriter(f, spec).write()
    f.ret()
    return f


class _PlaneWriter:
    def __init__(self, f: Function, spec: PlanePack) -> None:
        self.f, self.s = f, spec
        self.kind, self.elem, self.lanes = storage_type(spec.dtype), spec.wide.with_lanes(1), spec.wide.lanes
        self.source, self.target, _, *numbers = f.params
        self.first, self.count = numbers[:3], numbers[3:]

    def write(self) -> None:
        f, s = self.f, self.s

        def axis(a: int, source: Value, target: Value, there: Value) -> None:
            if a == 2:
                self.row(source, target, there)
                return

            def place(i: Value, _: tuple[Value, ...]) -> None:
                at = f.iadd(self.first[a], f.imul(i, s.gaps[a]))
                inside = f.and_(there, f.icmp("ult", at, s.sizes[a]))
                onwards = f.gep(source, f.imul(at, s.strides[a]), self.kind)
                axis(a + 1, onwards, f.gep(target, f.imul(i, s.pitches[a + 1]), self.elem), inside)

            f.loop(0, self.count[a], 1, [], place)

        axis(0, self.source, self.target, const(1, I1))

    def row(self, source: Value, target: Value, there: Value) -> None:
        """One row of every channel, a vector of places at a time."""
        f, s, lanes = self.f, self.s, self.lanes
        whole = s.channels // lanes * lanes

        def vector(w: Value, _: tuple[Value, ...]) -> None:
            places = [f.iadd(self.first[2], f.imul(f.iadd(w, i), s.gaps[2])) for i in range(lanes)]
            exist = [f.and_(there, f.icmp("ult", at, s.sizes[2])) for at in places]
            all_exist = f.and_(there, f.and_(f.icmp("sge", places[0], 0), f.icmp("slt", places[-1], s.sizes[2])))
            rows = [f.gep(source, f.imul(at, s.strides[2]), self.kind) for at in places]

            def block(c: Value | int, count: int, *, checked: bool) -> None:
                some = f.lane_mask(count, lanes)
                values: list[Value] = []
                for at, exists in zip(rows, exist, strict=True):
                    mask = f.select(f.splat(exists, lanes), some, const(0, some.type)) if checked else some
                    free = not checked and count == lanes
                    values.append(load_wide(f, f.gep(at, c, self.kind), s.dtype, s.wide, None if free else mask))
                onto = f.gep(f.gep(target, w, self.elem), f.imul(c, s.pitches[0]), self.elem)
                for value in transpose(f, values)[:count]:
                    f.store(value, onto)
                    onto = f.gep(onto, s.pitches[0], self.elem)

            def blocks(*, checked: bool) -> None:
                f.loop(0, whole, lanes, [], lambda c, _: block(c, lanes, checked=checked))
                if whole < s.channels:
                    block(whole, s.channels - whole, checked=checked)

            f.if_(all_exist, lambda: blocks(checked=False), lambda: blocks(checked=True))

        f.loop(0, self.count[2], lanes, [], vector)
