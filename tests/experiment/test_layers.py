"""Splits, layers and domains: exclusive inside a layer, orthogonal across layers, sticky under change."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from treadle.core.errors import ConfigError
from treadle.experiment.assignment import Reason, assigner
from treadle.experiment.conditions import Condition
from treadle.experiment.layers import Allocation, Domain, Layer, Nested
from treadle.experiment.split import SLOTS, Split

HALVES = Split.of({"control": 0.5, "treatment": 0.5})
IDS = np.arange(100_000)


def test_split_places_whole_slots():
    split = Split.of({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert split.weights == {"a": 0.3334, "b": 0.3333, "c": 0.3333}
    assert split.table.dtype == np.int8
    assert np.bincount(split.table).tolist() == [3334, 3333, 3333]


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.4, "b": 0.25, "c": 0.35},
        {"a": 0.2, "b": 0.8},
        {"c": 0.3, "a": 0.3, "d": 0.4},
        {"a": 0.5, "b": 0.25, "c": 0.25},
    ],
)
def test_reweight_moves_the_fewest(weights):
    before = Split.of({"a": 0.5, "b": 0.25, "c": 0.25})
    after = before.reweight(weights)
    assert after.weights == pytest.approx(weights)
    least = sum(abs(weights.get(name, 0) - before.weights.get(name, 0)) for name in {*weights, *before.variants}) / 2
    assert before.moved(after) == pytest.approx(least)
    back = after.reweight(before.weights)
    assert after.moved(back) == pytest.approx(least)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"a": 0.5, "b": 0.4}, r"the weights sum to 0.9 \(0.5 \+ 0.4\); they must sum to 1; divide each by 0.9"),
        ({"a": 1.0}, r"1 variant given \(a\); an experiment compares at least two"),
        ({}, r"0 variants given \(none\)"),
        ({"a": 1.2, "b": -0.2}, r"the weights \{'a': 1.2, 'b': -0.2\} are not in \(0, 1\]"),
        ({"a": float("nan"), "b": 0.5}, r"are not in \(0, 1\]"),
        ({"a": 0.99999, "b": 0.00001}, r"the weights of \['b'\] are below 1/10000"),
    ],
)
def test_bad_weights(weights, text):
    with pytest.raises(ConfigError, match=text):
        Split.of(weights)


def test_bad_segments():
    with pytest.raises(ConfigError, match="does not follow on slot 5000"):
        Split(("a", "b"), ((0, 5000, 0), (6000, SLOTS, 1)))
    with pytest.raises(ConfigError, match="the segments end at slot 5000; they must end at 10000"):
        Split(("a", "b"), ((0, 5000, 0),))


def test_experiments_of_a_layer_are_exclusive_and_the_hold_out_is_in_none():
    layer = Layer("ui", holdout=0.1).add("first", HALVES, share=0.3).add("second", HALVES, share=0.6)
    first, second = (assigner(layer, key).assign(IDS) for key in ("first", "second"))
    assert not ((first.variant >= 0) & (second.variant >= 0)).any()
    assert (first.variant >= 0).mean() == pytest.approx(0.3, abs=0.01)
    held = first.reason == Reason.LAYER_HOLDOUT
    assert held.mean() == pytest.approx(0.1, abs=0.01)
    assert (held == (second.reason == Reason.LAYER_HOLDOUT)).all()
    assert layer.free == ()


def test_layers_are_orthogonal():
    domain = Domain("all", tuple(Layer(key).add(f"{key}-test", HALVES, share=1) for key in ("ui", "ranking", "price")))
    variants = [assigner(domain, f"{key}-test").assign(IDS) for key in ("ui", "ranking", "price")]
    for i in range(3):
        for j in range(i):
            table = np.histogram2d(variants[i].variant, variants[j].variant, 2)[0]
            assert stats.chi2_contingency(table).pvalue > 1e-3
            buckets = np.histogram2d(variants[i].bucket, variants[j].bucket, 20)[0]
            assert stats.chi2_contingency(buckets).pvalue > 1e-3


def test_variant_is_independent_of_the_bucket():
    out = assigner(Layer("ui").add("x", HALVES, share=1), "x").assign(IDS)
    assert stats.chi2_contingency(np.histogram2d(out.bucket, out.variant, (50, 2))[0]).pvalue > 1e-3


def test_the_next_experiment_in_the_same_buckets_splits_independently():
    layer = Layer("ui").add("old", HALVES, share=0.5)
    new = layer.end("old").add("new", HALVES, share=0.5)
    old, now = assigner(layer, "old").assign(IDS), assigner(new, "new").assign(IDS)
    both = (old.variant >= 0) & (now.variant >= 0)
    assert (both == (old.variant >= 0)).all()
    assert stats.chi2_contingency(np.histogram2d(old.variant[both], now.variant[both], 2)[0]).pvalue > 1e-3


def test_ramp_up_moves_nobody_who_is_in():
    layer = Layer("ui").add("other", HALVES, share=0.2).add("x", HALVES, share=0.5, traffic=0.02)
    before = assigner(layer, "x").assign(IDS)
    for traffic in (0.1, 0.5, 1.0):
        layer = layer.ramp("x", traffic)
        after = assigner(layer, "x").assign(IDS)
        was_in = before.variant >= 0
        assert (after.variant[was_in] == before.variant[was_in]).all()
        assert (after.variant >= 0).mean() == pytest.approx(0.5 * traffic, abs=0.01)
        assert (after.variant[after.variant >= 0]).mean() == pytest.approx(0.5, abs=0.02)
        before = after
    with pytest.raises(
        ConfigError, match=r"traffic 0.2 is below the present 1, which would throw users out; say shrink=True"
    ):
        layer.ramp("x", 0.2)
    assert layer.ramp("x", 0.2, shrink=True).experiment("x").traffic == 0.2


def test_new_weights_move_the_fewest_users():
    layer = Layer("ui").add("x", Split.of({"a": 0.5, "b": 0.3, "c": 0.2}), share=1)
    before = assigner(layer, "x").assign(IDS).variant
    after = assigner(layer.reweight("x", {"a": 0.4, "b": 0.3, "c": 0.3}), "x").assign(IDS).variant
    assert (before != after).mean() == pytest.approx(0.1, abs=0.005)
    assert set(after[before != after].tolist()) == {2}


def test_resalt_shuffles_anew():
    layer = Layer("ui")
    new = layer.resalt()
    assert (new.key, new.version) == ("ui", 2)
    old, now = (assigner(each.add("x", HALVES, share=1), "x").assign(IDS) for each in (layer, new))
    assert stats.chi2_contingency(np.histogram2d(old.bucket, now.bucket, 20)[0]).pvalue > 1e-3
    assert (old.variant != now.variant).mean() == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ConfigError, match=r"layer 'ui': \['x'\] run in it, and a new salt would move their users"):
        layer.add("x", HALVES, share=1).resalt()


def test_global_hold_out_and_nested_domains():
    inner = Domain(
        "inner",
        (Layer("deep").add("below", HALVES, share=1), Layer("deep2").add("below2", HALVES, share=1)),
        holdout=0.2,
    )
    root = Domain(
        "all", (Layer("top", entries=(Nested(inner, ((0, 4000),)),)).add("beside", HALVES, share=0.6),), holdout=0.05
    )
    assert list(root.experiments()) == ["below", "below2", "beside"]
    below, below2, beside = (assigner(root, key).assign(IDS) for key in ("below", "below2", "beside"))
    assert not ((below.variant >= 0) & (beside.variant >= 0)).any()
    assert ((below.variant >= 0) == (below2.variant >= 0)).all()  # overlapping layers of one domain see the same units
    assert (below.variant >= 0).mean() == pytest.approx(0.95 * 0.4 * 0.8, abs=0.01)
    outside = assigner(root, "beside").assign(IDS).reason == Reason.HOLDOUT
    assert outside.mean() == pytest.approx(0.05, abs=0.005)
    assert (below.reason[outside] == Reason.HOLDOUT).all()


def test_fall_through():
    adults = Allocation("adults", HALVES, ((0, 6000),), conditions=(Condition("age", ">=", 18),))
    rest = Allocation("rest", HALVES, ((4000, 10_000),))
    layer = Layer("ui", entries=(adults, rest), fallthrough=True)
    age = IDS % 40
    first, second = (assigner(layer, key).assign(IDS, {"age": age}) for key in ("adults", "rest"))
    assert not ((first.variant >= 0) & (second.variant >= 0)).any()
    shared = (first.bucket >= 4000) & (first.bucket < 6000)
    assert ((second.variant >= 0)[shared] == (age < 18)[shared]).all()
    with pytest.raises(ConfigError, match="shares 2,000 buckets with 'rest', which has no conditions"):
        Layer("ui", entries=(rest, adults), fallthrough=True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Layer("ui", entries=(Allocation("a", HALVES, ((0, 600),)), Allocation("b", HALVES, ((500, 900),)))),
            r"'a' \[\(0, 600\)\] and 'b' \[\(500, 900\)\] overlap in 100 buckets; inside a layer experiments are "
            r"exclusive; .*free: \[\(900, 10000\)\]",
        ),
        (
            lambda: Layer("ui", entries=(Allocation("a", HALVES, ((0, 1),)), Allocation("a", HALVES, ((5, 6),)))),
            "'a' stands in it twice",
        ),
        (
            lambda: Layer("ui", holdout=0.1, entries=(Allocation("a", HALVES, ((0, 9500),)),)),
            r"'a' has buckets 0..9500; .*lie in 0..9000; 9000..10000 are held out",
        ),
        (lambda: Layer("ui", entries=(Allocation("a", HALVES, ((5, 5),)),)), "ranges are not empty"),
        (lambda: Layer("ui", entries=(Allocation("a", HALVES, ((0, 5), (4, 9))),)), "do not overlap"),
        (lambda: Layer(""), "the key is empty"),
        (lambda: Layer("ui", holdout=1.0), "with hold-out 1.0"),
        (
            lambda: Layer("ui").add("a", HALVES, share=0.7).add("b", HALVES, share=0.4),
            r"'b' asks for 4,000 buckets and 3,000 of 10,000 are free \(a has 7,000",
        ),
        (lambda: Layer("ui").end("a"), r"there is no experiment 'a'; it has \[\]"),
        (lambda: Allocation("a", HALVES, traffic=1.5), "traffic is 1.5; it is a share"),
        (
            lambda: Allocation("a", HALVES, forced={1: "treatmen"}),
            r"units are forced into \['treatmen'\]; its variants are \['control', 'treatment'\]",
        ),
        (
            lambda: Domain("d", (Layer("ui"), Layer("ui"))),
            r"\['layer ui'\] occur more than once; .*would shuffle alike",
        ),
        (lambda: Domain("d", (), holdout=-0.1), "the hold-out is -0.1"),
        (
            lambda: assigner(Domain("d", (Layer("ui").add("a", HALVES, share=1),)), "b"),
            r"there is no experiment 'b'; it has \['a'\]",
        ),
    ],
)
def test_bad_layers(make, text):
    with pytest.raises(ConfigError, match=text):
        make()


def test_a_split_over_several_free_ranges():
    layer = Layer("ui").add("a", HALVES, share=0.2).add("b", HALVES, share=0.2).add("c", HALVES, share=0.2).end("b")
    assert layer.add("d", HALVES, share=0.5).experiment("d").ranges == ((2000, 4000), (6000, 9000))
    half = replace(layer.add("d", HALVES, share=0.5).experiment("d"), traffic=0.5)
    assert half.active == ((2000, 4000), (6000, 6500))
