"""The records of a schedule without a machine: when each would start and stop if kernels took their estimated times."""

from collections.abc import Sequence

from treadle.core.errors import ScheduleError
from treadle.runtime.profile import WAITING, TaskTime
from treadle.runtime.tasks import SYNC_NS, Run, Schedule, Task


def simulate_schedule(tasks: Sequence[Task], schedule: Schedule, *, sync_ns: float = SYNC_NS) -> list[TaskTime]:
    """The timeline that `Program.timed` would give if a task of cost c ran t of its n tiles in `c * t / n`.

    A wait ends `sync_ns` after the awaited run, or at once if that was long ago.
    """
    now = [0.0] * len(schedule)
    finish: list[list[float]] = [[] for _ in schedule]
    lanes: list[list[TaskTime]] = [[] for _ in schedule]
    moved = True
    while moved:
        moved = False
        for thread, records in enumerate(schedule):
            for record in records[len(lanes[thread]) :]:
                start = now[thread]
                if isinstance(record, Run):
                    task = tasks[record.kernel]
                    now[thread] += task.cost_ns * (record.hi - record.lo) / max(task.num_tiles, 1)
                    finish[thread].append(now[thread])
                    kernel, lo, hi = record
                elif len(finish[record.thread]) >= record.runs:
                    now[thread] = max(start, finish[record.thread][record.runs - 1] + sync_ns)
                    kernel, lo, hi = WAITING, 0, 0
                else:
                    break
                lanes[thread].append(TaskTime(thread, kernel, lo, hi, round(start), round(now[thread])))
                moved = True
    if any(len(lane) < len(records) for lane, records in zip(lanes, schedule, strict=True)):
        raise ScheduleError("simulate_schedule: the schedule waits forever. Waits must not form a circle.")
    return [time for lane in lanes for time in lane]
