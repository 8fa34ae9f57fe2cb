"""Sorting rows: a tile is a row. Keys that are integers in the order wanted are sorted together with their positions.

Few elements are sorted by insertion. Many are by digits of 8 bits, least significant first, each pass stable (Knuth,
TAOCP 3, 5.2.5). Where only the first few of many are wanted, those that cannot be among them are dropped first, by
the highest digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from treadle.core import DType
from treadle.ir import Get, Graph
from treadle.ops.sort import Sort

DIGIT = 8  # bits sorted by in one pass
FEW = 40  # elements from which on passes over digits are faster than insertion
FRONT = 64  # bytes before the first word
LONG = 8192  # elements from which on dropping looks at more bits, in a table that is no longer small beside the row


@dataclass(frozen=True)
class SortSchedule:
    """A decided sorting kernel.

    Args:
        rows: rows to sort, each a parallel tile.
        size: elements of a row.
        count: how many of the first are wanted.
        dtype: of the elements.
        descending: whether the greatest come first.
        slots: the buffers of the values and of the positions; None for one that nobody reads. Buffer 0 is the operand.
        select: bits by which elements are dropped before sorting; 0 for none.
    """

    rows: int
    size: int
    count: int
    dtype: DType
    descending: bool
    slots: tuple[int | None, int | None]
    select: int

    @property
    def key_bits(self) -> int:
        """Bits of a key."""
        return max(self.dtype.bits, 8)

    @property
    def packed(self) -> bool:
        """Whether key and position are one 64-bit word."""
        return self.key_bits <= 32

    @property
    def passes(self) -> int:
        """Digits of a key."""
        return self.key_bits // DIGIT

    @property
    def num_tiles(self) -> int:
        """Parallel tiles."""
        return self.rows if self.count else 0

    @property
    def keys_nbytes(self) -> int:
        """Bytes of a row's keys (or words) in scratch memory."""
        return _up(8 * self.size, 64)

    @property
    def row_nbytes(self) -> int:
        """Bytes of scratch memory for one copy of a row's words, with room for a word before the first."""
        return FRONT + self.keys_nbytes + (0 if self.packed else _up(4 * self.size, 64))

    @property
    def table_nbytes(self) -> int:
        """Bytes of scratch memory for counting digits."""
        return 4 * max(self.passes << DIGIT, 1 << self.select)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        return 2 * self.row_nbytes + self.table_nbytes

    @property
    def flops(self) -> int:
        """Operations: a few on every element, and a few in every pass."""
        sorted_ = self.count * 2 if self.select else self.size
        return self.rows * (6 * self.size + 3 * self.passes * sorted_)

    def __str__(self) -> str:
        what = f"first {self.count} of " if self.count < self.size else ""
        how = f"{self.rows} rows, {what}{self.size} {self.dtype.short}{' descending' if self.descending else ''}"
        drop = f", by {self.select} bits first" if self.select else ""
        word = "words of key and position" if self.packed else "keys beside positions"
        return f"sort {how}: {word}, {self.passes} digits{drop}, buffers {self.slots}; {self.num_tiles} tiles"


def schedule_sort(body: Graph) -> SortSchedule:
    """Return the schedule of a group that is one sort of a dense operand; its outputs are some of its results."""
    slots: list[int | None] = [None, None]
    for k, out in enumerate(body.outputs, 1):
        assert isinstance(out.op, Get)
        slots[out.op.index] = k
    node = body.outputs[0].args[0]
    op, x = node.op, node.args[0]
    assert isinstance(op, Sort)
    size = x.shape[-1]
    bits = max(x.dtype.bits, 8)
    few_wanted = op.count * 4 <= size and size > FEW and bits > 8
    select = min(bits, 12 if size >= LONG else 8) if few_wanted else 0
    rows = math.prod(x.shape[:-1])
    return SortSchedule(rows, size, op.count, x.dtype, op.descending, (slots[0], slots[1]), select)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
