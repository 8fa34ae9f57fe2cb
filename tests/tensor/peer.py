"""PyTorch as a second opinion on functions of the namespace: values, dtypes, gradients, and the same compiled."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import treadle as td


def flat(result: Any) -> list[Any]:
    return [r for part in result for r in flat(part)] if isinstance(result, tuple | list) else [result]


def agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: Any,
    rtol: float = 1e-9,
    atol: float = 1e-12,
    compiled: bool = True,
    gradients: bool = True,
) -> None:
    """Assert that both give the same of `arrays`; float64 ones are differentiated with respect to, too."""
    wanted = [gradients and a.dtype == np.float64 for a in arrays]
    xs = [td.asarray(a, requires_grad=w) for a, w in zip(arrays, wanted, strict=True)]
    ts = [torch.tensor(a, requires_grad=w) for a, w in zip(arrays, wanted, strict=True)]
    got, want = flat(ours(*xs)), flat(theirs(*ts))
    hold(got, want, rtol, atol)
    if compiled:
        hold(flat(td.compile(lambda *given: flat(ours(*given)))(*arrays)), want, rtol, atol)
    pairs = [(g, w) for g, w in zip(got, want, strict=True) if w.requires_grad]
    if not pairs:
        return
    weights = [np.random.default_rng(k).uniform(0.5, 1.5, w.shape) for k, (_, w) in enumerate(pairs)]
    sum((g * k).sum() for (g, _), k in zip(pairs, weights, strict=True)).backward()
    sum((w * torch.tensor(k)).sum() for (_, w), k in zip(pairs, weights, strict=True)).backward()
    for x, t in zip(xs, ts, strict=True):
        if t.grad is not None:
            assert x.grad is not None
            np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=rtol * 10, atol=atol * 10)


def hold(got: list[Any], want: list[Any], rtol: float, atol: float) -> None:
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert tuple(g.shape) == tuple(w.shape)
        assert g.dtype.name == str(w.dtype).removeprefix("torch.")
        np.testing.assert_allclose(g.numpy(), w.detach().numpy(), rtol=rtol, atol=atol)
