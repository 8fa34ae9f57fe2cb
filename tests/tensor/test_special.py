"""Special functions against PyTorch, and against mpmath where digits are counted."""

import mpmath
import numpy as np
import pytest
import torch

import treadle as td
from tests.tensor.peer import agree

special = td.special
TS = torch.special


def between(low: float, high: float, *shape: int, seed: int = 0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape or (3, 5)).astype(dtype)


UNARY = {
    "lgamma": (torch.lgamma, 0.1, 9),
    "digamma": (torch.digamma, 0.1, 9),
    "i0": (torch.i0, -12, 12),
    "i0e": (TS.i0e, -12, 12),
    "i1": (TS.i1, -12, 12),
    "i1e": (TS.i1e, -12, 12),
    "erfc": (torch.erfc, -3, 3),
    "erfcx": (TS.erfcx, -3, 9),
    "erfinv": (torch.erfinv, -0.99, 0.99),
    "ndtr": (TS.ndtr, -4, 4),
    "log_ndtr": (TS.log_ndtr, -30, 5),
    "ndtri": (TS.ndtri, 1e-5, 0.999),
    "logit": (torch.logit, 0.01, 0.99),
    "entr": (TS.entr, 0.1, 3),
    "sinc": (torch.sinc, -3, 3),
    "expit": (TS.expit, -3, 3),
}


NOT_IN_HALF = {"erfcx", "log_ndtr", "ndtri"}  # in PyTorch


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_number(name: str) -> None:
    theirs, low, high = UNARY[name]
    ours = getattr(special, name)
    agree(ours, theirs, between(low, high), rtol=1e-8, atol=1e-10)
    agree(ours, theirs, between(low, high, dtype=np.float32), rtol=1e-5, atol=1e-6)
    agree(ours, theirs, between(low, high, 0, 2), compiled=False)
    if name not in NOT_IN_HALF:
        agree(ours, theirs, between(low, high, dtype=np.float16), compiled=False, rtol=4e-3, atol=4e-3)
    assert ours(td.asarray([[1, 0]])).dtype is td.float32


@pytest.mark.parametrize("name", sorted(set(UNARY) - {"erfcx", "i0", "i1", "expit"}))
def test_special_values(name: str) -> None:
    x = np.array([0.0, -0.0, 1.0, -1.0, -2.0, 2.0, 0.5, np.inf, np.nan])
    ours, theirs = getattr(special, name), UNARY[name][0]
    agree(ours, theirs, x, compiled=False, gradients=False, rtol=1e-12)


@pytest.mark.parametrize("name", ["lgamma", "digamma"])
def test_the_gamma_function_left_of_zero(name: str) -> None:
    x = between(-9, 0, 40)
    x = x[np.abs(x - np.round(x)) > 0.02]
    agree(getattr(special, name), getattr(torch, name), x, rtol=1e-7, atol=1e-10)


def test_the_gamma_function_keeps_its_digits_near_its_zeros() -> None:
    x = np.array([0.999, 1.0001, 1.3, 1.5, 1.74, 1.9999, 2.0001, 2.2])
    want = np.array([float(mpmath.loggamma(v)) for v in x])
    np.testing.assert_allclose(special.lgamma(x).numpy(), want, rtol=1e-14)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_polygamma(n: int) -> None:
    agree(lambda x: td.polygamma(n, x), lambda x: torch.polygamma(n, x), between(0.2, 9), rtol=1e-8)
    below = np.array([-0.3, -1.7, -4.5])
    want = [float(mpmath.polygamma(n, v)) for v in below]
    np.testing.assert_allclose(td.polygamma(n, below).numpy(), want, rtol=1e-12)


def test_tails_do_not_underflow() -> None:
    p = np.array([1e-300, 1e-100, 1e-20, 1e-3])
    agree(special.ndtri, TS.ndtri, p, gradients=False, rtol=1e-12)
    x = td.asarray(np.array([-1e6, -300.0, -40.0])).requires_grad_()
    special.log_ndtr(x).sum().backward()
    # mpmath: the density over the distribution function, where both are far below what float64 holds.
    with mpmath.workdps(40):
        want = [float(mpmath.npdf(v) / mpmath.ncdf(v)) for v in x.tolist()]
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-13)
    agree(special.log_ndtr, TS.log_ndtr, np.array([-1e6, -300.0, -40.0]), gradients=False, rtol=1e-12)


def test_multigammaln_and_zeta() -> None:
    for p in (1, 2, 4):
        agree(lambda x, p=p: special.multigammaln(x, p), lambda x, p=p: TS.multigammaln(x, p), between(3, 9), rtol=1e-8)
    s, q = between(1.1, 9, 4, 1), between(0.2, 9, 3, seed=1)
    agree(special.zeta, TS.zeta, s, q, gradients=False)
    with pytest.raises(td.DTypeError, match="multigammaln: 0 dimensions"):
        special.multigammaln(s, 0)


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_the_incomplete_gamma_function(name: str) -> None:
    a = np.concatenate([between(0.01, 5, 20), between(10, 1000, 20)])
    x = a * between(0.5, 1.5, 40, seed=3)
    ours, theirs = getattr(special, name), getattr(TS, name)
    agree(ours, theirs, a, x, gradients=False, rtol=1e-8)
    t, u = torch.tensor(x, requires_grad=True), td.asarray(x).requires_grad_()
    theirs(torch.tensor(a), t).sum().backward()
    ours(a, u).sum().backward()
    np.testing.assert_allclose(u.grad.numpy(), t.grad.numpy(), rtol=1e-9, atol=1e-14)
    edges = np.array([0.0, 0, 1, 1, np.inf, 1, np.nan, -1]), np.array([0.0, 1, 0, np.inf, 1, -1, 1, 1])
    agree(ours, theirs, *edges, gradients=False, compiled=False)
    assert ours(np.ones((2, 1)), np.ones(3)).shape == (2, 3)


def test_products_with_logarithms() -> None:
    x = np.array([[0.0, 0.0, 2.0, -1.0, 0.0]])
    y = np.array([[0.0], [1.5], [np.nan]])
    for ours, theirs in ((td.xlogy, torch.xlogy), (special.xlog1py, TS.xlog1py)):
        agree(ours, theirs, x, y, gradients=False)
        agree(ours, theirs, between(0.5, 2), between(0.5, 2, seed=1))


def test_logit_with_a_limit() -> None:
    agree(lambda x: td.logit(x, 0.1), lambda x: torch.logit(x, 0.1), between(-0.5, 1.5))


def test_orders_that_do_not_exist() -> None:
    with pytest.raises(td.DTypeError, match="polygamma: the order -1 is not possible"):
        td.polygamma(-1, 1.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sinc_of_whole_numbers_is_next_to_zero(dtype: str) -> None:
    """In float16 itself pi x would be wrong by more than the sine that is to come."""
    x = np.array([0, -0.0, 1, 2, -3, 100, 0.5, -1.5, 100.5, np.inf, np.nan])
    got = td.sinc(td.asarray(x, dtype=dtype))
    want = torch.sinc(torch.tensor(x).to(getattr(torch, dtype)))
    assert got.dtype.name == dtype
    np.testing.assert_allclose(got.astype("float64").numpy(), want.double().numpy(), rtol=1e-2, atol=1e-6)


def test_lgamma_of_huge_negative_numbers_is_infinite() -> None:
    x = np.array([-1.79e308, -9e307, -1e300, -1e17, -np.inf, np.inf, -3.0])
    np.testing.assert_array_equal(td.special.gammaln(td.asarray(x)).numpy(), np.full(x.shape, np.inf))
