"""Rules are equations: matching, conditions, literals, fixed points, and passes as a pipeline."""

from __future__ import annotations

import math

import pytest

from treadle import ops
from treadle.core import Type, VerifyError, float32, int32
from treadle.ir import (
    Graph,
    Input,
    Node,
    Pass,
    Rewriter,
    Rule,
    call,
    const_hole,
    const_value,
    constant,
    hole,
    inputs_for,
    rewrite,
    run,
)

X, Y = inputs_for([Type(float32, (2,)), Type(float32, (2,))])
x, y = hole("x"), hole("y")
a, b = const_hole("a"), const_hole("b")


def rewritten(node: Node, *rules: Rule, fast_math: bool = False) -> Node:
    return rewrite(Graph((X, Y), (node,)), rules, fast_math=fast_math).outputs[0]


ONE = Rule("mul-one", x * 1, x)
TWICE = Rule("twice", x + x, x * 2)


def test_a_rule_replaces_what_it_matches_everywhere() -> None:
    assert rewritten(ops.Exp()(X * 1) * 1, ONE) is ops.Exp()(X)
    assert rewritten(1 * X, ONE) is X
    assert rewritten(X * 2, ONE) is X * 2
    assert rewritten(X, ONE) is X


def test_a_hole_stands_for_one_node() -> None:
    assert rewritten(X + X, TWICE) is X * 2
    assert rewritten(X + Y, TWICE) is X + Y
    assert rewritten(ops.Exp()(X) + ops.Exp()(X), TWICE) is ops.Exp()(X) * 2


def test_commutative_ops_match_either_way_and_others_do_not() -> None:
    factored = Rule("factor", x * y + x, x * (y + 1))
    assert rewritten(X * Y + X, factored) is X * (Y + 1)
    assert rewritten(X + X * Y, factored) is X * (Y + 1)
    zero = Rule("minus", x - 0, x)
    assert rewritten(X - 0, zero) is X
    assert rewritten(0 - X, zero) is 0 - X


def test_literals_match_by_their_bits() -> None:
    zero = Rule("add-zero", x + 0, x)
    minus_zero = Rule("add-minus-zero", x + -0.0, x)
    assert rewritten(X + 0.0, zero) is X
    assert rewritten(X + -0.0, zero) is X + -0.0
    assert rewritten(X + -0.0, minus_zero) is X
    whole = Input(0, Type(int32, (2,)))()
    half = Rule("half", x * 0.5, x)
    assert half.apply(whole * 0) is None
    nan = Rule("nan", x * math.nan, x)
    assert nan.apply(X * math.nan) is None  # NaN equals nothing, itself included


def test_constants_only() -> None:
    fold = Rule(
        "fold", a + b, lambda m: constant(float(const_value(m["a"]) or 0) + float(const_value(m["b"]) or 0), float32)
    )
    two, three = constant(2, float32), constant(3, float32)
    assert rewritten(two + three, fold) is constant(5, float32)
    assert fold.apply(X + three) is None


def test_a_condition_decides() -> None:
    rule = Rule("big", x * a, x, when=lambda m: float(const_value(m["a"]) or 0) > 10)
    assert rule.apply(X * 11) is X
    assert rule.apply(X * 9) is None


def test_a_function_may_decline() -> None:
    assert Rule("no", x + y, lambda m: None).apply(X + Y) is None


def test_fast_math_rules_are_asked_for() -> None:
    rule = Rule("inverse", x / y * y, x, fast_math=True)
    assert rewritten(X / Y * Y, rule) is X / Y * Y
    assert rewritten(X / Y * Y, rule, fast_math=True) is X


def test_a_rule_that_would_change_the_type_does_not_apply() -> None:
    wide = Input(0, Type(float32, (3, 2)))()
    rule = Rule("zero-times", x * y, y)
    assert rule.apply(wide * X) is None or rule.apply(wide * X) is wide
    assert Rule("first", x * y, x).apply(X * wide) is None or Rule("first", x * y, x).apply(X * wide) is wide
    assert Rule("exp", call("exp", x), x).apply(ops.Exp()(X)) is X


def test_rules_apply_to_what_rules_make() -> None:
    peel = Rule("peel", call("exp", call("log", x)), x)
    node = X
    for _ in range(50):
        node = ops.Exp()(ops.Log()(node) * 1)
    assert rewritten(node, ONE, peel) is X


def test_two_rules_that_undo_each_other_are_found_out() -> None:
    there, back = Rule("there", call("exp", x), call("exp2", x)), Rule("back", call("exp2", x), call("exp", x))
    with pytest.raises(VerifyError, match="did not settle after 1001 steps; two rules undo each other"):
        rewritten(ops.Exp()(X), there, back)


def test_a_deep_graph_needs_no_recursion() -> None:
    node = X
    for _ in range(5_000):
        node = -(node * 1)
    assert rewritten(node, ONE).args[0].op == ops.Negative()


def test_shared_nodes_are_rewritten_once() -> None:
    calls: list[Node] = []

    def step(node: Node) -> Node | None:
        calls.append(node)
        return None

    shared = ops.Exp()(X)
    node = shared
    for _ in range(60):
        node = node + node * shared
    Rewriter(step)(node)
    assert len(calls) == len(set(calls)) == 122


def test_fired_reports_each_rule() -> None:
    seen: list[tuple[str, str]] = []
    rewrite(
        Graph((X, Y), ((X * 1) * 1 + (Y * 1),)),
        [ONE],
        fired=lambda rule, before, after: seen.append((rule.name, str(after))),
    )
    assert [name for name, _ in seen] == ["mul-one"] * 3


def test_replacements_keep_the_line_of_what_they_replace() -> None:
    own = Input(0, Type(float32, (3, 17, 5)))()  # of a type no other test has: equal nodes keep their first line
    node = own + own
    assert node.source is not None
    new = rewritten(ops.Exp()(node), TWICE)
    assert new.args[0].source == node.source


def test_a_pattern_prints_as_it_is_called() -> None:
    assert str((x * 1 - y) / 2) == "divide(subtract(multiply(x, 1), y), 2)"
    assert str(-(x**2)) == "negative(pow(x, 2))"
    assert str(1 - x) == "subtract(1, x)"
    assert str(1 / x) == "divide(1, x)"
    assert str(2 * x + 1) == "add(multiply(2, x), 1)"
    assert str(1 + x) == "add(1, x)"


def test_a_pipeline_runs_its_passes_in_order_and_shows_each_step() -> None:
    one = Pass("ones", lambda g: rewrite(g, [ONE]), "drop factors of one")
    twice = Pass("twice", lambda g: rewrite(g, [TWICE]), "x + x is 2x", frozenset({"add"}))
    seen: list[str] = []
    graph = Graph((X, Y), (X * 1 + X,))
    after = run((one, twice), graph, observe=lambda p, before, new: seen.append(f"{p}: {before is graph}"))
    assert after.outputs[0] is X * 2
    assert seen == ["ones: True", "twice: False"]
