import pytest

from treadle.core.errors import ScheduleError
from treadle.runtime.profile import Profile, TaskTime
from treadle.runtime.simulate import simulate_schedule
from treadle.runtime.tasks import Run, Span, Task, Wait, schedule_tasks


def test_a_timeline_follows_costs_and_waits() -> None:
    tasks = [Task(4, 8000.0), Task(1, 1000.0), Task(2, 3000.0)]
    schedule = ((Run(0, 0, 3), Wait(1, 2), Run(2, 0, 2)), (Run(0, 3, 4), Run(1, 0, 1)))
    assert simulate_schedule(tasks, schedule, sync_ns=100) == [
        TaskTime(0, 0, 0, 3, 0, 6000),
        TaskTime(0, -1, 0, 0, 6000, 6000),
        TaskTime(0, 2, 0, 2, 6000, 9000),
        TaskTime(1, 0, 3, 4, 0, 2000),
        TaskTime(1, 1, 0, 1, 2000, 3000),
    ]
    late = simulate_schedule([Task(4, 8000.0), Task(1, 9000.0), Task(2, 3000.0)], schedule, sync_ns=100)
    assert late[1] == TaskTime(0, -1, 0, 0, 6000, 11100)


def test_more_threads_never_take_longer_by_the_estimate() -> None:
    span = [Span("m", 1000 * k, 1000 * k + 1000) for k in range(12)]
    tasks = [Task(16, 30_000.0 * (k % 3 + 1), (span[k // 2],), (span[k + 1],)) for k in range(11)]
    names = tuple(task.name for task in tasks)
    totals = [
        Profile(names, (tuple(simulate_schedule(tasks, schedule_tasks(tasks, n))),)).total_ns for n in (1, 2, 4, 8)
    ]
    assert totals[0] == sum(task.cost_ns for task in tasks)
    assert totals == sorted(totals, reverse=True)
    assert totals[0] / totals[1] > 1.9


def test_a_circle_is_refused() -> None:
    with pytest.raises(ScheduleError, match="simulate_schedule: the schedule waits forever"):
        simulate_schedule([Task(1, 1.0)], ((Wait(1, 1), Run(0, 0, 1)), (Wait(0, 1),)))
