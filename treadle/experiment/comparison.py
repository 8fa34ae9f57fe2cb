"""A comparison of two arms in one row, with the fields of tea-tasting: absolute effect, relative effect, p-value."""

from __future__ import annotations

from typing import NamedTuple

from .effects import Test, difference
from .estimates import Estimate
from .floats import Alternative, Floats
from .relative import Base, Convention, relative_difference


class Comparison(NamedTuple):
    """Two arms compared; fields are floats, or arrays over the leading axes. The p-value is the absolute effect's."""

    control: Floats
    treatment: Floats
    effect_size: Floats
    effect_size_ci_lower: Floats
    effect_size_ci_upper: Floats
    rel_effect_size: Floats
    rel_effect_size_ci_lower: Floats
    rel_effect_size_ci_upper: Floats
    pvalue: Floats
    statistic: Floats


def compare(
    control: Estimate,
    treatment: Estimate,
    *,
    test: Test = "welch",
    relative: Convention = "log-ratio",
    base: Base = "adjusted",
    alternative: Alternative = "two-sided",
    confidence_level: float = 0.95,
) -> Comparison:
    """Return the absolute and the relative effect; options as in `difference` and `relative_difference`."""
    absolute = difference(control, treatment, test=test, alternative=alternative, confidence_level=confidence_level)
    quotient = relative_difference(
        control,
        treatment,
        convention=relative,
        base=base,
        test=test,
        alternative=alternative,
        confidence_level=confidence_level,
    )
    return Comparison(
        control.value,
        treatment.value,
        *absolute[:3],
        *quotient[:3],
        pvalue=absolute.pvalue,
        statistic=absolute.statistic,
    )
