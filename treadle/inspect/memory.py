"""The memory of a plan: what it needs at most, what it could not do without, and what is alive at that moment."""

from __future__ import annotations

from dataclasses import dataclass

from treadle.ir import Node
from treadle.jit import Plan, named_kernels
from treadle.runtime import Block

from .kernels import value_sources
from .places import Place, places_of


@dataclass(frozen=True)
class LiveBlocks:
    """Blocks of the arena at the moment of most need, those of equal layers together.

    Attributes:
        count: how many.
        nbytes: what they take, all together.
        values: types of the values that live in each, one after the other.
        made_by: the kernel that writes them first.
        calls: numbers of that kernel's calls.
        last: number of the last call that reads any of them.
        places: the user's lines of their values.
    """

    count: int
    nbytes: int
    values: tuple[str, ...]
    made_by: str
    calls: tuple[int, ...]
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
    live: tuple[LiveBlocks, ...]
    arguments: int
    state: int
    results: int
    scratch: int


def report_memory(plan: Plan) -> MemoryReport:
    """Return the memory of a plan."""
    arena = plan.arena
    inputs, outputs = plan.graph.inputs, plan.graph.outputs
    state = set(plan.state.values())
    return MemoryReport(
        arena.peak,
        arena.lower_bound,
        len(arena.blocks),
        sum(block.nbytes for block in arena.blocks),
        arena.peak_kernel,
        plan.steps[arena.peak_kernel].kernel.name if plan.steps else "",
        _live(plan),
        sum(n.type.nbytes for k, n in enumerate(inputs) if k not in state),
        sum(inputs[k].type.nbytes for k in state),
        sum(n.type.nbytes for k, n in enumerate(outputs) if k not in plan.state and k not in plan.shared),
        plan.program.scratch_nbytes,
    )


def _live(plan: Plan) -> tuple[LiveBlocks, ...]:
    """Return what forces the lower bound."""
    values: dict[str, list[Node]] = {}
    for value, block in plan.block.items():
        values.setdefault(block, []).append(value)
    alive = set(plan.arena.live_at_peak)
    names = {step.kernel.symbol: name for name, step in named_kernels(plan.steps).items()}
    groups: dict[tuple[str, tuple[str, ...]], list[Block]] = {}
    for block in plan.arena.blocks:
        if block.name in alive:
            types = tuple(dict.fromkeys(repr(v.type) for v in values.get(block.name, ()))) or ("turns of a loop",)
            groups.setdefault((names[plan.steps[block.first].kernel.symbol], types), []).append(block)
    found: list[LiveBlocks] = []
    for (made_by, types), blocks in groups.items():
        inside = [v for block in blocks for v in values.get(block.name, ())]
        found.append(
            LiveBlocks(
                len(blocks),
                sum(block.nbytes for block in blocks),
                types,
                made_by,
                tuple(sorted({block.first for block in blocks})),
                max(block.last for block in blocks),
                places_of(source for v in inside for source in value_sources(plan, v)),
            )
        )
    return tuple(sorted(found, key=lambda blocks: (-blocks.nbytes, blocks.calls)))
