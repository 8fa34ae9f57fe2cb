"""Between which numbers an integer value lies, as far as its graph says: an index that must fit needs no check.

What picks a symbol is mostly an argmax over the table it is looked up in again. Checking such an index at run time
would compute all that it depends on twice, in a loop over time the whole loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from treadle.ir import Node, const_value, topological

from .indexing import Check, Iota
from .reduce import PlaceOfExtreme

Bounds = tuple[int, int]
# Ops whose elements are elements of their operands, the condition of a `where` aside.
PASSING = frozenset({"reshape", "broadcast_to", "permute", "slice", "concat", "where", "min", "max"})
ROUNDS = 3  # in which the bounds of a loop's carries may grow before they count as unbounded


def bounds(node: Node, known: Mapping[Node, Bounds | None] | None = None) -> Bounds | None:
    """Return the least and the largest number a value can hold, or None where that is not known.

    Args:
        node: the value.
        known: the bounds of nodes that it is made of, such as the inputs of a loop's body.
    """
    found = dict(known or {})
    for n in topological([node], stop=lambda n: n in found or n.op.name not in PASSING):
        if n not in found:
            found[n] = _of(n, found)
    return found[node]


def _of(node: Node, found: Mapping[Node, Bounds | None]) -> Bounds | None:
    value = const_value(node)
    if isinstance(value, int):
        return value, value
    if isinstance(node.op, PlaceOfExtreme):
        return 0, node.args[0].shape[node.op.axis] - 1
    if isinstance(node.op, Iota):
        return 0, max(node.op.size - 1, 0)
    if node.op.name == "clip":
        low, high = const_value(node.args[1]), const_value(node.args[2])
        return (low, high) if isinstance(low, int) and isinstance(high, int) and low <= high else None
    if node.op.name in PASSING:
        return _joined([found[a] for a in (node.args[1:] if node.op.name == "where" else node.args)])
    return None


def _joined(parts: Sequence[Bounds | None]) -> Bounds | None:
    """Return the bounds of what may be any of several values."""
    lows, highs = [p[0] for p in parts if p is not None], [p[1] for p in parts if p is not None]
    return (min(lows), max(highs)) if len(lows) == len(parts) else None


def carried_bounds(
    inputs: Sequence[Node], outputs: Sequence[Node], args: Sequence[Node], num_carry: int
) -> dict[Node, Bounds | None]:
    """Return the bounds of a loop body's inputs in every turn.

    A carry lies where its first value lies and where the body leaves it if it lies there: grown until nothing changes.
    """
    found = {leaf: bounds(arg) for leaf, arg in zip(inputs, args, strict=True)}
    for turn in range(ROUNDS + num_carry):
        carries = zip(inputs[:num_carry], outputs[:num_carry], strict=True)
        new = {leaf: _joined([found[leaf], bounds(out, found)]) for leaf, out in carries}
        grown = {leaf for leaf, found_now in new.items() if found_now != found[leaf]}
        if not grown:
            break
        found |= {leaf: new[leaf] if turn < ROUNDS else None for leaf in grown}
    return found


def always_holds(check: Check, known: Mapping[Node, Bounds | None] | None = None) -> bool:
    """Whether the indices of a check cannot be out of range."""
    low, high = bounds(check.low, known), bounds(check.high, known)
    return low is not None and high is not None and check.allowed[0] <= low[0] and high[1] <= check.allowed[1]


__all__ = ["always_holds", "bounds", "carried_bounds"]
