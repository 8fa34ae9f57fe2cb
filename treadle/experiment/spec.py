"""`Spec`: what an experiment is, one YAML file, read into frozen dataclasses.

`load` reads a file, `loads` a text; both raise one `ConfigError` that lists every problem with its line. `template.py`
has a commented file to begin with, `registry.py` the versions of a spec once it is registered.
"""

import dataclasses
import datetime as dt
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from treadle.core.errors import ConfigError
from treadle.experiment.conditions import Condition
from treadle.experiment.layers import BUCKETS, Allocation, Layer
from treadle.experiment.schema import (
    Any1,
    Choice,
    Date,
    ListOf,
    MapOf,
    Number,
    Problem,
    Record,
    Report,
    Text,
    check,
    parse,
)
from treadle.experiment.spec_checks import contradictions
from treadle.experiment.split import Split

MetricType = Literal["mean", "proportion", "count", "ratio", "quantile", "capped", "retention"]
METRIC_TYPES: tuple[MetricType, ...] = ("mean", "proportion", "count", "ratio", "quantile", "capped", "retention")
RULES = ("fixed", "group-sequential", "always-valid")
OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")


@dataclass(frozen=True)
class UnitColumn:
    """What is randomised: a column of ids, "integer" or "string"."""

    column: str
    type: Literal["integer", "string"] = "integer"


@dataclass(frozen=True)
class LayerPlace:
    """The experiment's place: buckets [start, stop) of a layer; `holdout` is the layer's own."""

    key: str
    version: int = 1
    buckets: int = BUCKETS
    start: int = 0
    stop: int = BUCKETS
    holdout: float = 0.0


@dataclass(frozen=True)
class Source:
    """A table of events or attributes.

    Where it is, and which columns hold the unit, the time and (exposures) the variant.
    """

    table: str
    unit: str
    time: str | None = None
    variant: str | None = None


@dataclass(frozen=True)
class Exposure:
    """When a unit enters the analysis: its first row in `source` that fulfils `where` (SQL)."""

    source: str
    where: str | None = None


@dataclass(frozen=True)
class AudienceRef:
    """Who may take part.

    A saved audience by name, or an SQL condition on a source's columns; `hash` pins the audience.
    """

    name: str | None = None
    where: str | None = None
    hash: str | None = None


@dataclass(frozen=True)
class Measure:
    """What is added up for a unit.

    `aggregate` of `column` over its rows in `source` that fulfil `where`, capped at a value or at a quantile.

    `aggregate` None means the rows themselves, not a value a unit: a quantile over rows, with units as clusters.
    """

    source: str
    column: str | None = None
    aggregate: Literal["sum", "mean", "min", "max", "count", "any"] | None = "sum"
    where: str | None = None
    cap: float | None = None
    cap_quantile: float | None = None


@dataclass(frozen=True)
class MetricSpec:
    """A metric's definition. `numerator` is the measure.

    Only a ratio has a `denominator`. Days count from exposure, `to_day` excluded.
    """

    name: str
    type: MetricType
    numerator: Measure
    denominator: Measure | None = None
    quantile: float | None = None
    from_day: int | None = None
    to_day: int | None = None
    description: str | None = None


@dataclass(frozen=True)
class Decision:
    """The one metric that decides, the direction that is good, and the smallest effect worth having (relative)."""

    metric: str
    direction: Literal["increase", "decrease"] = "increase"
    alternative: Literal["two-sided", "one-sided"] = "two-sided"
    minimum_effect: float | None = None


@dataclass(frozen=True)
class Guardrail:
    """A metric that must not get worse by more than `margin` (non-inferiority).

    Relative or in the metric's own unit.
    """

    metric: str
    margin: float
    direction: Literal["increase", "decrease"] = "increase"
    scale: Literal["relative", "absolute"] = "relative"


@dataclass(frozen=True)
class Covariate:
    """A variable of before the exposure.

    A metric over the `days` before it (CUPED), or a column of a source (a model's prediction: CUPAC).
    """

    metric: str | None = None
    days: int | None = None
    source: str | None = None
    column: str | None = None

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.metric}_before" if self.metric else str(self.column)


@dataclass(frozen=True)
class Stopping:
    """When the experiment may be judged: once at the end, at planned looks (shares of the sample), or at any time."""

    rule: Literal["fixed", "group-sequential", "always-valid"] = "fixed"
    alpha: float = 0.05
    power: float = 0.8
    sample_size: int | None = None
    looks: tuple[float, ...] = ()
    spending: Literal["obrien-fleming", "pocock"] | None = None
    method: Literal["confidence-sequence", "msprt"] | None = None


