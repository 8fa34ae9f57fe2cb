"""Simplification of ops with parameters: the value stays, bit for bit, and the graph is the smaller one expected."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle import ops
from treadle.core import DTYPES, Type, bfloat16, bool_, float16, float32, int8, int32, int64, uint8
from treadle.ir import Graph, Node, constant, inputs_for, verify
from treadle.ops import (
    BroadcastTo,
    Concat,
    Matmul,
    Max,
    Pad,
    Permute,
    Reshape,
    Slice,
    Sum,
    cast,
    flip,
    full,
    run_graph,
)
from treadle.passes.simplify import SIMPLIFY, holds_all, simplify
from treadle.tensor.markers import Detach, Variable


def numbers(*shape: int) -> np.ndarray:
    return np.random.randint(-9, 9, shape).astype(np.float32)


def simplified(node: Node, *inputs: Node) -> Node:
    """Return the simplified node, having checked that its value is the same."""
    before = Graph(inputs, (node,))
    after = simplify(before)
    verify(after)
    arrays = [np.asarray(numbers(*i.shape) if i.shape else 3.0).astype(i.dtype.numpy) for i in inputs]
    arrays = [np.where(a == 2, np.asarray(-0.0, a.dtype), a) for a in arrays]
    with np.errstate(all="ignore"):
        a, b = run_graph(before, arrays)[0], run_graph(after, arrays)[0]
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
    if a.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(a)[~np.isnan(a)], np.signbit(b)[~np.isnan(b)])
    assert simplify(after) == after
    return after.outputs[0]


def f32(*shape: int, index: int = 0) -> Node:
    return inputs_for([*[Type(float32)] * index, Type(float32, shape)])[index]


X = f32(2, 3, 4)
Y = f32(2, 3, 4, index=1)
ROW = f32(4, index=1)


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (Reshape((2, 3, 4))(X), X),
        (Reshape((6, 4))(Reshape((4, 6))(X)), Reshape((6, 4))(X)),
        (Reshape((2, 3, 4))(Reshape((24,))(X)), X),
        (Permute((0, 1, 2))(X), X),
        (Permute((1, 2, 0))(Permute((2, 0, 1))(X)), X),
        (Permute((1, 0, 2))(Permute((2, 0, 1))(X)), Permute((0, 2, 1))(X)),
        (Permute((1, 0, 2))(Reshape((1, 6, 4))(X)), Reshape((6, 1, 4))(X)),
        (BroadcastTo((2, 3, 4))(X), X),
        (BroadcastTo((5, 2, 3, 4))(BroadcastTo((1, 2, 3, 4))(X)), BroadcastTo((5, 2, 3, 4))(X)),
        (Slice((0, 0, 0), (2, 3, 4), (1, 1, 1))(X), X),
        (flip(flip(X, [True, False, True]), [True, False, True]), X),
        (
            Slice((0, 0, 1), (1, 1, 2), (1, 1, 1))(Slice((1, 0, 3), (1, 2, 4), (1, 2, -1))(X)),
            Slice((1, 0, 2), (1, 1, 2), (1, 1, -1))(X),
        ),
        (
            Slice((1, 0, 2), (2, 3, 2), (1, 1, 1))(Pad((1, 0, 1), (1, 0, 1), 0)(X)),
            Slice((0, 0, 1), (2, 3, 2), (1, 1, 1))(X),
        ),
        (Pad((0, 0, 0), (0, 0, 0), 0)(X), X),
        (Pad((1, 0, 0), (0, 0, 2), 0)(Pad((1, 0, 0), (0, 1, 0), 0)(X)), Pad((2, 0, 0), (0, 1, 2), 0)(X)),
        (Concat(1)(X), X),
        (Concat(1)(X, Slice((0, 0, 0), (2, 0, 4), (1, 1, 1))(X)), X),
        (Concat(1)(Concat(1)(X, X), X), Concat(1)(X, X, X)),
        (Sum((), False)(X), X),
        (Sum((1,))(Reshape((6, 1, 4))(X)), Reshape((6, 4))(X)),
        (Max((0, 1))(full(3.0, float32, (4, 5))), constant(3.0, float32)),
        (Reshape((7, 2))(full(3.0, float32, (14,))), full(3.0, float32, (7, 2))),
        (Permute((1, 0))(full(3.0, float32, (4, 5))), full(3.0, float32, (5, 4))),
        (X * full(1.0, float32, (2, 3, 4)), X),
        (ops.Exp()(BroadcastTo((5, 2, 3, 4))(X)), BroadcastTo((5, 2, 3, 4))(ops.Exp()(X))),
        (full(2.0, float32, (3,)) * 3.0, full(6.0, float32, (3,))),
        (constant(2.0, float32) * X, X * 2.0),
        (Detach()(Variable(7)(X)) - 0.0, X),
        (cast(cast(X, bfloat16), float32), cast(cast(X, bfloat16), float32)),
    ],
    ids=lambda n: None,
)  # fmt: skip
def test_one_rule(node: Node, wanted: Node) -> None:
    assert simplified(node, X) is wanted


@pytest.mark.parametrize(
    ("node", "wanted"),
    [
        (X + BroadcastTo((2, 3, 4))(ROW), X + ROW),
        (X + Reshape((1, 1, 4))(ROW), X + ROW),
        (ops.where(ops.Less()(X, BroadcastTo((2, 3, 4))(ROW)), X, 0.0), ops.where(ops.Less()(X, ROW), X, 0.0)),
        (Slice((0, 3, 0), (2, 2, 4), (1, 1, 1))(Concat(1)(X, BroadcastTo((2, 3, 4))(ROW))), None),
    ],
    ids=lambda n: None,
)
def test_operands_are_broadcast_by_the_op(node: Node, wanted: Node | None) -> None:
    new = simplified(node, X, ROW)
    assert wanted is None or new is wanted
    assert new.op.name != "concat"


def test_a_slice_of_a_concat_reads_one_part() -> None:
    joined = Concat(1)(X, Y)
    assert simplified(Slice((0, 3, 0), (2, 3, 4), (1, 1, 1))(joined), X, Y) is Y
    across = Slice((0, 2, 0), (2, 2, 4), (1, 1, 1))(joined)
    assert simplified(across, X, Y) is across


def test_many_matrices_times_one_are_one_product() -> None:
    w = f32(4, 5, index=1)
    new = simplified(Matmul()(X, w), X, w)
    assert new is Reshape((2, 3, 5))(Matmul()(Reshape((6, 4))(X), w))


@pytest.mark.parametrize("narrow", DTYPES)
@pytest.mark.parametrize("wide", DTYPES)
def test_a_dtype_holds_another_when_numpy_says_so(wide, narrow) -> None:
    pair = {wide, narrow}
    if bfloat16 in pair or float16 in pair:
        with np.errstate(all="ignore"):
            back = edges(narrow).astype(wide.numpy).astype(narrow.numpy)
        assert not holds_all(wide, narrow) or np.all(back == edges(narrow))
    else:
        assert holds_all(wide, narrow) == (np.can_cast(narrow.numpy, wide.numpy) and not too_wide(wide, narrow))


def edges(dtype) -> np.ndarray:
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        return np.array([info.min, info.max, 0, 1], dtype.numpy)
    return np.array([0, 1, 0.5], dtype.numpy)


def too_wide(wide, narrow) -> bool:
    """NumPy calls int64 to float64 safe; large values lose digits."""
    return wide.is_float and narrow.is_integer and narrow.bits == 64


def test_cast_chains() -> None:
    (i,) = inputs_for([Type(int8, (5,))])
    (b,) = inputs_for([Type(bool_, (5,))])
    assert simplified(cast(cast(i, int32), int64), i) is cast(i, int64)
    assert simplified(cast(cast(i, float32), int8), i) is i
    assert simplified(cast(cast(i, float32), uint8), i).op == ops.Cast(uint8)
    assert simplified(cast(cast(i, float32), uint8), i).args[0] is not i
    assert simplified(cast(cast(b, float32), bool_), b) is b
    assert simplified(cast(cast(X, float16), float32), X).args[0] is not X


def test_constants_fold_with_the_bits_of_the_reference() -> None:
    node = (constant(1.0, bfloat16) / 3.0) * 2.0
    new = simplified(node)
    assert new is constant(float(np.float32(1 / 3).astype(bfloat16.numpy)) * 2, bfloat16)
    assert simplified(ops.Less()(constant(1, int64), constant(2, int64))) is constant(True, bool_)
    assert simplified(constant(100, int8) + 100) is constant(-56, int8)
    assert simplified(ops.Log()(constant(-1.0, float32))).op == constant(float("nan"), float32).op


def test_fast_math_is_off_by_default() -> None:
    graph = Graph((X,), ((X + 0.0) * 2.0 * 3.0,))
    assert simplify(graph) == graph
    assert simplify(graph, fast_math=True).outputs == (X * 6.0,)
    fired: list[str] = []
    simplify(graph, fast_math=True, fired=lambda name, before, after: fired.append(name))
    assert fired == ["add-zero", "reassociate-mul", "fold-constants"]


@st.composite
def movements(draw):
    """A random chain of movement and elementwise ops on one input."""
    x = node = f32(*draw(st.lists(st.integers(1, 4), min_size=0, max_size=3)))
    for _ in range(draw(st.integers(1, 8))):
        n = node.type.ndim
        kind = draw(st.sampled_from(["reshape", "permute", "broadcast", "slice", "pad", "concat", "exp", "add", "sum"]))
        if kind == "reshape":
            shape = list(node.shape)
            draw(st.randoms(use_true_random=False)).shuffle(shape)
            at = draw(st.integers(0, n))
            node = Reshape((*shape[:at], 1, *shape[at:]))(node)
        elif kind == "permute":
            node = Permute(tuple(draw(st.permutations(range(n)))))(node)
        elif kind == "broadcast" and node.type.size < 200:
            node = BroadcastTo((2, *[3 if s == 1 else s for s in node.shape]))(node)
        elif kind == "slice":
            ranges = [range(s)[draw(st.integers(-4, 4)) :: draw(st.sampled_from([1, -1, 2]))] for s in node.shape]
            node = Slice(tuple(r.start for r in ranges), tuple(map(len, ranges)), tuple(r.step for r in ranges))(node)
        elif kind == "pad" and node.type.size < 200:
            low, high = (tuple(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))) for _ in range(2))
            node = Pad(low, high, draw(st.sampled_from([0.0, -0.0])))(node)
        elif kind == "concat" and n:
            node = Concat(draw(st.integers(0, n - 1)))(node, node)
        elif kind == "exp":
            node = -node
        elif kind == "add":
            node = node + node * 2.0
        elif kind == "sum" and n:
            axis = draw(st.integers(0, n - 1))
            node = ops.Sum((axis,), draw(st.booleans()))(node)
    return x, node


@given(movements())
def test_chains_keep_their_value(case) -> None:
    x, node = case
    simplified(node, x)


def deep(layers: int) -> Graph:
    x, w = inputs_for([Type(float32, (64, 32)), Type(float32, (32, 32))])
    node = x
    for layer in range(layers):
        h = Matmul()(node, w) + BroadcastTo((64, 32))(full(layer, float32, (32,)))
        h = ops.where(ops.Greater()(h, constant(0.0, float32)), h * 1.0, ops.Negative()(-h)) * (1.0 / (layer + 1))
        node = node + Reshape((64, 32))(Reshape((2048,))(h))
    return Graph((x, w), (node,))


def test_the_work_grows_with_the_graph_and_no_faster() -> None:
    def firings(layers: int) -> int:
        found: list[str] = []
        simplify(deep(layers), fired=lambda name, _before, _after: found.append(name))
        return len(found)

    assert len(deep(335).nodes()) > 5000
    assert 0 < firings(335) - firings(334) == firings(35) - firings(34)


def test_the_pass_names_itself() -> None:
    assert str(SIMPLIFY) == "simplify"
