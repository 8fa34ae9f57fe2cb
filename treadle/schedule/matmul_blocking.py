"""Which register tile a matrix product uses, what is packed, in which blocks: estimates from registers and caches."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from treadle.schedule.matmul_problem import MatmulProblem


class Cpu(Protocol):
    """What a schedule needs to know of the CPU; `codegen.target.Target` has it."""

    @property
    def vector_bytes(self) -> int:
        """Bytes of a vector register."""
        ...

    @property
    def num_vector_registers(self) -> int:
        """Vector registers there are."""
        ...

    @property
    def l1(self) -> int:
        """Bytes of a core's first-level data cache."""
        ...

    @property
    def l2(self) -> int:
        """Bytes of a core's second-level cache."""
        ...


PackA = Literal["no", "rows", "strip"]
PackB = Literal["no", "panels"]


def balanced(size: int, most: int) -> tuple[tuple[int, int], ...]:
    """`size` split into as few parts of at most `most` as possible, as equal as possible: ((count, part), ...).

    >>> balanced(30, 14)
    ((3, 10),)
    >>> balanced(31, 12)
    ((1, 11), (2, 10))
    """
    parts = -(-size // most)
    small, larger = divmod(size, parts)
    return tuple((count, part) for count, part in ((larger, small + 1), (parts - larger, small)) if count)


def packing(problem: MatmulProblem, cpu: Cpu) -> tuple[PackA, PackB]:
    """Whether A and B are packed: always if they cannot be read in place, else if they are large enough to repay it."""
    a, b, size = problem.a, problem.b, problem.dtype.itemsize
    pack_a: PackA = "no"
    if a.dtype is not problem.dtype:
        pack_a = "rows" if a.column == 1 else "strip"
    elif a.column != 1 and problem.m * problem.k * size > cpu.l2 // 8:
        pack_a = "strip"
    large = problem.m > 32 and problem.k * problem.n * size > cpu.l2 // 4
    return pack_a, "panels" if large or b.dtype is not problem.dtype or b.column != 1 else "no"


@dataclass(frozen=True)
class Blocking:
    """A register tile with the blocking that suits it, and the cycles per k step of the whole product."""

    cycles: float
    rows: int
    vectors: int
    kc: int
    nc: int


def blockings(problem: MatmulProblem, cpu: Cpu, pack_a: PackA, pack_b: PackB) -> Iterator[Blocking]:
    """The register tiles that fit, each with its blocking."""
    lanes = cpu.vector_bytes // problem.dtype.itemsize
    needed = -(-problem.n // lanes)
    # Rows a power of two apart fall on the same set of L1, which has as many ways as pages.
    ways = 14 if pack_a == "strip" or problem.a.column != 1 else max(cpu.l1 // 4096, 4)
    for vectors in range(1, min(needed, 6) + 1):
        most = min((cpu.num_vector_registers - 1 - vectors) // vectors, ways)
        for rows in range(max(most - 3, 1), most + 1):
            yield _blocking(problem, cpu, (pack_a, pack_b), balanced(problem.m, rows), vectors)


def _blocking(
    problem: MatmulProblem, cpu: Cpu, packs: tuple[PackA, PackB], heights: tuple[tuple[int, int], ...], vectors: int
) -> Blocking:
    """The blocking of a register tile, and its cycles.

    They are those of two multiply-adds and two loads per cycle with a latency of four, and small terms for what A takes
    from L1 and B from L2.
    """
    size = problem.dtype.itemsize
    lanes = cpu.vector_bytes // size
    needed, rows = -(-problem.n // lanes), heights[0][1]
    cycles, kernels = 0.0, 0
    for panels, width in ((needed // vectors, vectors), (1, needed % vectors)):
        for count, height in heights:
            if panels and width:
                kernels += 1
                step = max(height * width / 2, (height + width) / 2, 4.0) + 0.04 * height + 0.2 * width
                cycles += panels * count * step
    kc, l2 = max(problem.k, 1), cpu.l2 // size
    if packs != ("no", "no"):
        # A row panel of A should stay in L1 while the panels of B stream past.
        most = cpu.l1 * 3 // 4 // (rows * size)
        if packs[0] == "strip":
            # Deep blocks are narrow, and A is packed anew for each; shallow ones go over C more often. Weigh the two.
            most = min(most, math.isqrt(l2 // 2))
        kc = _even(kc, max(most // 16 * 16, 64), 16)
    panels, blocks = -(-needed // vectors), 1
    if packs[1] != "no":
        # The block of B should stay in L2 while row panels of A stream past.
        blocks = -(-panels // max(l2 * 5 // 8 // (kc * lanes * vectors), 1))
    # Enough tiles that a handful of threads can share the work, in blocks of equal size so that they get equal shares.
    row_panels = sum(count for count, _ in heights)
    blocks = max(blocks, min(panels, -(-16 // (row_panels * problem.num_batches))))
    blocks = min(range(blocks, min(2 * blocks, panels) + 1), key=lambda j: (-(-panels // j) * j / panels, j))
    per = -(-panels // blocks)
    uneven = min(per * vectors, needed) * -(-panels // per) / needed
    cycles *= (1 + 0.015 * (kernels - 1)) * (0.75 + 0.25 * uneven)
    return Blocking(cycles, rows, vectors, kc, per * vectors * lanes)


def _even(size: int, most: int, multiple: int) -> int:
    """Length of equal blocks of at most `most`, rounded up to a multiple if there are several."""
    blocks = -(-size // most)
    return size if blocks == 1 else -(-size // blocks // multiple) * multiple
