"""Checks that a graph is well formed: what a pass may assume, and must leave behind."""

from collections.abc import Collection

from treadle.core import Type, VerifyError

from .graph import Graph
from .node import Get, Input


def verify(graph: Graph, *, forbids: Collection[str] = ()) -> None:
    """Raise VerifyError unless every node has the types its op infers, inputs are declared, and no op is forbidden."""
    for index, node in enumerate(graph.inputs):
        if not isinstance(node.op, Input) or node.op.index != index:
            raise VerifyError(f"verify: input {index} of the graph is {node}. Inputs are input ops numbered from 0.")
    declared = set(graph.inputs)
    for node in graph.nodes():
        if isinstance(node.op, Input):
            if node not in declared:
                raise VerifyError(f"verify: {node} is read but is not an input of the graph.")
        elif not isinstance(node.op, Get):
            inferred = node.op.infer(*[a.type for a in node.args])
            types = (inferred,) if isinstance(inferred, Type) else inferred
            if types != node.types:
                raise VerifyError(f"verify: {node} has type {node.types}, its op infers {types}.")
        if node.op.name in forbids:
            raise VerifyError(f"verify: {node} must not appear at this stage (forbidden: {sorted(forbids)}).")
