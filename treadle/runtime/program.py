"""A Plan's program: the task schedule as arrays of native records, run by one native call.

`schedule_tasks` decides who does what; `Program` lays that out in memory; `pool` supplies the other threads.
"""

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from treadle.codegen import executor
from treadle.runtime.pool import native, pool, scratch
from treadle.runtime.profile import Profile, TaskTime
from treadle.runtime.tasks import Run, Schedule, Wait


@dataclass(frozen=True)
class KernelCall:
    """One kernel of a plan: its code, and its arguments: the slots of its buffers, then scalars if it takes any."""

    address: int
    args: tuple[int, ...]
    name: str = ""
    scratch_nbytes: int = 0


class Program:
    """Native records of one step. `keep` holds what the addresses in it point to, such as loaded libraries.

    `run(slots)` takes the address of an array of data pointers, one per slot. The program itself is never written, so
    several threads may call it at once if their slots differ. Programs of one thread never touch the pool.
    """

    def __init__(self, calls: Sequence[KernelCall], schedule: Schedule, keep: object = None) -> None:
        self.calls = tuple(calls)
        self.schedule = compact(schedule)
        self.num_threads = len(self.schedule)
        self.scratch_nbytes = max((call.scratch_nbytes for call in self.calls), default=0)
        self._keep = keep
        self._args = array("q")
        starts: list[int] = []
        for call in self.calls:
            starts.append(len(self._args))
            self._args.extend(call.args)
        if not self._args:
            self._args.append(0)
        base = self._args.buffer_info()[0]
        self._args_at = [base + 8 * start for start in starts]
        self._records = [self._encode(records) for records in self.schedule]
        self._first = self._records[0].buffer_info()[0]
        header = [self.num_threads]
        for records, words in zip(self.schedule, self._records, strict=True):
            num_runs = sum(isinstance(record, Run) for record in records)
            assert num_runs <= executor.MAX_RECORDS, f"{num_runs} records on one thread"
            header += [words.buffer_info()[0], num_runs + 1]
        self._header = array("q", header)
        self._program = self._header.buffer_info()[0]
        self._run_alone = native().run_alone

    def _encode(self, records: Sequence[Run | Wait]) -> "array[int]":
        words = array("q")
        for record in records:
            match record:
                case Run(kernel, lo, hi):
                    words.extend((self.calls[kernel].address, self._args_at[kernel], lo, hi, kernel))
                case Wait(thread, runs):
                    words.extend((executor.WAIT, thread, runs, 0, -1))
        words.extend((executor.END, 0, 0, 0, -1))
        return words

    def run(self, slots: int) -> None:
        """Run the step over the data pointers at address `slots`."""
        if self.num_threads > 1:
            pool.run(self.num_threads, self.scratch_nbytes, self._program, slots, 0)
        elif self.scratch_nbytes:
            self._run_with_scratch(slots, 0)
        else:
            self._run_alone(self._first, slots, 0, 0)

    def _run_with_scratch(self, slots: int, stamps: int) -> None:
        block = scratch.take(self.scratch_nbytes)
        self._run_alone(self._first, slots, block.address, stamps)
        scratch.give(block)

    def call_of(self, args: int) -> int:
        """Return the number of the call whose arguments are at this address."""
        return self._args_at.index(args)

    def timed(self, slots: int) -> list[TaskTime]:
        """Run the step once with time stamps: one entry per record, waits included, by thread and start."""
        stamps = [(ctypes.c_int64 * (2 * len(records) + 2))() for records in self.schedule]
        table = (ctypes.c_int64 * self.num_threads)(*(ctypes.addressof(s) for s in stamps))
        if self.num_threads > 1:
            pool.run(self.num_threads, self.scratch_nbytes, self._program, slots, ctypes.addressof(table))
        else:
            self._run_with_scratch(slots, ctypes.addressof(stamps[0]))
        rate = native().ticks_per_ns()
        origin = min(s[0] for s in stamps)
        found: list[TaskTime] = []
        for thread, records in enumerate(self.schedule):
            times = [round((tick - origin) / rate) for tick in stamps[thread]]
            for k, record in enumerate(records):
                kernel, lo, hi = record if isinstance(record, Run) else (-1, 0, 0)
                found.append(TaskTime(thread, kernel, lo, hi, times[2 * k], times[2 * k + 1]))
        return found

    def profile(self, slots: int, steps: int = 1) -> Profile:
        """Run the step with time stamps and gather them. Every run counts: a training step moves on by `steps`."""
        return Profile(tuple(call.name for call in self.calls), tuple(tuple(self.timed(slots)) for _ in range(steps)))


def compact(schedule: Schedule) -> Schedule:
    """The schedule without idle threads, so that nobody is woken for nothing; at least one thread is left.

    Nor does a thread wait for itself, which one that runs alone could not.
    """
    busy = [t for t, records in enumerate(schedule) if any(isinstance(record, Run) for record in records)]
    place = {t: k for k, t in enumerate(busy)}
    threads = tuple(
        tuple(
            Wait(place[record.thread], record.runs) if isinstance(record, Wait) else record
            for record in schedule[t]
            if isinstance(record, Run) or record.thread != t
        )
        for t in busy
    )
    return threads or ((),)
