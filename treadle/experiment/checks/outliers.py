"""Outlier leverage: how much of an effect hangs on a few units."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import DataError
from treadle.experiment.effects import difference
from treadle.experiment.estimates import estimate_mean
from treadle.experiment.findings import Check, Finding, Status, probability
from treadle.experiment.floats import Array, floats
from treadle.experiment.moments import Moments

TOP = 0.001
"""Share of units, of both arms together, whose values are cut to the largest of the others for comparison: at this
share winsorising moves a true effect little (Kohavi, Tang and Xu 2020, chapter 22, cap skewed metrics likewise)."""
HALF = 0.5
"""Share of a significant effect that may hang on the top units."""
ONE_UNIT: tuple[float, float] = (0.1, 0.5)
"""Shares of the effect's variance that come from a single unit at which the check warns and blocks. The normal theory
needs each to vanish (Lindeberg's condition); a unit with half of it makes the error as large as its own weight."""

LEVERAGE = Check(
    "outlier leverage",
    "A handful of units (a bot, a reseller, a wrong currency) can make or hide an effect; the normal theory then does "
    "not hold, and the next month will not repeat it.",
    "Look at the units named. Remove what is no user, for both arms and by a rule; otherwise decide on the capped "
    "metric, with the cap fixed beforehand.",
)


def outlier_leverage(control: ArrayLike, treatment: ArrayLike, name: str = "the metric", top: float = TOP) -> Finding:
    """Return whether the effect on a mean hangs on its top units, compared with the effect on winsorised values.

    Args:
        control: Values of the control's units [n], all of them.
        treatment: Values of the treatment's units [m].
        name: The metric's name.
        top: Share of units to cut to the largest value of the others.

    Warns if a significant effect (5 %) loses more than half of itself, or its sign, when winsorised, or if a single
    unit brings a tenth of the variance; blocks if it brings half.

    Raises:
        DataError: an arm has fewer than two units, a value is not finite, or `top` is not between 0 and 1.
    """
    x, y = floats(control), floats(treatment)
    if min(x.size, y.size) < 2 or x.ndim != 1 or y.ndim != 1 or not 0 < top < 1:
        raise DataError(
            f"outlier_leverage: {x.shape} and {y.shape} values, top {top}; give [n] of 2 or more, 0 < top < 1."
        )
    raw = difference(*(estimate_mean(Moments.from_rows({"v": v}), "v") for v in (x, y)))
    both = np.abs(np.concatenate([x, y]))
    cut = max(1, int(top * both.size))
    cap = float(np.partition(both, both.size - cut - 1)[both.size - cut - 1])
    capped = difference(*(estimate_mean(Moments.from_rows({"v": np.clip(v, -cap, cap)}), "v") for v in (x, y)))
    size, error, left = float(raw.effect_size), float(raw.standard_error), float(capped.effect_size)
    share = (size - left) / size if size else 0.0
    single = max(_largest(x), _largest(y)) / error**2 if error > 0 else 0.0
    hangs = float(raw.pvalue) < 0.05 and share > HALF
    status: Status = "block" if single > ONE_UNIT[1] else "warn" if hangs or single > ONE_UNIT[0] else "pass"
    return LEVERAGE.finding(
        status,
        f"The top {cut:,} of {both.size:,} units carry {size - left:+.4g} of the effect {size:+.4g} on {name} "
        f"({probability(float(raw.pvalue))}); winsorised at {cap:.6g} it is {left:+.4g} "
        f"({probability(float(capped.pvalue))}). A single unit brings at most {single:.1%} of its variance.",
        effect=size,
        winsorised=left,
        share=share,
        cap=cap,
        largest_share=single,
        top_units={"control": _rows_above(x, cap), "treatment": _rows_above(y, cap)},
    )


def _largest(values: Array) -> float:
    """Return the largest part that one unit has in the variance of the mean."""
    return float(np.max((values - values.mean()) ** 2)) / values.size / (values.size - 1)


def _rows_above(values: Array, cap: float, shown: int = 10) -> list[int]:
    rows = np.flatnonzero(np.abs(values) > cap)
    return rows[np.argsort(-np.abs(values[rows]), kind="stable")][:shown].tolist()
