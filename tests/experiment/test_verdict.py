"""The verdict: each rule decides where it should, in its place in the order, and is named."""

from typing import Any

import numpy as np
import pytest

from tests.experiment.checked import findings
from treadle.core import ConfigError
from treadle.experiment.always_valid import asymptotic_confidence_sequence
from treadle.experiment.comparison import compare
from treadle.experiment.cuped import estimate_cuped
from treadle.experiment.effects import Effect, difference, effect
from treadle.experiment.estimates import estimate, estimate_mean
from treadle.experiment.findings import Check
from treadle.experiment.group_sequential import Design, boundaries
from treadle.experiment.margins import non_inferiority
from treadle.experiment.moments import Moments
from treadle.experiment.simulate import Faults, Simulation, simulate
from treadle.experiment.spec import Stopping
from treadle.experiment.verdict import (
    DECISIONS,
    RULES,
    DecisionMetric,
    Guardrail,
    Look,
    Verdict,
    critical_at,
    decide,
)

END = Look(1.0, 10_000)
HALF = Look(0.5, 5000)
CHECK = Check("sample ratio", "it matters", "repair it")
FIXED = Stopping(sample_size=10_000)
OBF = Stopping("group-sequential", looks=(0.5, 1.0), spending="obrien-fleming", sample_size=10_000)
LESS = effect(1.0, 1.0, alternative="less")
ALWAYS = Stopping("always-valid", sample_size=10_000)


def metric(z: float, better="higher", **more) -> DecisionMetric:
    return DecisionMetric("revenue", effect(0.01 * z, 0.01**2), better, **more)


def guard(z: float, name: str = "latency", better="lower") -> Guardrail:
    """A guardrail of margin 1 whose test has the statistic z, positive where it holds."""
    sign = 1 if better == "higher" else -1
    arms = [estimate(10.0, 0.5, 1e9), estimate(10.0 + sign * (z - 1), 0.5, 1e9)]
    return Guardrail(name, non_inferiority(*arms, 1.0, better=better))


def verdict(z: float = 0.0, guards=(), stopping=FIXED, look=END, status="pass", **more) -> Verdict:
    return decide([CHECK.finding(status, "55 % for 50 %")], metric(z, **more), guards, stopping, look)


@pytest.mark.parametrize(
    ("made", "decision", "rule"),
    [
        (lambda: verdict(5, status="block"), "invalid", "a validity check blocks"),
        (lambda: verdict(5, [guard(-2)]), "stop for harm", "a guardrail is harmed"),
        (lambda: verdict(5, [guard(-9)], look=HALF), "stop for harm", "a guardrail is harmed"),
        (lambda: verdict(-6, look=HALF), "stop for harm", "the decision metric is harmed"),
        (lambda: verdict(-6, stopping=OBF, look=HALF), "stop for harm", "the decision metric is harmed"),
        (lambda: verdict(float("nan"), look=HALF), "keep running", "there is nothing to test yet"),
        (lambda: verdict(float("nan")), "inconclusive", "there is nothing to test"),
        (lambda: verdict(2.0, [guard(2)]), "ship", "better, and every guardrail holds"),
        (lambda: verdict(3.0, stopping=OBF, look=HALF), "ship", "better, and every guardrail holds"),
        (lambda: verdict(5.0, stopping=ALWAYS, look=HALF), "ship", "better, and every guardrail holds"),
        (lambda: verdict(9.0, look=HALF), "keep running", "the stopping rule says go on"),
        (lambda: verdict(2.5, stopping=OBF, look=HALF), "keep running", "the stopping rule says go on"),
        (lambda: verdict(2.5, stopping=ALWAYS, look=HALF), "keep running", "the stopping rule says go on"),
        (lambda: verdict(9, [guard(0)], stopping=OBF, look=HALF), "keep running", "the stopping rule says go on"),
        (lambda: verdict(-2.0), "do not ship", "worse at the end"),
        (lambda: verdict(2.0, [guard(1)]), "inconclusive", "better, but a guardrail is open"),
        (lambda: verdict(0.0, minimum_effect=0.03), "do not ship", "too small to matter"),
        (lambda: verdict(1.9), "inconclusive", "no effect shown"),
        (lambda: verdict(1.9, alternative="one-sided"), "ship", "better, and every guardrail holds"),
        (lambda: verdict(-2.0, better="lower"), "ship", "better, and every guardrail holds"),
        (lambda: verdict(2.0, better="lower"), "do not ship", "worse at the end"),
    ],
)
def test_rules(made, decision: str, rule: str):
    found = made()
    assert (found.decision, found.rule) == (decision, rule)
    assert found.decision in DECISIONS
    assert found.reasons[0]


