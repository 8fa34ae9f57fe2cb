"""The spec: what a file means, and every complaint with its line."""

import dataclasses

import pytest

from treadle.core.errors import ConfigError, DataError
from treadle.experiment.assignment import assigner
from treadle.experiment.conditions import Condition
from treadle.experiment.registry import history, register
from treadle.experiment.spec import Covariate, Guardrail, Measure, Source, Stopping, load, loads, read
from treadle.experiment.template import template

SMALL = """\
experiment: button
unit: user_id
variants: {control: 50%, treatment: 0.5}
control: control
layer: checkout
sources:
  seen: {table: seen.parquet, time: at}
  orders: {table: orders.parquet}
exposure: seen
metrics:
  revenue: {type: mean, source: orders, column: amount}
  buyers: {type: proportion, source: orders}
  week2: {type: retention, source: seen, from_day: 7, to_day: 14}
decision: revenue
"""


def _with(line: str, new: str) -> str:
    assert line in SMALL
    return SMALL.replace(line, new)


def _plus(text: str) -> str:
    return SMALL + text


def test_small_spec_has_its_defaults():
    spec = loads(SMALL)
    assert (spec.experiment, spec.version, spec.unit.column, spec.unit.type) == ("button", 1, "user_id", "integer")
    assert spec.variants == {"control": 0.5, "treatment": 0.5}
    assert (spec.layer.key, spec.layer.start, spec.layer.stop) == ("checkout", 0, 10_000)
    assert spec.sources["orders"] == Source("orders.parquet", "user_id")
    assert spec.metrics["revenue"].numerator == Measure("orders", "amount", "sum")
    assert spec.metrics["buyers"].numerator == Measure("orders", None, "any")
    assert spec.stopping == Stopping("fixed", 0.05, 0.8)
    assert (spec.guardrails, spec.covariates, spec.correction) == ((), (), "holm")


def test_template_is_valid_and_says_all():
    spec = loads(template("checkout-button"))
    assert spec.experiment == "checkout-button"
    assert {metric.type for metric in spec.metrics.values()} == {
        "mean",
        "proportion",
        "capped",
        "ratio",
        "quantile",
        "retention",
    }
    assert spec.metrics["orders_per_visit"].denominator == Measure("visits", None, "count")
    assert spec.metrics["load_p95"].numerator.aggregate is None
    assert spec.guardrails == (Guardrail("load_p95", 0.03, "decrease"), Guardrail("revenue", 0.02))
    assert spec.covariates == (Covariate("revenue", 14),)
    assert spec.covariates[0].name == "revenue_before"
    assert spec.stopping.looks == (0.25, 0.5, 0.75, 1)
    uncommented = (
        template("x")
        .replace("# audience:", "audience:")
        .replace("#   name:", "  name:")
        .replace("# conditions:", "conditions:")
    )
    uncommented = (
        uncommented.replace("#   - {column", "  - {column").replace("# forced:", "forced:").replace("#   42:", "  42:")
    )
    spec = loads(uncommented)
    assert spec.conditions == (Condition("country", "in", ("JP", "KR")),)
    assert spec.forced == {"42": "treatment"}
    with pytest.raises(ConfigError, match="the key 'a b' is not allowed"):
        template("a b")


def test_a_spec_can_be_assigned():
    spec = loads(_plus("traffic: 0.4\nforced: {3: treatment}\nconditions: [{column: age, op: '>=', value: 18}]\n"))
    one = assigner(spec.place(), spec.experiment)
    out = one.assign(range(1000), {"age": [20] * 1000})
    assert 300 < out.funnel()["assigned"] < 500
    assert out.variant[3] == 1


def test_hash_is_of_the_meaning():
    spec = loads(SMALL)
    same = SMALL.replace("50%", "0.50").replace("unit: user_id", "unit: {column: user_id, type: integer}  # a remark")
    assert loads(same).hash() == spec.hash() == dataclasses.replace(spec, version=7).hash()
    assert loads(SMALL.replace("buyers", "payers")).hash() != spec.hash()
    swapped = SMALL.replace("{control: 50%, treatment: 0.5}", "{treatment: 0.5, control: 0.5}")
    assert loads(swapped).hash() != spec.hash()
    sources = SMALL.replace("  seen: {table: seen.parquet, time: at}\n", "").replace(
        "exposure:", "  seen: {table: seen.parquet, time: at}\nexposure:"
    )
    assert loads(sources).hash() == spec.hash()


