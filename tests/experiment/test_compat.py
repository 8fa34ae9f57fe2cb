"""Hashes of other systems: the vectors those systems publish."""

import pytest

from treadle.core.errors import ConfigError
from treadle.experiment.compat import (
    fnv1a32,
    growthbook_choice,
    growthbook_hash,
    growthbook_hash_sql,
    growthbook_hashes,
    growthbook_ranges,
    planout_choice,
    planout_hash,
    planout_hash_sql,
    planout_uniform,
)

# growthbook/growthbook-python, tests/cases.json, specification 0.7.1, `hash`: seed, value, version, number.
GROWTHBOOK = [
    ("", "a", 1, 0.22),
    ("", "b", 1, 0.077),
    ("b", "a", 1, 0.946),
    ("ef", "d", 1, 0.652),
    ("asdf", "8952klfjas09ujk", 1, 0.549),
    ("", "123", 1, 0.011),
    ("", '___)((*":&', 1, 0.563),
    ("seed", "a", 2, 0.0505),
    ("seed", "b", 2, 0.2696),
    ("foo", "ab", 2, 0.2575),
    ("foo", "def", 2, 0.2019),
    ("89123klj", "8952klfjas09ujkasdf", 2, 0.124),
    ("90850943850283058242805", "123", 2, 0.7516),
    ("()**(%$##$%#$#", '___)((*":&', 2, 0.0128),
]


@pytest.mark.parametrize(("seed", "unit", "version", "number"), GROWTHBOOK)
def test_growthbook(seed, unit, version, number):
    assert growthbook_hash(seed, unit, version=version) == number
    assert growthbook_hashes(seed, [unit, "", unit + "é"], version=version)[0] == number


def test_growthbook_takes_utf16_units_in_all_three_paths():
    duckdb = pytest.importorskip("duckdb")
    units = ["", "user", "é日", "😀x", 123, "it's"]
    one = [growthbook_hash("séed😀", unit) for unit in units]
    assert growthbook_hashes("séed😀", units).tolist() == one
    sql = f"SELECT {growthbook_hash_sql('?', 'séed😀')}"
    assert [duckdb.execute(sql, [unit]).fetchone()[0] for unit in units] == one
    assert growthbook_hashes("s", []).tolist() == []


def test_fnv1a32():  # draft-eastlake-fnv, test vectors
    assert [fnv1a32(text) for text in ("", "a", "foobar")] == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


def test_growthbook_ranges_and_choice():
    assert growthbook_ranges([0.5, 0.5], coverage=0.5) == [(0, 0.25), (0.5, 0.75)]
    assert growthbook_ranges([0.25, 0.25, 0.5]) == [(0, 0.25), (0.25, 0.5), (0.5, 1)]
    assert [growthbook_choice(n, [(0, 0.25), (0.5, 0.75)]) for n in (0.2, 0.25, 0.5, 0.8)] == [0, -1, 1, -1]


def test_growthbook_version():
    with pytest.raises(ConfigError, match="there is no hash version 99; GrowthBook has 1 and 2"):
        growthbook_hash("abc", "def", version=99)


def test_planout():
    # rawls238/PlanOut.js, __tests__/testAssignment.js (compatible hash).
    assert [planout_hash("4", "test_salt", name) % 2 for name in ("foo", "bar", "baz")] == [1, 0, 0]  # of "a", "b"
    assert planout_hash(4, "test_salt", "foo") % 8 == 7
    assert planout_hash(4, "test_salt", "foo", separator=",") % 8 == 6
    # facebookarchive/planout, python/planout/test/test_interpreter.py: group size 10 x 32 ratings, goal set (p = 0.8).
    assert [1, 10][planout_hash(123454, "foo", "group_size") % 2] * [8, 16, 32, 64][
        planout_hash(123454, "foo", "ratings_per_user_goal") % 4
    ] == 320
    assert planout_uniform(123454, "foo", "specific_goal") <= 0.8


def test_planout_several_units_choice_and_sql():
    duckdb = pytest.importorskip("duckdb")
    assert planout_hash([1, "b"], "s", "n") == planout_hash("1.b", "s", "n")
    assert planout_choice(1, "s", "n", [1, 0, 0]) == 0
    assert {planout_choice(i, "s", "n", [1, 2]) for i in range(50)} == {0, 1}
    for unit in (5, "é", "it's"):
        assert duckdb.execute(f"SELECT {planout_hash_sql('?', 's', 'n')}", [unit]).fetchone()[0] == planout_hash(
            unit, "s", "n"
        )
