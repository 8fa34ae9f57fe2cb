import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.runtime.kernels import Case, library
from treadle.core.config import config
from treadle.core.errors import ConfigError
from treadle.runtime.pool import pool
from treadle.runtime.program import KernelCall, Program, compact
from treadle.runtime.tasks import Run, Span, Task, Wait, schedule_tasks
from treadle.runtime.verify import verify_schedule

CORES = len(os.sched_getaffinity(0))


def program(case: Case, num_threads: int) -> Program:
    schedule = schedule_tasks(case.tasks, num_threads)
    verify_schedule(case.tasks, schedule)
    return Program(case.calls, schedule, keep=library())


def check(case: Case, made: Program, expected: np.ndarray, times: int) -> None:
    for _ in range(times):
        case.reset()
        made.run(case.address)
        np.testing.assert_array_equal(case.result(), expected)


@pytest.mark.parametrize("num_threads", [1, 2, 3, 8])
def test_random_programs_give_the_sequential_result(num_threads: int) -> None:
    for seed in range(30):
        case = Case(seed, 40, tiled=seed % 2 == 0)
        check(case, program(case, num_threads), case.expected(), 40 if num_threads <= CORES else 10)


def test_the_order_is_what_the_waits_say() -> None:
    # Without its waits a program gives something else sooner or later, or this file could not find a missing one.
    wrong = 0
    for seed in range(20):
        case = Case(seed, 40, tiled=False)
        schedule = tuple(
            tuple(record for record in thread if isinstance(record, Run)) for thread in schedule_tasks(case.tasks, 2)
        )
        made = Program(case.calls, schedule, keep=library())
        expected = case.expected()
        for _ in range(20):
            case.reset()
            made.run(case.address)
            wrong += not np.array_equal(case.result(), expected)
    assert wrong > 0


