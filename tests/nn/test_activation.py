"""Activation layers against PyTorch's: the same constructor gives the same function; PReLU's weight; the repr."""

import numpy as np
import pytest

import treadle as td
from tests.nn.functional.peer import agree, draw
from treadle import nn
from treadle.core import ConfigError, ShapeError

torch = pytest.importorskip("torch")

CASES = [
    ("Identity", 3, "x"), ("Sigmoid",), ("Tanh",), ("GELU",), ("GELU", "tanh"), ("SiLU", True), ("Mish", True),
    ("Softplus", 2.0, 3.0), ("LogSigmoid",), ("Softsign",), ("Tanhshrink",), ("ELU", 0.5, True), ("CELU", 0.5),
    ("SELU", True), ("GLU", 1), ("ReLU", True), ("ReLU6", False), ("LeakyReLU", 0.3, True), ("PReLU",),
    ("PReLU", 6, 0.1), ("Threshold", 0.1, 2.0), ("Hardtanh", -0.2, 0.5), ("Hardsigmoid",), ("Hardswish",),
    ("Hardshrink", 0.3), ("Softshrink", 0.3), ("Softmax", 1), ("LogSoftmax", -1), ("Softmin", 0), ("Softmax2d",),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(case):
    name, *args = case
    ours, theirs = getattr(nn, name)(*args), getattr(torch.nn, name)(*args)
    # Not the leaf itself, which PyTorch does not change in place.
    agree(ours, lambda x: theirs(x * 1), draw(2, 6, 3) if name == "Softmax2d" else draw(4, 6))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_rrelu_draws_in_training_only():
    layer = nn.RReLU(0.2, 0.6, generator=td.random.Generator(0))
    x = -td.ones((100,))
    assert len(np.unique(np.asarray(layer(x)))) > 50
    np.testing.assert_allclose(np.asarray(layer.eval()(x)), -0.4, rtol=1e-6)


def test_prelu_starts_where_it_is_told():
    layer = nn.PReLU(3, 0.5)
    assert np.asarray(layer.weight).tolist() == [0.5] * 3
    layer.weight.value = td.zeros((3,))
    layer.reset_parameters()
    assert np.asarray(layer.weight).tolist() == [0.5] * 3


def test_settings_are_shown():
    assert repr(nn.Hardtanh(-2, 3)) == "Hardtanh(min_val=-2, max_val=3)"
    assert repr(nn.ReLU(inplace=True)) == "ReLU()"
    assert repr(nn.Softmax(dim=1)) == "Softmax(dim=1)"


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="GELU: approximate is 'x'"):
        nn.GELU("x")
    with pytest.raises(ConfigError, match="num_parameters is 0"):
        nn.PReLU(0)
    with pytest.raises(ShapeError, match=r"Softmax2d: input f32\[2\] must be"):
        nn.Softmax2d()(td.ones((2,)))
