"""Nodes are interned: equal programs are one object, literals equal when their bits are, sources stand beside."""

from __future__ import annotations

import gc
import inspect
import math
import pickle
import re
import weakref

import numpy as np
import pytest
from hypothesis import given

from tests.ir.graphs import graphs
from treadle import ops
from treadle.core import Type, VerifyError, bool_, float32, float64, int32, int64
from treadle.ir import (
    Get,
    Graph,
    Input,
    Node,
    attributed_to,
    const_value,
    constant,
    inputs_for,
    inside_module,
    is_finite_number,
    module_path,
    rebuilt,
    results,
    substitute,
    topological,
    user_source,
    users_of,
    verify,
)

X, Y = inputs_for([Type(float32, (2, 3)), Type(float32, (2, 3))])


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_equal_programs_are_the_same_object() -> None:
    assert X * 2 is X * 2
    assert X * 2 is not 2 * X
    assert ops.Sum((0,))(X + Y) is ops.Sum((0,))(X + Y)
    assert ops.Sum((0,))(X) is not ops.Sum((1,))(X)
    assert ops.Sum((0,))(X) is not ops.Prod((0,))(X)
    assert Input(0, Type(float32, (2, 3)))() is X
    assert Input(0, Type(float64, (2, 3)))() is not X


def test_literals_are_equal_when_their_bits_are() -> None:
    assert constant(0.0, float32) is not constant(-0.0, float32)
    assert constant(math.nan, float32) is constant(float("nan"), float32)
    assert constant(math.nan, float32) is constant(-math.nan, float32)
    assert constant(1, int32) is not constant(1, int64)
    assert constant(1, float32) is constant(1.0, float32)
    assert constant(1, bool_) is constant(True, bool_)
    assert constant(np.float32(0.5), float32) is constant(0.5, float32)
    assert X * 0.0 is not X * -0.0
    assert X + math.nan is X + math.nan


def test_pads_of_both_zeros_differ() -> None:
    assert ops.Pad((1, 0), (0, 0), 0.0)(X) is not ops.Pad((1, 0), (0, 0), -0.0)(X)
    assert ops.Pad((1, 0), (0, 0), math.nan)(X) is ops.Pad((1, 0), (0, 0), math.nan)(X)


def test_literal_values() -> None:
    assert const_value(constant(3, float32)) == 3.0
    assert isinstance(const_value(constant(3, float32)), float)
    assert const_value(constant(True, int32)) == 1
    assert const_value(X) is None
    assert is_finite_number(3)
    assert not is_finite_number(math.inf)


def test_numbers_take_the_dtype_of_the_node_beside() -> None:
    k = Input(0, Type(int32, (2,)))()
    assert (k + 1).dtype is int32
    assert (1 - k).args[0] is constant(1, int32)
    assert (1 / X).args[0] is constant(1.0, float32)
    assert (X**2).op is not None
    assert (-X).op == ops.Negative()


def test_nodes_nobody_holds_are_forgotten() -> None:
    node = ops.Exp()(X * 1234.5)
    gone = weakref.ref(node)
    del node
    gc.collect()
    assert gone() is None


def test_nodes_are_the_same_after_pickling() -> None:
    node = ops.Sum((0,))(X * Y + math.nan)
    assert pickle.loads(pickle.dumps(node)) is node


def test_results_of_an_op_with_several() -> None:
    q = Input(0, Type(float32, (1, 3, 3, 4)))()
    both = ops.Attention(True, 1.0)(q, q, q)
    out, lse = results(both)
    assert out.shape == (1, 3, 3, 4)
    assert lse.shape == (1, 3, 3)
    assert out is Get(0, both.types[0])(both)
    assert results(X) == (X,)
    with pytest.raises(VerifyError, match="get: result 2"):
        Get(2, out.type)(both)
    with pytest.raises(VerifyError, match="get: result 1"):
        Get(1, out.type)(both)


# Order, users, substitution


