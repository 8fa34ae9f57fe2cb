"""Max unpooling against PyTorch's, behind its pooling."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ConfigError, DTypeError, IndexRangeError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SHAPES = [
    ((2, 3, 6), 1), ((3, 7), 1), ((0, 3, 6), 1), ((2, 3, 6, 7), 2), ((3, 6, 7), 2), ((2, 2, 4, 5, 6), 3),
    ((2, 4, 5, 6), 3),
]  # fmt: skip
# Kernel, stride, padding. Windows that overlap find elements twice: values count once, gradients for each.
POOLS = [(2, None, 0), (2, 1, 0), (3, 2, 1), (1, 1, 0), (3, 1, 1)]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize(("shape", "count"), SHAPES, ids=str)
def test_unpooling_what_was_pooled(shape, count, pool):
    name = f"max_unpool{count}d"
    pooled, where = getattr(TF, f"max_pool{count}d")(torch.tensor(draw(*shape)), *pool, return_indices=True)
    size = shape[-count:]
    ours, theirs = getattr(F, name), getattr(TF, name)
    agree(
        lambda x, at: ours(x, at, *pool, size),
        lambda x, at: theirs(x, at, *pool, (1, 1, *size)),
        pooled.numpy(),
        fixed=(where.numpy(),),
        compiled=pool == POOLS[0],
    )


def test_the_usual_size():
    x, at = draw(1, 2, 3), np.array([[[0, 3, 4], [1, 2, 5]]])
    found, expected = F.max_unpool1d(x, at, 2), TF.max_unpool1d(torch.tensor(x), torch.tensor(at), 2)
    np.testing.assert_array_equal(np.asarray(found), expected.numpy())


def test_our_own_indices():
    x = draw(2, 3, 6, 6)
    pooled, where = F.max_pool2d_with_indices(x, 2)
    back = np.asarray(F.max_unpool2d(pooled, where, 2))
    np.testing.assert_array_equal(back, np.where(back != 0, x, 0))
    np.testing.assert_array_equal(np.asarray(F.max_pool2d(back + x.min() * (back == 0), 2)), np.asarray(pooled))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32"])
def test_dtypes(dtype):
    x, at = td.asarray([[[1, 2, 3]]]).astype(dtype), np.array([[[1, 2, 5]]], np.int32)
    found = F.max_unpool1d(x, at, 2)
    assert found.dtype.name == dtype
    assert np.asarray(found.astype("float32")).tolist() == [[[0, 1, 2, 0, 0, 3]]]


def test_of_several_values_for_a_place_the_last_stays():
    found = F.max_unpool1d(np.float32([[[1, 2, 3]]]), np.array([[[1, 1, 1]]]), 2)
    assert np.asarray(found).tolist() == [[[0, 3, 0, 0, 0, 0]]]


def x(*shape: int) -> td.Tensor:
    return td.ones(shape)


AT = np.zeros((1, 1, 3), np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.max_unpool1d(x(1, 1, 3), AT[:, :, :2], 2), ShapeError, r"indices i64\[1,1,2\] do not fit input"),
        (lambda: F.max_unpool1d(x(1, 1, 3), x(1, 1, 3), 2), DTypeError, "must be integers of its shape"),
        (lambda: F.max_unpool1d(x(1, 1, 3), AT, 2, output_size=(9,)), ShapeError, r"\[9\] .* Allowed: \[6\]"),
        (lambda: F.max_unpool1d(x(1, 1, 3), AT, 2, output_size=(6, 6)), ShapeError, r"output_size \[6, 6\]"),
        (lambda: F.max_unpool1d(x(1, 1, 3), AT, 0), ConfigError, r"kernel_size is \(0,\)"),
        (lambda: F.max_unpool1d(x(1, 1, 3), AT + 6, 2).realize(), IndexRangeError, "index 6 is out of range for 6"),
        (lambda: F.max_unpool1d(x(1, 1, 3), AT - 1, 2).realize(), IndexRangeError, "index -1 is out of range"),
        (lambda: F.max_unpool2d(x(3, 3), AT[0], 2), ShapeError, "2 axes behind the channels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
