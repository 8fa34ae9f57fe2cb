"""Shapes, axes, joining, splitting, repeating and padding against NumPy."""

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
