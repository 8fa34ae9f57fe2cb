"""The summary of a model: rows, totals, and that looking changes nothing."""

from __future__ import annotations

import numpy as np

import treadle as td
from treadle import nn


class Twice(nn.Module):
    """Calls one layer two times; holds a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.scale = nn.Parameter(td.ones(4))

    def forward(self, x: td.Tensor) -> td.Tensor:
        return self.inner(self.inner(x)) * self.scale


def test_rows_parameters_and_flops() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Twice())
    model[0].requires_grad_(False)
    found = nn.summary(model, (5, 3))
    assert [(r.path, r.kind, r.shapes, r.parameters) for r in found.rows] == [
        ("0", "Linear", ((5, 4),), 16),
        ("1", "ReLU", ((5, 4),), 0),
        ("2.inner", "Linear", ((5, 4),), 20),
        ("2.inner", "Linear", ((5, 4),), 20),
        ("2", "Twice", ((5, 4),), 4),
        ("", "Sequential", ((5, 4),), 0),
    ]
    assert found.parameters == 40
    assert found.trainable == 24
    assert found.nbytes == 160
    assert found.flops == 2 * 5 * (3 * 4 + 4 * 4 + 4 * 4)
    assert "40 parameters (24 trainable)" in str(found)
    assert "2.inner" in str(found)


def test_attention_and_ids_are_counted() -> None:
    model = nn.GPT(nn.GPTConfig(11, context=8, layers=1, heads=2, width=4))
    found = nn.summary(model, td.asarray(np.zeros((2, 8), np.int64)))
    products = 2 * 16 * (4 * 12 + 4 * 4 + 4 * 16 * 2 + 4 * 11)
    assert found.flops == products + 4 * (2 * 2 * 8 * 2) * 8


def test_looking_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    model[0].eval()
    nn.summary(model, (1, 3))
    assert model[1].training
    assert not model[0].training
    assert not model[1]._hooks
