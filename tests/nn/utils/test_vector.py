"""Parameters as a vector and back; gradients clipped; modules called with other parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import draw
from treadle import nn
from treadle.core import ConfigError, NonFiniteError, ShapeError
from treadle.nn.utils.stateless import functional_call

X = draw(5, 4)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


def test_there_and_back() -> None:
    one, other = model(), model()
    vector = nn.utils.parameters_to_vector(one.parameters())
    assert vector.shape == (sum(p.size for p in one.parameters()),)
    nn.utils.vector_to_parameters(vector, other.parameters())
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    with pytest.raises(ShapeError, match="does not fit 5 parameters of 27 elements"):
        nn.utils.vector_to_parameters(vector[1:], other.parameters())
    with pytest.raises(ShapeError, match="there are no parameters"):
        nn.utils.parameters_to_vector([])


def test_the_vector_has_gradients() -> None:
    layer = nn.Linear(4, 3)
    nn.utils.parameters_to_vector(layer.parameters()).square().sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), 2 * layer.weight.numpy())


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, float("inf")])
def test_clipping_in_two_steps(norm_type: float) -> None:
    ours, theirs = nn.Parameter(X), torch.nn.Parameter(torch.tensor(X))
    ours.grad, theirs.grad = td.asarray(X * 2), torch.tensor(X * 2)
    norm = nn.utils.get_total_norm([ours.grad], norm_type)
    want = torch.nn.utils.get_total_norm([theirs.grad], norm_type)
    np.testing.assert_allclose(float(norm), float(want), rtol=1e-5)
    nn.utils.clip_grads_with_norm_([ours], 0.5, norm)
    torch.nn.utils.clip_grads_with_norm_([theirs], 0.5, want)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)
    nn.utils.clip_grads_with_norm_(ours, 100.0, norm)
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-5)


def test_clipping_is_that_of_optim() -> None:
    p = nn.Parameter(X)
    p.grad = td.asarray(X) * float("inf")
    with pytest.raises(NonFiniteError, match="the norm of the gradients is inf"):
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    nn.utils.clip_grad_value_(p, 1.0)
    assert np.abs(p.grad.numpy()).max() == 1
    with pytest.raises(ConfigError, match="max_norm is 0"):
        nn.utils.clip_grads_with_norm_(p, 0, td.asarray(1.0))


def test_a_call_with_other_parameters() -> None:
    one, other = model().eval(), model().eval()
    state = dict(other.state_dict())
    for args in (td.asarray(X), (td.asarray(X),)):
        found = functional_call(one, state, args)
        np.testing.assert_array_equal(found.numpy(), other(td.asarray(X)).numpy())
    before = one(td.asarray(X)).numpy()
    weight = one[0].weight

    @td.compile
    def slope(w: td.Tensor, x: td.Tensor) -> td.Tensor:
        return td.grad(lambda w: functional_call(one, {"0.weight": w}, x).square().sum())(w)

    found = slope(other[0].weight, td.asarray(X))
    one[0].weight.value = other[0].weight
    one(td.asarray(X)).square().sum().backward()
    np.testing.assert_allclose(found.numpy(), one[0].weight.grad.numpy(), rtol=1e-5)
    assert one[0].weight is weight
    assert before.shape == (5, 2)


def test_tied_parameters_are_replaced_together() -> None:
    net = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    net["b"].weight = net["a"].weight

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: td.Tensor) -> td.Tensor:
            return self.net["b"](x)

    eye = np.eye(2, dtype=np.float32)
    both = Both()
    np.testing.assert_array_equal(functional_call(both, {"net.a.weight": eye}, td.asarray(eye)).numpy(), eye)
    untied = functional_call(both, {"net.a.weight": eye}, td.asarray(eye), tie_weights=False).numpy()
    np.testing.assert_array_equal(untied, net["b"].weight.numpy().T)


@pytest.mark.parametrize(
    ("given", "strict", "error", "text"),
    [
        ({"0.wieght": X}, False, ConfigError, "not in the module: 0.wieght; missing: none. Allowed: 0.weight, 0.bias"),
        ({"0.weight": X[:3]}, True, ConfigError, "missing: 0.bias, 1.weight"),
        ({"0.weight": X}, False, ShapeError, r"0.weight is .*\. Its shape is \[3, 4\]"),
    ],
)
def test_errors(given: Any, strict: bool, error: type[Exception], text: str) -> None:
    net = model()
    with pytest.raises(error, match=text):
        functional_call(net, given, td.asarray(X), strict=strict)
    assert isinstance(net[0].weight, nn.Parameter)
