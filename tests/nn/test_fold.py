"""Folding and shuffling layers against PyTorch's: the settings arrive where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn

LAYERS: list[tuple[str, tuple[Any, ...], tuple[int, ...]]] = [
    ("Unfold", ((2, 3),), (2, 3, 5, 6)),
    ("Unfold", (3, 1, 1, 2), (1, 2, 6, 6)),
    ("Fold", ((4, 5), 2), (2, 12, 12)),
    ("Fold", (6, 3, 1, 1, 2), (1, 18, 9)),
    ("PixelShuffle", (2,), (2, 8, 3, 3)),
    ("PixelUnshuffle", (3,), (2, 1, 6, 3)),
    ("ChannelShuffle", (3,), (2, 6, 4)),
]


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS, ids=str)
def test_layers_are_pytorchs(name: str, args: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    np.testing.assert_allclose(ours(td.asarray(x)).numpy(), theirs(torch.from_numpy(x)).numpy(), rtol=1e-6, atol=1e-6)
    for setting in ours.settings:
        assert getattr(ours, setting) == getattr(theirs, setting)
        assert f"{setting}={getattr(ours, setting)}" in repr(ours)
