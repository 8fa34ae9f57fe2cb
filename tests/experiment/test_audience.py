"""Audiences: their algebra against Python sets, how they are chosen, what is kept about them."""

import datetime as dt
import json
import random

import numpy as np
import pytest
from scipy import stats

from treadle.core.errors import ConfigError, DataError, ShapeError
from treadle.experiment.audience import Audience, bitmap, file_hash, load_audience, overlap, saved_versions
from treadle.experiment.hashing import MASK, Strings, as_units, buckets_of, salt_of
from treadle.experiment.lookalike import look_alike, similarity
from treadle.experiment.selection import by_rule, rule_size, sizes, threshold, top_k, uplift

duckdb = pytest.importorskip("duckdb")


def _random_sets(seed):
    rng = random.Random(seed)
    pool = [rng.randrange(-(2**63), 2**63) for _ in range(30)] + list(range(-20, 60)) + [2**63 - 1, -(2**63)]
    return [set(rng.choices(pool, k=rng.randrange(70))) for _ in range(2)]


@pytest.mark.parametrize("seed", range(20))
def test_algebra_is_that_of_sets(seed):
    a, b = _random_sets(seed)
    left, right = (Audience.of(sorted(s), name=name) for s, name in ((a, "a"), (b, "b")))
    for made, expected in ((left & right, a & b), (left | right, a | b), (left - right, a - b), (left ^ right, a ^ b)):
        assert made.words.view(np.int64).tolist() == sorted(expected, key=lambda unit: unit & MASK)
        assert len(made) == made.manifest.size == len(expected)
        assert made.manifest.parents == (str(left), str(right))
    assert all(unit in left for unit in a)
    ids = np.array(sorted(a | b), np.int64)
    assert left.mask(ids).tolist() == [unit in a for unit in ids.tolist()]
    texts = [Audience.of(map(str, s), name="t") for s in (a, b)]
    assert len(texts[0] & texts[1]) == len(a & b)
    assert len(texts[0] | texts[1]) == len(a | b)
    assert [str(unit) in texts[0] for unit in ids.tolist()] == texts[0].mask(
        [str(unit) for unit in ids.tolist()]
    ).tolist()


def test_order_and_duplicates_do_not_matter():
    ids = np.random.default_rng(0).integers(0, 10_000, 20_000)
    first, second = Audience.of(ids, name="a"), Audience.of(np.unique(ids), name="a")
    assert first.users == second.users == bitmap(as_units(sorted(set(ids.tolist()))))
    assert first.hash == second.hash
    assert (first.manifest.rows, first.manifest.size) == (20_000, len(np.unique(ids)))
    assert Audience.of([], name="none").words.tolist() == []


def test_collisions_are_counted(monkeypatch):
    assert Audience.of(["a", "b", "b"], name="t").manifest.collisions == 0
    monkeypatch.setattr(Strings, "xxh64", lambda self, seed: np.array([len(text) for text in self.texts], np.uint64))
    assert Audience.of(["a", "b", "cc", "cc"], name="t").manifest.collisions == 1


def test_kinds_do_not_mix():
    numbers, texts = Audience.of([1], name="numbers"), Audience.of(["1"], name="texts")
    for make in (lambda: numbers & texts, lambda: overlap([texts, numbers])):
        with pytest.raises(ConfigError, match=r"its ids are .*s and those of audience .*; they have nothing in common"):
            make()
    with pytest.raises(ConfigError, match=r"its ids are integers and those of the unit 'x' strings"):
        _ = "x" in numbers


def test_overlap():
    made = overlap(
        [Audience.of(range(10), name="a"), Audience.of(range(5, 10), name="b"), Audience.of([], name="none")]
    )
    assert made.names == ("a", "b", "none")
    assert made.users.tolist() == [[10, 5, 0], [5, 5, 0], [0, 0, 0]]
    assert made.share.tolist() == [[1, 0.5, 0], [1, 1, 0], [0, 0, 0]]
    assert made.jaccard.tolist() == [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 0]]


def test_hold_out_is_random_fixed_and_whole():
    audience = Audience.of(range(50_000), name="a", as_of="2026-01-01")
    kept, held = audience.hold_out(0.2)
    assert kept.users | held.users == audience.users
    assert not kept.users & held.users
    assert len(held) / len(audience) == pytest.approx(0.2, abs=0.01)
    assert audience.hold_out(0.2)[1].users == held.users
    assert audience.hold_out(0.1)[1].users <= held.users  # a larger hold-out keeps the smaller one
    assert held.manifest.parents == (str(audience),)
    assert held.manifest.as_of == "2026-01-01"
    buckets = np.bincount(buckets_of(salt_of("layer", "x", 1), held.words, 20).astype(int))
    assert stats.chisquare(buckets).pvalue > 1e-3
    with pytest.raises(ConfigError, match="the share is 1; it lies between 0 and 1"):
        audience.hold_out(1)


