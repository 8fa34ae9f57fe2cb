"""How a convolution with few channels out runs: channels are planes, and neighbouring places of a plane are lanes.

The planes a block of results meets are copied to scratch memory with their padding. Places a stride apart, which
neighbouring results meet, follow each other there; those in between lie in planes of their own. So every tap meets
one run of elements for all results of a block, from row to row without a break, and what falls between two rows is
computed and left out. With an input dilation results fall into phases, whose rows are joined when they are stored.

Each result is one chain of fused multiply-adds over rows of taps, channels and taps along a row, in this order.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

from treadle.ir import Graph

from .conv_problem import AXES, AxisPhase, ConvProblem, conv_of, conv_problem
from .matmul import Cpu
from .product import Following, following

Block = tuple[int, int, int]


@dataclass(frozen=True)
class PlaneAxis:
    """Where along an axis of x results and taps meet, in copies of every `step`-th place.

    Place q of copy i is place `first + q * step + shifts[i]` of x. Result q of phase p meets tap t in copy i at place
    q + more, where (i, more) is `met[p][t]`.
    """

    first: int
    step: int
    shifts: tuple[int, ...]
    met: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def reach(self) -> int:
        """Places that a block of results meets behind its own."""
        return max((more for taps in self.met for _, more in taps), default=0)


def plane_axis(phases: tuple[AxisPhase, ...]) -> PlaneAxis:
    """Return the copies of an axis with these phases."""
    step = phases[0].x_step
    places = [[p.x_start + t * p.x_tap for t in range(p.taps)] for p in phases]
    first = min((at for taps in places for at in taps), default=0)
    shifts = sorted({(at - first) % step for taps in places for at in taps}) or [0]
    met = tuple(tuple((shifts.index((at - first) % step), (at - first) // step) for at in taps) for taps in places)
    return PlaneAxis(first, step, tuple(shifts), met)


@dataclass(frozen=True)
class PlanesSchedule:
    """Parallel tiles are groups x images x blocks of results, blocks fastest.

    Args:
        problem: what is computed; its strides are those of [N, C, *spatial].
        lanes: elements of a vector register.
        columns: channels out of a register tile; the last one of a group may have fewer.
        vectors: vectors of places of a register tile.
        block: results of a parallel tile along each axis, of each phase.
    """

    problem: ConvProblem
    lanes: int
    columns: int
    vectors: int
    block: Block

    @cached_property
    def axes(self) -> tuple[PlaneAxis, ...]:
        """The axes of x."""
        return tuple(plane_axis(p) for p in self.problem.axis_phases)

    @property
    def extents(self) -> Block:
        """Places of a copied plane along each axis."""
        d, h, w = (b + axis.reach for b, axis in zip(self.block, self.axes, strict=True))
        return d, h, w

    @property
    def plane(self) -> int:
        """Elements between copies of a channel; copying may go on for a vector behind the end."""
        return math.prod(self.extents) + self.lanes

    @property
    def copies(self) -> tuple[int, ...]:
        """Copies of a channel along each axis."""
        return tuple(len(axis.shifts) for axis in self.axes)

    @property
    def channel(self) -> int:
        """Elements between the copied channels."""
        return math.prod(self.copies) * self.plane

    @property
    def region_size(self) -> int:
        """Elements of the copy of x; register tiles read on behind the end."""
        return self.problem.channels * self.channel + self.vectors * self.lanes

    @property
    def periods(self) -> tuple[int, ...]:
        """Phases along each axis."""
        return tuple(len(p) for p in self.problem.axis_phases)

    @property
    def sums_plane(self) -> int:
        """Elements between the sums of one phase of one channel and the next."""
        return self.block[0] * self.extents[1] * self.extents[2] + self.lanes

    @property
    def num_sums(self) -> int:
        """Elements of the sums of a parallel tile."""
        return self.problem.columns * math.prod(self.periods) * self.sums_plane

    @property
    def weights_size(self) -> int:
        """Elements of the weights of a group, in the order register tiles read them."""
        taps = sum(math.prod(a.taps for a in phase) for phase in self.problem.phases)
        return -(-taps * self.problem.channels * self.problem.columns // 16) * 16

    def rows(self, phase: tuple[int, ...]) -> tuple[int, ...]:
        """Return where the first tap of every row of taps of a phase meets the planes of a channel, without w."""
        (_, nh, nw), (cd, ch, cw) = self.extents, self.copies
        assert cd > 0
        pairs = itertools.product(self.axes[0].met[phase[0]], self.axes[1].met[phase[1]])
        return tuple((i * ch + j) * cw * self.plane + (d * nh + h) * nw for (i, d), (j, h) in pairs)

    def along(self, phase: tuple[int, ...]) -> tuple[int, ...]:
        """Return what is added for every tap along a row of a phase."""
        return tuple(i * self.plane + more for i, more in self.axes[2].met[phase[2]])

    def run(self, rows: int) -> int:
        """Return the vectors of places that so many rows of results span."""
        return -(-((rows - 1) * self.extents[2] + self.block[2]) // self.lanes)

    @property
    def blocks(self) -> Block:
        """Blocks along each axis; the first phase has the most results."""
        d, h, w = (-(-p[0].count // b) for p, b in zip(self.problem.axis_phases, self.block, strict=True))
        return d, h, w

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return self.problem.groups * self.problem.images * math.prod(self.blocks)

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        return (self.weights_size + self.region_size + self.num_sums) * self.problem.dtype.itemsize

    def __str__(self) -> str:
        block = "x".join(map(str, self.block))
        return f"{self.problem}; planes, tile {self.columns} by {self.vectors} vectors, block {block}"


@dataclass(frozen=True)
class FusedPlanesSchedule:
    """A decided convolution of planes with what follows it."""

    conv: PlanesSchedule
    after: Following
    flops: int
    nbytes: int

    def __str__(self) -> str:
        return f"{self.conv}{self.after}"


def schedule_fused_planes(body: Graph, cpu: Cpu) -> FusedPlanesSchedule:
    """Return the schedule of a group whose one convolution's elements all other results follow (see `passes.fuse`)."""
    node = conv_of(body)
    problem, x, w = conv_problem(node)
    after = following(body, node, (x, w), plain=False)
    nbytes = sum(n.type.nbytes for n in (*body.inputs, *body.outputs))
    flops = problem.flops + after.cost * node.type.size
    return FusedPlanesSchedule(schedule_planes(problem, cpu), after, flops, nbytes)


