"""Many hypotheses at once: p-values adjusted so that the family's error is kept, and intervals where they exist.

- `"bonferroni"` and `"holm"` (1979) keep the chance of any false rejection; Holm rejects at least as much, always;
- `"hochberg"` (1988) does so for independent or positively dependent p-values;
- `"benjamini-hochberg"` (1995) keeps the expected share of false ones among the rejections, for the same kind of
  p-values, and `"benjamini-yekutieli"` (2001) for any.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import ConfigError, DataError

from .floats import Array, check_level, check_option, floats

Method = Literal["bonferroni", "holm", "hochberg", "benjamini-hochberg", "benjamini-yekutieli"]
METHODS = ("bonferroni", "holm", "hochberg", "benjamini-hochberg", "benjamini-yekutieli")
Gate = Literal["serial", "parallel"]


def adjust_pvalues(pvalues: ArrayLike, method: Method = "holm") -> Array:
    """Return adjusted p-values [..., m]: a hypothesis is rejected at level alpha where its own is at most alpha.

    A NaN is no hypothesis: it stays NaN and the others are fewer.

    Raises:
        DataError: a p-value is outside 0 to 1.
        ConfigError: the method is unknown.
    """
    check_option("adjust_pvalues", "method", method, METHODS)
    p = np.atleast_1d(_probabilities("adjust_pvalues", pvalues))
    m = np.sum(~np.isnan(p), -1, keepdims=True)
    order = np.argsort(p, -1, kind="stable")  # NaN come last
    ranked = np.take_along_axis(p, order, -1)
    rank = np.arange(1, p.shape[-1] + 1, dtype=np.int64)
    if method == "bonferroni":
        ranked = ranked * m
    elif method == "holm":
        ranked = np.maximum.accumulate(ranked * np.maximum(m - rank + 1, 1), -1)
    else:
        factor = np.maximum(m - rank + 1, 1) if method == "hochberg" else m / rank
        if method == "benjamini-yekutieli":
            factor = factor * np.take(np.concatenate([[0.0], np.cumsum(1 / rank)]), m)
        scaled = np.where(np.isnan(ranked), np.inf, ranked * factor)
        least = np.minimum.accumulate(scaled[..., ::-1], -1)[..., ::-1]
        ranked = np.where(np.isnan(ranked), np.nan, least)
    out = np.empty_like(p)
    np.put_along_axis(out, order, np.minimum(ranked, 1.0), -1)
    return out


def interval_levels(pvalues: ArrayLike, method: Method = "bonferroni", confidence_level: float = 0.95) -> Array:
    """Return the confidence level [..., m] at which each interval must be made to match the adjusted p-values.

    Bonferroni: all intervals together cover with probability confidence_level. Benjamini-Hochberg: the expected share
    of misses among the intervals of the rejected hypotheses is kept (Benjamini and Yekutieli 2005); the others have
    none, NaN.

    Raises:
        ConfigError: the method has no simple intervals that match (step-wise tests); show those of "bonferroni", which
            are wider.
    """
    alpha = check_level("interval_levels", confidence_level)
    p = np.atleast_1d(_probabilities("interval_levels", pvalues))
    m = np.sum(~np.isnan(p), -1, keepdims=True)
    if method == "bonferroni":
        return np.where(np.isnan(p), np.nan, 1 - alpha / np.maximum(m, 1))
    if method == "benjamini-hochberg":
        rejected = adjust_pvalues(p, method) <= alpha
        return np.where(rejected, 1 - alpha * rejected.sum(-1, keepdims=True) / np.maximum(m, 1), np.nan)
    raise ConfigError(
        f"interval_levels: no two-sided intervals match {method!r}; show those of 'bonferroni', valid but wider."
    )


def gatekeep(families: Sequence[ArrayLike], gate: Gate = "serial") -> list[Array]:
    """Return adjusted p-values of families tested in order: secondary metrics count only after the primary ones.

    Args:
        families: P-values [m] of each family, the most important first.
        gate: "serial": a family is tested (by Holm) only if every hypothesis before it was rejected (Westfall and
            Krishen 2001). "parallel": it suffices that one was; the level passed on is the share of the family rejected
            by Bonferroni, and the last family is tested by Holm (Dmitrienko, Offen and Westfall 2003).

    Raises:
        DataError: a p-value is NaN or outside 0 to 1, or a family is empty.
        ConfigError: the gate is unknown.
    """
    check_option("gatekeep", "gate", gate, ("serial", "parallel"))
    tables = [np.atleast_1d(_probabilities("gatekeep", family)) for family in families]
    out: list[Array] = []
    for i, table in enumerate(tables):
        if not table.size or np.isnan(table).any():
            raise DataError(
                f"gatekeep: family {i} has {table.size} p-values, {np.isnan(table).sum()} of them NaN; give every one."
            )
        if gate == "serial":
            worst = max((float(before.max()) for before in out), default=0.0)
            out.append(np.maximum(adjust_pvalues(table, "holm"), worst))
            continue
        alone = adjust_pvalues(table, "holm" if i == len(tables) - 1 else "bonferroni")
        # From the level t on, the share that reaches this family is what the families before pass on at t.
        levels = np.unique(np.concatenate([np.zeros(1), *out]))
        shares = np.array([math.prod(np.count_nonzero(before <= t) / before.size for before in out) for t in levels])
        reached = np.maximum(
            levels, np.divide(alone[:, None], shares, out=np.full((table.size, levels.size), np.inf), where=shares > 0)
        )
        out.append(np.minimum(reached.min(-1), 1.0))
    return out


def _probabilities(op: str, pvalues: ArrayLike) -> Array:
    p = floats(pvalues)
    if np.any((p < 0) | (p > 1)):
        raise DataError(
            f"{op}: {np.sum((p < 0) | (p > 1))} p-values are outside 0 to 1, such as {p[(p < 0) | (p > 1)].flat[0]}."
        )
    return p
