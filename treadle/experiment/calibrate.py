"""A/A calibration: re-randomise real units thousands of times and see whether an estimator keeps its promises.

No replicate has an effect, so 5 % of p-values may be below 5 %, p-values are uniform, and with an effect planted, 95 %
of intervals cover it. A replicate is a choice of cells for each arm, so thousands of them are one matrix product.

Halves of *one* table of buckets are not enough: its buckets differ by chance a little more or less than their units
say, the same in all replicates, which moves the rate of false positives by `table_error` (half a point for 1,000
buckets). So tables come from several salts (`resalted`), and what is left of that error is allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from treadle.core import ConfigError, DataError

from .findings import BLOCK, Check, Finding, Status, judge
from .floats import Array, Floats, check_level, floats, two_sum
from .hashing import buckets_of, salt_of
from .moments import Moments, stack

CHUNK = 500
"""Replicates at a time: their choices of 1,000 buckets take 4 MB an arm."""
STEEPEST = 0.484
"""The largest slope of a two-sided p-value's distribution in the scale of its standard error, 2 z phi(z) at z = 1."""

CHECK = Check(
    "calibration",
    "An estimator that finds effects where there are none does so in every experiment; its p-values mean nothing.",
    "Do not use it on this data. Take the unit of assignment as the unit of analysis (delta method for ratios), look "
    "only when the stopping rule says so, and assign by a hash whose salts make layers independent.",
)


class Judged(Protocol):
    """What an estimator returns: an `Effect`, a `Comparison` or anything else with these, over the replicates."""

    @property
    def pvalue(self) -> Floats: ...
    @property
    def effect_size_ci_lower(self) -> Floats: ...
    @property
    def effect_size_ci_upper(self) -> Floats: ...


Estimator = Callable[[Moments, Moments], Judged]
RowEstimator = Callable[[Array, Array, int], Judged]
"""Of the values of both arms and a seed of the replicate's own: with one seed for all, a bootstrap's errors repeat."""


class Plant(NamedTuple):
    """A planted effect: what is done to the treatment, and the truth that intervals shall cover."""

    change: Callable[[Moments], Moments]
    truth: float


class Calibration(NamedTuple):
    """How an estimator did.

    Attributes:
        name: The estimator.
        replicates: A/A replicates.
        tables: Tables of buckets they were drawn from.
        alpha: The nominal rate.
        false_positives: Share of p-values at most alpha.
        false_positives_ci_lower: Of the binomial interval (Clopper and Pearson 1934, 95 %).
        false_positives_ci_upper: Likewise.
        uniformity: Kolmogorov-Smirnov distance of p-values from the uniform distribution.
        uniformity_pvalue: Its p-value.
        coverage: Share of intervals that cover the planted effect (zero if none is planted).
        coverage_ci_lower: Of its binomial interval.
        coverage_ci_upper: Likewise.
        undefined: Replicates without a p-value; they count as no false positives.
        finding: The verdict: "block" if it promises too much, "warn" if it may, or is needlessly cautious.
    """

    name: str
    replicates: int
    tables: int
    alpha: float
    false_positives: float
    false_positives_ci_lower: float
    false_positives_ci_upper: float
    uniformity: float
    uniformity_pvalue: float
    coverage: float
    coverage_ci_lower: float
    coverage_ci_upper: float
    undefined: int
    finding: Finding

    def __str__(self) -> str:
        return f"{self.finding.status:5} {self.name}: {self.finding.found}"


