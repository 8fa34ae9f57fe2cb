"""Several ops that one kernel computes: what the fusion pass makes of groups of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from treadle.core import Type
from treadle.ir import Const, Get, Graph, Input, Node

from .base import Array, TensorOp

KernelKind = Literal[
    "loop",
    "matmul",
    "conv",
    "conv_planes",
    "conv_grad",
    "attention",
    "host",
    "scatter",
    "scatter_along",
    "cumulative",
    "sort",
    "scan",
]


@dataclass(frozen=True)
class Fused(TensorOp):
    """One kernel: the graph it computes and the family of code generator that makes it."""

    name = "fused"
    tracked = False
    kind: KernelKind
    body: Graph

    def infer(self, *types: Type) -> Type | tuple[Type, ...]:
        outputs = tuple(n.type for n in self.body.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def eval(self, *args: Array) -> Any:
        results = run_graph(self.body, args)
        return results[0] if len(results) == 1 else tuple(results)


def run_graph(graph: Graph, arguments: Any) -> list[Array]:
    """Return the outputs of a graph by the reference meaning of its ops."""
    values: dict[Node, Any] = {}
    for node in graph.nodes():
        op = node.op
        if isinstance(op, Input):
            values[node] = arguments[op.index]
        elif isinstance(op, Get):
            values[node] = values[node.args[0]][op.index]
        elif isinstance(op, Const):
            values[node] = np.asarray(op.value, op.dtype.numpy)
        else:
            assert isinstance(op, TensorOp), f"{node} has no reference meaning"
            values[node] = op.eval(*[values[a] for a in node.args])
    return [values[n] for n in graph.outputs]
