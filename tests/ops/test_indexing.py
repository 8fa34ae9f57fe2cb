"""Ops that index at run time: values and gradients, the safety of formulas, and the checks that name a wrong index."""

import re

import numpy as np
import pytest

from tests.ops.apply import gradients, lowered, types_of
from treadle.core import (
    DTYPES,
    DType,
    DTypeError,
    IndexRangeError,
    ShapeError,
    Type,
    bool_,
    float32,
    int8,
    int64,
    uint8,
)
from treadle.ir import Graph, Node, constant, inputs_for
from treadle.ops.base import TensorOp
from treadle.ops.compare import Less
from treadle.ops.fused import run_graph
from treadle.ops.indexing import (
    Checked,
    Iota,
    OneHot,
    ScatterAdd,
    ScatterAddAlongAxis,
    Take,
    TakeAlongAxis,
    Tril,
    Triu,
)
from treadle.ops.logic import where

INDEX_DTYPES = [d for d in DTYPES if d.is_integer]


def numbers(*shape: int) -> np.ndarray:
    return np.random.randint(-9, 9, shape).astype(np.float32)


def check(op: TensorOp, *arrays: np.ndarray) -> np.ndarray:
    """The formula is the reference; the gradient is the transposed map, exactly on whole numbers."""
    value = op.eval(*arrays)
    assert op(*inputs_for(types_of(arrays))).shape == value.shape
    np.testing.assert_array_equal(lowered(op, *arrays), value)
    ct = numbers(*value.shape)
    back = gradients(op, arrays, ct)
    assert all(b is None for b in back[1:])
    assert float((back[0] * arrays[0]).sum()) == float((ct * value).sum())
    return value


@pytest.mark.parametrize("dtype", INDEX_DTYPES)
@pytest.mark.parametrize("index_shape", [(), (4,), (2, 3), (0,)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_take_and_scatter_add(axis, index_shape, dtype: DType) -> None:
    x = numbers(3, 5, 2)
    index = np.random.randint(0, x.shape[axis], index_shape).astype(dtype.numpy)
    y = check(Take(axis), x, index)
    np.testing.assert_array_equal(y, np.take(x, index.astype(int), axis))
    back = check(ScatterAdd(axis, x.shape[axis]), y, index)
    assert back.shape == x.shape


def test_repeated_indices_add_up() -> None:
    check(ScatterAdd(1, 40), numbers(3, 70), np.arange(70) * 7 % 40)  # single elements
    y = check(ScatterAdd(0, 4), numbers(5, 2), np.array([1, 1, 3, 1, 3]))
    assert not y[[0, 2]].any()


def test_scatter_add_of_short_floats_sums_in_float32() -> None:
    values, index = np.ones(5000, np.float16), np.zeros(5000, np.int64)
    assert (
        lowered(ScatterAdd(0, 2), values, index).tolist() == ScatterAdd(0, 2).eval(values, index).tolist() == [5000, 0]
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("places", [0, 1, 4])
def test_along_an_axis(axis, places) -> None:
    x = numbers(3, 5, 2)
    shape = tuple(places if a == axis else n for a, n in enumerate(x.shape))
    index = np.random.randint(0, x.shape[axis], shape)
    y = check(TakeAlongAxis(axis), x, index)
    np.testing.assert_array_equal(y, np.take_along_axis(x, index, axis))
    check(ScatterAddAlongAxis(axis, x.shape[axis]), y, index)


def test_one_place_along_an_axis_needs_no_sum() -> None:
    formula = ScatterAddAlongAxis(1, 9).lower(Type(float32, (4, 1)), Type(int64, (4, 1)))
    assert formula.reduce == ()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "bool"])
def test_iota_and_one_hot(dtype: DType) -> None:
    np.testing.assert_array_equal(lowered(Iota(100, dtype)), np.arange(100).astype(dtype.numpy))
    np.testing.assert_array_equal(
        lowered(OneHot(4, dtype), np.array([[0], [3]])), np.eye(4, dtype=dtype.numpy)[[[0], [3]]]
    )


@pytest.mark.parametrize("k", [-5, -1, 0, 1, 5])
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (2, 3, 3), (0, 3)])
def test_triangles(shape, k) -> None:
    x = numbers(*shape) + 20
    np.testing.assert_array_equal(check(Tril(k), x), np.tril(x, k))
    np.testing.assert_array_equal(check(Triu(k), x), np.triu(x, k))


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        (Take(0), [numbers(5, 2)]),
        (ScatterAdd(0, 5), [numbers(3)]),
        (TakeAlongAxis(0), [numbers(5)]),
        (ScatterAddAlongAxis(0, 5), [numbers(3)]),
        (OneHot(5), []),
    ],
)
@pytest.mark.parametrize(("index", "wrong"), [([0, 4, 2], None), ([0, 5, 2], 5), ([-1, 1, 4], -1), ([7, -3, 0], -3)])
def test_a_wrong_index_is_named_and_never_read(op, operands, index, wrong) -> None:
    arrays = [*operands, np.array(index)]
    lowered(op, *arrays)  # `run` asserts that no formula reads outside its operand
    inputs = inputs_for(types_of(arrays))
    assert isinstance(op, Checked)
    (found,) = op.checks(*inputs)
    ok, low, high = run_graph(Graph(inputs, (found.ok, found.low, found.high)), arrays)
    assert found.ok.type == Type(bool_, ())
    assert bool(ok) == (wrong is None)
    if wrong is not None:
        error = found.error(int(low), int(high))
        assert isinstance(error, IndexRangeError)
        assert re.match(rf"{op.name}: index {wrong} is out of range for .*5.*\. Allowed: 0\.\.4\. ", str(error))


