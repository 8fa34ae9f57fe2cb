"""The report on a compiled function: kernels with their work and measured time, memory, compile time by stage."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from treadle.core import ConfigError
from treadle.jit import Compiled, Plan

MEASURED_STEPS = 3


@dataclass(frozen=True)
class Report:
    """What `explain` found; print it with rich, or take `to_dict()`."""

    plan: Plan
    seconds: float

    def summary(self) -> str:
        """Return the main figures in a few lines."""
        steps, arena = self.plan.steps, self.plan.arena
        flops = sum(step.kernel.flops for step in steps)
        kinds = Counter(step.kernel.kind for step in steps)
        compile_seconds = sum(self.plan.timings.seconds.values())
        return (
            f"{len(steps)} kernel calls ({', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}) of "
            f"{len({step.kernel.name for step in steps})} kernels, {flops / 1e9:.2f} GFLOP\n"
            f"one step takes {self.seconds * 1e3:.2f} ms on {self.plan.num_threads} threads: "
            f"{flops / self.seconds / 1e9:.0f} GFLOP/s\n"
            f"temporaries {arena.peak / 1e6:.1f} MB; compiled in {compile_seconds:.2f} s"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "seconds": self.seconds,
            "threads": self.plan.num_threads,
            "arena_bytes": self.plan.arena.peak,
            "compile_seconds": dict(self.plan.timings.seconds),
            "kernels": [
                {"name": s.kernel.name, "kind": s.kernel.kind, "flops": s.kernel.flops, "bytes": s.kernel.nbytes}
                for s in self.plan.steps
            ],
        }

    def write_timeline(self, path: Path) -> None:
        """Write one step as a Chrome trace."""
        raise ConfigError(f"explain: a timeline cannot be written to {path} yet.")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.summary()
        table = Table("kernel", "kind", "GFLOP", "MB")
        for s in self.plan.steps:
            table.add_row(s.kernel.name, s.kernel.kind, f"{s.kernel.flops / 1e9:.4f}", f"{s.kernel.nbytes / 1e6:.2f}")
        yield table


def explain(function: Compiled[..., Any], *args: Any) -> Report:
    """Return the report on a function for these arguments; it is run a few times to be measured."""
    plan = function.plan(*args)
    times: list[float] = []
    for _ in range(MEASURED_STEPS + 1):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return Report(plan, median(times[1:]))
