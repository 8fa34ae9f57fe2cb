"""Pictures: what is drawn, where it is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from treadle.core import ConfigError, DataError, ShapeError
from treadle.inspect import plot_attention, plot_confusion, plot_history


def test_history_of_values(tmp_path: Path) -> None:
    figure = plot_history({"train": [3.0, 2.0, 1.0], "test": [3.5, 2.5]}, tmp_path / "h.png", title="a run")
    assert (tmp_path / "h.png").read_bytes()[:4] == b"\x89PNG"
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["train", "test"]
    assert list(axes.lines[0].get_ydata()) == [3.0, 2.0, 1.0]
    assert figure.get_suptitle() == "a run"


def test_history_of_a_run(tmp_path: Path) -> None:
    records = [{"step": 1, "loss": 4.0, "tokens": 9}, {"step": 2, "loss": 3.0, "val_loss": 3.2}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    figure = plot_history(tmp_path, tmp_path / "h.svg")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"loss", "val_loss"}
    assert list(lines["val_loss"].get_xdata()) == [2.0]
    for bad in (tmp_path / "none", {}):
        with pytest.raises(DataError, match="plot_history"):
            plot_history(bad)
    with pytest.raises(ConfigError, match="cannot be written"):
        plot_history({"a": [1.0]}, tmp_path / "picture.nonsense")


def test_confusion_writes_the_counts() -> None:
    figure = plot_confusion([[5, 1], [0, 3]], ["cat", "dog"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["5", "1", "0", "3"]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["cat", "dog"]
    with pytest.raises(ShapeError, match=r"is not \[C, C\]"):
        plot_confusion(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="3 names for 2"):
        plot_confusion(np.eye(2), ["a", "b", "c"])


def test_attention_of_one_and_of_several_heads() -> None:
    weights = np.random.default_rng(0).random((3, 4, 5))
    figure = plot_attention(weights[0], list("abcde"), list("wxyz"))
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), weights[0])
    figure = plot_attention(weights)
    assert [axes.get_title() for axes in figure.axes] == ["head 0", "head 1", "head 2"]
    figure = plot_attention(weights[:2], titles=["Bahdanau", "Luong"])
    assert [axes.get_title() for axes in figure.axes] == ["Bahdanau", "Luong"]
    with pytest.raises(ConfigError, match="1 names for 3 rows, columns or maps"):
        plot_attention(weights, titles=["Bahdanau"])
    with pytest.raises(ShapeError, match=r"are not \[T, S\]"):
        plot_attention(np.zeros(3))
