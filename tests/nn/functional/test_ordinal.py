"""Probabilities of ordered classes: against differences of sigmoids in PyTorch, where these are exact, and beyond."""

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle.core import ShapeError
from treadle.nn import functional as F


def falling(*shape: int, dtype: type = np.float64) -> np.ndarray:
    """Return cumulative logits, which fall along the last axis."""
    return -np.sort(-2 * draw(*shape), axis=-1).astype(dtype)


def reference(x: torch.Tensor) -> torch.Tensor:
    above = torch.sigmoid(x)
    edge = torch.ones_like(x[..., :1])
    return torch.log(torch.cat([edge, above], -1) - torch.cat([above, 0 * edge], -1))


@pytest.mark.parametrize("shape", [(1,), (4,), (5, 1), (5, 6), (0, 3), (2, 3, 4), (1, 1)])
def test_values_and_gradients(shape):
    x = falling(*shape)
    agree(F.ordinal_log_probabilities, reference, x, rtol=1e-9, atol=1e-12, compiled=0 not in shape)


def test_views_that_are_not_contiguous():
    x = falling(6, 8)
    base = td.asarray(np.ascontiguousarray(x.T))
    np.testing.assert_allclose(F.ordinal_log_probabilities(base.mT[::2]), reference(torch.tensor(x[::2])), rtol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 4e-3), ("bfloat16", 3e-2)])
def test_shorter_floats(dtype, tolerance):
    x = td.asarray(falling(20, 5)).astype(dtype)
    p = F.ordinal_log_probabilities(x)
    assert p.dtype.name == dtype
    wide = np.asarray(x.astype("float64"))
    np.testing.assert_allclose(
        np.asarray(p.astype("float64")), reference(torch.tensor(wide)), rtol=tolerance, atol=tolerance
    )


def test_two_classes_are_a_logit():
    x = td.asarray(draw(7, 1))
    y = np.array([0, 1, 1, 0, 1, 0, 0])
    ordinal = F.nll_loss(F.ordinal_log_probabilities(x), td.asarray(y))
    binary = F.binary_cross_entropy_with_logits(x[:, 0], td.asarray(y.astype(np.float32)))
    np.testing.assert_allclose(ordinal, binary, rtol=1e-6)


def test_nothing_overflows_or_cancels():
    # Differences of sigmoids would be 0 here: both round to 1, or to 0.
    x = td.asarray(np.array([[101.0, 100.0], [-100.0, -101.0], [500.0, -500.0]], np.float32)).requires_grad_()
    p = F.ordinal_log_probabilities(x)
    between = -100 + np.log(1 - np.exp(-1))
    np.testing.assert_allclose(p, [[-101, between, 0], [0, between, -101], [-500, 0, -500]], rtol=1e-6, atol=1e-30)
    p.sum().backward()
    assert np.all(np.isfinite(x.grad))


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_no_logits_are_refused(shape):
    with pytest.raises(ShapeError, match=r"ordinal_log_probabilities: input .* has no logits. Give \[\.\.\., C - 1\]"):
        F.ordinal_log_probabilities(td.zeros(shape))
