"""Which kernel runs when, and which results may overwrite what: decided together, since each limits the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from treadle.codegen.target import Target
from treadle.core import Type
from treadle.ir import Graph, Input, Node, Op, results
from treadle.ops.fused import Fused

from .kernels import Kernel, kernel_for

if TYPE_CHECKING:
    from .turns import Turns


@dataclass(eq=False)
class Step:
    """One kernel call: the values it reads, in the order of the group's inputs, and those it makes.

    `overwrites` maps a result's number to the state input whose memory it takes. A loop over time is one step; `turns`
    says what it runs.
    """

    kernel: Kernel
    node: Node
    reads: tuple[Node, ...]
    makes: tuple[Node, ...]
    turns: Turns | None = None
    overwrites: dict[int, Node] = field(default_factory=dict[int, Node])
    before: dict[Step, None] = field(default_factory=dict["Step", None])
    after: dict[Step, None] = field(default_factory=dict["Step", None])


@dataclass(frozen=True)
class Copied(Op):
    """A value at another place; it only tells the copy from the original."""

    name = "copied"
    place: tuple[str, int] | None
    of: Type

    def infer(self, *types: Type) -> Type:
        return self.of


def copy_step(value: Node, place: tuple[str, int] | None, target: Target) -> Step:
    """Return a step that copies a value to a place, or to a temporary."""
    leaf = Input(0, value.type)()
    fused = Fused("loop", Graph((leaf,), (leaf,)))
    return Step(kernel_for(fused, target), fused(value), (value,), (Copied(place, value.type)(value),))


def single(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps that are one kernel: the others, and those of the turns of loops, once each."""
    for step in steps:
        if step.turns is None:
            yield step
        else:
            yield from single(step.turns.steps)


def link(steps: Sequence[Step]) -> None:
    """Fill in which steps must come before which, from the values they exchange."""
    maker = {value: step for step in steps for value in step.makes}
    for step in steps:
        for value in step.reads:
            if value in maker and maker[value] is not step:
                precede(maker[value], step)


def precede(first: Step, second: Step) -> None:
    """Note that `first` must run before `second`."""
    second.before[first] = None
    first.after[second] = None


def depends_on(step: Step, other: Step) -> bool:
    """Whether `step` has to run after `other`."""
    seen: set[Step] = set()
    stack = [other]
    while stack:
        current = stack.pop()
        if current is step:
            return True
        if current not in seen:
            seen.add(current)
            stack.extend(current.after)
    return False


def claim(step: Step, result: int, state: Node, steps: Sequence[Step]) -> bool:
    """Let a result take the memory of a state input if nobody needs the old value afterwards; say whether it may.

    Every other reader of the old value is put before the step. The step itself may read it only where it writes.
    """
    operands = [k for k, value in enumerate(step.reads) if value is state]
    if any((k, result) not in step.kernel.in_place for k in operands):
        return False
    readers = [s for s in steps if s is not step and state in s.reads]
    if any(depends_on(reader, step) for reader in readers):
        return False
    for reader in readers:
        precede(reader, step)
    step.overwrites[result] = state
    return True


def order_copies(steps: Sequence[Step], copies: Sequence[Step]) -> None:
    """Put copies behind what makes their value, before what overwrites it, behind readers of what they overwrite."""
    every = [*steps, *copies]
    maker = {value: step for step in every for value in step.makes}
    overwriter = {old: step for step in every for old in step.overwrites.values()}
    for copy in copies:
        (value,) = copy.reads
        if value in maker:
            precede(maker[value], copy)
        elif value in overwriter and overwriter[value] is not copy:
            precede(copy, overwriter[value])
        for old in copy.overwrites.values():
            for step in every:
                if old in step.reads and step is not copy:
                    precede(step, copy)


def ordered(steps: Sequence[Step], kept: set[Node]) -> list[Step]:
    """Return the steps in an order that frees memory early: of those that may run next, the one that grows it least.

    Args:
        steps: linked steps.
        kept: values that are not temporaries: inputs and results of the plan.
    """
    rank = {step: k for k, step in enumerate(steps)}
    waiting = {step: len(step.before) for step in steps}
    uses: dict[Node, int] = {}
    for step in steps:
        for value in dict.fromkeys(step.reads):
            uses[value] = uses.get(value, 0) + 1

    def growth(step: Step) -> int:
        made = sum(v.type.nbytes for v in step.makes if v not in kept)
        last = [v for v in dict.fromkeys(step.reads) if uses[v] == 1 and v not in kept and not _is_input(v)]
        return made - sum(v.type.nbytes for v in last)

    ready = [step for step in steps if waiting[step] == 0]
    out: list[Step] = []
    while ready:
        step = min(ready, key=lambda s: (growth(s), rank[s]))
        ready.remove(step)
        out.append(step)
        for value in dict.fromkeys(step.reads):
            uses[value] -= 1
        for later in step.after:
            waiting[later] -= 1
            if waiting[later] == 0:
                ready.append(later)
    assert len(out) == len(steps), "the steps of a plan wait for each other in a circle"
    return out


def _is_input(node: Node) -> bool:
    return isinstance(node.op, Input)


def values_of(node: Node) -> tuple[Node, ...]:
    """Return the result values of a kernel node."""
    assert isinstance(node.op, Fused)
    return results(node)
