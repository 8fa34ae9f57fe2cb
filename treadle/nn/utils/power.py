"""The largest singular value of a weight by power iteration: what spectral normalisation divides by."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.nn.conv import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from treadle.nn.functional import normalize
from treadle.nn.module import Module
from treadle.nn.parameter import Buffer
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.manipulation import moveaxis
from treadle.tensor.products import mv
from treadle.tensor.random import normal


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """Return the weight as [size of axis `dim`, all others]."""
    return moveaxis(weight, dim, 0).reshape((weight.shape[dim], -1))


def output_axis(module: Module) -> int:
    """Return the axis of a layer's weight that counts its outputs."""
    return 1 if isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d) else 0


def first_vectors(matrix: Tensor, eps: float) -> tuple[Buffer, Buffer]:
    """Return random vectors of length 1, for the rows and the columns of a matrix."""
    u, v = (Buffer(normalize(normal((n,), dtype=matrix.dtype), dim=0, eps=eps)) for n in matrix.shape)
    return u, v


def iterate(matrix: Tensor, u: Buffer, v: Buffer, steps: int, eps: float) -> None:
    """Turn u and v towards the singular vectors of the largest singular value, in place."""
    with set_grad_enabled(False):
        held = matrix.detach()
        left, right = u.read(), v.read()
        for _ in range(steps):
            right = normalize(mv(held.mT, left), dim=0, eps=eps)
            left = normalize(mv(held, right), dim=0, eps=eps)
        u.value, v.value = left, right


def check_steps(what: str, steps: int) -> None:
    """Raise ConfigError unless there is at least one step."""
    if steps < 1:
        raise ConfigError(f"{what}: n_power_iterations is {steps}. It must be at least 1.")
