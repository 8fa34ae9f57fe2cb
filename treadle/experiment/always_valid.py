"""Intervals and p-values that hold at every look at once: normal-mixture confidence sequences and the mixture SPRT.

One idea: mix the likelihood ratio of "no effect" against a normal distribution of effects. Under no effect the mixture
is a martingale that starts at 1, so by Ville's inequality it ever reaches 1/alpha with probability at most alpha,
however often one looks. The mixture depends on the data only by z = estimate / standard error and by the *ratio* of
the mixing variance to the estimate's variance (Robbins 1970):

    log evidence = z^2 ratio / (2 (1 + ratio)) - log(1 + ratio) / 2

Asymptotic confidence sequences (Waudby-Smith et al., "Time-uniform central limit theory", Annals of Statistics 2024)
let the ratio be n rho^2, the mixture SPRT (Johari et al. 2017, 2022) a variance of effects over the variance now.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a number or an array of numbers
ALTERNATIVES = ("two-sided", "greater", "less")


class AlwaysValid(NamedTuple):
    """An effect whose interval and p-value hold at every look; the fields have the shape of the inputs."""

    effect: Array
    standard_error: Array
    lower: Array
    upper: Array
    p_value: Array
    log_evidence: Array  # log of the mixture likelihood ratio against the null: reject when it reaches log(1 / alpha)


def mixing_scale(alpha: float = 0.05, tuning: float = 5000.0) -> float:
    """Return rho of the mixture that is tightest, nearly, at sample size `tuning` (all arms together).

    rho^2 = (-2 log alpha + log(1 - 2 log alpha)) / tuning: Waudby-Smith et al. 2024, appendix on tuning; the
    approximation that GrowthBook uses, its default being 5000. Raises ConfigError when an argument is out of range.
    """
    check_alpha("mixing_scale", alpha)
    if not tuning > 0:
        raise ConfigError(
            f"mixing_scale: tuning is {tuning}; it is a sample size above 0. Give the expected final size."
        )
    return float(np.sqrt((-2 * np.log(alpha) + np.log(1 - 2 * np.log(alpha))) / tuning))


def asymptotic_confidence_sequence(
    effect: Numbers,
    standard_error: Numbers,
    n: Numbers,
    *,
    alpha: float = 0.05,
    tuning: float = 5000.0,
    null: float = 0.0,
    alternative: str = "two-sided",
) -> AlwaysValid:
    """Return the effect with its asymptotic confidence sequence at each look; arguments broadcast.

    Args:
        effect: estimated effect, absolute or relative.
        standard_error: its standard error, in the same unit.
        n: units in all arms together at that look.
        alpha: chance that the interval ever misses the effect.
        tuning: sample size at which the interval shall be tightest (see `mixing_scale`).
        null: effect under the null hypothesis.
        alternative: "two-sided", or one-sided: "greater" (upper is infinite) or "less".

    Two-sided: equation 9 of Waudby-Smith et al. 2024 (arXiv 2103.06476v7); the p-value is one over the e-value of the
    same mixture. One-sided: the appendix's half-normal mixture. The guarantee is asymptotic: begin to look after some
    hundreds of units per arm. Raises ConfigError on a bad setting, DataError on a standard error or size of zero.
    """
    what = "asymptotic_confidence_sequence"
    rho = mixing_scale(alpha, tuning)
    size = np.asarray(n, dtype=np.float64)
    if not np.all(size > 0):
        raise DataError(f"{what}: n has {int(np.sum(~(size > 0)))} values that are not above 0. Leave such looks out.")
    return _mixture(what, effect, standard_error, size * rho**2, alpha, null, alternative)


def mixture_sprt(
    effect: Numbers,
    standard_error: Numbers,
    *,
    effect_sd: float,
    alpha: float = 0.05,
    null: float = 0.0,
    alternative: str = "two-sided",
) -> AlwaysValid:
    """Return the effect with the interval and p-value of the mixture SPRT at each look; arguments broadcast.

    `effect_sd` is the standard deviation of the effects one expects, in the unit of `effect`; it changes how soon the
    test is sharp, never whether it is valid. Apply `running` over the axis of looks for p-values that never rise.
    Johari, Koomen, Pekelis & Walsh, "Peeking at A/B tests", KDD 2017, and "Always valid inference", Operations
    Research 2022. Raises ConfigError on a bad setting, DataError on a standard error of zero.
    """
    if not effect_sd > 0:
        raise ConfigError(
            f"mixture_sprt: effect_sd is {effect_sd}; it must be above 0. Give the size of a usual effect."
        )
    variance = np.square(np.asarray(standard_error, dtype=np.float64))
    with np.errstate(divide="ignore"):
        ratio = effect_sd**2 / variance
    return _mixture("mixture_sprt", effect, standard_error, ratio, alpha, null, alternative)


def running(result: AlwaysValid, axis: int = -1) -> AlwaysValid:
    """Return the result with all looks so far used at each look along `axis`: intervals meet, p-values never rise.

    Valid because the guarantee is about all looks at once. A lower end above the upper one means that the data
    contradict themselves (a drifting effect); it is left visible.
    """
    return result._replace(
        lower=np.maximum.accumulate(result.lower, axis=axis),
        upper=np.minimum.accumulate(result.upper, axis=axis),
        p_value=np.minimum.accumulate(result.p_value, axis=axis),
        log_evidence=np.maximum.accumulate(result.log_evidence, axis=axis),
    )


def critical_value(ratio: Numbers, alpha: float = 0.05, alternative: str = "two-sided") -> Array:
    """Return the |z| (one-sided: the z) beyond which the mixture of the given variance ratio rejects.

    `ratio` is n rho^2 for the confidence sequence, effect_sd^2 / standard_error^2 for the mixture SPRT. Raises
    ConfigError when alpha or the alternative is not allowed.
    """
    check_alpha("critical_value", alpha)
    one_sided = _one_sided("critical_value", alternative)
    r = np.asarray(ratio, dtype=np.float64)
    # The mixture over a half-normal is bounded through 1 - Phi(x) <= exp(-x^2 / 2) / 2.
    needed = np.log1p(np.sqrt(1 + r) / (2 * alpha)) if one_sided else np.log1p(r) / 2 - np.log(alpha)
    return np.sqrt(2 * (1 + r) / r * needed)


def check_alpha(what: str, alpha: float) -> None:
    """Raise ConfigError unless 0 < alpha < 1."""
    if not 0 < alpha < 1:
        raise ConfigError(f"{what}: alpha is {alpha}; it must be above 0 and below 1, such as 0.05.")


def _one_sided(what: str, alternative: str) -> bool:
    if alternative not in ALTERNATIVES:
        raise ConfigError(f"{what}: alternative is {alternative!r}; allowed are {', '.join(ALTERNATIVES)}.")
    return alternative != "two-sided"


def _mixture(
    what: str, effect: Numbers, standard_error: Numbers, ratio: Array, alpha: float, null: float, alternative: str
) -> AlwaysValid:
    check_alpha(what, alpha)
    one_sided = _one_sided(what, alternative)
    estimate, se, r = np.broadcast_arrays(np.asarray(effect, float), np.asarray(standard_error, float), ratio)
    if not np.all(se > 0):
        raise DataError(
            f"{what}: {int(np.sum(~(se > 0)))} standard errors are not above 0; an interval needs variance. "
            "Leave out the looks before the metric varies."
        )
    z = (estimate - null) / se
    towards = -z if alternative == "less" else z
    half_width = se * critical_value(r, alpha, alternative)
    squared = np.square(np.maximum(towards, 0.0) if one_sided else z)
    evidence = squared * r / (2 * (1 + r)) - np.log1p(r) / 2
    if one_sided:
        # 2 (e^x - 1) / sqrt(1 + r): what `critical_value` compares with 1 / alpha. Without evidence it is 0.
        exponent = squared * r / (2 * (1 + r))
        with np.errstate(divide="ignore"):
            evidence = np.log(2.0) + exponent + np.log(-np.expm1(-exponent)) - np.log1p(r) / 2
    infinite = np.full(estimate.shape, np.inf)
    return AlwaysValid(
        effect=estimate,
        standard_error=se,
        lower=-infinite if alternative == "less" else estimate - half_width,
        upper=infinite if alternative == "greater" else estimate + half_width,
        p_value=np.exp(-np.maximum(evidence, 0.0)),
        log_evidence=evidence,
    )
