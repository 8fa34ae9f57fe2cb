"""Margins: whether the treatment is not worse by more than a margin, or equivalent within two.

A relative margin is tested without dividing: "treatment is worse by 2 % or more" is treatment - 0.98 control <= 0, a
linear contrast whose test is as exact as that of a difference, whatever the control's value.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from treadle.core import ConfigError

from .effects import TESTS, Test, contrast_variance, effect
from .estimates import Estimate, gap
from .floats import Floats, check_option, divide, floats, plain

Better = Literal["higher", "lower"]


class MarginTest(NamedTuple):
    """A test against a margin; all fields are floats, or arrays over the leading axes.

    Attributes:
        effect_size: Difference of the arms, or for a relative margin the relative difference.
        effect_size_ci_lower: Bound of the confidence interval, in absolute units; infinite on the side that was not
            tested.
        effect_size_ci_upper: Likewise. For a relative margin both bound treatment - (1 -+ margin) control, to be
            compared with 0.
        pvalue: P-value of the null hypothesis that the margin is crossed.
        statistic: The statistic nearest to the null hypothesis.
        margin: The margin as given.
    """

    effect_size: Floats
    effect_size_ci_lower: Floats
    effect_size_ci_upper: Floats
    pvalue: Floats
    statistic: Floats
    margin: float


def non_inferiority(
    control: Estimate,
    treatment: Estimate,
    margin: float,
    *,
    relative: bool = False,
    better: Better = "higher",
    test: Test = "welch",
    confidence_level: float = 0.95,
) -> MarginTest:
    """Return the one-sided test that the treatment is worse than the control by less than `margin`.

    Args:
        control: Estimate of the control arm.
        treatment: Estimate of the treatment arm.
        margin: How much worse is still accepted, positive: in units of the metric, or as a share of the control if
            `relative`.
        relative: The margin is a share (0.02 is 2 %) of the control's value.
        better: Whether higher or lower values are better.
        test: As in `difference`.
        confidence_level: One-sided: 0.95 keeps the false acceptances at 5 %.

    Raises:
        ConfigError: the margin is not positive, or an option is unknown.
    """
    check_option("non_inferiority", "better", better, ("higher", "lower"))
    sign = 1 if better == "higher" else -1
    return _against("non_inferiority", control, treatment, margin, relative, sign, test, confidence_level)


def equivalence(
    control: Estimate,
    treatment: Estimate,
    margin: float,
    *,
    relative: bool = False,
    test: Test = "welch",
    confidence_level: float = 0.95,
) -> MarginTest:
    """Return two one-sided tests (Schuirmann 1987) that the arms differ by less than `margin` either way.

    The p-value is the larger of the two. The interval has the level 2 confidence_level - 1 (90 % for tests at 5 %): the
    arms are equivalent if it lies within the margins. Arguments as in `non_inferiority`.
    """
    low, high = (
        _against("equivalence", control, treatment, margin, relative, sign, test, confidence_level) for sign in (1, -1)
    )
    above = floats(low.pvalue) >= floats(high.pvalue)
    return MarginTest(
        low.effect_size,
        low.effect_size_ci_lower,
        high.effect_size_ci_upper,
        plain(np.maximum(low.pvalue, high.pvalue)),
        plain(np.where(above, low.statistic, high.statistic)),
        margin,
    )


def _against(
    op: str,
    control: Estimate,
    treatment: Estimate,
    margin: float,
    relative: bool,
    sign: int,
    test: Test,
    confidence_level: float,
) -> MarginTest:
    """Return the test that treatment - control lies on the good side (`sign`) of the margin."""
    check_option(op, "test", test, TESTS)
    if not margin > 0 or (relative and margin >= 1):
        raise ConfigError(
            f"{op}: the margin is {margin}; it is positive, and below 1 where it is a share of the control."
        )
    a, apart = floats(control.value), gap(control, treatment)
    weight = 1 - sign * margin * np.sign(a) if relative else np.ones(())
    variance, df = contrast_variance(control, treatment, test, weight)
    found = effect(
        apart + (1 - weight) * a,
        variance,
        df,
        alternative="greater" if sign > 0 else "less",
        confidence_level=confidence_level,
        null=0.0 if relative else -sign * margin,
    )
    size = divide(apart, np.abs(a)) if relative else apart
    return MarginTest(plain(size), *found[1:5], margin=margin)
