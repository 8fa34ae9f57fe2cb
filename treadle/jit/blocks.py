"""Where the temporaries of a sequence of kernel calls live: one block for values that follow each other in place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from treadle.ir import Node
from treadle.runtime.arena import Arena, Block, plan_arena

from .order import Step


@dataclass
class Layout:
    """Blocks of an arena.

    Attributes:
        block: the block of each temporary.
        room: of steps that are loops, the block for what lives within their turns.
        arena: where each block lies.
    """

    arena: Arena
    block: dict[Node, str] = field(default_factory=dict[Node, str])
    room: dict[Step, str] = field(default_factory=dict[Step, str])


def lay_out(steps: Sequence[Step], kept: Collection[Node], lasting: Sequence[Block] = ()) -> Layout:
    """Return blocks for what steps make, but for the values in `kept`, which live elsewhere.

    `lasting` are further blocks, whose names must not look like "t3" or "room3".
    """
    block: dict[Node, str] = {}
    room: dict[Step, str] = {}
    last_use: dict[Node, int] = {}
    for k, step in enumerate(steps):
        for value in step.reads:
            last_use[value] = k
    lives: dict[str, list[int]] = {}
    for k, step in enumerate(steps):
        if step.turns is not None and step.turns.arena.peak:
            room[step] = f"room{k}"
            lives[f"room{k}"] = [step.turns.arena.peak, k, k]
        for r, value in enumerate(step.makes):
            if value in kept:
                continue
            name = _reused(step, r, k, last_use, block) or f"t{len(lives)}"
            block[value] = name
            life = lives.setdefault(name, [value.type.nbytes, k, k])
            life[2] = max(life[2], last_use.get(value, k))
    blocks = [Block(name, n, first, last) for name, (n, first, last) in lives.items()]
    return Layout(plan_arena([*blocks, *lasting]), block, room)


def _reused(step: Step, result: int, k: int, last_use: dict[Node, int], block: dict[Node, str]) -> str | None:
    """Return the block of an operand that dies here and whose place the result may take."""
    taken = {block.get(v) for v in step.makes}
    for operand, value in enumerate(step.reads):
        name = block.get(value)
        dies = step.reads.count(value) == 1 and last_use[value] == k
        if name and name not in taken and dies and (operand, result) in step.kernel.in_place:
            return name
    return None
