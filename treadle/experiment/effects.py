"""An effect: how far the treatment is from the control, with its interval and p-value.

Field names are those of tea-tasting. A contrast b - w a of two estimates is all that is needed: w = 1 is the
difference, w = 1 - margin a test against a relative margin. Its degrees of freedom are Satterthwaite's, so the same
function serves means, ratios, CUPED and clusters.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .estimates import Estimate, gap
from .floats import (
    ALTERNATIVES,
    Alternative,
    Array,
    Floats,
    check_level,
    check_option,
    critical,
    divide,
    floats,
    plain,
    root,
    upper_tail,
)

Test = Literal["welch", "student", "z"]
TESTS = ("welch", "student", "z")


class Effect(NamedTuple):
    """An effect of any kind; all fields are floats, or arrays over the leading axes.

    Attributes:
        effect_size: The point estimate.
        effect_size_ci_lower: Lower bound of the confidence interval; minus infinity for the alternative "less".
        effect_size_ci_upper: Upper bound; infinity for the alternative "greater".
        pvalue: P-value against the null hypothesis.
        statistic: Effect less the null hypothesis, in standard errors.
        standard_error: Standard error of the effect.
        df: Degrees of freedom, infinite for the normal distribution.
    """

    effect_size: Floats
    effect_size_ci_lower: Floats
    effect_size_ci_upper: Floats
    pvalue: Floats
    statistic: Floats
    standard_error: Floats
    df: Floats


def difference(
    control: Estimate,
    treatment: Estimate,
    *,
    test: Test = "welch",
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
    null: ArrayLike = 0.0,
) -> Effect:
    """Return the absolute difference treatment - control.

    Args:
        control: Estimate of the control arm.
        treatment: Estimate of the treatment arm, with the same leading axes or some that broadcast.
        test: "welch" takes each arm's own variance and Satterthwaite's degrees of freedom, "student" one pooled
            variance, "z" each arm's own variance and the normal distribution.
        alternative: "greater" and "less" are about the treatment, and make the interval one-sided.
        confidence_level: Of the interval.
        null: The difference under the null hypothesis.

    Returns:
        The effect; its interval and p-value are NaN where `why_undefined` says why.

    Raises:
        ConfigError: an option is unknown.
    """
    check_option("difference", "test", test, TESTS)
    variance, df = contrast_variance(control, treatment, test)
    return effect(
        gap(control, treatment), variance, df, alternative=alternative, confidence_level=confidence_level, null=null
    )


def effect(
    value: ArrayLike,
    variance: ArrayLike,
    df: ArrayLike = np.inf,
    *,
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
    null: ArrayLike = 0.0,
) -> Effect:
    """Return the effect of a value of known variance under Student's t; infinitely many `df` are the normal one."""
    check_option("effect", "alternative", alternative, ALTERNATIVES)
    alpha = check_level("effect", confidence_level)
    value, df, error = floats(value), floats(df), root(variance)
    # A variance of zero knows no standard error to measure by.
    error_known = np.where(error > 0, error, np.nan)
    statistic = divide(value - floats(null), error_known)
    lower, upper = bounds(value, error_known, df, alternative, alpha)
    return Effect(
        plain(value),
        plain(lower),
        plain(upper),
        plain(tail(statistic, df, alternative)),
        plain(statistic),
        plain(error),
        plain(df),
    )


def bounds(value: Array, error: Array, df: Array, alternative: Alternative, alpha: float) -> tuple[Array, Array]:
    """Return the interval value -+ critical value * error; an infinite side where the alternative is one-sided."""
    width = critical(alpha / 2 if alternative == "two-sided" else alpha, df) * error
    endless = np.where(np.isnan(width), np.nan, np.inf)
    return (
        value - width if alternative != "less" else -endless,
        value + width if alternative != "greater" else endless,
    )


def tail(statistic: Array, df: Array, alternative: Alternative) -> Array:
    """Return the p-value of a statistic."""
    if alternative == "two-sided":
        return 2 * upper_tail(np.abs(statistic), df)
    return upper_tail(statistic if alternative == "greater" else -statistic, df)


def contrast_variance(
    control: Estimate, treatment: Estimate, test: Test = "welch", weight: ArrayLike = 1.0
) -> tuple[Array, Array]:
    """Return the variance of treatment - weight * control and its degrees of freedom.

    Welch: v = v_t + w^2 v_c with v^2 / (v_t^2 / df_t + w^4 v_c^2 / df_c) degrees of freedom (Satterthwaite 1946).
    """
    a, b, weight = floats(control.variance), floats(treatment.variance), floats(weight)
    free_a, free_b = floats(control.df), floats(treatment.df)
    if test == "student":
        n_a, n_b = floats(control.n), floats(treatment.n)
        pooled = divide(free_a * n_a * a + free_b * n_b * b, free_a + free_b)
        return pooled * (weight**2 * divide(1, n_a) + divide(1, n_b)), free_a + free_b
    variance = weight**2 * a + b
    return variance, np.full(np.shape(variance), np.inf) if test == "z" else satterthwaite(
        weight**2 * a, free_a, b, free_b
    )


def satterthwaite(a: Array, free_a: Array, b: Array, free_b: Array) -> Array:
    """Return the degrees of freedom of a sum of two independent variances; an arm that does not vary does not count."""
    # Shares rather than variances: the squares of tiny ones would vanish.
    share = divide(a, a + b)
    return divide(
        1.0, np.where(share > 0, divide(share**2, free_a), 0) + np.where(share < 1, divide((1 - share) ** 2, free_b), 0)
    )
