"""A loop over time as kernel calls: its body is compiled once, and called in every turn on other addresses.

In turn after turn the calls read slices and write stacked values at places that advance by a fixed step. A carry lives
where the turn before wrote it: in a stack if it is stacked anyway, else in place if no kernel of a turn needs the old
value after the new one is written, else in two places by turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from treadle.codegen.target import Target
from treadle.ir import Get, Input, Node
from treadle.ops.fused import Fused
from treadle.ops.scan import Scan
from treadle.passes.fuse import Fusion, fuse
from treadle.runtime.arena import Arena, Block
from treadle.schedule import strided_view

from .blocks import Layout, lay_out
from .kernels import Kernel, kernel_for
from .order import Step, claim, copy_step, link, ordered, values_of


class Where(NamedTuple):
    """A place in memory: a byte of an input, an output, or (number 0) the arena of a plan."""

    kind: str
    number: int
    start: int

    def at(self, offset: int) -> Where:
        """Return the place `offset` bytes further on."""
        return Where(self.kind, self.number, self.start + offset)


class Call(NamedTuple):
    """One kernel call of a plan: a step that is one kernel, and where its operands and results are."""

    step: Step
    reads: tuple[Where, ...]
    makes: tuple[Where, ...]


class View(NamedTuple):
    """An operand of a loop: the step's operand it is a view of, where it begins, and bytes between slices."""

    number: int
    start: int
    stride: int


Spot = tuple[str, int, int]  # "read" or "make", the number of the step's operand or result; or "room", 0; the byte


@dataclass(eq=False)
class Turns:
    """What a loop runs.

    Attributes:
        op: the loop.
        operands: where each operand is.
        fusion: the body as kernels.
        steps: the calls of one turn, in order.
        new: the value of each carry after a turn.
        stacks: the result a value is stacked in.
        carried: where values that are carries, and are not stacked, lie: one place, or two by turns.
        layout: where the temporaries of a turn lie.
    """

    op: Scan
    operands: tuple[View, ...]
    fusion: Fusion
    steps: list[Step]
    new: list[Node]
    stacks: dict[Node, int] = field(default_factory=dict[Node, int])
    carried: dict[Node, tuple[Spot, ...]] = field(default_factory=dict[Node, tuple[Spot, ...]])
    layout: Layout | None = None

    @property
    def arena(self) -> Arena:
        """The memory for what lives within turns."""
        assert self.layout is not None
        return self.layout.arena

    def spot(self, value: Node, turn: int) -> Spot:
        """Return where a value of the body is in the turn-th turn to run."""
        op = self.op
        place = op.length - 1 - turn if op.reverse else turn
        if isinstance(value.op, Input):
            index = value.op.index
            if index < op.num_carry and turn:
                return self.spot(self.new[index], turn - 1)
            view = self.operands[index]
            sliced = op.num_carry <= index < op.num_carry + op.num_xs
            return "read", view.number, view.start + (place * view.stride if sliced else 0)
        if value in self.stacks:
            return "make", self.stacks[value], place * value.type.nbytes
        if value in self.carried:
            spots = self.carried[value]
            return spots[(op.length - 1 - turn) % len(spots)]
        assert self.layout is not None
        return "room", 0, self.arena.offsets[self.layout.block[value]]


def step_of(node: Node, target: Target) -> Step:
    """Return the call of a kernel node."""
    assert isinstance(node.op, Fused)
    if node.op.kind != "scan":
        return Step(kernel_for(node.op, target), node, node.args, values_of(node))
    turns, kernel = turns_of(node.op, target)
    return Step(kernel, node, node.args, values_of(node), turns)


