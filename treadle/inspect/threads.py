"""How a step spreads over threads: what each runs, how often it must wait for another, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from treadle.jit import Plan
from treadle.runtime import Profile, Run


@dataclass(frozen=True)
class ThreadReport:
    """One thread in a step: its pieces of kernels, its waits, and the time in both; medians over the measured steps."""

    runs: int
    waits: int
    busy_ns: float
    waiting_ns: float


@dataclass(frozen=True)
class ScheduleReport:
    """The threads of a step.

    Attributes:
        threads: those that take part.
        idle: how many of the plan's threads have nothing to do: a short step is not worth sharing.
        step_ns: from the first record's start to the last one's end.
        balance: the mean busy time over the longest: 1 is perfect.
        used: share of the threads' time that is spent in kernels.
    """

    threads: tuple[ThreadReport, ...]
    idle: int
    step_ns: float
    balance: float
    used: float


def report_schedule(plan: Plan, profile: Profile) -> ScheduleReport:
    """Return how a step spreads over threads."""
    schedule = plan.program.schedule
    found: list[ThreadReport] = []
    for thread, records in enumerate(schedule):
        runs = sum(isinstance(record, Run) for record in records)
        kernels, waits = (_median_ns(profile, thread, waiting) for waiting in (False, True))
        found.append(ThreadReport(runs, len(records) - runs, kernels, waits))
    busy = [thread.busy_ns for thread in found]
    total = profile.total_ns
    return ScheduleReport(
        tuple(found),
        plan.num_threads - len(schedule),
        total,
        sum(busy) / len(busy) / max(busy) if any(busy) else 1.0,
        sum(busy) / (len(busy) * total) if total else 1.0,
    )


def _median_ns(profile: Profile, thread: int, waiting: bool) -> float:
    """Return the time a thread spends waiting, or in kernels."""
    sums = [
        sum(t.stop_ns - t.start_ns for t in step if t.thread == thread and (t.kernel < 0) == waiting)
        for step in profile.steps
    ]
    return float(median(sums)) if sums else 0.0
