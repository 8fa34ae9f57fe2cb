"""How the gradient of a convolution for its weight runs: register tiles of channels in times channels out, over pixels.

A block of results is met with the part of x it reads: both are copied to scratch memory, x with its padding, channels
last. Then, for every tap, each register tile adds the outer products of x's channels and the cotangent's over all
pixels of the block to sums in scratch memory. Neither operand is transposed, and no copy of x per tap is made. Every
sum is one chain over pixels in order, so neither blocking nor how tiles are dealt to threads changes a bit.

Of a depthwise convolution channel meets channel: the rows of a register tile are then taps, not channels in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from treadle.core import DType
from treadle.ir import Graph

from .conv import Box, Region, pieces, region_of, tile_cycles
from .conv_problem import AxisPhase, ConvProblem, conv_of, conv_problem
from .matmul import Cpu


@dataclass(frozen=True)
class ConvGradSchedule:
    """Parallel tiles are groups x blocks of channels in x blocks of channels out, the last fastest.

    Args:
        problem: what is computed, its `w` the cotangent; without input dilation.
        lanes: elements of a vector register.
        rows: rows of a register tile: channels in, or taps along a row and channels in, or all taps.
        vectors: vectors in a row of a register tile.
        channels: channels in of a parallel tile, each of which meets all its columns.
        panels: column panels of a parallel tile.
        block: images and results whose parts of both operands are copied together. Axes inside one that is cut are
            whole, those outside it have one place, so that a shorter last block has no gaps.
        unroll: pixels per turn of the innermost loop.
    """

    problem: ConvProblem
    lanes: int
    rows: int
    vectors: int
    channels: int
    panels: int
    block: Box
    unroll: int

    @property
    def phase(self) -> tuple[AxisPhase, ...]:
        """Results and what they meet along each axis; there is one phase, as x is not spread out."""
        (phase,) = self.problem.phases
        return phase

    @property
    def width(self) -> int:
        """Columns of a register tile."""
        return self.vectors * self.lanes

    @property
    def columns(self) -> int:
        """Columns of a parallel tile."""
        return self.panels * self.width

    @cached_property
    def region(self) -> Region:
        """Where the copy of x lies."""
        return region_of(self.problem, self.block, self.inputs, self.lanes)

    @property
    def inputs(self) -> int:
        """Channels of x that a parallel tile copies."""
        return self.columns if self.problem.paired else self.channels

    @property
    def merged(self) -> bool:
        """Whether the taps along a row and their channels are one run of rows."""
        return is_merged(self.problem, self.channels, self.region)

    @property
    def run(self) -> int:
        """Rows that lie side by side in the copy of x."""
        return self.channels * (self.problem.kernel[2] if self.merged else 1)

    @property
    def outer_taps(self) -> tuple[int, ...]:
        """Taps along each axis that are met one after the other."""
        d, h, w = self.problem.kernel
        return d, h, 1 if self.merged else w

    @property
    def num_sums(self) -> int:
        """Elements of the sums of a parallel tile."""
        return math.prod(self.outer_taps) * self.run * self.columns

    @property
    def pixels(self) -> int:
        """Results of a block."""
        return math.prod(self.block)

    @property
    def copied(self) -> int:
        """Elements of the copy of one panel of the cotangent; it may go on for a vector of pixels behind the end."""
        return (self.pixels + self.lanes) * self.width

    @property
    def grid(self) -> tuple[int, int, int]:
        """Parallel tiles along groups, channels in and channels out."""
        p = self.problem
        return p.groups, -(-p.channels // self.channels), -(-p.columns // self.columns)

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return math.prod(self.grid)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        return (self.num_sums + self.region.size + self.panels * self.copied) * self.problem.dtype.itemsize

    def __str__(self) -> str:
        words = [f"tile {self.rows} by {self.width}", f"{self.channels} channels, {self.panels} panels at once"]
        words += [f"block {'x'.join(map(str, self.block))}", f"{self.num_tiles} tiles"]
        return f"{self.problem}; {', '.join(words)}"


@dataclass(frozen=True)
class WeightGradSchedule:
    """A decided weight gradient as a kernel."""

    conv: ConvGradSchedule
    dtype: DType  # of the result
    order: tuple[int, ...]  # for x, the cotangent and the result: the number of the group's operand or result
    flops: int
    nbytes: int

    def __str__(self) -> str:
        return str(self.conv)


def schedule_weight_grad(body: Graph, cpu: Cpu) -> WeightGradSchedule:
    """Return the schedule of a group that is one `conv_weight_grad`."""
    node = conv_of(body)
    problem, x, ct = conv_problem(node)
    order = (body.inputs.index(x), body.inputs.index(ct), len(body.inputs))
    nbytes = sum(n.type.nbytes for n in (*body.inputs, *body.outputs))
    return WeightGradSchedule(schedule_conv_grad(problem, cpu), node.dtype, order, problem.flops, nbytes)


def schedule_conv_grad(problem: ConvProblem, cpu: Cpu) -> ConvGradSchedule:
    """Return the schedule of a weight gradient without input dilation."""
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    room = cpu.l2 // problem.dtype.itemsize
    columns = -(-problem.columns // lanes)
    merged = is_merged(problem, problem.channels, region_of(problem, (1, 1, 1, 1), problem.channels, lanes))
    run = problem.channels * (problem.kernel[2] if merged else 1)
    if problem.paired:
        run = math.prod(problem.kernel)
    rows, vectors = _register_tile(run, columns, cpu.num_vector_registers, paired=problem.paired)
    channels, panels = _parallel_tile(problem, rows, vectors * lanes, room // 4, whole=merged)
    block = _block(problem, channels, panels * vectors * lanes, lanes, room // 4)
    # A row of a block always has this many pixels, unless the last one of an image's row is shorter.
    pixels = block[3] if problem.out[2] % block[3] == 0 else 1
    unroll = next(u for u in (4, 2, 1) if pixels % u == 0)
    return ConvGradSchedule(problem, lanes, rows, vectors, channels, panels, block, unroll)


TILES = 8  # parallel tiles wanted where the problem is large enough
PIXELS = 256  # of a block, wanted: so that loading and storing sums costs little


def is_merged(problem: ConvProblem, channels: int, region: Region) -> bool:
    """Whether neighbouring taps along a row meet elements that follow each other without gaps, all channels at once."""
    return not problem.paired and channels == problem.channels and problem.kernel[2] > 1 and region.taps[2] == channels


def _register_tile(run: int, columns: int, registers: int, *, paired: bool) -> tuple[int, int]:
    """Return the rows, and vectors in a row, of the register tile that needs the fewest cycles."""

    def cycles(rows: int, vectors: int) -> float:
        parts = itertools.product(pieces(run, rows), pieces(columns, vectors))
        several = 1 + 0.02 * (len(pieces(run, rows)) * len(pieces(columns, vectors)) - 1)
        return several * sum(n * m * tile_cycles(r, v, paired=paired) for (n, r), (m, v) in parts)

    shapes = ((r, v) for v in range(1, min(columns, 4) + 1) for r in range(1, min(run, (registers - 2 - v) // v) + 1))
    return min(shapes, key=lambda s: (cycles(*s), s))


def _parallel_tile(problem: ConvProblem, rows: int, width: int, room: int, *, whole: bool) -> tuple[int, int]:
    """Return the channels in and column panels of a parallel tile; `whole` says that channels in are not divided.

    There are enough tiles to share, and their sums fit; but none is so narrow that copies take longer than sums.
    """
    taps, least = math.prod(problem.kernel), max(rows, 16)
    channels, panels = problem.channels, -(-problem.columns // width)

    def good() -> bool:
        tiles = problem.groups * -(-problem.channels // channels) * -(-problem.columns // (panels * width))
        return tiles >= TILES and taps * channels * panels * width <= room

    while not good():
        divisible = not whole and channels >= 2 * least
        if panels > 1 and (panels * width > max(channels, 32) or not divisible):
            panels = -(-panels // 2)
        elif divisible:
            channels = -(-(channels // 2) // rows) * rows
        else:
            break
    return channels, panels


def _block(problem: ConvProblem, channels: int, columns: int, lanes: int, room: int) -> Box:
    """Return the block of results: as many as are wanted and fit."""
    whole = (problem.images, *problem.out)

    def fits(block: Sequence[int]) -> bool:
        inputs = columns if problem.paired else channels
        region = region_of(problem, (block[0], block[1], block[2], block[3]), inputs, lanes)
        return math.prod(block) <= PIXELS and region.size + math.prod(block) * columns <= room

    block = (1, 1, 1, 1)
    for axis in (3, 2, 1, 0):
        most = max(whole[axis], 1)
        cuts = [(*block[:axis], -(-most // parts), *block[axis + 1 :]) for parts in range(1, most + 1)]
        block = next((cut for cut in cuts if fits(cut)), block)
        if block[axis] < most:
            break
    return block[0], block[1], block[2], block[3]
