"""PyTorch as a second opinion: the same function of the same arrays, values and gradients compared."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import treadle as td


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Return normally distributed numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: np.ndarray,
    rtol: float = 2e-5,
    atol: float = 2e-6,
    fixed: tuple[np.ndarray, ...] = (),
    compiled: bool = False,
) -> None:
    """Assert that both give the same value of `arrays` and `fixed`, and the same gradients with respect to `arrays`."""
    xs = [td.asarray(a).requires_grad_() for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = ours(*xs, *map(td.asarray, fixed))
    z = theirs(*ts, *map(torch.tensor, fixed))
    assert tuple(y.shape) == tuple(z.shape)
    assert y.dtype.name == str(z.dtype).removeprefix("torch.")
    weights = draw(*y.shape, seed=9, dtype=np.asarray(y.detach()).dtype)
    (y * td.asarray(weights)).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(np.asarray(y.detach()), z.detach().numpy(), rtol=rtol, atol=atol)
    for i, (x, t) in enumerate(zip(xs, ts, strict=True)):
        assert x.grad is not None
        assert t.grad is not None
        np.testing.assert_allclose(
            np.asarray(x.grad), t.grad.numpy(), rtol=rtol, atol=atol * 5, err_msg=f"gradient of argument {i}"
        )
    if compiled:
        again = td.compile(ours)(*arrays, *fixed)
        np.testing.assert_allclose(np.asarray(again), z.detach().numpy(), rtol=rtol, atol=atol)
