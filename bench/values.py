"""How initial values and data are drawn: the helpers of `spec.py` and `vision.py`, in NumPy alone."""

import numpy as np
from numpy.typing import NDArray

F32 = np.float32
Array = NDArray[np.float32]
Values = dict[str, NDArray[np.generic]]
Batch = tuple[NDArray[np.generic], ...]


def normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> Array:
    return rng.standard_normal(shape, dtype=F32) * F32(std)


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> Array:
    return (rng.random(shape, dtype=F32) * 2 - 1) * F32(bound)


def convolution(rng: np.random.Generator, channels_in: int, channels_out: int, taps: int) -> Array:
    """Return a weight [out, in, taps, taps] with He's standard deviation for its fan-in."""
    return normal(rng, (channels_out, channels_in, taps, taps), (2 / (channels_in * taps**2)) ** 0.5)
