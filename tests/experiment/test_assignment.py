"""One answer from three paths: single call, arrays, DuckDB; and the golden million, whose digest must never change."""

import hashlib

import numpy as np
import pytest

from treadle.core.errors import ConfigError, DataError, DTypeError
from treadle.experiment.assignment import Reason, assigner, check_units, one_layer
from treadle.experiment.conditions import Condition
from treadle.experiment.layers import Allocation, Domain, Layer, Nested
from treadle.experiment.split import Split

duckdb = pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")

THREE = Split.of({"a": 0.5, "b": 0.3, "c": 0.2})
HALVES = Split.of({"control": 0.5, "treatment": 0.5})
MAX = 2**64 - 1

GOLDEN_DIGEST = "a82d98498d85c5ef0f3ecb5690eff36e594cdf9fc762c1fd1a0068f90fb3d2b0"
GOLDEN_ROWS = [
    (-3000000000, 251, 2),
    (-2999992081, 1318, 1),
    (-2999984162, 2788, 0),
    (959500000, 8355, -1),
    (4918992081, 4975, -1),
]
GOLDEN_STRINGS = "28af2ce67c32e59ce4017cec649e95ad9f1a3666f407615d4de7dc23019d5c07"


def _domain():
    young = Allocation(
        "young",
        THREE,
        ((0, 4000),),
        0.5,
        conditions=(Condition("age", "<", 30), Condition("land", "not in", ("JP", "it's"))),
    )
    rest = Allocation("rest", HALVES.reweight({"control": 0.4, "treatment": 0.35, "third": 0.25}), ((1000, 7000),))
    deep = Domain(
        "inner",
        (Layer("deep", buckets=1000, entries=(Allocation("deep", THREE, ((0, 900),), version=3),)),),
        holdout=0.1,
    )
    ranking = Layer("ranking", 2, holdout=0.1, entries=(young, rest), fallthrough=True)
    return Domain("all", (ranking, Layer("ui", entries=(Nested(deep, ((0, 2000), (5000, 9000))),))), holdout=0.05)


def _check(one, units, kind, attributes, *, eligible=None):
    """Asserts that the three paths agree, and gives the arrays."""
    out = one.assign(units, attributes, eligible=eligible)
    columns = {name: column.tolist() for name, column in attributes.items()}
    for i, unit in enumerate(units.tolist() if isinstance(units, np.ndarray) else units):
        row = {name: column[i] for name, column in columns.items()}
        single = one.assign_one(unit, row, eligible=eligible is None or bool(eligible[i]))
        assert (single.variant, single.reason, single.bucket) == (
            one.variants[out.variant[i]] if out.variant[i] >= 0 else None,
            out.reason[i],
            out.bucket[i],
        )
    con = duckdb.connect()
    table = {
        "i": np.arange(len(units)),
        "unit id": units,
        **attributes,
        "ok": np.ones(len(units), bool) if eligible is None else eligible,
    }
    con.register("t", pa.table({name: pa.array(column, from_pandas=name != "age") for name, column in table.items()}))
    asked = None if eligible is None else "ok"
    selected = con.execute(
        f"SELECT variant, reason, bucket FROM ({one.select_sql('t', 'unit id', kind, eligible=asked)}) ORDER BY i"
    ).fetchnumpy()
    column = '"unit id"'
    expressions = (
        one.variant_sql(column, kind, eligible=asked),
        one.reason_sql(column, kind, eligible=asked),
        one.bucket_sql(column, kind),
    )
    alone = con.execute(
        "SELECT {} AS variant, {} AS reason, {} AS bucket FROM t ORDER BY i".format(*expressions)
    ).fetchnumpy()
    for name in ("variant", "reason", "bucket"):
        assert (selected[name] == getattr(out, name)).all()
        assert (alone[name] == getattr(out, name)).all()
    return out


@pytest.mark.parametrize("experiment", ["young", "rest", "deep"])
def test_three_paths_agree(experiment):
    rng = np.random.default_rng(3)
    n = 4000
    ids = np.concatenate([rng.integers(-(2**63), 2**63 - 1, n - 5), [0, -1, 1, 2**63 - 1, -(2**63)]])
    age = rng.integers(0, 60, n).astype(float)
    age[::9] = np.nan
    attributes = {"age": age, "land": rng.choice(np.array(["JP", "KR", "it's", "é"], object), n)}
    attributes["land"][::11] = None
    one = assigner(_domain(), experiment)
    out = _check(one, ids, "integer", attributes)
    assert out.funnel()["assigned"] > 100
    assert sum(out.funnel().values()) == n
    texts = ["", "é", "日本語", "😀", "it's"] + [f"usér-{i}" for i in range(395)]
    _check(one, texts, "string", {name: column[:400] for name, column in attributes.items()})


def test_three_paths_agree_on_forced_allowed_and_eligible():
    ids = np.arange(-500, 2500)
    eligible = ids % 3 != 0
    few = Allocation(
        "x", THREE, ((0, 8000),), 0.7, allow=frozenset(range(-100, 2000)), forced={7: "c", -3: "b", 9: "a"}
    )
    out = _check(one_layer(few, layer="l"), ids, "integer", {}, eligible=eligible)
    assert [out.variant[ids == unit][0] for unit in (7, -3, 9)] == [2, 1, 0]
    assert out.funnel()["forced"] == 3
    assert (out.reason[(ids >= 2000) & (out.bucket < 5600)] == Reason.CONDITION).all()
    words = Allocation("x", THREE, allow=frozenset(["u1", "é", "it's"]), forced={"it's": "c"})
    out = _check(one_layer(words, layer="l"), ["u1", "u2", "é", "it's"], "string", {})
    assert out.reason.tolist() == [Reason.ASSIGNED, Reason.CONDITION, Reason.ASSIGNED, Reason.FORCED]
    nobody = one_layer(Allocation("x", THREE, allow=frozenset()), layer="l")
    assert set(_check(nobody, ids, "integer", {}).reason.tolist()) == {Reason.CONDITION}