def test_every_rule_is_named_once_and_the_last_always_applies():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert {rule.decision for rule in RULES} == set(DECISIONS)
    assert verdict(0.0).rule == RULES[-1].name


def test_an_invalid_experiment_shows_no_effect():
    found = verdict(5, [guard(3)], status="block")
    assert found.reasons == ("sample ratio: 55 % for 50 %",)


def test_reasons_name_figures_guardrails_and_warnings():
    found = verdict(2.5, [guard(3)], status="warn")
    assert found.reasons[0].startswith("revenue: gain +0.025, interval at this look +0.0054 to +0.0446 (z +2.50, needs")
    assert found.reasons[1].startswith("latency ")
    assert found.reasons[1].endswith("(margin 1): holds")
    assert found.reasons[2] == "warning, sample ratio: 55 % for 50 %"
    assert str(found).startswith("SHIP (better, and every guardrail holds)\n  - revenue")


def test_critical_values_are_those_of_the_stopping_rules():
    assert critical_at(FIXED, END, 2) == pytest.approx(1.959963984540054, rel=1e-12)
    assert critical_at(FIXED, END, 1) == pytest.approx(1.6448536269514722, rel=1e-12)
    planned = boundaries(Design(looks=(0.5, 1.0), boundary="lan-demets-obrien-fleming"))
    assert critical_at(OBF, HALF, 2) == pytest.approx(planned.upper[0], rel=1e-9)
    assert critical_at(OBF, Look(1.0, 10_000, (0.5,)), 2) == pytest.approx(planned.upper[1], rel=1e-9)
    valid = asymptotic_confidence_sequence(0.0, 1.0, 5000, tuning=10_000)
    assert critical_at(ALWAYS, HALF, 2) == pytest.approx(float(valid.upper), rel=1e-12)
    # Before its end a fixed horizon sees harm by the same sequence.
    assert critical_at(FIXED, HALF, 2) == critical_at(ALWAYS, HALF, 2)


def test_a_fixed_horizon_agrees_with_its_pvalues():
    rng = np.random.default_rng(0)
    outcomes = set()
    for shift in np.linspace(-0.8, 0.8, 33):
        arms = [estimate_mean(Moments.from_rows({"v": rng.normal(s, 1, 30)}), "v") for s in (0, shift)]
        found = difference(*arms)
        made = decide([], DecisionMetric("v", found), [], FIXED, END)
        won = found.pvalue < 0.05
        wanted = ("ship" if found.effect_size > 0 else "do not ship") if won else "inconclusive"
        assert made.decision == wanted
        outcomes.add(wanted)
    assert len(outcomes) == 3


def test_certain_effects_are_no_error():
    sure = Effect(1.0, 1.0, 1.0, 0.0, 1e9, 1e-9, np.inf)
    assert decide([], DecisionMetric("v", sure), [], FIXED, END).decision == "ship"


