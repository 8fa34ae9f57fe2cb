"""Padding layers against PyTorch's: results, settings, and how they are shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.core import ConfigError

KINDS = ("Constant", "Zero", "Reflection", "Replication", "Circular")
SHAPES = {1: (2, 3, 6), 2: (2, 3, 5, 6), 3: (1, 2, 4, 5, 6)}


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_pytorchs(kind: str, count: int) -> None:
    name = f"{kind}Pad{count}d"
    x = np.random.default_rng(0).standard_normal(SHAPES[count]).astype(np.float32)
    value = (1.5,) if kind == "Constant" else ()
    for widths in (2, tuple(range(2 * count))[::-1] if count == 1 else (1, 0, 2, 1, 0, 3)[: 2 * count]):
        ours, theirs = getattr(nn, name)(widths, *value), getattr(torch.nn, name)(widths, *value)
        np.testing.assert_array_equal(ours(td.asarray(x)).numpy(), theirs(torch.from_numpy(x)).numpy())
        assert ours.padding == theirs.padding
        assert repr(ours) == repr(theirs)


def test_wrong_widths_are_named() -> None:
    with pytest.raises(ConfigError, match=r"ReflectionPad2d: padding is \(1, 2\)\. Give one width, or 4"):
        nn.ReflectionPad2d((1, 2))
