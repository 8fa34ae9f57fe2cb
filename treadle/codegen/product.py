"""Matrix products with fused work: the statements of a `ProductSchedule` run on every vector of a finished tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treadle.schedule.product import Following, ProductSchedule

from .llvm import Function, Value
from .loops import Step, Writer
from .matmul import emit_matmul


@dataclass(frozen=True)
class Finish:
    """The epilogue of a product: its stores, with the sums in a register."""

    after: Following
    rows: int = 0  # of one batch, where rows are counted anew in each

    @property
    def num_buffers(self) -> int:
        """Buffers behind the two that are multiplied."""
        return len(self.after.buffers) - 2

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
        """Write the stores for the lanes (batch, row, column ...)."""
        s = self.after
        writer = Writer(f, dict(zip(s.buffers[2:], buffers, strict=True)))
        writer.registers[s.acc] = acc
        writer.known[-1][s.row] = f.iadd(f.imul(batch, self.rows), row)
        writer.step = Step(s.column, column, acc.type.lanes, mask)
        writer.block(s.stores)


def emit_product(schedule: ProductSchedule, name: str, rows: int) -> str:
    """Return the module text of a product's kernel; `rows` are those of one batch of the problem asked for."""
    return emit_matmul(schedule.matmul, name, Finish(schedule.after, rows) if schedule.after.stores else None)
