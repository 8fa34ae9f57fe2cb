"""Tables: columns from CSV or Parquet files, turned into the numbers a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError

from .loader import ArrayDataset

Array = np.ndarray[Any, Any]


class Table:
    """Named columns of equal length: arrays of numbers, or of strings.

    Missing numbers are NaN (a column of whole numbers with missing ones becomes one of floats), missing strings "".
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns: dict[str, Array] = {name: np.asarray(values) for name, values in columns.items()}
        lengths = {name: len(values) for name, values in self.columns.items()}
        if not lengths or len(set(lengths.values())) > 1:
            raise DataError(f"Table: columns of lengths {lengths}. Give at least one column, all of equal length.")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise DataError(f"Table: there is no column {name!r}. Columns: {', '.join(self.columns)}.")
        return self.columns[name]

    def rows(self, index: Any) -> Table:
        """Return the table of some rows, given by a slice, numbers or a mask."""
        return Table({name: values[index] for name, values in self.columns.items()})

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}: {values.dtype}" for name, values in self.columns.items())
        return f"Table({len(self)} rows; {kinds})"


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> Table:
    """Return the table in a .csv, .tsv or .parquet file; with `columns` only those. Needs pyarrow.

    Raises:
        DataError: the file cannot be read, has no rows, or lacks a column.
    """
    path = Path(path)
    try:
        # By name: only who reads tables needs the package.
        pa, csv, parquet = (import_module(name) for name in ("pyarrow", "pyarrow.csv", "pyarrow.parquet"))
    except ImportError:
        raise DataError("read_table: tables are read by pyarrow. Install it: pip install 'treadle[data]'.") from None
    arrow: Any
    try:
        if path.suffix in (".csv", ".tsv"):
            options = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
            arrow = csv.read_csv(path, parse_options=options)
        elif path.suffix == ".parquet":
            arrow = parquet.read_table(path)
        else:
            raise DataError(f"read_table: {path} has the suffix {path.suffix!r}. Allowed: .csv, .tsv, .parquet.")
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"read_table: {path} cannot be read: {error}.") from None
    missing = [name for name in columns or () if name not in arrow.column_names]
    if missing:
        raise DataError(
            f"read_table: {path} has no column {', '.join(missing)}. Columns: {', '.join(arrow.column_names)}."
        )
    if not arrow.num_rows:
        raise DataError(f"read_table: {path} has no rows. Give a file with at least one.")
    return Table({name: _array(arrow[name]) for name in columns or arrow.column_names})


def _array(column: Any) -> Array:
    kind = str(column.type)
    values: list[Any] = column.to_pylist() if column.null_count or "string" in kind else []
    if "string" in kind or "dictionary" in kind:
        return np.array(["" if v is None else str(v) for v in values or column.to_pylist()])
    if column.null_count:
        return np.array([np.nan if v is None else float(v) for v in values])
    return np.ascontiguousarray(column.to_numpy())


@dataclass(frozen=True)
class Scale:
    """How a column of numbers becomes a feature: (x - mean) / std, the mean where x is missing."""

    mean: float
    std: float

    def __call__(self, values: Array) -> Array:
        wide = (values.astype(np.float64) - self.mean) / self.std
        return np.where(np.isnan(wide), 0.0, wide)[:, None]


@dataclass(frozen=True)
class OneHot:
    """How a column of strings becomes features: 1 for the category it is, none for one never seen."""

    categories: tuple[str, ...]

    def __call__(self, values: Array) -> Array:
        return (values.astype(str)[:, None] == np.array(self.categories)[None]).astype(np.float64)


class Features:
    """Numbers from columns: means, deviations and categories are learned from one table and applied to others."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        if not columns:
            raise ConfigError("Features: no columns are named. Name at least one.")
        self.encoders: dict[str, Scale | OneHot] = {name: _encoder(table[name]) for name in columns}

    @property
    def names(self) -> list[str]:
        """The name of each feature: the column's, or column=category."""
        return [
            name if isinstance(encoder, Scale) else f"{name}={category}"
            for name, encoder in self.encoders.items()
            for category in ((name,) if isinstance(encoder, Scale) else encoder.categories)
        ]

    def __call__(self, table: Table) -> Array:
        """Return the features of a table as [rows, features] of float32."""
        parts = [encoder(table[name]) for name, encoder in self.encoders.items()]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def dataset(self, table: Table, target: str, *, dtype: Any = None) -> ArrayDataset:
        """Return rows (features, target); a target of strings becomes the number of its class in sorted order."""
        values = table[target]
        if values.dtype.kind in "US":
            values = np.unique(values, return_inverse=True)[1].astype(np.int64)
        return ArrayDataset(self(table), values if dtype is None else values.astype(dtype))


def _encoder(values: Array) -> Scale | OneHot:
    if values.dtype.kind in "USO":
        return OneHot(tuple(str(v) for v in np.unique(values.astype(str))))
    known = values.astype(np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        raise DataError("Features: a column has no numbers at all. Leave it out.")
    return Scale(float(known.mean()), float(known.std()) or 1.0)
