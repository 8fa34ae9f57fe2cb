"""Rules are equations between patterns; one worklist rewriter applies them to a fixed point."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from treadle.core import VerifyError

from .graph import Graph, rebuilt
from .node import Const, Node, Number, Op, constant
from .source import attributed_to

Match = dict[str, Node]
COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "logical_and", "logical_or", "equal", "not_equal"})


@dataclass(frozen=True)
class Pattern:
    """A shape of program with holes. Patterns have no type, so they are not nodes.

    `kind` is "any" (a hole), "const" (a hole for literals), "literal" or "call".
    """

    kind: str
    name: str = ""
    value: Number = 0
    args: tuple[Pattern, ...] = ()

    def __add__(self, other: Pattern | Number) -> Pattern:
        return call("add", self, other)

    def __radd__(self, other: Number) -> Pattern:
        return call("add", other, self)

    def __sub__(self, other: Pattern | Number) -> Pattern:
        return call("subtract", self, other)

    def __rsub__(self, other: Number) -> Pattern:
        return call("subtract", other, self)

    def __mul__(self, other: Pattern | Number) -> Pattern:
        return call("multiply", self, other)

    def __rmul__(self, other: Number) -> Pattern:
        return call("multiply", other, self)

    def __truediv__(self, other: Pattern | Number) -> Pattern:
        return call("divide", self, other)

    def __rtruediv__(self, other: Number) -> Pattern:
        return call("divide", other, self)

    def __pow__(self, other: Pattern | Number) -> Pattern:
        return call("pow", self, other)

    def __neg__(self) -> Pattern:
        return call("negative", self)

    def __str__(self) -> str:
        if self.kind == "literal":
            return repr(self.value)
        return self.name if self.kind != "call" else f"{self.name}({', '.join(map(str, self.args))})"


def hole(name: str) -> Pattern:
    """A pattern that matches any node."""
    return Pattern("any", name)


def const_hole(name: str) -> Pattern:
    """A pattern that matches any literal."""
    return Pattern("const", name)


def call(name: str, *args: Pattern | Number) -> Pattern:
    """A pattern that matches the parameterless op `name` on these arguments."""
    return Pattern("call", name, args=tuple(a if isinstance(a, Pattern) else Pattern("literal", value=a) for a in args))


def match(pattern: Pattern, node: Node, found: Match) -> Match | None:
    """Return `found` with the holes filled so that the pattern equals the node, or None."""
    if pattern.kind == "literal":
        same = isinstance(node.op, Const) and _same_literal(node.op, pattern.value)
        return found if same else None
    if pattern.kind != "call":
        if pattern.kind == "const" and not isinstance(node.op, Const):
            return None
        if pattern.name in found:
            return found if found[pattern.name] is node else None
        return {**found, pattern.name: node}
    if node.op.name != pattern.name or len(node.args) != len(pattern.args):
        return None
    orders: list[Sequence[Node]] = [node.args]
    if pattern.name in COMMUTATIVE:
        orders.append(node.args[::-1])
    for args in orders:
        result: Match | None = found
        for sub, arg in zip(pattern.args, args, strict=True):
            result = match(sub, arg, result) if result is not None else None
        if result is not None:
            return result
    return None


def _same_literal(op: Const, value: Number) -> bool:
    if op.dtype.kind == "bool" or isinstance(value, bool):
        return op.value is value
    return op == Const(value, op.dtype) and op.value == value


def build(pattern: Pattern, found: Match, like: Node) -> Node:
    """Return the node of a pattern with its holes filled; literals take the dtype of `like`."""
    if pattern.kind == "literal":
        return constant(pattern.value, like.dtype)
    if pattern.kind != "call":
        return found[pattern.name]
    return Op.registry[pattern.name]()(*[build(a, found, like) for a in pattern.args])


@dataclass(frozen=True)
class Rule:
    """An equation `before = after`, used from left to right.

    Args:
        name: what `rewrite(..., fired=...)` reports.
        before: the pattern to find; its outermost kind is "call".
        after: a pattern, or a function of the match that returns a node or None (does not apply).
        when: a further condition on the match.
        fast_math: the equation may change rounding or special values; applied only where that is allowed.
    """

    name: str
    before: Pattern
    after: Pattern | Callable[[Match], Node | None]
    when: Callable[[Match], bool] | None = None
    fast_math: bool = False

    def apply(self, node: Node) -> Node | None:
        """Return the replacement of `node`, or None when the rule does not apply."""
        found = match(self.before, node, {})
        if found is None or (self.when is not None and not self.when(found)):
            return None
        new = build(self.after, found, node) if isinstance(self.after, Pattern) else self.after(found)
        if new is None or new is node:
            return None
        # A rule keeps the type. Where a hole broadcast against another operand, `x * 1 = x` would not.
        return new if new.types == node.types else None


class Rewriter:
    """Replaces nodes by `step(node) -> Node | None` to a fixed point, arguments first, each node once.

    `step` may return a node whose own arguments still need work; a chain longer than `limit` is a bug in the rules.
    """

    def __init__(self, step: Callable[[Node], Node | None], limit: int = 1000) -> None:
        self.step = step
        self.limit = limit
        self.done: dict[Node, Node] = {}

    def __call__(self, root: Node) -> Node:
        """Return the rewritten node."""
        done = self.done
        stack: list[tuple[Node, Node | None, int]] = [(root, None, 0)]  # (node, what it became, length of the chain)
        while stack:
            node, became, count = stack.pop()
            if node in done:
                continue
            if became is not None:
                done[node] = done[became]
                continue
            waiting = [a for a in node.args if a not in done]
            if waiting:
                stack.append((node, None, count))
                stack.extend((a, None, 0) for a in reversed(waiting))
                continue
            args = tuple([done[a] for a in node.args])
            current = node if args == node.args else rebuilt(node, args)
            with attributed_to(node.source):
                new = self.step(current)
            if new is None:
                done[node] = done[current] = current
                continue
            assert new.types == node.types, f"a rewrite of {node} changed its type to {new.types}"
            if count > self.limit:
                raise VerifyError(f"rewrite: {node} did not settle after {count} steps; two rules undo each other.")
            stack.append((node, new, count))
            stack.append((new, None, count + 1))
        return done[root]


def rewrite(
    graph: Graph,
    rules: Iterable[Rule],
    *,
    fast_math: bool = False,
    fired: Callable[[Rule, Node, Node], None] | None = None,
) -> Graph:
    """Return the graph with the rules applied until none fits.

    Args:
        graph: what to rewrite.
        rules: tried in order at every node.
        fast_math: also use the rules so marked.
        fired: called with (rule, before, after) each time.
    """
    by_op: dict[str, list[Rule]] = {}
    for rule in rules:
        if fast_math or not rule.fast_math:
            by_op.setdefault(rule.before.name, []).append(rule)

    def step(node: Node) -> Node | None:
        for rule in by_op.get(node.op.name, ()):
            new = rule.apply(node)
            if new is not None:
                if fired is not None:
                    fired(rule, node, new)
                return new
        return None

    rewriter = Rewriter(step)
    return Graph(graph.inputs, tuple(rewriter(n) for n in graph.outputs))
