"""Relative effects, treatment / control - 1, in the conventions in use: alike on large samples but for some digits.

- `"delta"` (GrowthBook): the delta method on the quotient, symmetric about the estimate;
- `"log-ratio"` (tea-tasting): the delta method on log(treatment / control), its interval carried back by exp;
- `"scaled"` (Spotify's Confidence): the absolute interval divided by the control's value, taken as known: too narrow;
- `"fieller"` (Fieller 1954): all quotients that a test of a linear contrast does not reject; exact for normal arms, and
  infinite where the control's value is not clearly away from zero.

After CUPED the effect may be measured against the adjusted control or the unadjusted one (`base`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from treadle.core import ConfigError, DataError

from .effects import TESTS, Effect, Test, bounds, contrast_variance, difference, effect, satterthwaite, tail
from .estimates import Estimate, gap
from .floats import ALTERNATIVES, Alternative, Array, check_level, check_option, critical, divide, floats, plain, root

Convention = Literal["delta", "log-ratio", "scaled", "fieller"]
CONVENTIONS = ("delta", "log-ratio", "scaled", "fieller")
Base = Literal["adjusted", "unadjusted", "unadjusted-plugin"]
BASES = ("adjusted", "unadjusted", "unadjusted-plugin")


def relative_difference(
    control: Estimate,
    treatment: Estimate,
    *,
    convention: Convention = "log-ratio",
    base: Base = "adjusted",
    test: Test = "welch",
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
) -> Effect:
    """Return the relative effect (treatment - control) / base, tested against no effect.

    Args:
        control: Estimate of the control arm.
        treatment: Estimate of the treatment arm.
        convention: See the module. The p-value belongs to the interval: of the quotient, of its logarithm, else of the
            difference.
        base: "adjusted" divides by the control's value (tea-tasting), "unadjusted" by its value before CUPED, whose
            covariance with the adjusted one counts, the gradient taken at the unadjusted values (GrowthBook after 0.8);
            "unadjusted-plugin" puts the unadjusted values into the formula for independent numbers, as GrowthBook 0.8
            did ("delta" alone). Without an adjustment all are the same.
        test: As in `difference`; with "student" the pooled variance stands for each arm's.
        alternative: As in `difference`.
        confidence_level: Of the interval.

    Returns:
        The effect; NaN where the base is zero, and for "log-ratio" where the quotient is not positive.

    Raises:
        ConfigError: an option is unknown, or they do not go together.
        DataError: a one-sided alternative for a negative base.
    """
    check_option("relative_difference", "convention", convention, CONVENTIONS)
    check_option("relative_difference", "base", base, BASES)
    check_option("relative_difference", "test", test, TESTS)
    check_option("relative_difference", "alternative", alternative, ALTERNATIVES)
    if base == "unadjusted-plugin" and convention != "delta":
        raise ConfigError(
            f"relative_difference: base {base!r} goes with convention 'delta', not {convention!r}; give 'unadjusted'."
        )
    if alternative != "two-sided" and np.any(_base(control, base)[0] < 0):
        raise DataError(
            f"relative_difference: the control's value is negative, so a larger treatment is a smaller ratio and "
            f"alternative {alternative!r} has two readings; test the difference, or two-sided."
        )
    if test == "student":
        if base != "adjusted":
            raise ConfigError(
                f"relative_difference: test 'student' knows no base {base!r}; give test='welch' or base='adjusted'."
            )
        control, treatment = _pooled(control, treatment)
    alpha = check_level("relative_difference", confidence_level)
    if convention == "delta":
        value, parts = _quotient(control, treatment, base)
        _, df = contrast_variance(control, treatment, test)
        return effect(
            value,
            sum(parts),
            _free(df, test, control, treatment),
            alternative=alternative,
            confidence_level=confidence_level,
        )
    if convention == "log-ratio":
        return _log_ratio(control, treatment, base, test, alternative, alpha)
    absolute = difference(control, treatment, test=test, alternative=alternative, confidence_level=confidence_level)
    if convention == "scaled":
        divisor = _base(control, base)[0]
        ends = divide(absolute.effect_size_ci_lower, divisor), divide(absolute.effect_size_ci_upper, divisor)
        return absolute._replace(
            effect_size=plain(divide(absolute.effect_size, divisor)),
            effect_size_ci_lower=plain(np.where(divisor < 0, ends[1], ends[0])),
            effect_size_ci_upper=plain(np.where(divisor < 0, ends[0], ends[1])),
            standard_error=plain(divide(absolute.standard_error, np.abs(divisor))),
        )
    return _fieller(control, treatment, base, absolute, alternative, alpha)


def _base(control: Estimate, base: Base) -> tuple[Array, Array, Array]:
    """Return the value to divide by, its variance and its covariance with the control's value."""
    if base == "adjusted" or control.base is None or control.base_variance is None or control.base_covariance is None:
        return floats(control.value), floats(control.variance), floats(control.variance)
    return floats(control.base), floats(control.base_variance), floats(control.base_covariance)


