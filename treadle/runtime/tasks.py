"""The static task schedule: which thread runs which tiles of which kernel, and where a thread must wait for another.

Placement follows an estimate of time; correctness does not depend on it. Every dependency (read after write, write
after read, write after write) between records of different threads is covered by a wait, or by an earlier wait that
implies it: vector clocks know which, so few waits remain.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from treadle.core.errors import ScheduleError

# Work worth handing to another thread, and what it costs to see that another thread has finished.
MIN_PIECE_NS = 5000.0
SYNC_NS = 300.0
# A step shorter than this is not shared: its workers may be asleep, and take 5 to 40 microseconds to wake up.
MIN_STEP_NS = 20_000.0


class Span(NamedTuple):
    """Bytes [start, stop) of a named storage.

    With `tile_nbytes`, tile k touches only the tile_nbytes bytes from start + k * tile_nbytes.
    """

    storage: str
    start: int
    stop: int
    tile_nbytes: int = 0

    def of_tiles(self, lo: int, hi: int) -> tuple[int, int]:
        """The bytes that tiles [lo, hi) touch."""
        if not self.tile_nbytes:
            return self.start, self.stop
        return self.start + lo * self.tile_nbytes, min(self.start + hi * self.tile_nbytes, self.stop)


@dataclass(frozen=True)
class Task:
    """One kernel call as the scheduler sees it: parallel tiles, estimated time of all of them, memory touched."""

    num_tiles: int
    cost_ns: float
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    name: str = ""


class Run(NamedTuple):
    """Run tiles [lo, hi) of a kernel."""

    kernel: int
    lo: int
    hi: int


class Wait(NamedTuple):
    """Wait until a thread has finished its first `runs` runs of this step."""

    thread: int
    runs: int


Schedule = tuple[tuple[Run | Wait, ...], ...]
Clock = list[int]  # per thread: how many of its runs are known to be finished


class _Segment:
    """Bytes with one history: per thread, the count of the last run that wrote them, and that read them since."""

    __slots__ = ("readers", "writers")

    def __init__(self, writers: dict[int, int], readers: dict[int, int]) -> None:
        self.writers = writers
        self.readers = readers


class _History:
    """Who touched which bytes of one storage: sorted boundaries, and the segment that starts at each."""

    def __init__(self) -> None:
        self.bounds: list[int] = [-1, 1 << 62]
        self.segments: list[_Segment] = [_Segment({}, {})]

    def cut(self, start: int, stop: int) -> tuple[int, int]:
        """Make boundaries at both ends; the segments between them are [first, last)."""
        bounds, segments = self.bounds, self.segments
        first = bisect_left(bounds, start)
        if bounds[first] != start:
            old = segments[first - 1]
            bounds.insert(first, start)
            segments.insert(first, _Segment(dict(old.writers), dict(old.readers)))
        last = bisect_left(bounds, stop, first)
        if bounds[last] != stop:
            old = segments[last - 1]
            bounds.insert(last, stop)
            segments.insert(last, _Segment(dict(old.writers), dict(old.readers)))
        return first, last

    def need(self, start: int, stop: int, *, write: bool, needed: dict[int, int]) -> None:
        """Add to `needed` the runs that must be finished before these bytes are touched."""
        if start >= stop:
            return
        first = bisect_right(self.bounds, start) - 1
        last = bisect_left(self.bounds, stop)
        for segment in self.segments[first:last]:
            for thread, count in segment.writers.items():
                if count > needed.get(thread, 0):
                    needed[thread] = count
            if write:
                for thread, count in segment.readers.items():
                    if count > needed.get(thread, 0):
                        needed[thread] = count

    def read(self, start: int, stop: int, pieces: dict[int, int]) -> None:
        """Note that runs (thread -> count) read these bytes."""
        if start >= stop:
            return
        first, last = self.cut(start, stop)
        for segment in self.segments[first:last]:
            segment.readers.update(pieces)

    def write(self, start: int, stop: int, pieces: dict[int, int]) -> None:
        """Note that runs (thread -> count) wrote these bytes: all that came before is behind them."""
        if start >= stop:
            return
        first, last = self.cut(start, stop)
        self.bounds[first + 1 : last] = []
        self.segments[first:last] = [_Segment(dict(pieces), {})]


@dataclass
class _Thread:
    """A thread while its records are placed."""

    records: list[Run | Wait]
    clock: Clock
    clocks: list[Clock]  # the clock at the end of each run, for those who wait for it
    finish: list[float]  # estimated end of each run
    ready: float = 0.0


class _Need(NamedTuple):
    """What a run depends on: the last run concerned per thread, the waits that imply all of them, the clock after."""

    runs: dict[int, int]
    waits: list[tuple[int, int]]
    clock: Clock


class _Piece(NamedTuple):
    thread: int
    lo: int
    hi: int
    need: _Need


class _Scheduler:
    def __init__(self, num_threads: int, min_piece_ns: float) -> None:
        self.num_threads = num_threads
        self.min_piece_ns = min_piece_ns
        self.threads = [_Thread([], [0] * num_threads, [], []) for _ in range(num_threads)]
        self.memory: defaultdict[str, _History] = defaultdict(_History)

    def need(self, task: Task, lo: int, hi: int) -> _Need:
        """The dependencies of tiles [lo, hi), without the waits that others imply: a run covers all it waited for."""
        runs: dict[int, int] = {}
        for span in task.reads:
            self.memory[span.storage].need(*span.of_tiles(lo, hi), write=False, needed=runs)
        for span in task.writes:
            self.memory[span.storage].need(*span.of_tiles(lo, hi), write=True, needed=runs)
        known = [(t, c, self.threads[t].clocks[c - 1]) for t, c in runs.items()]
        waits = [(t, c) for t, c, clock in known if not any(k[t] >= c for _, _, k in known if k is not clock)]
        if len(waits) > 1:
            # The one likely to be finished last comes first: when it is met, so are the others.
            waits.sort(key=lambda wait: -self.threads[wait[0]].finish[wait[1] - 1])
        merged = [0] * self.num_threads if not known else list(known[0][2])
        for _, _, clock in known[1:]:
            merged = list(map(max, merged, clock))
        return _Need(runs, waits, merged)

    def start(self, thread: int, need: _Need) -> float:
        """When a run on `thread` could start."""
        begin = self.threads[thread].ready
        for other, count in need.waits:
            if other != thread:
                begin = max(begin, self.threads[other].finish[count - 1] + SYNC_NS)
        return begin

    def place(self, kernel: int, task: Task) -> None:
        most = min(self.num_threads, task.num_tiles, int(task.cost_ns / self.min_piece_ns))
        if most < 2:
            need = self.need(task, 0, task.num_tiles)
            pieces = [_Piece(self.best_thread(need), 0, task.num_tiles, need)]
        else:
            pieces = self.split(task, most)
        counts = [self.append(kernel, piece, task.cost_ns / task.num_tiles) for piece in pieces]
        self.note(task, pieces, counts)

    def best_thread(self, need: _Need) -> int:
        """The thread that can start first; one that made the operands, unless another wins by more than their trip."""
        starts = [self.start(t, need) for t in range(self.num_threads)]
        first = min(starts)
        home = max(need.runs, key=lambda t: (self.threads[t].finish[need.runs[t] - 1], -t)) if need.runs else 0
        return home if starts[home] <= first + SYNC_NS else starts.index(first)

    def split(self, task: Task, most: int) -> list[_Piece]:
        """Contiguous pieces for the `most` threads that are free first, in thread order so that equal splits line up.

        Pieces are equal unless some threads are behind by more than a piece is worth; then they finish together.
        """
        ready = [thread.ready for thread in self.threads]
        chosen = sorted(sorted(range(self.num_threads), key=ready.__getitem__)[:most])
        late = [ready[t] for t in chosen]
        if max(late) - min(late) < self.min_piece_ns:
            bounds = [task.num_tiles * k // most for k in range(most + 1)]
        else:
            bounds = _level(late, task.num_tiles, task.cost_ns / task.num_tiles)
        tiled = any(span.tile_nbytes for span in task.reads + task.writes)
        whole = None if tiled else self.need(task, 0, task.num_tiles)
        return [
            _Piece(thread, lo, hi, whole or self.need(task, lo, hi))
            for thread, lo, hi in zip(chosen, bounds, bounds[1:], strict=False)
            if lo < hi
        ]

    def append(self, kernel: int, piece: _Piece, tile_ns: float) -> int:
        """Add the waits and the run to the piece's thread; the run's count there."""
        me = self.threads[piece.thread]
        me.ready = self.start(piece.thread, piece.need) + tile_ns * (piece.hi - piece.lo)
        me.records += [Wait(t, c) for t, c in piece.need.waits if t != piece.thread and c > me.clock[t]]
        me.records.append(Run(kernel, piece.lo, piece.hi))
        me.clock = list(map(max, me.clock, piece.need.clock))
        count = me.clock[piece.thread] = len(me.clocks) + 1
        me.clocks.append(me.clock)
        me.finish.append(me.ready)
        return count

    def note(self, task: Task, pieces: list[_Piece], counts: list[int]) -> None:
        """Enter the task's accesses in the histories: reads first, so that a kernel in place leaves its write."""
        everyone = {piece.thread: count for piece, count in zip(pieces, counts, strict=True)}
        for spans, write in ((task.reads, False), (task.writes, True)):
            for span in spans:
                history = self.memory[span.storage]
                note = history.write if write else history.read
                if not span.tile_nbytes:
                    note(span.start, span.stop, everyone)
                    continue
                for piece, count in zip(pieces, counts, strict=True):
                    note(*span.of_tiles(piece.lo, piece.hi), {piece.thread: count})


