"""Simulated experiments: sizes, reproducibility, the planted truth, and each fault."""

import dataclasses

import numpy as np
import pytest

from treadle.core import ConfigError
from treadle.experiment.sample_ratio import sample_ratio_test
from treadle.experiment.simulate import Faults, Simulation, simulate

SETTINGS = Simulation(units=6000)


def rate(data, arm: int, column: str = "orders") -> float:
    visits = data.sessions
    return float(visits[column][visits["variant"] == arm].mean())


def test_equal_seeds_give_equal_data_and_others_other_arms():
    a, b, c = simulate(SETTINGS, 1), simulate(SETTINGS, 1), simulate(SETTINGS, 2)
    for table, same, other in zip((a.units, a.sessions), (b.units, b.sessions), (c.units, c.sessions), strict=True):
        assert all(np.array_equal(table[name], same[name]) for name in table)
        assert list(table) == list(other)
    assert not np.array_equal(a.units["unit"], c.units["unit"])


def test_units_are_the_sums_of_their_sessions():
    data = simulate(SETTINGS, 3)
    units, visits = data.units, data.sessions
    n = len(units["unit"])
    assert n == SETTINGS.units
    assert len(np.unique(units["unit"])) == n
    assert np.array_equal(units["sessions"], np.bincount(visits["row"], minlength=n))
    for column in ("orders", "revenue"):
        assert units[column] == pytest.approx(np.bincount(visits["row"], visits[column], n))
    assert np.array_equal(units["unit"][visits["row"]], visits["unit"])
    assert np.array_equal(units["exposed"] == 1, units["sessions"] > 0)
    assert np.array_equal(units["day"] == -1, units["sessions"] == 0)
    assert units["bucket"].min() >= 0
    assert units["bucket"].max() < SETTINGS.buckets
    seen = units["exposed"] == 1
    first = [visits["day"][visits["row"] == i].min() for i in np.flatnonzero(seen)[:20]]
    assert units["day"][seen][:20].tolist() == first


def test_healthy_data_have_the_shape_they_claim():
    data = simulate(dataclasses.replace(SETTINGS, units=40_000), 4)
    units = data.units
    assert sample_ratio_test(np.bincount(units["variant"])).pvalue > 0.001
    mean = SETTINGS.sessions * SETTINGS.days
    assert units["sessions"].mean() == pytest.approx(mean, rel=0.03)
    assert units["sessions"].var() == pytest.approx(mean + SETTINGS.overdispersion * mean**2, rel=0.1)
    assert np.corrcoef(units["orders"], units["orders_pre"])[0, 1] > 0.3
    for other in ("earlier", "other"):
        assert abs(np.corrcoef(units["variant"], units[other])[0, 1]) < 0.02
    assert rate(data, 1) == pytest.approx(rate(data, 0), rel=0.05)
    assert data.lift == 0


def test_the_lift_is_the_planted_one():
    data = simulate(Simulation(units=60_000, lift=0.2), 5)
    assert rate(data, 1) / rate(data, 0) - 1 == pytest.approx(0.2, abs=0.04)
    assert data.lift == 0.2


def test_faults():
    def made(seed: int = 6, **fault: float):
        return simulate(Simulation(units=40_000, faults=Faults(**fault)), seed)

    lost = made(srm=0.1)
    arms = np.bincount(lost.units["variant"])
    assert arms[1] / arms[0] == pytest.approx(0.9, abs=0.02)
    assert lost.units["sessions_pre"][lost.units["variant"] == 1].mean() > SETTINGS.sessions * SETTINGS.days * 1.03
    slow = made(latency=0.1)
    assert rate(slow, 1, "latency") / rate(slow, 0, "latency") == pytest.approx(1.1, abs=0.01)
    left = made(carry_over=0.3)
    assert np.array_equal(left.units["earlier"], left.units["variant"])
    assert rate(left, 1) / rate(left, 0) == pytest.approx(1.3, abs=0.05)
    new = made(novelty=1.0)
    since = new.sessions["day"] - new.units["day"][new.sessions["row"]]
    treated, orders = new.sessions["variant"] == 1, new.sessions["orders"]
    early, late = ([orders[treated & at].mean(), orders[~treated & at].mean()] for at in (since < 1, since > 9))
    assert early[0] / early[1] > 1.6
    assert late[0] / late[1] < 1.15
    assert 0.1 < new.lift < 0.6


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="Simulation: units, conversion out of range"):
        Simulation(units=0, conversion=2.0)
    with pytest.raises(ConfigError, match=r"faults\.srm"):
        Simulation(faults=Faults(srm=1.0))
