"""How a convolution runs: register tiles of neighbouring pixels times channels, over all taps, without im2col.

A block of the image is copied to scratch memory, channels last, with its padding; so are the weights of some output
channels. Then every register tile adds up all taps and channels in registers. Each result is one chain of fused
multiply-adds over taps, then channels, so neither the blocking nor how tiles are dealt to threads changes a bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from treadle.ir import Graph

from .conv_problem import AXES, AxisPhase, ConvProblem, conv_of, conv_problem
from .matmul import Cpu
from .product import Following, following

Box = tuple[int, int, int, int]  # images, then spatial axes
Phase = tuple[AxisPhase, ...]


@dataclass(frozen=True)
class Region:
    """A block of x in scratch memory: pixels `gaps` apart in x, the strides between neighbours in it, its elements.

    `steps` and `taps` are the distances, in elements, of what neighbouring results and neighbouring taps meet.
    """

    gaps: tuple[int, ...]
    extents: Box
    pitches: Box
    steps: Box
    taps: tuple[int, ...]
    size: int


def region_of(problem: ConvProblem, block: Box, channels: int, lanes: int) -> Region:
    """Return the region that a block of results meets, of `channels` channels each."""
    phases = problem.axis_phases
    gaps = [math.gcd(p[0].x_step, p[0].x_tap if any(q.taps > 1 for q in p) else 0) for p in phases]
    steps = [p[0].x_step // g for p, g in zip(phases, gaps, strict=True)]
    taps = [p[0].x_tap // g for p, g in zip(phases, gaps, strict=True)]
    reach = [
        (max(q.taps for q in p) - 1) * t if any(q.taps > 1 for q in p) else 0 for p, t in zip(phases, taps, strict=True)
    ]
    extents = [(b - 1) * s + r + 1 for b, s, r in zip(block[1:], steps, reach, strict=True)]
    # Few channels lie without gaps, so that taps along a row are one run; many at odd lines, lest they share L1's sets.
    line = 64 // problem.dtype.itemsize
    pitch = channels if channels < 2 * line else (-(-channels // line) | 1) * line
    pitches = [0, 0, 0, pitch]
    for a in (2, 1, 0):
        pitches[a] = pitches[a + 1] * extents[a]
    size = pitches[0] * block[0] + lanes * pitch + lanes  # copies may go on behind the end
    return Region(
        tuple(gaps),
        (block[0], extents[0], extents[1], extents[2]),
        (pitches[0], pitches[1], pitches[2], pitches[3]),
        (pitches[0], steps[0] * pitches[1], steps[1] * pitches[2], steps[2] * pitch),
        tuple(t * p for t, p in zip(taps, pitches[1:], strict=True)),
        -(-size // line) * line,
    )


@dataclass(frozen=True)
class ConvSchedule:
    """Parallel tiles are phases x groups x column blocks x blocks of pixels, blocks of pixels fastest.

    Args:
        problem: what is computed.
        direct: whether register tiles are stored straight to the result; else they go through an epilogue.
        lanes: elements of a vector register.
        box: images and pixels of a register tile.
        vectors: vectors in a row of a register tile.
        block: images and pixels whose part of x is copied together, multiples of the box's.
        panels: column panels whose weights are packed together.
        unroll: steps per turn of the innermost loop.
    """

    problem: ConvProblem
    direct: bool
    lanes: int
    box: Box
    vectors: int
    block: Box
    panels: int
    unroll: int

    @property
    def width(self) -> int:
        """Columns of a register tile."""
        return self.vectors * self.lanes

    @property
    def num_panels(self) -> int:
        """Column panels of one group, the last of which may be narrower."""
        return -(-self.problem.columns // self.width)

    @property
    def tail_vectors(self) -> int:
        """Vectors of the last column panel."""
        return -(-self.problem.columns // self.lanes) - (self.num_panels - 1) * self.vectors

    @property
    def num_column_blocks(self) -> int:
        """Column blocks of one group."""
        return -(-self.num_panels // self.panels)

    @cached_property
    def region(self) -> Region:
        """Where the copy of x lies."""
        return region_of(self.problem, self.block, self.problem.inputs, self.lanes)

    @property
    def merged(self) -> bool:
        """Whether the taps along a row and their channels are one run of elements."""
        return self.region.taps[2] == self.problem.channels and not self.problem.paired

    def num_blocks(self, phase: Phase) -> tuple[int, ...]:
        """Return the blocks of a phase along images and spatial axes."""
        counts = (self.problem.images, *(a.count for a in phase))
        return tuple(-(-n // b) for n, b in zip(counts, self.block, strict=True))

    def num_steps(self, phase: Phase) -> int:
        """Return the length of a phase's sums."""
        return math.prod(a.taps for a in phase) * self.problem.channels

    def phase_tiles(self, phase: Phase) -> int:
        """Return the parallel tiles of a phase."""
        return self.problem.groups * self.num_column_blocks * math.prod(self.num_blocks(phase))

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return sum(self.phase_tiles(p) for p in self.problem.phases)

    @property
    def packed_size(self) -> int:
        """Elements of the packed weights of a column block."""
        steps = max(self.num_steps(p) for p in self.problem.phases)
        return _line(self.panels * self.width * steps + self.lanes * self.width)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        tile = 0 if self.direct else _line(math.prod(self.box) * self.width)
        return (self.packed_size + self.region.size + tile) * self.problem.dtype.itemsize

    def __str__(self) -> str:
        box, block = ("x".join(map(str, b)) for b in (self.box, self.block))
        words = [f"tile {box} by {self.width}", f"block {block}", f"{self.panels} panels"]
        words += [] if self.direct else ["epilogue"]
        return f"{self.problem}; {', '.join(words)}; {self.num_tiles} tiles"


