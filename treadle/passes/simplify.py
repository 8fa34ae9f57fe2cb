"""Algebraic identities and constant folding: equations as data, and rules for ops with parameters as functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from treadle.core import DType
from treadle.ir import Const, Get, Graph, Match, Node, Op, Pass, Rewriter, Rule, call, const_hole, constant, hole
from treadle.ops import Array, BroadcastTo, Cast, Elementwise, IsInf, LogicalAnd, SignBit, Sqrt, cast, where

from . import movement

x, y, z, c = hole("x"), hole("y"), hole("z"), hole("c")
a, b = const_hole("a"), const_hole("b")


class FloatFormat(NamedTuple):
    """How many binary digits a float has, and the largest exponent of two; the smallest normal one is 1 - that."""

    digits: int
    exponent: int


FLOATS = {
    "float16": FloatFormat(11, 15),
    "bfloat16": FloatFormat(8, 127),
    "float32": FloatFormat(24, 127),
    "float64": FloatFormat(53, 1023),
}


def _is_float(name: str) -> Callable[[Match], bool]:
    return lambda found: found[name].dtype.is_float


def _is_signed(name: str) -> Callable[[Match], bool]:
    return lambda found: found[name].dtype.kind != "uint"


def _value(found: Match, name: str) -> Any:
    op = found[name].op
    assert isinstance(op, Const)
    return op.value


def _apply(name: str, *args: Node) -> Node:
    return Op.registry[name]()(*args)


def _inverse_power_of_two(found: Match) -> Node | None:
    """Return x * (1 / a) where 1 / a is exact: both then round the same number."""
    value, dtype = _value(found, "a"), found["a"].dtype
    if not dtype.is_float or value == 0 or not math.isfinite(value) or abs(math.frexp(value)[0]) != 0.5:
        return None
    if abs(math.frexp(value)[1] - 1) >= FLOATS[dtype.name].exponent:
        return None
    return found["x"] * constant(1 / value, dtype)


def _root(found: Match) -> Node:
    """Return the square root as pow has it: of -0.0 it is 0.0, of -inf it is inf."""
    given = found["x"]
    return where(LogicalAnd()(IsInf()(given), SignBit()(given)), float("inf"), Sqrt()(given) + 0.0)


def _joined(name: str, *, outer: str) -> Callable[[Match], Node]:
    """Return the rule's right side `outer(x, name(a, b))`."""
    return lambda found: _apply(outer, found["x"], _apply(name, found["a"], found["b"]))


# For floats equal means equal bits: x + 0 is not x (-0.0 + 0 is 0.0), x - 0 and x + -0.0 are. A rule that may
# change a rounding or a special value says fast_math, but for powers with a bound of their own.
RULES: tuple[Rule, ...] = (
    # neutral elements
    Rule("mul-one", x * 1, x),
    Rule("div-one", x / 1, x),
    Rule("sub-zero", x - 0, x),
    Rule("add-negative-zero", x + -0.0, x),
    Rule("pow-one", x**1, x),
    Rule("and-true", call("logical_and", x, True), x),
    Rule("or-false", call("logical_or", x, False), x),
    Rule("and-self", call("logical_and", x, x), x),
    Rule("or-self", call("logical_or", x, x), x),
    Rule("maximum-self", call("maximum", x, x), x),
    Rule("minimum-self", call("minimum", x, x), x),
    # signs
    Rule("negative-negative", call("negative", -x), x),
    Rule("mul-minus-one", x * -1, -x),
    Rule("add-negative", x + (-y), x - y),
    Rule("sub-negative", x - (-y), x + y),
    Rule("mul-negatives", (-x) * (-y), x * y),
    Rule("div-negatives", (-x) / (-y), x / y),
    Rule("abs-negative", call("abs", -x), call("abs", x), when=_is_signed("x")),
    Rule("abs-abs", call("abs", call("abs", x)), call("abs", x)),
    # logic and choice
    Rule("not-not", call("logical_not", call("logical_not", x)), x),
    Rule("invert-invert", call("bitwise_invert", call("bitwise_invert", x)), x),
    Rule("not-equal", call("logical_not", call("equal", x, y)), call("not_equal", x, y)),
    Rule("not-not-equal", call("logical_not", call("not_equal", x, y)), call("equal", x, y)),
    Rule("where-same", call("where", c, x, x), x),
    Rule("where-true", call("where", True, x, y), x),
    Rule("where-false", call("where", False, x, y), y),
    Rule("where-not", call("where", call("logical_not", c), x, y), call("where", c, y, x)),
    Rule("where-where-first", call("where", c, call("where", c, x, y), z), call("where", c, x, z)),
    Rule("where-where-last", call("where", c, x, call("where", c, y, z)), call("where", c, x, z)),
    # cheaper functions
    Rule("div-power-of-two", x / a, _inverse_power_of_two),
    Rule("div-into-one", 1 / x, call("reciprocal", x)),
    Rule("reciprocal-sqrt", call("reciprocal", call("sqrt", x)), call("rsqrt", x)),
    # powers that round twice at most: by 1.5 units of the last place, as `pow` of float64
    Rule("pow-two", x**2, x * x),
    Rule("pow-three", x**3, x * x * x),
    Rule("pow-half", x**0.5, _root, when=_is_float("x")),
    Rule("pow-minus-half", x**-0.5, lambda found: _apply("reciprocal", _root(found)), when=_is_float("x")),
    Rule("pow-minus-one", x**-1, call("reciprocal", x), when=_is_float("x")),
    Rule("pow-minus-two", x**-2, call("reciprocal", x) / x, when=_is_float("x")),  # x * x would overflow too early
    # where rounding and special values may change
    Rule("add-zero", x + 0, x, fast_math=True),
    Rule("div-const", x / a, lambda found: found["x"] * _apply("reciprocal", found["a"]), fast_math=True),
    Rule("div-sqrt", x / call("sqrt", y), x * call("rsqrt", y), fast_math=True),
    Rule("reassociate-mul", (x * a) * b, _joined("multiply", outer="multiply"), fast_math=True),
    Rule("reassociate-add", (x + a) + b, _joined("add", outer="add"), fast_math=True),
    Rule("reassociate-sub", (x - a) - b, _joined("add", outer="subtract"), fast_math=True),
    Rule("distribute-back", x * y + x * z, x * (y + z), fast_math=True),
)