def _level(late: list[float], tiles: int, per_tile: float) -> list[int]:
    """Bounds of pieces that end at the same time, given when each thread is free."""
    order = sorted(late)
    total, level = tiles * per_tile, 0.0
    for k in range(1, len(order) + 1):
        level = (total + sum(order[:k])) / k
        if k == len(order) or level <= order[k]:
            break
    bounds, done = [0], 0.0
    for free in late:
        done += max(0.0, level - free)
        bounds.append(min(tiles, round(done / per_tile)))
    bounds[-1] = tiles
    return bounds


def schedule_tasks(
    tasks: Sequence[Task],
    num_threads: int,
    *,
    min_piece_ns: float = MIN_PIECE_NS,
    min_step_ns: float = MIN_STEP_NS,
) -> Schedule:
    """Records per thread for tasks in topological order. A plan too small to share stays on the calling thread.

    Tiles of one task are independent of each other by contract. Threads other than 0 may be left without records.
    """
    if num_threads < 1:
        raise ScheduleError(f"schedule_tasks: {num_threads} threads asked. Ask for at least 1.")
    if num_threads == 1 or sum(task.cost_ns for task in tasks) < min_step_ns:
        runs = tuple(Run(kernel, 0, task.num_tiles) for kernel, task in enumerate(tasks))
        return (runs, *((),) * (num_threads - 1))
    scheduler = _Scheduler(num_threads, min_piece_ns)
    for kernel, task in enumerate(tasks):
        scheduler.place(kernel, task)
    return tuple(tuple(thread.records) for thread in scheduler.threads)
