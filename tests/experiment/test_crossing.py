"""Chances to leave a corridor, against the multivariate normal, and the root finder."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from treadle.core import ConfigError, DataError
from treadle.experiment.crossing import crossing, root


def test_crossing_against_the_multivariate_normal() -> None:
    t, lower, upper, drift = np.array([0.2, 0.45, 1.0]), np.array([-1.0, -0.5, 0.1]), np.array([2.5, 2.2, 1.9]), 1.7
    got = crossing(t, lower, upper, drift)
    cov = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    mean = drift * np.sqrt(t)

    def chance(low: list[float], high: list[float]) -> float:
        k = len(low)
        return multivariate_normal(mean[:k], cov[:k, :k], seed=0).cdf(high, lower_limit=low)

    wanted = [
        chance([upper[0]], [np.inf]),
        chance([lower[0], upper[1]], [upper[0], np.inf]),
        chance([lower[0], lower[1], upper[2]], [upper[0], upper[1], np.inf]),
    ]
    np.testing.assert_allclose(got.upper, wanted, atol=1e-5)
    assert got.lower[0] == pytest.approx(chance([-np.inf], [lower[0]]), abs=1e-9)


def test_a_root_beyond_the_first_interval_is_found() -> None:
    assert root(lambda x: math.tanh(x - 30) + 0.5, 0, 1) == pytest.approx(30 - math.atanh(0.5))
    with pytest.raises(DataError, match="no change of sign"):
        root(lambda x: 1.0, 0, 1)


def test_fractions_that_do_not_rise() -> None:
    with pytest.raises(ConfigError, match=r"crossing: the information fractions are \[0.5, 0.5\]; they must rise"):
        crossing([0.5, 0.5], np.full(2, -2.0), np.full(2, 2.0))
