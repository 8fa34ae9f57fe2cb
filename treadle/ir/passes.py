"""A pass is a pure function of a graph with a name; a pipeline is a tuple of them."""

from collections.abc import Callable
from dataclasses import dataclass

from .graph import Graph

Observer = Callable[["Pass", Graph, Graph], None]


@dataclass(frozen=True)
class Pass:
    """A named step. `forbids` lists ops that must be gone afterwards; the verifier checks it.

    A pass that is `about` some ops only is not run on a graph without any of them.
    """

    name: str
    apply: Callable[[Graph], Graph]
    doc: str
    forbids: frozenset[str] = frozenset()
    about: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


Pipeline = tuple[Pass, ...]


def run(pipeline: Pipeline, graph: Graph, *, observe: Observer | None = None) -> Graph:
    """Return the graph after every pass in order; `observe(pass, before, after)` sees each step."""
    present = {node.op.name for node in graph.nodes()}
    for step in pipeline:
        after = graph if step.about.isdisjoint(present) and step.about else step.apply(graph)
        if after is not graph:
            present = {node.op.name for node in after.nodes()}
        if observe is not None:
            observe(step, graph, after)
        graph = after
    return graph
