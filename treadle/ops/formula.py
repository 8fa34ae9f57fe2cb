"""A graph of ops as one scalar formula: operands are inlined into their readers, down to chosen leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import cast

from treadle.core import Type, float32
from treadle.ir import Const, Node
from treadle.te import (
    SCALARS,
    Affine,
    Compute,
    Convert,
    FloorDiv,
    Load,
    Mod,
    affine,
    flatten_index,
    floordiv,
    mod,
    substitute_index,
    terms_of,
)

from .base import Elementwise, TensorOp

Index = tuple[Node, ...]
Leaf = Callable[[Node, Index], Node | None]


@lru_cache(maxsize=8192)
def formula_of(op: TensorOp, types: tuple[Type, ...]) -> Compute:
    """Return `op.lower(*types)`, computed once."""
    return op.lower(*types)


def lowered(node: Node) -> Compute:
    """Return the formula of a node's op on its operands."""
    return formula_of(cast(TensorOp, node.op), tuple([a.type for a in node.args]))


class Inliner:
    """Builds the scalar expression of a node's element at an index.

    `leaf(node, index)` returns the expression of a node that is not to be inlined, or None to go on. A reduction must
    be a leaf: an expression has no loops. Values in `stored` are read as memory would give them: a kernel that makes
    one and a kernel that loads it go on from the same bits.
    """

    def __init__(self, leaf: Leaf, stored: Collection[Node] = ()) -> None:
        self.leaf = leaf
        self.stored = frozenset(n for n in stored if n.dtype.is_float and n.dtype.bits < 32)
        self.memo: dict[tuple[Node, Index], Node] = {}

    def value(self, node: Node, position: Index) -> Node:
        """Return the element of `node` at an index of one scalar per axis."""
        key = (node, position)
        known = self.memo.get(key)
        if known is None:
            known = self.memo[key] = self._value(node, position)
        return known

    def _value(self, node: Node, position: Index) -> Node:
        found = self.leaf(node, position)
        if found is None:
            if isinstance(node.op, Const):
                return node
            formula = lowered(node)
            assert not formula.reduce, f"{node} is a reduction and cannot be inlined"
            found = self.element(node, formula, position, ())
        rounded = isinstance(found.op, Convert) and found.op.to is node.dtype
        return Convert(node.dtype)(Convert(float32)(found)) if node in self.stored and not rounded else found

    def element(self, node: Node, formula: Compute, position: Index, over: Index) -> Node:
        """Return the formula's value at an index, its loads replaced by the operands' elements there."""
        replace = dict(zip(formula.index, position, strict=True)) | dict(zip(formula.reduce, over, strict=True))
        memo: dict[Node, Node] = {}

        def visit(n: Node) -> Node:
            known = memo.get(n)
            if known is None:
                known = memo[n] = step(n)
            return known

        def step(n: Node) -> Node:
            if n in replace:
                return replace[n]
            op = n.op
            if isinstance(op, Load):
                return self.value(node.args[op.operand], tuple([visit(a) for a in n.args]))
            if not n.args:
                return n
            args = [visit(a) for a in n.args]
            if isinstance(op, Affine):
                return _sum(op, args)
            if isinstance(op, FloorDiv):
                return floordiv(args[0], op.by)
            if isinstance(op, Mod):
                return mod(args[0], op.by)
            return op(*args)

        return visit(formula.value)


def _sum(op: Affine, args: Sequence[Node]) -> Node:
    terms: dict[Node, int] = {}
    const = op.const
    for c, a in zip(op.coefficients, args, strict=True):
        more, extra = terms_of(a)
        const += c * extra
        for t, k in more.items():
            terms[t] = terms.get(t, 0) + c * k
    return affine(terms, const)


def view_index(node: Node, base: Node, position: Index) -> Node | None:
    """Return the flat position in `base` that `node`, a chain of pure index maps over it, reads at an index.

    None when an element of `node` is anything else than one element of `base`.
    """
    marker: list[Node] = []

    def leaf(n: Node, at: Index) -> Node | None:
        if n is base:
            marker.append(flatten_index(at, base.shape))
            return Load(0, Type(base.dtype))()
        return None

    found = Inliner(leaf).value(node, position)
    return marker[0] if isinstance(found.op, Load) and len(marker) == 1 else None


def op_cost(op: TensorOp) -> int:
    """Return the flops an op spends on one element."""
    if isinstance(op, Elementwise):
        return SCALARS[op.formula].cost if op.formula in SCALARS else 1
    return int(getattr(op, "cost", 0))


__all__ = ["Inliner", "formula_of", "lowered", "op_cost", "substitute_index", "view_index"]
