"""Weights made of other parameters: what `parametrize` promises, and the ready parametrisations against PyTorch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations as their_own
from torch.nn.utils import parametrize as their

import treadle as td
from tests.nn.functional.peer import draw
from treadle import nn, optim
from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn.utils import parametrizations, parametrize

X = draw(5, 4)


class Symmetric(nn.Module):
    def forward(self, x: td.Tensor) -> td.Tensor:
        return x.triu() + x.triu(1).mT

    def right_inverse(self, a: td.Tensor) -> td.Tensor:
        return a.triu()


class Doubled(nn.Module):
    def forward(self, x: td.Tensor) -> td.Tensor:
        return x * 2


class Product(nn.Module):
    def forward(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
        return x[:, None] * y

    def right_inverse(self, z: td.Tensor) -> tuple[td.Tensor, td.Tensor]:
        return z[:, 0], z[0] / z[0, 0]


def load(ours: nn.Module, theirs: torch.nn.Module) -> None:
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.detach().numpy() for name, value in theirs.state_dict().items()})


def same_step(ours: Any, theirs: Any, x: np.ndarray, *, compiled: bool = False, tolerance: float = 2e-5) -> None:
    """Assert that both give the same result, the same gradients of their parameters, and the same state afterwards."""

    def run(x: td.Tensor) -> td.Tensor:
        y = ours(x)
        (y * y).sum().backward()
        return y

    found, want = (td.compile(run) if compiled else run)(td.asarray(x)), theirs(torch.tensor(x))
    (want * want).sum().backward()
    np.testing.assert_allclose(found.numpy(), want.detach().numpy(), rtol=tolerance, atol=tolerance)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance, atol=tolerance * 30, err_msg=name)
    for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=tolerance, atol=tolerance, err_msg=name)


def test_a_weight_is_made_of_what_is_trained() -> None:
    layer = nn.Linear(3, 3)
    held = layer.weight
    assert parametrize.register_parametrization(layer, "weight", Symmetric()) is layer
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert isinstance(layer, nn.Linear)
    assert layer.parametrizations.weight.original is held  # optimisers go on with it
    assert [n for n, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]
    np.testing.assert_array_equal(layer.weight.numpy(), layer.weight.mT.numpy())
    a = draw(3, 3)
    layer.weight = a + a.T
    np.testing.assert_allclose(layer.weight.numpy(), a + a.T, rtol=1e-6)
    layer(td.ones((1, 3))).sum().backward()
    assert held.grad is not None
    assert not held.grad.numpy()[np.tril_indices(3, -1)].any()


def test_a_parametrised_model_is_trained_compiled() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 1))
    opt = optim.Adam(model.parameters(), lr=0.05)
    y = X[:, :1] * 0.5

    @td.compile
    def step(x: td.Tensor, y: td.Tensor) -> td.Tensor:
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss

    losses = [float(step(X, y)) for _ in range(30)]
    assert losses[-1] < losses[0] / 5
    assert step.num_compiles == 1
    parametrize.remove_parametrizations(model[0], "weight")
    before = model(td.asarray(X)).numpy()
    np.testing.assert_allclose(before, model(td.asarray(X)).numpy())
    step(X, y)
    assert step.num_compiles == 2


def test_several_are_applied_in_order() -> None:
    layer = nn.Linear(2, 2, bias=False)
    first = layer.weight.numpy()
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.register_parametrization(layer, "weight", Symmetric())
    want = np.triu(first * 2)
    np.testing.assert_allclose(layer.weight.numpy(), want + np.triu(want, 1).T)
    with pytest.raises(ConfigError, match="cannot be assigned to, because of Doubled: it has no right_inverse"):
        layer.weight = td.ones((2, 2))


def test_a_weight_of_several_tensors_and_the_way_back() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.value = np.outer([1.0, 2.0], [3.0, 4.0, 5.0])
    parametrize.register_parametrization(layer, "weight", Product())
    assert [n for n, _ in layer.named_parameters()][1:] == [
        "parametrizations.weight.original0",
        "parametrizations.weight.original1",
    ]
    np.testing.assert_allclose(layer.weight.numpy(), np.outer([1, 2], [3, 4, 5]), rtol=1e-6)
    with pytest.raises(ConfigError, match="made of 2 tensors, so no one is the original"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert sorted(layer.state_dict()) == ["bias", "weight"]
    np.testing.assert_allclose(layer.weight.numpy(), np.outer([1, 2], [3, 4, 5]), rtol=1e-6)


def test_the_original_may_be_left() -> None:
    layer = nn.Linear(2, 2)
    held, value = layer.weight, layer.weight.numpy()
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    assert layer.weight is held
    np.testing.assert_array_equal(layer.weight.numpy(), value)


def test_buffers_and_copies() -> None:
    norm = nn.BatchNorm1d(3)
    parametrize.register_parametrization(norm, "running_var", Doubled())
    assert "parametrizations.running_var.original" in norm.state_dict()
    layer = parametrizations.spectral_norm(nn.Linear(4, 3)).eval()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert parametrize.is_parametrized(twin)
        np.testing.assert_array_equal(twin.weight.numpy(), layer.weight.numpy())
        twin.weight = td.ones((3, 4))
        assert twin.weight.numpy()[0, 0] != layer.weight.numpy()[0, 0]


def test_within_cached_a_weight_is_computed_once() -> None:
    calls = []

    class Counted(nn.Module):
        def forward(self, x: td.Tensor) -> td.Tensor:
            calls.append(1)
            return x * 2

    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", Counted())
    x = td.asarray(X)
    want = layer(layer(x)).numpy()
    calls.clear()
    with parametrize.cached():
        found = layer(layer(x))
        assert layer.weight is layer.weight
        td.compile(layer)(x)  # has a trace of its own
    assert len(calls) == 2
    np.testing.assert_array_equal(found.numpy(), want)
    assert layer.weight is not layer.weight


def test_transfer() -> None:
    source = parametrizations.weight_norm(nn.Linear(4, 3))
    target = parametrize.transfer_parametrizations_and_params(source, nn.Linear(4, 3))
    np.testing.assert_array_equal(target.weight.numpy(), source.weight.numpy())
    assert target.parametrizations.weight.original0 is source.parametrizations.weight.original0
    plain = nn.Linear(2, 2)
    assert parametrize.transfer_parametrizations_and_params(nn.Linear(2, 2), plain) is plain
    assert not parametrize.is_parametrized(plain)


@pytest.mark.parametrize(
    ("layer", "dim"), [("Linear", 0), ("Linear", 1), ("Linear", None), ("Conv2d", 0), ("Conv2d", 3)], ids=str
)
@pytest.mark.parametrize("compiled", [False, True])
def test_weight_norm(layer: str, dim: int | None, compiled: bool) -> None:
    args = (4, 3) if layer == "Linear" else (2, 3, 2)
    x = X if layer == "Linear" else draw(2, 2, 4, 4)
    ours = parametrizations.weight_norm(getattr(nn, layer)(*args), dim=dim)
    theirs = their_own.weight_norm(getattr(torch.nn, layer)(*args), dim=dim)
    load(ours, theirs)
    same_step(ours, theirs, x, compiled=compiled)
    w = draw(*ours.weight.shape)
    ours.weight = w
    np.testing.assert_allclose(ours.weight.numpy(), w, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "args", "shape"),
    [
        ("Linear", (4, 3), (5, 4)),
        ("Linear", (4, 1), (5, 4)),
        ("Conv1d", (2, 3, 2), (1, 2, 5)),
        ("ConvTranspose2d", (2, 3, 2), (1, 2, 3, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", [False, True])
def test_spectral_norm(layer: str, args: Any, shape: tuple[int, ...], compiled: bool) -> None:
    x = draw(*shape)
    ours = parametrizations.spectral_norm(getattr(nn, layer)(*args))
    theirs = their_own.spectral_norm(getattr(torch.nn, layer)(*args))
    load(ours, theirs)
    same_step(ours, theirs, x, compiled=compiled)
    want = theirs.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours.eval()(td.asarray(x)).numpy(), want, rtol=2e-5, atol=1e-5)


def test_spectral_norm_of_a_vector_and_what_it_is_for() -> None:
    layer = parametrizations.spectral_norm(nn.LayerNorm(5))
    np.testing.assert_allclose(np.linalg.norm(layer.weight.numpy()), 1, rtol=1e-6)
    wide = parametrizations.spectral_norm(nn.Linear(20, 10))
    assert 0.9 < np.linalg.norm(wide.weight.numpy(), 2) < 1.1


@pytest.mark.parametrize("orthogonal_map", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("sizes", [(4, 4), (4, 3), (4, 6), (4, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("use_trivialization", [True, False])
def test_orthogonal(sizes: tuple[int, int], orthogonal_map: str | None, use_trivialization: bool) -> None:
    settings: dict[str, Any] = {"orthogonal_map": orthogonal_map, "use_trivialization": use_trivialization}
    ours = parametrizations.orthogonal(nn.Linear(*sizes), **settings)
    theirs = their_own.orthogonal(torch.nn.Linear(*sizes), **settings)
    if use_trivialization:  # without, PyTorch's starts from another value, too
        w = ours.weight.numpy()
        short = min(w.shape)
        np.testing.assert_allclose(w @ w.T if w.shape[0] == short else w.T @ w, np.eye(short), atol=1e-5)
    load(ours, theirs)
    same_step(ours, theirs, draw(5, sizes[0]), compiled=sizes == (4, 3), tolerance=1e-4)


def test_orthogonal_starts_where_the_weight_is() -> None:
    q = np.linalg.qr(draw(4, 4))[0]
    for settings in ({}, {"orthogonal_map": "householder", "use_trivialization": False}):
        layer = nn.Linear(4, 4)
        layer.weight.value = q
        parametrizations.orthogonal(layer, **settings)
        np.testing.assert_allclose(layer.weight.numpy(), q, atol=1e-5)
        other = np.linalg.qr(draw(4, 4, seed=5))[0]
        layer.weight = other
        np.testing.assert_allclose(layer.weight.numpy(), other, atol=1e-5)
    tall = nn.Linear(2, 4)
    tall.weight.value = q[:, :2]
    np.testing.assert_allclose(parametrizations.orthogonal(tall).weight.numpy(), q[:, :2], atol=1e-5)


def test_orthogonal_stays_orthogonal_in_training() -> None:
    layer = parametrizations.orthogonal(nn.Linear(4, 4, bias=False))
    opt = optim.SGD(layer.parameters(), lr=0.1)

    @td.compile
    def step(x: td.Tensor) -> None:
        opt.zero_grad()
        (layer(x) - x).square().sum().backward()
        opt.step()

    before = layer.weight.numpy()
    for _ in range(5):
        step(X)
    w = layer.weight.numpy()
    assert np.abs(w - before).max() > 0.01
    np.testing.assert_allclose(w @ w.T, np.eye(4), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "orthogonal"])
def test_the_dtype_of_the_layer_stays(name: str, dtype: str) -> None:
    layer = getattr(parametrizations, name)(nn.Linear(4, 3).to(dtype))
    x = td.asarray(X).astype(dtype)
    for call in (layer, td.compile(layer)):
        y = call(x)
        assert y.dtype.name == layer.weight.dtype.name == dtype
    layer(x).sum().backward()
    assert all(p.grad is not None and p.grad.dtype.name == dtype for p in layer.parameters())


class Wrong(nn.Module):
    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: td.Tensor) -> Any:
        return self.change(x)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda m: parametrize.register_parametrization(m, "wieght", Doubled()),
            ConfigError,
            "Linear has no parameter or buffer 'wieght'. Allowed: weight, bias",
        ),
        (
            lambda m: parametrize.register_parametrization(m, "weight", Wrong(lambda x: x[0])),
            ShapeError,
            r"the parametrised weight is .*, and was \[2, 2\]\. The shape must stay",
        ),
        (
            lambda m: parametrize.register_parametrization(m, "weight", Wrong(lambda x: x.astype(td.float64))),
            DTypeError,
            "and was float32. The dtype must stay",
        ),
        (
            lambda m: parametrize.register_parametrization(m, "weight", Wrong(lambda x: 3)),
            DTypeError,
            "is a int. A parametrisation must return a tensor",
        ),
        (lambda m: parametrize.remove_parametrizations(m, "weight"), ConfigError, "'weight' of Linear is not param"),
        (lambda m: parametrizations.orthogonal(m, "bias"), ShapeError, "orthogonal: bias is .* must be a matrix"),
        (lambda m: parametrizations.orthogonal(m, orthogonal_map="x"), ConfigError, "orthogonal_map is 'x'"),
        (lambda m: parametrizations.spectral_norm(m, n_power_iterations=0), ConfigError, "n_power_iterations is 0"),
        (lambda m: parametrizations.spectral_norm(m, dim=2), ShapeError, "spectral_norm: axis 2"),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(error, match=text):
        call(layer)
    assert type(layer) is nn.Linear  # nothing changed
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_unsafe_allows_another_shape() -> None:
    layer = nn.Linear(2, 2)
    parametrize.register_parametrization(layer, "weight", Wrong(lambda x: x[:1]), unsafe=True)
    assert layer.weight.shape == (1, 2)


def test_pytorch_agrees_on_what_is_tested_here() -> None:
    layer = their.register_parametrization(torch.nn.Linear(2, 2), "weight", torch.nn.Identity())
    ours = parametrize.register_parametrization(nn.Linear(2, 2), "weight", nn.Identity())
    assert list(layer.state_dict()) == list(ours.state_dict())
