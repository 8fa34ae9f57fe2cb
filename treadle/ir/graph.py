"""A program: inputs and outputs; its nodes are whatever the outputs reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from treadle.core import Type

from .node import Input, Node
from .source import attributed_to


@dataclass(frozen=True)
class Graph:
    """A function from `inputs` (Input nodes, by index) to `outputs`."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def nodes(self) -> tuple[Node, ...]:
        """Return every node the outputs reach, arguments before users, in a fixed order."""
        return self._nodes

    @cached_property
    def _nodes(self) -> tuple[Node, ...]:
        return tuple(topological(self.outputs))

    def __str__(self) -> str:
        return SHOW[0](self)

    __repr__ = __str__


# `text` sets the printer: the graph must print itself, the printer must know graphs.
SHOW: list[Callable[[Graph], str]] = [object.__repr__]


def inputs_for(types: Sequence[Type]) -> tuple[Node, ...]:
    """Return fresh input nodes of these types, numbered from 0."""
    return tuple(Input(i, t)() for i, t in enumerate(types))


def topological(outputs: Iterable[Node], *, stop: Callable[[Node], bool] | None = None) -> list[Node]:
    """Return the nodes reached from `outputs`, arguments first; below a node where `stop` holds nothing is visited."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[Node | None] = [*reversed(tuple(outputs))]
    while stack:
        node = stack.pop()
        if node is None:  # below it stands a node whose arguments are all in order
            node = stack.pop()
            assert node is not None
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append(node)
            stack.append(None)
            if stop is None or not stop(node):
                stack.extend([arg for arg in reversed(node.args) if arg not in seen])
    return order


def users_of(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """Return for each node the nodes that read it, in order; a node that reads twice is listed once."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        users.setdefault(node, [])
        for arg in dict.fromkeys(node.args):
            users.setdefault(arg, []).append(node)
    return users


def substitute(outputs: Sequence[Node], replace: dict[Node, Node]) -> tuple[Node, ...]:
    """Return `outputs` with nodes replaced; everything above a replaced node is rebuilt."""
    new = dict(replace)
    for node in topological(outputs, stop=lambda n: n in replace):
        if node not in new:
            args = tuple(new[a] for a in node.args)
            new[node] = node if args == node.args else rebuilt(node, args)
    return tuple(new[n] for n in outputs)


def rebuilt(node: Node, args: Sequence[Node]) -> Node:
    """Return the node's op on other arguments, attributed to the same line."""
    with attributed_to(node.source):
        return node.op(*args)
