"""What this machine can do, measured: FLOP/s and memory bandwidth, for one thread and for all, as a roofline.

A kernel cannot take less than `max(flops / peak, bytes / bandwidth)`; schedules use that as an estimate of its time and
reports print it beside the measurement. Figures are kept on disk per CPU, each with a label that says how it was got.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from treadle.codegen import toolchain
from treadle.codegen.cache import object_code
from treadle.codegen.llvm import F32, Function, Module, Value
from treadle.codegen.target import Target, host
from treadle.core.config import config
from treadle.runtime.program import KernelCall, Program
from treadle.runtime.storage import Storage, allocate
from treadle.runtime.tasks import Run

_MIB = 1 << 20
_ROUND_NS = 3e6  # one timing
_NUM_ROUNDS = 5
_DRAM_NBYTES = 128 * _MIB  # per array, or four times the last-level cache if that is less
_STREAMS = 4  # one read stream is limited by the prefetcher, not by memory
_FORMAT = 1
FMA, READ, COPY = "roofline_fma", "roofline_read", "roofline_copy"


class Figure(NamedTuple):
    """A rate per second and how it was got."""

    value: float
    how: str


@dataclass(frozen=True)
class Level:
    """A level of memory: working sets up to `capacity` bytes (of all threads together) live in it."""

    name: str
    capacity: float
    read: tuple[Figure, Figure]  # bytes/s with one thread, with all
    copy: tuple[Figure, Figure]  # bytes read + bytes written


@dataclass(frozen=True)
class Machine:
    """The roofline of a machine. `flops` is float32 with one thread and with all `num_threads`."""

    cpu: str
    num_threads: int
    flops: tuple[Figure, Figure]
    levels: tuple[Level, ...]
    measured: bool

    def peak_flops(self, threads: int = 1, itemsize: int = 4) -> float:
        """FLOP/s on `threads` threads; types narrower than 4 bytes are computed in float32."""
        return _between(self.flops, threads, self.num_threads) * 4 / max(itemsize, 4)

    def bandwidth(self, threads: int = 1, working_set: float = float("inf"), *, write: bool = True) -> float:
        """Bytes/s on `threads` threads for data whose working set has that many bytes; `write` if some are stored."""
        level = next((level for level in self.levels if working_set <= level.capacity), self.levels[-1])
        return _between(level.copy if write else level.read, threads, self.num_threads)

    def predict_ns(self, flops: float, nbytes: float, *, threads: int = 1, working_set: float | None = None) -> float:
        """The least time of a kernel that does `flops` operations and moves `nbytes` bytes, on the roofline."""
        bandwidth = self.bandwidth(threads, nbytes if working_set is None else working_set)
        return 1e9 * max(flops / self.peak_flops(threads), nbytes / bandwidth)

    def __str__(self) -> str:
        lines = [f"{self.cpu}, {self.num_threads} threads ({'measured' if self.measured else 'assumed'})"]
        lines.append(_row("float32 FMA", self.flops, 1e9, "GFLOP/s"))
        for level in self.levels:
            lines.append(_row(f"{level.name} read", level.read, 1e9, "GB/s"))
            lines.append(_row(f"{level.name} copy", level.copy, 1e9, "GB/s"))
        return "\n".join(lines)


def _row(name: str, pair: tuple[Figure, Figure], unit: float, word: str) -> str:
    one, every = pair
    hows = one.how if one.how == every.how else f"{one.how}; {every.how}"
    return f"  {name:12} {one.value / unit:8.1f} {every.value / unit:8.1f} {word} (1 thread, all): {hows}"


def _between(pair: tuple[Figure, Figure], threads: int, all_threads: int) -> float:
    """Rate on a number of threads: what one gives times their number, at most what all give."""
    one, every = pair[0].value, pair[1].value
    if threads <= 1 or all_threads <= 1:
        return one
    linear = one + (every - one) * (min(threads, all_threads) - 1) / (all_threads - 1)
    return max(linear, min(one * threads, every))


# ---- kernels that measure


def _fma_kernel(module: Module, target: Target) -> None:
    """Independent chains of fused multiply-adds: as many as fit in registers beside their two operands."""
    f = module.kernel(FMA)
    vector = F32.with_lanes(target.lanes(32))
    source = f.buffer(0)
    x, y = f.load(source, vector, align=4), f.load(f.gep(source, 64), vector, align=4)
    chains = [x] * (target.num_vector_registers - 8)

    def body(_: Value, sums: tuple[Value, ...]) -> Sequence[Value]:
        return [f.fma(s, x, y) for s in sums]

    totals = f.loop(0, f.extra(1), 1, chains, body)
    f.store(_sum(f, totals), f.gep(f.buffer(0), f.imul(f.iadd(f.params[2], 2), 64)), align=4)
    f.ret()


def _sum(f: Function, values: Sequence[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = f.fadd(total, value)
    return total


def _read_kernel(module: Module, target: Target) -> None:
    """Sum of this tile's part of the array, `rounds` times: four streams, two registers of each at a time."""
    f = module.kernel(READ)
    vector = F32.with_lanes(target.lanes(32))
    width = target.vector_bytes
    part, rounds = f.extra(1), f.extra(2)
    start = f.gep(f.buffer(0), f.imul(f.params[2], part))
    stream = f.idiv(part, _STREAMS)
    zero = f.load(f.buffer(0), vector, align=4)

    def line(i: Value, sums: tuple[Value, ...]) -> Sequence[Value]:
        found: list[Value] = []
        for k, s in enumerate(sums):
            at = f.gep(f.gep(start, f.imul(stream, k // 2)), f.iadd(i, width * (k % 2)))
            found.append(f.fadd(s, f.load(at, vector, align=4)))
        return found

    def turn(_: Value, sums: tuple[Value, ...]) -> Sequence[Value]:
        return f.loop(0, stream, 2 * width, sums, line)

    totals = f.loop(0, rounds, 1, [zero] * (2 * _STREAMS), turn)
    f.store(_sum(f, totals), f.params[4], align=4)
    f.ret()


def _copy_kernel(module: Module, target: Target) -> None:
    """Copy this tile's part from one array to the other, `rounds` times, four registers at a time."""
    f = module.kernel(COPY)
    vector = F32.with_lanes(target.lanes(32))
    width = target.vector_bytes
    part, rounds = f.extra(2), f.extra(3)
    offset = f.imul(f.params[2], part)
    source, goal = f.gep(f.buffer(0), offset), f.gep(f.buffer(1), offset)

    def line(i: Value, _: tuple[Value, ...]) -> None:
        for k in range(4):
            at = f.iadd(i, width * k)
            f.store(f.load(f.gep(source, at), vector, align=4), f.gep(goal, at), align=4)

    def turn(_: Value, __: tuple[Value, ...]) -> None:
        f.loop(0, part, 4 * width, (), line)

    f.loop(0, rounds, 1, (), turn)
    f.ret()


@cache
def _library(target: Target) -> toolchain.Library:
    module = Module("Kernels that measure this machine's roofline.")
    for write in (_fma_kernel, _read_kernel, _copy_kernel):
        write(module, target)
    text = str(module)
    return toolchain.load([object_code(text, lambda: text, target)], [FMA, READ, COPY])


class _Bench:
    """Runs a measuring kernel on some threads, each on its own tile, and takes the best of a few rounds."""

    def __init__(self, target: Target, num_threads: int) -> None:
        self.code = _library(target)
        self.num_threads = num_threads

    def rate(self, name: str, blocks: Sequence[Storage], scalars: Sequence[int], amount: float) -> float:
        """The most `amount` per second; the last scalar is a repeat count and is set so that a round is long enough."""
        slots = (ctypes.c_int64 * len(blocks))(*(block.address for block in blocks))
        at = ctypes.addressof(slots)

        def program(rounds: int) -> Program:
            args = (*range(len(blocks)), *scalars, rounds)
            call = KernelCall(self.code.address(name), args, name, scratch_nbytes=64)
            schedule = tuple((Run(0, t, t + 1),) for t in range(self.num_threads))
            return Program([call], schedule, keep=self.code)

        # The time on the CPU leaves out what other processes took; with several threads only the wall clock tells.
        clock = time.thread_time if self.num_threads == 1 else time.perf_counter
        rounds = 1
        while True:
            made = program(rounds)
            seconds = min(_timed(made, at, clock) for _ in range(2))
            if seconds * 1e9 > _ROUND_NS / 2:
                break
            rounds = max(2 * rounds, int(rounds * _ROUND_NS / max(seconds * 1e9, 1000.0)))
        best = min([seconds, *(_timed(made, at, clock) for _ in range(_NUM_ROUNDS - 2))])
        return amount * rounds * self.num_threads / best

    @property
    def how(self) -> str:
        """The label of figures from here."""
        clock = "CPU time" if self.num_threads == 1 else "wall clock"
        return f"best of {_NUM_ROUNDS}, {clock}"


def _timed(program: Program, slots: int, clock: Callable[[], float]) -> float:
    start = clock()
    program.run(slots)
    return max(clock() - start, 1e-9)


def _measure(target: Target, num_threads: int) -> Machine:
    benches = [_Bench(target, 1), _Bench(target, num_threads)]
    grain = 8 * target.vector_bytes * _STREAMS
    lanes, chains = target.lanes(32), target.num_vector_registers - 8

    small = allocate(64 * (num_threads + 2))
    small.numpy()[:] = 0
    flops = _pair(benches, lambda b: b.rate(FMA, [small], [], 2.0 * lanes * chains), f"{chains} FMA chains")

    dram = min(_DRAM_NBYTES, 4 * target.l3)
    levels: list[Level] = []
    # Two arrays per thread share half of the private cache; the shared cache is measured at an eighth of it.
    sizes = [("L2", target.l2 * num_threads / 2, target.l2 // 4 * num_threads)]
    if target.l3 // 8 > target.l2 * num_threads:
        sizes.append(("L3", target.l3 / 2, target.l3 // 8))
    sizes.append(("DRAM", float("inf"), dram))
    arrays = [allocate(max(size for _, _, size in sizes)) for _ in range(2)]
    for array in arrays:
        array.numpy()[:] = 0
    for name, capacity, size in sizes:

        def read(bench: _Bench, size: int = size) -> float:
            part = size // num_threads // grain * grain
            return bench.rate(READ, arrays[:1], [part], part)

        def copy(bench: _Bench, size: int = size) -> float:
            part = size // num_threads // grain * grain
            return bench.rate(COPY, arrays, [part], 2 * part)

        text = f"{size // num_threads / _MIB:.2g} MiB per thread and array"
        levels.append(Level(name, capacity, _pair(benches, read, text), _pair(benches, copy, text)))
    return Machine(target.cpu, num_threads, flops, tuple(levels), measured=True)


def _pair(benches: list[_Bench], rate: Callable[[_Bench], float], what: str) -> tuple[Figure, Figure]:
    one, every = (Figure(rate(bench), f"{what}, {bench.how}") for bench in benches)
    return one, every if every.value > one.value else one


def assumed(target: Target, num_threads: int) -> Machine:
    """A cautious guess for a machine that was not measured: 2.5 GHz, one FMA per cycle, 10 GB/s from memory."""
    how = "assumed, not measured"

    def figures(one: float, every: float) -> tuple[Figure, Figure]:
        return Figure(one, how), Figure(every, how)

    flops = 2.5e9 * 2 * target.lanes(32)
    l2 = figures(60e9, 60e9 * num_threads)
    dram = figures(10e9, 10e9 * min(num_threads, 4))
    levels = (Level("L2", target.l2 * num_threads / 2, l2, l2), Level("DRAM", float("inf"), dram, dram))
    return Machine(target.cpu, num_threads, figures(flops, flops * num_threads), levels, measured=False)


# ---- kept on disk


def _path(target: Target, num_threads: int) -> Path | None:
    if not config.cache_dir:
        return None
    digest = hashlib.sha256(f"{target.key}|{num_threads}|{os.uname().nodename}".encode()).hexdigest()[:16]
    return Path(config.cache_dir).expanduser() / f"machine-{digest}.json"


def _stored(target: Target, num_threads: int) -> Machine | None:
    path = _path(target, num_threads)
    try:
        found = json.loads(path.read_text()) if path else None
        if not found or found["format"] != _FORMAT:
            return None
        levels = tuple(
            Level(entry["name"], float(entry["capacity"]), _figures(entry["read"]), _figures(entry["copy"]))
            for entry in found["levels"]
        )
        return Machine(found["cpu"], found["num_threads"], _figures(found["flops"]), levels, measured=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _figures(pairs: Sequence[Sequence[float | str]]) -> tuple[Figure, Figure]:
    one, every = (Figure(float(value), str(how)) for value, how in pairs)
    return one, every


def _store(machine: Machine, path: Path) -> None:
    levels = [
        {"name": level.name, "capacity": str(level.capacity), "read": level.read, "copy": level.copy}
        for level in machine.levels
    ]
    data = {"cpu": machine.cpu, "num_threads": machine.num_threads, "flops": machine.flops, "levels": levels}
    # The roofline is a convenience: a folder that cannot be written costs a measurement, nothing else.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "w") as file:
            json.dump({"format": _FORMAT, **data}, file, indent=1)
        os.replace(temporary, path)


def _better(new: Machine, old: Machine | None) -> Machine:
    """The higher of each figure: a busy machine measures low, never high."""
    if old is None or [level.name for level in old.levels] != [level.name for level in new.levels]:
        return new

    def best(a: tuple[Figure, Figure], b: tuple[Figure, Figure]) -> tuple[Figure, Figure]:
        return max(a[0], b[0]), max(a[1], b[1])

    levels = tuple(
        Level(a.name, a.capacity, best(a.read, b.read), best(a.copy, b.copy))
        for a, b in zip(new.levels, old.levels, strict=True)
    )
    return Machine(new.cpu, new.num_threads, best(new.flops, old.flops), levels, measured=True)


_known: dict[tuple[Target, int, str], Machine] = {}


def measure_machine() -> Machine:
    """Measure this machine now (under a second), keep the result on disk, and return it with `config.threads` threads.

    Figures only rise: other processes can make a measurement too low, never too high.
    """
    target, num_threads = host(), config.threads
    machine = _better(_measure(target, num_threads), _stored(target, num_threads))
    path = _path(target, num_threads)
    if path is not None:
        _store(machine, path)
    _known[target, num_threads, config.cache_dir] = machine
    return machine


def this_machine() -> Machine:
    """This machine as it was last measured; without a measurement on disk, a cautious guess. Costs no time."""
    target, num_threads = host(), config.threads
    key = (target, num_threads, config.cache_dir)
    if key not in _known:
        _known[key] = _stored(target, num_threads) or assumed(target, num_threads)
    return _known[key]