def calibrate(
    tables: Moments,
    estimators: Mapping[str, Estimator],
    *,
    replicates: int = 10_000,
    treated: float = 0.5,
    alpha: float = 0.05,
    plant: Plant | None = None,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Return how each estimator does when buckets are dealt to two arms at random.

    Args:
        tables: Moments [buckets], [tables, buckets] (see `resalted`), or [tables, looks, buckets] of all that is known
            at each look.
        estimators: By name, functions of the moments of control and treatment. Their leading axes are [replicates],
            with looks [looks, replicates]; the results have the axis [replicates].
        replicates: How many, dealt evenly to the tables.
        treated: Share of the buckets that are treated.
        alpha: Nominal rate of false positives; intervals are to have the level 1 - alpha.
        plant: An effect for the intervals to cover, such as `added("revenue", 0.5)`.
        seed: Of the random numbers.

    Raises:
        ConfigError: fewer replicates than tables, or an option is out of range.
        DataError: fewer than four buckets, or an estimator's result has another shape.
    """
    whole = stack([tables]) if tables.count.ndim == 1 else tables
    count, buckets = whole.shape[0], whole.shape[-1]
    if whole.count.ndim not in {2, 3} or buckets < 4:
        raise DataError(
            f"calibrate: a table {tables.shape}; give [buckets], [tables, buckets] or [tables, looks, buckets] of 4 "
            "buckets or more."
        )
    chosen = round(buckets * treated)
    if not 0 < chosen < buckets or replicates < count:
        raise ConfigError(
            f"calibrate: {replicates} replicates of {count} tables with {treated:g} of {buckets} buckets treated; give "
            "a replicate a table or more, and buckets for both arms."
        )
    rng = np.random.default_rng(seed)

    def pairs() -> Iterator[tuple[Moments, Moments]]:
        start = (np.arange(buckets) < chosen).astype(np.float64)
        for i in range(count):
            left = replicates * (i + 1) // count - replicates * i // count
            while left > 0:
                size = min(left, CHUNK)
                left -= size
                choice = rng.permuted(np.broadcast_to(start, (size, buckets)), axis=1)
                yield _combine(whole[i], 1 - choice), _combine(whole[i], choice)

    return _judge_all(pairs(), estimators, (count, buckets), alpha, plant)


def calibrate_assignment(
    cells: Moments,
    choose: Callable[[int], tuple[ArrayLike, ArrayLike]],
    estimators: Mapping[str, Estimator],
    *,
    replicates: int = 10_000,
    alpha: float = 0.05,
    plant: Plant | None = None,
) -> tuple[Calibration, ...]:
    """Return how each estimator does when units are assigned again and again by an assignment of their own.

    Args:
        cells: Moments [cells], a cell being a unit.
        choose: Returns for the number of a replicate (the version of the salts) which cells are in control and which in
            treatment, [cells] each.
        estimators: As in `calibrate`.
        replicates: As in `calibrate`.
        alpha: As in `calibrate`.
        plant: As in `calibrate`.

    Raises:
        DataError: as `calibrate`.
    """

    def pairs() -> Iterator[tuple[Moments, Moments]]:
        step = max(1, CHUNK * 1000 // max(cells.count.size, 1))
        for at in range(0, replicates, step):
            chosen = [choose(i) for i in range(at, min(at + step, replicates))]
            yield tuple(cells.combine(np.stack([floats(pair[arm]) for pair in chosen])) for arm in (0, 1))  # pyright: ignore[reportReturnType]

    return _judge_all(pairs(), estimators, (1, int(cells.count.size)), alpha, plant)


def calibrate_rows(
    values: ArrayLike,
    estimators: Mapping[str, RowEstimator],
    *,
    replicates: int = 1000,
    treated: float = 0.5,
    alpha: float = 0.05,
    effect: float = 0.0,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Return how estimators that need values (bootstrap, permutation, ranks) do; one split of the units a replicate.

    Args:
        values: Of each unit [n].
        estimators: Functions of the values of control and treatment and of a seed, another in every replicate.
        replicates: How many.
        treated: Share of the units that are treated.
        alpha: As in `calibrate`.
        effect: Added to the treatment's values for the intervals to cover; p-values are without it.
        seed: Of the random numbers.

    Raises:
        DataError: fewer than four values.
    """
    x = floats(values)
    cut = round(x.size * (1 - treated))
    if x.ndim != 1 or x.size < 4 or not 0 < cut < x.size:
        raise DataError(
            f"calibrate_rows: values {x.shape} with {treated:g} treated; give [n], 4 or more, for two arms."
        )
    rng = np.random.default_rng(seed)
    table: dict[str, list[tuple[float, ...]]] = {name: [] for name in estimators}
    for _ in range(replicates):
        mixed, own = rng.permutation(x), int(rng.integers(1 << 32))
        for name, estimator in estimators.items():
            found = estimator(mixed[:cut], mixed[cut:], own)
            other = estimator(mixed[:cut], mixed[cut:] + effect, own) if effect else found
            ends = (float(other.effect_size_ci_lower), float(other.effect_size_ci_upper))
            table[name].append((float(found.pvalue), *ends))
    return tuple(
        _summary(name, *np.array(rows).T, truth=effect, tables=(1, int(x.size)), alpha=alpha)
        for name, rows in table.items()
    )


def resalted(
    columns: Mapping[str, ArrayLike],
    units: Any,
    *,
    buckets: int = 1000,
    tables: int = 20,
    looks: ArrayLike | None = None,
    seed: int = 0,
) -> Moments:
    """Return moments [tables, buckets] of the same rows under several salts, or [tables, looks, buckets].

    Args:
        columns: Values [n] by name, one row a unit; or a row a session, whose user is the unit.
        units: The id of the unit of each row [n].
        buckets: Buckets of a table.
        tables: How many salts.
        looks: The first look that sees a row [n], 0, 1, ...: all later ones see it, too.
        seed: Part of the salts.

    Raises:
        ShapeError, DataError: as `Moments.from_rows` and `as_units`.
    """
    look = np.zeros(1, np.int64) if looks is None else np.asarray(looks, np.int64)
    last = int(look.max(initial=0)) + 1
    found: list[Moments] = []
    for i in range(tables):
        cell = buckets_of(salt_of("calibrate", seed, i), units, buckets).astype(np.int64)
        table = Moments.from_rows(columns, look * buckets + cell, (last, buckets))
        found.append(table[0] if looks is None else stack([table[: j + 1].merge(0) for j in range(last)]))
    return stack(found)


def added(column: str, amount: float, along: str | None = None) -> Plant:
    """Return the effect of `amount` more of a column for every unit; or `amount` times the column `along`.

    The second changes the ratio column / along by exactly `amount`.
    """

    def change(moments: Moments) -> Moments:
        at = moments.column(column)
        if along is None:
            rest = moments.rest.copy()
            rest[..., at] += amount
            mean, rest = two_sum(moments.mean, rest)
            return Moments(moments.columns, moments.count, mean, moments.product, rest)
        matrix = np.eye(len(moments.columns))
        matrix[at, moments.column(along)] += amount
        return _mapped(moments, matrix)

    return Plant(change, amount)


def scaled(column: str, lift: float) -> Plant:
    """Return the relative effect `lift` on a column: every unit's value times 1 + lift."""

    def change(moments: Moments) -> Moments:
        at = moments.column(column)
        matrix = np.eye(len(moments.columns))
        matrix[at, at] += lift
        return _mapped(moments, matrix)

    return Plant(change, lift)


def table_error(buckets: int, alpha: float = 0.05) -> float:
    """Return the standard deviation between tables of the false-positive rate of one table dealt again and again.

    The variance between buckets is known to 2 / buckets (relative, squared) by chance, and a two-sided rate moves by
    2 z phi(z) for the relative error of the standard error, which is half of that of the variance.
    """
    z = float(special.ndtri(1 - alpha / 2))
    return z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * math.sqrt(2 / buckets)


def _mapped(moments: Moments, matrix: Array) -> Moments:
    """Return the moments of linear combinations of the columns."""
    return Moments(
        moments.columns,
        moments.count,
        moments.mean @ matrix.T,
        matrix @ moments.product @ matrix.T,
        moments.rest @ matrix.T,
    )


def _combine(table: Moments, choice: Array) -> Moments:
    """Return the moments [replicates], or [looks, replicates] of a table with looks."""
    if table.count.ndim == 1:
        return table.combine(choice)
    return stack([table[look].combine(choice) for look in range(len(table.count))])


def _judge_all(
    pairs: Iterable[tuple[Moments, Moments]],
    estimators: Mapping[str, Estimator],
    tables: tuple[int, int],
    alpha: float,
    plant: Plant | None,
) -> tuple[Calibration, ...]:
    if not estimators:
        raise ConfigError("calibrate: there are no estimators; give one by name.")
    parts: dict[str, list[tuple[Array, Array, Array]]] = {name: [] for name in estimators}
    for control, treatment in pairs:
        planted = None if plant is None else plant.change(treatment)
        shape = control.shape[-1:]
        for name, estimator in estimators.items():
            found = estimator(control, treatment)
            other = found if planted is None else estimator(control, planted)
            part = (floats(found.pvalue), floats(other.effect_size_ci_lower), floats(other.effect_size_ci_upper))
            if any(x.shape != shape for x in part):
                raise DataError(f"calibrate: {name} returns {[x.shape for x in part]}; each is [replicates], {shape}.")
            parts[name].append(part)
    truth = 0.0 if plant is None else plant.truth
    return tuple(
        _summary(
            name,
            *(np.concatenate([part[i] for part in chunks]) for i in range(3)),
            truth=truth,
            tables=tables,
            alpha=alpha,
        )
        for name, chunks in parts.items()
    )


def _summary(
    name: str, pvalue: Array, lower: Array, upper: Array, *, truth: float, tables: tuple[int, int], alpha: float
) -> Calibration:
    check_level("calibrate", 1 - alpha)
    n, (count, buckets) = pvalue.size, tables
    undefined = int(np.isnan(pvalue).sum())
    p = np.sort(np.where(np.isnan(pvalue), 1.0, pvalue))
    hits, covered = int((p <= alpha).sum()), int(((lower <= truth) & (truth <= upper)).sum())
    rate, coverage = hits / n, covered / n
    rank = np.arange(n)
    above, below = float(((rank + 1) / n - p).max()), float((p - rank / n).max())
    # What chance may do: binomial, and what the tables have in common for all their replicates.
    spread = math.sqrt(alpha * (1 - alpha) / n + table_error(buckets, alpha) ** 2 / count)
    slack = 2 * STEEPEST / math.sqrt(2 * buckets * count)
    excess = float(special.ndtr(-(rate - alpha) / spread))
    uncovered = float(special.ndtr(-(1 - alpha - coverage) / spread))
    small = math.exp(-2 * n * max(above - slack, 0.0) ** 2)  # Dvoretzky, Kiefer and Wolfowitz; Massart 1990
    status: Status = judge(min(1.0, 3 * min(excess, uncovered, small)))
    cautious = float(special.ndtr((rate - alpha) / spread)) < BLOCK
    if status == "pass" and (cautious or undefined):
        status = "warn"
    distance = max(above, below)
    uniform = float(special.kolmogorov(math.sqrt(n) * distance))
    ends, covers = _binomial(hits, n), _binomial(covered, n)
    found = CHECK.finding(
        status,
        f"{rate:.2%} false positives ({ends[0]:.2%} to {ends[1]:.2%}) for {alpha:.1%}, coverage {coverage:.2%}, "
        f"distance of p-values from uniform {distance:.4f} (p = {uniform:.2g}), {n:,} replicates"
        + (f", {undefined:,} undefined" if undefined else "")
        + ("; it is needlessly cautious." if cautious else "."),
        pvalue_false_positives=excess,
        pvalue_coverage=uncovered,
        pvalue_small=small,
    )._replace(name=f"calibration of {name}")
    return Calibration(
        name, n, count, alpha, rate, *ends, distance, uniform, coverage, *covers, undefined=undefined, finding=found
    )


def _binomial(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of Clopper and Pearson (1934)."""
    tail = (1 - level) / 2
    low = float(special.betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(special.betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high
