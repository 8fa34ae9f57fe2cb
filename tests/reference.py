"""The oracle: runs programs op by op with their NumPy meanings. Slow, obvious, and independent of every kernel."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.ir import Const, Get, Graph, Input, Node
from treadle.ops import Checked
from treadle.tensor import Array, lift


def evaluate(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """Return the outputs of a graph for these inputs."""
    values = _values(graph.nodes(), arrays)
    return [values[n] for n in graph.outputs]


def execute(nodes: Sequence[Node]) -> list[Array]:
    """An executor for `treadle.tensor.set_executor`; checks indices as the compiled one does."""
    graph, arrays = lift(nodes)
    for node in graph.nodes():
        if isinstance(node.op, Checked):
            for check in node.op.checks(*node.args):
                ok, low, high = evaluate(Graph(graph.inputs, (check.ok, check.low, check.high)), arrays)
                if not ok:
                    raise check.error(int(low), int(high))
    return [np.ascontiguousarray(v).reshape(v.shape) for v in evaluate(graph, arrays)]


def _values(nodes: Sequence[Node], arrays: Sequence[Array]) -> dict[Node, Any]:
    values: dict[Node, Any] = {}
    for node in nodes:
        op: Any = node.op
        if isinstance(op, Input):
            values[node] = arrays[op.index]
        elif isinstance(op, Const):
            values[node] = np.asarray(op.value, op.dtype.numpy)
        elif isinstance(op, Get):
            values[node] = values[node.args[0]][op.index]
        else:
            value = op.eval(*[values[a] for a in node.args])
            results = value if isinstance(value, tuple) else (value,)
            for result, of in zip(results, node.types, strict=True):
                assert result.dtype == of.dtype.numpy, f"{node}: eval gives {result.dtype}"
                assert result.shape == of.shape, f"{node}: eval gives {result.shape}"
            values[node] = value
    return values
