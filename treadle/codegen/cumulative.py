"""Kernels of running folds: prefixes inside vectors along a row, or one running value per column in lanes."""

from __future__ import annotations

from treadle.schedule.cumulative import CumulativeSchedule

from . import scalars
from .llvm import Function, Module, Value, compute_type, const
from .memory import load_lanes, store_lanes

SCALARS = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "logaddexp": "logaddexp"}


def emit_cumulative(schedule: CumulativeSchedule, name: str) -> str:
    """Return the module text of a kernel; buffers are the operands, then the result."""
    module = Module(f"{name}: {schedule}")
    _Writer(module.kernel(name), schedule).emit()
    return str(module)


class _Writer:
    def __init__(self, f: Function, schedule: CumulativeSchedule) -> None:
        self.f = f
        self.s = schedule
        self.kind = compute_type(schedule.dtype, schedule.lanes)
        self.buffers = [f.buffer(k) for k in range(len(schedule.order))]

    def emit(self) -> None:
        """Write the loop over tiles."""
        f, s = self.f, self.s
        _, _, low, high, _ = f.params

        def tile(t: Value, _: tuple[Value, ...]) -> None:
            if s.along_rows:
                self.row(f.imul(t, s.size))
                return
            group, block = f.idiv(t, s.blocks), f.imod(t, s.blocks)
            column = f.imul(block, s.lanes)
            self.columns(f.iadd(f.imul(group, s.size * s.after), column), f.isub(s.after, column))

        f.loop(low, high, 1, [], tile)
        f.ret()

    # ---- columns in lanes

    def columns(self, start: Value, left: Value) -> None:
        """Fold neighbouring columns, `left` of which are there."""
        f, s = self.f, self.s
        if s.after % s.lanes == 0:
            self.block(start, None)
        elif s.after < s.lanes:
            self.block(start, f.lane_mask(s.after, s.lanes))
        else:
            whole = f.icmp("sge", left, s.lanes)
            f.if_(whole, lambda: self.block(start, None), lambda: self.block(start, f.lane_mask(left, s.lanes)))

    def block(self, start: Value, mask: Value | None) -> None:
        """Walk down the axis with a running value per column."""
        f, s = self.f, self.s

        def step(k: Value, carried: tuple[Value, ...]) -> list[Value]:
            (before,) = carried
            turn = f.isub(s.size - 1, k) if s.reverse else k
            where = f.iadd(start, f.imul(turn, s.after))
            given = [load_lanes(f, b, where, s.dtype, s.lanes, mask=mask) for b in self.buffers[:-1]]
            value = f.fma(given[0], before, given[1]) if s.combine == "linear" else self.join(before, given[0])
            store_lanes(f, value, self.buffers[-1], where, s.dtype, mask=mask)
            return [value]

        f.loop(0, s.size, 1, [self.nothing(s.lanes)], step)

    # ---- rows

    def row(self, start: Value) -> None:
        """Fold a row, vector after vector; what is left over comes last, in the direction of the fold."""
        f, s = self.f, self.s
        rest = s.size % s.lanes
        whole = s.size - rest

        def step(k: Value, carried: tuple[Value, ...]) -> list[Value]:
            at = f.isub(s.size - s.lanes, k) if s.reverse else k
            return [self.vector(f.iadd(start, at), carried[0], None)]

        (last,) = f.loop(0, whole, s.lanes, [self.nothing(1)], step)
        if rest:
            self.vector(f.iadd(start, 0 if s.reverse else whole), last, f.lane_mask(rest, s.lanes))

    def vector(self, where: Value, before: Value, mask: Value | None) -> Value:
        """Fold the elements of a vector onto what came before it; return the running value behind them."""
        f, s = self.f, self.s
        nothing = self.nothing(s.lanes)
        value = load_lanes(f, self.buffers[0], where, s.dtype, s.lanes, mask=mask)
        if mask is not None and s.lanes > 1:
            value = f.select(mask, value, nothing)
        reach = 1
        while reach < s.lanes:
            value = self.join(self.moved(value, nothing, reach), value)
            reach *= 2
        last = value if s.lanes == 1 else f.extract(value, 0 if s.reverse else s.lanes - 1)
        store_lanes(f, self.join(f.splat(before, s.lanes), value), self.buffers[-1], where, s.dtype, mask=mask)
        return self.join(before, last)

    def moved(self, value: Value, fill: Value, by: int) -> Value:
        """Return the lanes moved by some places in the direction of the fold, `fill` coming in."""
        lanes = self.s.lanes
        if self.s.reverse:
            return self.f.shuffle(value, fill, [k + by for k in range(lanes)])
        return self.f.shuffle(fill, value, [lanes - by + k for k in range(lanes)])

    def join(self, before: Value, value: Value) -> Value:
        """Join a running value and one that comes after it."""
        return scalars.emit(self.f, SCALARS[self.s.combine], [before, value], self.s.dtype)

    def nothing(self, lanes: int) -> Value:
        """Return the value that joining leaves alone, to the bit: -0.0 for sums of floats."""
        s = self.s
        kind = compute_type(s.dtype, lanes)
        if s.combine in ("sum", "prod", "linear"):
            return const(1 if s.combine == "prod" else -0.0 if kind.is_float and s.combine == "sum" else 0, kind)
        top = s.combine in ("max", "logaddexp")
        if s.dtype.is_float:
            return const(float("-inf") if top else float("inf"), kind)
        if s.dtype.kind == "uint":
            return const(0 if top else (1 << s.dtype.bits) - 1, kind)
        half = 1 << (s.dtype.bits - 1)
        return const(-half if top else half - 1, kind)
