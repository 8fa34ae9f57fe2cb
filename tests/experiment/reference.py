"""The reference table of `../shared/data/experiment`: its values, and our estimates of its arms."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from treadle.experiment.moments import Moments

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "experiment"
COLUMNS = ("converted", "orders", "sessions", "revenue", "orders_pre", "sessions_pre", "revenue_pre")


def need() -> None:
    """Skip the test where the folder is absent."""
    if not (FOLDER / "reference.json").exists():
        pytest.skip(f"no reference data in {FOLDER}")


@functools.cache
def rows() -> dict[str, dict[str, float | str]]:
    """Return the rows of the reference by quantity."""
    need()
    return {row["quantity"]: row for row in json.loads((FOLDER / "reference.json").read_text())["rows"]}


@functools.cache
def sums() -> dict[str, dict[str, float]]:
    """Return the raw sums of each arm."""
    need()
    return json.loads((FOLDER / "aggregates.json").read_text())["by_variant"]


def raw(arm: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Return count, sums and sums of products of an arm."""
    table = sums()[arm]
    k = len(COLUMNS)
    products = np.empty((k, k))
    for i, a in enumerate(COLUMNS):
        for j, b in enumerate(COLUMNS[i:], i):
            products[i, j] = products[j, i] = table[f"ss_{a}__{b}"]
    return table["n"], np.array([table[f"s_{name}"] for name in COLUMNS]), products


@functools.cache
def arms() -> tuple[Moments, Moments]:
    """Return the moments of control and treatment."""
    control, treatment = (Moments.from_sums(COLUMNS, *raw(arm)) for arm in "01")
    return control, treatment


@functools.cache
def table() -> dict[str, np.ndarray]:
    """Return the million rows themselves, made by the folder's own script."""
    need()
    pytest.importorskip("pyarrow")
    import runpy

    made = runpy.run_path(str(FOLDER / "generate.py"))["make"]()
    return {name: made[name].to_numpy() for name in (*COLUMNS, "variant")}
