"""Lion against its paper's equations in NumPy; Rprop's settings."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError


@pytest.mark.parametrize(("betas", "decay"), [((0.9, 0.99), 0.0), ((0.5, 0.7), 0.3)])
def test_lion(betas, decay):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 4))
    p = nn.Parameter(w.astype(np.float32))
    optimizer = optim.Lion([p], 0.01, betas, decay)

    @td.compile
    def step(g):
        p.grad = g
        optimizer.step()
        optimizer.zero_grad()

    m = np.zeros_like(w)
    for _ in range(20):
        g = rng.standard_normal(w.shape).astype(np.float32)
        step(td.asarray(g))
        w = w - 0.01 * (np.sign(betas[0] * m + (1 - betas[0]) * g) + decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
        np.testing.assert_allclose(np.asarray(p), w, rtol=1e-5, atol=1e-6)


def test_wrong_settings_are_refused():
    p = nn.Parameter(td.zeros((2,)))
    with pytest.raises(ConfigError, match=r"Rprop: etas are \(1\.5, 1\.2\)"):
        optim.Rprop([p], etas=(1.5, 1.2))
    with pytest.raises(ConfigError, match=r"Lion: betas\[0\] is 1\.0"):
        optim.Lion([p], betas=(1.0, 0.9))
