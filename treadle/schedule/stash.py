"""Values that several passes over a row need, kept in a scratch row instead of computed again."""

from __future__ import annotations

from collections.abc import Callable

from treadle.ir import Node
from treadle.te import Alloc, Buffer, Fetch, Reduce, Stmt, Store, cost, variables

STASH_COST = 12  # flops from which a value is kept
STASH_NBYTES = 32 * 1024  # and the most memory for it: it has to stay in the first-level cache

Level = tuple[Stmt, ...]


def stashed(levels: list[Level], r: Node, size: int) -> tuple[list[Level], list[Stmt]]:
    """Return passes that keep costly values which several of them need, and where they keep them.

    Args:
        levels: the statements of each pass.
        r: the place in the row.
        size: elements of the row.
    """
    seen: dict[Node, int] = {}
    keep: dict[Node, tuple[int, Buffer]] = {}
    for k, level in enumerate(levels):
        for stmt in level:
            assert isinstance(stmt, Store | Reduce)
            for node in _outermost(stmt.value, lambda n, k=k: n in seen and seen[n] < k and n not in keep):
                room = STASH_NBYTES - sum(b.size * b.dtype.itemsize for _, b in keep.values())
                if node.dtype.itemsize < 4:
                    continue  # a row of them would be rounded, and the first pass has not seen that
                if r in variables(node) and cost(node) >= STASH_COST and size * node.dtype.itemsize <= room:
                    keep[node] = (seen[node], Buffer(f"row{len(keep)}", node.dtype, size, "scratch"))
        for stmt in level:
            assert isinstance(stmt, Store | Reduce)
            for node in nodes_of(stmt.value):
                seen.setdefault(node, k)
    if not keep:
        return levels, []
    out: list[Level] = []
    for k, level in enumerate(levels):
        swap = {n: Fetch(b)(r) for n, (made, b) in keep.items() if made < k}
        stores = [Store(b, r, n) for n, (made, b) in keep.items() if made == k]
        out.append((*[_swapped(s, swap) for s in level], *stores))
    return out, [Alloc(b) for _, b in keep.values()]


def nodes_of(node: Node) -> set[Node]:
    """Return all parts of an expression."""
    found: set[Node] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n not in found:
            found.add(n)
            stack.extend(n.args)
    return found


def _outermost(node: Node, wanted: Callable[[Node], bool]) -> list[Node]:
    """Return the largest parts of an expression that `wanted` holds for."""
    found: dict[Node, None] = {}
    stack, seen = [node], set[Node]()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if wanted(n):
            found[n] = None
        else:
            stack.extend(n.args)
    return list(found)


def _swapped(stmt: Stmt, swap: dict[Node, Node]) -> Stmt:
    """Return the statement with parts of its value replaced."""
    assert isinstance(stmt, Store | Reduce)
    memo: dict[Node, Node] = dict(swap)

    def visit(node: Node) -> Node:
        if node not in memo:
            args = tuple(visit(a) for a in node.args)
            memo[node] = node if args == node.args else node.op(*args)
        return memo[node]

    if isinstance(stmt, Store):
        return Store(stmt.buffer, stmt.index, visit(stmt.value))
    return Reduce(stmt.buffer, stmt.combine, visit(stmt.value))
