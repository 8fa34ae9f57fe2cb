"""Movement ops at their edges: negative steps, empty axes, values that fill, and gradients as exact adjoints."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.apply import gradients, lowered, types_of
from treadle.core import ShapeError, Type, float32
from treadle.ir import Node, inputs_for
from treadle.ops.base import TensorOp
from treadle.ops.movement import BroadcastTo, Concat, Pad, Permute, Reshape, Slice, flip, permute
from treadle.te import index


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def check(op: TensorOp, *arrays: np.ndarray) -> np.ndarray:
    """The formula is the reference; the gradient is the transposed map, exactly on whole numbers."""
    value = op.eval(*arrays)
    node = op(*inputs_for(types_of(arrays)))
    assert value.shape == node.shape
    np.testing.assert_array_equal(lowered(op, *arrays), value)
    ct = np.random.randint(-9, 9, value.shape).astype(np.float32)
    linear = op.eval(*[np.zeros_like(a) for a in arrays])  # what does not depend on the operands: the fill of a pad
    inner = sum(float((g * a).sum()) for g, a in zip(gradients(op, arrays, ct), arrays, strict=True) if g is not None)
    if np.isfinite(linear).all():
        assert inner == float((ct * (value - linear)).sum())
    return value


@st.composite
def slices(draw):
    shape = tuple(draw(st.lists(st.integers(0, 6), min_size=0, max_size=3)))
    ranges = []
    for size in shape:
        start, stop = draw(st.integers(-8, 8)), draw(st.integers(-8, 8))
        step = draw(st.sampled_from([-3, -2, -1, 1, 2, 3, 7]))
        ranges.append(range(size)[start:stop:step])
    return shape, ranges


@given(slices())
def test_slices_are_numpy_s(case) -> None:
    shape, ranges = case
    x = numbers(*shape)
    op = Slice(tuple(r.start for r in ranges), tuple(map(len, ranges)), tuple(r.step for r in ranges))
    np.testing.assert_array_equal(check(op, x), x[np.ix_(*ranges)] if shape else x)


def test_slices_that_read_the_same_are_the_same_op() -> None:
    assert Slice((3,), (1,), (-2,)) == Slice((3,), (1,), (5,))
    assert Slice((3,), (0,), (1,)) == Slice((0,), (0,), (2,))


@pytest.mark.parametrize(
    ("shape", "new"),
    [((2, 3, 4), (6, 4)), ((2, 3, 4), (4, 1, 6)), ((), (1, 1)), ((1,), ()), ((5, 0), (0, 7)), ((6,), (2, 3))],
)
def test_reshape(shape, new) -> None:
    np.testing.assert_array_equal(check(Reshape(new), numbers(*shape)), numbers(*shape).reshape(new))


def test_reshapes_that_split_or_join_axes_need_no_division() -> None:
    """Head split and merge of attention: the index map must stay affine where it can."""
    split = Reshape((2, 5, 3, 4)).lower(Type(float32, (2, 5, 12)))
    assert all(a.op.name in ("var", "affine") for a in split.value.args)
    rows = Reshape((10, 12)).lower(Type(float32, (2, 5, 12)))
    assert [a.op.name for a in rows.value.args] == ["floordiv", "mod", "var"]


@pytest.mark.parametrize("axes", [(2, 0, 1), (0, 1, 2), (1, 0, 2)])
def test_permute(axes) -> None:
    x = numbers(2, 3, 4)
    np.testing.assert_array_equal(check(Permute(axes), x), x.transpose(axes))
    assert Permute(axes).inverse() == tuple(np.argsort(axes))


@pytest.mark.parametrize(("shape", "new"), [((3, 1), (2, 3, 4)), ((), (2,)), ((1, 3), (0, 3)), ((1,), (1,))])
def test_broadcast_to(shape, new) -> None:
    np.testing.assert_array_equal(check(BroadcastTo(new), numbers(*shape)), np.broadcast_to(numbers(*shape), new))


@pytest.mark.parametrize("value", [0, 2.5, -0.0, np.inf, np.nan])
@pytest.mark.parametrize(("low", "high"), [((1, 0), (0, 3)), ((0, 0), (0, 0)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (0, 2)])
def test_pad(shape, low, high, value) -> None:
    y = check(Pad(low, high, value), numbers(*shape) + 1)
    filled = np.ones(y.shape, bool)
    filled[low[0] : low[0] + shape[0], low[1] : low[1] + shape[1]] = False
    np.testing.assert_array_equal(y[filled], np.full(filled.sum(), value, np.float32))
    assert np.array_equal(np.signbit(y[filled]), np.full(filled.sum(), np.signbit(value)))


def test_pads_are_told_apart_by_the_bits_of_their_value() -> None:
    assert Pad((1,), (0,), 0.0) != Pad((1,), (0,), -0.0)
    assert Pad((1,), (0,), float("nan")) == Pad((1,), (0,), float("nan"))
    assert hash(Pad((1,), (0,), float("nan"))) == hash(Pad((1,), (0,), float("nan")))


@pytest.mark.parametrize("sizes", [[2, 1, 0, 4], [3], [0, 0], [0, 2], [1, 1, 1, 1, 1]])
@pytest.mark.parametrize("axis", [0, 1])
def test_concat(sizes, axis) -> None:
    arrays = [numbers(*((n, 3) if axis == 0 else (3, n))) + 100 * k for k, n in enumerate(sizes)]
    np.testing.assert_array_equal(check(Concat(axis), *arrays), np.concatenate(arrays, axis))


def test_helpers_leave_alone_what_needs_no_change() -> None:
    (x,) = inputs_for([Type(float32, (2, 3))])
    assert permute(x, (0, 1)) is x
    flipped: Node = flip(x, [False, True])
    assert flipped.op == Slice((0, 2), (2, 3), (1, -1))
    assert index(3).op.name == "const"


def test_errors_name_the_values() -> None:
    x = Type(float32, (2, 3))
    for op, message in {
        Reshape((7,)): "reshape: f32[2,3] has 6 elements, shape [7] has 7. They must be equal.",
        Reshape((-1, 6)): "reshape: shape [-1, 6] has a negative size.",
        Permute((0, 0)): "permute: [0, 0] does not order the 2 axes of f32[2,3].",
        BroadcastTo((3, 3)): "broadcast_to: cannot broadcast [2, 3] and [3, 3]; axis -2 has sizes [2, 3].",
        BroadcastTo((3,)): "broadcast_to: f32[2,3] does not broadcast to [3].",
        Slice((0,), (1,), (1,)): "slice: 1 ranges for f32[2,3], which has 2 axes. Give one per axis.",
        Slice((0, 1), (2, 3), (1, 1)): "slice: 3 elements from 1 by step 1 do not lie in axis 1 of f32[2,3].",
        Slice((0, 0), (2, 2), (1, 0)): "slice: 2 elements from 0 by step 0 do not lie in axis 1",
        Pad((1,), (1,)): "pad: widths (1,) and (1,) for f32[2,3].",
        Pad((-1, 0), (0, 0)): "pad: widths (-1, 0) and (0, 0) for f32[2,3] must not be negative.",
        Concat(2): "concat: axis 2 is out of range for f32[2,3], which has 2 axes.",
    }.items():
        with pytest.raises(ShapeError, match=re.escape(message)):
            op.infer(x)
    with pytest.raises(ShapeError, match=re.escape("concat: f32[3,3] does not fit f32[2,3] along axis 1.")):
        Concat(1).infer(x, Type(float32, (3, 3)))
    with pytest.raises(ShapeError, match="concat: there is nothing to join"):
        Concat(0).infer()
