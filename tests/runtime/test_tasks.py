import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.errors import ScheduleError
from treadle.runtime.tasks import Run, Schedule, Span, Task, Wait, schedule_tasks
from treadle.runtime.verify import verify_schedule

KIB = 1024


def waits(schedule: Schedule) -> list[Wait]:
    return [record for thread in schedule for record in thread if isinstance(record, Wait)]


def chain(num: int, cost_ns: float, tile_nbytes: int = 0) -> list[Task]:
    """Kernel k reads buffer k and writes buffer k + 1, each 64 KiB in 16 tiles."""
    size = 64 * KIB
    return [
        Task(
            16,
            cost_ns,
            (Span("m", k * size, (k + 1) * size, tile_nbytes),),
            (Span("m", (k + 1) * size, (k + 2) * size, tile_nbytes),),
        )
        for k in range(num)
    ]


def test_one_thread_runs_everything_in_order_without_waits() -> None:
    assert schedule_tasks(chain(3, 1e6), 1) == ((Run(0, 0, 16), Run(1, 0, 16), Run(2, 0, 16)),)


def test_work_too_small_to_share_stays_on_the_caller() -> None:
    schedule = schedule_tasks(chain(4, 1000.0), 4)
    assert [len(thread) for thread in schedule] == [4, 0, 0, 0]


def test_a_large_kernel_is_split_evenly() -> None:
    (task,) = chain(1, 1e6)
    assert schedule_tasks([task], 3) == ((Run(0, 0, 5),), (Run(0, 5, 10),), (Run(0, 10, 16),))


def test_pieces_are_not_smaller_than_the_threshold() -> None:
    (task,) = chain(1, 24_000.0)
    assert sum(bool(thread) for thread in schedule_tasks([task], 8)) == 4


def test_tiles_that_line_up_need_no_wait() -> None:
    assert waits(schedule_tasks(chain(10, 1e6, 4 * KIB), 2)) == []


def test_whole_buffers_need_one_wait_per_piece_and_kernel() -> None:
    # Two threads, nine boundaries: each of the two pieces waits for the other thread's piece before it.
    assert len(waits(schedule_tasks(chain(10, 1e6), 2))) == 18


def test_independent_small_kernels_run_side_by_side() -> None:
    tasks = [Task(1, 4000.0, (), (Span("m", k * 64, k * 64 + 64),)) for k in range(8)]
    schedule = schedule_tasks(tasks, 2)
    assert [len(thread) for thread in schedule] == [4, 4]
    assert waits(schedule) == []


def test_a_chain_of_small_kernels_stays_where_it_is() -> None:
    size = 64
    tasks = [
        Task(1, 4000.0, (Span("m", k * size, (k + 1) * size),), (Span("m", (k + 1) * size, (k + 2) * size),))
        for k in range(8)
    ]
    assert [len(thread) for thread in schedule_tasks(tasks, 2)] == [8, 0]


def test_a_busy_thread_gets_a_smaller_piece() -> None:
    tasks = [Task(1, 40_000.0, (), (Span("a", 0, 64),)), Task(100, 160_000.0, (), (Span("b", 0, 64),))]
    schedule = schedule_tasks(tasks, 2)
    assert schedule == ((Run(0, 0, 1), Run(1, 0, 38)), (Run(1, 38, 100),))


def test_a_wait_that_another_implies_is_left_out() -> None:
    a, b, c = (Span(name, 0, 64) for name in "abc")
    tasks = [
        Task(1, 50_000.0, (), (a,)),  # thread 0
        Task(1, 10_000.0, (), (b,)),  # thread 1
        Task(1, 10_000.0, (), (Span("d", 0, 64),)),  # thread 2
        Task(1, 200_000.0, (b, Span("d", 0, 64)), (c,)),  # waits for thread 1 or 2
        Task(1, 1000.0, (c, b, Span("d", 0, 64)), (a,)),  # all of it was known to the maker of c
    ]
    schedule = schedule_tasks(tasks, 3)
    verify_schedule(tasks, schedule)
    assert len(waits(schedule)) == 2


