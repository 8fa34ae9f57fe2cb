"""Composite ops replaced by what they are made of, so that fusion sees only formulas and whole kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from treadle.ir import Get, Graph, Node, Op, Pass, attributed_to, rebuilt, topological
from treadle.ops import Composite


def has_own_kernel(node: Node) -> bool:
    """Whether a code generator of its own computes this composite: attention, which must not be taken apart.

    Of nothing it makes nothing: then the plain form, which knows the sums over nothing, is as good.
    """
    return isinstance(node.op, Composite) and node.op.kernel != "loop" and all(a.type.size for a in node.args)


def decompose(graph: Graph, *, keep: Callable[[Node], bool] = has_own_kernel) -> Graph:
    """Return the graph without composite ops, but for those `keep` names."""
    decomposer = _Decomposer(keep)
    decomposer.visit(graph.outputs)
    return Graph(graph.inputs, tuple(decomposer.done[n] for n in graph.outputs))


class _Decomposer:
    """`done` maps every node met, and every node made, to what it became."""

    def __init__(self, keep: Callable[[Node], bool]) -> None:
        self.keep = keep
        self.done: dict[Node, Node] = {}
        self.results: dict[Node, tuple[Node, ...]] = {}  # of composites with several

    def visit(self, outputs: Iterable[Node]) -> None:
        done = self.done
        for node in topological(outputs, stop=done.__contains__):
            if node not in done:
                new = done[node] = self.replacement(node)
                done.setdefault(new, new)

    def replacement(self, node: Node) -> Node:
        if isinstance(node.op, Get) and node.args[0] in self.results:
            return self.results[node.args[0]][node.op.index]
        args = tuple([self.done[a] for a in node.args])
        if not isinstance(node.op, Composite) or self.keep(node):
            return node if args == node.args else rebuilt(node, args)
        with attributed_to(node.source):
            made: Node | tuple[Node, ...] = node.op.expand(*args)
        if isinstance(made, Node):
            self.visit((made,))  # an expansion may hold composites itself
            return self.done[made]
        self.visit(made)
        self.results[node] = tuple(self.done[n] for n in made)
        return node  # read only through the results


DECOMPOSE = Pass(
    "decompose",
    decompose,
    "composite ops by simpler ones; those with a kernel of their own stay",
    forbids=frozenset(k for k, op in Op.registry.items() if issubclass(op, Composite) and op.kernel == "loop"),
)