def test_one_thread_never_touches_the_pool() -> None:
    code = (
        "import threading\n"
        "from tests.runtime.kernels import Case, library\n"
        "from treadle.runtime import pool, program, tasks\n"
        "case = Case(1, 10, True)\n"
        "made = program.Program(case.calls, tasks.schedule_tasks(case.tasks, 1), keep=library())\n"
        "case.reset(); made.run(case.address)\n"
        "assert (case.result() == case.expected()).all()\n"
        "assert pool.pool.num_threads == 1 and threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.slow  # it measures time
def test_a_small_call_costs_little() -> None:
    case = Case(1, 1, tiled=True)
    made = program(case, 1)
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(1000):
            made.run(case.address)
        best = min(best, time.perf_counter() - start)
    # 0.65 microseconds on an idle core; the bound is for a busy one.
    assert best < 5e-3


def test_scratch_differs_between_threads_and_is_large_enough() -> None:
    call = KernelCall(library().address("touch"), (0,), "touch", scratch_nbytes=4096)
    whole = Span("m", 0, 64)
    data = (ctypes.c_int64 * 64)()
    slots = (ctypes.c_int64 * 1)(ctypes.addressof(data))
    for num_threads in (1, 3):
        made = Program([call], schedule_tasks([Task(3, 1e6, (), (whole,))], num_threads), keep=library())
        for _ in range(5):
            made.run(ctypes.addressof(slots))
        found = list(data)[:3] if num_threads > 1 else list(data)[:1]
        assert len(set(found)) == num_threads
        assert all(address and address % 64 == 0 for address in found)


def test_python_threads_take_turns() -> None:
    failures: list[str] = []

    def work(seed: int, num_threads: int) -> None:
        case = Case(seed, 30, tiled=bool(seed % 2))
        made, expected = program(case, num_threads), case.expected()
        for _ in range(60):
            case.reset()
            made.run(case.address)
            if not np.array_equal(case.result(), expected):
                failures.append(f"seed {seed}, {num_threads} threads")

    threads = [threading.Thread(target=work, args=(seed, seed % 3 + 1)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []


def test_more_threads_may_be_used_later_and_fewer_again() -> None:
    case = Case(5, 30, tiled=True)
    expected = case.expected()
    made = {n: program(case, n) for n in (2, 5, 3)}
    for n in (2, 5, 3, 5, 2):
        check(case, made[n], expected, 3)
    pool.close()
    assert pool.num_threads == 1
    check(case, made[5], expected, 3)
    assert pool.num_threads == made[5].num_threads


@pytest.mark.parametrize("spin_us", [0, 5, 1000])
def test_any_patience_is_correct(spin_us: float) -> None:
    case = Case(6, 30, tiled=False)
    made, expected = program(case, 2), case.expected()
    with config(spin_us=spin_us):
        for _ in range(20):
            check(case, made, expected, 3)
            time.sleep(0.0005)  # long enough for the worker to fall asleep with the shorter settings
    check(case, made, expected, 3)


@pytest.mark.slow  # it measures time
def test_idle_workers_cost_nothing() -> None:
    case = Case(7, 10, tiled=False)
    made = program(case, 4)
    check(case, made, case.expected(), 3)
    assert pool.num_threads >= made.num_threads > 1
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.01


def spinning(num_rounds: int) -> tuple[Program, int, object]:
    """Thread 0 works while thread 1 waits for it, then the other way round and thread 0 waits for the end."""
    data = (ctypes.c_int64 * 256)()
    base = ctypes.addressof(data)
    slots = (ctypes.c_int64 * 4)(*(base + 512 * k for k in range(4)))
    calls = [
        KernelCall(library().address("mix"), (0, 1, 2, num_rounds)),
        KernelCall(library().address("mix"), (0, 2, 3, num_rounds)),
    ]
    made = Program(calls, ((Run(0, 0, 64),), (Wait(0, 1), Run(1, 0, 64))), keep=library())
    return made, ctypes.addressof(slots), (data, slots)


@pytest.mark.slow  # it measures time
def test_long_waits_inside_a_step_cost_nothing() -> None:
    made, slots, _keep = spinning(30_000_000)
    made.run(slots)
    shares: list[float] = []
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        made.run(slots)
        shares.append((time.process_time() - cpu) / (time.perf_counter() - wall))
    assert min(shares) < 1.2, shares


@pytest.mark.skipif(CORES < 2, reason="there is no other core to go to")
def test_a_worker_leaves_the_cpu_of_the_caller() -> None:
    made, slots, _keep = spinning(1000)
    made.run(slots)
    worker = pool._workers[0].native_id
    assert worker is not None
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    try:
        os.sched_setaffinity(0, {cpu})
        os.sched_setaffinity(worker, {cpu})
        end = time.monotonic() + 20
        while cpu in os.sched_getaffinity(worker) and time.monotonic() < end:
            made.run(slots)
        assert os.sched_getaffinity(worker) == allowed - {cpu}
    finally:
        os.sched_setaffinity(0, allowed)
        pool.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_fork_starts_its_own_workers() -> None:
    case = Case(8, 30, tiled=False)
    made, expected = program(case, 3), case.expected()
    check(case, made, expected, 3)
    stop = threading.Event()

    def busy() -> None:
        other = Case(9, 30, tiled=False)
        running = program(other, 2)
        while not stop.is_set():
            running.run(other.address)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    signal.alarm(20)
                    check(case, made, expected, 5)
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            check(case, made, expected, 3)
    finally:
        stop.set()
        thread.join()


LONG = """
import ctypes, os, signal, sys, threading, time
import numpy as np
from tests.runtime.kernels import Case, library
from treadle.runtime.program import KernelCall, Program
from treadle.runtime.tasks import Span, Task, schedule_tasks
data = (ctypes.c_int64 * 192)()
base = ctypes.addressof(data)
slots = (ctypes.c_int64 * 3)(base, base + 512, base + 1024)
at = ctypes.addressof(slots)
spans = [Span("m", 512 * k, 512 * k + 512) for k in range(3)]
call = KernelCall(library().address("mix"), (0, 1, 2, 300_000_000), "mix")
task = Task(64, 1e9, tuple(spans[:2]), (spans[2],))
made = Program([call], schedule_tasks([task], 2), keep=library())
"""


def test_ctrl_c_waits_for_the_end_of_the_step() -> None:
    code = LONG + (
        "main = os.getpid()\n"
        "threading.Timer(0.02, os.kill, (main, signal.SIGINT)).start()\n"
        "try:\n"
        "    made.run(at)\n"
        "    time.sleep(5)\n"
        "    sys.exit(3)\n"
        "except KeyboardInterrupt:\n"
        "    done = np.array_equal(np.frombuffer(data, np.int64)[128:], 300_000_000 * np.arange(64))\n"
        "    made.run(at)\n"
        "    sys.exit(0 if done else 4)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "ending",
    ["pass", "sys.exit(0)", "threading.Thread(target=made.run, args=(at,), daemon=True).start(); time.sleep(0.02)"],
)
def test_the_interpreter_ends_cleanly(ending: str) -> None:
    code = LONG.replace("300_000_000", "1000") + f"made.run(at)\n{ending}\n"
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_idle_threads_are_left_out() -> None:
    schedule = ((), (Run(0, 0, 1),), (), (Wait(1, 1), Run(1, 0, 1)))
    assert compact(schedule) == ((Run(0, 0, 1),), (Wait(0, 1), Run(1, 0, 1)))
    assert compact(((), ())) == ((),)
    assert compact(((Run(0, 0, 1), Wait(0, 1), Run(1, 0, 1)),)) == ((Run(0, 0, 1), Run(1, 0, 1)),)


def test_an_empty_program_runs() -> None:
    Program([], schedule_tasks([], 4)).run(0)


def test_more_threads_than_the_context_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 1024"):
        pool.run(5000, 0, 0, 0, 0)


def test_time_stamps_cover_the_step() -> None:
    case = Case(3, 20, tiled=False)
    made, expected = program(case, 2), case.expected()
    for _ in range(3):
        case.reset()
        began = time.perf_counter_ns()
        times = made.timed(case.address)
        elapsed = time.perf_counter_ns() - began
        np.testing.assert_array_equal(case.result(), expected)
        assert [(t.kernel, t.lo, t.hi) for t in times if t.kernel >= 0] == [
            tuple(record) for thread in made.schedule for record in thread if isinstance(record, Run)
        ]
        for thread in range(made.num_threads):
            mine = [t for t in times if t.thread == thread]
            ends = [end for t in mine for end in (t.start_ns, t.stop_ns)]
            assert ends == sorted(ends)
        assert min(t.start_ns for t in times) == 0
        assert 0 < max(t.stop_ns for t in times) <= 1.05 * elapsed + 1000