def _quotient(control: Estimate, treatment: Estimate, base: Base) -> tuple[Array, tuple[Array, Array]]:
    """Return (b - a) / u and the parts of its variance (delta method) that the control and the treatment bring."""
    b = floats(treatment.value)
    u, variance_u, covariance = _base(control, base)
    value = divide(gap(control, treatment), u)
    from_treatment = divide(treatment.variance, u**2)
    other = b if base == "adjusted" or treatment.base is None else floats(treatment.base)
    if base == "unadjusted-plugin":
        return value, (divide(floats(control.variance) * divide(other, u) ** 2, u**2), from_treatment)
    # The gradient is -1 / u by the control's value and -slope / u by the base.
    slope = divide(other, u) - 1
    own = floats(control.variance) + 2 * slope * covariance + slope**2 * variance_u
    return value, (divide(own, u**2), from_treatment)


def _log_ratio(
    control: Estimate, treatment: Estimate, base: Base, test: Test, alternative: Alternative, alpha: float
) -> Effect:
    value, (from_control, from_treatment) = _quotient(control, treatment, base)
    ratio = np.where(value > -1, 1 + value, np.nan)
    left, right = from_control / ratio**2, from_treatment / ratio**2
    error = root(left + right)
    df = _free(satterthwaite(left, floats(control.df), right, floats(treatment.df)), test, control, treatment)
    known = np.where(error > 0, error, np.nan)
    log = np.log(ratio)
    statistic = divide(log, known)
    lower, upper = bounds(log, known, df, alternative, alpha)
    return Effect(
        plain(value),
        plain(np.expm1(lower)),
        plain(np.expm1(upper)),
        plain(tail(statistic, df, alternative)),
        plain(statistic),
        plain(error * ratio),
        plain(df),
    )


def _fieller(
    control: Estimate, treatment: Estimate, base: Base, absolute: Effect, alternative: Alternative, alpha: float
) -> Effect:
    """Return the quotients r for which (d - r u)^2 <= t^2 var(d - r u), with d = b - a."""
    u, variance_u, covariance = _base(control, base)
    d, variance_d = floats(absolute.effect_size), floats(absolute.standard_error) ** 2
    df = floats(absolute.df)
    t = critical(alpha / 2 if alternative == "two-sided" else alpha, df)
    # cov(d, u) = -cov(a, u), so var(d - r u) = var d + 2 r cov(a, u) + r^2 var u.
    square = u**2 - t**2 * variance_u
    middle = d * u + t**2 * covariance
    spread = root(middle**2 - square * (d**2 - t**2 * variance_d))
    bounded = square > 0
    lower = np.where(bounded, divide(middle - spread, square), -np.inf)
    upper = np.where(bounded, divide(middle + spread, square), np.inf)
    unknown = np.isnan(floats(absolute.pvalue)) | np.isnan(square)
    return absolute._replace(
        effect_size=plain(divide(d, u)),
        effect_size_ci_lower=plain(np.where(unknown, np.nan, -np.inf if alternative == "less" else lower)),
        effect_size_ci_upper=plain(np.where(unknown, np.nan, np.inf if alternative == "greater" else upper)),
        standard_error=plain(root(sum(_quotient(control, treatment, base)[1]))),
    )


def _pooled(control: Estimate, treatment: Estimate) -> tuple[Estimate, Estimate]:
    """Return the arms with the pooled variance of a unit in place of each one's own."""
    free_a, free_b = floats(control.df), floats(treatment.df)
    unit = divide(free_a * floats(control.unit_variance) + free_b * floats(treatment.unit_variance), free_a + free_b)
    return (
        control._replace(variance=plain(divide(unit, control.n)), base=None),
        treatment._replace(variance=plain(divide(unit, treatment.n)), base=None),
    )


def _free(df: Array, test: Test, control: Estimate, treatment: Estimate) -> Array:
    if test == "z":
        return np.full(np.shape(df), np.inf)
    return floats(control.df) + floats(treatment.df) if test == "student" else df
