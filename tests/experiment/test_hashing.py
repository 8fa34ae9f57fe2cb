"""Hashes: published values, a second implementation (xxhash), and the same bits from all three paths."""

import random

import numpy as np
import pytest
from scipy import stats

from treadle.core.errors import ConfigError, DataError, DTypeError
from treadle.experiment.hashing import (
    MASK,
    Strings,
    as_units,
    buckets_of,
    salt_of,
    splitmix64,
    unit_hash,
    unit_hashes,
    xxh64,
)
from treadle.experiment.hashing_sql import bucket_sql, kind_of, literal, quote, unit_hash_sql, xxh64_sql

duckdb = pytest.importorskip("duckdb")
pa = pytest.importorskip("pyarrow")

IDS = [0, 1, -1, 42, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**63, MASK]
_RNG = random.Random(4)
TEXTS = [
    "",
    "a",
    "ab",
    "abcd",
    "abcdefgh",
    "x" * 31,
    "y" * 32,
    "z" * 33,
    "é",
    "日本語テキスト",
    "😀",
    "it's",
    'quo"te',
    "\x00nul",
    " ",
] + ["".join(_RNG.choice("abc019-_é日😀") for _ in range(_RNG.randrange(90))) for _ in range(400)]
SALTS = [0, 1, MASK, salt_of("layer", "checkout", 3)]