@given(graphs())
def test_arguments_come_before_users(graph: Graph) -> None:
    order = graph.nodes()
    place = {n: i for i, n in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[a] < place[n] for n in order for a in n.args)
    assert set(graph.outputs) <= set(order)


@given(graphs())
def test_users_are_the_inverse_of_arguments(graph: Graph) -> None:
    users = users_of(graph.nodes())
    for node in graph.nodes():
        assert all(node in users[a] for a in node.args)
        assert all(node in user.args for user in users[node])
        assert len(set(users[node])) == len(users[node])


def test_a_deep_chain_needs_no_recursion() -> None:
    node = X
    for _ in range(5_000):
        node = -node
    assert len(topological([node])) == 5_001
    (moved,) = substitute([node], {X: Y})
    assert topological([moved])[0] is Y


def test_stop_keeps_the_walk_above() -> None:
    inner = X + Y
    assert topological([ops.Exp()(inner)], stop=lambda n: n is inner) == [inner, ops.Exp()(inner)]


@given(graphs())
def test_substituting_inputs_is_calling(graph: Graph) -> None:
    fresh = tuple(Input(i + 10, n.type)() for i, n in enumerate(graph.inputs))
    there = substitute(graph.outputs, dict(zip(graph.inputs, fresh, strict=True)))
    assert not set(topological(there)) & set(graph.inputs)
    back = substitute(there, dict(zip(fresh, graph.inputs, strict=True)))
    assert all(a is b for a, b in zip(back, graph.outputs, strict=True))


# Verification


@given(graphs())
def test_graphs_that_ops_build_are_valid(graph: Graph) -> None:
    verify(graph)


def test_invalid_graphs() -> None:
    with pytest.raises(VerifyError, match=re.escape("input 0 of the graph is input{index=1")):
        verify(Graph((Y,), (Y,)))
    with pytest.raises(VerifyError, match="is read but is not an input"):
        verify(Graph((X,), (X + Y,)))
    with pytest.raises(VerifyError, match=r"must not appear at this stage \(forbidden: \['exp'\]\)"):
        verify(Graph((X,), (ops.Exp()(X),)), forbids={"exp"})
    wrong = Node.__new__(Node)
    wrong.op, wrong.args, wrong.source = ops.Exp(), (X,), None
    wrong.type = Type(float32, (7,))
    wrong.types = (wrong.type,)
    with pytest.raises(VerifyError, match=r"has type \(f32\[7\],\), its op infers \(f32\[2,3\],\)"):
        verify(Graph((X,), (wrong,)))


# Provenance


def test_a_node_knows_the_line_that_made_it() -> None:
    node, here = ops.Exp()(X * 3.25), line()
    assert node.source is not None
    assert (node.source.file, node.source.line) == (__file__, here)
    assert str(node.source) == f"{__file__}:{here}"


def test_the_first_maker_wins() -> None:
    first = ops.Exp()(X * 3.5)
    where = first.source
    again = ops.Exp()(X * 3.5)
    assert again is first
    assert again.source == where


def test_modules_are_part_of_the_source() -> None:
    with inside_module("blocks"), inside_module("0"):
        assert module_path() == "blocks.0"
        node = ops.Exp()(X * 3.75)
    assert module_path() == ""
    assert node.source is not None
    assert node.source.module == "blocks.0"
    assert str(node.source).endswith(" in blocks.0")


def test_gradients_belong_to_the_line_of_the_forward_op() -> None:
    forward = ops.Exp()(X * 4.25)
    with attributed_to(forward.source):
        gradient = forward * Y
        with attributed_to(None):
            assert user_source() == forward.source
    assert gradient.source == forward.source
    assert user_source() != forward.source


def test_a_rebuilt_node_keeps_the_line_but_takes_none_away() -> None:
    old = ops.Exp()(X * 4.5)
    new = rebuilt(old, [Y * 4.5])
    assert new.source == old.source
    known = ops.Exp()(Y * 4.75)
    mine = known.source
    assert rebuilt(ops.Exp()(X * 4.75), [Y * 4.75]) is known
    assert known.source == mine
