"""What each kernel is, does and costs: work, the time the roofline allows, the time it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from treadle.ir import Const, Get, Input, Node, Source
from treadle.jit import Plan, named_kernels
from treadle.jit.order import Step
from treadle.ops.fused import Fused
from treadle.runtime import Machine, Profile, Run

from .places import Place, places_of

COMPUTE, HOST = "compute", "host"


@dataclass(frozen=True)
class KernelReport:
    """A kernel and all its calls in a step. Work and times are those of one call, a mean where calls differ.

    Attributes:
        name: as in `plan.stages()`.
        kind: the family of code generator.
        calls: numbers of the calls, in the order of the step.
        reads: types of the operands.
        makes: types of the results.
        places: the user's lines it computes.
        tiles: parallel tiles.
        threads: how many threads a call is spread over.
        flops: arithmetic operations; a transcendental function counts as its table cost.
        nbytes: every operand and result once.
        intensity: flops per byte.
        limit: what the roofline says it cannot outrun: "compute", or the level of memory its operands fit in;
            "host" for one that runs in Python, which no roofline describes.
        predicted_ns: the least time the measured roofline allows on these threads.
        measured_ns: the time of the call, mean over its threads.
        ratio: measured over predicted.
        share: of the measured time of all kernels, over all calls.
    """

    name: str
    kind: str
    calls: tuple[int, ...]
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    places: tuple[Place, ...]
    tiles: int
    threads: float
    flops: int
    nbytes: int
    intensity: float
    limit: str
    predicted_ns: float
    measured_ns: float
    ratio: float
    share: float


@dataclass(frozen=True)
class _Call:
    threads: int
    predicted_ns: float
    limit: str
    measured_ns: float


def report_kernels(plan: Plan, machine: Machine, profile: Profile) -> tuple[KernelReport, ...]:
    """Return every kernel of a plan, the one that takes most of a step first."""
    busy = {time.kernel: time.busy_ns for time in profile.kernels()}
    threads = threads_of(plan)
    calls = [_call(call.step, threads[k], machine, busy.get(k, 0.0)) for k, call in enumerate(plan.calls)]
    total = sum(call.measured_ns * call.threads for call in calls) or 1.0
    numbers: dict[str, list[int]] = {}
    for k, call in enumerate(plan.calls):
        numbers.setdefault(call.step.kernel.symbol, []).append(k)
    found: list[KernelReport] = []
    members = plan.members
    for name, step in named_kernels(plan.steps).items():
        if step.turns is not None or step.kernel.symbol not in numbers:
            continue  # a loop is the kernels of its turns
        mine = numbers[step.kernel.symbol]
        steps = dict.fromkeys(plan.calls[k].step for k in mine)
        own = [calls[k] for k in mine]
        kernel = step.kernel
        predicted, measured = (
            sum(times) / len(own) for times in ([c.predicted_ns for c in own], [c.measured_ns for c in own])
        )
        found.append(
            KernelReport(
                name,
                kernel.kind,
                tuple(mine),
                tuple(repr(v.type) for v in step.reads),
                tuple(repr(v.type) for v in step.makes),
                places_of(source for s in steps for source in sources_of(plan, s, members)),
                kernel.num_tiles,
                sum(c.threads for c in own) / len(own),
                kernel.flops,
                kernel.nbytes,
                kernel.flops / max(kernel.nbytes, 1),
                own[0].limit,
                predicted,
                measured,
                measured / predicted if predicted else 0.0,
                sum(c.measured_ns * c.threads for c in own) / total,
            )
        )
    return tuple(sorted(found, key=lambda kernel: -kernel.share))


def threads_of(plan: Plan) -> list[int]:
    """Return for each kernel call how many threads run tiles of it."""
    users: list[set[int]] = [set() for _ in plan.calls]
    for thread, records in enumerate(plan.schedule):
        for record in records:
            if isinstance(record, Run):
                users[record.kernel].add(thread)
    return [max(len(threads), 1) for threads in users]


def _call(step: Step, threads: int, machine: Machine, busy_ns: float) -> _Call:
    kernel = step.kernel
    floats = [v.dtype.itemsize for v in (*step.reads, *step.makes) if v.dtype.is_float]
    compute = 1e9 * kernel.flops / machine.peak_flops(threads, max(floats, default=4))
    memory = 1e9 * kernel.nbytes / machine.bandwidth(threads, kernel.nbytes)
    level = next((m.name for m in machine.levels if kernel.nbytes <= m.capacity), machine.levels[-1].name)
    limit = HOST if kernel.kind == HOST else COMPUTE if compute >= memory else level
    return _Call(threads, max(compute, memory), limit, busy_ns / threads)


def sources_of(plan: Plan, step: Step, known: Mapping[Node, tuple[Node, ...]] | None = None) -> Sequence[Source | None]:
    """Return the user's lines a kernel call computes; those of a copy are the lines of what is copied."""
    members = (plan.members if known is None else known).get(step.node)
    if members is not None:
        return [n.source for n in members]
    return [source for value in step.reads for source in value_sources(plan, value)]


def value_sources(plan: Plan, value: Node) -> Sequence[Source | None]:
    """Return the line that makes a value of the fused graph, or nothing for an input."""
    node = original(plan, value)
    return [] if node is None else [node.source]


def original(plan: Plan, value: Node) -> Node | None:
    """Return the node, before fusion, of a value that some kernel makes.

    Equal layers are one body, whose nodes know the line of the first layer only: the members know their own.
    """
    kernel, number = (value.args[0], value.op.index) if isinstance(value.op, Get) else (value, 0)
    members = plan.fusion.members.get(kernel)
    if members is None or not isinstance(kernel.op, Fused):
        return None
    body = kernel.op.body
    inside = [n for n in body.nodes() if not isinstance(n.op, Input)]
    output = body.outputs[number]
    if len(inside) == len(members):
        at = {n: m for n, m in zip(inside, members, strict=True)}  # noqa: C416 - a dict call would lose the types
        return at.get(output, members[-1])
    return next((m for m in reversed(members) if not isinstance(m.op, Const)), None)
