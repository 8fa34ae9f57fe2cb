"""The formula of an op: what one element of the result is, as a scalar expression of its index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from treadle.core import DType, Type
from treadle.ir import Node, constant

from .index import Affine, FloorDiv, Mod, affine, floordiv, mod, substitute_index
from .scalar import Load, Var, literal


class Combine(NamedTuple):
    """A way to fold many values into one: the scalar function that joins two, and NumPy's fold."""

    scalar: str
    fold: Callable[..., Any]


COMBINES = {
    "sum": Combine("add", np.sum),
    "prod": Combine("mul", np.prod),
    "max": Combine("max", np.max),
    "min": Combine("min", np.min),
    "any": Combine("or", np.any),
    "all": Combine("and", np.all),
}


def identity_of(combine: str, dtype: DType) -> Node:
    """Return the value that `combine` leaves alone: 0, 1, or the end of the dtype's range."""
    if combine in ("sum", "prod"):
        return literal(0 if combine == "sum" else 1, dtype)
    if combine in ("any", "all"):
        return literal(combine == "all", dtype)
    low = combine == "max"
    if dtype.is_float:
        return literal(float("-inf") if low else float("inf"), dtype)
    if dtype.kind == "bool":
        return literal(not low, dtype)
    info = np.iinfo(dtype.numpy)
    return literal(int(info.min if low else info.max), dtype)


@dataclass(frozen=True)
class Compute:
    """`out[index] = combine over reduce of value`; without `reduce`, just `value`.

    `value` reads operands with `Load(k)`; `index` and `reduce` are Var nodes whose extents are the loop sizes.
    """

    index: tuple[Node, ...]
    value: Node
    reduce: tuple[Node, ...] = ()
    combine: str = "sum"

    def at(self, position: Sequence[Node], over: Sequence[Node] = ()) -> Node:
        """Return the value with the index variables, and the reduced ones, replaced."""
        replace = dict(zip(self.index, position, strict=True)) | dict(zip(self.reduce, over, strict=bool(over)))
        return substitute_value(self.value, replace)


def compute(
    shape: Sequence[int], body: Callable[..., Node], *, over: Sequence[int] = (), combine: str = "sum"
) -> Compute:
    """Return the formula whose element at index `i` is `body(*i)`, folded over further variables of extents `over`."""
    index = tuple(Var(f"i{k}", size)() for k, size in enumerate(shape))
    reduce = tuple(Var(f"r{k}", size)() for k, size in enumerate(over))
    return Compute(index, body(*index, *reduce), reduce, combine)


def load(operand: int, of: Type, *position: Node | int) -> Node:
    """Return the element of an operand."""
    return Load(operand, of)(*[constant(p, INDEX) if isinstance(p, int) else p for p in position])


def broadcast_load(operand: int, of: Type, position: Sequence[Node]) -> Node:
    """Return the element of an operand that is broadcast to an index with at least as many axes."""
    tail = position[len(position) - len(of.shape) :]
    return load(operand, of, *[0 if size == 1 else i for i, size in zip(tail, of.shape, strict=True)])


def substitute_value(node: Node, replace: dict[Node, Node], memo: dict[Node, Node] | None = None) -> Node:
    """Return a scalar expression with variables replaced; its indices are simplified again."""
    memo = {} if memo is None else memo
    known = memo.get(node)
    if known is not None:
        return known
    op = node.op
    if node in replace:
        new = replace[node]
    elif isinstance(op, Affine | FloorDiv | Mod):
        new = _rebuild_index(node, [substitute_value(a, replace, memo) for a in node.args])
    elif not node.args:
        new = node
    else:
        args = tuple([substitute_value(a, replace, memo) for a in node.args])
        new = node if args == node.args else op(*args)
    memo[node] = new
    return new


def _rebuild_index(node: Node, args: list[Node]) -> Node:
    op = node.op
    if isinstance(op, FloorDiv):
        return floordiv(args[0], op.by)
    if isinstance(op, Mod):
        return mod(args[0], op.by)
    return substitute_index(node, dict(zip(node.args, args, strict=True)))


INDEX = affine({}, 0).dtype
