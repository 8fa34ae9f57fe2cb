"""The passes a graph goes through before fusion; read it top to bottom."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from treadle.core import config
from treadle.ir import Graph, Pass, Pipeline, run, show, verify
from treadle.passes.conv_planes import CONV_PLANES
from treadle.passes.decompose import DECOMPOSE
from treadle.passes.layout import LAYOUT
from treadle.passes.lookup import LOOKUP
from treadle.passes.orient import ORIENT
from treadle.passes.scan import LOOPS
from treadle.passes.simplify import SIMPLIFY
from treadle.passes.special_conv import SPECIAL_CONV
from treadle.passes.split import SPLIT

PIPELINE: Pipeline = (LOOPS, DECOMPOSE, LAYOUT, CONV_PLANES, SPECIAL_CONV, SIMPLIFY, LOOKUP, ORIENT, SPLIT)


@dataclass(frozen=True)
class Stage:
    """One step of the road: its name, what it is for, and the graph after it."""

    name: str
    doc: str
    graph: Graph
    num_nodes: int


def simplified(graph: Graph, stages: list[Stage]) -> Graph:
    """Return the graph after the pipeline; every step is appended to `stages`."""
    stages.append(Stage("trace", "the program as the user wrote it", graph, len(graph.nodes())))
    wanted = {name for name in config.show.split(",") if name}

    def observe(step: Pass, before: Graph, after: Graph) -> None:
        stages.append(Stage(step.name, step.doc, after, len(after.nodes())))
        if config.checks:
            verify(after, forbids=step.forbids)
        if step.name in wanted:
            print(f"--- before {step.name}\n{show(before)}\n--- after {step.name}\n{show(after)}", file=sys.stderr)

    return run(PIPELINE, graph, observe=observe)
