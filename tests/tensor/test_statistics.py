"""Statistics, integrals and slopes against PyTorch."""

import numpy as np
import pytest
import torch

import treadle as td
from tests.tensor.peer import agree

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5))
HOLES = np.where(RNG.random((3, 4)) < 0.4, np.nan, RNG.standard_normal((3, 4)))
HOLES[1] = np.nan


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_folds(axis, keep: bool) -> None:
    for name in ("nansum", "nanmean"):
        ours, theirs = getattr(td, name), getattr(torch, name)
        agree(lambda x, f=ours: f(x, axis, keep), lambda x, f=theirs: f(x, axis, keep), HOLES, gradients=False)
        some = np.where(np.eye(3, 4, dtype=bool), np.nan, X[:, :, 0])
        agree(lambda x, f=ours: f(x, axis, keep), lambda x, f=theirs: f(x, axis, keep), some)
    for name in ("var_mean", "std_mean"):
        ours, theirs = getattr(td, name), getattr(torch, name)
        for correction in (0, 1, 2):
            agree(
                lambda x, f=ours, c=correction: f(x, axis, correction=c, keepdims=keep),
                lambda x, f=theirs, c=correction: f(x, axis, correction=c, keepdim=keep),
                X,
            )
    agree(lambda x: td.aminmax(x, axis=axis, keepdims=keep), lambda x: torch.aminmax(x, dim=axis, keepdim=keep), X)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (1, 4), (2, 1)])
def test_covariance(shape: tuple[int, ...]) -> None:
    x, n = RNG.standard_normal(shape), shape[-1]
    often, much = RNG.integers(1, 4, n), RNG.uniform(0.5, 2, n)
    for correction in (0, 1):
        if n > correction:
            agree(
                lambda x, c=correction: td.cov(x, correction=c), lambda x, c=correction: torch.cov(x, correction=c), x
            )
        agree(
            lambda x, f, w, c=correction: td.cov(x, correction=c, fweights=f, aweights=w),
            lambda x, f, w, c=correction: torch.cov(x, correction=c, fweights=f, aweights=w.detach()),
            x,
            often + 1,
            much,
            gradients=False,
        )
    if n > 1:
        agree(td.corrcoef, torch.corrcoef, x, rtol=1e-7)


def test_weights_that_do_not_fit() -> None:
    x = RNG.standard_normal((2, 3))
    with pytest.raises(td.ShapeError, match=r"fweights i64.4. do not fit 3 observations"):
        td.cov(x, fweights=np.arange(4))
    with pytest.raises(td.DTypeError, match="fweights are float64"):
        td.cov(x, fweights=np.ones(3))
    with pytest.raises(td.IndexRangeError, match="aweights have -1"):
        td.cov(x, aweights=-np.ones(3))


def test_the_trapezoidal_rule() -> None:
    places = np.cumsum(RNG.uniform(0.1, 1, 4))
    for name in ("trapezoid", "cumulative_trapezoid"):
        ours, theirs = getattr(td, name), getattr(torch, name)
        agree(ours, theirs, X)
        agree(lambda y, f=ours: f(y, dx=0.5, axis=0), lambda y, f=theirs: f(y, dx=0.5, dim=0), X)
        agree(lambda y, x, f=ours: f(y, x, axis=1), lambda y, x, f=theirs: f(y, x, dim=1), X, places)
        agree(lambda y, x, f=ours: f(y, x, axis=1), lambda y, x, f=theirs: f(y, x, dim=1), X, np.cumsum(X**2, axis=1))
        with pytest.raises(td.ShapeError, match="both given"):
            ours(X, X, dx=1)
        with pytest.raises(td.ShapeError, match="do not fit 5 values"):
            ours(X, np.ones(3))


def test_integrals_of_small_integers_do_not_wrap() -> None:
    y = np.array([200, 250, 100], np.uint8)
    assert td.trapezoid(y).item() == 400
    assert td.trapezoid(y, np.array([9, 5, 0], np.uint8)).item() == -4 * 225 - 5 * 175


@pytest.mark.parametrize("edge_order", [1, 2])
def test_slopes(edge_order: int) -> None:
    agree(lambda x: td.gradient(x, edge_order=edge_order), lambda x: torch.gradient(x, edge_order=edge_order), X)
    agree(
        lambda x: td.gradient(x, spacing=0.5, axis=(0, 2), edge_order=edge_order),
        lambda x: torch.gradient(x, spacing=0.5, dim=(0, 2), edge_order=edge_order),
        X,
    )
    places = [np.cumsum(RNG.uniform(0.1, 1, n)) for n in X.shape]
    agree(
        lambda x, *p: td.gradient(x, spacing=list(p), edge_order=edge_order),
        lambda x, *p: torch.gradient(x, spacing=[q.detach() for q in p], edge_order=edge_order),
        X,
        *places,
        gradients=False,
    )
    with pytest.raises(td.ShapeError, match="has 1 elements"):
        td.gradient(np.ones((1,)), edge_order=edge_order)
    with pytest.raises(td.ShapeError, match="2 spacings for 3 axes"):
        td.gradient(X, spacing=[1, 2])
    with pytest.raises(td.ShapeError, match="name the same axis twice"):
        td.gradient(X, axis=(0, 0))
