"""A loop cut where what it computes changes form: ends of padding, seams of rolled axes.

Inside a piece every choice between positions, as `min(max(r - 2, 0), 55)`, is known, so what is left walks memory
evenly and is read a vector at a time; in one loop the positions would be computed for each lane and gathered.
"""

from __future__ import annotations

import math
from itertools import pairwise

from treadle.core import bool_, int64
from treadle.ir import Const, Node, constant
from treadle.te import (
    Fetch,
    FloorDiv,
    Fn,
    Mod,
    Select,
    Store,
    Var,
    add,
    coefficients,
    floordiv,
    mod,
    scale,
    substitute_index,
    terms_of,
)
from treadle.te.index import UNKNOWN, Affine, bounds

MOST = 16  # pieces, and nodes in them: each is code of its own
MOST_NODES = 1000
# Choices between positions, and which they are when the positions change sides.
TURNED = {"min": "max", "max": "min", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}

Piece = tuple[int, Node, tuple[Store, ...]]  # where it starts, its loop variable, what it does


def pieces(var: Node, stores: tuple[Store, ...]) -> list[Piece]:
    """Return the pieces of a loop over all of a variable, in order; one, of the loop as it is, if cutting is no use."""
    assert isinstance(var.op, Var)
    whole: list[Piece] = [(0, var, stores)]
    if not any(_choices(var, stores)):
        return whole
    done: list[Piece] = []
    written = 0
    waiting = [(0, var.op.extent)]
    while waiting:
        low, high = waiting.pop()
        v = Var(f"{var.op.var}{low}", high - low)()
        memo: dict[Node, Node] = {var: add(v, low)}
        inside = tuple(Store(s.buffer, _settled(s.index, memo), _settled(s.value, memo)) for s in stores)
        cuts = _cuts(v, inside)
        if not cuts:
            done.append((low, v, inside))
        else:
            edges = [low, *(low + c for c in cuts), high]
            waiting.extend(reversed(list(pairwise(edges))))
        written += 0 if cuts else len(_nodes(inside))
        if len(done) + len(waiting) > MOST or written > MOST_NODES:
            return whole
    return done if len(done) > 1 else whole


def periods(var: Node, stores: tuple[Store, ...]) -> int:
    """Return what divides all numbers that the variable is divided by; 0 if none: a loop over it may start anywhere."""
    found = [n.op.by for n in _nodes(stores) if isinstance(n.op, FloorDiv | Mod) and var in _below(n)]
    return math.gcd(*found)


def _nodes(stores: tuple[Store, ...]) -> set[Node]:
    found: set[Node] = set()
    stack = [n for s in stores for n in (s.index, s.value)]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.args)
    return found


def _below(node: Node) -> set[Node]:
    found = {node}
    stack = list(node.args)
    while stack:
        n = stack.pop()
        if n not in found:
            found.add(n)
            stack.extend(n.args)
    return found


def _choices(var: Node, stores: tuple[Store, ...]) -> list[tuple[Node, list[int]]]:
    """Return the nodes whose form changes with the variable, and from which of its values on it is another."""
    found: list[tuple[Node, list[int]]] = []
    for node in _nodes(stores):
        cuts = _changes(node, var)
        if cuts:
            found.append((node, cuts))
    return found


def _cuts(var: Node, stores: tuple[Store, ...]) -> list[int]:
    return sorted({c for _, cuts in _choices(var, stores) for c in cuts})


def _changes(node: Node, var: Node) -> list[int]:
    """Return the values of the variable, but its first, from which on a choice falls out differently."""
    op = node.op
    assert isinstance(var.op, Var)
    if isinstance(op, Mod):
        terms, const = terms_of(node.args[0])
        if terms != {var: 1} or op.by * MOST < var.op.extent:
            return []
        first = const // op.by + 1
        found = [k * op.by - const for k in range(first, first + MOST)]
    elif isinstance(op, Fn) and op.fn in TURNED and node.args[0].dtype is int64:
        line = coefficients(add(node.args[0], scale(node.args[1], -1)), (var,))
        if line is None or not line[0][0]:
            return []
        (step,), const = line
        # Where the difference, which rises, is at least 0 for the first time, and where it is more.
        rising = op.fn if step > 0 else TURNED[op.fn]
        const = const if step > 0 else -const
        least, more = -(const // abs(step)), -((const - 1) // abs(step))
        found = [least] if rising in ("max", "lt", "ge") else [more] if rising in ("min", "le", "gt") else [least, more]
    else:
        return []
    return [c for c in found if 0 < c < var.op.extent]


def _settled(node: Node, memo: dict[Node, Node]) -> Node:
    """Return an expression with variables replaced as in `memo`, and choices that are known then made."""
    known = memo.get(node)
    if known is not None:
        return known
    args = tuple([_settled(a, memo) for a in node.args])
    memo[node] = made = node if args == node.args else _made(node, args)
    return made


def _made(node: Node, args: tuple[Node, ...]) -> Node:
    op = node.op
    match op:
        case FloorDiv():
            return floordiv(args[0], op.by)
        case Mod():
            return mod(args[0], op.by)
        case Affine():
            return substitute_index(node, dict(zip(node.args, args, strict=True)))
        case Fn() if op.fn in TURNED and args[0].dtype is int64:
            return _chosen(op, args)
        case Fn() if op.fn in ("and", "or") and node.dtype is bool_:
            for one, other in (args, reversed(args)):
                if isinstance(one.op, Const):
                    return other if bool(one.op.value) == (op.fn == "and") else one
        case Select() if isinstance(args[0].op, Const):
            return args[1] if args[0].op.value else args[2]
        case Fetch() if op.buffer.space == "register":
            return node
        case _:
            pass
    return op(*args)


def _chosen(op: Fn, args: tuple[Node, ...]) -> Node:
    """Return the result of a comparison, a minimum or a maximum of positions, as far as it is known."""
    low, high = bounds(add(args[0], scale(args[1], -1)))
    if low > -UNKNOWN // 2 and high < UNKNOWN // 2:
        if op.fn in ("min", "max"):
            if low >= 0:
                return args[op.fn == "min"]
            if high <= 0:
                return args[op.fn == "max"]
        else:
            answer = _answer(op.fn, low, high)
            if answer is not None:
                return constant(answer, bool_)
    return op(*args)


def _answer(name: str, low: int, high: int) -> bool | None:
    """Return whether a comparison of two numbers holds whose difference lies between two bounds; None if it may."""
    yes, no = {
        "lt": (high < 0, low >= 0),
        "le": (high <= 0, low > 0),
        "gt": (low > 0, high <= 0),
        "ge": (low >= 0, high < 0),
        "eq": (low == high == 0, low > 0 or high < 0),
        "ne": (low > 0 or high < 0, low == high == 0),
    }[name]
    return True if yes else False if no else None