def test_the_fast_single_call_is_the_same():
    for entry in (Allocation("x", THREE), Allocation("x", THREE, ((0, 6000),), 0.5, forced={5: "c"})):
        one = one_layer(entry, layer="l", holdout=0.1 if entry.traffic < 1 else 0.0)
        for unit in [*range(-300, 300), -(2**63), MAX, "a", "é", np.int64(17)]:
            assert one.variant_of(unit) == one.assign_one(unit).variant
    with pytest.raises(ConfigError, match=r"depends on attributes \(age < 30"):
        _ = assigner(_domain(), "young").variant_of
    with pytest.raises(DTypeError, match="got None"):
        one.variant_of(None)


def test_golden_million():
    """A million ids: this digest is the contract with every experiment that runs."""
    ids = np.arange(1_000_000, dtype=np.int64) * 7919 - 3_000_000_000
    one = one_layer(Allocation("golden", THREE, ((0, 8000),), 0.5), layer="checkout", version=3, holdout=0.1)
    out = one.assign(ids)
    content = out.bucket.astype("<u4").tobytes() + out.variant.tobytes() + out.reason.tobytes()
    assert hashlib.sha256(content).hexdigest() == GOLDEN_DIGEST
    assert [(int(ids[i]), int(out.bucket[i]), int(out.variant[i])) for i in (0, 1, 2, 500_000, 999_999)] == GOLDEN_ROWS
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT range * 7919 - 3000000000 AS id FROM range(1000000)")
    got = con.execute(
        f"SELECT bucket, variant, reason FROM ({one.select_sql('t', 'id', 'integer')}) ORDER BY id"
    ).fetchnumpy()
    assert all((got[name] == getattr(out, name)).all() for name in ("bucket", "variant", "reason"))
    assert all(one.assign_one(int(ids[i])).bucket == out.bucket[i] for i in range(0, 1_000_000, 997))
    texts = [f"user-{i}" for i in range(20_000)]
    assert hashlib.sha256(one.assign(texts).bucket.astype("<u4").tobytes()).hexdigest() == GOLDEN_STRINGS


def test_missing_ids():
    one = one_layer(Allocation("x", HALVES), layer="l")
    with pytest.raises(DataError, match=r"1 of 3 ids are missing, first at rows \[1\]"):
        one.assign([1, None, 2])
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT unnest([1, NULL, 2]::BIGINT[]) AS id")
    rows = con.execute(
        f"SELECT variant, reason, bucket FROM ({one.select_sql('t', 'id', 'integer')}) WHERE id IS NULL"
    ).fetchall()
    assert rows == [(-1, Reason.MISSING, None)]


def test_a_source_that_has_such_columns():
    one = one_layer(Allocation("x", HALVES), layer="l")
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT range AS id, 'logged' AS variant, 'why' AS reason FROM range(50)")
    rows = con.execute(f"SELECT * FROM ({one.select_sql('t', 'id', 'integer', prefix='re_')}) ORDER BY id")
    assert [column[0] for column in rows.description] == [
        "id",
        "variant",
        "reason",
        "re_bucket",
        "re_reason",
        "re_variant",
    ]
    assert [row[5] for row in rows.fetchall()] == one.assign(range(50)).variant.tolist()


def test_missing_attributes_and_shapes():
    one = assigner(_domain(), "young")
    with pytest.raises(ConfigError, match=r"condition `age < 30`: the attribute 'age' was not given; there are none"):
        one.assign([1, 2])
    with pytest.raises(ConfigError, match=r"the attribute 'age' has shape \(3,\); there are 2 units"):
        one.assign([1, 2], {"age": [1, 2, 3], "land": ["a", "b"]})
    with pytest.raises(
        DataError, match=r"`eligible` has shape \(1,\) and dtype bool; it is one boolean for each of 2 units"
    ):
        one_layer(Allocation("x", HALVES), layer="l").assign([1, 2], eligible=np.array([True]))
    with pytest.raises(ConfigError, match="the traffic is 0, so that nobody would be assigned"):
        one_layer(Allocation("x", HALVES, traffic=0), layer="l")


def test_check_units():
    assert check_units([3, 1, 2]) == check_units(["a", "b", "c"]) == 3
    with pytest.raises(DataError, match=r"2 ids stand more than once among 5 rows, for instance \[1, 3\]"):
        check_units([1, 1, 2, 3, 3])
    with pytest.raises(DataError, match=r"1 ids stand more than once among 3 rows, for instance \['a'\]"):
        check_units(["a", "b", "a"])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Condition("age", "=>", 3), r"there is no operator '=>'; use one of"),
        (lambda: Condition("age", "in", 3), "`in 3`; `in` and `not in` take a tuple"),
        (lambda: Condition("age", "==", (3,)), "the others one value"),
        (lambda: Condition("age", "in", ()), "has nothing to compare with"),
        (lambda: Condition("age", "<", 3).holds({"age": "x"}), "cannot compare the attribute's value 'x'"),
    ],
)
def test_bad_conditions(make, text):
    with pytest.raises(ConfigError, match=text):
        make()
