"""Running folds: a tile is a row, folded with vector prefixes, or a block of neighbouring columns, one per lane."""

from __future__ import annotations

import math
from dataclasses import dataclass

from treadle.core import DType
from treadle.ir import Graph
from treadle.ops.cumulative import Cumulative, LinearScan

from .loop_kernel import Cpu

COSTS = {"logaddexp": 40}  # flops of joining two values, where it is not 1


@dataclass(frozen=True)
class CumulativeSchedule:
    """A decided running fold of `before` x `size` x `after` elements along the middle axis.

    Args:
        combine: what joins two values; "linear" is h = a h + b of two operands.
        reverse: whether it runs from the end.
        before: rows, or groups of columns.
        size: elements along the axis.
        after: columns side by side.
        dtype: of the elements.
        lanes: elements of a step: along a row where there is one column, else neighbouring columns.
        order: for each buffer (operands, then result) the number of the group's operand or result.
    """

    combine: str
    reverse: bool
    before: int
    size: int
    after: int
    dtype: DType
    lanes: int
    order: tuple[int, ...]

    @property
    def along_rows(self) -> bool:
        """Whether lanes lie along the axis: prefixes are made inside a vector."""
        return self.after == 1 and self.combine != "linear"

    @property
    def blocks(self) -> int:
        """Blocks of columns."""
        return 1 if self.along_rows else -(-self.after // self.lanes)

    @property
    def num_tiles(self) -> int:
        """Parallel tiles."""
        return self.before * self.blocks if self.size else 0

    @property
    def flops(self) -> int:
        """Arithmetic operations; a vector prefix joins in as many steps as the lanes can be halved."""
        steps = self.lanes.bit_length() if self.along_rows else 1
        return self.before * self.size * self.after * steps * COSTS.get(self.combine, 1)

    def __str__(self) -> str:
        how = f"rows, prefixes of {self.lanes}" if self.along_rows else f"{self.lanes} columns at a time"
        back = " from the end" if self.reverse else ""
        shape = f"{self.before}x{self.size}x{self.after} {self.dtype.short}"
        return f"cumulative {self.combine}{back}: {shape} by {how}, buffers {self.order}; {self.num_tiles} tiles"


def schedule_cumulative(body: Graph, cpu: Cpu) -> CumulativeSchedule:
    """Return the schedule of a group that is one running fold of dense operands."""
    (out,) = body.outputs
    op = out.op
    assert isinstance(op, Cumulative | LinearScan)
    combine = op.combine if isinstance(op, Cumulative) else "linear"
    size, after = out.shape[op.axis], math.prod(out.shape[op.axis + 1 :])
    vector = cpu.vector_bytes // max(out.dtype.itemsize, 4)
    along = after == 1 and combine != "linear"
    # Columns: several registers side by side hide the latency of joining.
    most = vector if along else 4 * vector
    lanes = min(most, 1 << max((size if along else after) - 1, 0).bit_length())
    order = (*(body.inputs.index(a) for a in out.args), len(body.inputs))
    return CumulativeSchedule(
        combine, op.reverse, math.prod(out.shape[: op.axis]), size, after, out.dtype, lanes, order
    )
