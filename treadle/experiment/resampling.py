"""The bootstrap: intervals of any statistic of two small or skewed samples, by drawing them again from themselves.

`"percentile"` takes quantiles of the drawn effects, `"bca"` corrects them for bias and skew (Efron 1987; Efron and
Tibshirani 1993, eq. 14.9 to 14.15), `"studentised"` draws the t-statistic instead of the effect (ibid. section 12.5),
the most exact one for means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from treadle.core import ConfigError, DataError

from .floats import ALTERNATIVES, Alternative, Array, check_level, check_option, divide, floats

Statistic = Callable[..., Any]
"""Maps samples [r, n] (or [r, n, columns]) and `axis=1` to values [r], as `np.mean` and `np.median` do."""
Method = Literal["percentile", "bca", "studentised"]
METHODS = ("percentile", "bca", "studentised")

CHUNK = 1 << 22
"""Numbers drawn at once."""


class Bootstrap(NamedTuple):
    """An effect with its bootstrap interval.

    Attributes:
        effect_size: Statistic of the treatment less that of the control (or their quotient less 1).
        effect_size_ci_lower: Lower bound; minus infinity for the alternative "less".
        effect_size_ci_upper: Upper bound; infinity for the alternative "greater".
        pvalue: One less the level of the interval that just touches no effect, at least 1 / (resamples + 1).
        standard_error: Standard deviation of the drawn effects.
    """

    effect_size: float
    effect_size_ci_lower: float
    effect_size_ci_upper: float
    pvalue: float
    standard_error: float


def bootstrap(
    control: ArrayLike,
    treatment: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    method: Method = "bca",
    relative: bool = False,
    standard_error: Statistic | None = None,
    n_resamples: int = 10_000,
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Return the effect on a statistic with a bootstrap interval; the same seed gives the same numbers.

    Args:
        control: Units of the control arm [n], or [n, columns] for a statistic of several (a ratio: sum of one over sum
            of the other).
        treatment: Units of the treatment arm [m] or [m, columns].
        statistic: See `Statistic`.
        method: See the module.
        relative: The effect is treatment / control - 1, not the difference.
        standard_error: For "studentised": the standard error of the statistic of samples, as a function like
            `statistic`; known for the mean.
        n_resamples: Samples drawn.
        alternative: As in `difference`.
        confidence_level: Of the interval.
        seed: Of the random numbers.

    Raises:
        DataError: an arm has fewer than 2 units, or NaN.
        ConfigError: an option is unknown, or there is no standard error to studentise by.
    """
    check_option("bootstrap", "method", method, METHODS)
    check_option("bootstrap", "alternative", alternative, ALTERNATIVES)
    alpha = check_level("bootstrap", confidence_level)
    x, y = checked_samples("bootstrap", control, treatment, 2)
    error = mean_error if standard_error is None and statistic is np.mean else standard_error
    if method == "studentised" and (error is None or relative):
        raise ConfigError(
            "bootstrap: 'studentised' needs a difference and, but for np.mean, standard_error=...; use 'bca'."
        )
    if n_resamples < 100:
        raise ConfigError(f"bootstrap: n_resamples is {n_resamples}; draw 1,000 or more.")
    rng = np.random.default_rng(seed)
    functions = [statistic, error] if method == "studentised" and error is not None else [statistic]
    left, right = (_draw(sample, functions, n_resamples, rng) for sample in (x, y))
    found = float(_effect(_whole(x, statistic), _whole(y, statistic), relative)[0])
    drawn = _effect(left[0], right[0], relative)
    spread = float(drawn.std(ddof=1))
    tails = np.array([alpha / 2, 1 - alpha / 2] if alternative == "two-sided" else [alpha, 1 - alpha])
    if not spread > 0:
        return Bootstrap(found, np.nan, np.nan, np.nan, spread)
    if method == "studentised" and error is not None:
        own = float(np.hypot(_whole(x, error), _whole(y, error))[0])
        ends, sides = _studentised(found, own, drawn, np.hypot(left[1], right[1]), tails)
    else:
        bias, skew = _bias_and_skew(x, y, statistic, relative, found, drawn) if method == "bca" else (0.0, 0.0)
        ends, sides = _percentiles(drawn, tails, bias, skew)
    pvalue = {"two-sided": min(2 * min(sides), 1.0), "greater": sides[0], "less": sides[1]}[alternative]
    return Bootstrap(
        found,
        -np.inf if alternative == "less" else float(ends[0]),
        np.inf if alternative == "greater" else float(ends[1]),
        pvalue,
        spread,
    )


