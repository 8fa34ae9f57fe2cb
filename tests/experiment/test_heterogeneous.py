"""Effects by segment: the tests against formulas, their error rates by simulation, and what shrinking buys."""

import numpy as np
import pytest
from scipy.stats import chi2, norm

from treadle.core import ConfigError, DataError
from treadle.experiment.heterogeneous import against_rest, interaction, segment_effects


def bonferroni(p: np.ndarray) -> np.ndarray:
    return np.minimum(p * p.shape[-1], 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p, axis=-1)
    m = p.shape[-1]
    steps = np.maximum.accumulate(np.take_along_axis(p, order, -1) * (m - np.arange(m)), axis=-1)
    out = np.empty_like(p)
    np.put_along_axis(out, order, np.minimum(steps, 1.0), -1)
    return out


EFFECT, ERROR = np.array([0.1, 0.5, -0.2, 0.3]), np.array([0.1, 0.2, 0.15, 0.3])


def test_the_interaction_test_written_out() -> None:
    got = interaction(EFFECT, ERROR)
    w = 1 / ERROR**2
    pooled = (w @ EFFECT) / w.sum()
    q = w @ (EFFECT - pooled) ** 2
    assert got.q == pytest.approx(q)
    assert got.p_value == pytest.approx(chi2.sf(q, 3))
    assert got.share == pytest.approx(max(0, 1 - 3 / q))
    assert got.spread**2 == pytest.approx((q - 3) / (w.sum() - (w @ w) / w.sum()))


def test_two_segments_are_a_z_test_of_their_difference() -> None:
    got = interaction([0.3, 0.1], [0.05, 0.08])
    z = 0.2 / np.hypot(0.05, 0.08)
    assert got.p_value == pytest.approx(2 * norm.sf(z))
    rest = against_rest([0.3, 0.1], [0.05, 0.08], bonferroni)
    np.testing.assert_allclose(rest.p_value, 2 * norm.sf(z))
    np.testing.assert_allclose(rest.deviation, [0.2, -0.2])


def test_against_the_rest_written_out() -> None:
    got = against_rest(EFFECT, ERROR, bonferroni)
    w = 1 / ERROR[1:] ** 2
    assert got.deviation[0] == pytest.approx(0.1 - (w @ EFFECT[1:]) / w.sum())
    assert got.standard_error[0] == pytest.approx(np.sqrt(0.01 + 1 / w.sum()))
    np.testing.assert_allclose(got.adjusted_p_value, np.minimum(4 * got.p_value, 1))


def test_segments_alike_are_all_drawn_to_the_common_effect() -> None:
    got = segment_effects([0.1, 0.11, 0.09], [0.05, 0.05, 0.05], holm)
    np.testing.assert_allclose(got.shrunken, 0.1)
    np.testing.assert_allclose(got.shrunken_error, 0.05 / np.sqrt(3))
    apart = segment_effects([0.1, 2.0, -3.0], [0.001] * 3, holm)
    np.testing.assert_allclose(apart.shrunken, apart.effect, atol=1e-4)


def test_leading_axes_are_replicates() -> None:
    effect = np.stack([EFFECT, EFFECT[::-1]])
    got = segment_effects(effect, np.stack([ERROR, ERROR[::-1]]), holm)
    one = segment_effects(EFFECT, ERROR, holm)
    for many, single in zip(got, one, strict=True):
        np.testing.assert_allclose(many[0], single)
        np.testing.assert_allclose(many[1][::-1], single)
    assert interaction(effect, ERROR).p_value.shape == (2,)


def test_error_rates_without_differences_and_the_gain_of_shrinking() -> None:
    rng = np.random.default_rng(1)
    se = np.linspace(0.05, 0.2, 8)
    effect = 0.1 + rng.normal(size=(20_000, 8)) * se
    assert abs(np.mean(interaction(effect, se).p_value <= 0.05) - 0.05) < 0.005
    assert np.mean(np.any(against_rest(effect, se, holm).adjusted_p_value <= 0.05, axis=1)) < 0.055
    got = segment_effects(effect - 0.1, se, holm)
    assert abs(np.mean(np.any(got.adjusted_p_value <= 0.05, axis=1)) - 0.05) < 0.006
    assert abs(np.mean(np.any((got.lower > 0) | (got.upper < 0), axis=1)) - 0.05) < 0.006
    truth = rng.normal(0.1, 0.1, size=(20_000, 8))
    seen = segment_effects(truth + rng.normal(size=truth.shape) * se, se, holm)
    assert np.mean((seen.shrunken - truth) ** 2) < 0.75 * np.mean((seen.effect - truth) ** 2)


def test_errors() -> None:
    with pytest.raises(DataError, match=r"effects have shape \(1,\); the last axis must hold two segments or more"):
        interaction([0.1], [0.1])
    with pytest.raises(DataError, match=r"2 of the effects are not finite or their standard errors not above 0"):
        segment_effects([0.1, np.nan, 0.2], [0.1, 0.1, 0.0], holm)
    with pytest.raises(ConfigError, match=r"level is 95"):
        segment_effects([0.1, 0.2], [0.1, 0.1], holm, level=95)
