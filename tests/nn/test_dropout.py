"""Dropout layers: what is dropped, how the rest is scaled, nothing outside of training, other places in each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.core import ConfigError

CHANNELS = [("Dropout1d", (40, 20, 3)), ("Dropout2d", (40, 20, 2, 3)), ("Dropout3d", (40, 20, 2, 1, 3))]
KINDS = ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"]
SHAPES = {"Dropout1d": (4, 3, 5), "Dropout2d": (4, 3, 5, 2), "Dropout3d": (4, 3, 5, 2, 2)}


@pytest.mark.parametrize(("kind", "shape"), CHANNELS)
def test_whole_channels_go(kind: str, shape: tuple[int, ...]) -> None:
    layer = getattr(nn, kind)(0.25, generator=td.random.Generator(1))
    y = layer(td.ones(shape)).numpy().reshape(shape[0], shape[1], -1)
    assert (y == y[:, :, :1]).all()
    assert set(np.unique(y)) == {np.float32(0), np.float32(4 / 3)}
    assert 0.2 < (y[:, :, 0] == 0).mean() < 0.3


@pytest.mark.parametrize("kind", ["AlphaDropout", "FeatureAlphaDropout"])
def test_mean_and_variance_stay(kind: str) -> None:
    x = np.random.default_rng(0).standard_normal((2000, 40)).astype(np.float32)
    layer = getattr(nn, kind)(0.3, generator=td.random.Generator(2))
    y = layer(td.asarray(x)).numpy()
    assert abs(y.mean()) < 0.03
    assert abs(y.std() - 1) < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_outside_of_training_nothing_changes(kind: str) -> None:
    x = td.asarray(np.random.default_rng(0).standard_normal(SHAPES.get(kind, (4, 3))))
    layer = getattr(nn, kind)(0.9)
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())
    np.testing.assert_array_equal(getattr(nn, kind)(0.0)(x).numpy(), x.numpy())
    want = getattr(torch.nn, kind)(1.0)(torch.tensor(x.numpy())).numpy()
    np.testing.assert_array_equal(getattr(nn, kind)(1.0)(x).numpy(), want)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_each_call_drops_others(kind: str) -> None:
    layer = getattr(nn, kind)(0.5, generator=td.random.Generator(3))
    x = td.ones(SHAPES.get(kind, (8, 6)))
    run = td.compile(layer)
    first, second = run(x).numpy(), run(x).numpy()
    assert (first != second).any()
    assert run.num_compiles == 1
    layer.generator.manual_seed(3)
    np.testing.assert_array_equal(layer(x).numpy(), first)


@pytest.mark.parametrize("kind", KINDS)
def test_settings(kind: str) -> None:
    assert repr(getattr(nn, kind)(0.2, True)) == f"{kind}(p=0.2)"
    with pytest.raises(ConfigError, match=rf"{kind}: p is 1\.5\. It is a probability: 0 to 1"):
        getattr(nn, kind)(1.5)


def test_gradients_go_where_values_do() -> None:
    layer: Any = nn.Dropout2d(0.5, generator=td.random.Generator(4))
    x = td.ones((3, 4, 2, 2)).requires_grad_()
    y = layer(x)
    y.sum().backward()
    np.testing.assert_array_equal(np.asarray(x.grad), y.detach().numpy())
