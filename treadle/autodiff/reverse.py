"""Gradients of programs: one sweep from the outputs back that asks every op for its `vjp`; the result is a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treadle.ir import Const, Get, Input, Node, Op, attributed_to, topological
from treadle.ops.base import TensorOp
from treadle.tensor import Data
from treadle.tensor.markers import Detach, Variable

LEAVES = (Const, Input, Data, Detach)


def vjp_nodes(outputs: Sequence[Node], cotangents: Sequence[Node | None], wrt: Sequence[Node]) -> list[Node | None]:
    """Return the cotangents of the nodes in `wrt`, given those of `outputs`; None for one they do not depend on.

    Contributions to one node are added in the order of the reverse sweep, which is fixed by the program: the same
    function gives the same sums in the same order.
    """
    order = topological(outputs, stop=is_cut)
    live = _dependents(order, set(wrt))
    flowing: dict[Node, Node] = {}
    parts: dict[Node, list[Node | None]] = {}  # cotangents of the results of an op with several
    for node, ct in zip(outputs, cotangents, strict=True):
        if ct is not None and node in live:
            _add(flowing, node, ct)
    wanted = set(wrt)
    for node in reversed(order):
        if node not in live:
            continue
        ct: Any = tuple(parts.pop(node)) if node in parts else flowing.get(node)
        if ct is None:
            continue
        if node not in wanted:
            flowing.pop(node, None)
        if isinstance(node.op, Get):
            (source,) = node.args
            slots = parts.setdefault(source, [None] * len(source.types))
            held = slots[node.op.index]
            slots[node.op.index] = ct if held is None else _sum(held, ct)
            continue
        if not any(arg in live for arg in node.args):
            continue
        assert isinstance(node.op, TensorOp), f"{node} has no gradient rule"
        with attributed_to(node.source):
            backward = node.op.vjp(ct, node, *node.args)
        assert len(backward) == len(node.args), f"{node.op.name}.vjp: {len(backward)} cotangents for {len(node.args)}"
        for arg, part in zip(node.args, backward, strict=True):
            if part is not None and arg in live:
                assert part.type == arg.type, f"{node.op.name}.vjp: a cotangent of type {part.type} for {arg.type}"
                _add(flowing, arg, part)
    return [flowing.get(node) for node in wrt]


def is_cut(node: Node) -> bool:
    """Whether no gradient passes below a node."""
    return isinstance(node.op, LEAVES)


def variables_of(outputs: Sequence[Node]) -> list[Node]:
    """Return the markers of variables that a gradient of `outputs` can reach, in program order."""
    return [n for n in topological(outputs, stop=is_cut) if isinstance(n.op, Variable)]


def _dependents(order: Sequence[Node], wrt: set[Node]) -> set[Node]:
    """Return the nodes through which a change of `wrt` can reach later ones: floats all the way."""
    live: set[Node] = set()
    for node in order:
        reached = node in wrt or any(arg in live for arg in node.args)
        if reached and any(t.dtype.is_float for t in node.types):
            live.add(node)
    return live


def _add(flowing: dict[Node, Node], node: Node, ct: Node) -> None:
    held = flowing.get(node)
    flowing[node] = ct if held is None else _sum(held, ct)


def _sum(a: Node, b: Node) -> Node:
    return Op.registry["add"]()(a, b)