def checked_samples(op: str, control: ArrayLike, treatment: ArrayLike, least: int) -> tuple[Array, Array]:
    """Return two samples of units as arrays.

    Raises:
        DataError: one has fewer than `least` units, or NaN.
    """
    pair = floats(control), floats(treatment)
    for name, sample in zip(("control", "treatment"), pair, strict=True):
        if sample.ndim not in {1, 2} or len(sample) < least or np.isnan(sample).any():
            raise DataError(
                f"{op}: the {name} has shape {sample.shape} and {np.isnan(sample).sum()} NaN; give [n] or [n, columns] "
                f"of {least} or more units."
            )
    return pair


def mean_error(samples: Array, axis: int = 1) -> Array:
    """Return the standard error of the mean."""
    return floats(samples.std(axis=axis, ddof=1)) / np.sqrt(samples.shape[axis])


def _draw(sample: Array, functions: list[Statistic], resamples: int, rng: np.random.Generator) -> list[Array]:
    """Return the functions' values [resamples] on samples drawn with replacement."""
    out = [np.empty(resamples) for _ in functions]
    step = max(1, CHUNK // sample.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = sample[rng.integers(0, len(sample), (rows, len(sample)))]
        for values, function in zip(out, functions, strict=True):
            values[start : start + rows] = function(drawn, axis=1)
    return out


def _whole(sample: Array, function: Statistic) -> Array:
    """Return the function's value [1] on the sample itself."""
    return floats(function(sample[None], axis=1))


def _effect(control: Array, treatment: Array, relative: bool) -> Array:
    return divide(treatment, control) - 1 if relative else treatment - control


def _studentised(
    found: float, own: float, drawn: Array, errors: Array, tails: Array
) -> tuple[Array, tuple[float, float]]:
    """Return the ends of the interval, and the one-sided p-values that the effect is above and below zero."""
    t = divide(drawn - found, errors)
    t = t[~np.isnan(t)]  # a drawn pair of samples that do not vary has none
    return found - own * _quantiles(t, tails[::-1]), (_share(t >= found / own), _share(t <= found / own))


def _percentiles(drawn: Array, tails: Array, bias: float, skew: float) -> tuple[Array, tuple[float, float]]:
    """Return the same from quantiles of the drawn effects, moved by BCa's correction."""
    moved = bias + floats(special.ndtri(tails))
    ends = _quantiles(drawn, floats(special.ndtr(bias + moved / (1 - skew * moved))))
    return ends, (_level(_share(drawn <= 0), bias, skew), 1 - _level(1 - _share(drawn >= 0), bias, skew))


def _quantiles(drawn: Array, levels: Array) -> Array:
    """Return quantiles at the place (r + 1) p of r drawn values, which a further one is below with probability p."""
    return floats(np.quantile(drawn, levels, method="weibull"))


def _level(share: float, bias: float, skew: float) -> float:
    """Return the level at which BCa's lower end is the quantile `share`: its correction solved backwards."""
    if not 0 < share < 1:
        return share
    moved = float(special.ndtri(share)) - bias
    return float(special.ndtr(moved / (1 + skew * moved) - bias))


def _bias_and_skew(
    x: Array, y: Array, statistic: Statistic, relative: bool, found: float, drawn: Array
) -> tuple[float, float]:
    below = (np.count_nonzero(drawn < found) + np.count_nonzero(drawn == found) / 2) / drawn.size
    bias = float(special.ndtri(np.clip(below, 1 / (drawn.size + 1), drawn.size / (drawn.size + 1))))
    whole = [_whole(sample, statistic) for sample in (x, y)]
    lefts = [_leave_one_out(x, statistic), _leave_one_out(y, statistic)]
    cubes = squares = 0.0
    for values in (_effect(lefts[0], whole[1], relative), _effect(whole[0], lefts[1], relative)):
        influence = (values.mean() - values) * (values.size - 1) / values.size
        cubes += float((influence**3).sum())
        squares += float((influence**2).sum())
    return bias, cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _leave_one_out(sample: Array, statistic: Statistic) -> Array:
    """Return the statistic [n] of the sample without each of its units."""
    n = len(sample)
    out = np.empty(n)
    step = max(1, CHUNK // sample.size)
    for start in range(0, n, step):
        gone = np.arange(start, min(start + step, n))
        place = np.arange(n - 1)
        out[gone] = statistic(sample[place + (place >= gone[:, None])], axis=1)
    return out


def _share(hits: NDArray[np.bool_]) -> float:
    """Return the share of hits, the observed sample among the drawn ones (Davison and Hinkley 1997)."""
    return float(hits.sum() + 1) / (hits.size + 1)
