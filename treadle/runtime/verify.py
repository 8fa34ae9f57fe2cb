"""Proof that a task schedule is safe: it ends, runs every tile once, and no two conflicting runs can overlap in time.

The argument is happens-before, built from the records alone and independently of the scheduler: a run knows the runs
before it on its thread, and through each wait all that the awaited run knew.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from treadle.core.errors import ScheduleError
from treadle.runtime.tasks import Run, Schedule, Task


class _Placed(NamedTuple):
    """A run, its number on its thread (from 1), and per thread how many runs were finished before it began."""

    run: Run
    thread: int
    number: int
    clock: list[int]


class _Access(NamedTuple):
    start: int
    stop: int
    write: bool
    placed: _Placed


def verify_schedule(tasks: Sequence[Task], schedule: Schedule) -> None:
    """Raise ScheduleError unless the schedule provably gives what running the tasks in order on one thread gives."""
    placed = _replay(schedule)
    _check_tiles(tasks, placed)
    accesses: dict[str, list[_Access]] = defaultdict(list)
    for item in placed:
        task = tasks[item.run.kernel]
        for spans, write in ((task.reads, False), (task.writes, True)):
            for span in spans:
                start, stop = span.of_tiles(item.run.lo, item.run.hi)
                if start < stop:
                    accesses[span.storage].append(_Access(start, stop, write, item))
    for storage, found in accesses.items():
        _check_storage(tasks, storage, found)


def _replay(schedule: Schedule) -> list[_Placed]:
    """Walk all threads as far as their waits allow, again and again; what is left when nothing moves is a deadlock."""
    num_threads = len(schedule)
    position = [0] * num_threads
    clocks = [[0] * num_threads for _ in schedule]
    finished: list[list[list[int]]] = [[] for _ in schedule]
    placed: list[_Placed] = []
    moved = True
    while moved:
        moved = False
        for thread, records in enumerate(schedule):
            while position[thread] < len(records):
                record = records[position[thread]]
                if isinstance(record, Run):
                    count = len(finished[thread]) + 1
                    placed.append(_Placed(record, thread, count, list(clocks[thread])))
                    clocks[thread][thread] = count
                    finished[thread].append(list(clocks[thread]))
                elif len(finished[record.thread]) >= record.runs:
                    known = finished[record.thread][record.runs - 1]
                    clocks[thread] = [max(pair) for pair in zip(clocks[thread], known, strict=True)]
                else:
                    break
                position[thread] += 1
                moved = True
    for thread, records in enumerate(schedule):
        if position[thread] < len(records):
            raise ScheduleError(
                f"verify_schedule: thread {thread} waits forever at record {position[thread]}, "
                f"{records[position[thread]]}. Waits must not form a circle."
            )
    return placed


def _check_tiles(tasks: Sequence[Task], placed: list[_Placed]) -> None:
    ranges: list[list[tuple[int, int]]] = [[] for _ in tasks]
    for item in placed:
        ranges[item.run.kernel].append((item.run.lo, item.run.hi))
    for kernel, found in enumerate(ranges):
        ends = [0, *(hi for _, hi in sorted(found))]
        starts = [*(lo for lo, _ in sorted(found)), tasks[kernel].num_tiles]
        if ends != starts:
            raise ScheduleError(
                f"verify_schedule: kernel {kernel} ({tasks[kernel].name}) has {tasks[kernel].num_tiles} tiles and runs "
                f"{sorted(found)}. Every tile must run exactly once."
            )


def _check_storage(tasks: Sequence[Task], storage: str, accesses: list[_Access]) -> None:
    """Sweep over addresses: overlapping runs of two kernels, one a write, must be ordered as the kernels are."""
    accesses.sort(key=lambda access: access.start)
    active: list[_Access] = []
    for access in accesses:
        active = [other for other in active if other.stop > access.start]
        for other in active:
            one, two = access.placed, other.placed
            if one.run.kernel == two.run.kernel or not (access.write or other.write):
                continue
            before, after = (one, two) if one.run.kernel < two.run.kernel else (two, one)
            if after.clock[before.thread] < before.number:
                raise ScheduleError(
                    f"verify_schedule: {before.run} on thread {before.thread} and {after.run} on thread {after.thread} "
                    f"both touch bytes {access.start} to {min(access.stop, other.stop)} of {storage!r} "
                    f"({tasks[before.run.kernel].name}, {tasks[after.run.kernel].name}), and nothing makes the second "
                    "wait for the first."
                )
        active.append(access)
