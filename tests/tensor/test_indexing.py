"""`x[key]`, `x.at[key]`, take: any key NumPy understands means the same here."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import treadle as td
from treadle.core import Type
from treadle.ir import Input
from treadle.tensor.value import Maker

X = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).astype(np.float32)
MASK = X > 50
KEYS = [
    0,
    -1,
    (0, 1),
    (0, 1, 2, 3),
    (-1, -2, -3, -4),
    ...,
    None,
    (),
    slice(None),
    slice(1, None),
    slice(None, None, -1),
    (slice(None), slice(2, 0, -1)),
    (slice(-100, 100),),
    (slice(2, 1),),
    (..., 0),
    (0, ..., 0),
    (None, 0, None),
    (..., None),
    (slice(None), None, 0, ..., slice(None, None, 2)),
    (slice(None), slice(None), slice(3, None, -2)),
    [0, 1],
    [1, 0, 1],
    [-1],
    [[0, 1], [1, 0]],
    ([0, 1], [2, 0]),
    ([[0], [1]], [0, 2]),
    (slice(None), [0, 2]),
    (slice(None), [0, 2], slice(None), [1, 1]),
    (slice(None), [0, 2], [1, 1]),
    (slice(None), slice(None), [0, 2], [1, 1]),
    ([0, 1], slice(None), [0, 2]),
    (0, [0, 2]),
    (0, slice(None), [0, 2]),
    (slice(None), 0, [0, 2]),
    ([0, 1], None, [0, 2]),
    (None, [0, 1]),
    ([0, 1], 0),
    ([0, 1], slice(None), 0),
    (..., [0, 4]),
    ([0, 1], ..., [0, 4]),
    (slice(1), [[0, 1], [2, 2]], slice(1, 3)),
    ([],),
    (slice(None), np.array([], np.int32)),
    np.array(1),
    (np.array([[1]]), [0, 1, 2], 3, slice(None, None, -1)),
    np.int64(1),
    np.array([1, 0], np.uint8),
    np.array([-1, 0], np.int8),
    MASK,
    (MASK[0, :, 0, 0].nonzero()[0],),
    (slice(None), np.array([True, False, True])),
    np.array([True, False]),
    MASK[:, :, 0, 0],
    (MASK[:, 0, 0, 0], 0),
    (0, MASK[0]),
    (
        0,
        MASK[0],
    ),
    (..., MASK[0, 0, 0]),
    np.zeros((2,), bool),
    (slice(None), MASK[0, :, :, 0], [0]),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda k: str(k)[:40])
def test_getitem_is_numpys(key: Any) -> None:
    want = X[key]
    got = td.asarray(X)[key]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.usefixtures("oracle")
@given(hnp.basic_indices((3, 4, 2), allow_newaxis=True, max_dims=6))
def test_any_basic_key(key: Any) -> None:
    x = np.arange(24).reshape(3, 4, 2)
    np.testing.assert_array_equal(td.asarray(x)[key].numpy(), x[key])


@pytest.mark.usefixtures("oracle")
@given(hnp.integer_array_indices((3, 4, 2), result_shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_any_integer_arrays(key: Any) -> None:
    x = np.arange(24).reshape(3, 4, 2)
    got = td.asarray(x)[key]
    assert got.shape == x[key].shape
    np.testing.assert_array_equal(got.numpy(), x[key])


@st.composite
def mixed(draw: st.DrawFn) -> tuple[Any, ...]:
    arrays = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=2, max_side=3))
    items: list[Any] = []
    for size, shape in zip((3, 4, 2), arrays.input_shapes, strict=True):
        kind = draw(st.sampled_from(["int", "slice", "array", "tensor", "none"]))
        if kind == "none":
            items.append(None)
        if kind == "int":
            items.append(draw(st.integers(-size, size - 1)))
        elif kind in ("slice", "none"):
            items.append(draw(st.slices(size)))
        else:
            items.append(draw(hnp.arrays(np.int64, shape, elements=st.integers(-size, size - 1))))
    return tuple(items)


@pytest.mark.usefixtures("oracle")
@given(mixed())
def test_any_mixture(key: tuple[Any, ...]) -> None:
    x = np.arange(24).reshape(3, 4, 2)
    want = x[key]
    for given_key in (key, tuple(td.asarray(k) + 0 if isinstance(k, np.ndarray) else k for k in key)):
        got = td.asarray(x)[given_key]
        assert got.shape == want.shape
        np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.usefixtures("oracle")
@given(mixed(), st.booleans())
def test_at_is_numpys_assignment(key: tuple[Any, ...], computed: bool) -> None:
    x = np.arange(24.0).reshape(3, 4, 2)
    values = -np.arange(1.0, x[key].size + 1).reshape(x[key].shape)
    given_key = tuple(td.asarray(k) + 0 if computed and isinstance(k, np.ndarray) else k for k in key)
    t = td.asarray(x)
    want = x.copy()
    want[key] = values
    np.testing.assert_array_equal(t.at[given_key].set(values).numpy(), want)
    want = x.copy()
    np.add.at(want, key, values)
    np.testing.assert_array_equal(t.at[given_key].add(values).numpy(), want)
    np.testing.assert_array_equal(t.numpy(), x)


def test_at_with_numbers_masks_and_dtypes() -> None:
    x = td.asarray([1, 2, 3, 4])
    assert x.at[1].set(9).tolist() == [1, 9, 3, 4]
    assert x.at[x > 2].set(0).tolist() == [1, 2, 0, 0]
    assert x.at[x > 2].add(1).tolist() == [1, 2, 4, 5]
    assert x.at[x > 2].set(td.asarray([7, 8])).tolist() == [1, 2, 7, 8]
    assert x.at[::2].multiply(10).tolist() == [10, 2, 30, 4]
    assert x.at[-1].get().item() == 4
    assert x.at[[0, 0]].subtract(1).tolist() == [-1, 2, 3, 4]
    assert td.zeros(3).at[1].set(1).tolist() == [0.0, 1.0, 0.0]
    with pytest.raises(td.DTypeError, match="at: cannot put float32 into int64"):
        x.at[0].set(0.5)
    with pytest.raises(td.ShapeError, match=r"at: cannot broadcast \[3\] and \[2\]"):
        x.at[:2].set(td.asarray([1, 2, 3]))
    with pytest.raises(td.ShapeError, match=r"at: values i64\[3\] do not broadcast to the shape \[1\] of the elements"):
        x.at[:1].set(td.asarray([1, 2, 3]))


def test_of_several_values_for_one_place_the_last_counts() -> None:
    assert td.zeros(3).at[[1, 1, 2, 1]].set(td.asarray([1.0, 2.0, 3.0, 4.0])).tolist() == [0.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (3, r"index: 3 is out of range for axis 0 of f32\[3,4\], which has 3 elements. Allowed: -3 to 2\."),
        ((0, -5), "index: -5 is out of range for axis 1"),
        ([0, 3], r"index: 3 is out of range for an axis of f32\[3,4\] with 3 elements. Allowed: -3 to 2"),
        ((0, 0, 0), r"index: \[0, 0, 0\] names 3 axes, f32\[3,4\] has 2"),
        ((..., 0, ...), "has 2 ellipses"),
        ("a", "index: 'a' is not an index"),
        (1.5, "index: 1.5 is not an index"),
        (np.array([True, False]), "a mask has 2 elements on axis 0"),
        (slice(None, None, 0), "has step 0"),
    ],
    ids=str,
)
def test_keys_that_do_not_fit(key: Any, message: str) -> None:
    with pytest.raises(td.IndexRangeError, match=message):
        td.zeros((3, 4))[key]


def test_float_keys() -> None:
    with pytest.raises(td.DTypeError, match="index: an array of float32 is not an index"):
        td.zeros(3)[td.asarray([0.0])]
    with pytest.raises(td.DTypeError, match="must have whole numbers or None"):
        td.zeros(3)[0.5:]  # pyright: ignore


def test_computed_indices_out_of_range_are_found_when_run() -> None:
    x, i = td.zeros((3, 4)), td.asarray([0, 2]) + 1
    with pytest.raises(td.IndexRangeError, match="take: index 3 is out of range for axis 0"):
        x[i].numpy()
    j = td.asarray([0, 2]) - 3
    assert x[j].shape == (2, 4)
    with pytest.raises(td.IndexRangeError, match="take: index -1"):
        x[td.asarray([0, 2]) + 1, td.asarray([0, 0]) + 0].numpy()


def test_assignment_names_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"Use x = x.at\[0, 1\].set\(value\)"):
        td.zeros((3, 4))[0, 1] = 1.0
    with pytest.raises(TypeError, match=r"td.where\(condition, value, x\)"):
        td.zeros(3)[td.asarray([1])] = 1.0


def test_masks_need_values() -> None:
    traced = Maker.new(Input(0, Type(td.float32, (4,)))(), 1, False)
    with pytest.raises(td.TraceError, match=r"mask b1\[4\].*Use td.where\(mask, x, other\)"):
        traced[traced > 0]
    assert traced.at[traced > 0].set(0.0).shape == (4,)
    assert traced[td.asarray([True, False, True, True])].shape == (3,)


def test_take_and_take_along_axis() -> None:
    x = np.random.randn(3, 4).astype(np.float32)
    t = td.asarray(x)
    np.testing.assert_array_equal(td.take(t, np.array([0, -1]), axis=1).numpy(), np.take(x, [0, -1], axis=1))
    np.testing.assert_array_equal(td.take(t[0], td.asarray([[0, 1]])).numpy(), np.take(x[0], [[0, 1]]))
    order = np.argsort(x, axis=1)
    np.testing.assert_array_equal(td.take_along_axis(t, order, axis=1).numpy(), np.take_along_axis(x, order, axis=1))
    first = x.argmax(axis=0, keepdims=True)
    np.testing.assert_array_equal(td.take_along_axis(t, first, axis=0).numpy(), x.max(axis=0, keepdims=True))
    with pytest.raises(td.ShapeError, match="Say which with axis="):
        td.take(t, td.asarray([0]))
    with pytest.raises(td.DTypeError, match="indices are float32"):
        td.take_along_axis(t, t)


def test_a_tensor_is_an_index_of_lists() -> None:
    assert [10, 20, 30][td.asarray(1)] == 20
    assert list(range(td.asarray(3))) == [0, 1, 2]
    with pytest.raises(td.DTypeError, match="a float32 tensor is not a whole number"):
        [1][td.asarray(0.0)]  # pyright: ignore


def test_positions_that_are_long_to_compute() -> None:
    # The hash behind random numbers shares its parts; written out in full it would not fit into memory.
    rows = td.random.integers(0, 4, (8, 1), key=td.random.key(0))
    x = np.arange(32.0).reshape(8, 4)
    got = td.take_along_axis(td.asarray(x), rows, axis=1)
    np.testing.assert_array_equal(got.numpy(), np.take_along_axis(x, rows.numpy(), axis=1))


@pytest.mark.parametrize("x", [np.asarray(5.0), np.arange(6.0).reshape(2, 3)])
@pytest.mark.parametrize("value", [True, False])
def test_a_mask_without_axes(x: np.ndarray, value: bool) -> None:
    mask = np.asarray(value)
    np.testing.assert_array_equal(td.asarray(x)[td.asarray(mask)], x[mask])
    np.testing.assert_array_equal(td.asarray(x)[..., mask], x[..., mask])
    changed = x.copy()
    changed[mask] = 7
    np.testing.assert_array_equal(td.asarray(x).at[td.asarray(mask)].set(7.0), changed)


def test_an_ellipsis_of_no_axes_still_keeps_arrays_apart() -> None:
    i, j = np.array([0, 1]), np.array([1, 2])
    for key in [
        (slice(None), i, ..., 0, slice(None)),
        (slice(None), i, j, ..., 0),
        (slice(None), i, slice(None), ..., j),
    ]:
        np.testing.assert_array_equal(td.asarray(X)[key].numpy(), X[key])
    small = X[0]
    for key in [(slice(None), i, ..., 0), (slice(None), i, ..., j), (slice(None), 0, ..., i), (i, ..., 0, 0)]:
        np.testing.assert_array_equal(td.asarray(small)[key].numpy(), small[key])
        changed = small.copy()
        changed[key] = -1
        np.testing.assert_array_equal(td.asarray(small).at[key].set(-1).numpy(), changed)


@pytest.mark.parametrize("key", [0, [0], np.array([True, False, True])], ids=str)
def test_numbers_put_into_integers_must_fit(key: Any) -> None:
    x = td.asarray([1, 2, 3], dtype=td.uint8)
    assert x.at[key].set(255).dtype is td.uint8
    assert x.at[key].subtract(1).numpy()[0] == 0
    big = td.zeros(3, dtype=td.uint64).at[key].set(2**64 - 1)
    assert big.numpy()[0] == 2**64 - 1
    for value in (300, -1):
        with pytest.raises(td.DTypeError, match=f"at: {value} does not fit uint8"):
            x.at[key].set(value)
    with pytest.raises(td.DTypeError, match="at: cannot put float32 into uint8"):
        x.at[key].set(1.5)


def test_masked_fill_keeps_the_dtype() -> None:
    mask = td.asarray([True, False])
    for dtype in (td.bool, td.uint8, td.int64, td.float16, td.float32):
        filled = td.zeros(2, dtype=dtype).masked_fill(mask, 1)
        assert filled.dtype is dtype
        assert filled.tolist() == [1, 0]
    wide = td.asarray(0.5, dtype=td.float64)
    assert td.zeros(2).masked_fill(mask, wide).dtype is td.float32
    assert td.zeros(2, dtype=td.float64).masked_fill(mask, 0.1).tolist() == [0.1, 0.0]
    with pytest.raises(td.DTypeError, match="masked_fill: cannot put float32 into int64"):
        td.arange(2).masked_fill(mask, 1.5)
    with pytest.raises(td.DTypeError, match="masked_fill: 300 does not fit uint8"):
        td.zeros(2, dtype=td.uint8).masked_fill(mask, 300)


def test_lists_of_unequal_length_are_no_index() -> None:
    with pytest.raises(td.IndexRangeError, match="differ in length"):
        td.asarray(X)[[[0, 1], [1]]]


def test_one_index_tensor_for_two_axes() -> None:
    x, i = np.arange(9.0).reshape(3, 3), td.asarray([0, 2, 1])
    places = i.numpy()
    np.testing.assert_array_equal(td.asarray(x)[i, i].numpy(), x[places, places])
    x[places, places] = 0
    np.testing.assert_array_equal(td.asarray(x).at[i, i].set(0.0).numpy(), x)


def test_a_truth_value_alone_is_an_axis_of_one_or_none() -> None:
    x = np.arange(6).reshape(2, 3)
    for key in (True, False, (0, True), (True, slice(None), 1)):
        np.testing.assert_array_equal(td.asarray(x)[key].numpy(), x[key])


def test_take_of_a_number_sees_a_vector_of_one() -> None:
    np.testing.assert_array_equal(td.take(td.asarray(7), td.asarray([0, -1])).numpy(), [7, 7])


@pytest.mark.parametrize(
    ("shape", "mask"),
    [((0, 1), (0, 0)), ((3,), (0,)), ((3, 4), (0, 4)), ((3, 4), (3, 0)), ((2, 3, 4), (0, 3)), ((3, 4), (0, 0))],
)
def test_an_empty_mask_fits_any_size(shape: tuple[int, ...], mask: tuple[int, ...]) -> None:
    x, nothing = np.arange(np.prod(shape)).reshape(shape), np.zeros(mask, bool)
    assert td.asarray(x)[td.asarray(nothing)].shape == x[nothing].shape
    np.testing.assert_array_equal(td.asarray(x).at[nothing].set(7).numpy(), x)
    with pytest.raises(td.IndexRangeError, match="mask has 5 elements"):
        td.ones(3)[td.zeros(5, dtype=td.bool)]
