"""The memory of a plan: what it needs at most, what it could not do without, and what is alive at that moment."""

from __future__ import annotations

from dataclasses import dataclass

from treadle.ir import Node
from treadle.jit import Plan

from .kernels import value_sources
from .places import Place, places_of


@dataclass(frozen=True)
class LiveBlock:
    """A block of the arena at the moment of most need.

    Attributes:
        name: the block's.
        values: types of the values that live in it, one after the other.
        nbytes: its size.
        made_by: the kernel that writes it first.
        first: number of that kernel's call.
        last: number of the last call that reads it.
        places: the user's lines of its values.
    """

    name: str
    values: tuple[str, ...]
    nbytes: int
    made_by: str
    first: int
    last: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of a plan by use.

    Attributes:
        peak: bytes of the arena, where temporaries live.
        lower_bound: bytes that are alive at once at some moment: no arena can be smaller.
        num_blocks: blocks in the arena.
        without_reuse: what they would take side by side.
        peak_call: number of the kernel call at which the lower bound is reached.
        peak_kernel: its name.
        live: what is alive then, largest first.
        arguments: bytes of inputs that are only read.
        state: bytes of inputs that are updated in place.
        results: bytes of outputs in memory of their own.
        scratch: workspace of each thread.
    """

    peak: int
    lower_bound: int
    num_blocks: int
    without_reuse: int
    peak_call: int
    peak_kernel: str
    live: tuple[LiveBlock, ...]
    arguments: int
    state: int
    results: int
    scratch: int


def report_memory(plan: Plan) -> MemoryReport:
    """Return the memory of a plan."""
    arena = plan.arena
    values: dict[str, list[Node]] = {}
    for value, block in plan.block.items():
        values.setdefault(block, []).append(value)
    alive = set(arena.live_at_peak)
    live = [
        LiveBlock(
            block.name,
            tuple(dict.fromkeys(repr(v.type) for v in values[block.name])),
            block.nbytes,
            plan.steps[block.first].kernel.name,
            block.first,
            block.last,
            places_of(source for v in values[block.name] for source in value_sources(plan, v)),
        )
        for block in arena.blocks
        if block.name in alive
    ]
    inputs, outputs = plan.graph.inputs, plan.graph.outputs
    state = set(plan.state.values())
    return MemoryReport(
        arena.peak,
        arena.lower_bound,
        len(arena.blocks),
        sum(block.nbytes for block in arena.blocks),
        arena.peak_kernel,
        plan.steps[arena.peak_kernel].kernel.name if plan.steps else "",
        tuple(sorted(live, key=lambda block: (-block.nbytes, block.first))),
        sum(n.type.nbytes for k, n in enumerate(inputs) if k not in state),
        sum(inputs[k].type.nbytes for k in state),
        sum(n.type.nbytes for k, n in enumerate(outputs) if k not in plan.state and k not in plan.shared),
        plan.program.scratch_nbytes,
    )
