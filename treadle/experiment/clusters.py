"""Designs whose unit is a group of rows: clusters (cities, classes, ad campaigns) and the time blocks of a switchback.

What is assigned at random is the group, so the group is the unit: rows are added up to one row a group, and a mean over
rows becomes the ratio of two sums, total over size, whose variance over groups `estimate_ratio` knows. Taking rows for
units would make intervals too narrow by the design effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from treadle.core import ConfigError, DataError, ShapeError

from .estimates import Estimate, estimate_ratio
from .floats import Array, Bools, floats, plain
from .moments import Moments

SIZE = "rows"
"""The column of a table of groups that counts the rows of each."""


class Blocks(NamedTuple):
    """Time blocks of a switchback.

    Attributes:
        block: The block of each row [n], an integer.
        kept: Whether the row counts [n]: not in the burn-in after a switch, while the last treatment still works.
    """

    block: NDArray[np.int64]
    kept: Bools


def group_totals(rows: Mapping[str, ArrayLike], groups: ArrayLike) -> tuple[dict[str, Array], NDArray[np.generic]]:
    """Return the sums of columns over groups of rows, their number as the column "rows", and the groups' sorted labels.

    Args:
        rows: Values [n] by name.
        groups: The label of each row's group [n], such as a city or (for two keys) a code of both.

    Raises:
        ShapeError: lengths differ.
        DataError: a column is named "rows".
    """
    labels, codes = np.unique(np.asarray(groups), return_inverse=True)
    if SIZE in rows:
        raise DataError(f"group_totals: a column is named {SIZE!r}, which is the number of rows; rename it.")
    sums: dict[str, Array] = {}
    for name, values in rows.items():
        if np.shape(values) != codes.shape:
            raise ShapeError(
                f"group_totals: {name} has shape {np.shape(values)} and groups {codes.shape}; both are [n]."
            )
        sums[name] = floats(np.bincount(codes, floats(values), labels.size))
    sums[SIZE] = np.bincount(codes, minlength=labels.size).astype(np.float64)
    return sums, labels


def estimate_clustered(rows: Mapping[str, ArrayLike], column: str, groups: ArrayLike) -> Estimate:
    """Return the mean of a column over the rows of one arm with its variance over groups: a ratio, total / size.

    The count is that of the groups and df one less. With fewer than some 30 groups an arm the test is only rough.
    """
    sums, _ = group_totals({column: rows[column]}, groups)
    return estimate_ratio(Moments.from_rows(sums), column, SIZE)


def design_effect(rows: Mapping[str, ArrayLike], column: str, groups: ArrayLike) -> float:
    """Return how many times the variance over groups is that of independent rows: 1 if groups do not matter."""
    x = floats(rows[column])
    alone = floats(x.var(ddof=1) / x.size)
    return float(plain(estimate_clustered(rows, column, groups).variance)) / float(alone) if alone > 0 else float("nan")


def switchback_blocks(times: ArrayLike, period: float, burn_in: float = 0.0, start: float = 0.0) -> Blocks:
    """Return the block of each time: what a switchback assigns at random, and what `group_totals` adds up.

    Args:
        times: Times [n], in any unit.
        period: Length of a block, in the same unit.
        burn_in: Time at the beginning of each block that does not count, for the last treatment's effect to fade.
        start: Beginning of block 0.

    Raises:
        ConfigError: the period is not positive, or the burn-in not within it.
    """
    if not period > 0 or not 0 <= burn_in < period:
        raise ConfigError(f"switchback_blocks: period {period} and burn-in {burn_in}; give 0 <= burn_in < period.")
    since = floats(times) - start
    block = np.floor(since / period)
    return Blocks(block.astype(np.int64), since - block * period >= burn_in)
