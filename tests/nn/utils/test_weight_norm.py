"""Weight and spectral normalisation in their older forms against PyTorch's."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import draw
from treadle import nn
from treadle.core import ConfigError

X = draw(5, 4)


def pair(name: str, layer: str, args: Any, **settings: Any) -> tuple[Any, Any]:
    ours = getattr(nn.utils, name)(getattr(nn, layer)(*args), **settings)
    with warnings.catch_warnings(action="ignore"):  # PyTorch's says that it is old
        theirs = getattr(torch.nn.utils, name)(getattr(torch.nn, layer)(*args), **settings)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({key: value.detach().numpy() for key, value in theirs.state_dict().items()})
    return ours, theirs


CASES = [
    ("weight_norm", "Linear", (4, 3), {}, (5, 4)),
    ("weight_norm", "Linear", (4, 3), {"dim": None}, (5, 4)),
    ("weight_norm", "Conv2d", (2, 3, 2), {"dim": 1}, (1, 2, 4, 4)),
    ("spectral_norm", "Linear", (4, 3), {}, (5, 4)),
    ("spectral_norm", "Linear", (4, 3), {"n_power_iterations": 3, "dim": 1}, (5, 4)),
    ("spectral_norm", "ConvTranspose1d", (2, 3, 2), {}, (1, 2, 5)),
]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("name", "layer", "args", "settings", "shape"), CASES, ids=str)
def test_a_step(name: str, layer: str, args: Any, settings: Any, shape: Any, compiled: bool) -> None:
    x = draw(*shape)
    ours, theirs = pair(name, layer, args, **settings)

    def run(x: td.Tensor) -> td.Tensor:
        y = ours(x)
        (y * y).sum().backward()
        return y

    want = theirs(torch.tensor(x))
    (want * want).sum().backward()
    found = (td.compile(run) if compiled else run)(td.asarray(x))
    np.testing.assert_allclose(found.numpy(), want.detach().numpy(), rtol=2e-5, atol=1e-5)
    for key, p in ours.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), dict(theirs.named_parameters())[key].grad, rtol=1e-4, atol=1e-4)
    for key, p in ours.named_buffers():
        np.testing.assert_allclose(p.numpy(), dict(theirs.named_buffers())[key], rtol=1e-4, atol=1e-5, err_msg=key)
    value = ours.eval().weight.numpy()
    held = ours.weight_v if name == "weight_norm" else ours.weight_orig
    getattr(nn.utils, f"remove_{name}")(ours)
    assert ours.weight is held  # optimisers go on with it
    np.testing.assert_allclose(ours.weight.numpy(), value, rtol=1e-6)
    assert sorted(ours.state_dict()) == ["bias", "weight"]
    assert type(ours) is getattr(nn, layer)


def test_two_weights_of_a_module() -> None:
    rnn = nn.utils.weight_norm(nn.utils.weight_norm(nn.GRUCell(4, 3), "weight_ih"), "weight_hh")
    want = rnn(td.asarray(X)).numpy()
    for twin in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        np.testing.assert_array_equal(twin(td.asarray(X)).numpy(), want)
    nn.utils.remove_weight_norm(rnn, "weight_ih")
    assert "weight_hh_g" in rnn.state_dict()
    np.testing.assert_allclose(rnn(td.asarray(X)).numpy(), want, rtol=1e-5)


def test_assigning_sets_what_the_weight_is_made_of() -> None:
    layer = nn.utils.weight_norm(nn.Linear(4, 3))
    w = draw(3, 4)
    layer.weight = w
    np.testing.assert_allclose(layer.weight.numpy(), w, rtol=1e-6)
    np.testing.assert_allclose(layer.weight_g.numpy()[:, 0], np.linalg.norm(w, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m: nn.utils.weight_norm(m, "x"), "weight_norm: Linear has no parameter or buffer 'x'"),
        (nn.utils.remove_weight_norm, "'weight' has no weight_norm. Apply weight_norm first"),
        (lambda m: nn.utils.spectral_norm(m, n_power_iterations=0), "n_power_iterations is 0"),
        (nn.utils.remove_spectral_norm, "'weight' has no spectral_norm"),
    ],
)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        call(nn.Linear(2, 2))