def test_leakage():
    audience = Audience.of([1], name="a", as_of=dt.date(2026, 1, 10))
    assert not audience.leakage("2026-01-11").found
    found = audience.leakage(dt.date(2026, 1, 8))
    assert (found.found, found.days) == (True, 3)
    assert "was chosen with data up to 2026-01-10, and the outcome is counted from 2026-01-08: 3 days" in found.message
    unknown = Audience.of([1], name="a").leakage("2026-01-08")
    assert (unknown.found, unknown.days) == (True, None)
    assert (audience | Audience.of([2], name="b", as_of="2026-02-01")).manifest.as_of == "2026-02-01"
    assert (audience | Audience.of([2], name="b")).manifest.as_of is None
    with pytest.raises(ConfigError, match="'soon' is not a date; write it like 2026-01-31"):
        audience.leakage("soon")


def test_versions_and_files(tmp_path):
    audience = Audience.of([1, -1, 2**40], name="a", source="list", as_of="2026-01-01")
    first = audience.save(tmp_path)
    assert first.manifest.version == audience.save(tmp_path).manifest.version == 1
    second = Audience.of([1], name="a").save(tmp_path)
    assert (second.manifest.version, saved_versions(tmp_path, "a")) == (2, [1, 2])
    assert load_audience(tmp_path, "a", version=1) == first
    assert load_audience(tmp_path, "a").users == second.users
    stored = json.loads((tmp_path / "a" / "v1.json").read_text())
    assert (stored["size"], stored["source"], stored["hash"]) == (3, "list", first.hash)
    with pytest.raises(ConfigError, match=r"there is no 'a' v3 in .*; it has versions \[1, 2\]"):
        load_audience(tmp_path, "a", version=3)
    with pytest.raises(ConfigError, match=r"there is no 'b' in .*; saved are \['a'\]"):
        load_audience(tmp_path, "b")
    (tmp_path / "a" / "v1.roaring").write_bytes((tmp_path / "a" / "v2.roaring").read_bytes())
    with pytest.raises(DataError, match=r"v1\.roaring is not the one its manifest describes"):
        load_audience(tmp_path, "a", version=1)


def test_another_model_is_refused(tmp_path):
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"weights")
    model = file_hash(weights)
    top_k([1, 2, 3], [0.1, 0.3, 0.2], 2, name="best", model=model).save(tmp_path)
    assert len(load_audience(tmp_path, "best", model=model)) == 2
    weights.write_bytes(b"other weights")
    with pytest.raises(
        ConfigError, match=rf"it was made by model {model[:12]} and the model at hand is .*; build the audience again"
    ):
        load_audience(tmp_path, "best", model=file_hash(weights))
    with pytest.raises(ConfigError, match="it was made without a model"):
        Audience.of([1], name="a").check_model(model)


def test_membership_in_sql():
    con, pa = duckdb.connect(), pytest.importorskip("pyarrow")
    for units, kind, column in (([5, -7], "integer", "BIGINT"), (["é", "it's"], "string", "VARCHAR")):
        audience = Audience.of(units, name="a")
        con.register("words", pa.table({"word": audience.words}))
        ask = units + ([8] if kind == "integer" else ["x"])
        sql = f"SELECT {audience.member_sql('u', 'words', kind)} FROM (SELECT unnest($1::{column}[]) AS u)"
        assert [row[0] for row in con.execute(sql, [ask]).fetchall()] == [True, True, False]


def test_rules():
    con = duckdb.connect()
    con.execute("CREATE TABLE visits AS SELECT range % 100 AS user_id, range % 7 AS pages FROM range(1000)")
    rule = "SELECT user_id FROM visits GROUP BY user_id HAVING sum(pages) > 30;"
    audience = by_rule(rule, "user_id", name="readers", connection=con, as_of="2026-01-01")
    expected = {row[0] for row in con.execute(rule).fetchall()}
    assert set(audience.words.tolist()) == expected
    assert len(audience) == rule_size(rule, "user_id", connection=con) == len(expected)
    assert (audience.manifest.kind, audience.manifest.source) == ("rule", rule)
    with pytest.raises(ConfigError, match=r"the rule's result has no column 'user'; it has \['user_id'\]"):
        by_rule(rule, "user", name="x", connection=con)
    with pytest.raises(ConfigError, match="needs a DuckDB connection"):
        by_rule(rule, "user_id", name="x")
    with pytest.raises(DataError, match="1 of 1 ids are missing"):
        by_rule("SELECT NULL::BIGINT AS user_id", "user_id", name="x", connection=con)


def test_ibis_rules():
    ibis = pytest.importorskip("ibis")
    pa = pytest.importorskip("pyarrow")
    table = ibis.memtable(pa.table({"user_id": [1, 2, 2, 3], "pages": [1, 5, 6, 7]}))
    rule = table.filter(table.pages > 4)
    assert by_rule(rule, "user_id", name="x").words.tolist() == [2, 3]
    assert rule_size(rule, "user_id") == 2
    with pytest.raises(ConfigError, match="has no column 'user'"):
        by_rule(rule, "user", name="x")


