"""Random positions and orders as pure functions of a seed and a counter: nothing to save, nothing to replay."""

from typing import Any

import numpy as np

from treadle.core import ConfigError

Indices = np.ndarray[Any, np.dtype[np.int64]]
UINT64 = 2**64


def positions(seed: int, counter: int, count: int, size: int) -> Indices:
    """Return `count` positions in [0, size), the same for the same seed and counter on every machine."""
    # 64 random bits modulo size: for a size below 2**40 no position is favoured by more than one part in 2**24.
    return (_bits(seed, counter, count) % np.uint64(size)).astype(np.int64)


def permutation(seed: int, counter: int, size: int) -> Indices:
    """Return 0 .. size-1 in an order that depends on seed and counter alone."""
    return np.argsort(_bits(seed, counter, size), kind="stable").astype(np.int64)


def generator(seed: int, epoch: int, batch: int) -> np.random.Generator:
    """Return NumPy's generator for one batch of one epoch."""
    if min(seed, epoch, batch) < 0 or max(seed, epoch, batch) >= UINT64:
        raise ConfigError(f"random: seed {seed}, epoch {epoch} and batch {batch} must be from 0 to 2**64 - 1.")
    return np.random.Generator(np.random.Philox(key=seed, counter=(epoch << 192) + (batch << 128)))


def _bits(seed: int, counter: int, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    if not 0 <= seed < UINT64 or not 0 <= counter < UINT64:
        raise ConfigError(f"random: seed {seed} and counter {counter} must be whole numbers from 0 to 2**64 - 1.")
    # Philox of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The counter goes into the high word,
    # so
    # that streams of different counters never meet. The raw stream is the part NumPy promises never to change.
    return np.random.Philox(key=seed, counter=counter << 192).random_raw(count)
