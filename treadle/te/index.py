"""Integer index arithmetic that simplifies as it is built, so that equal indices are the same node.

Sums are kept as one `Affine` node; division and remainder are by positive constants and round down. Every node has
known bounds, since every variable has an extent: `(o * 384 + r) // 384` becomes `o` when `0 <= r < 384`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from treadle.core import Type, int64
from treadle.ir import Const, Node, Op, constant

from .scalar import Fn, Var

UNKNOWN = 1 << 62
LONGEST_KEY = 200


@dataclass(frozen=True)
class Affine(Op):
    """`const` plus the sum of coefficient times argument."""

    name = "affine"
    coefficients: tuple[int, ...]
    const: int

    def infer(self, *types: Type) -> Type:
        return Type(int64, ())


@dataclass(frozen=True)
class FloorDiv(Op):
    """The index divided by a positive constant, rounded down."""

    name = "floordiv"
    by: int

    def infer(self, *types: Type) -> Type:
        return Type(int64, ())


@dataclass(frozen=True)
class Mod(Op):
    """The remainder, never negative, of division by a positive constant."""

    name = "mod"
    by: int

    def infer(self, *types: Type) -> Type:
        return Type(int64, ())


Terms = dict[Node, int]


def index(value: int | Node) -> Node:
    """Return an index node."""
    return value if isinstance(value, Node) else constant(value, int64)


def terms_of(node: Node) -> tuple[Terms, int]:
    """Return the coefficient of every term, and the constant."""
    op = node.op
    if isinstance(op, Affine):
        return dict(zip(node.args, op.coefficients, strict=True)), op.const
    if isinstance(op, Const):
        return {}, int(op.value)
    if isinstance(op, Var) and op.extent == 1:
        return {}, 0
    return {node: 1}, 0


_bounds: WeakKeyDictionary[Node, tuple[int, int]] = WeakKeyDictionary()


def bounds(node: Node) -> tuple[int, int]:
    """Return the smallest and largest value an index can take."""
    known = _bounds.get(node)
    if known is None:
        known = _bounds[node] = _find_bounds(node)
    return known


def _find_bounds(node: Node) -> tuple[int, int]:
    op = node.op
    if isinstance(op, Const):
        return int(op.value), int(op.value)
    if isinstance(op, Var):
        return 0, max(op.extent - 1, 0)
    if isinstance(op, Affine):
        return _sum_bounds(dict(zip(node.args, op.coefficients, strict=True)), op.const)
    if isinstance(op, FloorDiv):
        low, high = bounds(node.args[0])
        return low // op.by, high // op.by
    if isinstance(op, Mod):
        return 0, op.by - 1
    if isinstance(op, Fn) and op.fn in ("min", "max"):
        (la, ha), (lb, hb) = bounds(node.args[0]), bounds(node.args[1])
        pick = min if op.fn == "min" else max
        return pick(la, lb), pick(ha, hb)
    return -UNKNOWN, UNKNOWN


def _sum_bounds(terms: Terms, const: int) -> tuple[int, int]:
    low = high = const
    for term, c in terms.items():
        a, b = bounds(term)
        low += min(c * a, c * b)
        high += max(c * a, c * b)
    return low, high


_order: WeakKeyDictionary[Node, str] = WeakKeyDictionary()


def order_key(node: Node) -> str:
    """Return a text that orders terms the same way in every process."""
    key = _order.get(node)
    if key is None:
        op = node.op
        key = op.var if isinstance(op, Var) else f"{op}({','.join(order_key(a) for a in node.args)})"
        if len(key) > LONGEST_KEY:  # shared parts would double the text at every step
            key = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
        _order[node] = key
    return key


def affine(terms: Terms, const: int) -> Node:
    """Return the canonical node of a sum."""
    terms = {t: c for t, c in terms.items() if c}
    if len(terms) > 1:
        terms = _recombine(terms)
    if not terms:
        return constant(const, int64)
    if const == 0 and len(terms) == 1:
        ((term, c),) = terms.items()
        if c == 1:
            return term
    ordered = sorted(terms, key=order_key) if len(terms) > 1 else list(terms)
    return Affine(tuple(terms[t] for t in ordered), const)(*ordered)


def _recombine(terms: Terms) -> Terms:
    """Undo splits: `(x // n) * n + x % n` is `x`, and `((x // n) % m) * n + x % n` is `x % (n * m)`."""
    again = True
    while again:
        again = False
        for low, c in list(terms.items()):
            if not isinstance(low.op, Mod):
                continue
            x, n = low.args[0], low.op.by
            quotient = floordiv(x, n)
            if terms.get(quotient) == c * n:
                merged, extra = terms_of(x)
                if extra:
                    continue
                del terms[low], terms[quotient]
                for t, k in merged.items():
                    terms[t] = terms.get(t, 0) + c * k
            else:
                high = next(
                    (
                        t
                        for t, k in terms.items()
                        if k == c * n and isinstance(t.op, Mod) and t.args[0] is quotient and t is not low
                    ),
                    None,
                )
                if high is None:
                    continue
                assert isinstance(high.op, Mod)
                del terms[low], terms[high]
                whole = mod(x, n * high.op.by)
                terms[whole] = terms.get(whole, 0) + c
            terms = {t: k for t, k in terms.items() if k}
            again = True
            break
    return terms


def add(*values: int | Node) -> Node:
    """Return the sum."""
    terms: Terms = {}
    const = 0
    for value in values:
        if isinstance(value, int):
            const += value
            continue
        more, extra = terms_of(value)
        const += extra
        for t, c in more.items():
            terms[t] = terms.get(t, 0) + c
    return affine(terms, const)


def scale(value: int | Node, by: int) -> Node:
    """Return `value * by`."""
    if isinstance(value, int):
        return index(value * by)
    terms, const = terms_of(value)
    return affine({t: c * by for t, c in terms.items()}, const * by)


def floordiv(value: Node, by: int) -> Node:
    """Return `value // by` for a positive `by`."""
    assert by > 0
    low, high = bounds(value)
    if low // by == high // by:
        return index(low // by)
    if by == 1:
        return value
    op = value.op
    if isinstance(op, FloorDiv):
        return floordiv(value.args[0], op.by * by)
    if isinstance(op, Mod) and op.by % by == 0:
        return mod(floordiv(value.args[0], by), op.by // by)
    terms, const = terms_of(value)
    whole = {t: c // by for t, c in terms.items() if c % by == 0}
    rest = {t: c for t, c in terms.items() if c % by}
    low = _sum_bounds(rest, const)[0]
    # What is left is not negative: kernels divide without a sign.
    out = low // by if low > -UNKNOWN // 2 else const // by
    if whole or out:
        return add(affine(whole, out), floordiv(affine(rest, const - out * by), by))
    split = _split(rest, const, by)
    if split is not None:
        big, _, g = split
        return floordiv(big, by // g)
    return FloorDiv(by)(value)


def mod(value: Node, by: int) -> Node:
    """Return `value % by`, in [0, by), for a positive `by`."""
    assert by > 0
    if by == 1:
        return index(0)
    low, high = bounds(value)
    if low // by == high // by:
        return add(value, -(low // by) * by)
    if isinstance(value.op, Mod) and value.op.by % by == 0:
        return mod(value.args[0], by)
    terms, const = terms_of(value)
    rest = {t: c % by for t, c in terms.items() if c % by}
    if rest != terms or const % by != const:
        return mod(affine(rest, const % by), by)
    split = _split(rest, const, by)
    if split is not None:
        big, small, g = split
        return add(scale(mod(big, by // g), g), small)
    return Mod(by)(value)


def _split(terms: Terms, const: int, by: int) -> tuple[Node, Node, int] | None:
    """Write the sum as `g * big + small` with `0 <= small < g` and g a divisor of `by`, or return None."""
    for g in sorted({math.gcd(c, by) for c in terms.values()} - {1}, reverse=True):
        small = {t: c for t, c in terms.items() if c % g}
        low, high = _sum_bounds(small, const % g)
        if low >= 0 and high < g:
            big = {t: c // g for t, c in terms.items() if c % g == 0}
            return affine(big, const // g), affine(small, const % g), g
    return None


def flatten_index(indices: Sequence[Node], shape: Sequence[int]) -> Node:
    """Return the row-major position of a multi-dimensional index."""
    terms: Terms = {}
    const, stride = 0, 1
    for i, size in zip(reversed(indices), reversed(shape), strict=True):
        more, extra = terms_of(i)
        const += extra * stride
        for t, c in more.items():
            terms[t] = terms.get(t, 0) + c * stride
        stride *= size
    return affine(terms, const)


def unflatten_index(position: Node, shape: Sequence[int]) -> tuple[Node, ...]:
    """Return the multi-dimensional index of a row-major position."""
    out: list[Node] = []
    stride = 1
    for axis in range(len(shape) - 1, -1, -1):
        quotient = floordiv(position, stride)
        out.append(quotient if axis == 0 else mod(quotient, shape[axis]) if shape[axis] > 1 else index(0))
        stride *= max(shape[axis], 1)
    return tuple(reversed(out))


def substitute_index(node: Node, replace: dict[Node, Node]) -> Node:
    """Return an index with variables replaced, simplified again."""
    if node in replace:
        return replace[node]
    op = node.op
    if isinstance(op, Affine):
        terms = zip(node.args, op.coefficients, strict=True)
        return add(op.const, *[scale(substitute_index(a, replace), c) for a, c in terms])
    if isinstance(op, FloorDiv):
        return floordiv(substitute_index(node.args[0], replace), op.by)
    if isinstance(op, Mod):
        return mod(substitute_index(node.args[0], replace), op.by)
    if not node.args:
        return node
    return op(*[substitute_index(a, replace) for a in node.args])


def variables(node: Node) -> set[Node]:
    """Return the loop variables an expression reads."""
    found: set[Node] = set()
    stack: list[Node] = [node]
    seen: set[Node] = set()
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        if isinstance(n.op, Var):
            found.add(n)
        stack.extend(n.args)
    return found


def coefficients(node: Node, over: Iterable[Node]) -> tuple[tuple[int, ...], int] | None:
    """Return the coefficient of each variable and the constant when the index is affine in exactly these, else None."""
    terms, const = terms_of(node)
    names = tuple(over)
    if any(t not in names for t in terms):
        return None
    return tuple(terms.get(v, 0) for v in names), const