def test_splitmix64_gives_the_published_sequence():
    # Steele et al.'s generator from seed 1234567: the values of Vigna's C code.
    golden = 0x9E3779B97F4A7C15
    assert [splitmix64(1234567 + i * golden) for i in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert splitmix64(0) == 0xE220A8397B1DCDAF


def test_xxh64_gives_the_published_values():
    assert xxh64("") == 0xEF46DB3751D8E999
    assert xxh64("a") == 0xD24EC4F1A98C6E5B
    assert xxh64("abc") == 0x44BC2CF5AD770999


@pytest.mark.parametrize("salt", SALTS)
def test_xxh64_agrees_with_xxhash(salt):
    xxhash = pytest.importorskip("xxhash")
    expected = [xxhash.xxh64_intdigest(text.encode(), salt) for text in TEXTS]
    assert [xxh64(text, salt) for text in TEXTS] == expected
    assert Strings(TEXTS).xxh64(salt).tolist() == expected


@pytest.mark.parametrize("salt", SALTS)
def test_three_paths_agree(salt):
    con = duckdb.connect()
    expected = [unit_hash(salt, unit) for unit in IDS]
    assert unit_hashes(salt, IDS).tolist() == expected
    small = [unit for unit in IDS if unit < 2**63]
    con.register("t", pa.table({"i": range(len(small)), "id": pa.array(small, pa.int64())}))
    got = con.execute(f"SELECT {unit_hash_sql(salt, 'id', 'integer')} FROM t ORDER BY i").fetchall()
    assert [row[0] for row in got] == [unit_hash(salt, unit) for unit in small]
    con.register("u", pa.table({"i": range(2), "id": pa.array([2**63, MASK], pa.uint64())}))
    got = con.execute(f"SELECT {unit_hash_sql(salt, 'id', 'integer')} FROM u ORDER BY i").fetchall()
    assert [row[0] for row in got] == [unit_hash(salt, 2**63), unit_hash(salt, MASK)]
    con.register("s", pa.table({"i": range(len(TEXTS)), "id": TEXTS}))
    got = con.execute(
        f"SELECT {xxh64_sql('id', salt)}, {bucket_sql(salt, 'id', 997, 'string')} FROM s ORDER BY i"
    ).fetchall()
    assert [row[0] for row in got] == [xxh64(text, salt) for text in TEXTS]
    assert (
        [row[1] for row in got] == [xxh64(text, salt) % 997 for text in TEXTS] == buckets_of(salt, TEXTS, 997).tolist()
    )
    assert con.execute(f"SELECT {xxh64_sql('NULL')}, {unit_hash_sql(1, 'NULL', 'integer')}").fetchone() == (None, None)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_width_of_integers_does_not_matter(dtype):
    ids = np.array([-5, 0, 7], dtype)
    assert unit_hashes(9, ids).tolist() == [unit_hash(9, int(i)) for i in ids] == [unit_hash(9, i) for i in ids]


@pytest.mark.parametrize("buckets", [1, 2, 1000, 1024, 10_000, 65_537])
def test_buckets_are_the_hash_modulo(buckets):
    ids = np.arange(-9000, 9000)  # more than one block
    assert buckets_of(5, ids, buckets).tolist() == [unit_hash(5, int(i)) % buckets for i in ids]


@pytest.mark.parametrize(
    "ids",
    [np.arange(200_000), np.arange(200_000) * 1000, np.arange(200_000) * 2**32, [f"user_{i}" for i in range(200_000)]],
    ids=["sequential", "thousands", "high bits", "strings"],
)
def test_buckets_are_uniform(ids):
    counts = np.bincount(buckets_of(salt_of("layer", "uniform", 1), ids, 1000).astype(int), minlength=1000)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_salts_are_independent():
    ids = np.arange(200_000)
    first = buckets_of(salt_of("layer", "a", 1), ids, 50).astype(int)
    for other in (salt_of("layer", "a", 2), salt_of("layer", "b", 1)):
        table = np.bincount(first * 50 + buckets_of(other, ids, 50).astype(int), minlength=2500).reshape(50, 50)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_one_bit_of_the_id_flips_half_of_the_hash():
    ids = np.arange(4000)
    for bit in range(0, 63, 7):
        flips = np.bitwise_count(unit_hashes(3, ids) ^ unit_hashes(3, ids ^ (1 << bit))).mean()
        assert abs(flips - 32) < 0.5


def test_salt_of_separates_its_parts():
    assert (
        len({salt_of("a", "bc"), salt_of("ab", "c"), salt_of("abc"), salt_of("a", "b", "c"), salt_of("1:a", "bc")}) == 5
    )


def test_columns_of_other_libraries():
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    expected = unit_hashes(1, [3, -1]).tolist()
    for column in (
        pa.array([3, -1]),
        pa.chunked_array([[3], [-1]]),
        pd.Series([3, -1]),
        pd.Series([3, -1], dtype="Int64"),
        pl.Series([3, -1]),
    ):
        assert unit_hashes(1, column).tolist() == expected
    for column in (pa.array(["a", "é"]), pd.Series(["a", "é"]), pl.Series(["a", "é"]), np.array(["a", "é"])):
        assert unit_hashes(1, column).tolist() == [xxh64("a", 1), xxh64("é", 1)]
    for column in (
        pa.array([1, None]),
        pd.Series([1, None], dtype="Int64"),
        pl.Series([1, None]),
        np.ma.array([1, 2], mask=[0, 1]),
    ):
        with pytest.raises(DataError, match=r"1 of 2 ids are missing, first at rows \[1\]"):
            as_units(column)


def test_no_ids_at_all():
    assert unit_hashes(1, []).tolist() == Strings([]).xxh64().tolist() == []


@pytest.mark.parametrize(
    ("units", "error", "text"),
    [
        ([1, None, 3, None], DataError, r"2 of 4 ids are missing, first at rows \[1, 3\]"),
        (["a", float("nan")], DataError, r"1 of 2 ids are missing"),
        ([1, "a"], DTypeError, r"1 of 2 ids are not integers while others are, first at row 1: 'a' \(str\)"),
        ([True, False], DTypeError, r"row 0: True \(bool\)"),
        ([1.5], DTypeError, r"row 0: 1.5 \(float\)"),
        (
            np.array([1.0, 2.0]),
            DTypeError,
            r"ids of dtype float64 are not allowed; a unit id is an integer or a string",
        ),
        (np.array([True]), DTypeError, r"ids of dtype bool are not allowed"),
        ([2**64, 1], DataError, r"1 of 2 ids have more than 64 bits, first at row 0"),
        (np.zeros((2, 2), int), DataError, r"the ids have shape \(2, 2\); give one axis"),
    ],
)
def test_bad_units(units, error, text):
    with pytest.raises(error, match=text):
        as_units(units)


def test_bad_single_unit():
    with pytest.raises(DataError, match=r"the id 18446744073709551616 has more than 64 bits"):
        unit_hash(0, 2**64)
    for unit in (None, 1.5, True, b"a"):
        with pytest.raises(DTypeError, match="a unit id is an integer or a string, got"):
            unit_hash(0, unit)
    with pytest.raises(ConfigError, match="the number of buckets is 0; it must be between 1"):
        buckets_of(0, [1], 0)


def test_kind_of_columns_and_quoting():
    assert [kind_of(name) for name in ("BIGINT", "ubigint", "VARCHAR", "VARCHAR(20)")] == [
        "integer",
        "integer",
        "string",
        "string",
    ]
    with pytest.raises(ConfigError, match="a column of type DOUBLE cannot hold unit ids"):
        kind_of("DOUBLE")
    assert quote('a"b') == '"a""b"'
    assert [literal(value) for value in (None, True, 3, 1.5, "it's")] == ["NULL", "TRUE", "3", "1.5", "'it''s'"]
