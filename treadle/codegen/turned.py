"""Elementwise kernels that turn square blocks of operands in registers."""

from __future__ import annotations

from collections.abc import Callable

from treadle.schedule.turned import Turned, TurnedSchedule

from .llvm import I64, Function, Module, Value, const
from .loops import Step, Writer
from .memory import load_lanes
from .pack import to_shuffle, transpose


def emit_turned(schedule: TurnedSchedule, name: str) -> str:
    """The kernel of a schedule as LLVM text."""
    module = Module(f"{name}: {schedule}")
    _Turned(module.kernel(name), schedule).emit()
    return str(module)


class _Turned:
    def __init__(self, f: Function, schedule: TurnedSchedule) -> None:
        self.f, self.s = f, schedule
        self.writer = Writer(f, {b: f.buffer(b.slot) for b in schedule.buffers})

    def emit(self) -> None:
        """Tiles lo..hi: a block of rows each, over a run of columns."""
        f, s, writer = self.f, self.s, self.writer
        _, _, lo, hi, _ = f.params
        _, across, along = s.grid
        _, rows, columns = s.sizes

        def tile(t: Value, _: tuple[Value, ...]) -> None:
            block = f.idiv(t, along)
            first = f.imul(f.imod(block, across), s.lanes)
            begin = f.imul(f.imod(t, along), s.run)
            end = f.imin(f.iadd(begin, s.run), columns)
            with writer.scope():
                writer.known[-1][s.outer] = f.idiv(block, across)
                self.either(rows, first, lambda count: self.run(first, count, begin, end))

        f.loop(lo, hi, 1, [], tile)
        f.ret()

    def either(self, size: int, first: Value, body: Callable[[int], None]) -> None:
        """Call body with the lanes, or with how many of `size` are left where that is fewer."""
        lanes, rest = self.s.lanes, self.s.sizes[1] % self.s.lanes
        if rest == 0:
            body(lanes)
        elif size < lanes:
            body(rest)
        else:
            self.f.if_(self.f.icmp("sle", self.f.iadd(first, lanes), size), lambda: body(lanes), lambda: body(rest))

    def run(self, first: Value, rows: int, begin: Value, end: Value) -> None:
        """Blocks from left to right; the last may have fewer columns."""
        f, lanes, columns = self.f, self.s.lanes, self.s.sizes[2]
        whole = f.iadd(begin, f.and_(f.isub(end, begin), -lanes))
        f.loop(begin, whole, lanes, [], lambda c, _: self.block(first, rows, c, lanes))
        if columns % lanes:
            f.if_(f.icmp("slt", whole, end), lambda: self.block(first, rows, whole, columns % lanes))

    def block(self, first: Value, rows: int, column: Value, columns: int) -> None:
        """One block: its operands turned, then row after row what follows."""
        f, s, writer = self.f, self.s, self.writer
        turned = {t.register: self.turn(t, first, rows, column, columns) for t in s.turned}
        mask = None if columns == s.lanes else f.lane_mask(columns, s.lanes)
        for r in range(rows):
            with writer.scope():
                writer.registers.update({register: values[r] for register, values in turned.items()})
                writer.known[-1][s.row] = f.iadd(first, r)
                writer.step = Step(s.column, column, s.lanes, mask)
                writer.block(s.stores)
                writer.step = None

    def turn(self, operand: Turned, first: Value, rows: int, column: Value, columns: int) -> list[Value]:
        """The rows of a block of an operand."""
        f, s, writer = self.f, self.s, self.writer
        with writer.scope():
            writer.known[-1] |= {s.row: first, s.column: column}
            where = writer.scalar(operand.where)
        if operand.back:
            where = f.isub(where, rows - 1)
        mask = None if rows == s.lanes else f.lane_mask(rows, s.lanes)
        pointer, dtype = writer.pointers[operand.buffer], operand.buffer.dtype
        loaded = [
            load_lanes(f, pointer, f.iadd(where, const(q * operand.step, I64)), dtype, s.lanes, mask=mask)
            for q in range(columns)
        ]
        missing = [const(0, loaded[0].type)] * (s.lanes - columns)
        block = [*[to_shuffle(f, row, dtype) for row in loaded], *missing]
        small = loaded[0].type if loaded[0].type.elem_nbytes < 4 else None
        if small is not None:  # shuffles are of 32 bits
            block = [f.cast("zext", row, "i32") for row in block]
        found = transpose(f, block)
        if small is not None:
            found = [f.cast("trunc", row, small.elem) for row in found]
        return found[rows - 1 :: -1] if operand.back else found