@pytest.mark.parametrize("kind", ["RAW", "WAR", "WAW"])
def test_every_kind_of_hazard_is_waited_for(kind: str) -> None:
    left, right = Span("m", 0, 100), Span("m", 99, 200)
    other = Span("n", 0, 64)
    long = 1e5
    first = {"RAW": ((), (left,)), "WAR": ((left,), ()), "WAW": ((), (left,))}[kind]
    second = {"RAW": ((right,), ()), "WAR": ((), (right,)), "WAW": ((), (right,))}[kind]
    tasks = [Task(1, long, *first), Task(1, 2 * long, (), (other,)), Task(1, long, second[0] + (other,), second[1])]
    schedule = schedule_tasks(tasks, 2)
    verify_schedule(tasks, schedule)
    assert len(waits(schedule)) == 1


def test_reads_do_not_wait_for_reads() -> None:
    shared = Span("m", 0, 64)
    tasks = [Task(1, 1e5, (shared,), (Span("n", 64 * k, 64 * k + 64),)) for k in range(4)]
    assert waits(schedule_tasks(tasks, 2)) == []


@st.composite
def programs(draw: st.DrawFn) -> list[Task]:
    """Tasks over two small storages with any overlaps; spans of one task do not conflict across its tiles."""
    tasks: list[Task] = []
    for _ in range(draw(st.integers(1, 25))):
        num_tiles = draw(st.sampled_from([1, 2, 7, 16]))
        tile = draw(st.sampled_from([0, 4]))

        def span(tile: int = tile, num_tiles: int = num_tiles) -> Span:
            start = draw(st.integers(0, 60))
            stop = start + tile * num_tiles if tile else start + draw(st.integers(0, 40))
            return Span(draw(st.sampled_from("xy")), start, stop, tile)

        reads = tuple(span() for _ in range(draw(st.integers(0, 3))))
        writes = tuple(span() for _ in range(draw(st.integers(0, 2))))
        tasks.append(Task(num_tiles, draw(st.sampled_from([0.0, 1000.0, 12_000.0, 1e5])), reads, writes))
    return tasks


@given(programs(), st.integers(1, 6))
def test_any_schedule_is_proved_safe(tasks: list[Task], num_threads: int) -> None:
    schedule = schedule_tasks(tasks, num_threads)
    verify_schedule(tasks, schedule)
    assert len(schedule) == num_threads
    assert schedule == schedule_tasks(tasks, num_threads)


@given(programs(), st.integers(2, 4), st.randoms(use_true_random=False))
def test_without_one_of_its_waits_a_schedule_is_refused(tasks, num_threads, rng) -> None:
    schedule = schedule_tasks(tasks, num_threads)
    places = [
        (t, k) for t, thread in enumerate(schedule) for k, record in enumerate(thread) if isinstance(record, Wait)
    ]
    if places:
        thread, at = rng.choice(places)
        broken = tuple(r[:at] + r[at + 1 :] if t == thread else r for t, r in enumerate(schedule))
        with pytest.raises(ScheduleError, match="nothing makes the second wait"):
            verify_schedule(tasks, broken)


def test_the_proof_refuses_tiles_that_are_missing_or_run_twice() -> None:
    tasks = chain(1, 1.0)
    for runs in ((Run(0, 0, 15),), (Run(0, 0, 16), Run(0, 3, 4)), ()):
        with pytest.raises(ScheduleError, match="Every tile must run exactly once"):
            verify_schedule(tasks, (runs,))


def test_the_proof_refuses_a_circle_of_waits() -> None:
    with pytest.raises(ScheduleError, match="waits forever"):
        verify_schedule(chain(2, 1.0), ((Wait(1, 1), Run(0, 0, 16)), (Wait(0, 1), Run(1, 0, 16))))


def test_no_threads_are_refused() -> None:
    with pytest.raises(ScheduleError, match="at least 1"):
        schedule_tasks([], 0)


def test_nothing_to_do_is_a_schedule() -> None:
    assert schedule_tasks([], 2) == ((), ())


@pytest.mark.slow  # it measures time
def test_a_thousand_kernels_are_placed_quickly() -> None:
    # About 25 ms on an idle core; the bound leaves room for a busy one and still finds quadratic behaviour.
    tasks = chain(1000, 1e5)
    start = time.thread_time()
    schedule_tasks(tasks, 2)
    assert time.thread_time() - start < 0.2
