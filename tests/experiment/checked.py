"""Every validity check on simulated data."""

import numpy as np

from treadle.experiment.checks import (
    assignment_drift,
    carry_over,
    covariate_balance,
    exposure_mismatch,
    exposure_table,
    layer_interaction,
    novelty,
    outlier_leverage,
    peeking,
    pre_period,
    sample_ratio,
    sample_ratio_by,
    sample_ratio_over_time,
)
from treadle.experiment.effects import difference
from treadle.experiment.estimates import estimate_mean, estimate_ratio
from treadle.experiment.findings import Finding
from treadle.experiment.hashing import buckets_of, salt_of
from treadle.experiment.moments import Moments
from treadle.experiment.simulate import SEGMENTS, SPLIT, Simulated
from treadle.experiment.spec import Stopping

WINDOW = 7


def by_since(data: Simulated, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return effects [WINDOW] on a column of sessions by days since the first one, and their covariance."""
    units, visits = data.units, data.sessions
    since = visits["day"] - units["day"][visits["row"]]
    kept = since < WINDOW
    cell = visits["row"][kept] * WINDOW + since[kept]
    values = np.bincount(cell, visits[column][kept], len(units["unit"]) * WINDOW).reshape(-1, WINDOW)
    full = (units["day"] >= 0) & (units["day"] <= data.settings.days - WINDOW)
    names = [f"d{i}" for i in range(WINDOW)]
    arms = Moments.from_rows(dict(zip(names, values[full].T, strict=True)), units["variant"][full], 2)
    covariance = arms.covariance() / arms.count[:, None, None]
    return arms.mean[1] - arms.mean[0], covariance.sum(0)


def findings(data: Simulated, seed: int) -> list[Finding]:
    """Return what every check says of data that `simulate` made with this seed."""
    units, days = data.units, data.settings.days
    variant = units["variant"]
    came = units["day"] >= 0
    daily = np.bincount(units["day"][came] * 2 + variant[came], minlength=2 * days).reshape(-1, 2)
    segments = np.bincount(units["segment"] * 2 + variant, minlength=6).reshape(-1, 2)
    columns = {k: v for k, v in units.items() if v.dtype == np.float64}
    arms = Moments.from_rows(columns, variant, 2)
    before = {name: [estimate_mean(arms[i], name) for i in (0, 1)] for name in ("sessions_pre", "revenue_pre")}
    before["rate_pre"] = [estimate_ratio(arms[i], "orders_pre", "sessions_pre") for i in (0, 1)]
    hashed = buckets_of(salt_of("simulate", "split", seed), units["unit"], SPLIT) >= SPLIT // 2
    crossed = [Moments.from_rows(columns, units[by] * 2 + variant, (2, 2)) for by in ("earlier", "other")]
    swapped = Moments.from_rows(columns, variant * 2 + units["other"], (2, 2))
    return [
        sample_ratio(arms.count, arms=("control", "treatment")),
        sample_ratio_by("day", range(days), daily),
        sample_ratio_by("segment", SEGMENTS, segments),
        sample_ratio_over_time(np.cumsum(daily, 0)),
        pre_period({name: difference(*pair) for name, pair in before.items()}),
        covariate_balance([arms[0], arms[1]], ["sessions_pre", "orders_pre", "revenue_pre"]),
        exposure_mismatch(exposure_table(variant, np.where(units["exposed"] == 1, variant, -1), 2)),
        assignment_drift(variant, hashed.astype(int), units["unit"]),
        carry_over(crossed[0], "orders"),
        novelty(*by_since(data, "orders")),
        layer_interaction(swapped, "orders"),
        outlier_leverage(units["revenue"][variant == 0], units["revenue"][variant == 1], "revenue"),
        peeking([1.0], Stopping(), stopped=True),
    ]


def statuses(data: Simulated, seed: int) -> dict[str, str]:
    """Return the status of every check by name."""
    return {found.name: found.status for found in findings(data, seed)}
