"""The memory plan: where in one arena each temporary lives, from sizes and lifetimes in kernel order.

Finding the smallest arena is NP-hard (dynamic storage allocation). Greedy best fit over a few orders is within a few
per cent of the lower bound on the lifetimes of networks, and the bound is reported beside the result.
"""

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ALIGNMENT = 64
# Rounds of promoting the blocks at the top, and pairs of neighbours looked at in all of them (about 0.1 s).
_PROMOTIONS = 24
_PAIRS = 500_000


class Block(NamedTuple):
    """A temporary: alive from kernel `first` to kernel `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Offsets of blocks in an arena of `peak` bytes. `live_at_peak` are the blocks that force `lower_bound` bytes."""

    blocks: tuple[Block, ...]
    offsets: dict[str, int]
    peak: int
    lower_bound: int
    peak_kernel: int
    live_at_peak: tuple[str, ...]

    @property
    def efficiency(self) -> float:
        """Lower bound over peak: 1.0 is provably optimal."""
        return self.lower_bound / self.peak if self.peak else 1.0

    def __str__(self) -> str:
        total = sum(aligned(block.nbytes) for block in self.blocks)
        lines = [
            f"arena: {self.peak:,} bytes for {len(self.blocks)} blocks of {total:,} bytes; "
            f"lower bound {self.lower_bound:,} ({self.efficiency:.1%}) at kernel {self.peak_kernel}"
        ]
        live = [block for block in self.blocks if block.name in set(self.live_at_peak)]
        for block in sorted(live, key=lambda b: (-b.nbytes, b.name)):
            where = f"offset {self.offsets[block.name]:,}"
            lines.append(f"  {block.name}: {block.nbytes:,} bytes, kernels {block.first} to {block.last}, {where}")
        return "\n".join(lines)


def aligned(nbytes: int) -> int:
    """The bytes a block occupies: whole cache lines, so that kernels on two threads never share one."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan_arena(blocks: Sequence[Block]) -> Arena:
    """Offsets for blocks such that no two that are alive at once overlap; deterministic, names must differ."""
    for block in blocks:
        assert block.nbytes >= 0, f"not a size: {block}"
        assert block.first <= block.last, f"not a lifetime: {block}"
    assert len({block.name for block in blocks}) == len(blocks), "two blocks have one name"
    lower_bound, peak_kernel, live = live_bytes(blocks)
    offsets, peak = _search([(aligned(b.nbytes), b.first, b.last) for b in blocks], lower_bound)
    names = {block.name: offset for block, offset in zip(blocks, offsets, strict=True)}
    return Arena(tuple(blocks), names, peak, lower_bound, peak_kernel, live)


def live_bytes(blocks: Sequence[Block]) -> tuple[int, int, tuple[str, ...]]:
    """The most bytes alive at once, the first kernel where that is so, and the blocks alive there."""
    change: dict[int, int] = {}
    for block in blocks:
        change[block.first] = change.get(block.first, 0) + aligned(block.nbytes)
        change[block.last + 1] = change.get(block.last + 1, 0) - aligned(block.nbytes)
    most = kernel = now = 0
    for at in sorted(change):
        now += change[at]
        if now > most:
            most, kernel = now, at
    live = tuple(block.name for block in blocks if block.nbytes and block.first <= kernel <= block.last)
    return most, kernel, live


_Life = tuple[int, int, int]  # aligned bytes, first, last


def _search(lives: list[_Life], lower_bound: int) -> tuple[list[int], int]:
    """The best placement found: a few fixed orders, then blocks that reach the top are placed earlier."""
    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda k: (-lives[k][0], lives[k][1], k),
        lambda k: (-lives[k][0] * (lives[k][2] - lives[k][1] + 1), k),
        lambda k: (lives[k][1] - lives[k][2], -lives[k][0], k),
        lambda k: (lives[k][1], -lives[k][2], -lives[k][0], k),
    )
    neighbours = _overlapping(lives)
    best: list[int] = []
    best_order: list[int] = []
    peak = -1
    for key in orders:
        order = sorted(range(len(lives)), key=key)
        offsets, top = _place(lives, order, neighbours)
        if peak < 0 or top < peak:
            best, best_order, peak = offsets, order, top
        if peak == lower_bound:
            return best, peak
    order = best_order
    pairs = 1 + sum(map(len, neighbours)) // 2
    for _ in range(min(_PROMOTIONS, _PAIRS // pairs)):
        offsets, top = _place(lives, order, neighbours)
        if top < peak:
            best, peak = offsets, top
        if peak == lower_bound:
            break
        high = {k for k in order if offsets[k] + lives[k][0] == top}
        promoted = [k for k in order if k in high] + [k for k in order if k not in high]
        if promoted == order:
            break
        order = promoted
    return best, max(peak, 0)


def _overlapping(lives: list[_Life]) -> list[list[int]]:
    """For each block the others that are alive at the same time as it."""
    found: list[list[int]] = [[] for _ in lives]
    active: list[int] = []
    for k in sorted(range(len(lives)), key=lambda k: lives[k][1]):
        first = lives[k][1]
        active = [other for other in active if lives[other][2] >= first]
        for other in active:
            found[k].append(other)
            found[other].append(k)
        active.append(k)
    return found


def _place(lives: list[_Life], order: list[int], neighbours: list[list[int]]) -> tuple[list[int], int]:
    """Put each block into the tightest gap between the blocks already placed that it meets in time."""
    offsets = [-1] * len(lives)
    # Per block the placed neighbours as (offset, end), sorted: an insertion is cheaper than sorting at every turn.
    around: list[list[tuple[int, int]]] = [[] for _ in lives]
    top = 0
    for k in order:
        size = lives[k][0]
        if size == 0:
            offsets[k] = 0
            continue
        end = 0
        chosen, slack = -1, -1
        for start, stop in around[k]:
            gap = start - end
            if gap >= size and (chosen < 0 or gap < slack):
                chosen, slack = end, gap
            if stop > end:  # noqa: PLR1730 - the innermost loop; a call would double its time
                end = stop
        offset = end if chosen < 0 else chosen
        offsets[k] = offset
        top = max(top, offset + size)
        for other in neighbours[k]:
            if offsets[other] < 0:
                insort(around[other], (offset, offset + size))
    return offsets, top
