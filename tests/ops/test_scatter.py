"""The scatter kernel against NumPy: along rows and down columns, for every way to combine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.ops.compiled import compiled
from treadle.core import DTYPES, DType, DTypeError, ShapeError, Type, bool_, float32, int64
from treadle.ir import Graph, inputs_for
from treadle.jit import Plan
from treadle.ops import ScatterAlong

Array = np.ndarray[Any, Any]
# The shape of x, the axis, and how many values there are along it.
PLACES = [
    ((5,), 0, 9),
    ((5,), 0, 0),
    ((3, 4), 1, 7),
    ((3, 4), 0, 7),
    ((2, 3, 40), 1, 5),
    ((2, 30, 3), 1, 50),
    ((0, 3), 1, 2),
]


def drawn(dtype: DType, shape: tuple[int, ...], axis: int, count: int) -> list[Array]:
    rng = np.random.default_rng(0)
    at = tuple(count if a == axis else n for a, n in enumerate(shape))
    x, values = (rng.integers(0, 3, s).astype(dtype.numpy) for s in (shape, at))
    return [x, rng.integers(0, shape[axis], at), values]


@pytest.mark.parametrize("combine", ["set", "sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
def test_the_kernel_is_the_reference(dtype: DType, combine: str) -> None:
    if dtype is bool_ and combine != "set":
        return
    for shape, axis, count in PLACES if dtype is float32 else PLACES[2:4]:
        op, arrays = ScatterAlong(axis, combine), drawn(dtype, shape, axis, count)
        np.testing.assert_array_equal(compiled(op, arrays)[0], op.eval(*arrays))


@pytest.mark.parametrize("combine", ["set", "sum", "max"])
def test_one_line_of_places_is_for_all_lines(combine: str) -> None:
    for shape, axis, count in PLACES:
        x, _, values = drawn(float32, shape, axis, count)
        line = tuple(count if a == axis else 1 for a in range(len(shape)))
        index = np.random.default_rng(1).integers(0, shape[axis], line)
        op = ScatterAlong(axis, combine)
        spread = np.broadcast_to(index, values.shape).copy()
        np.testing.assert_array_equal(compiled(op, [x, index, values])[0], op.eval(x, spread, values))


def test_one_operand_may_be_two() -> None:
    x, index, _ = drawn(float32, (3, 6), 1, 6)
    a, i = inputs_for([Type(float32, x.shape), Type(int64, x.shape)])
    op = ScatterAlong(1, "sum")
    (got,) = Plan(Graph((a, i), (op(a, i, a),))).run([x, index])
    np.testing.assert_array_equal(got, op.eval(x, index, x))


def test_errors() -> None:
    x, i = Type(float32, (3, 4)), Type(int64, (3, 2))
    v = Type(float32, (3, 2))
    for op, types, message in [
        (ScatterAlong(1, "mean"), (x, i, v), "scatter: cannot combine by 'mean'"),
        (ScatterAlong(2), (x, i, v), "scatter: axis 2 is out of range"),
        (ScatterAlong(0), (x, i, v), "They must have one shape, and the sizes of x on all axes but 0"),
        (ScatterAlong(1), (x, v, v), "scatter: indices have dtype float32"),
        (ScatterAlong(1), (x, i, Type(int64, (3, 2))), "scatter: operands have dtypes"),
        (ScatterAlong(1), (Type(float32, (3, 0)), i, v), "axis 1 of .* is empty"),
    ]:
        with pytest.raises((ShapeError, DTypeError), match=message):
            op.infer(*types)
