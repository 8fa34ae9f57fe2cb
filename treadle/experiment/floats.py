"""The numbers of a result: plain floats when one comparison is made, arrays when many are made at once.

Every formula of this package works on arrays with any leading axes (days, segments, 10,000 replicates). `floats` brings
in what a caller gave, `plain` hands out a float where there is only one.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from treadle.core import ConfigError

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Floats = float | Array
Alternative = Literal["two-sided", "greater", "less"]

ALTERNATIVES = ("two-sided", "greater", "less")


def floats(x: ArrayLike) -> Array:
    """Return `x` as an array of float64; a single number has no axes."""
    return np.asarray(x, np.float64)


def plain(x: ArrayLike) -> Floats:
    """Return `x` as a float if it is a single number, else as an array of float64."""
    array = floats(x)
    return float(array) if array.ndim == 0 else array


def divide(a: ArrayLike, b: ArrayLike) -> Array:
    """Return a / b, NaN where `b` is zero: a quotient that does not exist is not infinite."""
    a, b = np.broadcast_arrays(floats(a), floats(b))
    out = np.full(a.shape, np.nan)
    return np.divide(a, b, out=out, where=b != 0)


def two_sum(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Return a + b rounded, and what rounding took from it, exactly (Knuth; Moller 1965)."""
    a, b = floats(a), floats(b)
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def root(x: ArrayLike) -> Array:
    """Return the square root, NaN where `x` is negative or NaN."""
    x = floats(x)
    return np.sqrt(x, out=np.full(x.shape, np.nan), where=x >= 0)


def upper_tail(statistic: ArrayLike, df: ArrayLike = np.inf) -> Array:
    """Return P(T > statistic) under Student's t; infinite degrees of freedom are the normal distribution."""
    return floats(special.stdtr(floats(df), -floats(statistic)))


def critical(tail: ArrayLike, df: ArrayLike = np.inf) -> Array:
    """Return the value that Student's t with `df` degrees of freedom exceeds with probability `tail`."""
    return floats(-special.stdtrit(floats(df), floats(tail)))


def check_level(op: str, confidence_level: float) -> float:
    """Return the error probability 1 - confidence_level.

    Raises:
        ConfigError: the level is not strictly between 0 and 1.
    """
    if not 0 < confidence_level < 1:
        raise ConfigError(
            f"{op}: confidence_level is {confidence_level}; it is a probability such as 0.95, not a per cent."
        )
    return 1 - confidence_level


def check_option(op: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of the names `allowed`."""
    if value not in allowed:
        raise ConfigError(f"{op}: {name}={value!r} is unknown; give one of {', '.join(map(repr, allowed))}.")
