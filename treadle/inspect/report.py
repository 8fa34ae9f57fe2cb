"""The figures of an explanation as plain records: what `to_dict` gives, and what the tables are made of."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from treadle.jit import Plan
from treadle.runtime import Machine, Profile
from treadle.runtime.machine import Figure

from .decisions import DecisionReport
from .kernels import KernelReport
from .memory import MemoryReport
from .threads import ScheduleReport

FORMAT = 1  # of the JSON; a field that changes its meaning changes it, one that is added does not


@dataclass(frozen=True)
class PassReport:
    """A pass, what it is for, and the nodes before and after; fusion's are kernels after it."""

    name: str
    doc: str
    before: int
    after: int


@dataclass(frozen=True)
class Report:
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
        compiled: how many kernels were compiled, read from the disk, and had already: by those words.
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
    compiled: dict[str, int]
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data; see `FORMAT`. Times are nanoseconds where the name says so."""
        machine = self.machine
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
            "compiled": dict(self.compiled),
            "recompiles": list(self.recompiles),
            "machine": {
                "cpu": machine.cpu,
                "num_threads": machine.num_threads,
                "measured": machine.measured,
                "flops_per_second": _rates(machine.flops),
                "levels": [
                    {
                        "name": level.name,
                        "capacity": level.capacity if level.capacity < float("inf") else None,
                        "read_bytes_per_second": _rates(level.read),
                        "copy_bytes_per_second": _rates(level.copy),
                    }
                    for level in machine.levels
                ],
            },
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), indent=2)


def _rates(pair: tuple[Figure, Figure]) -> list[float]:
    """Return the rate of one thread and that of all."""
    return [figure.value for figure in pair]


def _plain(value: Any) -> Any:
    """Return frozen records as dictionaries and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
