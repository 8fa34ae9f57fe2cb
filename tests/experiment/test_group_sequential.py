"""Group sequential boundaries against published tables, and the promises of a design against simulation."""

import math

import numpy as np
import pytest

from treadle.core import ConfigError, DataError
from treadle.experiment.crossing import crossing
from treadle.experiment.group_sequential import (
    Design,
    adjusted,
    boundaries,
    boundaries_at,
    characteristics,
    first_crossing,
    repeated_interval,
    spending,
)

# Jennison & Turnbull 2000, tables 2.1 and 2.3: two-sided, alpha 0.05.
POCOCK = {1: 1.960, 2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 6: 2.453, 8: 2.512, 10: 2.555, 15: 2.626, 20: 2.672}
OBRIEN_FLEMING = {1: 1.960, 2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 6: 2.053, 8: 2.072, 10: 2.087, 15: 2.110, 20: 2.126}


@pytest.mark.parametrize("looks", POCOCK)
def test_constants_of_pocock_and_obrien_fleming(looks: int) -> None:
    pocock = boundaries(Design(looks, boundary="pocock")).upper
    np.testing.assert_allclose(pocock, POCOCK[looks], atol=5.1e-4)
    obrien = boundaries(Design(looks, boundary="obrien-fleming")).upper
    np.testing.assert_allclose(obrien * np.sqrt(np.arange(1, looks + 1) / looks), OBRIEN_FLEMING[looks], atol=5.1e-4)


@pytest.mark.parametrize(
    ("boundary", "power", "factors"),
    [
        ("pocock", 0.8, {2: 1.110, 3: 1.166, 4: 1.202, 5: 1.228}),
        ("pocock", 0.9, {2: 1.100, 3: 1.151, 4: 1.183, 5: 1.207}),
        ("obrien-fleming", 0.8, {2: 1.008, 3: 1.017, 4: 1.024, 5: 1.028}),
        ("obrien-fleming", 0.9, {2: 1.007, 3: 1.016, 4: 1.022, 5: 1.026}),
    ],
)
def test_inflation_factors(boundary: str, power: float, factors: dict[int, float]) -> None:
    # Jennison & Turnbull 2000, tables 2.2 and 2.4.
    for looks, factor in factors.items():
        assert characteristics(Design(looks, boundary=boundary, power=power)).inflation == pytest.approx(
            factor, abs=6e-4
        )


# Figures printed to eight digits by the tests of rpact.
DESIGNS = [
    (Design(3, 0.025, 1, "obrien-fleming"), [3.4710914, 2.4544323, 2.0040356], [0.00025917372, 0.0071600594, 0.025]),
    (Design(4, 0.025, 1, "wang-tsiatis", 0.4, (0.5244,) * 3, binding=True),
     [2.4958485, 2.328709, 2.2361766, 2.1727623], [0.0062828133, 0.013876673, 0.02015684, 0.025]),
    (Design((0.3, 0.8, 1.0), 0.025, 2, "wang-tsiatis", 0.24),
     [3.2029374, 2.4819703, 2.3420706], [0.0013603353, 0.013978861, 0.025]),
    (Design((0.2, 0.4, 1.0), 0.03, 1, "hwang-shih-decani", 0.0),
     [2.5121443, 2.4228747, 2.0280392], [0.006, 0.012, 0.03]),
    (Design((0.3, 0.7, 1.0), 0.03, 1, "kim-demets", 2.2),
     [2.8594012, 2.2435708, 1.9735737], [0.0021222083, 0.013687904, 0.03]),
    (Design((0.35, 0.7, 1.0), 0.13, 1, "lan-demets-pocock"),
     [1.5446617, 1.4828682, 1.4620058], [0.061214062, 0.10266465, 0.13]),
    (Design((0.4, 0.7), 0.025, 1, "lan-demets-pocock"), [2.223875, 2.3050796], [0.013078429, 0.0197432]),
    (Design((0.4, 0.75, 0.85, 1.0), 0.13, 1, "lan-demets-obrien-fleming"),
     [2.1280732, 1.4368565, 1.422873, 1.2970881], [0.016665509, 0.080406163, 0.10053322, 0.13]),
]  # fmt: skip


