"""Sample ratio mismatch: the arms do not have the sizes that the weights promised; in total, by group, over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from treadle.core import DataError
from treadle.experiment.findings import Check, Finding, judge, probability
from treadle.experiment.floats import Array, floats
from treadle.experiment.multiple import adjust_pvalues
from treadle.experiment.sample_ratio import sample_ratio_test, sequential_sample_ratio

LEAST_EXPECTED = 5.0
"""Units a cell must expect for the chi-squared test (Cochran 1954); groups with fewer are tested together."""
SHOWN = 5
"""Groups named in a text; the evidence has all."""

_WHY = (
    "The units that are missing are rarely like the others, so the arms no longer differ by the treatment alone; "
    "a mismatch of half a per cent can turn the sign of an effect."
)
_ACTION = (
    "Do not read the effects. Look where units get lost: assignment, redirect, exposure logging, bot filter, join "
    "(Fabijan et al. 2019 list the causes); repair it and run again under a new salt."
)
TOTAL = Check("sample ratio", _WHY, _ACTION)
OVER_TIME = Check("sample ratio over time", _WHY, _ACTION)


def sample_ratio(counts: ArrayLike, weights: ArrayLike | None = None, arms: Sequence[str] | None = None) -> Finding:
    """Return whether all units together follow the planned weights, by the chi-squared test.

    Args:
        counts: Units of each arm [arms].
        weights: Planned traffic of each arm, equal unless given.
        arms: Their names.

    Raises:
        DataError: as `sample_ratio_test`; or more than one axis.
    """
    n = _table("sample_ratio", counts, 1)
    test = sample_ratio_test(n, weights)
    p, names = float(test.pvalue), _names(arms, n.size)
    shares = ", ".join(
        f"{name} {count:,.0f} ({share:.2%}, planned {plan:.2%})"
        for name, count, share, plan in zip(names, n, test.share, test.planned, strict=True)
    )
    return TOTAL.finding(
        judge(p),
        f"{shares}; {probability(p)}.",
        pvalue=p,
        statistic=float(test.statistic),
        counts=n.tolist(),
        planned=test.planned.tolist(),
    )


def sample_ratio_by(
    group: str, labels: Sequence[object], counts: ArrayLike, weights: ArrayLike | None = None
) -> Finding:
    """Return whether every group (each day's new units, each segment) follows the weights, Holm's adjustment made.

    Args:
        group: What the groups are, such as "day" or "country".
        labels: Their labels [groups].
        counts: Units [groups, arms]; for days those that came that day, not all so far.
        weights: Planned traffic of each arm.

    Groups too small for the test are one group, "(small groups)"; if they are too small even together they are left out
    and said to be.

    Raises:
        DataError: the labels are not as many as the groups; or as `sample_ratio_test`.
    """
    check = Check(f"sample ratio by {group}", _WHY, _ACTION)
    n = _table("sample_ratio_by", counts, 2)
    if len(labels) != len(n):
        raise DataError(f"sample_ratio_by: {len(labels)} labels for {len(n)} groups; give one each.")
    planned = np.ones(n.shape[1]) if weights is None else floats(weights)
    share = float(planned.min() / planned.sum()) if planned.size else 0.0
    small = n.sum(1) * share < LEAST_EXPECTED
    names = [str(label) for label, few in zip(labels, small, strict=True) if not few]
    rows = n[~small]
    if n[small].sum() * share >= LEAST_EXPECTED:
        names, rows = [*names, "(small groups)"], np.concatenate([rows, n[small].sum(0, keepdims=True)])
        small = np.zeros_like(small)
    left = f" {int(small.sum())} groups of {n[small].sum():,.0f} units are too small to test." if small.any() else ""
    if not len(rows):
        return check.finding("pass", f"No {group} has units enough for a test.{left}", pvalue=float("nan"))
    test = sample_ratio_test(rows, weights)
    adjusted = adjust_pvalues(test.pvalue)
    p, order = float(adjusted.min()), np.argsort(adjusted, kind="stable")
    bad = [i for i in order.tolist() if judge(float(adjusted[i])) != "pass"]
    said = "; ".join(
        f"{names[i]}: {', '.join(f'{count:,.0f}' for count in rows[i])} ({probability(float(adjusted[i]))})"
        for i in bad[:SHOWN]
    )
    found = f"{len(bad)} of {len(rows)} groups by {group} are off: {said}" if bad else f"All {len(rows)} groups fit"
    return check.finding(
        judge(p),
        f"{found}; smallest adjusted {probability(p)}.{left}",
        pvalue=p,
        labels=names,
        adjusted_pvalues=adjusted.tolist(),
        counts=rows.tolist(),
        untested=float(n[small].sum()),
    )


def sample_ratio_over_time(counts: ArrayLike, weights: ArrayLike | None = None) -> Finding:
    """Return whether the cumulative counts [times, arms] ever left the weights, by a test that may be read every day.

    Raises:
        DataError: as `sequential_sample_ratio`.
    """
    n = _table("sample_ratio_over_time", counts, 2)
    test = sequential_sample_ratio(n, weights)
    p = float(test.pvalue[-1])
    first = int(np.argmax(test.pvalue < 0.01)) if p < 0.01 else None
    found = f"off since look {first + 1} of {len(n)}" if first is not None else f"in order at all {len(n)} looks"
    return OVER_TIME.finding(
        judge(p),
        f"The arms are {found}; always-valid {probability(p)}.",
        pvalue=p,
        first=first,
        pvalues=test.pvalue.tolist(),
    )


def _table(op: str, counts: ArrayLike, axes: int) -> Array:
    table = floats(counts)
    if table.ndim != axes or not table.size:
        raise DataError(f"{op}: counts have shape {table.shape}; give {axes} axes, the arms last.")
    return table


def _names(arms: Sequence[str] | None, size: int) -> list[str]:
    names = [f"arm {i}" for i in range(size)] if arms is None else list(arms)
    if len(names) != size:
        raise DataError(f"sample_ratio: {len(names)} names for {size} arms; give one each.")
    return names
