"""Checks of indices and other values: a small Plan that runs before the real one, so that a bad one changes nothing."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence

from treadle.ir import Graph, Node, Source
from treadle.ops.bounds import always_holds
from treadle.ops.indexing import Check

from .plan import Plan


class Checks:
    """Everything that must hold for the values of a graph's inputs."""

    def __init__(self, graph: Graph, checks: list[tuple[Check, Source | None]]) -> None:
        self.checks = checks
        outputs: list[Node] = []
        for check, _ in checks:
            outputs += [check.ok, check.low, check.high]
        self.plan = Plan(Graph(graph.inputs, tuple(outputs)))

    def run(self, slots: MutableSequence[int]) -> None:
        """Check the values at the addresses the program is to run on; raise the error that names the culprit."""
        own = self.plan.slots
        for k in range(self.plan.num_inputs):
            own[k] = slots[k]
        results = self.plan.run_bound()
        for k, (check, source) in enumerate(self.checks):
            if not results[3 * k]:
                error = check.error(results[3 * k + 1][()], results[3 * k + 2][()])
                if source is not None:
                    error.add_note(f"in {source}")
                raise error


def checks_of(graph: Graph, wanted: Callable[[Node], bool] = lambda _: True) -> Checks | None:
    """Return the checks of all ops of a graph that `wanted` holds for, or None if none can fail."""
    found: list[tuple[Check, Source | None]] = []
    for node in graph.nodes():
        checks: Callable[..., list[Check]] | None = getattr(node.op, "checks", None)
        if checks is not None and wanted(node):
            found += [(check, node.source) for check in checks(*node.args) if not always_holds(check)]
    return Checks(graph, found) if found else None
