"""From fused groups to kernels: schedule, name, object code. Equal groups are one kernel, compiled once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import repeat

from treadle.codegen import (
    Target,
    emit_attention,
    emit_conv,
    emit_conv_grad,
    emit_conv_planes,
    emit_cumulative,
    emit_nest,
    emit_product,
    emit_sort,
    emit_turned,
    object_code,
    scratch_nbytes,
    toolchain,
)
from treadle.ir import Const, Graph, Input, Node
from treadle.ops.base import Elementwise
from treadle.ops.fused import Fused
from treadle.schedule import (
    Following,
    FusedConvSchedule,
    FusedPlanesSchedule,
    LoopSchedule,
    TurnedSchedule,
    attention_problem,
    product_of,
    schedule_attention,
    schedule_cumulative,
    schedule_fused_conv,
    schedule_fused_planes,
    schedule_loops,
    schedule_product,
    schedule_scatter,
    schedule_scatter_along,
    schedule_sort,
    schedule_turned,
    schedule_weight_grad,
)
from treadle.te import Buffer, Fetch, For, Reduce, Stmt, Store

from .host import host_address, host_flops, host_text
from .timings import Timings


@dataclass(frozen=True)
class Kernel:
    """A compiled or compilable kernel.

    Args:
        name: readable, for people: what it does and on which shape.
        kind: the family of generator.
        text: the schedule as text; equal texts are equal kernels.
        emit: writes the LLVM text for a symbol.
        order: for each buffer argument, the number of the group's operand or (behind those) result.
        num_tiles: parallel tiles.
        scratch_nbytes: workspace per thread.
        flops: arithmetic operations of all tiles.
        nbytes: bytes of all operands and results.
        in_place: pairs (operand, result) that may be the same memory.
        address: of a task that runs in Python, which has no object code; None for all others.
    """

    name: str
    kind: str
    text: str
    emit: Callable[[str], str]
    order: tuple[int, ...]
    num_tiles: int
    scratch_nbytes: int
    flops: int
    nbytes: int
    in_place: frozenset[tuple[int, int]]
    address: Callable[[], int] | None = None

    @property
    def symbol(self) -> str:
        """The name of its function in object code, the same in every process."""
        digest = hashlib.sha256(f"{self.kind}\n{self.text}".encode()).hexdigest()[:16]
        return f"{self.name}_{digest}"

    def llvm(self) -> str:
        """Return its LLVM text."""
        return self.emit(self.symbol)


@lru_cache(maxsize=4096)
def kernel_for(fused: Fused, target: Target) -> Kernel:
    """Return the kernel of a fused group on a CPU."""
    return _BUILDERS[fused.kind](fused.body, target)


def _loops(body: Graph, target: Target) -> Kernel:
    turned = schedule_turned(body, target)
    if turned is not None:
        return _turned(body, turned)
    schedule = schedule_loops(body, target)
    nest = schedule.nest
    return Kernel(
        _name(body),
        "loop",
        str(schedule),
        partial(emit_nest, nest),
        tuple(range(len(nest.buffers))),
        schedule.num_tiles,
        scratch_nbytes(nest),
        schedule.flops,
        schedule.nbytes,
        _in_place(body.inputs, body.outputs, nest.body, range(len(nest.buffers))),
    )


def _turned(body: Graph, schedule: TurnedSchedule) -> Kernel:
    return Kernel(
        _name(body),
        "loop",
        f"{schedule}\n{schedule.buffers}",
        partial(emit_turned, schedule),
        tuple(range(len(schedule.buffers))),
        schedule.num_tiles,
        0,
        schedule.flops,
        schedule.nbytes,
        frozenset(),
    )


def _scatter(body: Graph, target: Target) -> Kernel:
    return _scattering("scatter", body, schedule_scatter(body, target))


def _scatter_along(body: Graph, target: Target) -> Kernel:
    return _scattering("scatter_along", body, schedule_scatter_along(body, target))


def _scattering(kind: str, body: Graph, schedule: LoopSchedule) -> Kernel:
    nest = schedule.nest
    return Kernel(
        _name(body),
        kind,
        str(schedule),
        partial(emit_nest, nest),
        tuple(range(len(body.inputs) + 1)),
        schedule.num_tiles,
        0,
        schedule.flops,
        schedule.nbytes,
        frozenset(),
    )


def _cumulative(body: Graph, target: Target) -> Kernel:
    schedule = schedule_cumulative(body, target)
    return Kernel(
        _name(body),
        "cumulative",
        str(schedule),
        partial(emit_cumulative, schedule),
        schedule.order,
        schedule.num_tiles,
        0,
        schedule.flops,
        sum(x.type.nbytes for x in (*body.inputs, *body.outputs)),
        # Every element is read before its place is written; a row of a fold is not read again.
        frozenset((k, 0) for k, x in enumerate(body.inputs) if x.type == body.outputs[0].type),
    )


def _sort(body: Graph, target: Target) -> Kernel:
    schedule = schedule_sort(body)
    return Kernel(
        _name(body),
        "sort",
        str(schedule),
        partial(emit_sort, schedule),
        tuple(range(1 + len(body.outputs))),
        schedule.num_tiles,
        schedule.scratch_nbytes,
        schedule.flops,
        sum(x.type.nbytes for x in (*body.inputs, *body.outputs)),
        frozenset(),
    )


def _matmul(body: Graph, target: Target) -> Kernel:
    schedule = schedule_product(body, target)
    product = product_of(body)
    return Kernel(
        _name(body),
        "matmul",
        f"{schedule}\n{schedule.matmul!r}\n{schedule.after.buffers}",
        lambda symbol: emit_product(schedule, symbol, product.shape[-2]),
        schedule.after.order,
        schedule.matmul.num_tiles,
        schedule.matmul.scratch_nbytes,
        schedule.flops,
        schedule.nbytes,
        _product_in_place(body, schedule.after),
    )


def _conv(body: Graph, target: Target) -> Kernel:
    schedule = schedule_fused_conv(body, target)
    return _convolving("conv", body, schedule, partial(emit_conv, schedule))


def _conv_planes(body: Graph, target: Target) -> Kernel:
    schedule = schedule_fused_planes(body, target)
    return _convolving("conv_planes", body, schedule, partial(emit_conv_planes, schedule))


def _convolving(
    kind: str, body: Graph, schedule: FusedConvSchedule | FusedPlanesSchedule, emit: Callable[[str], str]
) -> Kernel:
    return Kernel(
        _name(body),
        kind,
        f"{schedule}\n{schedule.conv!r}\n{schedule.after.buffers}",
        emit,
        schedule.after.order,
        schedule.conv.num_tiles,
        schedule.conv.scratch_nbytes,
        schedule.flops,
        schedule.nbytes,
        _product_in_place(body, schedule.after),
    )


def _conv_grad(body: Graph, target: Target) -> Kernel:
    schedule = schedule_weight_grad(body, target)
    return Kernel(
        _name(body),
        "conv_grad",
        f"{schedule}\n{schedule!r}",
        partial(emit_conv_grad, schedule),
        schedule.order,
        schedule.conv.num_tiles,
        schedule.conv.scratch_nbytes,
        schedule.flops,
        schedule.nbytes,
        frozenset(),
    )


def _product_in_place(body: Graph, after: Following) -> frozenset[tuple[int, int]]:
    """Return the pairs that may be one memory of a group around a product: not those that are multiplied."""
    number = {b.slot: n for b, n in zip(after.buffers, after.order, strict=True)}
    pairs = _in_place(body.inputs, body.outputs, after.stores, number)
    return frozenset((i, o) for i, o in pairs if i not in after.order[:2])


def _attention(body: Graph, target: Target) -> Kernel:
    schedule = schedule_attention(attention_problem(body), target)
    return Kernel(
        _name(body),
        "attention",
        str(schedule),
        lambda symbol: emit_attention(schedule, symbol),
        tuple(range(len(body.inputs) + len(body.outputs))),
        schedule.num_tiles,
        schedule.scratch_nbytes,
        schedule.problem.flops,
        sum(x.type.nbytes for x in (*body.inputs, *body.outputs)),
        frozenset(),
    )


def _host(body: Graph, target: Target) -> Kernel:
    values = (*body.inputs, *body.outputs)
    return Kernel(
        _name(body),
        "host",
        str(body),
        lambda _: host_text(body),
        tuple(range(len(values))),
        1,
        0,
        host_flops(body),
        sum(x.type.nbytes for x in values),
        frozenset(),
        partial(host_address, body),
    )


_BUILDERS: dict[str, Callable[[Graph, Target], Kernel]] = {
    "loop": _loops,
    "matmul": _matmul,
    "conv": _conv,
    "conv_planes": _conv_planes,
    "conv_grad": _conv_grad,
    "scatter": _scatter,
    "scatter_along": _scatter_along,
    "cumulative": _cumulative,
    "sort": _sort,
    "attention": _attention,
    "host": _host,
}


def _in_place(
    inputs: Sequence[Node], outputs: Sequence[Node], body: tuple[Stmt, ...], number: Mapping[int, int] | Sequence[int]
) -> frozenset[tuple[int, int]]:
    """Return the operand-result pairs that may be one memory: each element is read where, and not after, it is written.

    `number` says which operand, or (behind those) which result, the buffer in a slot is.
    """
    read_at: dict[int, dict[int, set[Node]]] = {}  # by operand and group
    written_at: dict[int, dict[int, Node]] = {}  # by result and group
    for k, group in enumerate(_groups(body)):
        for stmt in group:
            for buffer, where in _fetches(stmt.value):
                read_at.setdefault(number[buffer.slot], {}).setdefault(k, set()).add(where)
            if isinstance(stmt, Store) and stmt.buffer.space == "arg":
                written_at.setdefault(number[stmt.buffer.slot] - len(inputs), {})[k] = stmt.index
    pairs: set[tuple[int, int]] = set()
    for result, writes in written_at.items():
        last = max(writes)
        for operand, reads in read_at.items():
            if operand >= len(inputs):
                continue
            old, new = inputs[operand].type, outputs[result].type
            here = all(k <= last and places == {writes.get(k, writes[last])} for k, places in reads.items())
            if here and old.size == new.size and old.dtype is new.dtype:
                pairs.add((operand, result))
    return frozenset(pairs)


def _groups(body: tuple[Stmt, ...]) -> Iterator[list[Store | Reduce]]:
    """Yield the statements that run in one turn of the same loops, in order."""
    here: list[Store | Reduce] = []
    for stmt in body:
        if isinstance(stmt, For):
            if here:
                yield here
                here = []
            yield from _groups(stmt.body)
        elif isinstance(stmt, Store | Reduce):
            here.append(stmt)
    if here:
        yield here


def _fetches(value: Node) -> Iterator[tuple[Buffer, Node]]:
    """Yield the kernel's buffers an expression reads, and where."""
    stack, seen = [value], set[Node]()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            if isinstance(node.op, Fetch) and node.op.buffer.space == "arg":
                yield node.op.buffer, node.args[0]
            stack.extend(node.args)


