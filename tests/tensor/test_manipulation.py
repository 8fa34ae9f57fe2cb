"""Shapes, axes, joining, splitting, repeating and padding against NumPy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import treadle as td

X = np.arange(24).reshape(2, 3, 4)


def same(got: td.Tensor, want: Any) -> None:
    assert got.shape == np.shape(want)
    np.testing.assert_array_equal(got.numpy(), want)


def test_reshape() -> None:
    t = td.asarray(X)
    same(t.reshape(6, 4), X.reshape(6, 4))
    same(t.reshape((4, -1)), X.reshape(4, -1))
    same(t.view(-1), X.reshape(-1))
    same(td.reshape(t, 24), X.reshape(24))
    assert t.reshape(2, 3, 4) is t
    same(t.flatten(), X.reshape(-1))
    same(t.flatten(1), X.reshape(2, 12))
    same(td.asarray(1).flatten(), [1])
    same(t.unflatten(2, (2, -1)), X.reshape(2, 3, 2, 2))
    with pytest.raises(td.ShapeError, match=r"reshape: i64\[2,3,4\] has 24 elements, shape \[5, 5\] has 25"):
        t.reshape(5, 5)
    with pytest.raises(td.ShapeError, match="no multiple of 5"):
        t.reshape(5, -1)
    with pytest.raises(td.ShapeError, match="ambiguous"):
        t.reshape(-1, -1)
    with pytest.raises(td.DTypeError, match="not a whole number"):
        td.reshape(t, (2.0, 12))  # pyright: ignore


def test_axes() -> None:
    t = td.asarray(X)
    same(t.permute(2, 0, 1), X.transpose(2, 0, 1))
    same(t.permute((2, 0, -2)), X.transpose(2, 0, 1))
    same(t.transpose(0, 2), X.swapaxes(0, 2))
    same(t.transpose((1, 0, 2)), X.transpose(1, 0, 2))
    same(t.transpose(), X.T)
    same(t.mT, X.swapaxes(1, 2))
    same(t[0].T, X[0].T)
    same(t.swapaxes(-1, 0), X.swapaxes(-1, 0))
    same(td.moveaxis(t, 0, -1), np.moveaxis(X, 0, -1))
    same(td.moveaxis(t, (0, 1), (2, 0)), np.moveaxis(X, (0, 1), (2, 0)))
    same(td.expand_dims(t, (0, -1)), np.expand_dims(X, (0, -1)))
    same(t.unsqueeze(1), np.expand_dims(X, 1))
    same(t.unsqueeze(-1).squeeze(-1), X)
    same(td.ones((1, 2, 1)).squeeze(), np.ones(2))
    same(td.squeeze(td.ones((1, 2, 1)), (0, 2)), np.ones(2))
    with pytest.raises(td.ShapeError, match=r"squeeze: axis 0 of .* has size 2"):
        t.squeeze(0)
    with pytest.raises(td.ShapeError, match="permute_dims: axis 3 is out of range"):
        t.permute(0, 1, 3)
    with pytest.raises(td.ShapeError, match="do not name each of the 3 axes"):
        t.permute(0, 1)
    with pytest.raises(td.ShapeError, match=r"T: .* is not a matrix"):
        _ = t.T


def test_broadcasting() -> None:
    t = td.asarray(X[:, :1])
    same(t.broadcast_to(5, 2, 3, 4), np.broadcast_to(X[:, :1], (5, 2, 3, 4)))
    same(t.expand(-1, 3, -1), np.broadcast_to(X[:, :1], (2, 3, 4)))
    a, b = td.broadcast_arrays(t, td.ones((3, 1)))
    assert a.shape == b.shape == (2, 3, 4)
    with pytest.raises(td.ShapeError, match=r"broadcast_to: .* axis -2 has sizes"):
        td.asarray(X).broadcast_to(2, 2, 4)


def test_joining() -> None:
    t = td.asarray(X)
    same(td.concat([t, t[:, :1]], axis=1), np.concatenate([X, X[:, :1]], 1))
    same(td.concat([t, t[0]], axis=None), np.concatenate([X, X[0]], None))
    same(td.stack([t, t], axis=-1), np.stack([X, X], -1))
    assert td.concat([t, td.ones((2, 3, 4))]).dtype is td.float32
    assert td.stack([1, 2.5]).tolist() == [1.0, 2.5]
    same(td.stack(td.unstack(t, axis=1), axis=1), X)
    with pytest.raises(td.ShapeError, match=r"stack: tensors have shapes \[2, 3, 4\] and \[3, 4\]"):
        td.stack([t, t[0]])
    with pytest.raises(td.ShapeError, match=r"concat: .* does not fit"):
        td.concat([t, t[:, :1]])
    with pytest.raises(td.ShapeError, match="got no tensors"):
        td.concat([])
    with pytest.raises(td.ShapeError, match="a 0-d tensor has no axis"):
        td.concat([1, 2])


def test_splitting() -> None:
    t = td.asarray(X)
    for got, want in zip(t.split(2, 1), (X[:, :2], X[:, 2:]), strict=True):
        same(got, want)
    for got, want in zip(td.split(t, (1, 0, 3), axis=2), (X[..., :1], X[..., 1:1], X[..., 1:]), strict=True):
        same(got, want)
    assert [c.shape for c in t.chunk(2, 2)] == [(2, 3, 2)] * 2
    assert [row.shape for row in t] == [(3, 4)] * 2
    a, b = t
    same(a + b, X[0] + X[1])
    with pytest.raises(td.ShapeError, match=r"split: sizes \[1, 1\] add up to 2, axis 1"):
        t.split((1, 1), 1)


def test_turning() -> None:
    t = td.asarray(X)
    same(td.flip(t), np.flip(X))
    same(td.flip(t, axis=(0, -1)), np.flip(X, (0, -1)))
    same(td.flip(td.zeros((0, 2))), np.zeros((0, 2)))
    same(td.roll(t, 2, axis=1), np.roll(X, 2, 1))
    same(td.roll(t, -5), np.roll(X, -5))
    same(td.roll(t, (1, -1), axis=(0, 2)), np.roll(X, (1, -1), (0, 2)))


def test_repeating() -> None:
    t = td.asarray(X)
    same(td.repeat(t, 3, axis=1), np.repeat(X, 3, 1))
    same(td.repeat(t, 2), np.repeat(X, 2))
    same(td.tile(t, (2, 1, 3)), np.tile(X, (2, 1, 3)))
    same(td.tile(t, (2, 1, 1, 1)), np.tile(X, (2, 1, 1, 1)))
    same(td.tile(t[0, 0], 2), np.tile(X[0, 0], 2))


def test_padding() -> None:
    t = td.asarray(X)
    same(td.pad(t, 1), np.pad(X, 1))
    same(td.pad(t, (1, 2), value=7), np.pad(X, (1, 2), constant_values=7))
    same(td.pad(t, ((0, 0), (1, 0), (0, 2)), value=-1), np.pad(X, ((0, 0), (1, 0), (0, 2)), constant_values=-1))
    same(td.pad(td.ones(2), 1, value=float("inf")), [np.inf, 1, 1, np.inf])
    with pytest.raises(td.ShapeError, match="do not fit 3 axes"):
        td.pad(t, ((1, 1),))


def test_triangles() -> None:
    t = td.asarray(X)
    for k in (-5, -1, 0, 1, 5):
        same(td.tril(t, k=k), np.tril(X, k))
        same(t.triu(k), np.triu(X, k))
    with pytest.raises(td.ShapeError, match="tril: takes matrices"):
        td.tril(t[0, 0])


def test_repeating_each_element_its_own_number_of_times() -> None:
    t = td.asarray(X)
    counts = np.arange(X.shape[1])
    same(td.repeat(t, td.asarray(counts), axis=1), np.repeat(X, counts, 1))
    same(td.repeat(t, counts.tolist(), axis=-2), np.repeat(X, counts, -2))
    same(td.repeat(t, td.asarray([2]), axis=0), np.repeat(X, [2], 0))
    for repeats, message in ((td.asarray([1, -1, 1]), "-1 repeats"), ([1] * 99, "do not fit axis 0")):
        with pytest.raises(td.ShapeError, match=message):
            td.repeat(td.zeros((3,)), repeats)
    with pytest.raises(td.DTypeError, match="repeats are float32"):
        td.repeat(t, td.ones((1,)))


def test_lists_of_tensors() -> None:
    shapes = [t.shape for t in td.broadcast_arrays(td.ones((2, 1)), td.ones((3,)))]
    assert shapes == [(2, 3), (2, 3)]
    assert isinstance(td.broadcast_arrays(1.0), list)
    grid = td.meshgrid(td.asarray(1.0), td.arange(2))
    assert isinstance(grid, list)
    assert [g.tolist() for g in grid] == [[[1.0], [1.0]], [[0], [1]]]


I = np.int64
NUMPY_INTEGERS: dict[str, tuple[Callable[[td.Tensor], Any], Callable[[Any], Any]]] = {
    "reshape": (lambda t: t.reshape(I(6), 4), lambda x: x.reshape(6, 4)),
    "reshape to one axis": (lambda t: td.reshape(t, I(24)), lambda x: x.reshape(24)),
    "permute": (lambda t: t.permute(I(2), I(0), I(1)), lambda x: x.transpose(2, 0, 1)),
    "transpose": (lambda t: t.transpose(I(0), I(2)), lambda x: x.swapaxes(0, 2)),
    "moveaxis": (lambda t: td.moveaxis(t, I(0), I(2)), lambda x: np.moveaxis(x, 0, 2)),
    "expand_dims": (lambda t: td.expand_dims(t, I(1)), lambda x: np.expand_dims(x, 1)),
    "squeeze": (lambda t: td.squeeze(t[None], I(0)), lambda x: x),
    "flip": (lambda t: td.flip(t, axis=I(1)), lambda x: np.flip(x, 1)),
    "roll": (lambda t: td.roll(t, I(1), axis=I(2)), lambda x: np.roll(x, 1, 2)),
    "roll all": (lambda t: td.roll(t, I(5)), lambda x: np.roll(x, 5)),
    "tile": (lambda t: td.tile(t, I(2)), lambda x: np.tile(x, 2)),
    "split": (lambda t: td.split(t, I(2), axis=2)[1], lambda x: x[:, :, 2:]),
    "split in sizes": (lambda t: td.split(t, np.array([1, 3]), axis=2)[1], lambda x: x[:, :, 1:]),
    "chunk": (lambda t: td.chunk(t, I(2), axis=2)[1], lambda x: x[:, :, 2:]),
    "pad": (lambda t: td.pad(t, I(1)), lambda x: np.pad(x, 1)),
    "pad by pairs": (lambda t: td.pad(t, [(I(1), I(0))] * 3), lambda x: np.pad(x, [(1, 0)] * 3)),
    "tril": (lambda t: td.tril(t, k=I(1)), lambda x: np.tril(x, 1)),
    "sum": (lambda t: t.sum(I(1)), lambda x: x.sum(1)),
    "expand": (lambda t: t.expand(I(2), -1, -1, -1), lambda x: np.broadcast_to(x, (2, 2, 3, 4))),
}


@pytest.mark.parametrize("name", NUMPY_INTEGERS)
def test_sizes_and_axes_may_be_numpy_integers(name: str) -> None:
    ours, theirs = NUMPY_INTEGERS[name]
    got = ours(td.asarray(X))
    same(got, theirs(X))
    assert all(type(n) is int for n in got.shape)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.reshape(24, 1.0),  # a size that is no integer was left out
        lambda t: t.reshape(24, (1,)),
        lambda t: t.permute(2.0, 0, 1),
        lambda t: td.split(t, [1.0, 3.0], axis=2),
        lambda t: td.pad(t, 1.5),
        lambda t: td.pad(t, [(1.5, 1)] * 3),
        lambda t: td.tile(t, 1.5),
        lambda t: td.roll(t, 1.5, axis=0),
        lambda t: td.chunk(t, 2.0),
        lambda t: td.tril(t, k=0.5),
        lambda t: t.sum(1.0),
        lambda t: td.softmax(t.float(), axis=1.5),
    ],
)
def test_sizes_and_axes_that_are_no_integers_are_refused(call: Callable[[Any], Any]) -> None:
    with pytest.raises(td.DTypeError, match="is not a whole number"):
        call(td.asarray(X))


def test_unflatten_and_expand_refuse_what_does_not_fit() -> None:
    t = td.asarray(X)
    same(t.unflatten(-1, (2, 1, -1)), X.reshape(2, 3, 2, 1, 2))
    same(td.zeros((0, 3)).unflatten(0, (2, 0)), np.zeros((2, 0, 3)))
    with pytest.raises(td.ShapeError, match="unflatten: axis 5 is out of range"):
        t.unflatten(5, (2, 1))
    for sizes in [(3, -1), (-1, -1), (5, 1), (0, -1), (-2, -2), ()]:
        with pytest.raises(td.ShapeError, match="do not multiply to 4, the size of axis 2"):
            t.unflatten(2, sizes)
    with pytest.raises(td.ShapeError, match="do not multiply to 1"):
        td.ones((2, 1)).unflatten(1, (-1, -1, -1))
    for sizes in [(4,), (), (-1, 2, 3, 4)]:
        with pytest.raises(td.ShapeError, match=r"expand: .* does not fit i64\[2,3,4\]"):
            t.expand(*sizes)
    for shape in [(-1,), (-1, 2, 3, 4), (2, 3, -4)]:
        with pytest.raises(td.ShapeError, match="broadcast_to"):
            td.broadcast_to(td.asarray(1.0), shape)


def test_pad_refuses_values_that_the_dtype_does_not_hold() -> None:
    same(td.pad(td.ones(1, dtype=td.uint8), 1, value=255), [255, 1, 255])
    same(td.pad(td.ones(1, dtype=td.int8), 1, value=td.asarray(7)), [7, 1, 7])
    assert td.pad(td.ones(1, dtype=td.float64), (0, 1), value=0.1).tolist() == [1.0, 0.1]
    for value in (300, -1):
        with pytest.raises(td.DTypeError, match=f"pad: {value} does not fit uint8"):
            td.pad(td.ones(1, dtype=td.uint8), 1, value=value)
    for value in (1.5, float("nan"), np.float32(1.5)):
        with pytest.raises(td.DTypeError, match="is a float, dtype int64 holds integers"):
            td.pad(td.arange(3), 1, value=value)