@dataclass(frozen=True)
class Spec:
    """An experiment. Field for field what the YAML file says, with the defaults filled in."""

    experiment: str
    unit: UnitColumn
    variants: dict[str, float]
    control: str
    layer: LayerPlace
    sources: dict[str, Source]
    exposure: Exposure
    metrics: dict[str, MetricSpec]
    decision: Decision
    version: int = 1
    hypothesis: str | None = None
    owner: str | None = None
    start: dt.date | None = None
    end: dt.date | None = None
    traffic: float = 1.0
    audience: AudienceRef | None = None
    conditions: tuple[Condition, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    covariates: tuple[Covariate, ...] = ()
    stopping: Stopping = field(default_factory=Stopping)
    correction: Literal["none", "holm", "benjamini-hochberg", "gatekeeping"] = "holm"
    forced: dict[str, str] = field(default_factory=dict[str, str])

    def canonical(self) -> dict[str, Any]:
        """The spec as plain JSON values, all defaults filled in and nothing absent.

        Equal for files that mean the same.
        """
        return json.loads(json.dumps(dataclasses.asdict(self), default=_plain))

    def hash(self) -> str:
        """The SHA-256 of the canonical form without its version number: 64 hex digits."""
        content = {name: value for name, value in self.canonical().items() if name != "version"}
        # The order of variants is part of the experiment (it places the slots); that of other names is not.
        content["variants"] = list(content["variants"].items())
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def split(self) -> Split:
        """The variants' slots."""
        return Split.of(self.variants)

    def place(self) -> Layer:
        """A layer that holds this experiment alone; for `assigner(spec.place(), spec.experiment)`."""
        forced = {
            (int(unit) if self.unit.type == "integer" else unit): variant for unit, variant in self.forced.items()
        }
        entry = Allocation(
            self.experiment,
            self.split(),
            ((self.layer.start, self.layer.stop),),
            self.traffic,
            conditions=self.conditions,
            forced=forced,
        )
        return Layer(self.layer.key, self.layer.version, self.layer.buckets, self.layer.holdout, (entry,))


_SHARE = Number(0, 1)
_INSIDE = Number(0, 1, open_low=True, open_high=True)
_POSITIVE = Number(0, open_low=True)
_MEASURE = {
    "source": Text(),
    "column": Text(),
    "aggregate": Choice(("sum", "mean", "min", "max", "count", "any")),
    "where": Text(),
    "cap": Number(),
    "cap_quantile": _INSIDE,
}
_DIRECTION = Choice(("increase", "decrease"))

SCHEMA = Record(
    {
        "experiment": Text(),
        "version": Number(1, whole=True),
        "hypothesis": Text(),
        "owner": Text(),
        "unit": Record({"column": Text(), "type": Choice(("integer", "string"))}, ("column",), short="column"),
        "variants": MapOf(Number(0, 1, open_low=True)),
        "control": Text(),
        "layer": Record(
            {
                "key": Text(),
                "version": Number(1, whole=True),
                "buckets": Number(1, 1 << 32, whole=True),
                "start": Number(0, whole=True),
                "stop": Number(1, whole=True),
                "holdout": Number(0, 1, open_high=True),
            },
            ("key",),
            short="key",
        ),
        "traffic": Number(0, 1, open_low=True),
        "start": Date(),
        "end": Date(),
        "audience": Record({"name": Text(), "where": Text(), "hash": Text()}, short="name"),
        "conditions": ListOf(
            Record(
                {"column": Text(), "op": Choice(OPERATORS), "value": ListOf(Any1(), lone=True)},
                ("column", "op", "value"),
            )
        ),
        "forced": MapOf(Text()),
        "sources": MapOf(Record({"table": Text(), "unit": Text(), "time": Text(), "variant": Text()}, ("table",))),
        "exposure": Record({"source": Text(), "where": Text()}, ("source",), short="source"),
        "metrics": MapOf(
            Record(
                {
                    "type": Choice(METRIC_TYPES),
                    **_MEASURE,
                    "numerator": Record(_MEASURE, ("source",), short="source"),
                    "denominator": Record(_MEASURE, ("source",), short="source"),
                    "quantile": _INSIDE,
                    "from_day": Number(0, whole=True),
                    "to_day": Number(1, whole=True),
                    "description": Text(),
                },
                ("type",),
            )
        ),
        "decision": Record(
            {
                "metric": Text(),
                "direction": _DIRECTION,
                "alternative": Choice(("two-sided", "one-sided")),
                "minimum_effect": _POSITIVE,
            },
            ("metric",),
            short="metric",
        ),
        "guardrails": ListOf(
            Record(
                {
                    "metric": Text(),
                    "margin": _POSITIVE,
                    "direction": _DIRECTION,
                    "scale": Choice(("relative", "absolute")),
                },
                ("metric", "margin"),
            )
        ),
        "covariates": ListOf(
            Record({"metric": Text(), "days": Number(1, whole=True), "source": Text(), "column": Text()})
        ),
        "stopping": Record(
            {
                "rule": Choice(RULES),
                "alpha": _INSIDE,
                "power": _INSIDE,
                "sample_size": Number(2, whole=True),
                "looks": ListOf(Number(0, 1, open_low=True)),
                "spending": Choice(("obrien-fleming", "pocock")),
                "method": Choice(("confidence-sequence", "msprt")),
            },
            ("rule",),
            short="rule",
        ),
        "correction": Choice(("none", "holm", "benjamini-hochberg", "gatekeeping")),
    },
    ("experiment", "unit", "variants", "control", "layer", "sources", "exposure", "metrics", "decision"),
    name="an experiment",
)


def load(path: str | Path) -> Spec:
    """The spec in a YAML file.

    Raises:
        ConfigError: the file does not exist, or has problems: all of them, each with its line.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"spec: there is no file {file}; `treadle experiment new` writes one to begin with.")
    return loads(file.read_text(encoding="utf-8"), name=file.name)


def loads(text: str, *, name: str = "spec") -> Spec:
    """The spec in a YAML text; `name` stands in error messages. Raises as `load`."""
    spec, problems = read(text)
    if spec is None:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ConfigError(f"{name}: {len(problems)} problem{'s' * (len(problems) != 1)}; nothing was run.\n{lines}")
    return spec


def read(text: str) -> tuple[Spec | None, list[Problem]]:
    """The spec and an empty list, or None and every problem in the order of lines."""
    report = Report()
    node = parse(text, report)
    values = check(node, SCHEMA, report) if node is not None else None
    if values is None:
        return None, report.problems
    contradictions(values, report)
    report.problems.sort(key=lambda problem: problem.line)
    return (None if report.problems else _build(values)), report.problems


def _build(values: dict[str, Any]) -> Spec:
    layer = values["layer"]
    layer.setdefault(
        "stop", layer.get("buckets", BUCKETS) - round(layer.get("holdout", 0.0) * layer.get("buckets", BUCKETS))
    )
    unit = UnitColumn(**values["unit"])
    stopping: dict[str, Any] = values.get("stopping", {})
    looks: dict[str, Any] = {"looks": tuple(stopping.get("looks", ()))}
    built: dict[str, Any] = {
        **values,
        "unit": unit,
        "layer": LayerPlace(**layer),
        "sources": {name: Source(**{"unit": unit.column, **source}) for name, source in values["sources"].items()},
        "exposure": Exposure(**values["exposure"]),
        "metrics": {name: _metric(name, metric) for name, metric in values["metrics"].items()},
        "decision": Decision(**values["decision"]),
        "audience": AudienceRef(**values["audience"]) if "audience" in values else None,
        "conditions": tuple(_condition(condition) for condition in values.get("conditions", [])),
        "guardrails": tuple(Guardrail(**guardrail) for guardrail in values.get("guardrails", [])),
        "covariates": tuple(Covariate(**covariate) for covariate in values.get("covariates", [])),
        "stopping": Stopping(**{**stopping, **looks}),
    }
    return Spec(**built)


def _metric(name: str, values: dict[str, Any]) -> MetricSpec:
    default = {"proportion": "any", "retention": "any", "count": "count", "quantile": None}.get(values["type"], "sum")
    measure = {key: value for key, value in values.items() if key in _MEASURE}
    numerator: dict[str, Any] = {"aggregate": default, **values.get("numerator", measure)}
    denominator: dict[str, Any] = {"aggregate": "sum", **values.get("denominator", {})}
    for part in (numerator, denominator):
        if part["aggregate"] == "sum" and "column" not in part:
            part["aggregate"] = "count"  # a part of a ratio without a column counts rows
    rest: dict[str, Any] = {
        key: value for key, value in values.items() if key in {"type", "quantile", "from_day", "to_day", "description"}
    }
    return MetricSpec(
        name,
        numerator=Measure(**numerator),
        denominator=Measure(**denominator) if "denominator" in values else None,
        **rest,
    )


def _condition(values: dict[str, Any]) -> Condition:
    value = values["value"]
    return Condition(values["column"], values["op"], tuple(value) if values["op"] in {"in", "not in"} else value[0])


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else str(value)
