"""How a matrix product runs: register tile, blocking, packing. A function of the problem and the CPU's description.

Each element of C is one chain of fused multiply-adds in the order of k (or, as a dot product, one chain per vector
lane), so neither the blocking nor how tiles are dealt to threads changes a bit of the result.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from treadle.schedule.matmul_blocking import Cpu, PackA, PackB, balanced, blockings, packing
from treadle.schedule.matmul_problem import (
    MatmulProblem,
    Matrix,
    dense,
    fold_batch,
    merge_batches,
    settle_strides,
)

__all__ = [
    "Cpu",
    "DotSchedule",
    "MatmulProblem",
    "MatmulSchedule",
    "Matrix",
    "TileSchedule",
    "balanced",
    "dense",
    "schedule_matmul",
]


@dataclass(frozen=True)
class TileSchedule:
    """A product by register tiles. Parallel tiles are batches x column blocks x row panels, row panels fastest.

    Args:
        problem: what is computed, after `swapped` and `fold`.
        swapped: whether the problem is the transposed one of what was asked.
        fold: if not 0, the batch was folded into the rows, this many rows each.
        direct: whether the register tile is stored straight to C; else it goes through scratch memory and an epilogue.
        lanes: elements of a vector register.
        rows: most rows of a register tile. Row panels have this many or one less.
        vectors: vectors in a row of a register tile.
        kc: k per block; sums of all but the last block are partial.
        nc: columns per block, a multiple of the tile's.
        pack_a: "rows" widens rows, "strip" puts columns of a group of row panels side by side, "no" reads A in place.
        pack_b: "panels" puts the rows of a column panel side by side, "no" reads B in place.
        group: row panels of A packed at a time.
        segment: most row panels between two packings of B (bounds the partial sums kept in scratch memory).
        unroll: k steps per turn of the innermost loop.
        prefetch: elements ahead in B to ask for, 0 for none.
        prefetch_c: whether to ask for each tile of C before its sums begin.
    """

    problem: MatmulProblem
    swapped: bool
    fold: int
    direct: bool
    lanes: int
    rows: int
    vectors: int
    kc: int
    nc: int
    pack_a: PackA
    pack_b: PackB
    group: int
    segment: int
    unroll: int = 1
    prefetch: int = 0
    prefetch_c: bool = False

    @property
    def width(self) -> int:
        """Columns of a register tile."""
        return self.vectors * self.lanes

    @cached_property
    def row_panels(self) -> tuple[tuple[int, int], ...]:
        """The balanced split of the rows: (panels, rows in each), larger ones first."""
        return balanced(self.problem.m, self.rows)

    @property
    def num_row_panels(self) -> int:
        """Row panels of one product."""
        return sum(count for count, _ in self.row_panels)

    @property
    def num_column_blocks(self) -> int:
        """Column blocks of one product."""
        return -(-self.problem.n // self.nc)

    @property
    def num_full_panels(self) -> int:
        """Column panels of one product that have all `vectors`."""
        return -(-self.problem.n // self.lanes) // self.vectors

    @property
    def tail_vectors(self) -> int:
        """Vectors in the last column panel if they are fewer than `vectors`, else 0."""
        return -(-self.problem.n // self.lanes) % self.vectors

    @property
    def num_k_blocks(self) -> int:
        """Blocks of k; one also when k is 0."""
        return max(1, -(-self.problem.k // self.kc))

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return self.problem.num_batches * self.num_column_blocks * self.num_row_panels

    # ---- scratch memory, in elements of the compute dtype: packed B, packed A, tiles; each in whole cache lines

    @property
    def packed_b_size(self) -> int:
        """Elements of the packed block of B; transposing may write one vector of rows too many."""
        if self.pack_b == "no":
            return 0
        columns = min(self.nc, -(-self.problem.n // self.lanes) * self.lanes)
        return _line(columns * self.kc + self.width * self.lanes)

    @property
    def packed_a_pitch(self) -> int:
        """Distance of the rows of A packed as rows, of the columns of A packed as a strip.

        An odd number of vectors, lest they all fall on a few sets of L1.
        """
        size = self.kc if self.pack_a == "rows" else self.group * self.rows
        return (-(-size // self.lanes) | 1) * self.lanes

    @property
    def packed_a_size(self) -> int:
        """Elements of the packed part of A."""
        if self.pack_a == "no":
            return 0
        return _line(self.packed_a_pitch * (self.group * self.rows if self.pack_a == "rows" else self.kc))

    @property
    def num_scratch_tiles(self) -> int:
        """Register tiles kept in scratch memory."""
        if self.direct:
            return 0
        if self.num_k_blocks == 1:
            return 1
        return min(self.segment, self.num_row_panels) * -(-self.nc // self.width)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        tiles = _line(self.num_scratch_tiles * self.rows * self.width)
        return (self.packed_b_size + self.packed_a_size + tiles) * self.problem.dtype.itemsize

    def __str__(self) -> str:
        words = [
            f"tile {self.rows}x{self.width}",
            f"kc {self.kc}",
            f"nc {self.nc}",
            f"A {'in place' if self.pack_a == 'no' else 'packed in ' + self.pack_a}",
            f"B {'in place' if self.pack_b == 'no' else 'packed in ' + self.pack_b}",
            *([] if self.direct else ["epilogue"]),
        ]
        return _describe(self, words)


@dataclass(frozen=True)
class DotSchedule:
    """A product with few rows, by dot products along contiguous k. Parallel tiles are batches x column blocks.

    Args:
        problem: what is computed, after `swapped` and `fold`.
        swapped: whether the problem is the transposed one of what was asked.
        fold: if not 0, the batch was folded into the rows, this many rows each.
        lanes: elements of a vector register.
        rows: most rows of a group of dot products.
        columns: columns of a group of dot products.
        nc: columns per block.
        pack_a: whether A is first copied to where k is contiguous.
        prefetch: elements ahead in B to ask for, 0 for none.
    """

    problem: MatmulProblem
    swapped: bool
    fold: int
    lanes: int
    rows: int
    columns: int
    nc: int
    pack_a: bool
    prefetch: int = 0

    @property
    def row_panels(self) -> tuple[tuple[int, int], ...]:
        """The balanced split of the rows: (panels, rows in each), larger ones first."""
        return balanced(self.problem.m, self.rows)

    @property
    def num_column_blocks(self) -> int:
        """Column blocks of one product."""
        return -(-self.problem.n // self.nc)

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return self.problem.num_batches * self.num_column_blocks

    @property
    def packed_a_pitch(self) -> int:
        """Distance of the rows of packed A."""
        return -(-max(self.problem.k, 1) // self.lanes) * self.lanes

    @property
    def packed_a_size(self) -> int:
        """Elements of packed A."""
        return _line(self.problem.m * self.packed_a_pitch) if self.pack_a else 0

    @property
    def width(self) -> int:
        """Distance of the rows of sums in scratch memory; whole vectors of them are read."""
        return -(-self.nc // self.lanes) * self.lanes

    @property
    def sums_start(self) -> int:
        """Where sums begin in scratch memory. A group that reaches back over the block before writes in front of it."""
        return self.packed_a_size + _line(self.columns)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        return (self.sums_start + _line(self.problem.m * self.width)) * self.problem.dtype.itemsize

    def __str__(self) -> str:
        words = [
            f"dots {self.rows}x{self.columns}",
            f"nc {self.nc}",
            *(["A packed"] if self.pack_a else []),
            *([f"B {self.prefetch} ahead"] if self.prefetch else []),
        ]
        return _describe(self, words)


MatmulSchedule = TileSchedule | DotSchedule


def _describe(schedule: MatmulSchedule, words: list[str]) -> str:
    turned = ["transposed"] if schedule.swapped else []
    folded = [f"batches of {schedule.fold} rows folded"] if schedule.fold else []
    return f"{schedule.problem}; {', '.join([*words, *turned, *folded])}; {schedule.num_tiles} tiles"


def _line(elements: int) -> int:
    """Elements rounded up so that what follows is aligned to a cache line."""
    return -(-elements // 16) * 16


def schedule_matmul(problem: MatmulProblem, cpu: Cpu, *, fused: bool = False) -> MatmulSchedule:
    """The schedule for a problem on a CPU.

    `fused` says that an epilogue other than the plain store follows; where C lies is then ignored.
    """
    problem = merge_batches(problem, fused=fused)
    fold = 0
    if (folded := fold_batch(problem, fused=fused)) is not None:
        fold, problem = problem.m, folded
    problem = settle_strides(problem)
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    # Vectors run along the columns of C. Few columns waste them; C may also be stored by columns.
    narrow = problem.n <= lanes // 4 and problem.n < problem.m
    swapped = narrow or (not fused and problem.c.column != 1 and problem.c.row == 1 and problem.m > lanes // 4)
    if swapped:
        problem = settle_strides(problem.transposed)
    along_k = problem.b.row == 1 and (problem.b.column != 1 or problem.n == 1)
    # Turning B for register tiles costs as much as fifty rows; adding up lanes, as much as a few vectors of k.
    if along_k and problem.m <= 48 and problem.k >= lanes * (4 if problem.m <= 8 else 8):
        return _schedule_dots(problem, cpu, swapped=swapped, fold=fold)
    return _schedule_tiles(problem, cpu, swapped=swapped, fold=fold, fused=fused)


def _schedule_dots(problem: MatmulProblem, cpu: Cpu, *, swapped: bool, fold: int) -> DotSchedule:
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    rows = balanced(problem.m, 4 if cpu.num_vector_registers >= 32 else 3)[0][1]
    columns, prefetch = _dot_columns(problem, cpu, rows, lanes)
    groups = -(-problem.n // columns)
    blocks = min(groups, max(-(-16 // problem.num_batches), -(-problem.n // 512)))
    nc = -(-groups // blocks) * columns
    pack_a = problem.a.column != 1
    return DotSchedule(problem, swapped, fold, lanes, rows, columns, nc, pack_a, prefetch)


def _dot_columns(problem: MatmulProblem, cpu: Cpu, rows: int, lanes: int) -> tuple[int, int]:
    """How many columns of B are read side by side, and how many elements ahead in B are asked for.

    From the caches, several columns at a time are best: each vector of A is used for all of them. But a prefetcher
    that meets so many streams, each as short as k, falls behind, and memory gives half of what it could. So what is
    too large to be left in L2 from the last time is asked for in the order of memory, some way ahead. For a single row
    of A there is a better way: one column at a time is one stream, which hardware follows by itself. One chain of
    multiply-adds keeps up with memory if vectors of B are not too short, and A must stay in L1, as it is read for
    each column.
    """
    b, size = problem.b, problem.b.dtype.itemsize
    columns = 4
    while columns < 8 and rows * columns * 2 + rows + 1 <= cpu.num_vector_registers:
        columns *= 2
    columns = min(columns, problem.n)
    matrices = math.prod(n for n, stride in zip(problem.batch, b.batch, strict=True) if stride)
    b_nbytes, a_nbytes = matrices * problem.n * problem.k * size, problem.m * problem.k * problem.dtype.itemsize
    if b.column != problem.k or b_nbytes <= cpu.l2 // 4 or a_nbytes > cpu.l2 // 4:
        return columns, 0
    if problem.m == 1 and b_nbytes > cpu.l2 and a_nbytes <= cpu.l1 // 4 and lanes * size >= 32:
        return 1, 0
    return columns, max(columns * problem.k, _AHEAD // size)


def _schedule_tiles(problem: MatmulProblem, cpu: Cpu, *, swapped: bool, fold: int, fused: bool) -> TileSchedule:
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    direct = not fused and problem.c.column == 1 and problem.c.dtype is problem.dtype
    pack_a, pack_b = packing(problem, cpu)
    tile = min(blockings(problem, cpu, pack_a, pack_b), key=lambda t: t.cycles)
    rows, kc, nc, size = tile.rows, tile.kc, tile.nc, problem.dtype.itemsize
    group = max(1, min(-(-problem.m // rows), cpu.l2 // 4 // (rows * kc * size), -(-128 // rows)))
    segment = max(1, (4 << 20) // (rows * nc * size))
    unroll = 2 if problem.flops > _HOT_FLOPS and problem.k > 1 else 1
    return TileSchedule(
        problem, swapped, fold, direct, lanes, rows, tile.vectors, kc, nc, pack_a, pack_b, group, segment, unroll
    )


_AHEAD = 16 << 10  # bytes; what memory delivers while it is waited for, and then some
_HOT_FLOPS = 1 << 25  # from here on a few percent of time repay a few milliseconds of compilation
