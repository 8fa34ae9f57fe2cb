"""Every form a program takes on its way to machine code, as text by name; costly ones are made when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from treadle.codegen import toolchain
from treadle.codegen.target import Target
from treadle.core import TreadleError
from treadle.ir import Graph, show
from treadle.ops.fused import Fused
from treadle.runtime.arena import Arena
from treadle.runtime.tasks import Run, Schedule

from .kernels import Kernel
from .order import Step
from .pipeline import Stage
from .turns import Call

FORMS = ("formula", "schedule", "llvm", "assembly")


class Stages(Mapping[str, str]):
    """Texts by name, in the order of the road. A kernel's are called `formula:KERNEL`, `schedule:KERNEL`, ..."""

    def __init__(self, texts: Mapping[str, Callable[[], str]]) -> None:
        self._texts = dict(texts)
        self._made: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            raise NoSuchStageError(f"stages: there is no stage {name!r}. Allowed: {', '.join(self.suggested(name))}.")
        if name not in self._made:
            self._made[name] = self._texts[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def suggested(self, name: str) -> list[str]:
        """Return the names worth listing beside one that does not exist: all, or those of the form asked for."""
        form = name.partition(":")[0]
        same = [n for n in self._texts if n.startswith(form + ":")]
        if same:
            return same
        return [n for n in self._texts if ":" not in n] + [f"{form}:KERNEL" for form in FORMS]

    def __repr__(self) -> str:
        return f"Stages({', '.join(self._texts)})"


class NoSuchStageError(TreadleError, KeyError):
    """A stage that a Plan does not have."""

    def __str__(self) -> str:
        return str(self.args[0])


def stages_of(
    passes: Sequence[Stage],
    fused: Graph,
    steps: Sequence[Step],
    calls: Sequence[Call],
    arena: Arena,
    schedule: Schedule,
    target: Target,
) -> Stages:
    """Return the texts of a Plan made of these parts."""
    texts: dict[str, Callable[[], str]] = {}
    for step in passes:
        texts[_unused(step.name, texts)] = partial(show, step.graph, sources=True)
    texts["fuse"] = partial(show, fused)
    for name, step in named_kernels(steps).items():
        kernel = step.kernel
        if step.turns is not None:
            texts[f"turns:{name}"] = partial(show, step.turns.fusion.graph)
            continue
        texts[f"formula:{name}"] = partial(_formula, step)
        texts[f"schedule:{name}"] = partial(str, kernel.text)
        texts[f"llvm:{name}"] = kernel.llvm
        texts[f"assembly:{name}"] = partial(_assembly, kernel, target)
    texts["memory"] = partial(str, arena)
    texts["tasks"] = partial(_tasks, calls, schedule)
    return Stages(texts)


def named_kernels(steps: Sequence[Step]) -> dict[str, Step]:
    """Return the first call of every different kernel, by a name of its own: a number tells two with one apart."""
    found: dict[str, Step] = {}
    seen: set[str] = set()
    for step in _with_turns(steps):
        if step.kernel.symbol in seen:
            continue
        seen.add(step.kernel.symbol)
        found[_unused(step.kernel.name, found)] = step
    return found


def _with_turns(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield steps, those of a loop's turn behind the loop."""
    for step in steps:
        yield step
        if step.turns is not None:
            yield from _with_turns(step.turns.steps)


def _unused(name: str, taken: Mapping[str, object]) -> str:
    """Return the name, or the first of `name.2`, `name.3`, ... that is free."""
    free, count = name, 2
    while free in taken:
        free, count = f"{name}.{count}", count + 1
    return free


def _formula(step: Step) -> str:
    assert isinstance(step.node.op, Fused)
    return show(step.node.op.body, sources=True)


def _assembly(kernel: Kernel, target: Target) -> str:
    return toolchain.assembly(kernel.llvm(), target)


def _tasks(calls: Sequence[Call], schedule: Schedule) -> str:
    lines: list[str] = []
    for thread, records in enumerate(schedule):
        lines.append(f"thread {thread}:")
        for record in records:
            if isinstance(record, Run):
                kernel = calls[record.kernel].step.kernel
                tiles = f"tiles {record.lo}..{record.hi} of {kernel.num_tiles}"
                lines.append(f"  run {record.kernel} {kernel.name} {tiles}")
            else:
                lines.append(f"  wait for run {record.runs} of thread {record.thread}")
    return "\n".join(lines)
