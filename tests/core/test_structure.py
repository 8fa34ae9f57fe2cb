"""Nested structures, shapes and types."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as td
from treadle.core import (
    DTypeError,
    ShapeError,
    Type,
    bfloat16,
    bool_,
    broadcast_shapes,
    flatten,
    float32,
    int64,
    normalize_axes,
    normalize_axis,
    row_major_strides,
    tree_map,
    unflatten,
    whole_numbers,
)


class Point(NamedTuple):
    x: Any
    y: Any


LEAVES = st.integers() | st.text(max_size=3) | st.floats(allow_nan=False)
TREES = st.recursive(
    LEAVES | st.none(),
    lambda t: st.one_of(
        st.lists(t, max_size=3),
        st.lists(t, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), t, max_size=3),
        st.builds(Point, t, t),
    ),
    max_leaves=12,
)


@given(TREES)
def test_a_tree_comes_back(tree: Any) -> None:
    leaves, structure = flatten(tree)
    again = unflatten(structure, leaves)
    assert again == tree
    assert type(again) is type(tree)
    assert None not in leaves
    hash(structure)


@given(TREES)
def test_tree_map_keeps_the_structure(tree: Any) -> None:
    mapped = tree_map(lambda leaf: (leaf,), tree)
    unwrapped, _ = flatten(tree)
    leaves, _ = flatten(mapped)
    assert leaves == unwrapped


def test_structures_tell_containers_apart() -> None:
    structures = [
        flatten(t)[1] for t in ([1, 2], (1, 2), Point(1, 2), {"a": 1, "b": 2}, {"b": 1, "a": 2}, [1, [2]], [1, None])
    ]
    assert len(set(structures)) == len(structures)
    assert flatten(Point(1, [2]))[0] == [1, 2]
    assert flatten([3, {"k": (4, None)}]) == ([3, 4], flatten([5, {"k": (6, None)}])[1])


def test_other_containers_are_leaves() -> None:
    odd = OrderedDict(a=1)
    array = np.zeros(3)
    leaves, _ = flatten([odd, array])
    assert leaves[0] is odd
    assert leaves[1] is array


def test_leaves_and_structure_must_fit() -> None:
    _, structure = flatten([1, 2])
    with pytest.raises((StopIteration, ValueError, RuntimeError)):
        unflatten(structure, [1])


@given(st.lists(st.lists(st.integers(0, 3), max_size=4).map(tuple), min_size=1, max_size=3))
def test_broadcasting_is_numpy_s(shapes: list[tuple[int, ...]]) -> None:
    try:
        expected = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(
            ShapeError, match=r"add: cannot broadcast .*; axis -\d has sizes .*Sizes must be equal or 1\."
        ):
            broadcast_shapes("add", *shapes)
    else:
        assert broadcast_shapes("add", *shapes) == expected


def test_axes() -> None:
    assert normalize_axis("sum", -1, 3) == 2
    assert normalize_axes("sum", None, 3) == (0, 1, 2)
    assert normalize_axes("sum", (-1, 0), 3) == (0, 2)
    assert normalize_axes("sum", 1, 3) == (1,)
    with pytest.raises(
        ShapeError, match=re.escape("sum: axis 3 is out of range for an operand with 3 axes. Allowed: [-3, 2].")
    ):
        normalize_axis("sum", 3, 3)
    with pytest.raises(ShapeError, match="it has no axes"):
        normalize_axis("sum", 0, 0)
    with pytest.raises(ShapeError, match=re.escape("sum: axes (0, -3) name the same axis twice.")):
        normalize_axes("sum", (0, -3), 3)


@pytest.mark.parametrize(
    "one", [2, np.int64(2), np.uint8(2), np.array(2), td.asarray(2)], ids=lambda v: type(v).__name__
)
def test_sizes_and_axes_are_integers_of_any_library(one: Any) -> None:
    assert whole_numbers("f", one) == (2,)
    for several in ([one, 3], (one, 3), (v for v in (one, 3)), np.array([2, 3]), td.asarray([2, 3])):
        assert whole_numbers("f", several) == (2, 3)
    assert normalize_axis("f", one, 3) == 2
    assert normalize_axes("f", one, 3) == normalize_axes("f", [one], 3) == (2,)
    assert all(type(v) is int for v in (*whole_numbers("f", [one]), normalize_axis("f", one, 3)))


@pytest.mark.parametrize(
    "bad", [1.0, np.float32(1), "1", None, [1.0], [[1]], "ab", td.asarray(1.0), np.array([1.5])], ids=str
)
def test_what_is_no_integer_is_refused(bad: Any) -> None:
    with pytest.raises(DTypeError, match=r"f: .* is not a whole number\. Sizes and axes are integers\."):
        whole_numbers("f", bad)


@given(st.lists(st.integers(1, 4), max_size=4))
def test_strides_are_numpy_s(shape: list[int]) -> None:
    assert row_major_strides(shape) == tuple(s // 8 for s in np.zeros(shape, np.int64).strides)


def test_types() -> None:
    t = Type(bfloat16, (2, 3))
    assert (t.size, t.ndim, t.nbytes) == (6, 2, 12)
    assert repr(t) == "bf16[2,3]"
    assert repr(Type(int64)) == "i64[]"
    assert Type(bool_, (0, 5)).nbytes == 0
    assert t == Type(bfloat16, (2, 3))
    assert t != Type(float32, (2, 3))
    assert len({t, Type(bfloat16, (2, 3)), Type(float32, (2, 3))}) == 2


def test_an_axis_out_of_range_is_an_index_error() -> None:
    """As in the array API, NumPy and PyTorch; and a ShapeError, hence a ValueError."""
    for error in (td.AxisError, IndexError, ShapeError, ValueError):
        with pytest.raises(error, match="axis 2 is out of range"):
            td.expand_dims(td.ones(3), axis=2)
        with pytest.raises(error, match="axis -3 is out of range"):
            td.sum(td.ones((2, 2)), axis=-3)