@pytest.mark.parametrize(("design", "upper", "spent"), DESIGNS, ids=lambda value: getattr(value, "boundary", ""))
def test_boundaries_of_other_designs(design: Design, upper: list[float], spent: list[float]) -> None:
    got = boundaries(design)
    np.testing.assert_allclose(got.upper, upper, rtol=1e-7)
    np.testing.assert_allclose(got.spent, spent, rtol=1e-6)


FUTILITY = [
    (Design((0.2, 0.4, 1.0), 0.07, 1, "hwang-shih-decani", -1.0, "hwang-shih-decani", -2.0, power=0.86),
     [2.364813, 2.1928805, 1.5660474], [-1.1063623, -0.35992439], [0.12038953, 0.32895265, 0.86], 1.0869177,
     [0.79471657, 0.916142, 0.82636428]),
    (Design((0.3, 0.7, 1.0), 0.03, 1, "kim-demets", 2.2, "kim-demets", 3.2, power=0.66),
     [2.8594012, 2.2435708, 1.9735737], [-1.1558435, 0.72836893], [0.058336437, 0.398246, 0.66], 1.0555891,
     [0.75480974, 0.87361707, 0.86740735]),
    (Design((0.4, 0.75, 1.0), 0.13, 1, "lan-demets-obrien-fleming", None, "kim-demets", 2.5, power=0.59),
     [2.1280732, 1.4368565, 1.2468994], [-0.83725762, 0.35992547], [0.10903632, 0.42541278, 0.59], None, None),
    (Design((0.4, 0.75, 1.0), 0.13, 1, "lan-demets-obrien-fleming", None, "kim-demets", 2.5, binding=True, power=0.59),
     [2.1280732, 1.4362896, 1.2218662], [-0.84937686, 0.34328914], [0.1067887, 0.41918821, 0.59], None, None),
]  # fmt: skip


@pytest.mark.parametrize(("design", "upper", "lower", "power", "inflation", "expected"), FUTILITY)
def test_futility_by_spending(
    design: Design, upper: list[float], lower: list[float], power: list[float], inflation: float, expected: list[float]
) -> None:
    got, cost = boundaries(design), characteristics(design)
    np.testing.assert_allclose(got.upper, upper, rtol=1e-7)
    np.testing.assert_allclose(got.lower[:-1], lower, rtol=1e-6)
    assert got.lower[-1] == got.upper[-1]
    np.testing.assert_allclose(cost.power, power, rtol=1e-6)
    if inflation:
        assert cost.inflation == pytest.approx(inflation, rel=1e-7)
        sizes = [cost.expected_null, cost.expected_half, cost.expected_alternative]
        np.testing.assert_allclose(sizes, expected, rtol=1e-6)


def test_stopping_early_is_adjusted_for() -> None:
    # rpact's example of a one-sided design that rejects at look 3 of 4 with z = 2.9 and a standard error of sqrt(4/29).
    design = Design((0.2, 0.4, 0.6, 1.0), 0.025, 1, "wang-tsiatis", 0.45, (0.0, 0.0, 0.0))
    se = math.sqrt(4 / 29)
    got = adjusted(design, (0.2, 0.4, 0.6), 2.9 * se, se)
    assert got.p_value == pytest.approx(0.013371274, rel=1e-7)
    np.testing.assert_allclose(np.exp([got.effect, got.lower, got.upper]), [2.632639, 1.1294538, 5.6956842], rtol=2e-6)


def test_at_the_first_look_the_adjusted_analysis_is_the_plain_one() -> None:
    got = adjusted(Design(4), (0.25,), 1.0, 0.25)
    half = 1.959963984540054 * 0.25
    np.testing.assert_allclose([got.effect, got.lower, got.upper], [1.0, 1.0 - half, 1.0 + half], rtol=1e-9)
    assert got.p_value == pytest.approx(2 * 3.167124183311998e-05, rel=1e-9)


