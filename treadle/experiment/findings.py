"""What a validity check says: what it found, with figures, why that matters and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from treadle.core import DataError

Status = Literal["pass", "warn", "block"]
STATUSES: tuple[Status, ...] = ("pass", "warn", "block")

BLOCK = 0.001
"""P-value below which a check blocks: the level for sample ratio mismatch in Kohavi, Tang and Xu (2020), chapter 21. A
false block costs a look into the pipeline, so it must be rare; a true mismatch is far beyond it."""
WARN = 0.01
"""P-value below which a check warns: the looser level in use for sample ratio mismatch (Fabijan et al. 2019 tell how to
find the cause)."""


class Finding(NamedTuple):
    """The outcome of one check.

    Attributes:
        name: The check.
        status: "pass"; "warn": read the result with care; "block": the effects are not to be believed.
        found: What was found, with figures.
        why: Why it matters.
        action: What to do.
        evidence: The figures by name: numbers, strings and lists of them.
    """

    name: str
    status: Status
    found: str
    why: str
    action: str
    evidence: Mapping[str, Any]

    def __str__(self) -> str:
        line = f"{self.status:5} {self.name}: {self.found}"
        return line if self.status == "pass" else f"{line}\n      Why: {self.why}\n      Do: {self.action}"


@dataclass(frozen=True)
class Check:
    """A check's name and the two sentences that do not depend on the data."""

    name: str
    why: str
    action: str

    def finding(self, status: Status, found: str, **evidence: Any) -> Finding:
        """Return the finding of this check."""
        return Finding(self.name, status, found, self.why, self.action, evidence)


def judge(pvalue: float, warn: float = WARN, block: float = BLOCK) -> Status:
    """Return the status that a p-value means; NaN, nothing to test, passes."""
    return "block" if pvalue < block else "warn" if pvalue < warn else "pass"


def worst(findings: Iterable[Finding | Status]) -> Status:
    """Return the gravest status, "pass" of none.

    Raises:
        DataError: a status is unknown.
    """
    given: list[Status] = [found.status if isinstance(found, Finding) else found for found in findings]
    for status in given:
        if status not in STATUSES:
            raise DataError(f"worst: the status {status!r} is unknown; it is one of {', '.join(STATUSES)}.")
    return STATUSES[max(map(STATUSES.index, given), default=0)]


def blocking(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that block."""
    return tuple(found for found in findings if found.status == "block")


def probability(p: float) -> str:
    """Return a p-value as text: as many digits as matter."""
    return "p < 1e-300" if p < 1e-300 else f"p = {p:.1e}" if p < 0.001 else f"p = {p:.3f}"
