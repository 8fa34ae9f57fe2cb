"""Copies with a part replaced against PyTorch."""

import numpy as np
import pytest
import torch

import treadle as td
from tests.tensor.peer import agree

RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 3))


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def test_slices_along_an_axis() -> None:
    for axis, index in ((0, 1), (1, -1), (-1, 0)):
        agree(lambda x, a=axis, i=index: td.select(x, a, i), lambda x, a=axis, i=index: torch.select(x, a, i), X)
        shape = [n for a, n in enumerate(X.shape) if a != axis % 3]
        agree(
            lambda x, s, a=axis, i=index: td.select_scatter(x, s, a, i),
            lambda x, s, a=axis, i=index: torch.select_scatter(x, s, a, i),
            X,
            draw(*shape),
        )
    agree(lambda x: td.narrow(x, 1, -3, 2), lambda x: torch.narrow(x, 1, -3, 2), X)
    agree(lambda x: td.narrow(x, 0, 4, 0), lambda x: torch.narrow(x, 0, 4, 0), X)
    for a, b, step, n in ((1, 4, 1, 3), (None, None, 2, 3), (-2, None, 1, 2), (3, 100, 1, 2)):
        agree(
            lambda x, s, k=(a, b, step): td.slice_scatter(x, s, 1, *k),
            lambda x, s, k=(a, b, step): torch.slice_scatter(x, s, 1, *k),
            X,
            draw(4, n, 3),
        )


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (2, 3, 4)])
@pytest.mark.parametrize("offset", [0, 1, -2])
def test_diagonals(shape: tuple[int, ...], offset: int) -> None:
    x, dims = draw(*shape), (0, 1) if len(shape) == 2 else (2, 0)
    part = torch.diagonal(torch.tensor(x), offset, *dims)
    agree(
        lambda x, s: td.diagonal_scatter(x, s, offset, *dims),
        lambda x, s: torch.diagonal_scatter(x, s, offset, *dims),
        x,
        draw(*part.shape),
    )


@pytest.mark.parametrize("accumulate", [False, True])
def test_indices(accumulate: bool) -> None:
    i, j = np.array([0, 3, 1]), np.array([2, 0, 4])
    agree(
        lambda x, i, j, v: td.index_put(x, (i, j), v, accumulate),
        lambda x, i, j, v: torch.index_put(x, (i, j), v, accumulate),
        X, i, j, draw(3, 3),
    )  # fmt: skip
    agree(
        lambda x, i, v: td.index_put(x, (None, i), v, accumulate),
        lambda x, i, v: torch.ops.aten.index_put(x, [None, i], v, accumulate),
        X, i, draw(4, 3, 3),
    )  # fmt: skip
    agree(
        lambda x, i, v: td.put(x, i, v, accumulate),
        lambda x, i, v: torch.Tensor.put(x, i, v, accumulate),
        X, np.array([[0, 7], [59, -3]]), draw(2, 2),
    )  # fmt: skip
    mask = X[..., 0] > 0
    agree(
        lambda x, v: td.index_put(x, (td.asarray(mask),), v, accumulate),
        lambda x, v: torch.index_put(x, (torch.tensor(mask),), v, accumulate),
        X, draw(int(mask.sum()), 3),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:index_reduce")  # PyTorch calls its own a beta
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("reduce", ["prod", "mean", "amax", "amin"])
def test_index_reduce(reduce: str, include_self: bool) -> None:
    index = np.array([0, 3, 0])
    agree(
        lambda x, i, s: td.index_reduce(x, 0, i, s, reduce, include_self=include_self),
        lambda x, i, s: torch.index_reduce(x, 0, i, s, reduce, include_self=include_self),
        X, index, draw(3, 5, 3),
    )  # fmt: skip


def test_what_does_not_fit() -> None:
    x = td.asarray(X)
    for call, message in (
        (lambda: td.select_scatter(x, x, 0, 1), "select_scatter: src .* It must have shape .5, 3."),
        (lambda: td.slice_scatter(x, x, 0, 1), "slice_scatter: src"),
        (lambda: td.diagonal_scatter(x, x), "diagonal_scatter: src"),
        (lambda: td.narrow(x, 0, 2, 3), "narrow: 3 elements from 2 on do not lie on axis 0"),
        (lambda: td.select(td.asarray(1.0), 0, 0), "select: a 0-d tensor has no axis"),
        (lambda: td.put(x, td.asarray([1]), x), "put: index"),
    ):
        with pytest.raises(td.ShapeError, match=message):
            call()
    with pytest.raises(td.DTypeError, match="index_reduce: no reduction 'sum'"):
        td.index_reduce(x, 0, td.asarray([0]), x[:1], "sum")


def test_narrow_starts_at_a_whole_number() -> None:
    x = td.ones((5, 3))
    assert td.narrow(x, 0, td.asarray(1), 2).shape == (2, 3)
    for start in (td.asarray(True), td.asarray(1.0), 1.5):
        with pytest.raises(td.DTypeError, match=r"narrow: .* is not a whole number"):
            td.narrow(x, 0, start, 2)
