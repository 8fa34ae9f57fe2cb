"""What a schema cannot see: names that nothing defines, and parts of a spec that contradict each other."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from treadle.experiment.layers import BUCKETS
from treadle.experiment.schema import Report, joined, suggest
from treadle.experiment.split import SLOTS

# The fields each type of metric takes beside `type` and `description`: needed, and allowed.
_MEASURE = ("source", "column", "aggregate", "where")
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mean": (("source",), _MEASURE),
    "proportion": (("source",), ("source", "where", "aggregate")),
    "count": (("source",), ("source", "where", "aggregate")),
    "ratio": (("numerator", "denominator"), ("numerator", "denominator")),
    "quantile": (("source", "column", "quantile"), (*_MEASURE, "quantile")),
    "capped": (("source", "column"), (*_MEASURE, "cap", "cap_quantile")),
    "retention": (("source", "from_day", "to_day"), ("source", "where", "from_day", "to_day")),
}


def contradictions(values: dict[str, Any], report: Report) -> None:
    """Adds to `report` what contradicts itself in the values that the schema let through (the others are absent)."""
    _variants(values, report)
    _layer(values, report)
    _sources(values, report)
    for name, metric in _record(values, "metrics").items():
        _metric(name, metric or {}, values, report)
    _decision(values, report)
    _covariates(values, report)
    _stopping(_record(values, "stopping"), report)
    _dates(values, report)
    _audience(values, report)
    for i, condition in enumerate(_items(values, "conditions")):
        _condition(f"conditions[{i}]", condition or {}, report)


def _variants(values: dict[str, Any], report: Report) -> None:
    variants: dict[str, float | None] = _record(values, "variants")
    weights = [weight for weight in variants.values() if weight is not None]
    if values.get("variants") is not None and len(variants) < 2:
        report.add(
            "variants", f"has {len(variants)} variant{'s' * (len(variants) != 1)}; an experiment compares at least two."
        )
    total = math.fsum(weights)
    if len(weights) == len(variants) >= 2 and abs(total - 1) > 1e-6:
        given = " + ".join(f"{weight:g}" for weight in weights)
        report.add("variants", f"the weights sum to {total:g} ({given}); they must sum to 1; divide each by {total:g}.")
    for name, weight in variants.items():
        if weight is not None and 0 < weight < 0.5 / SLOTS:
            report.add(
                f"variants.{name}",
                f"the weight {weight:g} is below {1 / SLOTS}, the smallest share; give more or leave the variant out.",
            )
    _known(values.get("control"), "control", variants, "variant", report)
    for unit, variant in _record(values, "forced").items():
        _known(variant, f"forced.{unit}", variants, "variant", report)
        is_integer = unit.removeprefix("-").isdigit()
        if _record(values, "unit").get("type", "integer") == "integer" and not is_integer:
            report.add(
                f"forced.{unit}",
                f"`{unit}` is no integer, but the unit's type is integer; give an integer id or set `unit.type: "
                "string`.",
            )


def _layer(values: dict[str, Any], report: Report) -> None:
    layer = _record(values, "layer")
    buckets, holdout = layer.get("buckets") or BUCKETS, layer.get("holdout") or 0.0
    usable = buckets - round(holdout * buckets)
    start, stop = layer.get("start") or 0, layer.get("stop") or usable
    if start >= stop:
        report.add("layer", f"the buckets {start}..{stop} are none; `start` must be below `stop`.")
    elif stop > usable:
        held = f", of which the last {buckets - usable} are held out" if holdout else ""
        report.add(
            "layer", f"`stop` is {stop}, but the layer has {buckets} buckets{held}; the highest `stop` is {usable}."
        )


def _sources(values: dict[str, Any], report: Report) -> None:
    sources = _record(values, "sources")
    if values.get("sources") == {}:
        report.add("sources", "is empty; name at least the table of exposures.")
    exposure = _record(values, "exposure")
    _known(exposure.get("source"), "exposure.source", sources, "source", report)
    source = _record(sources, str(exposure.get("source")))
    if exposure.get("source") in sources and "time" not in source:
        report.add(
            f"sources.{exposure['source']}",
            "holds the exposures but has no `time` column; without it nobody "
            "knows when a unit entered; add "
            "`time: <column>`.",
        )


def _metric(name: str, metric: dict[str, Any], values: dict[str, Any], report: Report) -> None:
    kind, path = metric.get("type"), f"metrics.{name}"
    if kind is None:
        return
    needed, allowed = _FIELDS[kind]
    for missing in (field for field in needed if field not in metric):
        report.add(path, f"a {kind} metric needs `{missing}`; it takes {joined(allowed)}.")
    for surplus in (field for field in metric if field not in {*allowed, "type", "description"}):
        report.add(
            f"{path}.{surplus}",
            f"`{surplus}` means nothing for a {kind} metric, which takes {joined(allowed)}; remove it or change the "
            "type.",
        )
    if kind == "mean" and "column" not in metric and metric.get("aggregate") not in {"count", "any"}:
        report.add(
            path,
            "a mean metric needs `column`, unless it has `aggregate: count` or `any`; to count rows use the type "
            "`count`.",
        )
    for part, measure in _measures(metric):
        where = f"{path}.{part}" if part else path
        _known(measure.get("source"), f"{where}.source", _record(values, "sources"), "source", report)
        if measure.get("cap") is not None and measure.get("cap_quantile") is not None:
            report.add(where, "has both `cap` and `cap_quantile`; keep the one meant.")
    if kind == "capped" and "cap" not in metric and "cap_quantile" not in metric:
        report.add(path, "a capped metric needs `cap` (a value) or `cap_quantile` (for instance 0.99).")
    _days(path, metric, values, report)


def _days(path: str, metric: dict[str, Any], values: dict[str, Any], report: Report) -> None:
    first, last = metric.get("from_day"), metric.get("to_day")
    if first is None or last is None:
        return
    if first >= last:
        report.add(path, f"`from_day: {first}` is not before `to_day: {last}` (excluded); no day is left.")
    start, end = values.get("start"), values.get("end")
    if start and end and start <= end and last > (end - start).days + 1:
        report.add(
            path,
            f"looks {last} days after exposure, but the experiment lasts {(end - start).days + 1} days; "
            "nobody could be observed; "
            "lengthen it or shorten `to_day`.",
        )


def _measures(metric: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", metric
    yield from ((part, metric[part]) for part in ("numerator", "denominator") if metric.get(part))


def _decision(values: dict[str, Any], report: Report) -> None:
    metrics = _record(values, "metrics")
    if values.get("metrics") == {}:
        report.add("metrics", "is empty; define at least the decision metric.")
    decision = _record(values, "decision")
    _known(decision.get("metric"), "decision.metric", metrics, "metric", report)
    seen: dict[str, int] = {}
    for i, guardrail in enumerate(_items(values, "guardrails")):
        given: dict[str, Any] = guardrail or {}
        metric, path = given.get("metric"), f"guardrails[{i}]"
        _known(metric, f"{path}.metric", metrics, "metric", report)
        if metric and metric == decision.get("metric"):
            report.add(path, f"`{metric}` is the decision metric and cannot also be a guardrail; remove one.")
        if metric in seen:
            report.add(path, f"`{metric}` is already guardrail {seen[metric] + 1}; keep one margin.")
        seen.setdefault(metric or "", i)


def _covariates(values: dict[str, Any], report: Report) -> None:
    metrics, sources = _record(values, "metrics"), _record(values, "sources")
    for i, covariate in enumerate(_items(values, "covariates")):
        path = f"covariates[{i}]"
        given: dict[str, Any] = covariate or {}
        if ("metric" in given) == ("source" in given):
            report.add(
                path,
                "needs either `metric` and `days` (the metric before exposure) or `source` and `column` (a column "
                "known before exposure).",
            )
            continue
        partner = "days" if "metric" in given else "column"
        wrong = ({"days", "column"} - {partner}).pop()
        if partner not in given:
            report.add(path, f"has `{'metric' if partner == 'days' else 'source'}` but no `{partner}`; add it.")
        if wrong in given:
            report.add(
                f"{path}.{wrong}",
                f"`{wrong}` does not go with `{'metric' if partner == 'days' else 'source'}`; remove it.",
            )
        _known(given.get("metric"), f"{path}.metric", metrics, "metric", report)
        _known(given.get("source"), f"{path}.source", sources, "source", report)
        if _record(metrics, str(given.get("metric"))).get("type") == "retention":
            report.add(
                path,
                f"`{given['metric']}` is a retention metric, which starts at exposure and has no value before it; take "
                "another.",
            )


def _stopping(stopping: dict[str, Any], report: Report) -> None:
    rule = stopping.get("rule", "fixed")
    owners = {"looks": "group-sequential", "spending": "group-sequential", "method": "always-valid"}
    for name, owner in owners.items():
        if name in stopping and rule is not None and rule != owner:
            report.add(
                f"stopping.{name}",
                f"`{name}` belongs to the rule `{owner}`, but the rule is `{rule}`; remove it or change the rule.",
            )
    looks: list[float] = [look for look in _items(stopping, "looks") if look is not None]
    if rule == "group-sequential" and not _items(stopping, "looks"):
        report.add(
            "stopping",
            "the rule `group-sequential` needs `looks`: the shares of the sample at which to look, like [0.25, 0.5, "
            "0.75, 1].",
        )
    if looks and len(looks) == len(_items(stopping, "looks")):
        if any(b <= a for a, b in pairwise(looks)):
            report.add(
                "stopping.looks",
                f"the looks {looks} do not increase; each is a larger share of the sample than the one before.",
            )
        if looks[-1] != 1:
            report.add(
                "stopping.looks", f"the last look is at {looks[-1]:g} of the sample; it must be 1, the full sample."
            )


def _dates(values: dict[str, Any], report: Report) -> None:
    start, end = values.get("start"), values.get("end")
    if start and end and end < start:
        report.add("end", f"the experiment ends on {end}, before it starts on {start}; exchange them.")


def _audience(values: dict[str, Any], report: Report) -> None:
    audience = values.get("audience")
    if audience is not None and ("name" in audience) == ("where" in audience):
        report.add("audience", "needs either `name` (a saved audience) or `where` (an SQL condition).")
    if audience is not None and "hash" in audience and "name" not in audience:
        report.add("audience.hash", "pins a saved audience, but there is no `name`; add it or remove the hash.")


def _condition(path: str, condition: dict[str, Any], report: Report) -> None:
    op, values = condition.get("op"), condition.get("value")
    if op and values is not None and op not in {"in", "not in"} and len(values) != 1:
        report.add(path, f"`{op}` compares with one value, but {len(values)} are given; use `in` for a list.")
    if op and values == []:
        report.add(path, f"`{op}` has an empty list; give at least one value.")


def _record(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The mapping under a name; empty where it is absent or was wrong."""
    return values.get(name) or {}


def _items(values: dict[str, Any], name: str) -> list[Any]:
    """The list under a name; empty where it is absent or was wrong."""
    return values.get(name) or []


def _known(name: Any, path: str, defined: dict[str, Any], kind: str, report: Report) -> None:
    if name is not None and name not in defined:
        report.add(path, f"there is no {kind} `{name}`; {suggest(name, defined)}")
