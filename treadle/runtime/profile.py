"""What the time stamps of steps say: time per kernel, waiting per thread, and a timeline for a trace viewer."""

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

WAITING = -1


class TaskTime(NamedTuple):
    """One record of a step run with time stamps; `kernel` is -1 for a wait. Times count from the step's start."""

    thread: int
    kernel: int
    lo: int
    hi: int
    start_ns: int
    stop_ns: int


@dataclass(frozen=True)
class KernelTime:
    """One kernel, medians over the steps: first piece's start to last one's end, and the work of all pieces."""

    kernel: int
    name: str
    num_pieces: int
    elapsed_ns: float
    busy_ns: float


@dataclass(frozen=True)
class Profile:
    """Steps that were run with time stamps; `names` are the kernels'."""

    names: tuple[str, ...]
    steps: tuple[tuple[TaskTime, ...], ...]

    @property
    def num_threads(self) -> int:
        """Threads that took part."""
        return 1 + max((time.thread for step in self.steps for time in step), default=0)

    @property
    def total_ns(self) -> float:
        """From the first record's start to the last one's end; median over the steps."""
        return _median([_length(step) for step in self.steps])

    @property
    def busy_ns(self) -> tuple[float, ...]:
        """Per thread the time in kernels; medians over the steps. What is missing to the total is waiting or idle."""
        sums = [[0] * len(self.steps) for _ in range(self.num_threads)]
        for number, step in enumerate(self.steps):
            for time in step:
                if time.kernel != WAITING:
                    sums[time.thread][number] += time.stop_ns - time.start_ns
        return tuple(_median(thread) for thread in sums)

    def kernels(self) -> tuple[KernelTime, ...]:
        """Every kernel that ran, the most expensive first."""
        spans: dict[int, list[float]] = defaultdict(list)
        works: dict[int, list[float]] = defaultdict(list)
        pieces: dict[int, int] = {}
        for step in self.steps:
            found: dict[int, list[TaskTime]] = defaultdict(list)
            for time in step:
                if time.kernel != WAITING:
                    found[time.kernel].append(time)
            for kernel, times in found.items():
                spans[kernel].append(_length(times))
                works[kernel].append(sum(time.stop_ns - time.start_ns for time in times))
                pieces[kernel] = len(times)
        made = [
            KernelTime(kernel, self.names[kernel], pieces[kernel], _median(spans[kernel]), _median(works[kernel]))
            for kernel in spans
        ]
        return tuple(sorted(made, key=lambda time: (-time.busy_ns, time.kernel)))

    def chrome_trace(self) -> str:
        """The timeline as Chrome trace JSON, steps one after the other: open it in Perfetto or chrome://tracing."""
        events: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": t, "args": {"name": f"thread {t}"}}
            for t in range(self.num_threads)
        ]
        origin = 0
        for number, step in enumerate(self.steps):
            for time in step:
                waiting = time.kernel == WAITING
                events.append(
                    {
                        "name": "wait" if waiting else self.names[time.kernel],
                        "cat": "wait" if waiting else "kernel",
                        "ph": "X",
                        "pid": 0,
                        "tid": time.thread,
                        "ts": (origin + time.start_ns) / 1000,
                        "dur": (time.stop_ns - time.start_ns) / 1000,
                        "args": {"step": number}
                        if waiting
                        else {"step": number, "kernel": time.kernel, "tiles": f"{time.lo} to {time.hi}"},
                    }
                )
            origin += max((time.stop_ns for time in step), default=0)
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})

    def save_trace(self, path: str | Path) -> None:
        """Write the Chrome trace to a file."""
        Path(path).write_text(self.chrome_trace())

    def __str__(self) -> str:
        total = self.total_ns
        busy = sum(self.busy_ns)
        used = busy / (total * self.num_threads) if total else 1.0
        lines = [
            f"step: {total / 1000:,.1f} us over {self.num_threads} threads, {used:.0%} of their time in kernels "
            f"(median of {len(self.steps)})"
        ]
        for time in self.kernels():
            share = time.busy_ns / busy if busy else 0.0
            pieces = f", {time.num_pieces} pieces" if time.num_pieces > 1 else ""
            lines.append(f"  {time.busy_ns / 1000:12,.1f} us {share:5.1%}  {time.name} (kernel {time.kernel}{pieces})")
        return "\n".join(lines)


def _length(times: Sequence[TaskTime]) -> int:
    if not times:
        return 0
    return max(time.stop_ns for time in times) - min(time.start_ns for time in times)


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values)) if values else 0.0
