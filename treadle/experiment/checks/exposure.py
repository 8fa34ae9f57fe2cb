"""Whether those who were exposed are those who were assigned, and assigned as the hash says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from treadle.core import DataError
from treadle.experiment.findings import Check, Finding, Status, judge, probability, worst
from treadle.experiment.floats import floats

NONE = -1
"""The code of no arm: not assigned, never exposed."""
STRANGERS = 0.001
"""Share of exposed units in an arm that is not theirs from which the check blocks. Any at all is a fault and warns; at
one in a thousand they bias an intention-to-treat effect by as much of itself, and nobody knows who they are."""
DRIFT = 0.001
"""Share of units whose logged arm is not the one of the hash from which the check blocks; any at all warns."""
SHOWN = 5
"""Units shown as examples."""

EXPOSURE = Check(
    "exposure mismatch",
    "If one arm is exposed more often than the other, the exposed are no longer comparable; a unit exposed without or "
    "against its assignment has seen a treatment that the analysis does not count.",
    "Log the exposure at the same point of the code in every arm, before the treatment acts. Until then analyse all "
    "assigned units, whether exposed or not.",
)
DRIFT_CHECK = Check(
    "assignment drift",
    "The logged arm should be a function of unit and salt. Where it is not, another rule assigned the unit: old salts "
    "or weights in a client, a cache, an override, a join on the wrong id.",
    "Compare the units shown with the assignment service's version and salt; exclude the period of the drift for all "
    "arms alike, or run again.",
)


def exposure_table(assigned: ArrayLike, exposed: ArrayLike, arms: int) -> NDArray[np.int64]:
    """Return the units by assigned arm and exposed arm, int64 [arms + 1, arms + 1]; the last of each is none.

    Args:
        assigned: The arm of each unit [n], -1 without.
        exposed: The arm it has seen first [n], -1 if never exposed.
        arms: Number of arms.

    Raises:
        DataError: lengths differ, or a code is outside -1 to arms - 1.
    """
    codes = [np.asarray(x) for x in (assigned, exposed)]
    if codes[0].ndim != 1 or codes[0].shape != codes[1].shape:
        raise DataError(f"exposure_table: arms have shapes {codes[0].shape} and {codes[1].shape}; give [n] of both.")
    for name, x in zip(("assigned", "exposed"), codes, strict=True):
        bad = x[(x < NONE) | (x >= arms)]
        if bad.size:
            raise DataError(
                f"exposure_table: {bad.size} values of {name} are no arm, such as {bad[0]}; they are {NONE} (none) to "
                f"{arms - 1}."
            )
    side = arms + 1
    rows, columns = (np.where(x == NONE, arms, x).astype(np.int64) for x in codes)
    return np.bincount(rows * side + columns, minlength=side * side).reshape(side, side)


def exposure_mismatch(table: ArrayLike) -> Finding:
    """Return whether arms are exposed at one rate, and whether anyone saw an arm that was not theirs.

    Args:
        table: Units by assigned and exposed arm, as `exposure_table` makes it.

    Raises:
        DataError: the table is not square, has fewer than two arms, or nobody is assigned.
    """
    cells = floats(table)
    arms = len(cells) - 1 if cells.ndim == 2 else 0
    if arms < 2 or cells.shape != (arms + 1, arms + 1):
        raise DataError(f"exposure_mismatch: the table has shape {cells.shape}; give [arms + 1, arms + 1].")
    assigned, seen = cells[:arms].sum(1), cells[:arms, :arms].sum(1)
    if np.any(assigned == 0):
        raise DataError(f"exposure_mismatch: arms have {assigned.tolist()} assigned units; every arm needs some.")
    rate = seen / assigned
    p = _same_rate(seen, assigned)
    crossed = seen.sum() - np.trace(cells[:arms, :arms])
    strangers = cells[arms, :arms].sum()
    exposed = max(float(cells[:, :arms].sum()), 1.0)
    share = float(crossed + strangers) / exposed
    status: Status = "block" if share >= STRANGERS else "warn" if share > 0 else "pass"
    rates = ", ".join(f"{value:.2%}" for value in rate)
    return EXPOSURE.finding(
        worst([judge(p), status]),
        f"Exposed of the assigned: {rates} ({probability(p)}); {crossed:,.0f} units saw another arm than theirs and "
        f"{strangers:,.0f} none was assigned to ({share:.3%} of the exposed).",
        pvalue=p,
        rates=rate.tolist(),
        never_exposed=(assigned - seen).tolist(),
        crossed=float(crossed),
        unassigned=float(strangers),
    )


def assignment_drift(logged: ArrayLike, expected: ArrayLike, units: Sequence[object] | None = None) -> Finding:
    """Return whether logged arms are those of a re-hash.

    Args:
        logged: The arm in the log of each unit [n]: codes or names.
        expected: The arm that the assigner gives it now [n].
        units: Their ids, for examples.

    Raises:
        DataError: lengths differ, or there are no units.
    """
    a, b = np.asarray(logged), np.asarray(expected)
    if a.shape != b.shape or a.ndim != 1 or not a.size or (units is not None and len(units) != a.size):
        raise DataError(f"assignment_drift: arms have shapes {a.shape} and {b.shape}; give [n] of the same units.")
    rows = np.flatnonzero(a != b)
    share = rows.size / a.size
    ids: list[object] = [i if units is None else units[i] for i in rows[:SHOWN].tolist()]
    examples = "; ".join(f"{unit!s}: {a[i]} for {b[i]}" for unit, i in zip(ids, rows, strict=False))
    return DRIFT_CHECK.finding(
        "block" if share >= DRIFT else "warn" if rows.size else "pass",
        f"{rows.size:,} of {a.size:,} units ({share:.3%}) have another arm than their hash"
        + (f", such as {examples}." if rows.size else "."),
        share=share,
        count=int(rows.size),
        units=[str(unit) for unit in ids],
    )


def _same_rate(hits: np.ndarray, trials: np.ndarray) -> float:
    """Return the p-value of the chi-squared test that all rates are one."""
    rate = hits.sum() / trials.sum()
    if not 0 < rate < 1:
        return 1.0
    statistic = ((hits - trials * rate) ** 2 / (trials * rate * (1 - rate))).sum()
    return float(special.chdtrc(len(hits) - 1, statistic))
