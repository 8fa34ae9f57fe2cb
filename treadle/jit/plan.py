"""A Plan: a graph turned into kernels, a memory arena and a task schedule. It runs, and it says what it does."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np

from treadle.codegen.target import Target, host
from treadle.core import Type, config
from treadle.ir import Graph, Input, Node, Op
from treadle.ops.fused import Fused
from treadle.passes.fuse import Fusion, fuse
from treadle.runtime.arena import Arena, Block, plan_arena
from treadle.runtime.profile import Profile
from treadle.runtime.program import KernelCall, Program
from treadle.runtime.storage import allocate
from treadle.runtime.tasks import Schedule, Span, Task, schedule_tasks

from .hooks import Explained, Hooks
from .kernels import addresses, kernel_for
from .order import Step, claim, link, order_copies, ordered, values_of
from .pipeline import Stage, simplified
from .samples import Origin, sample_inputs
from .stages import Stages, stages_of
from .timings import Timings

Array = np.ndarray[Any, Any]

# Rough speeds of one core, used only to balance work between threads; correctness and bits do not depend on them.
FLOPS_PER_NS = {"matmul": 60.0, "attention": 50.0, "loop": 12.0, "scatter": 2.0}
BYTES_PER_NS = 12.0


class Plan:
    """A compiled program over flat lists of arrays.

    Attributes:
        graph: what it computes, as traced.
        state: output number -> number of the input it overwrites in place.
        steps: the kernel calls in order.
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
        entries = addresses([s.kernel for s in self.steps], self.target, self.timings)
        now = time.perf_counter()
        self._assemble(entries)
        self.timings.add("memory and tasks", now)

    # ---- kernels and their order

    def _steps(self) -> list[Step]:
        """Return the kernel calls in order, results placed in state memory where that is safe."""
        graph = self.fusion.graph
        steps = [
            Step(kernel_for(node.op, self.target), node, node.args, values_of(node))
            for node in graph.nodes()
            if isinstance(node.op, Fused)
        ]
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
        leaf = Input(0, value.type)()
        fused = Fused("loop", Graph((leaf,), (leaf,)))
        made = Copied(place, value.type)(value)
        if place is not None:
            self.place[made] = place
        return Step(kernel_for(fused, self.target), fused(value), (value,), (made,))

    # ---- memory and tasks

    def _lay_out(self) -> None:
        """Give temporaries blocks of the arena, one block to values that follow each other in place."""
        self.block: dict[Node, str] = {}
        last_use: dict[Node, int] = {}
        for k, step in enumerate(self.steps):
            for value in step.reads:
                last_use[value] = k
        lives: dict[str, list[int]] = {}
        for k, step in enumerate(self.steps):
            for r, value in enumerate(step.makes):
                if value in self.place:
                    continue
                block = self._reused(step, r, k, last_use) or f"t{len(lives)}"
                self.block[value] = block
                life = lives.setdefault(block, [value.type.nbytes, k, k])
                life[2] = max(life[2], last_use.get(value, k))
        self.arena: Arena = plan_arena([Block(name, n, first, last) for name, (n, first, last) in lives.items()])
        self.schedule: Schedule = schedule_tasks([self._task(s) for s in self.steps], self.num_threads)

    def _reused(self, step: Step, result: int, k: int, last_use: dict[Node, int]) -> str | None:
        """Return the block of an operand that dies here and whose place the result may take."""
        taken = {self.block.get(v) for v in step.makes}
        for operand, value in enumerate(step.reads):
            block = self.block.get(value)
            dies = step.reads.count(value) == 1 and last_use[value] == k
            if block and block not in taken and dies and (operand, result) in step.kernel.in_place:
                return block
        return None

    def _task(self, step: Step) -> Task:
        """Return a step as the task scheduler sees it."""
        kernel = step.kernel
        cost = max(kernel.flops / FLOPS_PER_NS[kernel.kind], kernel.nbytes / BYTES_PER_NS)
        return Task(kernel.num_tiles, cost, self._spans(step.reads), self._spans(step.makes), kernel.name)

    def _spans(self, values: Sequence[Node]) -> tuple[Span, ...]:
        return tuple(self._span(v) for v in dict.fromkeys(values))

    def _span(self, value: Node) -> Span:
        if value in self.place:
            kind, number = self.place[value]
            return Span(f"{kind}{number}", 0, value.type.nbytes)
        start = self.arena.offsets[self.block[value]]
        return Span("arena", start, start + value.type.nbytes)

    def _assemble(self, entries: list[int]) -> None:
        """Number the slots and make the native program."""
        self.num_inputs, self.num_outputs = len(self.graph.inputs), len(self.graph.outputs)
        offsets: dict[str, int] = {}
        for block in self.block.values():
            offsets.setdefault(block, len(offsets))
        first = self.num_inputs + self.num_outputs
        self._arena_offsets = np.array([self.arena.offsets[b] for b in offsets], np.int64)

        def slot(value: Node) -> int:
            if value in self.place:
                kind, number = self.place[value]
                return number if kind == "input" else self.num_inputs + number
            return first + offsets[self.block[value]]

        calls: list[KernelCall] = []
        for step, entry in zip(self.steps, entries, strict=True):
            values = (*step.reads, *step.makes)
            args = tuple(slot(values[k]) for k in step.kernel.order)
            calls.append(KernelCall(entry, args, step.kernel.name, step.kernel.scratch_nbytes))
        self.program = Program(calls, self.schedule)
        self.slots = array("q", [0] * (first + len(offsets)))
        self._address = self.slots.buffer_info()[0]
        self._temporaries = np.frombuffer(self.slots, np.int64)[first:]
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
        self.program.run(self._address)
        del arena
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
        storage = allocate(self.arena.peak)
        np.add(self._arena_offsets, storage.address, out=self._temporaries)
        return storage

    # ---- what it says of itself

    def explain(self) -> Explained:
        """Return the report: passes, kernels with predicted and measured times, fusion, memory, schedule, compile time.

        Steps are run to be measured, on copies: no state changes. Print the report, or take its `to_dict()`.
        """
        return Hooks.explain(self)

    def stages(self) -> Stages:
        """Return every intermediate form as text by name, from `trace` to `tasks`; see `treadle.jit.stages`."""
        return stages_of(self.passes, self.fusion.graph, self.steps, self.arena, self.schedule, self.target)

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
                self.program.run(self._address)
                found = self.program.profile(self._address, steps)
                del outputs, arena
                return found
            finally:
                slots[:] = before  # cells stay bound to their slots between calls


@dataclass(frozen=True)
class Copied(Op):
    """A value at another place; it only tells the copy from the original."""

    name = "copied"
    place: tuple[str, int] | None
    of: Type

    def infer(self, *types: Type) -> Type:
        return self.of


_plans: WeakSet[Plan] = WeakSet()


def _unlock_in_child() -> None:
    """A lock that another thread held at the moment of a fork has nobody to release it in the child."""
    for plan in _plans:
        plan.lock = Lock()


os.register_at_fork(after_in_child=_unlock_in_child)
