"""Products with rows looked up in a small table: the table is multiplied, and rows of the product are looked up.

With fewer rows in the table than there are indices, every row would be multiplied many times. So

    take(E, i) @ W             becomes  take(E @ W, i)
    take(E, i)^T @ G           becomes  E^T @ scatter_add(G, i)
    scatter_add(G @ W, i)      becomes  scatter_add(G, i) @ W

The first keeps every bit; the two others, which are gradients of it, add in another order. This is what makes an
embedding in front of a recurrent layer cheap.
"""

from __future__ import annotations

from typing import cast

from treadle.ir import Const, Graph, Node, Op, Pass, Rewriter, constant, users_of
from treadle.ops import Matmul, Permute, Reshape, ScatterAdd, Take, permute, reshape, where
from treadle.ops.broadcast import broadcast_to

FEWER = 2  # indices per row of the table from which on it pays


def looked_up(node: Node) -> tuple[Node, Node] | None:
    """Return (E, i) where a matrix is take(E, i) of the rows of E, whatever shape the index had before."""
    path = rows_to(node, Take)
    if path is None or node.type.ndim != 2:
        return None
    *moves, take = path
    table, index = take.args
    if cast(Take, take.op).axis or table.type.ndim != 2 or not worthwhile(table.shape[0], node):
        return None
    for move in reversed(moves):
        op = move.op
        index = permute(index, op.axes[:-1]) if isinstance(op, Permute) else reshape(index, move.shape[:-1])
    return table, index


def rows_to(node: Node, wanted: type[Op]) -> list[Node] | None:
    """Return the nodes from `node` down to the nearest of a kind, between which whole rows move; None if there is none.

    Rows are what lies along the last axis.
    """
    path = [node]
    while not isinstance(node.op, wanted):
        whole = isinstance(node.op, Reshape) and node.type.ndim and node.args[0].shape[-1:] == node.shape[-1:]
        if not whole and not (isinstance(node.op, Permute) and node.op.axes[-1] == node.type.ndim - 1):
            return None
        node = node.args[0]
        path.append(node)
    return path


def worthwhile(rows: int, node: Node) -> bool:
    """Whether a table has so many fewer rows than a matrix; sums of short floats are not to be rounded in between."""
    return node.dtype.is_float and node.dtype.bits >= 32 and 0 < FEWER * rows <= node.shape[0]


def product_of_table(node: Node) -> Node | None:
    """take(E, i) @ W is take(E @ W, i)."""
    if not isinstance(node.op, Matmul) or node.type.ndim != 2:
        return None
    found = looked_up(node.args[0])
    return None if found is None else Take(0)(Matmul()(found[0], node.args[1]), found[1])


def product_with_table(node: Node) -> Node | None:
    """A @ take(E, i) is the sums of A's columns by i, times E; and the same transposed, take(E, i)^T @ B."""
    if not isinstance(node.op, Matmul) or node.type.ndim != 2:
        return None
    left, right = node.args
    found = looked_up(right)
    if found is not None:
        sums, table = _by_rows(permute(left, (1, 0)), *found)
        return Matmul()(permute(sums, (1, 0)), table)
    found = looked_up(left.args[0]) if isinstance(left.op, Permute) else None
    if found is None:
        return None
    sums, table = _by_rows(right, *found)
    return Matmul()(permute(table, (1, 0)), sums)


def _by_rows(values: Node, table: Node, index: Node) -> tuple[Node, Node]:
    """Return the sums of values for each row of the table, and the table without rows that no index names.

    Those take no part: they may hold NaN.
    """
    rows = table.shape[0]
    counts = ScatterAdd(0, rows)(broadcast_to(constant(1.0, table.dtype), index.shape), index)
    used = reshape(Op.registry["greater"]()(counts, constant(0.0, table.dtype)), (rows, 1))
    return ScatterAdd(0, rows)(values, index), where(broadcast_to(used, table.shape), table, 0.0)


def table_of_product(node: Node, users: dict[Node, list[Node]]) -> Node | None:
    """scatter_add(G @ W, i) is scatter_add(G, i) @ W, where nothing else reads the product."""
    op = node.op
    if not isinstance(op, ScatterAdd) or op.axis or node.type.ndim != 2:
        return None
    path = rows_to(node.args[0], Matmul)
    if path is None or any(len(users.get(n, ())) > 1 for n in path):
        return None
    *moves, product = path
    g, w = product.args
    if product.type.ndim != 2 or isinstance(g.op, Const) or not worthwhile(op.size, product):
        return None
    index = node.args[1]
    for move in moves:
        if isinstance(move.op, Permute):
            index = permute(index, tuple(sorted(range(index.type.ndim), key=move.op.axes.__getitem__)))
        else:
            index = reshape(index, move.args[0].shape[:-1])
    return Matmul()(ScatterAdd(0, op.size)(g, index), w)


def lookup(graph: Graph) -> Graph:
    """Return the graph with products of tables in place of products of what is looked up in them."""
    users = users_of(graph.nodes())
    for node in graph.outputs:
        users[node] = [*users.get(node, []), node]  # what leaves the graph is read there too

    def step(node: Node) -> Node | None:
        return product_of_table(node) or product_with_table(node) or table_of_product(node, users)

    rewriter = Rewriter(step)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))


LOOKUP = Pass(
    "lookup",
    lookup,
    "products with rows of a small table become rows of a product",
    about=frozenset((Take.name, ScatterAdd.name)),
)
