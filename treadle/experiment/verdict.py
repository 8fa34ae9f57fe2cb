"""From findings, effects and the stopping rule to one decision, by rules read from top to bottom: see `RULES`.

Every comparison is made on the normal scale: the p-value's z against the critical value that the stopping rule has at
this look (Jennison and Turnbull 2000, section 3.3, the significance-level approach), so that means, ratios and CUPED
share one path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy.special import ndtri

from treadle.core import ConfigError

from .always_valid import critical_value, mixing_scale
from .findings import Finding, blocking
from .floats import Floats, check_option
from .group_sequential import Design, boundaries_at
from .margins import Better, MarginTest
from .spec import Stopping

Decision = Literal["ship", "do not ship", "keep running", "stop for harm", "inconclusive", "invalid"]
DECISIONS: tuple[Decision, ...] = (
    "ship",
    "do not ship",
    "keep running",
    "stop for harm",
    "inconclusive",
    "invalid",
)
SURE = 38.0
"""The largest z told apart from certainty: p-values end there."""
TUNING = 5000.0
"""Sample size at which an always-valid interval is tightest where none is planned (GrowthBook's default)."""


class Look(NamedTuple):
    """Where an experiment stands.

    Attributes:
        fraction: Share of the planned sample that is in; from 1 on the experiment is complete.
        n: Units in all arms.
        earlier: Shares at the earlier looks of a group sequential rule, rising.
    """

    fraction: float
    n: float
    earlier: tuple[float, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the planned sample is in."""
        return self.fraction >= 1


class Compared(Protocol):
    """An effect with its two-sided p-value and interval: an `Effect`, a `Comparison` or a row of a result."""

    @property
    def effect_size(self) -> Floats: ...
    @property
    def effect_size_ci_lower(self) -> Floats: ...
    @property
    def effect_size_ci_upper(self) -> Floats: ...
    @property
    def pvalue(self) -> Floats: ...


class DecisionMetric(NamedTuple):
    """The metric that decides.

    Attributes:
        name: Its name.
        effect: Its two-sided effect, a single one; relative (`relative_difference`) where `minimum_effect` is.
        better: Whether higher or lower values are better.
        alternative: "one-sided" looks for the better side alone.
        minimum_effect: Smallest effect worth having, positive, in the unit of the effect; None is any.
    """

    name: str
    effect: Compared
    better: Better = "higher"
    alternative: Literal["two-sided", "one-sided"] = "two-sided"
    minimum_effect: float | None = None


class Guardrail(NamedTuple):
    """A metric that must not get worse by its margin, with its test of non-inferiority (at any level)."""

    name: str
    test: MarginTest


class Verdict(NamedTuple):
    """What to do.

    Attributes:
        decision: One of `DECISIONS`.
        rule: Name of the rule that decided.
        reasons: Why, in words; the first is that of the rule.
    """

    decision: Decision
    rule: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.decision.upper()} ({self.rule})", *(f"  - {reason}" for reason in self.reasons)])


@dataclass(frozen=True)
class Case:
    """What the rules read."""

    findings: tuple[Finding, ...]
    metric: DecisionMetric
    guardrails: tuple[Guardrail, ...]
    stopping: Stopping
    look: Look

    @cached_property
    def z(self) -> float:
        """The decision metric's z, positive where the treatment is better; NaN where it cannot be computed."""
        sign = 1.0 if self.metric.better == "higher" else -1.0
        size = float(np.minimum(-ndtri(float(self.metric.effect.pvalue) / 2), SURE))
        return sign * math.copysign(size, float(self.metric.effect.effect_size))

    @cached_property
    def bound(self) -> float:
        """The |z| that the decision metric must reach at this look."""
        return critical_at(self.stopping, self.look, 1 if self.metric.alternative == "one-sided" else 2)

    @property
    def may_decide(self) -> bool:
        """Whether the stopping rule lets one decide at this look."""
        return self.look.complete or self.stopping.rule != "fixed"

    @cached_property
    def gain(self) -> tuple[float, float, float]:
        """The effect and the ends of its interval at this look, positive where the treatment is better."""
        sign = 1.0 if self.metric.better == "higher" else -1.0
        size = sign * float(self.metric.effect.effect_size)
        given = float(self.metric.effect.effect_size_ci_upper) - float(self.metric.effect.effect_size_ci_lower)
        # Without an effect the p-value is 1 and hides the error; the interval, taken as one of 95 %, has it.
        error = abs(size / self.z) if self.z else given / 2 / 1.96
        width = self.bound * error
        return size, size - width, size + width

    @cached_property
    def held(self) -> tuple[Guardrail, ...]:
        """The guardrails shown to lie within their margin."""
        bound = critical_at(self.stopping, self.look, 1)
        return tuple(guard for guard in self.guardrails if _z(guard) >= bound)

    @cached_property
    def harmed(self) -> tuple[Guardrail, ...]:
        """The guardrails shown to be worse than their margin; before the end by an always-valid bound."""
        stopping = self.stopping if self.look.complete else _always_valid(self.stopping)
        bound = critical_at(stopping, self.look, 1)
        return tuple(guard for guard in self.guardrails if _z(guard) <= -bound)

    @property
    def open(self) -> tuple[Guardrail, ...]:
        """The guardrails of which nothing is shown."""
        return tuple(guard for guard in self.guardrails if guard not in self.held and guard not in self.harmed)

    def said(self) -> str:
        """Return the decision metric's effect in words."""
        size, low, high = self.gain
        return (
            f"{self.metric.name}: gain {size:+.4g}, interval at this look {low:+.4g} to {high:+.4g} "
            f"(z {self.z:+.2f}, needs {self.bound:.2f})"
        )


def critical_at(stopping: Stopping, look: Look, sided: int) -> float:
    """Return the |z| at which the stopping rule rejects at this look.

    A fixed horizon has one at its end; before it, the bound is that of an always-valid sequence, by which one may see
    harm, not success.

    Raises:
        ConfigError: the fractions of the looks do not rise.
    """
    alpha = stopping.alpha
    if stopping.rule == "group-sequential":
        boundary = "lan-demets-pocock" if stopping.spending == "pocock" else "lan-demets-obrien-fleming"
        design = Design(looks=1, alpha=alpha, sided=sided, boundary=boundary)
        looks = (*look.earlier, look.fraction)
        return float(boundaries_at(design, looks, final=look.complete).upper[-1])
    if stopping.rule == "fixed" and look.complete:
        return -float(ndtri(alpha / sided))
    tuning = float(stopping.sample_size or TUNING)
    ratio = max(look.n, 1.0) * mixing_scale(alpha, tuning) ** 2
    return float(critical_value(ratio, alpha, "two-sided" if sided == 2 else "greater"))


# ---- the rules: each returns its reason in words where it applies ----------------------------------------------------


def _blocked(case: Case) -> str | None:
    return "; ".join(f"{found.name}: {found.found}" for found in blocking(case.findings)) or None


def _guardrail_harmed(case: Case) -> str | None:
    return "; ".join(f"{_said(guard)}: worse than its margin" for guard in case.harmed) or None


def _harmed_early(case: Case) -> str | None:
    return f"{case.said()}: worse" if not case.look.complete and case.z <= -case.bound else None


def _unknown_yet(case: Case) -> str | None:
    return f"{case.metric.name} has no p-value yet" if math.isnan(case.z) and not case.look.complete else None


def _unknown(case: Case) -> str | None:
    return f"{case.metric.name} has no p-value: an arm is empty or nothing varies" if math.isnan(case.z) else None


def _wins(case: Case) -> str | None:
    won = case.may_decide and case.z >= case.bound and len(case.held) == len(case.guardrails)
    return f"{case.said()}: better" if won else None


def _incomplete(case: Case) -> str | None:
    if case.look.complete:
        return None
    share = f"{case.look.fraction:.0%} of the planned sample is in"
    if case.may_decide and case.z >= case.bound:
        return (
            f"{share}; {case.metric.name} is better, but not shown yet to hold: {', '.join(g.name for g in case.open)}"
        )
    why = "a fixed horizon is judged at its end" if case.stopping.rule == "fixed" else f"{case.said()}: not clear yet"
    return f"{share}; {why}"


def _loses(case: Case) -> str | None:
    return f"{case.said()}: worse" if case.z <= -case.bound else None


def _unguarded(case: Case) -> str | None:
    if case.z < case.bound:
        return None
    return f"{case.metric.name} is better, but " + "; ".join(f"{_said(g)}: not shown to hold" for g in case.open)


def _too_small(case: Case) -> str | None:
    least = case.metric.minimum_effect
    small = least is not None and case.gain[2] < least
    return f"{case.said()}: less than the {least:.4g} worth having" if small else None


def _unclear(case: Case) -> str | None:
    return f"{case.said()}: the sample is complete and no effect is shown"


class Rule(NamedTuple):
    """A decision, and when it is taken: `applies` returns the reason in words, or None."""

    name: str
    decision: Decision
    applies: Callable[[Case], str | None]


RULES: tuple[Rule, ...] = (
    Rule("a validity check blocks", "invalid", _blocked),
    Rule("a guardrail is harmed", "stop for harm", _guardrail_harmed),
    Rule("the decision metric is harmed", "stop for harm", _harmed_early),
    Rule("there is nothing to test yet", "keep running", _unknown_yet),
    Rule("there is nothing to test", "inconclusive", _unknown),
    Rule("better, and every guardrail holds", "ship", _wins),
    Rule("the stopping rule says go on", "keep running", _incomplete),
    Rule("worse at the end", "do not ship", _loses),
    Rule("better, but a guardrail is open", "inconclusive", _unguarded),
    Rule("too small to matter", "do not ship", _too_small),
    Rule("no effect shown", "inconclusive", _unclear),
)


def decide(
    findings: Sequence[Finding],
    metric: DecisionMetric,
    guardrails: Sequence[Guardrail],
    stopping: Stopping,
    look: Look,
) -> Verdict:
    """Return the verdict on one treatment: that of the first rule that applies.

    Args:
        findings: Of the validity checks.
        metric: The decision metric with its effect at this look.
        guardrails: Tests of non-inferiority at this look.
        stopping: The registered rule.
        look: How much of the sample is in.

    Raises:
        ConfigError: a setting is unknown, a minimum effect is not positive, the effect is one-sided, or looks do not
            rise.
    """
    check_option("decide", "better", metric.better, ("higher", "lower"))
    check_option("decide", "alternative", metric.alternative, ("two-sided", "one-sided"))
    check_option("decide", "rule", stopping.rule, ("fixed", "group-sequential", "always-valid"))
    effect = metric.effect
    if math.isinf(float(effect.effect_size_ci_lower)) or math.isinf(float(effect.effect_size_ci_upper)):
        raise ConfigError(
            f"decide: the effect on {metric.name} has a one-sided interval; give the two-sided one, the critical value "
            "takes account of a one-sided alternative."
        )
    if not look.fraction > 0 or (metric.minimum_effect is not None and not metric.minimum_effect > 0):
        raise ConfigError(
            f"decide: fraction is {look.fraction} and minimum_effect {metric.minimum_effect}; both are above 0."
        )
    case = Case(tuple(findings), metric, tuple(guardrails), stopping, look)
    for rule in RULES:
        reason = rule.applies(case)
        if reason is not None:
            return Verdict(rule.decision, rule.name, (reason, *_others(case, rule)))
    raise AssertionError("the last rule always applies")


def _others(case: Case, rule: Rule) -> tuple[str, ...]:
    """Return what else is worth knowing; of an invalid experiment, no effects."""
    warnings = tuple(f"warning, {found.name}: {found.found}" for found in case.findings if found.status == "warn")
    if rule.decision == "invalid":
        return warnings
    held = tuple(f"{_said(guard)}: holds" for guard in case.held)
    return (*held, *warnings)


def _said(guard: Guardrail) -> str:
    return f"{guard.name} {float(guard.test.effect_size):+.4g} (margin {guard.test.margin:g})"


def _z(guard: Guardrail) -> float:
    """Return the z of a non-inferiority test, positive where the guardrail holds; NaN where it cannot be computed."""
    return -float(ndtri(float(guard.test.pvalue)))


def _always_valid(stopping: Stopping) -> Stopping:
    return Stopping("always-valid", stopping.alpha, stopping.power, stopping.sample_size)