def _name(body: Graph) -> str:
    """Return a name that says what a group does: its heaviest ops and its shape."""
    ops = [n.op for n in body.nodes() if not isinstance(n.op, Input | Const)]
    heavy = [op.name for op in ops if not isinstance(op, Elementwise) and op.name not in VIEWS]
    light = [op.name for op in ops if isinstance(op, Elementwise)]
    words = list(dict.fromkeys([*heavy, *light]))[:3] or [ops[0].name if ops else "copy"]
    largest = max(body.outputs, key=lambda n: n.type.size)
    shape = "x".join(map(str, largest.shape)) or "scalar"
    return f"{'_'.join(words)}_{shape}_{largest.dtype.short}"


VIEWS = frozenset({"reshape", "permute", "broadcast_to", "slice", "pad", "concat", "get"})


_loaded: dict[tuple[str, str], int] = {}
_keep: list[object] = []


def addresses(kernels: list[Kernel], target: Target, timings: Timings) -> list[int]:
    """Return the entry address of each kernel, compiling or loading what this process has not got yet."""
    by_symbol = {k.symbol: k for k in kernels}
    missing = {s: k for s, k in by_symbol.items() if (s, target.key) not in _loaded}
    timings.loaded += len(by_symbol) - len(missing)
    for symbol, kernel in list(missing.items()):
        if kernel.address is not None:
            _loaded[symbol, target.key] = kernel.address()
            del missing[symbol]
    if missing:
        objects = _object_codes(list(missing.values()), target, timings)
        start = time.perf_counter()
        library = toolchain.load(objects, list(missing))
        _keep.append(library)
        for symbol in missing:
            _loaded[symbol, target.key] = library.address(symbol)
        timings.add("load", start)
    return [_loaded[k.symbol, target.key] for k in kernels]


def _object_codes(kernels: list[Kernel], target: Target, timings: Timings) -> list[bytes]:
    """Return the object code of kernels, made on as many threads as there are CPUs; a stage's time is its share."""
    if len(kernels) == 1:
        return [_object_code(kernels[0], target, timings)]
    parts = [Timings() for _ in kernels]
    start = time.perf_counter()
    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), len(kernels))) as threads:
        objects = list(threads.map(_object_code, kernels, repeat(target), parts))
    timings.join(parts, time.perf_counter() - start)
    return objects


def _object_code(kernel: Kernel, target: Target, timings: Timings) -> bytes:
    """Return the object code of a kernel; note what its making took, or that it was on the disk."""
    emitted: list[float] = []

    def write() -> str:
        began = time.perf_counter()
        text = kernel.llvm()
        emitted.append(timings.add("emit", began))
        return text

    start = time.perf_counter()
    code = object_code(f"{kernel.kind}\n{kernel.symbol}\n{kernel.text}", write, target)
    timings.add("llvm" if emitted else "cache", emitted[0] if emitted else start)
    timings.compiled += bool(emitted)
    timings.cached += not emitted
    return code
