"""Initialisers: their moments, limits and fans, and the defaults of the layers."""

import math

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import ConfigError, ShapeError
from treadle.nn import init


@pytest.fixture(autouse=True)
def seeded():
    td.manual_seed(0)


def drawn(fill, *shape: int) -> np.ndarray:
    cell = nn.Parameter(td.zeros(shape))
    assert fill(cell) is cell
    return np.asarray(cell).astype(np.float64)


def test_constants():
    assert (drawn(init.ones_, 3) == 1).all()
    assert (drawn(init.zeros_, 3) == 0).all()
    assert (drawn(lambda c: init.constant_(c, 2.5), 3) == 2.5).all()


@pytest.mark.parametrize(
    ("fill", "std", "bound"),
    [
        (lambda c: init.uniform_(c, -2, 1), 3 / math.sqrt(12), 2),
        (lambda c: init.normal_(c, 0.0, 0.5), 0.5, 5),
        (init.xavier_uniform_, math.sqrt(2 / 300), math.sqrt(6 / 300)),
        (lambda c: init.xavier_normal_(c, gain=2), 2 * math.sqrt(2 / 300), 2),
        (lambda c: init.kaiming_uniform_(c, nonlinearity="relu"), math.sqrt(2 / 100), math.sqrt(6 / 100)),
        (lambda c: init.kaiming_normal_(c, mode="fan_out", nonlinearity="linear"), math.sqrt(1 / 200), 2),
        (init.trunc_normal_, 0.8796, 2),
        (lambda c: init.trunc_normal_(c, 0.0, 1.0, -0.5, 0.5), 0.2840, 0.5),
    ],
)
def test_spread_and_limits(fill, std, bound):
    values = drawn(fill, 200, 100)
    assert abs(values.std() - std) < 0.02 * std
    assert np.abs(values).max() <= bound * (1 + 1e-6)
    assert len(np.unique(values)) > 10_000


def test_trunc_normal_follows_the_distribution():
    values = np.sort(drawn(lambda c: init.trunc_normal_(c, 1.0, 2.0, -1.0, 4.0), 20_000))
    cdf = np.array([0.5 * math.erfc(-(v - 1) / 2 / math.sqrt(2)) for v in values[::500]])
    low, high = (0.5 * math.erfc(-(v - 1) / 2 / math.sqrt(2)) for v in (-1.0, 4.0))
    expected = np.arange(0, 20_000, 500) / 20_000
    assert np.abs((cdf - low) / (high - low) - expected).max() < 0.015


def test_layers_start_as_pytorchs():
    linear = nn.Linear(400, 300)
    for values in (np.asarray(linear.weight), np.asarray(linear.bias)):
        assert np.abs(values).max() <= 1 / 20
        assert abs(values.std() - 1 / 20 / math.sqrt(3)) < 0.003
    assert abs(np.asarray(nn.Embedding(300, 100).weight).std() - 1) < 0.02
    norm = nn.LayerNorm(4)
    assert np.asarray(norm.weight).tolist() == [1] * 4
    assert np.asarray(norm.bias).tolist() == [0] * 4
    assert nn.LayerNorm(4, bias=False).bias is None


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (0, 3), (1, 1)])
def test_eye(shape):
    np.testing.assert_array_equal(drawn(init.eye_, *shape), np.eye(*shape))


@pytest.mark.parametrize(("shape", "groups"), [((4, 2, 3), 1), ((2, 4, 3, 5), 1), ((6, 2, 3, 4, 5), 3), ((4, 4, 1), 2)])
def test_dirac_is_pytorchs(shape, groups):
    torch = pytest.importorskip("torch")
    expected = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(drawn(lambda c: init.dirac_(c, groups), *shape), expected.numpy())


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (3, 2, 2), (1, 5), (8, 2, 2, 1)])
def test_orthogonal(shape):
    values = drawn(lambda c: init.orthogonal_(c, 2.0), *shape).reshape(shape[0], -1)
    small = values @ values.T if values.shape[0] <= values.shape[1] else values.T @ values
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=2e-5)


def test_orthogonal_matrices_are_evenly_drawn():
    """Every element of a 2 x 2 rotation or reflection has mean 0; without the signs of R they would not."""
    values = np.stack([drawn(init.orthogonal_, 2, 2) for _ in range(200)])
    assert np.abs(values.mean(axis=0)).max() < 0.2
    assert 0.3 < (np.linalg.det(values) > 0).mean() < 0.7


@pytest.mark.parametrize(("sparsity", "zeros"), [(0.0, 0), (0.25, 3), (0.9, 9), (1.0, 10)])
def test_sparse(sparsity, zeros):
    values = drawn(lambda c: init.sparse_(c, sparsity, 0.5), 10, 400)
    assert ((values == 0).sum(axis=0) == zeros).all()
    if zeros < 10:
        assert abs(values[values != 0].std() - 0.5) < 0.03
    if 0 < zeros < 10:
        # Every row has its turn.
        assert np.abs((values == 0).mean(axis=1) - zeros / 10).max() < 0.12


@pytest.mark.parametrize(
    ("name", "param"),
    [("linear", None), ("conv2d", None), ("conv_transpose3d", None), ("sigmoid", None), ("tanh", None), ("relu", None),
     ("selu", None), ("leaky_relu", None), ("leaky_relu", 0.3)],
)  # fmt: skip
def test_gains_are_pytorchs(name, param):
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))


def test_the_same_seed_gives_the_same_weights():
    first = np.asarray(nn.Linear(5, 4).weight)
    td.manual_seed(0)
    np.testing.assert_array_equal(np.asarray(nn.Linear(5, 4).weight), first)
    assert not (np.asarray(nn.Linear(5, 4).weight) == first).all()


def test_wrong_settings_are_refused():
    vector = nn.Parameter(td.zeros((3,)))
    with pytest.raises(ShapeError, match=r"a weight of shape \[3\] has no fan"):
        init.xavier_uniform_(vector)
    with pytest.raises(ConfigError, match=r"no gain for 'swish'\. Allowed: linear"):
        init.calculate_gain("swish")
    with pytest.raises(ShapeError, match=r"eye_: a tensor of shape \[3\] is not a matrix"):
        init.eye_(vector)
    with pytest.raises(ShapeError, match=r"dirac_: a weight of shape \[3\] is no convolution's"):
        init.dirac_(vector)
    with pytest.raises(ConfigError, match=r"groups is 2\. It must divide the 3 output"):
        init.dirac_(nn.Parameter(td.zeros((3, 1, 1))), 2)
    with pytest.raises(ShapeError, match=r"orthogonal_: a tensor of shape \[3\]"):
        init.orthogonal_(vector)
    with pytest.raises(ShapeError, match=r"sparse_: a tensor of shape \[3\]"):
        init.sparse_(vector, 0.5)
    with pytest.raises(ConfigError, match=r"sparsity is 2\. It is a share"):
        init.sparse_(nn.Parameter(td.zeros((3, 1))), 2)
    with pytest.raises(ConfigError, match="std is -1"):
        init.normal_(vector, std=-1)
    with pytest.raises(ConfigError, match="in_features is 0"):
        nn.Linear(0, 2)
    with pytest.raises(ConfigError, match="p is 2"):
        nn.Dropout(2)
