"""Norms and condition numbers against PyTorch: orders, axes, gradients also at 0, sizes 0 and 1."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn

LA = td.linalg
ORDERS = [2, 1, 3, 0.5, 2.5, -1, -2, 0, math.inf, -math.inf]
MATRIX_ORDERS = ["fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf]


def same(got: td.Tensor, want: torch.Tensor, tolerance: float = 1e-10) -> None:
    assert got.shape == tuple(want.shape)
    np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=tolerance, atol=tolerance)


def gradients(ours: Any, theirs: Any, x: np.ndarray, tolerance: float = 1e-9) -> None:
    t = torch.tensor(x, requires_grad=True)
    (want,) = torch.autograd.grad(theirs(t).sum(), t)
    same(td.grad(lambda x: ours(x).sum())(td.asarray(x)), want, tolerance)


@pytest.mark.parametrize("ord", ORDERS)
def test_vector_norm(ord: float) -> None:
    x = np.random.standard_normal((2, 3, 4))
    for axis in (None, 0, -1, (0, 2), (1, 0), (0, 1, 2)):
        for keep in (False, True):
            same(
                LA.vector_norm(td.asarray(x), axis=axis, keepdims=keep, ord=ord),
                torch.linalg.vector_norm(torch.tensor(x), ord, axis, keep),
            )
        if ord:
            gradients(
                partial(LA.vector_norm, axis=axis, ord=ord), partial(torch.linalg.vector_norm, ord=ord, dim=axis), x
            )
    same(
        LA.vector_norm(td.asarray(-2.0, dtype="float64"), ord=ord),
        torch.linalg.vector_norm(torch.tensor(-2.0).double(), ord),
    )


@pytest.mark.parametrize("ord", [2, 1, 3, math.inf])
def test_the_slope_of_a_norm_that_is_zero_is_zero(ord: float) -> None:
    x = np.zeros((2, 3))
    x[1] = [1.0, -2.0, 0.0]
    gradients(
        lambda x: LA.vector_norm(x, axis=-1, ord=ord)[:1], lambda x: torch.linalg.vector_norm(x, ord, -1)[:1], x[:1] * 0
    )
    gradients(lambda x: LA.vector_norm(x, axis=-1, ord=ord), lambda x: torch.linalg.vector_norm(x, ord, -1), x)


def test_norms_of_nothing() -> None:
    x = td.zeros((0, 3))
    np.testing.assert_array_equal(LA.vector_norm(x, axis=0).numpy(), np.zeros(3))
    assert LA.vector_norm(x, axis=1).shape == (0,)
    assert float(LA.vector_norm(x)) == 0
    with pytest.raises(td.ShapeError, match="max: axis 0"):
        LA.vector_norm(x, axis=0, ord=math.inf)


def test_norms_of_short_floats_do_not_overflow() -> None:
    for dtype in (td.float16, td.bfloat16):
        x = td.full((100,), 300.0, dtype=dtype)
        assert LA.vector_norm(x).dtype is dtype
        np.testing.assert_allclose(float(LA.vector_norm(x)), 3000, rtol=1e-2)


@pytest.mark.parametrize("ord", MATRIX_ORDERS)
def test_matrix_norm(ord: Any) -> None:
    for shape in [(3, 4), (2, 4, 3), (2, 1, 1), (0, 2, 3)]:
        x = np.random.standard_normal(shape)
        for keep in (False, True):
            same(
                LA.matrix_norm(td.asarray(x), ord=ord, keepdims=keep),
                torch.linalg.matrix_norm(torch.tensor(x), ord, keepdim=keep),
            )
        if x.size:
            gradients(lambda x: LA.matrix_norm(x, ord=ord), lambda x: torch.linalg.matrix_norm(x, ord), x)


def test_norm_is_that_of_pytorch() -> None:
    x = np.random.standard_normal((3, 4, 2))
    t, ours = torch.tensor(x), td.asarray(x)
    for arguments in [
        (),
        (None, 1),
        (None, (0, 2)),
        (1, 0),
        (3, -1),
        (2, (0, 1)),
        ("fro", (0, 1)),
        ("nuc", (2, 0)),
        (1, (2, 0)),
    ]:
        for keep in (False, True):
            full = (*arguments, *(None,) * (2 - len(arguments)))
            same(LA.norm(ours, *full, keep), torch.linalg.norm(t, *full, keep))
    same(LA.norm(ours[0], "fro"), torch.linalg.norm(t[0], "fro"))
    same(LA.norm(ours[0, 0], 1), torch.linalg.norm(t[0, 0], 1))
    assert LA.norm(td.ones(3), dtype=td.float64).dtype is td.float64


@pytest.mark.parametrize("p", [None, *MATRIX_ORDERS])
def test_cond(p: Any) -> None:
    x = np.random.standard_normal((2, 3, 3))
    same(LA.cond(td.asarray(x), p), torch.linalg.cond(torch.tensor(x), p), 1e-8)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: LA.vector_norm(td.arange(3)), td.DTypeError, "vector_norm: does not take int64"),
        (lambda: LA.vector_norm(td.ones(3), axis=1), td.ShapeError, "vector_norm: axis 1 is out of range"),
        (lambda: LA.vector_norm(td.ones(3), ord="fro"), ValueError, "vector_norm: ord 'fro' is not the order"),
        (lambda: LA.matrix_norm(td.ones(3)), td.ShapeError, r"matrix_norm: takes matrices, got f32\[3\]"),
        (lambda: LA.matrix_norm(td.ones((2, 2)), ord=3), ValueError, "matrix_norm: ord 3 is unknown"),
        (lambda: LA.norm(td.ones((2, 2, 2)), 2), td.ShapeError, "norm: ord 2 without dim takes a vector or a matrix"),
        (lambda: LA.norm(td.ones((2, 2, 2)), 2, (0, 1, 2)), td.ShapeError, "Allowed: one axis, or two different ones"),
        (lambda: LA.norm(td.ones(2), "nuc"), ValueError, "norm: ord 'nuc' is a norm of matrices"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_norms_of_empty_matrices() -> None:
    for ord in ("fro", "nuc", 2, 1, np.inf):
        assert td.linalg.matrix_norm(td.zeros((2, 0, 3)), ord=ord).tolist() == [0, 0]
    with pytest.raises(td.ShapeError, match="an empty matrix has no singular values"):
        td.linalg.matrix_norm(td.zeros((0, 3)), ord=-2)


@pytest.mark.parametrize("p", [1, 2, 0.5])
def test_renorm_and_dist(p: float) -> None:
    import torch

    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    got, want = td.renorm(td.asarray(x), p, 1, 2.5), torch.renorm(torch.tensor(x), p, 1, 2.5)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9)
    np.testing.assert_allclose(td.dist(x, x[0], p).item(), torch.dist(torch.tensor(x), torch.tensor(x[0]), p).item())


def test_norms_of_order_0_have_the_gradient_0() -> None:
    x = nn.Parameter(td.asarray([[0.0, 2.0], [-0.0, 0.0]]))
    for total in (td.linalg.vector_norm(x, ord=0), td.cdist(x, td.asarray([[1.0, 2.0]]), p=0.0).sum()):
        x.grad = None
        total.backward()
        assert x.grad is not None
        assert x.grad.tolist() == [[0, 0], [0, 0]]
    count = td.linalg.vector_norm(td.asarray([math.nan, math.inf, 0.0, -0.0, 3.0]), ord=0)
    assert float(count) == 3
