"""Tables from CSV and Parquet, and the features made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from treadle.core import ConfigError, DataError
from treadle.data import Features, Table, read_table

CSV = "age,city,income,label\n30,Rome,1.5,yes\n40,,2.5,no\n,Oslo,,yes\n"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    path = tmp_path / "people.csv"
    path.write_text(CSV)
    return read_table(path)


def test_csv_columns_have_their_types(table: Table) -> None:
    np.testing.assert_array_equal(table["age"], [30, 40, np.nan])
    assert table["city"].tolist() == ["Rome", "", "Oslo"]
    assert table["income"].dtype == np.float64
    assert len(table) == 3
    assert table.rows(slice(1)).columns["label"].tolist() == ["yes"]


def test_parquet_and_tsv_hold_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), tmp_path / "t.parquet")
    (tmp_path / "t.tsv").write_text("a\tb\n1\tx\n2\ty\n")
    for name in ("t.parquet", "t.tsv"):
        found = read_table(tmp_path / name)
        assert found["a"].tolist() == [1, 2]
        assert found["b"].tolist() == ["x", "y"]
        assert list(read_table(tmp_path / name, ["b"]).columns) == ["b"]


def test_features_are_learned_from_one_table(table: Table) -> None:
    features = Features(table, ["age", "city"])
    assert features.names == ["age", "city=", "city=Oslo", "city=Rome"]
    found = features(table)
    np.testing.assert_allclose(found, [[-1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 0]], atol=1e-6)
    other = Table({"age": np.array([35.0]), "city": np.array(["Paris"])})
    np.testing.assert_allclose(features(other), [[0, 0, 0, 0]], atol=1e-6)
    x, y = features.dataset(table, "label")[0]
    np.testing.assert_array_equal(x, found[0])
    assert y == 1


def test_what_cannot_be_used_is_named(tmp_path: Path, table: Table) -> None:
    with pytest.raises(DataError, match=r"no column 'size'\. Columns: age, city, income, label"):
        table["size"]
    with pytest.raises(DataError, match="columns of lengths"):
        Table({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(DataError, match=r"Allowed: \.csv, \.tsv, \.parquet"):
        read_table(tmp_path / "people.xls")
    for name, text in {
        "empty.csv": "",
        "head.csv": "a,b\n",
        "ragged.csv": "a,b\n1,2\n3\n",
        "no.parquet": "text",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="read_table"):
            read_table(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(DataError, match="has no column z"):
        read_table(tmp_path / "people.csv", ["z"])
    with pytest.raises(ConfigError, match="Name at least one"):
        Features(table, [])
    with pytest.raises(DataError, match="no numbers at all"):
        Features(Table({"a": np.array([np.nan])}), ["a"])
