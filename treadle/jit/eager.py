"""The executor of eager code: equal programs share one Plan, and so do programs that differ only in some numbers.

A Python loop like `x = x * 0.99 + i` makes a new program in every turn, since Python's numbers are literals. Once a
program differs from an earlier one in its literals or in where its slices start, and in nothing else, it runs on a
Plan that takes these as inputs.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import Any, Generic, TypeVar

import numpy as np

from treadle.codegen.target import host
from treadle.core import Type, config, int64
from treadle.ir import Const, Graph, Input, Node, rebuilt
from treadle.ops import Slice, Take, flip
from treadle.passes.simplify import RULES
from treadle.tensor.realize import lift

from .checks import Checks, checks_of
from .plan import Plan

Array = np.ndarray[Any, Any]
T = TypeVar("T")

PLANNED_NODES = 50_000  # nodes of all programs whose Plans are kept
KNOWN_NODES = 100_000  # and of those only remembered to have been there
LONGEST_SLICE = 4096  # a longer one keeps its start: reading through positions would cost more than a Plan
SPECIAL = frozenset((0.0, 1.0, -1.0, 2.0, 0.5))  # literals that rules look for, and that rarely count anything
POWERS = frozenset(rule.before.args[1].value for rule in RULES if rule.before.name == "pow")  # cheaper than others


class Recent(Generic[T]):
    """Values of the programs used last, as many as have `most` nodes together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.nodes = 0
        self.values: OrderedDict[Any, tuple[T, int]] = OrderedDict()
        self.lock = RLock()

    def get(self, key: Any) -> T | None:
        """Return the value of a program, if it is still known."""
        with self.lock:
            found = self.values.get(key)
            if found is None:
                return None
            self.values.move_to_end(key)
            return found[0]

    def put(self, key: Any, value: T, nodes: int) -> None:
        """Keep the value of a program of so many nodes; those not used for longest give way."""
        with self.lock:
            self.nodes += nodes - self.values.get(key, (value, 0))[1]
            self.values[key] = value, nodes
            while self.nodes > self.most and len(self.values) > 1:
                self.nodes -= self.values.popitem(last=False)[1][1]


plans: Recent[tuple[Plan, Checks | None]] = Recent(PLANNED_NODES)
forms: Recent[bool] = Recent(KNOWN_NODES)


def execute(nodes: list[Node]) -> list[Array]:
    """Compute nodes whose leaves are known data."""
    graph, arrays = lift(nodes)
    settings = (config.threads, host())
    found = plans.get((graph, *settings))
    if found is None:
        form, numbers = freed(graph)
        if numbers and forms.get(form):
            found = plans.get((form, *settings)) or _compile(form, settings, len(arrays))
            arrays = [*arrays, *numbers]
        else:
            forms.put(form, True, len(form.nodes()))
            found = _compile(graph, settings, len(arrays))
    plan, checks = found
    with plan.lock:
        slots = plan.slots
        for k, array in enumerate(arrays):
            slots[k] = array.__array_interface__["data"][0]
        if checks is not None:
            checks.run(slots)
        return plan.run_bound()


def _compile(graph: Graph, settings: tuple[int, object], num_data: int) -> tuple[Plan, Checks | None]:
    """Return a new Plan and what its indices must fulfil: those behind the data are slices, and in range."""
    made = Plan(graph), checks_of(graph, lambda n: not _is_position(n, num_data))
    plans.put((graph, *settings), made, len(graph.nodes()))
    return made


def _is_position(node: Node, num_data: int) -> bool:
    return isinstance(node.op, Take) and isinstance(node.args[1].op, Input) and node.args[1].op.index >= num_data


def freed(graph: Graph) -> tuple[Graph, list[Array]]:
    """Return the graph with literals and positions of slices as inputs behind the others, and the values of these."""
    new: dict[Node, Node] = {}
    inputs = list(graph.inputs)
    numbers: list[Array] = []

    def number(array: Array, of: Type) -> Node:
        inputs.append(Input(len(inputs), of)())
        numbers.append(array)
        return inputs[-1]

    nodes = graph.nodes()
    exponents = {n.args[1] for n in nodes if n.op.name == "pow"}
    for node in nodes:
        op = node.op
        kept = POWERS if node in exponents else SPECIAL
        if isinstance(op, Const) and op.dtype.kind != "bool" and op.value not in kept:
            new[node] = number(np.asarray(op.value, op.dtype.numpy), node.type)
        elif isinstance(op, Slice) and op.sizes != node.args[0].shape and max(op.sizes, default=0) <= LONGEST_SLICE:
            value = new[node.args[0]]
            for axis, (start, size, step) in enumerate(zip(op.starts, op.sizes, op.steps, strict=True)):
                if size and size != value.shape[axis]:
                    value = Take(axis)(value, number(start + step * np.arange(size), Type(int64, (size,))))
                elif size == value.shape[axis] and step != 1:
                    value = flip(value, [a == axis for a in range(len(op.sizes))])
            new[node] = value if value.shape == node.shape else rebuilt(node, [new[node.args[0]]])
        else:
            new[node] = node if isinstance(op, Input) else rebuilt(node, [new[a] for a in node.args])
    return Graph(tuple(inputs), tuple(new[n] for n in graph.outputs)), numbers
