"""`explain`: everything a Plan says of itself, predictions beside measurements. Print it, or take it as data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult

from treadle.core import ConfigError, config
from treadle.jit import Compiled, Plan
from treadle.jit.samples import sample_inputs
from treadle.runtime import Machine, measure_machine, this_machine

from .decisions import report_decisions
from .kernels import report_kernels
from .memory import report_memory
from .report import PassReport, Report
from .tables import render, summary
from .threads import report_schedule
from .timeline import chrome_trace

MEASURED_STEPS = 5
LONG_STEP_NS = 2e8  # a step longer than this is measured once
BUSY = 1.5  # load per CPU that a step alone does not make
WIDTH = 130  # of `str`


@dataclass(frozen=True, repr=False)
class Explanation(Report):
    """A report that shows itself: `print(explanation)`, or print it with rich."""

    def summary(self) -> str:
        """Return the main figures in a dozen lines."""
        return summary(self)

    def write_timeline(self, path: str | Path) -> None:
        """Write one measured step, all threads, as a Chrome trace: open it in Perfetto or chrome://tracing."""
        try:
            Path(path).write_text(chrome_trace(self.plan, self.profile), encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"explain: cannot write the timeline to {path}: {error.strerror}. Name a file in a folder that exists."
            ) from None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from render(self, options.max_width)

    def __str__(self) -> str:
        console = Console(file=StringIO(), width=WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        with console.capture() as captured:
            console.print(self)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

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
        {"compiled": plan.timings.compiled, "from disk": plan.timings.cached, "known": plan.timings.loaded},
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
    types = [n.type for n in plan.graph.inputs]
    made_up = sample_inputs(types, plan.origin.holds(), set())[1]
    data = "the data of the inputs"
    if made_up:
        data = f"made-up numbers for {made_up} of {len(types)} inputs, whose data is not at hand"
    text = f"{steps} step{'s' if steps > 1 else ''} on {data}; state is copied first, so nothing changes"
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > BUSY * cpus:
        text += f". Other programs keep this machine busy (load {load:.1f} on {cpus} CPUs): the times are too long"
    return text
