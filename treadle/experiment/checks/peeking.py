"""Peeking outside the stopping rule, from the log of who looked at the effects when."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from treadle.experiment.crossing import check_fractions, crossing
from treadle.experiment.findings import Check, Finding, Status
from treadle.experiment.spec import Stopping

END = 0.999
"""Share of the planned sample from which a look is the last: nobody hits a sample size exactly."""
SHIFT = 0.05
"""Share of the sample by which a planned look may be late or early without a word."""

PEEKING = Check(
    "peeking",
    "A test at 5 % holds for the one look it was made for. Whoever looks often, and stops when the effect is "
    "significant, finds effects that are not there many times as often.",
    "Go on to the planned end and decide there. Register a group sequential or always-valid rule if you wish to decide "
    "sooner next time.",
)


def peeking(looks: Sequence[float], stopping: Stopping, *, stopped: bool) -> Finding:
    """Return whether effects were looked at outside the stopping rule, and what that does to false positives.

    Args:
        looks: Share of the planned sample at each look that showed effects, rising, the present one included.
        stopping: The registered rule.
        stopped: Whether the decision is taken at the last of them.

    A fixed horizon blocks a decision before its end, and warns of looks before it. A group sequential rule blocks a
    decision at a look that was not planned (its spending function could be re-planned only before the effects were
    seen), and warns of such looks. Always-valid intervals allow any.

    Raises:
        ConfigError: the looks do not rise from above 0.
    """
    t = np.asarray(looks, np.float64)
    if not t.size:
        return PEEKING.finding("pass", "Nobody has looked at the effects so far.", looks=[], outside=[])
    check_fractions("peeking", t, most=np.inf)
    if stopping.rule == "always-valid":
        return PEEKING.finding(
            "pass", f"{t.size} looks; the intervals hold at every one.", looks=t.tolist(), outside=[]
        )
    planned = np.append(np.asarray(stopping.looks, np.float64), 1.0)
    allowed = (np.abs(t[:, None] - planned) <= SHIFT).any(1) if stopping.rule == "group-sequential" else t >= END
    outside = t[~allowed & (t < END)]
    rate = naive_error(t, stopping.alpha)
    early = stopped and outside.size > 0 and float(outside[-1]) == float(t[-1])
    status: Status = "block" if early else "warn" if outside.size else "pass"
    said = f"{outside.size} of {t.size} looks lie outside the rule {stopping.rule!r}"
    if outside.size:
        said += f" (at {', '.join(f'{x:.0%}' for x in outside)} of the sample)"
    end = "; the experiment was stopped at one of them" if early else ""
    return PEEKING.finding(
        status,
        f"{said}{end}. Stopping at the first significant of these looks would have {rate:.1%} false positives, not "
        f"{stopping.alpha:.1%}.",
        looks=t.tolist(),
        outside=outside.tolist(),
        naive_false_positives=rate,
    )


def naive_error(looks: Sequence[float] | np.ndarray, alpha: float = 0.05) -> float:
    """Return the false-positive rate of stopping at the first look with p < alpha (Armitage, McPherson and Rowe 1969).

    Args:
        looks: Shares of the sample, rising.
        alpha: Level of each test.
    """
    t = np.asarray(looks, np.float64)
    bound = np.full(t.size, float(ndtri(1 - alpha / 2)))
    found = crossing(t, -bound, bound)
    return float((found.upper + found.lower).sum())
