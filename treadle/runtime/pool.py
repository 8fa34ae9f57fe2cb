"""Worker threads: Python daemon threads that live inside the native executor, rung once per step.

The pool starts no thread before a program needs one, survives fork (the child starts its own), and goes home at exit.
One step runs at a time; callers from several Python threads queue at its lock.
"""

import atexit
import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from treadle.codegen import executor, toolchain
from treadle.codegen.cache import object_code
from treadle.codegen.target import host
from treadle.core.config import config
from treadle.core.errors import ConfigError
from treadle.runtime.storage import Storage, allocate, map_pages

_CALIBRATION_NS = 2_000_000
_JOIN_SECONDS = 5.0
# Of config.spin_us a waiting thread spends this much without offering its core to others.
_SPIN_US = 10.0
# A worker that shares a CPU with another thread of the step looks for its own at most this often.
_HOP_US = 1000.0


@dataclass(frozen=True)
class Native:
    """Entry points of the executor. Addresses pass as plain ints; each call drops the GIL."""

    run: Callable[[int, int, int, int], None]  # context, program, slots, stamps
    run_alone: Callable[[int, int, int, int], None]  # records, slots, scratch, stamps
    worker: Callable[[int, int], None]  # context, thread
    stop: Callable[[int, int], None]  # context, num_threads
    clock: Callable[[], int]
    started: tuple[int, int]  # (ticks, nanoseconds) when it was loaded
    keep: object

    def ticks_per_ns(self) -> float:
        """The rate of the clock that stamps records, measured against Python's since the executor was loaded."""
        while (elapsed := time.perf_counter_ns() - self.started[1]) < _CALIBRATION_NS:
            time.sleep((_CALIBRATION_NS - elapsed) / 1e9)
        return (self.clock() - self.started[0]) / (time.perf_counter_ns() - self.started[1])


_every: list[Native] = []  # two threads may load at once; programs hold addresses in either executor


@cache
def native() -> Native:
    """The executor, compiled and loaded at first use."""
    names = (executor.RUN, executor.RUN_ALONE, executor.WORKER, executor.STOP, executor.CLOCK)
    text = executor.executor_text()
    code = toolchain.load([object_code(text, lambda: text, host())], names)
    word = ctypes.c_size_t
    four = ctypes.CFUNCTYPE(None, word, word, word, word)
    two = ctypes.CFUNCTYPE(None, word, word)
    clock = ctypes.CFUNCTYPE(ctypes.c_int64)(code.address(executor.CLOCK))
    made = Native(
        run=four(code.address(executor.RUN)),
        run_alone=four(code.address(executor.RUN_ALONE)),
        worker=two(code.address(executor.WORKER)),
        stop=two(code.address(executor.STOP)),
        clock=clock,
        started=(clock(), time.perf_counter_ns()),
        keep=code,
    )
    _every.append(made)
    return made


