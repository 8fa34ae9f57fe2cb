"""Where a token stands, told to attention: sines of fixed wavelengths, and rotations of queries and keys."""

from __future__ import annotations

import math

import numpy as np

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, creation
from treadle.tensor import elementwise as ew
from treadle.tensor.manipulation import concat, stack
from treadle.tensor.promotion import Operand, as_tensor


def sinusoidal_positions(length: int, width: int, base: float = 10000.0) -> Tensor:
    """Return [length, width] with sin(t / base^(2k/width)) in columns 2k, the cosine in 2k + 1.

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    if length < 0 or width < 1:
        raise ConfigError(f"sinusoidal_positions: length {length} and width {width} must be at least 0 and 1.")
    even = np.arange(0, width, 2)
    angles = np.arange(length)[:, None] * np.exp(even * (-math.log(base) / width))
    table = np.zeros((length, width), np.float32)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles[:, : width // 2])
    return creation.asarray(table)


def rotary_embedding(
    input: Operand, positions: Operand | None = None, *, base: float = 10000.0, interleaved: bool = False
) -> Tensor:
    """Return [..., T, D] with pairs of elements turned by t / base^(2k/D), so that products see distances alone.

    Su et al. 2021, arXiv:2104.09864.

    Args:
        input: queries or keys; D is even.
        positions: the t of each row, [T] or, where it differs along axes in front, [..., T]; 0, 1, ... when None.
        base: sets the longest wavelength.
        interleaved: pairs are neighbours (2k, 2k + 1), as in the paper; else (k, k + D/2), as in GPT-NeoX and Llama.
    """
    x = as_tensor("rotary_embedding", input)
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ShapeError(f"rotary_embedding: {x.node.type!r} is not [..., T, D] with an even D.")
    length, half = x.shape[-2], x.shape[-1] // 2
    at = creation.arange(length) if positions is None else as_tensor("rotary_embedding", positions)
    if at.shape[-1:] != (length,):
        raise ShapeError(f"rotary_embedding: positions {at.node.type!r} do not fit {length} rows. Give one for each.")
    frequencies = np.exp(np.arange(half) * (-math.log(base) / max(half, 1))).astype(np.float32)
    angles = at.astype("float32").reshape((*at.shape, 1)) * creation.asarray(frequencies)
    cos, sin = ew.cos(angles).astype(x.dtype), ew.sin(angles).astype(x.dtype)
    if interleaved:
        pairs = x.reshape((*x.shape[:-1], half, 2))
        a, b = pairs[..., 0], pairs[..., 1]
        return stack((a * cos - b * sin, a * sin + b * cos), axis=-1).reshape(x.shape)
    a, b = x[..., :half], x[..., half:]
    return concat((a * cos - b * sin, a * sin + b * cos), axis=-1)