# What only gradients look at, or checks: when programs are simplified both have been made.
MARKERS = frozenset({"variable", "detach", "watch", "require"})
COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum", "equal", "not_equal", "logical_and", "logical_or"})

Fired = Callable[[str, Node, Node], None]


def fold_constants(node: Node) -> Node | None:
    """The value of an elementwise op on literals is a literal, that of the op's reference meaning."""
    values = [np.asarray(arg.op.value, arg.dtype.numpy) for arg in node.args if isinstance(arg.op, Const)]
    if not values or len(values) < len(node.args):
        return None
    op = node.op
    assert isinstance(op, Elementwise)
    return literal_of(op.eval(*values), node.dtype)


def literal_of(array: Array, dtype: DType) -> Node:
    """Return the literal of an array of one element."""
    if dtype.is_float:
        value = float(array)
        return constant(math.nan if math.isnan(value) else value, dtype)  # one NaN: its sign differs between machines
    return constant(bool(array) if dtype.kind == "bool" else int(array), dtype)


def literal_last(node: Node) -> Node | None:
    """Where order does not matter a literal stands last: equal programs are then the same nodes more often."""
    first, second = node.args
    if isinstance(first.op, Const) and not isinstance(second.op, Const):
        return node.op(second, first)
    return None


def cast_rule(node: Node) -> Node | None:
    """A cast to the dtype it has is nothing; a cast through a dtype that holds every value is a direct one."""
    op, inner = node.op, node.args[0]
    assert isinstance(op, Cast)
    if inner.dtype is op.dtype:
        return inner
    if not isinstance(inner.op, Cast):
        return None
    given = inner.args[0]
    if not holds_all(inner.dtype, given.dtype):
        return None
    # From a float to an integer only values in range have a meaning; integers among themselves wrap around.
    through_float = given.dtype.is_integer and inner.dtype.is_float and op.dtype.is_integer
    return None if through_float and op.dtype is not given.dtype else cast(given, op.dtype)


def holds_all(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is a value of `wide`."""
    if wide is narrow or narrow.kind == "bool":
        return True
    if narrow.is_float:
        return wide.is_float and wide.bits > narrow.bits
    magnitude = narrow.bits - (narrow.kind == "int")
    if wide.is_float:
        return magnitude <= FLOATS[wide.name].digits
    return (wide.kind == "int" or narrow.kind == "uint") and wide.bits - (wide.kind == "int") >= magnitude


def empty(node: Node) -> Node | None:
    """A value without elements is computed from nothing: no kernel has to know empty operands."""
    done = isinstance(node.op, BroadcastTo) and isinstance(node.args[0].op, Const)
    if len(node.types) > 1 or node.type.size or done:
        return None
    return BroadcastTo(node.shape)(constant(0, node.dtype))


def remove_marker(node: Node) -> Node | None:
    """Gradients have been taken, and checks: what marks a value for them is the value."""
    return node.args[0] if len(node.types) == 1 else None


def remove_watched(node: Node) -> Node | None:
    """Gradients have been taken: a value that was watched with others is the value."""
    assert isinstance(node.op, Get)
    (source,) = node.args
    return source.args[node.op.index] if source.op.name in MARKERS else None


NamedRule = tuple[str, Callable[[Node], Node | None]]


@lru_cache(maxsize=1024)
def rules_for(op: type[Op], *, fast_math: bool) -> tuple[NamedRule, ...]:
    """Return the rules for a kind of op, in the order they are tried."""
    if op.name in MARKERS:
        return (("remove-marker", remove_marker),)
    if op is Get:
        return (("remove-watched", remove_watched),)
    found: list[NamedRule] = [("empty", empty)]
    found.extend((rule.__name__.replace("_", "-"), rule) for rule in movement.rules_of(op))
    if issubclass(op, Elementwise):
        found.append(("fold-constants", fold_constants))
    if op is Cast:
        found.append(("cast", cast_rule))
    if op.name in COMMUTATIVE:
        found.append(("literal-last", literal_last))
    found.extend(
        (rule.name, rule.apply) for rule in RULES if rule.before.name == op.name and (fast_math or not rule.fast_math)
    )
    return tuple(found)


def simplify(graph: Graph, *, fast_math: bool = False, fired: Fired | None = None) -> Graph:
    """Return the graph with the rules applied until none fits.

    Args:
        graph: what to simplify.
        fast_math: also use rules that may change roundings and special values.
        fired: called with (name of the rule, node before, node after) each time.
    """

    def step(node: Node) -> Node | None:
        for name, rule in rules_for(type(node.op), fast_math=fast_math):
            new = rule(node)
            if new is not None:
                if fired is not None:
                    fired(name, node, new)
                return new
        return None

    rewriter = Rewriter(step)
    return Graph(graph.inputs, tuple([rewriter(n) for n in graph.outputs]))


SIMPLIFY = Pass("simplify", simplify, "algebraic identities that keep every bit, and constant folding")
SIMPLIFY_FAST = Pass("simplify", partial(simplify, fast_math=True), "algebraic identities, fast_math ones too")