def test_top_k_and_threshold():
    rng = np.random.default_rng(1)
    ids, scores = rng.permutation(1000), rng.integers(0, 50, 1000) / 50  # many ties
    audience = top_k(ids, scores, 130, name="top", model="m")
    chosen = np.isin(ids, audience.words.astype(int))
    assert chosen.sum() == 130
    assert scores[chosen].min() == audience.manifest.threshold >= scores[~chosen].max()
    order = rng.permutation(1000)
    assert top_k(ids[order], scores[order], 130, name="top").users == audience.users
    named = top_k([f"u{i}" for i in ids], scores, 130, name="top")
    assert len(named) == 130
    high = threshold(ids, scores, 0.5, name="high")
    assert len(high) == (scores >= 0.5).sum() == sizes(scores, 0.5)
    assert sizes(scores, [0, 0.5, 2]).tolist() == [1000, len(high), 0]


def test_uplift_takes_whom_the_treatment_changes():
    ids = [1, 2, 3, 4]
    treated, untreated = [0.9, 0.5, 0.3, 0.1], [0.9, 0.2, 0.1, 0.4]  # 1 buys anyway, 4 is put off
    assert uplift(ids, treated, untreated, name="u").words.tolist() == [2, 3]
    assert uplift(ids, treated, untreated, name="u", k=1).words.tolist() == [2]
    assert len(uplift(ids, treated, untreated, name="u", lowest=1)) == 0
    with pytest.raises(ConfigError, match="k is 0; it is at least 1"):
        uplift(ids, treated, untreated, name="u", k=0)


@pytest.mark.parametrize(
    ("units", "scores", "k", "error", "text"),
    [
        ([1, 2], [0.1, float("nan")], 1, DataError, r"1 of 2 are NaN, first at rows \[1\]"),
        ([1, 2], [0.1], 1, DataError, "there are 2 units and 1 scores"),
        ([1, 1], [0.1, 0.2], 1, DataError, "1 of 2 units are scored more than once"),
        (["a", "a"], [0.1, 0.2], 1, DataError, "1 of 2 units are scored more than once"),
        ([1, 2], [0.1, 0.2], 3, ConfigError, "k is 3; there are 2 scored units"),
        ([1, 2], [[0.1, 0.2]], 1, DataError, r"they have shape \(1, 2\)"),
        ([1, None], [0.1, 0.2], 1, DataError, "1 of 2 ids are missing"),
    ],
)
def test_bad_scores(units, scores, k, error, text):
    with pytest.raises(error, match=text):
        top_k(units, scores, k, name="x")


@pytest.mark.parametrize("method", ["centroid", "nearest"])
def test_similarity_against_the_definition(method):
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((300, 8))
    is_seed = rng.random(300) < 0.1
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if method == "centroid":
        mean = unit[is_seed].mean(axis=0)
        expected = unit @ mean / np.linalg.norm(mean)
    else:
        expected = np.sort(unit @ unit[is_seed].T, axis=1)[:, -4:].mean(axis=1)
    for block in (7, 4096):
        np.testing.assert_allclose(
            similarity(rows, is_seed, method=method, neighbours=4, block=block), expected, atol=1e-6
        )


def test_look_alikes_of_two_kinds_of_seeds():
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 6, 3000)
    rows = np.eye(6)[kinds] + 0.1 * rng.standard_normal((3000, 6))
    ids = np.arange(3000) * 11
    seeds = Audience.of(np.concatenate([ids[kinds == 0][:20], ids[kinds == 1][:20], [1]]), name="seeds")
    k = int((kinds < 2).sum()) - 40
    made = look_alike(ids, rows, seeds, k, name="like", method="nearest", model="m")
    chosen = np.isin(ids, made.words.astype(int))
    assert (kinds[chosen] < 2).mean() > 0.99
    assert not (made.users & seeds.users)
    assert made.manifest.parameters["seeds_without_embedding"] == 1
    assert made.manifest.parents == (str(seeds),)
    assert len(look_alike(ids, rows, seeds, 3000, name="all", include_seeds=True)) == 3000
    texts = [f"u{i}" for i in ids]
    assert len(look_alike(texts, rows, Audience.of(texts[:5], name="s"), 10, name="like")) == 10
    for make, error, text in (
        (
            lambda: look_alike(ids, rows, Audience.of([1], name="s"), 5, name="x"),
            DataError,
            "none of the 1 seeds is among the 3,000 units",
        ),
        (
            lambda: look_alike(ids, rows[:5], seeds, 5, name="x"),
            ShapeError,
            r"embeddings of shape \(5, 6\) for 3,000 units",
        ),
        (
            lambda: look_alike(ids, rows, seeds, 3000, name="x"),
            ConfigError,
            "k is 3,000; there are 2,960 units to choose from",
        ),
        (
            lambda: look_alike(ids, rows, seeds, 5, name="x", method="nearest", neighbours=99),
            ConfigError,
            "neighbours is 99; there are 40 seeds",
        ),
        (lambda: look_alike(ids, rows, seeds, 5, name="x", method="near"), ConfigError, "there is no method 'near'"),
        (
            lambda: look_alike(ids, rows * (ids != 33)[:, None], seeds, 5, name="x"),
            DataError,
            r"1 embeddings are zero or not finite, first in rows \[3\]",
        ),
    ):
        with pytest.raises(error, match=text):
            make()
