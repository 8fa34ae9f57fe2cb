"""Data of an experiment that never took place: users, sessions, orders and what they did before, with known effects.

For demonstrations and tests. Users differ (gamma-distributed activity, so that sessions are over-dispersed), what they
did before predicts what they do, revenue is skewed, arms come from the real hashes, and faults can be planted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from treadle.core import ConfigError

from .floats import Array, floats
from .hashing import buckets_of, salt_of

SEGMENTS = ("phone", "desktop", "tablet")
SEGMENT_SHARES = (0.6, 0.3, 0.1)
SPLIT = 10_000
"""Slots of the split."""
FADING = 3.0
"""Days in which a planted novelty fades to a third."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with the data; nothing unless given.

    Args:
        srm: Share of the treatment's units lost from the data, the less active ones first to go.
        carry_over: Relative effect on orders left from an earlier experiment whose arms are today's.
        novelty: Relative effect of the treatment on orders on a user's first day, which fades.
        latency: Relative increase of the treatment's latency.
    """

    srm: float = 0.0
    carry_over: float = 0.0
    novelty: float = 0.0
    latency: float = 0.0


@dataclass(frozen=True)
class Simulation:
    """Settings.

    Args:
        units: Users who are assigned.
        days: Days of the experiment; as many before it are the pre-period.
        weights: Traffic of control and treatment.
        buckets: Buckets of the layer.
        sessions: Sessions of a user a day, on average.
        overdispersion: Variance of users' activity over its mean squared; 0 is none.
        conversion: Orders a session, on average.
        correlation: How much users' inclination to order persists, 0 to 1.
        order_value: Median value of an order.
        skew: Standard deviation of the logarithm of an order's value.
        latency: Median latency of a session in milliseconds.
        lift: True relative effect of the treatment on orders a session.
        faults: What is wrong.

    Raises:
        ConfigError: a setting is out of range.
    """

    units: int = 20_000
    days: int = 14
    weights: tuple[float, float] = (0.5, 0.5)
    buckets: int = 1000
    sessions: float = 0.4
    overdispersion: float = 0.8
    conversion: float = 0.12
    correlation: float = 0.7
    order_value: float = 30.0
    skew: float = 0.8
    latency: float = 120.0
    lift: float = 0.0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        positive = ("units", "days", "buckets", "sessions", "order_value", "latency")
        wrong = [name for name in positive if not getattr(self, name) > 0]
        wrong += [name for name in ("overdispersion", "skew") if not getattr(self, name) >= 0]
        wrong += [name for name in ("conversion", "correlation") if not 0 <= getattr(self, name) <= 1]
        wrong += ["weights"] if min(self.weights) <= 0 else []
        wrong += ["faults.srm"] if not 0 <= self.faults.srm < 1 else []
        if wrong:
            raise ConfigError(
                f"Simulation: {', '.join(wrong)} out of range; sizes are positive, shares between 0 and 1."
            )


class Simulated(NamedTuple):
    """The data.

    Attributes:
        units: Columns [users]: unit, bucket, variant (0 or 1), earlier (arm of the earlier experiment), other (arm of
            an experiment in another layer), segment (code), exposed (0 or 1), day (of the first session, -1 without),
            sessions, orders, revenue, converted, latency (mean, 0 without), and sessions_pre, orders_pre, revenue_pre.
        sessions: Columns [sessions]: row (of the user), unit, variant, day, orders, revenue, latency.
        settings: What made them.
        lift: True relative effect on orders a session, averaged over sessions.
    """

    units: dict[str, NDArray[Any]]
    sessions: dict[str, NDArray[Any]]
    settings: Simulation
    lift: float


def simulate(settings: Simulation | None = None, seed: int = 0) -> Simulated:
    """Return the data of one experiment; equal settings and seeds give equal data.

    The seed draws users and noise, and is the version of the salts, so that arms differ between seeds as well.
    """
    s = Simulation() if settings is None else settings
    rng = np.random.default_rng(seed)
    unit = rng.permutation(s.units * 10)[: s.units].astype(np.int64) + 1
    variant = _arms(unit, s.weights, "split", seed)
    earlier = variant.copy() if s.faults.carry_over else _arms(unit, (0.5, 0.5), "earlier", seed)
    activity = rng.gamma(1 / s.overdispersion, s.overdispersion, s.units) if s.overdispersion else np.ones(s.units)
    if s.faults.srm:
        lost = (variant == 1) & (rng.random(s.units) < np.minimum(1, 2 * s.faults.srm * (_rank(activity) < 0.5)))
        unit, variant, earlier, activity = unit[~lost], variant[~lost], earlier[~lost], activity[~lost]
    n = unit.size
    z = rng.standard_normal((3, n))
    inclined = [np.sqrt(s.correlation) * z[0] + np.sqrt(1 - s.correlation) * z[i] for i in (1, 2)]
    taste = [s.conversion * np.exp(0.5 * x - 0.125) for x in inclined]

    row, day = _visits(rng, activity, s)
    first = np.full(n, s.days)
    np.minimum.at(first, row, day)
    fading = np.exp(-(day - first[row]) / FADING)
    factor = 1 + variant[row] * (s.lift + s.faults.novelty * fading) + earlier[row] * s.faults.carry_over
    orders, revenue = _orders(rng, taste[1][row] * factor, s)
    slower = 1 + s.faults.latency * variant[row]
    latency = s.latency * slower * np.exp(0.3 * rng.standard_normal(row.size) + 0.2 * z[0][row])
    count = floats(np.bincount(row, minlength=n))

    row_pre, _ = _visits(rng, activity, s)
    orders_pre, revenue_pre = _orders(rng, taste[0][row_pre], s)
    units: dict[str, NDArray[Any]] = {
        "unit": unit,
        "bucket": buckets_of(salt_of("simulate", "layer", seed), unit, s.buckets).astype(np.int64),
        "variant": variant,
        "earlier": earlier,
        "other": _arms(unit, (0.5, 0.5), "other", seed),
        "segment": rng.choice(len(SEGMENTS), n, p=SEGMENT_SHARES),
        "exposed": (count > 0).astype(np.int64),
        "day": np.where(first < s.days, first, -1),
        "sessions": count,
        "orders": _sum(row, orders, n),
        "revenue": _sum(row, revenue, n),
        "latency": _sum(row, latency, n) / np.maximum(count, 1),
        "sessions_pre": floats(np.bincount(row_pre, minlength=n)),
        "orders_pre": _sum(row_pre, orders_pre, n),
        "revenue_pre": _sum(row_pre, revenue_pre, n),
    }
    units["converted"] = (units["orders"] > 0).astype(np.float64)
    visits: dict[str, NDArray[Any]] = {"row": row, "unit": unit[row], "variant": variant[row], "day": day}
    visits |= {"orders": orders, "revenue": revenue, "latency": latency}
    return Simulated(units, visits, s, s.lift + s.faults.novelty * float(fading.mean()))


def _arms(unit: NDArray[np.int64], weights: tuple[float, float], name: str, seed: int) -> NDArray[np.int64]:
    slots = buckets_of(salt_of("simulate", name, seed), unit, SPLIT)
    return (slots >= round(SPLIT * weights[0] / sum(weights))).astype(np.int64)


def _visits(rng: np.random.Generator, activity: Array, s: Simulation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return user and day of each session, by user and day."""
    count = rng.poisson(s.sessions * activity[:, None], (activity.size, s.days))
    cell = np.repeat(np.arange(count.size), count.ravel())
    return cell // s.days, cell % s.days


def _orders(rng: np.random.Generator, chance: Array, s: Simulation) -> tuple[Array, Array]:
    """Return orders (0 or 1) and revenue of each session."""
    orders = floats(rng.random(chance.size) < chance)
    return orders, orders * s.order_value * np.exp(s.skew * rng.standard_normal(chance.size))


def _sum(row: NDArray[np.int64], values: Array, n: int) -> Array:
    return floats(np.bincount(row, values, n))


def _rank(x: Array) -> Array:
    """Return ranks as shares of the number, 0 to 1."""
    out = np.empty(x.size)
    out[np.argsort(x, kind="stable")] = np.arange(x.size) / x.size
    return out
