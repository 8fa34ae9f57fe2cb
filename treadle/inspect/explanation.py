"""`Explanation`: everything a Plan says of itself, predictions beside measurements. Print it, or take it as data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult

from treadle.core import ConfigError, config
from treadle.jit import Compiled, Plan
from treadle.jit.samples import sample_inputs
from treadle.runtime import Machine, Profile, measure_machine, this_machine

from .decisions import DecisionReport, report_decisions
from .kernels import KernelReport, report_kernels
from .memory import MemoryReport, report_memory
from .tables import render, summary
from .threads import ScheduleReport, report_schedule
from .timeline import chrome_trace

FORMAT = 1  # of the JSON; a field that changes its meaning changes it, one that is added does not
MEASURED_STEPS = 5
LONG_STEP_NS = 2e8  # a step longer than this is measured once
WIDTH = 130  # of `str`


@dataclass(frozen=True)
class PassReport:
    """A pass, what it is for, and the nodes before and after; fusion's are kernels after it."""

    name: str
    doc: str
    before: int
    after: int


@dataclass(frozen=True)
class Explanation:
    """What the compiler made of a program, and what that costs on this machine.

    Attributes:
        name: the compiled function's; empty for a Plan made otherwise.
        num_threads: threads the plan may use.
        cpu: the CPU it is compiled for.
        inputs: types of the inputs, arguments first.
        measured_on: what the measured steps ran on.
        passes: what the graph went through.
        kernels: those that take most of a step first.
        decisions: of fusion: refused ones first, the largest values first.
        memory: the arena and everything else in memory.
        schedule: threads, waits, balance.
        compile_seconds: by stage.
        recompiles: why the function has more than one Plan.
        machine: the roofline that predictions come from.
        plan: what is explained.
        profile: the measured steps.
    """

    name: str
    num_threads: int
    cpu: str
    inputs: tuple[str, ...]
    measured_on: str
    passes: tuple[PassReport, ...]
    kernels: tuple[KernelReport, ...]
    decisions: tuple[DecisionReport, ...]
    memory: MemoryReport
    schedule: ScheduleReport
    compile_seconds: dict[str, float]
    recompiles: tuple[str, ...]
    machine: Machine
    plan: Plan
    profile: Profile

    @property
    def flops(self) -> int:
        """Arithmetic operations of a step."""
        return sum(kernel.flops * len(kernel.calls) for kernel in self.kernels)

    @property
    def nbytes(self) -> int:
        """Bytes that the kernels of a step read and write."""
        return sum(kernel.nbytes * len(kernel.calls) for kernel in self.kernels)

    @property
    def measured_ns(self) -> float:
        """The time of a step."""
        return self.schedule.step_ns

    @property
    def predicted_ns(self) -> float:
        """The least time of a step on the roofline: that of all kernels, the threads never waiting."""
        spent = sum(kernel.predicted_ns * kernel.threads * len(kernel.calls) for kernel in self.kernels)
        return spent / max(len(self.schedule.threads), 1)

    @property
    def refusals(self) -> tuple[DecisionReport, ...]:
        """The decisions that keep values apart."""
        return tuple(decision for decision in self.decisions if not decision.fused)

    def summary(self) -> str:
        """Return the main figures in a dozen lines."""
        return summary(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data; see `FORMAT`. Times are nanoseconds where the name says so."""
        levels = [
            {"name": m.name, "capacity": None if m.capacity == float("inf") else m.capacity, "read": m.read, "copy": m.copy}
            for m in self.machine.levels
        ]
        return {
            "format": FORMAT,
            "name": self.name,
            "num_threads": self.num_threads,
            "cpu": self.cpu,
            "inputs": list(self.inputs),
            "measured_on": self.measured_on,
            "step": {
                "measured_ns": self.measured_ns,
                "predicted_ns": self.predicted_ns,
                "flops": self.flops,
                "nbytes": self.nbytes,
            },
            "passes": _plain(self.passes),
            "kernels": _plain(self.kernels),
            "decisions": _plain(self.decisions),
            "memory": _plain(self.memory),
            "schedule": _plain(self.schedule),
            "compile_seconds": dict(self.compile_seconds),
            "recompiles": list(self.recompiles),
            "machine": {
                "cpu": self.machine.cpu,
                "num_threads": self.machine.num_threads,
                "measured": self.machine.measured,
                "flops_per_second": [figure.value for figure in self.machine.flops],
                "levels": [
                    {**level, "read": [f.value for f in level["read"]], "copy": [f.value for f in level["copy"]]}
                    for level in levels
                ],
            },
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def write_timeline(self, path: str | Path) -> None:
        """Write one measured step, all threads, as a Chrome trace: open it in Perfetto or chrome://tracing."""
        try:
            Path(path).write_text(chrome_trace(self.plan, self.profile), encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"explain: cannot write the timeline to {path}: {error.strerror}. Name a file in a folder that exists."
            ) from None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from render(self)

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        with console.capture() as captured:
            console.print(self)
        return captured.get()

    def __repr__(self) -> str:
        return f"<Explanation of {self.name or 'a plan'}: {len(self.kernels)} kernels; print it>"


def explain(what: Plan | Compiled[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Return the report on a Plan, or on a compiled function for some arguments.

    It runs a few steps to measure them, on copies: no parameter, buffer or gradient changes.
    """
    plan = what.plan(*args, **kwargs) if isinstance(what, Compiled) else what
    machine = _machine(plan.num_threads)
    profile = plan.profile()
    if profile.total_ns < LONG_STEP_NS:
        profile = plan.profile(MEASURED_STEPS)
    return Explanation(
        plan.origin.name,
        plan.num_threads,
        plan.target.cpu,
        tuple(repr(n.type) for n in plan.graph.inputs),
        _measured_on(plan, len(profile.steps)),
        _passes(plan),
        report_kernels(plan, machine, profile),
        report_decisions(plan),
        report_memory(plan),
        report_schedule(plan, profile),
        dict(plan.timings.seconds),
        tuple(plan.origin.reasons),
        machine,
        plan,
        profile,
    )


def _machine(num_threads: int) -> Machine:
    """Return the roofline with this many threads, measured now if it never was."""
    with config(threads=num_threads):
        machine = this_machine()
        return machine if machine.measured else measure_machine()


def _passes(plan: Plan) -> tuple[PassReport, ...]:
    first, *others = plan.passes
    found: list[PassReport] = [PassReport(first.name, first.doc, first.num_nodes, first.num_nodes)]
    for stage in others:
        found.append(PassReport(stage.name, stage.doc, found[-1].after, stage.num_nodes))
    kernels = len(plan.fusion.members)
    found.append(PassReport("fuse", "nodes that share loops become one kernel", found[-1].after, kernels))
    return tuple(found)


def _measured_on(plan: Plan, steps: int) -> str:
    held = plan.origin.holds()
    types = [n.type for n in plan.graph.inputs]
    made_up = sample_inputs(types, held, set())[1]
    data = "the data its inputs hold"
    if made_up:
        data = f"made-up numbers for {made_up} of {len(types)} inputs" + (", its state for the others" if any_held(held) else "")
    return f"{steps} step{'s' if steps > 1 else ''} on {data}; state was copied, so nothing changed"


def any_held(held: Sequence[Any]) -> bool:
    """Whether any input's data is known."""
    return any(array is not None for array in held)


def _plain(value: Any) -> Any:
    """Return frozen records as dictionaries and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