def _line(elements: int) -> int:
    """Elements rounded up so that what follows is aligned to a cache line."""
    return -(-elements // 16) * 16


@dataclass(frozen=True)
class FusedConvSchedule:
    """A decided convolution with what follows it."""

    conv: ConvSchedule
    after: Following
    flops: int
    nbytes: int

    def __str__(self) -> str:
        return f"{self.conv}{self.after}"


def schedule_fused_conv(body: Graph, cpu: Cpu) -> FusedConvSchedule:
    """Return the schedule of a group whose one convolution's elements all other results follow (see `passes.fuse`)."""
    node = conv_of(body)
    problem, x, w = conv_problem(node)
    plain = body.outputs == (node,) and node.dtype is problem.dtype
    after = following(body, node, (x, w), plain=plain)
    conv = schedule_conv(problem, cpu, fused=not plain)
    nbytes = sum(n.type.nbytes for n in (*body.inputs, *body.outputs))
    return FusedConvSchedule(conv, after, problem.flops + after.cost * node.type.size, nbytes)


def schedule_conv(problem: ConvProblem, cpu: Cpu, *, fused: bool = False) -> ConvSchedule:
    """Return the schedule of a convolution; `fused` says that more than a plain store follows."""
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    counts = tuple(max(a.count for a in axis) for axis in problem.axis_phases)
    steps = max(math.prod(a.taps for a in p) for p in problem.phases) * problem.channels
    _, box, vectors = min(
        (_cycles(problem, counts, box, vectors, lanes, steps), box, vectors)
        for vectors in range(1, min(-(-problem.columns // lanes), 6) + 1)
        for box in boxes((problem.images, *counts), (cpu.num_vector_registers - 1 - vectors) // vectors)
    )
    panels = -(-problem.columns // (lanes * vectors))
    # The packed weights of a column block take up to five eighths of L2, the copy of x a quarter.
    fit = max(cpu.l2 * 5 // 8 // (max(steps, 1) * lanes * vectors * problem.dtype.itemsize), 1)
    block = _block(problem, counts, box, cpu)
    pixels = math.prod(-(-n // b) for n, b in zip((problem.images, *counts), block, strict=True))
    blocks = max(-(-panels // fit), min(panels, -(-16 // (pixels * problem.groups * len(problem.phases)))))
    # Along a row few steps: the loop is short and one more turn of it costs as much as a longer body saves.
    unroll = 2 if problem.channels % 2 == 0 and problem.flops > _HOT_FLOPS else 1
    if problem.paired:
        along = {p.taps for p in problem.axis_phases[2]}
        unroll = max(along) if len(along) == 1 and 0 < max(along) <= _MOST_UNROLLED else 1
    return ConvSchedule(problem, not fused, lanes, box, vectors, block, -(-panels // blocks), unroll)


_MOST_UNROLLED = 8
_HOT_FLOPS = 1 << 25  # from here on a few percent of time repay a few milliseconds of compilation


def boxes(counts: tuple[int, ...], most: int) -> Iterator[Box]:
    """Yield boxes of at most `most` pixels: an axis may be cut only where those inside it are whole or short."""
    n, d, h, w = counts
    for bw in range(1, min(w, most) + 1):
        for bh in range(1, min(h, most // bw) + 1):
            yield 1, 1, bh, bw
            if bh == h and bw == w:
                for bd in range(1, min(d, most // (bw * bh)) + 1):
                    if bd > 1:
                        yield 1, bd, bh, bw
                    if bd == d:
                        yield from ((bn, bd, bh, bw) for bn in range(2, min(n, most // (bw * bh * bd)) + 1))


def pieces(count: int, size: int) -> list[tuple[int, int]]:
    """Return how many pieces of which size a count is cut into: whole ones, and what is left."""
    whole, rest = divmod(count, size)
    return [(whole, size)] * (whole > 0) + [(1, rest)] * (rest > 0)


def tile_cycles(rows: int, vectors: int, *, paired: bool = False) -> float:
    """Return the cycles of a step of a register tile.

    Two multiply-adds and two loads per cycle with a latency of four; small terms for what comes from L1 and L2.
    """
    loads = (rows * vectors if paired else rows) + vectors
    return max(rows * vectors / 2, loads / 2, 4.0) + 0.04 * rows + 0.2 * vectors


def _cycles(problem: ConvProblem, counts: tuple[int, ...], box: Box, vectors: int, lanes: int, steps: int) -> float:
    """Return the cycles of all register tiles, per step of the sums."""
    columns = -(-problem.columns // lanes)
    total, kernels = 0.0, 0
    for panels, width in pieces(columns, vectors):
        for parts in itertools.product(*(pieces(n, b) for n, b in zip((problem.images, *counts), box, strict=True))):
            kernels += 1
            tiles, rows = math.prod(n for n, _ in parts), math.prod(b for _, b in parts)
            total += panels * tiles * (tile_cycles(rows, width, paired=problem.paired) + 40 / max(steps, 1))
    return total * (1 + 0.01 * (kernels - 1))


def _block(problem: ConvProblem, counts: tuple[int, ...], box: Box, cpu: Cpu) -> Box:
    """Return the block of pixels whose x is copied together: as large as fits, but enough of them to share."""
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    room = cpu.l2 // 4 // problem.dtype.itemsize
    whole = (problem.images, *counts)
    block = list(box)

    def fits(axis: int, boxes_along: int) -> bool:
        wanted = [b if a != axis else boxes_along * box[a] for a, b in enumerate(block)]
        region = region_of(problem, (wanted[0], wanted[1], wanted[2], wanted[3]), problem.inputs, lanes)
        tiles = math.prod(-(-n // b) for n, b in zip(whole, wanted, strict=True))
        return region.size <= room and (axis == AXES or tiles * problem.groups >= 32)

    for axis in (3, 2, 1, 0):
        most = -(-whole[axis] // box[axis])
        parts = next(p for p in range(1, most + 1) if p == most or fits(axis, -(-most // p)))
        block[axis] = -(-most // parts) * box[axis]
        if parts > 1:
            break
    return block[0], block[1], block[2], block[3]
