"""What a matrix product kernel does with finished sums: a loop over a tile in scratch memory while it is in L1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from treadle.codegen.llvm import I64, PTR, Function, Module, Value, VType, compute_type, const, storage_type
from treadle.codegen.memory import narrow
from treadle.schedule.matmul import MatmulProblem, MatmulSchedule, Matrix


class Epilogue(Protocol):
    """What happens to finished sums. `emit` is called once or twice per kernel, in a loop over vectors of a tile."""

    @property
    def num_buffers(self) -> int:
        """How many buffers follow A and B."""
        ...

    def emit(
        self,
        f: Function,
        buffers: Sequence[Value],
        batch: Value,
        row: Value,
        column: Value,
        acc: Value,
        mask: Value | None,
    ) -> None:
        """Compute and store the elements (batch, row, column ... column + lanes) from their sums `acc`.

        Lanes where the mask is false must touch no memory; no mask means all lanes. `batch` counts through all
        batch axes.
        """
        ...


@dataclass(frozen=True)
class Store:
    """The plain epilogue: C takes the sums, converted to its dtype, at whatever strides it has."""

    problem: MatmulProblem
    num_buffers: int = 1

    def emit(
        self,
        f: Function,
        buffers: Sequence[Value],
        batch: Value,
        row: Value,
        column: Value,
        acc: Value,
        mask: Value | None,
    ) -> None:
        c, kind = self.problem.c, storage_type(self.problem.c.dtype)
        at = f.iadd(batch_offset(f, self.problem, c, batch), f.iadd(f.imul(row, c.row), f.imul(column, c.column)))
        pointer, value = f.gep(buffers[0], at, kind), narrow(f, acc, c.dtype)
        if c.column != 1 and acc.type.lanes > 1:
            lanes = acc.type.lanes
            apart = f.mul(f.iota(lanes), const(c.column, I64.with_lanes(lanes)))
            f.scatter(value, f.gep(pointer, apart, kind), mask)
        elif mask is None:
            f.store(value, pointer)
        else:
            f.masked_store(value, pointer, mask)


def batch_offset(f: Function, problem: MatmulProblem, matrix: Matrix, batch: Value) -> Value:
    """Offset of the matrix of batch number `batch`, in elements."""
    offset = const(matrix.offset, I64)
    inner = 1
    for size, stride in reversed(list(zip(problem.batch, matrix.batch, strict=True))):
        index = f.idiv(batch, inner)
        if inner * size < problem.num_batches:
            index = f.imod(index, size)
        offset = f.iadd(offset, f.imul(index, stride))
        inner *= size
    return offset


def finisher(module: Module, name: str, schedule: MatmulSchedule, epilogue: Epilogue | None) -> Function:
    """A function (slots, args, sums, batch, row, column, rows, columns): the epilogue, or the plain store, of a tile.

    Rows of sums are `schedule.width` apart. An epilogue counts batches, rows and columns as in the problem asked for,
    the plain store as in the schedule's.
    """
    lanes, swapped, fold = schedule.lanes, schedule.swapped and epilogue is not None, schedule.fold if epilogue else 0
    after = epilogue or Store(schedule.problem)
    elem = compute_type(schedule.problem.dtype)
    numbers = ("batch", "row", "column", "rows", "columns")
    f = module.function(
        name, [("slots", PTR), ("args", PTR), ("sums", PTR), *((x, I64) for x in numbers)], internal=True
    )
    _, _, sums, batch, row, column, rows, columns = f.params
    buffers = [f.buffer(2 + i) for i in range(after.num_buffers)]

    def emit(r: Value, c: Value, acc: Value, mask: Value | None) -> None:
        number = batch
        if swapped:
            r, c = c, r
        if fold:
            number, r = f.idiv(r, fold), f.imod(r, fold)
        after.emit(f, buffers, number, r, c, acc, mask)

    def elements(line: Value, r: Value) -> None:
        """One element at a time: neighbours here are not neighbours in a row of the problem asked for."""

        def element(j: Value, _: tuple[Value, ...]) -> None:
            acc = f.splat(f.load(f.gep(line, j, elem), elem), lanes)
            emit(r, f.iadd(column, j), acc, f.lane_mask(1, lanes))

        f.loop(0, columns, 1, [], element)

    def vectors(line: Value, r: Value) -> None:
        whole = schedule.problem.n % lanes == 0 and schedule.nc % lanes == 0
        finish_row(
            f, line, columns, elem.with_lanes(lanes), lambda j, acc, mask: emit(r, f.iadd(column, j), acc, mask), whole
        )

    def one_row(i: Value, _: tuple[Value, ...]) -> None:
        line: Value = f.gep(sums, f.imul(i, schedule.width), elem)
        finish_row: Callable[[Value, Value], None] = elements if swapped else vectors
        finish_row(line, f.iadd(row, i))

    f.loop(0, rows, 1, [], one_row)
    f.ret()
    return f


def finish_row(
    f: Function,
    line: Value,
    columns: Value,
    kind: VType,
    emit: Callable[[Value, Value, Value | None], None],
    whole: bool,
) -> None:
    """Call `emit(column, sums, mask)` for every vector of a row of sums; `whole` promises that all are full."""
    lanes, elem = kind.lanes, kind.with_lanes(1)

    def vector(j: Value, _: tuple[Value, ...]) -> None:
        emit(j, f.load(f.gep(line, j, elem), kind), None)

    def tail() -> None:
        emit(full, f.load(f.gep(line, full, elem), kind), f.lane_mask(f.isub(columns, full), lanes))

    full = f.and_(columns, -lanes)
    f.loop(0, full, lanes, [], vector)
    if not whole:
        f.if_(f.icmp("slt", full, columns), tail)
