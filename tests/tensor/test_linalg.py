"""Products against NumPy, for every number of axes, and the program they become."""

import math

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.ir import topological

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 5, 2, 3), (6, 1, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((5, 0, 3), (3, 4)),
    ((1, 1), (1, 1)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [td.float32, td.float64, td.int32], ids=str)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], dtype: td.DType) -> None:
    x = np.random.randint(-4, 5, a).astype(dtype.numpy)
    y = np.random.randint(-4, 5, b).astype(dtype.numpy)
    got = td.asarray(x) @ td.asarray(y)
    want = x @ y
    assert got.dtype is dtype
    assert got.shape == np.shape(want)
    np.testing.assert_array_equal(got.numpy(), want)


def test_a_batch_times_one_matrix_is_one_product() -> None:
    product = td.ones((5, 7, 3)) @ td.ones((3, 4))
    (node,) = [n for n in topological([product.node]) if n.op.name == "matmul"]
    assert node.shape == (35, 4)


def test_matmul_promotes_and_refuses() -> None:
    assert (td.ones((2, 3), dtype=td.int32) @ td.ones(3)).dtype is td.float32
    with pytest.raises(td.ShapeError, match=r"matmul: cannot multiply f32\[2,3\] and f32\[2,3\]; the last"):
        td.ones((2, 3)) @ td.ones((2, 3))
    with pytest.raises(td.ShapeError, match="both need at least one axis"):
        td.ones((2, 3)) @ td.asarray(2.0)
    with pytest.raises(td.ShapeError, match="matmul: cannot broadcast"):
        td.ones((2, 2, 3)) @ td.ones((3, 3, 4))


def test_the_other_products() -> None:
    a, b = np.random.randn(2, 3, 4), np.random.randn(4, 3, 5)
    x, y = td.asarray(a), td.asarray(b)
    np.testing.assert_allclose(td.tensordot(x, y, axes=1).numpy(), np.tensordot(a, b, 1))
    np.testing.assert_allclose(td.tensordot(x, y, axes=((2, 1), (0, 1))).numpy(), np.tensordot(a, b, ((2, 1), (0, 1))))
    np.testing.assert_allclose(td.tensordot(x, y, axes=0).numpy(), np.tensordot(a, b, 0))
    np.testing.assert_allclose(td.vecdot(x, x[0]).numpy(), np.vecdot(a, a[0]))
    np.testing.assert_allclose(td.vecdot(x, x, axis=-2).numpy(), np.vecdot(a, a, axis=-2))
    np.testing.assert_allclose(td.vecdot(x[0, 0], x[1, 1]).item(), a[0, 0] @ a[1, 1])
    np.testing.assert_allclose(td.outer(x[0, 0], y[0, 0]).numpy(), np.outer(a[0, 0], b[0, 0]))
    np.testing.assert_allclose(td.matrix_transpose(x).numpy(), a.swapaxes(1, 2))
    with pytest.raises(td.ShapeError, match="tensordot: axes"):
        td.tensordot(x, y, axes=((0,), (0,)))
    with pytest.raises(td.ShapeError, match="vecdot: axis -1 has sizes 4 and 5"):
        td.vecdot(x, y)
    with pytest.raises(td.ShapeError, match="outer: takes two vectors"):
        td.outer(x, y)


def test_tensordot_takes_axes_of_any_kind() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for axes in (1, np.int64(1), ([2], [0]), (np.array([2]), (0,)), ((-1,), (np.int64(-3),))):
        got = td.tensordot(td.asarray(x), td.asarray(x.transpose(2, 0, 1)), axes=axes)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(got.numpy(), np.tensordot(x, x.transpose(2, 0, 1), 1))
    with pytest.raises(td.DTypeError, match=r"tensordot: 1\.0 is not a whole number"):
        td.tensordot(td.ones((2, 2)), td.ones((2, 2)), axes=1.0)  # pyright: ignore[reportArgumentType]


def test_the_power_0_of_a_matrix_has_the_gradient_0() -> None:
    x = nn.Parameter(td.asarray([[[1.0, math.inf], [3.0, 4.0]]]))
    power = td.linalg.matrix_power(x, 0)
    assert power.tolist() == [[[1, 0], [0, 1]]]
    power.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[0, 0], [0, 0]]]