class Pool:
    """The workers, what they share with the caller (the context), and one block of scratch per thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._closed = False
        self._abandoned: list[mmap.mmap | None] = []
        self._forget()

    def _forget(self) -> None:
        self._pages: mmap.mmap | None = None
        self._context = 0
        self._num_threads = 1
        self._workers: list[threading.Thread] = []
        self._scratch: list[Storage] = []
        self._scratch_nbytes = 0
        self._budget: tuple[float, bool] | None = None
        self._num_cores = 1

    @property
    def num_threads(self) -> int:
        """Threads a step can use now, the caller included; 1 when no worker was ever needed."""
        return self._num_threads

    def run(self, num_threads: int, scratch_nbytes: int, program: int, slots: int, stamps: int) -> None:
        """Run a program of `num_threads` threads to its end; the last three are addresses (stamps may be 0)."""
        with self.lock:
            if num_threads > self._num_threads or scratch_nbytes > self._scratch_nbytes or not self._context:
                self._grow(num_threads, scratch_nbytes)
            budget = (config.spin_us, num_threads > self._num_cores)
            if budget != self._budget:
                self._set_budget(*budget)
            native().run(self._context, program, slots, stamps)

    def _word(self, offset: int) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self._context + offset)

    def _set_budget(self, spin_us: float, crowded: bool) -> None:
        rate = native().ticks_per_ns()
        # With more threads than cores a spinning thread holds the core that the awaited one needs.
        self._word(executor.COMMAND_SPIN_TICKS).value = 0 if crowded else int(min(spin_us, _SPIN_US) * 1000 * rate)
        self._word(executor.COMMAND_PATIENCE_TICKS).value = int(spin_us * 1000 * rate)
        self._word(executor.COMMAND_HOP_TICKS).value = -1 if crowded else int(_HOP_US * 1000 * rate)
        self._budget = (spin_us, crowded)

    def _grow(self, num_threads: int, scratch_nbytes: int) -> None:
        if self._closed:
            raise RuntimeError("run: the interpreter is shutting down, and its worker threads are gone.")
        if num_threads > executor.MAX_THREADS:
            raise ConfigError(f"run: {num_threads} threads asked; at most {executor.MAX_THREADS}. Set config.threads.")
        if self._pages is None:
            # Fixed in place for as long as a worker lives in it; pages of unused threads are never touched.
            self._pages, self._context = map_pages(executor.CONTEXT_NBYTES)
        self._allow_cpus(os.sched_getaffinity(0))
        self._scratch_nbytes = max(scratch_nbytes, self._scratch_nbytes)
        # Blocks that a worker may use are replaced only between steps, under the lock.
        small = [s for s in self._scratch if s.nbytes < self._scratch_nbytes]
        if small or len(self._scratch) < num_threads:
            total = max(num_threads, len(self._scratch))
            self._scratch = [allocate(self._scratch_nbytes) for _ in range(total)]
            for thread, block in enumerate(self._scratch):
                base = executor.THREAD_BASE + thread * executor.THREAD_STRIDE
                self._word(base + executor.THREAD_SCRATCH).value = block.address
        for thread in range(self._num_threads, num_threads):
            worker = threading.Thread(
                target=native().worker, args=(self._context, thread), name=f"treadle-{thread}", daemon=True
            )
            worker.start()
            self._workers.append(worker)
            self._num_threads = thread + 1

    def _allow_cpus(self, cpus: set[int]) -> None:
        """Note the CPUs that workers may use; at most the system's 1024 are known."""
        self._num_cores = len(cpus)
        mask = sum(1 << cpu for cpu in cpus if cpu < 8 * executor.ALLOWED_CPUS_NBYTES)
        words = mask.to_bytes(executor.ALLOWED_CPUS_NBYTES, "little")
        ctypes.memmove(self._context + executor.ALLOWED_CPUS, words, len(words))

    def close(self) -> None:
        """Send the workers home; a later run starts new ones."""
        with self.lock:
            self._close()

    def _close(self) -> None:
        if self._workers:
            native().stop(self._context, self._num_threads)
            for worker in self._workers:
                worker.join(_JOIN_SECONDS)
            if any(worker.is_alive() for worker in self._workers):
                self._abandoned.append(self._pages)  # what a worker still looks at must outlive it
        self._forget()

    def close_at_exit(self) -> None:
        """Send the workers home for good: the code they spin in is about to be unloaded."""
        if self.lock.acquire(timeout=_JOIN_SECONDS):
            try:
                self._closed = True
                self._close()
            finally:
                self.lock.release()

    def before_fork(self) -> None:
        """Let a step in progress finish, so that the child gets memory at rest."""
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Forget the workers: threads do not follow a fork. The next run starts new ones."""
        self.lock = threading.Lock()
        self._forget()


pool = Pool()
atexit.register(pool.close_at_exit)
os.register_at_fork(
    before=pool.before_fork, after_in_parent=pool.after_fork_in_parent, after_in_child=pool.after_fork_in_child
)


class ScratchList:
    """Scratch of programs that run on the calling thread alone: one block per caller at a time."""

    def __init__(self) -> None:
        self._blocks: list[Storage] = []
        self._nbytes = 0

    def take(self, nbytes: int) -> Storage:
        """A block of at least `nbytes` bytes."""
        self._nbytes = max(self._nbytes, nbytes)
        try:
            block = self._blocks.pop()
        except IndexError:
            return allocate(self._nbytes)
        return block if block.nbytes >= nbytes else allocate(self._nbytes)

    def give(self, block: Storage) -> None:
        """Return a block."""
        self._blocks.append(block)


scratch = ScratchList()