def test_a_low_outcome_is_the_mirror_of_a_high_one() -> None:
    design = Design(4, boundary="pocock")
    high, low = (adjusted(design, (0.25, 0.5), effect, 0.25) for effect in (0.6, -0.6))
    np.testing.assert_allclose(low, [high.p_value, -high.effect, -high.upper, -high.lower], rtol=1e-8)


def test_looks_may_come_from_numpy_or_a_list() -> None:
    assert Design(np.int64(4)) == Design(4)
    assert Design([0.25, 1.0]) == Design(np.array([0.25, 1.0])) == Design((0.25, 1.0))


def test_uneven_and_close_looks_spend_what_they_should() -> None:
    bounds = boundaries(Design((0.05, 0.051, 0.4, 0.401, 0.9, 1.0), boundary="kim-demets", shape=1.0))
    got = crossing(bounds.fraction, bounds.lower, bounds.upper)
    np.testing.assert_allclose(np.cumsum(got.upper + got.lower), bounds.spent, rtol=1e-9)


@pytest.mark.parametrize("boundary", ["pocock", "obrien-fleming", "lan-demets-pocock"])
def test_skipped_and_shifted_looks_keep_the_error_rate(boundary: str) -> None:
    design = Design(5, boundary=boundary)
    bounds = boundaries_at(design, (0.2, 0.55, 0.9), final=True)  # looks 2 and 3 merged, the last one early
    got = crossing(bounds.fraction, bounds.lower, bounds.upper)
    assert float(np.sum(got.upper + got.lower)) == pytest.approx(0.05, rel=1e-8)
    assert bounds.upper[0] == pytest.approx(boundaries(design).upper[0], rel=1e-8)


def test_a_look_too_many_is_free_of_error_but_not_of_cost() -> None:
    bounds = boundaries_at(Design(4), (0.25, 0.5, 0.75, 1.1))
    got = crossing(bounds.fraction, bounds.lower, bounds.upper)
    assert float(np.sum(got.upper + got.lower)) == pytest.approx(0.05, rel=1e-8)


def test_the_last_interval_of_obrien_fleming_is_little_wider_than_the_fixed_one() -> None:
    for boundary in ("obrien-fleming", "lan-demets-obrien-fleming"):
        bounds = boundaries(Design(20, boundary=boundary))
        low, high = repeated_interval(0.3, np.full(20, 0.1), bounds)
        assert (high - low)[-1] <= 1.10 * 2 * 1.959963984540054 * 0.1


def test_first_crossing_over_replicates() -> None:
    bounds = boundaries(Design(3, boundary="pocock"))
    z = np.array([[[0.0, 2.3, 0.0], [-2.4, 3.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 2.3]]])
    look, side = first_crossing(z, bounds)
    assert look.tolist() == [[1, 0], [2, 2]]
    assert side.tolist() == [[1, -1], [0, 1]]


def paths(replicates: int, looks: int, drift: float = 0.0, seed: int = 7) -> np.ndarray:
    t = np.arange(1, looks + 1) / looks
    steps = np.random.default_rng(seed).normal(size=(replicates, looks)) / math.sqrt(looks)
    return (np.cumsum(steps, axis=1) + drift * t) / np.sqrt(t)


@pytest.mark.slow
@pytest.mark.parametrize("looks", [20, 500])
@pytest.mark.parametrize("boundary", ["lan-demets-obrien-fleming", "lan-demets-pocock", "obrien-fleming"])
def test_false_positives_over_many_looks(looks: int, boundary: str) -> None:
    bounds = boundaries(Design(looks, boundary=boundary))
    exact = crossing(bounds.fraction, bounds.lower, bounds.upper)
    assert float(np.sum(exact.upper + exact.lower)) == pytest.approx(0.05, rel=1e-8)
    _, side = first_crossing(paths(10_000, looks), bounds)
    assert abs(np.mean(side != 0) - 0.05) <= 0.0056


