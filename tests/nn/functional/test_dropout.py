"""Dropout: PyTorch's results for the same places, whole channels, and what does not fit."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import draw
from treadle.core import ConfigError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

CHANNELS = [("dropout1d", (5, 4, 3)), ("dropout1d", (9, 3)), ("dropout2d", (5, 4, 3, 2)), ("dropout2d", (5, 4, 3)),
            ("dropout3d", (5, 4, 3, 2, 2)), ("dropout3d", (9, 3, 2, 2))]  # fmt: skip


@pytest.mark.parametrize(("name", "shape"), CHANNELS, ids=str)
def test_whole_channels(name, shape):
    x = np.abs(draw(*shape)) + 1
    y = np.asarray(getattr(F, name)(x, 0.4, generator=td.random.Generator(1)))
    unbatched = (name, len(shape)) in (("dropout1d", 2), ("dropout3d", 4))
    rest = tuple(range(1 if unbatched else 2, len(shape)))
    kept = (y != 0).any(axis=rest, keepdims=True)
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(y, np.where(kept, x / np.float32(0.6), 0), rtol=1e-6)


@pytest.mark.parametrize(("name", "shape"), [("alpha_dropout", (50, 8)), ("feature_alpha_dropout", (50, 8, 3))])
def test_saturated_values_are_pytorchs(name, shape):
    x = np.abs(draw(*shape)) + 1
    ours = np.asarray(getattr(F, name)(x, 0.3, training=True, generator=td.random.Generator(1)))
    theirs = getattr(TF, name)(torch.tensor(x), 0.3, training=True).numpy()
    gone = np.isclose(ours, ours.min())
    assert 0.2 < gone.mean() < 0.4
    assert ours.min() == pytest.approx(theirs.min(), rel=1e-6)
    kept = ~np.isclose(theirs, theirs.min())
    scale, shift = np.polyfit(x[kept].astype(np.float64), theirs[kept], 1)
    np.testing.assert_allclose(ours[~gone], x[~gone] * scale + shift, rtol=1e-5)
    if name.startswith("feature"):
        assert (gone == gone[:, :, :1]).all()


def test_the_gradient_is_that_of_the_places_kept():
    x = td.asarray(draw(6, 5, 4)).requires_grad_()
    y = F.dropout1d(x, 0.5, generator=td.random.Generator(2))
    y.sum().backward()
    np.testing.assert_array_equal(np.asarray(x.grad), np.where(np.asarray(y.detach()) != 0, 2, 0))


@pytest.mark.parametrize("name", ["dropout", "dropout1d", "alpha_dropout", "feature_alpha_dropout"])
def test_without_training_or_probability(name):
    x = draw(3, 4, 2)
    np.testing.assert_array_equal(np.asarray(getattr(F, name)(x, 0.5, False)), x)
    np.testing.assert_array_equal(np.asarray(getattr(F, name)(x, 0.0, True)), x)
    assert not np.asarray(getattr(F, name)(x, 1.0, True)).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.dropout1d(td.ones((2, 3, 4, 5))), ShapeError, r"dropout1d: .* has 4 axes\. Allowed: 2 or 3"),
        (lambda: F.dropout3d(td.ones((2, 3, 4))), ShapeError, "Allowed: 4 or 5"),
        (lambda: F.feature_alpha_dropout(td.ones(3), 0.5, True), ShapeError, r"must be \[N, C, \.\.\.\]"),
        (lambda: F.alpha_dropout(td.ones(3), 1.5, True), ConfigError, r"alpha_dropout: p is 1\.5"),
        (lambda: F.dropout2d(td.ones((1, 1, 1, 1)), -0.5), ConfigError, r"dropout2d: p is -0\.5"),
    ],
)
def test_what_does_not_fit_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
