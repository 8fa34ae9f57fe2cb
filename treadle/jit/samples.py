"""What a Plan is measured on: copies of what the user holds, made-up numbers where nothing is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from treadle.core import Type, from_numpy

Array = np.ndarray[Any, Any]


@dataclass
class Origin:
    """The compiled function behind a Plan.

    Attributes:
        name: the function's.
        file: where it is defined.
        reasons: why each of its Plans after the first was needed; it grows with the function.
        holds: returns what the Plan's inputs hold now, None where that is not known.
    """

    name: str = ""
    file: str = ""
    reasons: list[str] = field(default_factory=list[str])
    holds: Callable[[], Sequence[Array | None]] = list


def sample_inputs(
    types: Sequence[Type], held: Sequence[Array | None], overwritten: set[int]
) -> tuple[list[Array], int]:
    """Return arrays to run on, and how many are made up; those that will be overwritten are copies."""
    found: list[Array] = []
    made_up = 0
    for k, of in enumerate(types):
        array = held[k] if k < len(held) else None
        if array is None or Type(from_numpy(array.dtype), array.shape) != of or not array.flags.c_contiguous:
            made_up += 1
            found.append(_made_up(of, k))
        else:
            found.append(array.copy() if k in overwritten else array)
    return found, made_up


def _made_up(of: Type, seed: int) -> Array:
    """Return normal floats, and integers that are 0: an index that is always in range."""
    if not of.dtype.is_float:
        return np.full(of.shape, 0, of.dtype.numpy)
    return np.random.default_rng(seed).standard_normal(of.shape, np.float32).astype(of.dtype.numpy)
