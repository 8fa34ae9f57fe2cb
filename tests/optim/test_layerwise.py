"""LARS and LAMB against their papers' equations in NumPy."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError

SHAPES = ((4, 3), (4,), (2, 2, 3))


def run(make, steps: int = 20, compiled: bool = True, zero: bool = False):
    """Return the parameters after every step, their first values, and the gradients."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s).astype(np.float32) * (0 if zero else 1) for s in SHAPES]
    grads = [[rng.standard_normal(s).astype(np.float32) for s in SHAPES] for _ in range(steps)]
    params = [nn.Parameter(v.copy()) for v in values]
    optimizer = make(params)

    def step(*gs):
        for p, g in zip(params, gs, strict=True):
            p.grad = td.asarray(g)
        optimizer.step()
        optimizer.zero_grad()

    call = td.compile(step) if compiled else step
    history = []
    for gs in grads:
        call(*gs)
        history.append([np.asarray(p) for p in params])
    return history, values, grads


def lars(values, grads, lr, momentum, decay, trust, eps=1e-8):
    ws, vs = [w.astype(np.float64) for w in values], [np.zeros_like(w, np.float64) for w in values]
    for gs in grads:
        for i, g in enumerate(gs):
            w, norm, slope = ws[i], np.linalg.norm(ws[i]), np.linalg.norm(g)
            local = trust * norm / (slope + decay * norm + eps) if trust and norm and slope else 1.0
            vs[i] = momentum * vs[i] + lr * local * (g + decay * w)
            ws[i] = w - vs[i]
        yield [w.copy() for w in ws]


def lamb(values, grads, lr, b1, b2, eps, decay):
    ws = [w.astype(np.float64) for w in values]
    ms, vs = ([np.zeros_like(w) for w in ws] for _ in range(2))
    for t, gs in enumerate(grads, 1):
        for i, g in enumerate(gs):
            ms[i] = b1 * ms[i] + (1 - b1) * g
            vs[i] = b2 * vs[i] + (1 - b2) * g.astype(np.float64) ** 2
            r = ms[i] / (1 - b1**t) / (np.sqrt(vs[i] / (1 - b2**t)) + eps) + decay * ws[i]
            norm, size = np.linalg.norm(ws[i]), np.linalg.norm(r)
            ws[i] = ws[i] - lr * (norm / size if norm and size else 1.0) * r
        yield [w.copy() for w in ws]


def close(history, reference):
    for found, expected in zip(history, reference, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("momentum", "decay", "trust"), [(0.9, 0.0, 1e-3), (0.5, 0.1, 0.05), (0.0, 0.1, 0.0)])
def test_lars(momentum, decay, trust, compiled):
    history, values, grads = run(lambda ps: optim.LARS(ps, 0.3, momentum, decay, trust), compiled=compiled)
    close(history, lars(values, grads, 0.3, momentum, decay, trust))


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize(("betas", "decay"), [((0.9, 0.999), 0.0), ((0.7, 0.8), 0.1)])
def test_lamb(betas, decay, zero):
    history, values, grads = run(lambda ps: optim.LAMB(ps, 0.05, betas, 1e-6, decay), zero=zero)
    close(history, lamb(values, grads, 0.05, *betas, 1e-6, decay))


def test_wrong_settings_are_refused():
    p = nn.Parameter(td.zeros((2,)))
    with pytest.raises(ConfigError, match=r"LARS: momentum is 1\.0\. Allowed"):
        optim.LARS([p], momentum=1.0)
    with pytest.raises(ConfigError, match="LAMB: eps is -1"):
        optim.LAMB([p], eps=-1)