def test_names_are_texts_whatever_yaml_thinks():
    spec = loads(
        SMALL.replace("control: 50%, treatment: 0.5", "on: 0.5, 1e3: 0.5").replace("control: control", "control: on")
    )
    assert list(spec.variants) == ["on", "1e3"]


# text, line, complaint
BAD = [
    ("", 1, "the file is empty; `treadle experiment new` writes a template"),
    ("a: [", 1, "not YAML: .*; check indentation, colons and quotes"),
    ("- a", 1, "is a list, but must be an experiment with experiment, version"),
    (_with("control: control\n", ""), 1, "the field `control` is missing; it is a text"),
    (_plus("colour: red\n"), 15, "there is no field `colour` here; allowed: experiment, .*control"),
    (_plus("guardrail: []\n"), 15, "there is no field `guardrail` here; .*; did you mean `guardrails`\\?"),
    (_plus("control: control\n"), 15, "`control` stands here twice, first on line 4; keep one"),
    (
        _with("control: 50%", "control: 40%"),
        3,
        r"the weights sum to 0.9 \(0.4 \+ 0.5\); they must sum to 1; divide each by 0.9",
    ),
    (_with("control: 50%, treatment: 0.5", "control: 1"), 3, "has 1 variant; an experiment compares at least two"),
    (_with("control: 50%", "control: half"), 3, r"`variants.control`: is `half`, but must be a number in \(0, 1\]"),
    (
        _with("control: 50%, treatment: 0.5", "control: 0.99999, treatment: 0.00001"),
        3,
        "the weight 1e-05 is below 0.0001",
    ),
    (
        _with("control: 50%, treatment: 0.5", "control: , treatment: 0.5"),
        3,
        r"`variants.control`: is nothing, but must be a number",
    ),
    (_with("{control: 50%, treatment: 0.5}", "[a, b]"), 3, "is a list, but must be a mapping from names"),
    (
        _with("control: control", "control: contrl"),
        4,
        "there is no variant `contrl`; allowed: control, treatment; did you mean `control`\\?",
    ),
    (
        _with("unit: user_id", "unit: {column: user_id, type: float}"),
        2,
        "`float` is not allowed; allowed: integer, string",
    ),
    (_with("unit: user_id", "unit: [a]"), 2, "is a list, but must be a mapping with column, type"),
    (
        _with("layer: checkout", "layer: {key: c, holdout: 0.1, stop: 9500}"),
        5,
        "`stop` is 9500, but the layer has 10000 buckets, of which the last 1000",
    ),
    (_with("layer: checkout", "layer: {key: c, start: 500, stop: 500}"), 5, "the buckets 500..500 are none"),
    (_with("layer: checkout", "layer: {key: c, buckets: 1.5}"), 5, r"is `1.5`, but must be a whole number in \[1, "),
    (
        _with("exposure: seen", "exposure: sene"),
        9,
        "there is no source `sene`; allowed: seen, orders; did you mean `seen`\\?",
    ),
    (_with("exposure: seen", "exposure: orders"), 8, "holds the exposures but has no `time` column"),
    (
        _with("source: orders, column: amount", "source: order, column: amount"),
        11,
        "`metrics.revenue.source`: there is no source `order`",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: mena, source: orders}"),
        11,
        "`mena` is not allowed; .*did you mean `mean`",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: mean, source: orders}"),
        11,
        "a mean metric needs `column`, unless",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: ratio, numerator: orders}"),
        11,
        "a ratio metric needs `denominator`; it takes `numerator` and `denominator`",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: ratio, numerator: orders, denominator: visits}"),
        11,
        "`metrics.revenue.denominator.source`: there is no source `visits`",
    ),
    (
        _with(
            "{type: mean, source: orders, column: amount}", "{type: quantile, source: orders, column: a, quantile: 1}"
        ),
        11,
        r"must be a number in \(0, 1\)",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: quantile, source: orders, column: a}"),
        11,
        "a quantile metric needs `quantile`",
    ),
    (
        _with("{type: mean, source: orders, column: amount}", "{type: capped, source: orders, column: a}"),
        11,
        "a capped metric needs `cap`",
    ),
    (
        _with(
            "{type: mean, source: orders, column: amount}",
            "{type: capped, source: orders, column: a, cap: 5, cap_quantile: 0.9}",
        ),
        11,
        "has both `cap` and `cap_quantile`",
    ),
    (
        _with("proportion, source: orders", "proportion, source: orders, column: x"),
        12,
        "`column` means nothing for a proportion metric",
    ),
    (_with("from_day: 7, to_day: 14", "from_day: 14, to_day: 7"), 13, "`from_day: 14` is not before `to_day: 7`"),
    (
        _plus("start: 2026-01-01\nend: 2026-01-07\n"),
        13,
        "looks 14 days after exposure, but the experiment lasts 7 days",
    ),
    (_plus("start: 2026-01-31\nend: 2026-01-01\n"), 16, "ends on 2026-01-01, before it starts on 2026-01-31"),
    (_plus("start: 31.1.2026\n"), 15, "is `31.1.2026`, but must be a date like 2026-01-31"),
    (_with("decision: revenue", "decision: revenu"), 14, "there is no metric `revenu`; .*did you mean `revenue`"),
    (
        _with("decision: revenue", "decision: {metric: revenue, direction: up}"),
        14,
        "`up` is not allowed; allowed: increase, decrease",
    ),
    (
        _plus("guardrails: [{metric: revenue, margin: 1%}]\n"),
        15,
        "`revenue` is the decision metric and cannot also be a guardrail",
    ),
    (
        _plus("guardrails: [{metric: buyers, margin: 1%}, {metric: buyers, margin: 2%}]\n"),
        15,
        "`buyers` is already guardrail 1",
    ),
    (_plus("guardrails: [{metric: buyers, margin: -1%}]\n"), 15, "is `-1%`, but must be a number above 0"),
    (_plus("guardrails: [{metric: buyers}]\n"), 15, "the field `margin` is missing"),
    (_plus("guardrails: {metric: buyers}\n"), 15, "is a mapping, but must be a list"),
    (_plus("covariates: [{metric: revenue, source: seen}]\n"), 15, "needs either `metric` and `days`"),
    (_plus("covariates: [{metric: revenue}]\n"), 15, "has `metric` but no `days`"),
    (_plus("covariates: [{source: seen, column: score, days: 3}]\n"), 15, "`days` does not go with `source`"),
    (_plus("covariates: [{metric: week2, days: 7}]\n"), 15, "`week2` is a retention metric, which starts at exposure"),
    (
        _plus("stopping: {rule: fixed, looks: [0.5, 1]}\n"),
        15,
        "`looks` belongs to the rule `group-sequential`, but the rule is `fixed`",
    ),
    (
        _plus("stopping: {rule: always-valid, spending: pocock}\n"),
        15,
        "`spending` belongs to the rule `group-sequential`",
    ),
    (_plus("stopping: group-sequential\n"), 15, "the rule `group-sequential` needs `looks`"),
    (_plus("stopping: {rule: group-sequential, looks: [0.5, 0.5, 1]}\n"), 15, "do not increase"),
    (
        _plus("stopping: {rule: group-sequential, looks: [0.25, 0.5]}\n"),
        15,
        "the last look is at 0.5 of the sample; it must be 1",
    ),
    (_plus("stopping: {rule: fixed, alpha: 5}\n"), 15, r"is `5`, but must be a number in \(0, 1\)"),
    (_plus("traffic: 0\n"), 15, r"is `0`, but must be a number in \(0, 1\]"),
    (_plus("audience: {name: a, where: b}\n"), 15, "needs either `name`"),
    (_plus("audience: {where: b, hash: c}\n"), 15, "pins a saved audience, but there is no `name`"),
    (
        _plus("conditions: [{column: age, op: '>', value: [1, 2]}]\n"),
        15,
        "`>` compares with one value, but 2 are given; use `in`",
    ),
    (_plus("conditions: [{column: age, op: in, value: []}]\n"), 15, "`in` has an empty list"),
    (_plus("forced: {3: treatmnt}\n"), 15, "there is no variant `treatmnt`"),
    (_plus("forced: {bob: treatment}\n"), 15, "`bob` is no integer, but the unit's type is integer"),
    (
        _with(
            "metrics:\n  revenue: {type: mean, source: orders, column: amount}\n"
            "  buyers: {type: proportion, source: orders}\n"
            "  week2: {type: retention, source: seen, from_day: 7, to_day: 14}\n",
            "metrics: {}\n",
        ),
        10,
        "is empty; define at least the decision metric",
    ),
]


