"""A Plan: a graph turned into kernels, a memory arena and a task schedule. It runs, and it says what it does."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np

from treadle.codegen.target import Target, host
from treadle.core import config
from treadle.ir import Graph, Input, Node
from treadle.ops.fused import Fused
from treadle.passes.fuse import Fusion, fuse
from treadle.runtime.arena import Arena
from treadle.runtime.host import take_failure
from treadle.runtime.profile import Profile
from treadle.runtime.program import KernelCall, Program
from treadle.runtime.storage import allocate
from treadle.runtime.tasks import Schedule, Span, Task, schedule_tasks

from .blocks import lay_out
from .hooks import Explained, Hooks
from .host import raise_failure
from .kernels import addresses
from .order import Step, claim, copy_step, link, order_copies, ordered, single
from .pipeline import Stage, simplified
from .samples import Origin, sample_inputs
from .stages import Stages, stages_of
from .timings import Timings
from .turns import Call, Places, Where, calls_of, step_of

Array = np.ndarray[Any, Any]

# Rough speeds of one core, used only to balance work between threads; correctness and bits do not depend on them.
FLOPS_PER_NS = {
    "matmul": 60.0,
    "conv": 60.0,
    "conv_planes": 40.0,
    "conv_grad": 60.0,
    "attention": 50.0,
    "loop": 12.0,
    "scatter": 2.0,
    "host": 5.0,
    "scatter_along": 1.0,
    "cumulative": 6.0,
    "sort": 2.0,
}
BYTES_PER_NS = 12.0


class Plan:
    """A compiled program over flat lists of arrays.

    Attributes:
        graph: what it computes, as traced.
        state: output number -> number of the input it overwrites in place.
        steps: the kernels in order, a loop over time being one.
        calls: the kernel calls in order, those of all turns of loops.
        arena: where temporaries live.
        schedule: which thread runs which tiles.
        timings: seconds per stage of compiling.
        passes: the graph as traced and after each pass.
        origin: the function it was compiled from.
    """

    def __init__(self, graph: Graph, state: Mapping[int, int] | None = None, *, num_threads: int | None = None) -> None:
        self.graph = graph
        self.state = dict(state or {})
        self.target: Target = host()
        self.num_threads = num_threads or config.threads
        self.timings = Timings()
        self.origin = Origin()
        _plans.add(self)
        self.lock = Lock()  # whoever binds addresses and runs holds it; the slots are one caller's at a time
        self.passes: list[Stage] = []
        now = time.perf_counter()
        self.simplified = simplified(graph, self.passes)
        now = self.timings.add("passes", now)
        self.fusion: Fusion = fuse(self.simplified)
        now = self.timings.add("fuse", now)
        self.steps = self._steps()
        now = self.timings.add("schedule", now)
        self._lay_out()
        now = self.timings.add("memory and tasks", now)
        kernels = [s.kernel for s in single(self.steps)]
        entries = dict(zip([k.symbol for k in kernels], addresses(kernels, self.target, self.timings), strict=True))
        now = time.perf_counter()
        self._assemble(entries)
        self.timings.add("memory and tasks", now)

    # ---- kernels and their order

    def _steps(self) -> list[Step]:
        """Return the kernel calls in order, results placed in state memory where that is safe."""
        graph = self.fusion.graph
        steps = [step_of(node, self.target) for node in graph.nodes() if isinstance(node.op, Fused)]
        link(steps)
        maker = {value: (step, k) for step in steps for k, value in enumerate(step.makes)}
        self.place: dict[Node, tuple[str, int]] = {n: ("input", k) for k, n in enumerate(graph.inputs)}
        self.shared: dict[int, int] = {}
        copies: list[Step] = []
        # State first: it has the stronger claim on being the one place a value lives.
        for out, source in self.state.items():
            value, old = graph.outputs[out], graph.inputs[source]
            if value in maker and value not in self.place and claim(*maker[value], old, steps):
                self.place[value] = ("input", source)
                continue
            if isinstance(value.op, Input):  # it may be overwritten before the copy could read it
                copies.append(self._copy(value, None))
                value = copies[-1].makes[0]
            copies.append(self._copy(value, ("input", source)))
            copies[-1].overwrites[0] = old
        for out, value in enumerate(graph.outputs):
            if out in self.state:
                continue
            if value not in self.place:
                self.place[value] = ("output", out)
            elif self.place[value][0] == "output":
                self.shared[out] = self.place[value][1]
            else:
                copies.append(self._copy(value, ("output", out)))
        order_copies(steps, copies)
        return ordered([*steps, *copies], set(self.place))

    def _copy(self, value: Node, place: tuple[str, int] | None) -> Step:
        """Return a step that copies a value to a place, or to a temporary."""
        step = copy_step(value, place, self.target)
        if place is not None:
            self.place[step.makes[0]] = place
        return step

    # ---- memory and tasks

    def _lay_out(self) -> None:
        """Give temporaries blocks of the arena, and kernel calls threads."""
        layout = lay_out(self.steps, self.place)
        self.arena: Arena = layout.arena
        self.block: dict[Node, str] = layout.block
        places = [
            Places(
                tuple([self._where(v) for v in s.reads]),
                tuple([self._where(v) for v in s.makes]),
                Where("arena", 0, layout.arena.offsets[layout.room[s]]) if s in layout.room else None,
            )
            for s in self.steps
        ]
        self.calls: list[Call] = list(calls_of(self.steps, places))
        self.schedule: Schedule = schedule_tasks([self._task(c) for c in self.calls], self.num_threads)

    def _where(self, value: Node) -> Where:
        """Return where a value lives."""
        if value in self.place:
            return Where(*self.place[value], 0)
        return Where("arena", 0, self.arena.offsets[self.block[value]])

    def _task(self, call: Call) -> Task:
        """Return a kernel call as the task scheduler sees it."""
        kernel = call.step.kernel
        cost = max(kernel.flops / FLOPS_PER_NS[kernel.kind], kernel.nbytes / BYTES_PER_NS)
        reads, makes = _spans(call.step.reads, call.reads), _spans(call.step.makes, call.makes)
        return Task(kernel.num_tiles, cost, reads, makes, kernel.name)

    def _assemble(self, entries: dict[str, int]) -> None:
        """Number the slots and make the native program."""
        self.num_inputs, self.num_outputs = len(self.graph.inputs), len(self.graph.outputs)
        first = self.num_inputs + self.num_outputs
        slots: dict[Where, int] = {Where("input", k, 0): k for k in range(self.num_inputs)}
        slots |= {Where("output", k, 0): self.num_inputs + k for k in range(self.num_outputs)}
        # Slots of their own for places in the arena, and for those inside of an input or output.
        used = dict.fromkeys(where for call in self.calls for where in (*call.reads, *call.makes))
        inside = [w for w in used if w.kind == "arena"]
        views = [w for w in used if w.kind != "arena" and w.start]
        slots |= {where: first + k for k, where in enumerate([*inside, *views])}
        self._arena_offsets = np.array([w.start for w in inside], np.int64)
        self._view_bases = np.array([slots[Where(w.kind, w.number, 0)] for w in views], np.intp)
        self._view_offsets = np.array([w.start for w in views], np.int64)
        calls: list[KernelCall] = []
        for call in self.calls:
            kernel, values = call.step.kernel, (*call.reads, *call.makes)
            args = tuple([slots[values[k]] for k in kernel.order])
            calls.append(KernelCall(entries[kernel.symbol], args, kernel.name, kernel.scratch_nbytes))
        self.program = Program(calls, self.schedule)
        self._may_fail = any(step.kernel.kind == "host" for step in single(self.steps))
        self.slots = array("q", [0] * (first + len(inside) + len(views)))
        self._address = self.slots.buffer_info()[0]
        self._words = np.frombuffer(self.slots, np.int64)
        self._temporaries = self._words[first : first + len(inside)]
        self._views = self._words[first + len(inside) :]
        self.out_types = [n.type for n in self.graph.outputs]
        skipped = {*self.state, *self.shared}
        self._fresh = [(k, max(t.nbytes, 1)) for k, t in enumerate(self.out_types) if k not in skipped]

    # ---- running

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Run on C-contiguous arrays of the input types; return the outputs, None in the place of state.

        Inputs that are state are overwritten.
        """
        slots = self.slots
        for k, a in enumerate(arrays):
            slots[k] = a.ctypes.data
        return self.run_bound()

    def run_bound(self) -> list[Any]:
        """Run on the input addresses already in the slots; return arrays, None in the place of state."""
        return [
            None if memory is None else memory.numpy(t.dtype.numpy, t.shape)
            for memory, t in zip(self.run_memory(), self.out_types, strict=True)
        ]

    def run_memory(self) -> list[Any]:
        """Run on the input addresses already in the slots; return the memory of outputs, None in the place of state."""
        outputs = self.new_outputs()
        arena = self.bind_arena() if self.arena.peak else None
        self.bind_views()
        self.program.run(self._address)
        del arena
        if self._may_fail:
            raise_failure(self, self._address)
        return outputs

    def new_outputs(self) -> list[Any]:
        """Return fresh memory for outputs, bound to their slots."""
        outputs: list[Any] = [None] * self.num_outputs
        for k, nbytes in self._fresh:
            storage = outputs[k] = allocate(nbytes)
            self.slots[self.num_inputs + k] = storage.address
        for k, other in self.shared.items():
            outputs[k] = outputs[other]
        return outputs

    def bind_arena(self) -> object:
        """Return memory for temporaries, bound to their slots; it goes back when the caller drops it."""
        storage = allocate(self.arena.peak, huge=False)
        np.add(self._arena_offsets, storage.address, out=self._temporaries)
        return storage

    def bind_views(self) -> None:
        """Bind the slots that lie inside of inputs and outputs, which are bound by now."""
        if len(self._views):
            np.add(self._words[self._view_bases], self._view_offsets, out=self._views)

    # ---- what it says of itself

    @property
    def members(self) -> dict[Node, tuple[Node, ...]]:
        """For each kernel node, also of the bodies of loops, the nodes it computes."""
        return dict(_members(self.fusion, self.steps))

    def explain(self) -> Explained:
        """Return the report: passes, kernels with predicted and measured times, fusion, memory, schedule, compile time.

        Steps are run to be measured, on copies: no state changes. Print the report, or take its `to_dict()`.
        """
        return Hooks.explain(self)

    def stages(self) -> Stages:
        """Return every intermediate form as text by name, from `trace` to `tasks`; see `treadle.jit.stages`."""
        return stages_of(self.passes, self.fusion.graph, self.steps, self.calls, self.arena, self.schedule, self.target)

    def profile(self, steps: int = 1) -> Profile:
        """Return the time stamps of some steps, run after one without on copies of what the inputs hold.

        Inputs that nobody holds get made-up numbers.
        """
        types = [n.type for n in self.graph.inputs]
        held = self.origin.holds()
        slots = self.slots
        with self.lock:
            before = slots[:]
            try:
                arrays, _ = sample_inputs(types, held, set(self.state.values()))
                for k, a in enumerate(arrays):
                    slots[k] = a.ctypes.data
                outputs, arena = self.new_outputs(), self.bind_arena()
                self.bind_views()
                self.program.run(self._address)
                found = self.program.profile(self._address, steps)
                take_failure(self._address)  # made-up numbers need not have a result
                del outputs, arena
                return found
            finally:
                slots[:] = before  # cells stay bound to their slots between calls


def _spans(values: Sequence[Node], places: Sequence[Where]) -> tuple[Span, ...]:
    """Return the memory of values, each once."""
    found = zip(places, values, strict=True)
    return tuple(dict.fromkeys(Span(f"{w.kind}{w.number}", w.start, w.start + v.type.nbytes) for w, v in found))


def _members(fusion: Fusion, steps: Sequence[Step]) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    yield from fusion.members.items()
    for step in steps:
        if step.turns is not None:
            yield from _members(step.turns.fusion, step.turns.steps)


_plans: WeakSet[Plan] = WeakSet()


def _unlock_in_child() -> None:
    """A lock that another thread held at the moment of a fork has nobody to release it in the child."""
    for plan in _plans:
        plan.lock = Lock()


os.register_at_fork(after_in_child=_unlock_in_child)