@pytest.mark.slow
def test_simulated_power_and_stopping() -> None:
    design = Design(5, 0.025, 1, "lan-demets-obrien-fleming", futility="lan-demets-pocock", power=0.8)
    cost, bounds = characteristics(design), boundaries(design)
    look, side = first_crossing(paths(40_000, 5, cost.drift), bounds)
    assert abs(np.mean(side == 1) - 0.8) <= 0.013
    size = cost.inflation * bounds.fraction[look]
    assert np.mean(size) == pytest.approx(cost.expected_alternative, rel=0.01)


@pytest.mark.slow
def test_the_adjusted_interval_covers_and_the_adjusted_p_value_is_uniform() -> None:
    design, drift, covered, p = Design(4, boundary="pocock"), 2.0, [], []
    bounds = boundaries(design)
    for true, keep in ((drift, covered), (0.0, p)):
        z = paths(1500, 4, true, seed=8)
        for row, look in zip(z, first_crossing(z, bounds)[0], strict=True):
            se = 1 / math.sqrt(bounds.fraction[look])
            got = adjusted(design, bounds.fraction[: look + 1], row[look] * se, se)
            keep.append(got.lower <= drift <= got.upper if true else got.p_value)
    assert abs(np.mean(covered) - 0.95) <= 0.017
    assert abs(np.mean(np.array(p) < 0.3) - 0.3) <= 0.036


def test_spending_reaches_all_of_it_at_the_end() -> None:
    for name, shape in (("lan-demets-obrien-fleming", None), ("lan-demets-pocock", None), ("kim-demets", 3.0)):
        assert spending(name, [0.5, 1.0, 1.2], 0.05, sided=2, shape=shape)[1:] == pytest.approx([0.05, 0.05])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sided": 3}, r"sided is 3; it must be 1 or 2"),
        ({"boundary": "haybittle"}, r"boundary is 'haybittle'; allowed are pocock, obrien-fleming, wang-tsiatis"),
        ({"boundary": "wang-tsiatis"}, r"shape is None, but 'wang-tsiatis' needs a number"),
        ({"shape": 2.0}, r"shape is 2.0, but 'lan-demets-obrien-fleming' takes none"),
        ({"looks": (0.5, 0.4)}, r"fractions are \[0.5, 0.4\]; they must rise from above 0 to at most 1"),
        ({"looks": 0}, r"looks is 0; give at least 1"),
        ({"looks": (0.5, 0.500001)}, r"lie too close"),
        ({"futility": "kim-demets"}, r"futility needs sided=1"),
        ({"futility": "pocock", "sided": 1}, r"futility is 'pocock'; allowed are"),
        ({"futility": (0.0,), "sided": 1}, r"futility has 1 values for 5 looks"),
        ({"power": 0.01}, r"power is 0.01; it must lie between alpha and 1"),
        ({"boundary": "kim-demets", "shape": 0.0}, r"the exponent of 'kim-demets' must be above 0"),
        ({"boundary": "pocock", "sided": 1, "binding": True, "futility": "lan-demets-pocock"},
         r"binding futility by spending needs a boundary by spending"),
    ],
)  # fmt: skip
def test_errors_of_a_design(settings: dict, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Design(**settings)


def test_errors_of_use() -> None:
    with pytest.raises(DataError, match=r"z has shape \(2,\), the design 5 looks"):
        first_crossing([1.0, 2.0], boundaries(Design(5)))
    with pytest.raises(ConfigError, match=r"futility as z values belongs to planned looks"):
        boundaries_at(Design(3, sided=1, futility=(0.0, 0.0)), (0.5, 1.0))
    with pytest.raises(DataError, match=r"the standard error is 0; it must be above 0"):
        adjusted(Design(3), (0.5,), 1.0, 0)
    with pytest.raises(ConfigError, match=r"'obrien' is not a spending function"):
        spending("obrien", 0.5, 0.05)
