"""The text of a graph parses back to the same nodes, whatever the graph."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given

from tests.ir.graphs import graphs
from treadle import ops
from treadle.core import Type, VerifyError, float32, int64, uint64
from treadle.ir import Const, Graph, inputs_for, parse, results, show, verify
from treadle.ops.fused import Fused


@given(graphs())
def test_what_is_printed_parses_back(graph: Graph) -> None:
    again = parse(show(graph))
    assert again == graph
    assert all(a is b for a, b in zip(again.outputs, graph.outputs, strict=True))
    assert show(again) == show(graph)


@given(graphs())
def test_sources_are_comments(graph: Graph) -> None:
    assert parse(show(graph, sources=True)) == graph


def test_the_form() -> None:
    x, y = inputs_for([Type(float32, (2, 3)), Type(float32, ())])
    total = ops.Sum((1,), keepdims=True)(x * y + 1)
    assert str(Graph((x, y), (total, x))) == (
        "graph main(%0: f32[2,3], %1: f32[]) {\n"
        "  %2 = multiply(%0, %1) : f32[2,3]\n"
        "  %3 = const(){value=1.0, dtype=f32} : f32[]\n"
        "  %4 = add(%2, %3) : f32[2,3]\n"
        "  %5 = sum(%4){axes=(1,), keepdims=True} : f32[2,1]\n"
        "  return %5, %0\n"
        "}"
    )


@pytest.mark.parametrize("value", [0.0, -0.0, math.inf, -math.inf, math.nan, -math.nan, 1e-300, 0.1, 5e-324])
def test_every_float_comes_back(value: float) -> None:
    graph = Graph((), (Const(value, float32)(),))
    assert parse(show(graph)) == graph


@pytest.mark.parametrize(("value", "dtype"), [(-(1 << 63), int64), ((1 << 64) - 1, uint64)])
def test_every_integer_comes_back(value: int, dtype) -> None:
    graph = Graph((), (Const(value, dtype)(),))
    assert parse(show(graph)) == graph


def test_graphs_inside_ops_and_several_results() -> None:
    (x,) = inputs_for([Type(float32, (4,))])
    inner = Graph((x,), (ops.Exp()(x), ops.Sum((0,))(x)))
    outer = Fused("loop", inner)
    first, second = results(outer(x))
    nested = Fused("loop", Graph((x,), (ops.Tanh()(first), second)))
    graph = Graph((x,), results(nested(x)))
    text = show(graph)
    assert text.count("graph @") == 2
    assert parse(text) == graph
    verify(parse(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text has no `graph main(...) {`"),
        ("graph main() {\n  %0 = nonsense() : f32[]\n  return %0\n}", "line 2 `%0 = nonsense() : f32[]`"),
        ("graph main(%0: f32[2]) {\n  %1 = exp(%0) : f32[3]\n  return %1\n}", "its type is (f32[2],), not f32[3]"),
        ("graph main(%0: f32[2]) {\n  %1 = exp(%7) : f32[2]\n  return %1\n}", "'%7'"),
        ("graph main(%0: f32[2]) {\n  what is this\n}", "it is neither a head, an assignment nor a return"),
        ("graph main(%0: f32[2]) {\n  %1 = sum(%0){axes=f(3)} : f32[]\n  return %1\n}", "cannot read `f(3)`"),
        ("graph main(%0: f32[2]) {\n  %1 = sum(%0){axes=(7,), keepdims=False} : f32[]\n  return %1\n}", "axes (7,)"),
    ],
)
def test_text_that_is_not_a_graph(text: str, message: str) -> None:
    with pytest.raises(VerifyError, match=re.escape(message)):
        parse(text)