def user_index(index: Node, size: int) -> Node:
    return where(Less()(index, constant(0, index.dtype)), index + size, index)


def test_negative_indices_are_reported_as_the_user_wrote_them() -> None:
    x, index = inputs_for([Type(float32, (5, 2)), Type(int64, (3,))])
    node = Take(0)(x, user_index(index, 5))
    (found,) = Take(0).checks(*node.args)
    assert found.allowed == (-5, 4)
    given = np.array([-7, -5, 2])
    ok, low, high = run_graph(Graph((x, index), (found.ok, found.low, found.high)), [numbers(5, 2), given])
    assert not ok
    assert "take: index -7 is out of range for axis 0 of f32[5,2]. Allowed: -5..4." in str(
        found.error(int(low), int(high))
    )


def test_checks_that_cannot_fail_are_left_out() -> None:
    def count(dtype: DType, size: int, shape=(3,)) -> int:
        x, index = inputs_for([Type(float32, (size,)), Type(dtype, shape)])
        return len(Take(0).checks(x, index))

    assert count(uint8, 256) == 0
    assert count(uint8, 255) == 1
    assert count(int8, 1000) == 1  # -1 is still possible
    assert count(int64, 5, (0,)) == 0


def test_errors_name_the_values() -> None:
    x, i = Type(float32, (4, 3)), Type(int64, (2,))
    for message, wrong in {
        "take: axis 2 is out of range for f32[4,3]": lambda: Take(2).infer(x, i),
        "take: indices have dtype float32": lambda: Take(0).infer(x, Type(float32, (2,))),
        "take: axis 0 of f32[0,3] is empty": lambda: Take(0).infer(Type(float32, (0, 3)), i),
        "scatter_add: f32[4,3] has sizes [4] from axis 0, the index i64[2] has [2]": lambda: ScatterAdd(0, 5).infer(
            x, i
        ),
        "scatter_add: there are no places": lambda: ScatterAdd(0, 0).infer(Type(float32, (2, 3)), i),
        "scatter_add: does not take bool": lambda: ScatterAdd(0, 5).infer(Type(bool_, (2, 3)), i),
        "take_along_axis: index i64[2] does not fit f32[4,3]": lambda: TakeAlongAxis(0).infer(x, i),
        "take_along_axis: axis 0 of f32[0,3] is empty": lambda: TakeAlongAxis(0).infer(
            Type(float32, (0, 3)), Type(int64, (1, 3))
        ),
        "scatter_add_along_axis: values f32[4,3] and index i64[2]": lambda: ScatterAddAlongAxis(0, 5).infer(x, i),
        "one_hot: size -1 is negative": lambda: OneHot(-1).infer(i),
        "one_hot: indices have dtype float32": lambda: OneHot(3).infer(x),
        "iota: size -2 is negative": lambda: Iota(-2).infer(),
        "iota: does not take bool": lambda: Iota(2, bool_).infer(),
        "tril: i64[2] is not a matrix": lambda: Tril().infer(i),
    }.items():
        with pytest.raises((ShapeError, DTypeError), match=re.escape(message)):
            wrong()
