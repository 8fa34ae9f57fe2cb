"""Four faults that A/A calibration must catch, on generated data, each beside the sound way.

Sessions taken for units, peeking, one hash for two layers, and a hash too weak for two layers. A harness that lets one
of them pass would let yours pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .always_valid import asymptotic_confidence_sequence
from .calibrate import Calibration, Judged, calibrate, calibrate_assignment, resalted
from .compat import growthbook_hashes
from .effects import difference
from .estimates import estimate_mean, estimate_ratio
from .floats import Array, floats
from .hashing import buckets_of, salt_of
from .moments import Moments
from .simulate import Simulation, simulate

BUCKETS = 1000
UNITS = 4000
"""Units, with sequential ids, of the two faults of assignment."""
NEIGHBOUR = 0.5
"""Effect of the other layer's experiment on its treated units, in standard deviations of a unit."""

Bucketing = Callable[[int, int], NDArray[np.integer]]
"""The buckets [UNITS] in a layer (1 or 2) at a version of its salt."""


class Planted(NamedTuple):
    """A planted fault and the sound way on the same data."""

    faulty: Calibration
    sound: Calibration

    @property
    def caught(self) -> bool:
        """Whether the harness blocks the fault and not the sound way."""
        return self.faulty.finding.status == "block" and self.sound.finding.status != "block"


class Stopped(NamedTuple):
    """What is reported of an experiment that stops at the first significant look."""

    pvalue: Array
    effect_size_ci_lower: Array
    effect_size_ci_upper: Array


def sessions_for_units(replicates: int = 10_000, seed: int = 0) -> Planted:
    """Orders a session with a variance over sessions, though a user orders alike in all; the sound way is delta."""
    data = simulate(Simulation(units=10_000, overdispersion=1.0), seed)
    visits, users = data.sessions, data.units
    by_session = resalted({"orders": visits["orders"]}, visits["unit"], buckets=BUCKETS, seed=seed)
    columns = {name: users[name] for name in ("orders", "sessions")}
    by_user = resalted(columns, users["unit"], buckets=BUCKETS, seed=seed)

    def naive(control: Moments, treatment: Moments) -> Judged:
        return difference(estimate_mean(control, "orders"), estimate_mean(treatment, "orders"))

    def delta(control: Moments, treatment: Moments) -> Judged:
        return difference(*(estimate_ratio(arm, "orders", "sessions") for arm in (control, treatment)))

    (faulty,) = calibrate(by_session, {"sessions taken for units": naive}, replicates=replicates, seed=seed)
    (sound,) = calibrate(by_user, {"delta method over users": delta}, replicates=replicates, seed=seed)
    return Planted(faulty, sound)


def peeking_daily(replicates: int = 10_000, seed: int = 0, days: int = 14) -> Planted:
    """A t-test every day, and a stop at the first p-value below 5 %; the sound way is an always-valid interval."""
    rng = np.random.default_rng(seed)
    n = 20_000
    day, values = rng.integers(0, days, n), rng.gamma(2.0, size=n)
    table = resalted({"v": values}, np.arange(n), buckets=BUCKETS, looks=day, seed=seed)
    found = calibrate(
        table, {"daily t-test": _first_significant, "always valid": _always}, replicates=replicates, seed=seed
    )
    return Planted(found[0], found[1])


def one_hash_for_two_layers(replicates: int = 2000, seed: int = 0) -> Planted:
    """Buckets `id mod 1000` in both layers: the other layer's treated units fill one arm; the sound way is salted."""
    ids = np.arange(1, UNITS + 1)
    return _layers("id mod 1000 in two layers", lambda layer, version: ids % BUCKETS, replicates, seed)


def weak_hash_for_two_layers(replicates: int = 1000, seed: int = 0) -> Planted:
    """Buckets by a single FNV-1a of id and layer name, ids in sequence (GrowthBook's first version).

    The hash is read from left to right, so layers whose names differ in the last character differ by one of four
    multiples of the prime: for 99 of 100 units the bucket in one layer leaves four of the 1,000 in the other.
    """
    ids = np.arange(1, UNITS + 1)

    def weak(layer: int, version: int) -> NDArray[np.integer]:
        return np.rint(growthbook_hashes(f"v{version}-layer-{layer}", ids, version=1) * BUCKETS).astype(np.int64)

    return _layers("single FNV-1a on sequential ids", weak, replicates, seed)


PLANTED: dict[str, Callable[..., Planted]] = {
    "sessions taken for units": sessions_for_units,
    "peeking": peeking_daily,
    "id mod 1000 in two layers": one_hash_for_two_layers,
    "single FNV-1a on sequential ids": weak_hash_for_two_layers,
}


def _layers(name: str, bucketing: Bucketing, replicates: int, seed: int) -> Planted:
    """Return the A/A of a second layer while an experiment with an effect runs in the first."""
    ids = np.arange(1, UNITS + 1)

    def salted(layer: int, version: int) -> NDArray[np.integer]:
        return buckets_of(salt_of("layer", layer, version), ids, BUCKETS).astype(np.int64)

    base = np.random.default_rng(seed).standard_normal(UNITS)
    values = np.concatenate([base, base + NEIGHBOUR])  # a cell a unit: without and with the other layer's treatment
    cells = Moments(
        ("v",), np.ones(values.size), values[:, None], np.zeros((values.size, 1, 1)), np.zeros((values.size, 1))
    )

    def welch(control: Moments, treatment: Moments) -> Judged:
        return difference(estimate_mean(control, "v"), estimate_mean(treatment, "v"))

    def run(called: str, buckets: Bucketing) -> Calibration:
        def choose(version: int) -> tuple[Array, Array]:
            # Where in a layer an experiment lies is its owner's affair.
            start = np.random.default_rng((seed, version)).integers(0, BUCKETS, 2)
            other, own = ((buckets(i + 1, version) - start[i]) % BUCKETS < BUCKETS // 2 for i in (0, 1))
            return tuple(floats(np.concatenate([arm & ~other, arm & other])) for arm in (~own, own))  # pyright: ignore[reportReturnType]

        return calibrate_assignment(cells, choose, {called: welch}, replicates=replicates)[0]

    return Planted(run(name, bucketing), run("a salted hash for each layer", salted))


def _first_significant(control: Moments, treatment: Moments) -> Stopped:
    found = difference(estimate_mean(control, "v"), estimate_mean(treatment, "v"))
    return _at_stop(floats(found.pvalue), floats(found.effect_size_ci_lower), floats(found.effect_size_ci_upper))


def _always(control: Moments, treatment: Moments) -> Stopped:
    found = difference(estimate_mean(control, "v"), estimate_mean(treatment, "v"), test="z")
    n = control.count + treatment.count
    valid = asymptotic_confidence_sequence(found.effect_size, found.standard_error, n, tuning=float(n.max()))
    return _at_stop(valid.p_value, valid.lower, valid.upper)


def _at_stop(pvalue: Array, lower: Array, upper: Array) -> Stopped:
    """Return the smallest p-value over the looks (the first axis) and the interval of the look where one stops."""
    significant = pvalue <= 0.05
    stop = np.where(significant.any(0), significant.argmax(0), len(pvalue) - 1)[None]
    ends = (np.take_along_axis(x, stop, 0)[0] for x in (lower, upper))
    return Stopped(pvalue.min(0), *ends)
