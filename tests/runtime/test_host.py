"""Tasks that run in Python: operands and results are the program's memory, exceptions wait until the run is over."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from treadle.core import Type, bfloat16, float32, int64
from treadle.runtime import KernelCall, Program, Run
from treadle.runtime.host import host_task, take_failure

F = Type(float32, (2, 3))


def run(address: int, *arrays: np.ndarray, tiles: Sequence[Run] = (Run(0, 0, 1),)) -> int:
    """Run one task over arrays; return the address of the slots."""
    slots = (ctypes.c_int64 * len(arrays))(*(a.ctypes.data for a in arrays))
    program = Program([KernelCall(address, tuple(range(len(arrays))))], (tuple(tiles),))
    program.run(ctypes.addressof(slots))
    return ctypes.addressof(slots)


def test_a_task_reads_and_writes_the_memory_of_the_program() -> None:
    task = host_task(lambda x: [x[0] + x[1], x[0] > 0], [F, F], [F, Type(int64, (2, 3))])
    a, b = np.arange(6, dtype="f4").reshape(2, 3), np.ones((2, 3), "f4")
    total, sign = np.zeros((2, 3), "f4"), np.zeros((2, 3), np.int64)
    slots = run(task, a, b, total, sign)
    np.testing.assert_array_equal(total, a + 1)
    np.testing.assert_array_equal(sign, a > 0)
    assert take_failure(slots) is None


def test_values_of_any_dtype_and_of_no_element() -> None:
    of, none = Type(bfloat16, (3,)), Type(float32, (0, 2))
    task = host_task(lambda x: [x[0] * 2, x[1]], [of, none], [of, none])
    a, out = np.arange(3).astype(bfloat16.numpy), np.zeros(3, bfloat16.numpy)
    nothing = np.zeros((0, 2), "f4")
    run(task, a, nothing, out, nothing)
    np.testing.assert_array_equal(out.astype("f4"), [0, 2, 4])


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_exception_is_kept_and_the_results_are_marked(error: BaseException) -> None:
    def fail(_: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise error

    task = host_task(fail, [F], [F, Type(int64, (2,))])
    out, numbers = np.ones((2, 3), "f4"), np.ones(2, np.int64)
    slots = run(task, np.zeros((2, 3), "f4"), out, numbers)
    assert np.isnan(out).all()
    np.testing.assert_array_equal(numbers, [0, 0])
    failure = take_failure(slots)
    assert failure is not None
    assert failure.error is error
    assert take_failure(slots) is None


FIRST_RUNS = """
import threading, numpy as np, treadle as td
wrong = []
def work(seed):
    a = np.random.default_rng(seed).standard_normal((3, 8, 8))
    for _ in range(20):
        if not np.allclose(td.linalg.inv(td.asarray(a)).numpy(), np.linalg.inv(a)):
            wrong.append(seed)
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
"""


def test_the_first_runs_may_be_in_several_threads() -> None:
    # Each may load the executor: what one of them loaded must not go away with its last user.
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", FIRST_RUNS], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
