"""Why values share a kernel, and why others do not: the decisions of fusion, equal ones of many layers as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treadle.ir import Get, Node, Source
from treadle.jit import Plan
from treadle.passes.fuse import Decision

from .places import Place, places_of


@dataclass(frozen=True)
class DecisionReport:
    """Whether a value and one that reads it share a kernel, and why.

    Attributes:
        fused: whether they do.
        reason: why, or why not.
        producer: the value: what makes it, and its type.
        consumer: what reads it.
        producer_places: the user's lines of the value.
        consumer_places: and of the reader.
        count: how many equal decisions this stands for.
        nbytes: what the values take, all together: fused they need not be read from memory.
    """

    fused: bool
    reason: str
    producer: str
    consumer: str
    producer_places: tuple[Place, ...]
    consumer_places: tuple[Place, ...]
    count: int
    nbytes: int


def report_decisions(plan: Plan) -> tuple[DecisionReport, ...]:
    """Return the decisions that stand, the largest values first. Refused pairs that met another way are left out."""
    kernels: dict[Node, set[Node]] = {}
    for kernel, members in plan.fusion.members.items():
        for member in members:
            kernels.setdefault(member, set()).add(kernel)

    def stands(decision: Decision) -> bool:
        together = kernels.get(decision.producer, set()) & kernels.get(decision.consumer, set())
        return decision.fused or not together

    groups: dict[object, dict[Decision, None]] = {}
    for decision in plan.fusion.decisions:
        if stands(decision):
            ends = (decision.producer, decision.consumer)
            key = (decision.fused, decision.reason, *map(_described, ends), *[_line(n.source) for n in ends])
            groups.setdefault(key, {})[decision] = None
    found = [_report(list(group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda d: (d.fused, -d.nbytes)))


def _report(group: list[Decision]) -> DecisionReport:
    first = group[0]
    return DecisionReport(
        first.fused,
        first.reason,
        _described(first.producer),
        _described(first.consumer),
        _places(d.producer for d in group),
        _places(d.consumer for d in group),
        len(group),
        sum(t.nbytes for d in group for t in d.producer.types),
    )


def _places(nodes: Iterable[Node]) -> tuple[Place, ...]:
    return places_of(node.source for node in nodes)


def _described(node: Node) -> str:
    if isinstance(node.op, Get):
        return f"{node.args[0].op.name}.{node.op.index} {node.type!r}"
    return f"{node.op.name} {', '.join(map(repr, node.types))}"


def _line(source: Source | None) -> tuple[str, int]:
    return ("", 0) if source is None else (source.file, source.line)
