"""Effects by segment, honestly: whether segments differ at all, which differ, and how far to believe each number.

One idea: segments of users are independent samples, so their effects are compared like studies in a meta-analysis.
Ask in this order: `interaction` (do effects differ?), `against_rest` (which segment is unlike the others?), and only
then the effects themselves, with p-values adjusted for their number and values drawn in towards the common effect.
Segments belong in the spec, and all segments looked at are one family.

Left out on purpose: honest causal trees and X-learners (Athey & Imbens 2016; Künzel et al. 2019). They find segments
by searching, need sample splitting and models of rewards, and would be a library of their own; to aim a treatment by a
model, score users with it, make the score an audience, and test that audience in a new experiment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc, ndtr, ndtri

from treadle.core import ConfigError, DataError

Array = np.ndarray[Any, Any]
Numbers = Any  # a sequence or array of numbers
Adjust = Callable[[Array], Array]  # p-values [..., m] to adjusted ones, such as Holm's or Benjamini & Hochberg's


class SegmentEffects(NamedTuple):
    """Effects by segment [..., segments]."""

    effect: Array
    standard_error: Array
    lower: Array  # of intervals that hold for all segments together (Bonferroni)
    upper: Array
    p_value: Array
    adjusted_p_value: Array
    shrunken: Array  # the effect drawn in towards the common one, by as much as its error warrants
    shrunken_error: Array


class Interaction(NamedTuple):
    """Whether effects differ between segments; arrays [...]."""

    q: Array  # Cochran's statistic
    df: int
    p_value: Array
    share: Array  # I^2: of the spread between segments, the part that is not sampling error
    spread: Array  # standard deviation of true effects between segments (DerSimonian & Laird)
    common: Array  # the effect of all segments together, weighted by precision
    common_error: Array


class Deviations(NamedTuple):
    """Each segment's effect minus that of all others together [..., segments]."""

    deviation: Array
    standard_error: Array
    p_value: Array
    adjusted_p_value: Array


def segment_effects(effect: Numbers, standard_error: Numbers, adjust: Adjust, *, level: float = 0.95) -> SegmentEffects:
    """Return effects of independent segments with what their number does to their certainty.

    Args:
        effect: estimated effects [..., segments].
        standard_error: their standard errors [..., segments], above 0.
        adjust: turns p-values [..., m] into adjusted ones: Holm when any false claim is one too many,
            Benjamini-Hochberg when a share of false claims is tolerable.
        level: chance that all intervals together cover.

    The shrunken effect is the mean under the normal spread of effects that `interaction` estimates (empirical Bayes,
    Efron & Morris 1975): the best guess of what a segment will show next time. Raises DataError on bad errors.
    """
    value, se = _checked("segment_effects", effect, standard_error)
    if not 0 < level < 1:
        raise ConfigError(f"segment_effects: level is {level}; it must be above 0 and below 1, such as 0.95.")
    half = -float(ndtri((1 - level) / 2 / value.shape[-1])) * se
    p_value = 2 * ndtr(-np.abs(value) / se)
    found = interaction(value, se)
    between = np.square(found.spread)[..., None]
    kept = between / (between + se**2)
    shrunken = found.common[..., None] + kept * (value - found.common[..., None])
    # What is not known of the common effect adds to what is not known of a segment.
    error = np.sqrt(kept * se**2 + np.square((1 - kept) * found.common_error[..., None]))
    return SegmentEffects(value, se, value - half, value + half, p_value, adjust(p_value), shrunken, error)


def interaction(effect: Numbers, standard_error: Numbers) -> Interaction:
    """Return the test that all segments have one effect: Cochran's Q, chi-squared with segments - 1 degrees of freedom.

    Cochran 1954; spread and common effect after DerSimonian & Laird 1986. Raises DataError when there are fewer than
    two segments or an error is not above 0.
    """
    value, se = _checked("interaction", effect, standard_error)
    df = value.shape[-1] - 1
    weight = 1 / se**2
    pooled = np.sum(weight * value, axis=-1) / weight.sum(axis=-1)
    q = np.sum(weight * np.square(value - pooled[..., None]), axis=-1)
    excess = np.maximum(q - df, 0.0)
    scale = weight.sum(axis=-1) - np.sum(weight**2, axis=-1) / weight.sum(axis=-1)
    spread = np.sqrt(excess / scale)
    random = 1 / (se**2 + np.square(spread)[..., None])
    common = np.sum(random * value, axis=-1) / random.sum(axis=-1)
    share = np.where(q > 0, excess / np.maximum(q, 1e-300), 0.0)
    return Interaction(q, df, chdtrc(df, q), share, spread, common, 1 / np.sqrt(random.sum(axis=-1)))


def against_rest(effect: Numbers, standard_error: Numbers, adjust: Adjust) -> Deviations:
    """Return how each segment's effect differs from that of all others together: the claim "it works better for X".

    A segment whose own effect is significant while another's is not need not differ from it; this asks directly
    (Gelman & Stern 2006). Arguments and errors as `segment_effects`.
    """
    value, se = _checked("against_rest", effect, standard_error)
    weight = 1 / se**2
    rest = weight.sum(axis=-1, keepdims=True) - weight
    others = (np.sum(weight * value, axis=-1, keepdims=True) - weight * value) / rest
    error = np.sqrt(se**2 + 1 / rest)
    p_value = 2 * ndtr(-np.abs(value - others) / error)
    return Deviations(value - others, error, p_value, adjust(p_value))


def _checked(what: str, effect: Numbers, standard_error: Numbers) -> tuple[Array, Array]:
    value, se = np.broadcast_arrays(np.asarray(effect, dtype=np.float64), np.asarray(standard_error, dtype=np.float64))
    if value.ndim == 0 or value.shape[-1] < 2:
        raise DataError(f"{what}: effects have shape {value.shape}; the last axis must hold two segments or more.")
    wrong = ~(np.isfinite(value) & np.isfinite(se) & (se > 0))
    if np.any(wrong):
        raise DataError(
            f"{what}: {int(wrong.sum())} of the effects are not finite or their standard errors not above 0. "
            "Join small segments to others, by a rule fixed beforehand, or leave them out."
        )
    return value, se