MOST_COLUMNS = 4  # of a register tile: each vector of places is loaded once for as many multiply-adds
TILES = 16  # parallel tiles wanted, so that threads can share them evenly


def schedule_planes(problem: ConvProblem, cpu: Cpu) -> PlanesSchedule:
    """Return the schedule of a convolution of planes."""
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    columns = _evenly(max(problem.columns, 1), MOST_COLUMNS)
    most = (cpu.num_vector_registers - 1 - columns) // columns
    block = _block(problem, cpu, lanes)
    draft = PlanesSchedule(problem, lanes, columns, most, block)
    return PlanesSchedule(problem, lanes, columns, _evenly(draft.run(block[1]), min(most, 12)), block)


def _evenly(count: int, most: int) -> int:
    """Return the size of pieces of at most `most` that a count is cut into as evenly as it can be."""
    return -(-count // -(-count // most))


def _block(problem: ConvProblem, cpu: Cpu, lanes: int) -> Block:
    """Return the results of a parallel tile: as many as fit, but so few that there are tiles to share."""
    room = cpu.l2 // 2 // problem.dtype.itemsize
    whole = [max(p[0].count, 1) for p in problem.axis_phases]
    block = [1, 1, 1]

    def fits(axis: int, size: int) -> bool:
        d, h, w = (size if a == axis else b for a, b in enumerate(block))
        s = PlanesSchedule(problem, lanes, 1, 1, (d, h, w))
        return s.region_size + s.num_sums <= room and (axis == AXES - 1 or s.num_tiles >= TILES)

    for axis in reversed(range(AXES)):
        sizes = (-(-whole[axis] // parts) for parts in range(1, whole[axis] + 1))
        block[axis] = next((size for size in sizes if fits(axis, size)), 1)
        if block[axis] < whole[axis]:
            break
    return block[0], block[1], block[2]
