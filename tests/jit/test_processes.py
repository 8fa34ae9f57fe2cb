"""Several threads, forked children and several processes with one cache run the same programs and get the same bits."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

import treadle as td

XS = [np.random.default_rng(i).standard_normal((40, 40)).astype(np.float32) for i in range(3)]


def in_threads(work: Callable[[int], None]) -> None:
    """Run `work(k)` in three threads; raise what any of them raises."""
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [Thread(target=run, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def compiled() -> Callable[[np.ndarray], td.Tensor]:
    return td.compile(lambda x: td.tanh(x) @ td.tanh(x).mT)


def eager(x: np.ndarray) -> td.Tensor:
    t = td.tanh(td.asarray(x))
    return t @ t.mT


@pytest.mark.parametrize("function", [compiled(), eager], ids=["compiled", "eager"])
def test_threads_share_a_plan(function: Callable[[np.ndarray], td.Tensor]) -> None:
    wanted = [function(x).numpy().tobytes() for x in XS]

    def work(k: int) -> None:
        for _ in range(60):
            assert function(XS[k]).numpy().tobytes() == wanted[k]

    in_threads(work)


def test_threads_compile_at_the_same_time() -> None:
    def work(k: int) -> None:
        f = td.compile(lambda x: (x * (k + 1) + 1).sum(axis=1))
        for n in range(1, 8):
            np.testing.assert_array_equal(f(np.ones((n, 3), np.float32)).numpy(), np.full(n, 3 * (k + 2)))

    in_threads(work)


def test_children_of_a_fork_go_on() -> None:
    f = compiled()
    want = f(XS[0]).numpy()
    children: list[int] = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            same = (f(XS[0]).numpy() == want).all()
            new = td.compile(lambda x: x.sum(axis=0) + 1)(XS[1]).shape == (40,)
            os._exit(0 if same and new else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert (f(XS[0]).numpy() == want).all()


def test_a_fork_while_another_thread_runs_the_plan() -> None:
    f = compiled()
    want = f(XS[0]).numpy()
    with f.plan(XS[0]).lock:  # as a thread holds it while its step runs
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if (f(XS[0]).numpy() == want).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


PROGRAM = """
import numpy as np, treadle as td
x = np.arange(600, dtype=np.float32).reshape(20, 30) / 100
f = td.compile(lambda x: (td.softmax(x @ x.mT), td.tanh(x).sum(axis=0)))
print(*[t.numpy().tobytes().hex() for t in f(x)])
"""


def start(cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"TREADLE_CACHE_DIR": str(cache), "TREADLE_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)


def outputs(*processes: subprocess.Popen[str]) -> set[str]:
    found = {p.communicate()[0] for p in processes}
    assert [p.returncode for p in processes] == [0] * len(processes)
    return found


def test_processes_share_a_cache_that_may_be_damaged(tmp_path: Path) -> None:
    first = outputs(*[start(tmp_path) for _ in range(4)])
    assert len(first) == 1
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size > 200]
    assert files
    for k, file in enumerate(files):
        content = file.read_bytes()
        file.write_bytes([b"", content[: len(content) // 2], content[:-1] + b"\xff", b"\0" * len(content)][k % 4])
    assert outputs(*[start(tmp_path) for _ in range(2)]) == first
