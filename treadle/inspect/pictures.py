"""Pictures for people: learning curves, confusion matrices, attention maps. Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError, ShapeError

Array = np.ndarray[Any, Any]
DRAWN = 30  # cells along a side up to which each cell's number is written


def plot_history(
    history: Mapping[str, Sequence[float]] | str | Path, path: str | Path | None = None, *, title: str = ""
) -> Any:
    """Return a figure with one line per series, written to `path` if given.

    Args:
        history: values by name; or a run's folder, whose metrics.jsonl is drawn against the step.
        path: a picture file, its kind told by the suffix.
        title: above the picture.
    """
    lines = (
        {name: (list(range(len(values))), list(values)) for name, values in history.items()}
        if isinstance(history, Mapping)
        else _read_metrics(Path(history))
    )
    if not any(values for _, values in lines.values()):
        raise DataError(f"plot_history: {history!r} has no values. Give at least one series with numbers.")
    figure, axes = _figure(title or "history")
    for name, (steps, values) in lines.items():
        axes.plot(steps, values, label=name)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
    return _written(figure, path)


def plot_confusion(
    matrix: Any, classes: Sequence[str] = (), path: str | Path | None = None, *, title: str = "confusion"
) -> Any:
    """Return a figure of counts [C, C], rows the true class, columns the predicted one; shades are shares of a row."""
    counts: Array = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(f"plot_confusion: a matrix of shape {list(counts.shape)} is not [C, C].")
    names = _names("plot_confusion", classes, len(counts)) or [str(k) for k in range(len(counts))]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(title)
    _map(axes, shares, counts, names, names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return _written(figure, path)


def plot_attention(
    weights: Any,
    columns: Sequence[str] = (),
    rows: Sequence[str] = (),
    path: str | Path | None = None,
    *,
    title: str = "attention",
    titles: Sequence[str] = (),
) -> Any:
    """Return a figure of weights [T, S], or of several maps [H, T, S] side by side; what looks is a row.

    Args:
        weights: of one attention, of the heads of one, or of several models for the same rows and columns.
        columns: what is looked at, S names.
        rows: what looks, T names.
        path: a picture file, its kind told by the suffix.
        title: above the picture.
        titles: above each of several maps; "head 0", "head 1", ... if not given.
    """
    maps: Array = np.asarray(weights)
    if maps.ndim not in (2, 3):
        raise ShapeError(f"plot_attention: weights of shape {list(maps.shape)} are not [T, S] or [H, T, S].")
    heads = maps if maps.ndim == 3 else maps[None]
    across = _names("plot_attention", columns, heads.shape[2])
    down = _names("plot_attention", rows, heads.shape[1])
    above = _names("plot_attention", titles, len(heads)) or [f"head {number}" for number in range(len(heads))]
    figure, axes = _figure(title, len(heads))
    for number, head in enumerate(heads):
        one = axes[number] if len(heads) > 1 else axes
        _map(one, head, None, down, across)
        if titles or len(heads) > 1:
            one.set_title(above[number])
    return _written(figure, path)


def _map(axes: Any, shades: Array, numbers: Array | None, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.imshow(shades, cmap="Blues", vmin=0, vmax=max(1e-9, float(np.nanmax(shades, initial=0))), aspect="auto")
    if columns:
        axes.set_xticks(range(len(columns)), columns, rotation=90 if max(map(len, columns)) > 2 else 0)
    if rows:
        axes.set_yticks(range(len(rows)), rows)
    if numbers is not None and len(numbers) <= DRAWN:
        dark = shades > 0.5 * np.nanmax(shades, initial=0)
        for (i, j), value in np.ndenumerate(numbers):
            axes.text(j, i, f"{value:g}", ha="center", va="center", color="white" if dark[i, j] else "black")


def _names(what: str, names: Sequence[str], count: int) -> list[str]:
    if names and len(names) != count:
        raise ConfigError(f"{what}: {len(names)} names for {count} rows, columns or maps. Give one for each, or none.")
    return [str(name) for name in names]


def _figure(title: str, count: int = 1) -> tuple[Any, Any]:
    try:
        # A figure of its own, without the global state of pyplot: nothing to close, no window, any thread.
        figure: Any = import_module("matplotlib.figure").Figure(figsize=(6 * count, 4.5), layout="constrained")
    except ImportError:
        raise ConfigError("plot: pictures are drawn by matplotlib. Install it: pip install 'treadle[plot]'.") from None
    figure.suptitle(title)
    return figure, figure.subplots(1, count)


def _written(figure: Any, path: str | Path | None) -> Any:
    if path is not None:
        try:
            figure.savefig(path)
        except ValueError as error:
            raise ConfigError(f"plot: {path} cannot be written: {error}.") from None
    return figure


def _read_metrics(folder: Path) -> dict[str, tuple[list[float], list[float]]]:
    file = folder / "metrics.jsonl" if folder.is_dir() else folder
    try:
        records: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"plot_history: {file} cannot be read: {error}. Give a run's folder.") from None
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for number, record in enumerate(records):
        for name, value in record.items():
            if "loss" in name and isinstance(value, int | float):
                steps, values = lines.setdefault(name, ([], []))
                steps.append(float(record.get("step", number)))
                values.append(float(value))
    return lines
