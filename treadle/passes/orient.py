"""Matrix products computed the way round their result is read: (A B)^T is made as B^T A^T, whose operands are views.

So the gradient of a weight stored (out, in) comes out in the weight's own layout, and its update can be fused into it.
Every element is the same sum in the same order, so the bits do not change.
"""

from __future__ import annotations

from treadle.ir import Graph, Node, Pass, Rewriter, users_of
from treadle.ops.linalg import Matmul
from treadle.ops.movement import Permute, swap_last


def is_transposed(node: Node) -> bool:
    """Whether a node exchanges the last two axes and nothing else."""
    n = node.type.ndim if len(node.types) == 1 else 0
    return isinstance(node.op, Permute) and n >= 2 and node.op.axes == (*range(n - 2), n - 1, n - 2)


def orient(graph: Graph) -> Graph:
    """Return the graph with products that are only read transposed computed transposed."""
    users = users_of(graph.nodes())
    leaving = set(graph.outputs)

    def step(node: Node) -> Node | None:
        if not is_transposed(node):
            return None
        product = node.args[0]
        if not isinstance(product.op, Matmul) or product in leaving or len(users.get(product, [])) != 1:
            return None
        a, b = product.args
        return Matmul()(_turned(b), _turned(a))

    rewriter = Rewriter(step)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


def _turned(x: Node) -> Node:
    return x.args[0] if is_transposed(x) else swap_last(x)


ORIENT = Pass("orient", orient, "products that are only read transposed are computed transposed")