@pytest.mark.parametrize(("text", "line", "complaint"), BAD, ids=range(len(BAD)))
def test_complaints_have_lines(text, line, complaint):
    with pytest.raises(ConfigError, match=rf"(?s)spec: \d+ problems?; nothing was run.*line {line}\D[^\n]*{complaint}"):
        loads(text)


def test_all_problems_at_once_in_order():
    text = (
        SMALL.replace("50%", "40%")
        .replace("decision: revenue", "decision: profit")
        .replace("type: proportion", "type: share")
        + "owners: me\n"
    )
    spec, problems = read(text)
    assert spec is None
    assert [problem.line for problem in problems] == [3, 12, 14, 15]
    assert [problem.path for problem in problems] == ["variants", "metrics.buyers.type", "decision.metric", "owners"]


def test_load_reads_a_file(tmp_path):
    (tmp_path / "button.yaml").write_text(SMALL, encoding="utf-8")
    assert load(tmp_path / "button.yaml") == loads(SMALL)
    (tmp_path / "bad.yaml").write_text("a: b", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"bad.yaml: 10 problems; nothing was run"):
        load(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"there is no file .*none.yaml"):
        load(tmp_path / "none.yaml")


def test_register_asks_for_a_version_and_says_what_changed(tmp_path):
    spec = loads(SMALL)
    first = register(spec, tmp_path)
    assert register(spec, tmp_path) == first
    changed = loads(_plus("guardrails: [{metric: buyers, margin: 1%}]\n").replace("0.5}", "0.3, new: 0.2}"))
    with pytest.raises(
        ConfigError,
        match=r"'button' changed since version 1 was registered at .*; the file says `version: 1`; set it to 2",
    ):
        register(changed, tmp_path)
    second = register(dataclasses.replace(changed, version=2), tmp_path)
    assert second.changes == (
        "variants.treatment was 0.5, is now 0.3",
        "variants.new is new: 0.2",
        "guardrails.buyers is new: metric `buyers`, margin 0.01, direction `increase`, scale `relative`",
    )
    third = register(dataclasses.replace(spec, version=3), tmp_path)
    assert third.changes[-1].startswith("guardrails.buyers is gone (was metric `buyers`")
    assert history("button", tmp_path) == [first, second, third]
    assert history("other", tmp_path) == []
    with pytest.raises(ConfigError, match="version 4 of 'button' says the same as version 3; keep `version: 3`"):
        register(dataclasses.replace(spec, version=4), tmp_path)
    with pytest.raises(
        ConfigError, match="'other' is new and is not registered yet; the file says `version: 2`; set it to 1"
    ):
        register(dataclasses.replace(spec, experiment="other", version=2), tmp_path)


def test_the_order_of_variants_is_a_change(tmp_path):
    spec = loads(SMALL)
    register(spec, tmp_path)
    swapped = dataclasses.replace(spec, version=2, variants=dict(reversed(spec.variants.items())))
    assert register(swapped, tmp_path).changes == (
        "the order of variants was ['control', 'treatment'], is now ['treatment', 'control']",
    )


def test_an_edited_registry_is_noticed(tmp_path):
    register(loads(SMALL), tmp_path)
    path = tmp_path / "button.json"
    path.write_text(path.read_text().replace('"metric": "revenue"', '"metric": "buyers"'))
    with pytest.raises(DataError, match=r"version 1 of 'button' in .* was changed after"):
        history("button", tmp_path)