def test_a_comparison_is_an_effect_too():
    arms = [estimate(10.0, 0.5, 1e9), estimate(13.0, 0.5, 1e9)]
    one, other = (decide([], DecisionMetric("v", made(*arms)), [], FIXED, END) for made in (difference, compare))
    assert one == other
    assert one.decision == "ship"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verdict(1, look=Look(0.0, 10)), "fraction is 0.0"),
        (lambda: verdict(1, minimum_effect=-1.0), "minimum_effect -1.0"),
        (
            lambda: decide([], DecisionMetric("v", effect(1, 1, alternative="less")), [], FIXED, END),
            "one-sided interval",
        ),
        (lambda: verdict(1, better="up"), "better='up' is unknown"),
        (lambda: verdict(1, stopping=Stopping("whenever")), "rule='whenever' is unknown"),
        (lambda: verdict(1, stopping=OBF, look=Look(0.5, 10, (0.7,))), "rise"),
    ],
)
def test_bad_settings_are_errors(call, message: str):
    with pytest.raises(ConfigError, match=message):
        call()


def runs(stopping: Stopping, looks: list[float], lift: float, seeds: int) -> list[str]:
    """Return the final decisions of experiments read at every look until one of them ends it."""
    out = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        size = 10_000
        values = [rng.normal(0, 1, size), rng.normal(lift, 1, size)]
        for i, share in enumerate(looks):
            n = round(size * share)
            arms = [estimate_mean(Moments.from_rows({"v": v[:n]}), "v") for v in values]
            look = Look(share, 2 * n, tuple(looks[:i]))
            found = decide([], DecisionMetric("v", difference(*arms)), [], stopping, look)
            if found.decision != "keep running":
                break
        out.append(found.decision)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["fixed", "group-sequential", "always-valid"])
def test_error_rates_of_the_verdict(rule: str):
    looks = [0.2, 0.4, 0.6, 0.8, 1.0]
    stopping = Stopping(rule, looks=tuple(looks), spending="obrien-fleming", sample_size=20_000)
    none, some = (runs(stopping, looks, lift, 600) for lift in (0.0, 0.06))
    shipped = np.mean([decision == "ship" for decision in none])
    assert shipped <= 0.025 + 3.3 * np.sqrt(0.025 * 0.975 / 600)
    assert "keep running" not in none
    # z at the end is 4.2 on average.
    assert np.mean([decision == "ship" for decision in some]) > 0.88


def story(settings: Simulation, seed: int) -> str:
    """Return the decision on one simulated experiment: checks, orders a user with CUPED, latency within 2 %."""
    data = simulate(settings, seed)
    units = data.units
    columns = {name: units[name] for name in ("orders", "orders_pre", "sessions_pre")}
    arms = Moments.from_rows(columns, units["variant"], 2)
    effect = difference(*estimate_cuped([arms[0], arms[1]], "orders", ["orders_pre", "sessions_pre"]))
    seen = units["exposed"] == 1
    slow = Moments.from_rows({"ms": units["latency"][seen]}, units["variant"][seen], 2)
    latency = non_inferiority(*(estimate_mean(slow[i], "ms") for i in (0, 1)), 0.02, relative=True, better="lower")
    guards = [Guardrail("latency", latency)]
    return decide(findings(data, seed), DecisionMetric("orders", effect), guards, FIXED, END).decision


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (Simulation(lift=0.15), "ship"),
        (Simulation(lift=-0.15), "do not ship"),
        (Simulation(lift=0.15, faults=Faults(srm=0.1)), "invalid"),
        (Simulation(lift=0.15, faults=Faults(latency=0.1)), "stop for harm"),
    ],
)
def test_stories(settings: Simulation, wanted: str):
    assert [story(settings, seed) for seed in range(2)] == [wanted] * 2


@pytest.mark.slow
def test_two_hundred_stories():
    def decisions(**settings: Any) -> list[str]:
        return [story(Simulation(lift=0.15, **settings), seed) for seed in range(200)]

    lift, lost, slow = decisions(), decisions(faults=Faults(srm=0.1)), decisions(faults=Faults(latency=0.1))
    assert lift.count("ship") >= 190, lift
    assert lost.count("invalid") == 200
    # A check that blocks by chance comes first, and does not ship either.
    assert slow.count("stop for harm") >= 190
    assert slow.count("stop for harm") + slow.count("invalid") == 200
