"""Diagonals, triangles, rotations and windows against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import treadle as td
from treadle.core import ShapeError


def same(got: td.Tensor, want: torch.Tensor) -> None:
    assert got.shape == tuple(want.shape)
    np.testing.assert_array_equal(got.numpy(), want.numpy())


X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


@pytest.mark.parametrize("offset", [-4, -1, 0, 2, 5])
def test_diagonals(offset: int) -> None:
    x, t = td.asarray(X), torch.tensor(X)
    for axes in [(0, 1), (1, 0), (2, 3), (3, 1), (-1, 0)]:
        same(x.diagonal(offset, *axes), t.diagonal(offset, *axes))
    for axes in [(0, 1), (1, 0), (-2, -1), (-1, -2), (0, 2), (2, 0)]:
        same(td.diag_embed(x[0, 0], offset, *axes), torch.diag_embed(t[0, 0], offset, *axes))
    same(td.diag(x[0, 0, 0], offset), torch.diag(t[0, 0, 0], offset))
    same(td.diag(x[0, 0], offset), torch.diag(t[0, 0], offset))
    same(td.diag(td.zeros((0,)), offset), torch.diag(torch.zeros(0), offset))
    same(td.tril_indices(3, 5, offset), torch.tril_indices(3, 5, offset))
    same(td.triu_indices(4, 2, offset), torch.triu_indices(4, 2, offset))


def test_trace() -> None:
    assert td.asarray(X)[0, 0].trace().item() == X[0, 0].trace()
    assert td.trace(td.ones((3, 3), dtype=td.int8)).dtype is td.int64


def test_gradients_of_diagonals() -> None:
    x = X[0, 0].astype(np.float64)
    t = torch.tensor(x, requires_grad=True)
    (torch.diag_embed(torch.diagonal(t, 1) ** 2, -1) * torch.arange(25.0).reshape(5, 5)).sum().backward()
    weight = td.asarray(np.arange(25.0).reshape(5, 5))
    got = td.grad(lambda x: (td.diag_embed(td.diagonal(x, 1) ** 2, -1) * weight).sum())(td.asarray(x))
    assert t.grad is not None
    same(got, t.grad)


@pytest.mark.parametrize("k", range(-3, 5))
def test_rotations_and_reversals(k: int) -> None:
    x, t = td.asarray(X), torch.tensor(X)
    for axes in [(0, 1), (2, 1), (-1, 0)]:
        same(x.rot90(k, axes), t.rot90(k, axes))
        same(td.rot90(x, k, axes=axes), t.rot90(k, axes))
    same(td.fliplr(x), t.fliplr())
    same(x.flipud(), t.flipud())
    same(x.roll(k, axis=1), t.roll(k, 1))


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_windows(size: int, step: int) -> None:
    for axis in (0, 1, 2, -1):
        same(td.asarray(X).unfold(axis, size, step), torch.tensor(X).unfold(axis, size, step))
    same(td.asarray(3.0).unfold(0, min(size, 1), step), torch.tensor(3.0).unfold(0, min(size, 1), step))


def test_gradient_of_windows() -> None:
    t = torch.arange(7.0, dtype=torch.float64, requires_grad=True)
    (t.unfold(0, 3, 2) ** 2).sum().backward()
    got = td.grad(lambda x: (x.unfold(0, 3, 2) ** 2).sum())(td.asarray(np.arange(7.0)))
    assert t.grad is not None
    same(got, t.grad)


def test_repeats() -> None:
    x, t = td.asarray(X), torch.tensor(X)
    same(x.repeat_interleave(2), t.repeat_interleave(2))
    same(td.repeat_interleave(x, 3, 1), t.repeat_interleave(3, 1))
    same(x.repeat_interleave(td.asarray([1, 0, 2]), 1), t.repeat_interleave(torch.tensor([1, 0, 2]), 1))
    same(x.tile((2, 1, 3)), t.tile((2, 1, 3)))


def test_errors() -> None:
    x = td.zeros((3, 4))
    for call, message in [
        (lambda: td.rot90(x[0]), r"rot90: axes \(0, 1\) of f32\[4\] are no plane"),
        (lambda: td.rot90(x, 1, (0, -2)), "are the same axis"),
        (lambda: td.fliplr(x[0]), "fliplr: f32.4. has no second axis"),
        (lambda: td.flipud(x[0, 0]), "flipud: a 0-d tensor"),
        (lambda: td.diagonal(x[0]), "diagonal: there are 1 axes"),
        (lambda: td.diagonal(x, 0, 1, 1), "axes 1 and 1 are the same"),
        (lambda: td.diag(td.zeros((2, 2, 2))), "diag: takes a vector or a matrix"),
        (lambda: td.diag_embed(x[0, 0]), "diag_embed: a 0-d tensor"),
        (lambda: td.trace(x[0]), "trace: takes a matrix"),
        (lambda: td.tril_indices(-1, 2), "tril_indices: a matrix of -1 x 2"),
        (lambda: x.unfold(0, 4, 1), "unfold: windows of 4, one every 1, do not fit axis 0"),
        (lambda: x.unfold(0, 2, 0), "one every 0"),
    ]:
        with pytest.raises(td.TreadleError, match=message):
            call()


def test_repeat_interleave_takes_the_size_it_makes() -> None:
    x = td.asarray([[1, 2], [3, 4]])
    assert td.repeat_interleave(x, [1, 2], dim=0, output_size=3).tolist() == [[1, 2], [3, 4], [3, 4]]
    assert td.repeat_interleave(x, 2, output_size=8).shape == (8,)
    with pytest.raises(ShapeError, match="repeat_interleave: output_size is 4, and the repeats make 3"):
        td.repeat_interleave(x, [1, 2], dim=-1, output_size=4)