@lru_cache(maxsize=256)
def turns_of(fused: Fused, target: Target) -> tuple[Turns, Kernel]:
    """Return what a loop runs, and the loop as a kernel."""
    loop = next(n for n in fused.body.nodes() if isinstance(n.op, Scan))
    assert isinstance(loop.op, Scan)
    op = loop.op
    results = {n.op.index if isinstance(n.op, Get) else 0: k for k, n in enumerate(fused.body.outputs)}
    operands: list[View] = []
    for k, operand in enumerate(loop.args):
        base, strides, offset = strided_view(operand)
        nbytes = operand.dtype.itemsize
        sliced = op.num_carry <= k < op.num_carry + op.num_xs
        operands.append(View(fused.body.inputs.index(base), offset * nbytes, strides[0] * nbytes if sliced else 0))
    fusion = fuse(op.body)
    steps = [step_of(n, target) for n in fusion.graph.nodes() if isinstance(n.op, Fused)]
    turns = Turns(op, tuple(operands), fusion, steps, [])
    _place(turns, results, target)
    names = f"scan_{op.length}x{len(turns.steps)}"
    kernels = [s.kernel for s in turns.steps]
    kernel = Kernel(
        names,
        "scan",
        "\n".join([repr(op), *[k.symbol for k in kernels]]),
        lambda symbol: "".join(f"; in every turn: {k.symbol}\n" for k in kernels),
        tuple(range(len(fused.body.inputs) + len(fused.body.outputs))),
        1,
        max((k.scratch_nbytes for k in kernels), default=0),
        op.length * sum(k.flops for k in kernels),
        op.length * sum(k.nbytes for k in kernels),
        frozenset(),
    )
    return turns, kernel


def _place(turns: Turns, results: dict[int, int], target: Target) -> None:
    """Decide where what a body returns lives; put its steps in order."""
    op, outputs = turns.op, turns.fusion.graph.outputs
    nc = op.num_carry
    turns.new = list(outputs[:nc])
    copies: list[Step] = []

    def copied(value: Node, k: int) -> Node:
        copies.append(copy_step(value, ("output", k), target))
        return copies[-1].makes[0]

    # Carries whose last value is a result need a place of their own; other carries may be read from a stack.
    final: dict[Node, int] = {}
    for k in range(nc):
        value = outputs[k]
        if isinstance(value.op, Input) or (k in results and value in final):
            value = turns.new[k] = copied(value, k)
        if k in results:
            final[value] = results[k]
    for k in range(nc, len(outputs)):
        if k not in results:
            continue
        value = outputs[k]
        if isinstance(value.op, Input) or value in final or value in turns.stacks:
            value = copied(value, k)
        turns.stacks[value] = results[k]
    steps = [*turns.steps, *copies]
    link(steps)
    lasting: list[Block] = []
    homes: dict[Node, list[str]] = {}
    for k, value in enumerate(turns.new):
        if value in turns.stacks or value in turns.carried:
            continue
        maker = next(s for s in steps if value in s.makes)
        alone = turns.new.count(value) == 1
        in_place = alone and claim(maker, maker.makes.index(value), op.body.inputs[k], steps)
        number = 1 if in_place else 2
        own = [f"carry{k}.{n}" for n in range(number - (value in final))]
        lasting += [Block(name, value.type.nbytes, 0, max(len(steps) - 1, 0)) for name in own]
        homes[value] = own
        turns.carried[value] = (("make", final[value], 0),) if value in final else ()
    kept = {*turns.stacks, *turns.carried, *op.body.inputs}
    turns.steps = ordered(steps, kept)
    turns.layout = layout = lay_out(turns.steps, kept, lasting)
    for value, names in homes.items():
        turns.carried[value] += tuple([("room", 0, layout.arena.offsets[name]) for name in names])


@dataclass(frozen=True)
class Places:
    """Where a step's operands and results are, and what lives within the turns of a loop."""

    reads: tuple[Where, ...]
    makes: tuple[Where, ...]
    room: Where | None = None

    def of(self, spot: Spot) -> Where:
        """Return the place of a spot of the loop that is the step."""
        kind, number, start = spot
        if kind == "room":
            assert self.room is not None
            return self.room.at(start)
        return (self.reads if kind == "read" else self.makes)[number].at(start)


def calls_of(steps: Sequence[Step], places: Sequence[Places]) -> Iterator[Call]:
    """Yield every kernel call of steps in order; `places` has where each is."""
    for step, own in zip(steps, places, strict=True):
        turns = step.turns
        if turns is None:
            yield Call(step, own.reads, own.makes)
            continue
        assert turns.layout is not None
        offsets, rooms = turns.arena.offsets, turns.layout.room
        for turn in range(turns.op.length):
            inner = [
                Places(
                    tuple([own.of(turns.spot(v, turn)) for v in s.reads]),
                    tuple([own.of(turns.spot(v, turn)) for v in s.makes]),
                    own.of(("room", 0, offsets[rooms[s]])) if s in rooms else None,
                )
                for s in turns.steps
            ]
            yield from calls_of(turns.steps, inner)
