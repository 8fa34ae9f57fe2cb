"""Distances of all pairs and the bilinear layer against PyTorch: values, gradients, edge sizes, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.nn import functional as F

MODES = ["use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


def check(ours: Any, theirs: Any, arrays: list[np.ndarray], tolerance: float = 1e-9) -> None:
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    want = theirs(*inputs)
    got = ours(*[td.asarray(a) for a in arrays])
    assert got.shape == tuple(want.shape)
    np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=tolerance, atol=tolerance)
    weights = np.random.default_rng(3).standard_normal(got.shape)
    expected = torch.autograd.grad((want * torch.tensor(weights)).sum(), inputs)
    found = td.grad(lambda *x: (ours(*x) * weights).sum(), argnums=tuple(range(len(arrays))))(*arrays)
    for g, w in zip(found, expected, strict=True):
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("p", [2.0, 1.0, 0.0, 0.5, 1.5, 3.0, math.inf])
def test_cdist(p: float) -> None:
    for a, b in [((3, 4), (5, 4)), ((2, 3, 4), (2, 1, 4)), ((1, 3, 2), (4, 5, 2)), ((3, 1), (2, 1))]:
        check(lambda x, y: td.cdist(x, y, p), lambda x, y: torch.cdist(x, y, p), [draw(*a), draw(*b) + 0.1])
    for a, b in [((0, 4), (5, 4)), ((3, 4), (0, 4)), ((3, 0), (2, 0)), ((0, 3, 2), (0, 5, 2))]:
        got, want = td.cdist(td.zeros(a), td.zeros(b), p), torch.cdist(torch.zeros(a), torch.zeros(b), p)
        assert got.shape == tuple(want.shape)
        np.testing.assert_array_equal(got.numpy(), want.numpy())


@pytest.mark.parametrize("mode", MODES)
def test_cdist_by_product(mode: str) -> None:
    a, b = draw(30, 6), draw(28, 6)
    check(lambda x, y: td.cdist(x, y, 2.0, mode), lambda x, y: torch.cdist(x, y, 2.0, mode), [a, b], 1e-8)
    plan = td.compile(lambda x, y: td.cdist(x, y, 2.0, mode)).plan(td.asarray(a), td.asarray(b))
    kinds = [s.kernel.kind for s in plan.steps]
    assert kinds.count("matmul") == (mode != MODES[2])
    assert len(kinds) <= 4


def test_the_slope_of_a_distance_of_zero_is_zero() -> None:
    a = draw(3, 4)
    for p in (2.0, 1.0, 3.0, math.inf):
        both = td.grad(lambda x, y: td.cdist(x, y, p).sum(), argnums=(0, 1))(a[:1], a[:1])  # noqa: B023
        for g in both:
            np.testing.assert_array_equal(g.numpy(), np.zeros((1, 4)))


@pytest.mark.parametrize("p", [2.0, 1.0, 3.0, math.inf])
def test_pdist(p: float) -> None:
    for shape in [(5, 3), (2, 1)]:
        check(lambda x: F.pdist(x, p), lambda x: torch.nn.functional.pdist(x, p), [draw(*shape)])
    for rows in (0, 1):
        assert F.pdist(td.zeros((rows, 3)), p).shape == (0,)


def test_bilinear() -> None:
    for lead in [(), (5,), (2, 3), (0,)]:
        arrays = [draw(*lead, 4), draw(*lead, 3), draw(6, 4, 3), draw(6)]
        check(F.bilinear, torch.nn.functional.bilinear, arrays)
        check(F.bilinear, torch.nn.functional.bilinear, arrays[:3])


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "float32", "bfloat16"])
def test_bilinear_keeps_the_dtype(dtype: str) -> None:
    arrays = [np.arange(-3, 3).reshape(2, 3), np.arange(4).reshape(2, 2), np.arange(24).reshape(4, 3, 2) - 9]
    got = F.bilinear(*[td.asarray(a).astype(dtype) for a in arrays])
    want = torch.nn.functional.bilinear(*[torch.tensor(a).to(getattr(torch, dtype)) for a in arrays])
    assert got.dtype.name == dtype
    np.testing.assert_array_equal(got.astype("float64").numpy(), want.double().numpy())


def test_the_bilinear_layer() -> None:
    for bias in (True, False):
        ours, theirs = nn.Bilinear(4, 3, 6, bias), torch.nn.Bilinear(4, 3, 6, bias)
        assert {k: tuple(v.shape) for k, v in theirs.state_dict().items()} == {
            k: v.shape for k, v in ours.state_dict().items()
        }
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        a, b = draw(5, 4).astype("f4"), draw(5, 3).astype("f4")
        want = theirs(torch.tensor(a), torch.tensor(b)).detach().numpy()
        np.testing.assert_allclose(ours(td.asarray(a), td.asarray(b)).numpy(), want, rtol=1e-5, atol=1e-6)
        assert repr(ours) == f"Bilinear({theirs.extra_repr()})"
    bound = nn.Bilinear(100, 3, 6).weight.numpy()
    assert 0.09 < np.abs(bound).max() <= 0.1


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: td.cdist(td.ones(3), td.ones((2, 3))), td.ShapeError, "cdist: .* do not fit"),
        (lambda: td.cdist(td.ones((2, 3)), td.ones((2, 4))), td.ShapeError, "cdist: .* do not fit"),
        (lambda: td.cdist(td.ones((2, 2, 3)), td.ones((3, 2, 3))), td.ShapeError, "cdist: cannot broadcast"),
        (lambda: td.cdist(td.ones((2, 3)), td.ones((2, 3)), -1), ValueError, "cdist: p -1 is not the order"),
        (lambda: td.cdist(td.ones((2, 3)), td.ones((2, 3)), 2, "x"), ValueError, "cdist: compute_mode 'x' is unknown"),
        (lambda: td.cdist(td.arange(4).reshape(2, 2), td.ones((2, 2))), td.DTypeError, "cdist: does not take int64"),
        (lambda: F.pdist(td.ones(3)), td.ShapeError, "pdist: takes a matrix"),
        (lambda: F.pdist(td.ones((3, 2)), -1), ValueError, "pdist: p -1 is not the order"),
        (
            lambda: F.bilinear(td.ones(3), td.ones(2), td.ones((4, 2, 3))),
            td.ShapeError,
            "bilinear: .* do not fit weight",
        ),
        (lambda: nn.Bilinear(0, 1, 1), td.ConfigError, "Bilinear: sizes 0, 1, 1"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("dim", [0, 1, -1, -2])
def test_cosine_similarity_of_operands_that_broadcast(dim: int) -> None:
    rng = np.random.default_rng(0)
    for shapes in (((1, 2, 3), (2, 1, 3)), ((4, 3), (2, 4, 3)), ((2, 3, 4), ())):
        a, b = (rng.standard_normal(s) for s in shapes)
        want = torch.nn.functional.cosine_similarity(torch.tensor(a), torch.tensor(b), dim)
        np.testing.assert_allclose(td.nn.functional.cosine_similarity(a, b, dim).numpy(), want.numpy(), rtol=1e-9)
