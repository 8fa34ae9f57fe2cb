"""Muon against its equations in NumPy, and near PyTorch's, which rounds to bfloat16; its Newton-Schulz steps."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError
from treadle.optim.muon import orthogonal

torch = pytest.importorskip("torch")
COEFFICIENTS = (3.4445, -4.775, 2.0315)


def newton_schulz(x: np.ndarray, steps: int = 5) -> np.ndarray:
    a, b, c = COEFFICIENTS
    x = x.T if x.shape[0] > x.shape[1] else x
    y = x / np.linalg.norm(x)
    for _ in range(steps):
        s = y @ y.T
        y = a * y + (b * s + c * s @ s) @ y
    return y


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (1, 3)])
def test_singular_values_come_near_one(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = np.asarray(orthogonal(td.asarray(x), COEFFICIENTS, 5, 1e-7))
    assert y.shape == shape
    expected = newton_schulz(x.astype(np.float64))
    np.testing.assert_allclose(y, expected.T if shape[0] > shape[1] else expected, rtol=1e-3, atol=1e-4)
    u, _, v = np.linalg.svd(x, full_matrices=False)
    turned = np.linalg.svd(u.T @ y @ v.T, compute_uv=False)
    assert turned.min() > 0.6
    assert turned.max() < 1.3


@pytest.mark.parametrize(
    "options",
    [{}, {"nesterov": False, "lr": 0.1}, {"adjust_lr_fn": "match_rms_adamw", "momentum": 0.8}, {"weight_decay": 0.0}],
    ids=str,
)
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_steps_are_near_pytorchs(shape, options):
    rng = np.random.default_rng(1)
    value = rng.standard_normal(shape).astype(np.float32)
    p, t = nn.Parameter(value.copy()), torch.tensor(value.copy(), requires_grad=True)
    ours, theirs = optim.Muon([p], **options), torch.optim.Muon([t], **options)

    @td.compile
    def step(g):
        p.grad = g
        ours.step()
        ours.zero_grad()

    for _ in range(20):
        g = rng.standard_normal(shape).astype(np.float32)
        step(td.asarray(g))
        t.grad = torch.tensor(g)
        theirs.step()
    moved = np.abs(t.detach().numpy() - value).max()
    np.testing.assert_allclose(np.asarray(p), t.detach().numpy(), atol=0.02 * moved)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"Muon: a parameter has shape \[3\]\. It takes matrices"):
        optim.Muon([nn.Parameter(td.zeros((3,)))])
    with pytest.raises(ConfigError, match=r"adjust_lr_fn is 'x'\. Allowed: None, original"):
        optim.Muon([nn.Parameter(td.zeros((3, 3)))], adjust_lr_fn="x")
