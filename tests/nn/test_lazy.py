"""Lazy layers: sizes found at the first call, then the plain layer; beside PyTorch's; misuse before the first call."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn, optim

CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = [
    ("Linear", (4,), {}, (5, 3)),
    ("Linear", (4, False), {}, (3,)),
    ("Conv1d", (4, 3), {"padding": 1}, (2, 6, 8)),
    ("Conv2d", (4, 3), {"groups": 2, "stride": 2}, (2, 6, 8, 8)),
    ("Conv2d", (4, 3), {"padding_mode": "circular", "padding": 1}, (6, 8, 8)),
    ("Conv3d", (4, 2), {"bias": False}, (2, 3, 4, 4, 4)),
    ("ConvTranspose1d", (4, 3), {"stride": 2, "output_padding": 1}, (2, 6, 8)),
    ("ConvTranspose2d", (4, 3), {"groups": 2}, (2, 6, 5, 5)),
    ("ConvTranspose3d", (4, 2), {}, (2, 3, 4, 4, 4)),
    ("BatchNorm1d", (), {}, (4, 3)),
    ("BatchNorm2d", (1e-3,), {"momentum": None}, (4, 3, 2, 2)),
    ("BatchNorm3d", (), {"affine": False}, (4, 3, 2, 2, 2)),
    ("InstanceNorm1d", (), {}, (4, 3, 5)),
    ("InstanceNorm2d", (), {"affine": False}, (4, 3, 2, 2)),
    ("InstanceNorm3d", (), {}, (2, 3, 2, 2, 2)),
]
IDS = [f"{name}-{args}-{kwargs}" for name, args, kwargs, _ in CASES]


@pytest.mark.parametrize(("name", "args", "kwargs", "shape"), CASES, ids=IDS)
def test_a_lazy_layer_becomes_what_pytorchs_does(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...]
) -> None:
    ours, theirs = (getattr(of.nn, f"Lazy{name}")(*args, **kwargs) for of in (td, torch))
    assert isinstance(ours, getattr(nn, name))
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert ours.has_uninitialized_params() == theirs.has_uninitialized_params()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    cells = dict(ours.named_cells())
    ours(td.asarray(x)), theirs(torch.tensor(x))
    assert type(ours) is getattr(nn, name)
    assert repr(ours) == repr(theirs)
    assert {n: tuple(v.shape) for n, v in ours.state_dict().items()} == {
        n: tuple(v.shape) for n, v in theirs.state_dict().items()
    }
    assert all(cells[n] is cell for n, cell in ours.named_cells())
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(
        ours(td.asarray(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-4, atol=1e-5
    )


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2), nn.Linear(2, 1)
    )


def test_a_lazy_model_trains_compiled_as_the_plain_one_does() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32)

    def trained(net: nn.Sequential) -> Any:
        opt = optim.Adam(net.parameters(), lr=0.1)

        @td.compile
        def step(x: Any) -> Any:
            opt.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            opt.step()
            return loss

        return [float(step(x)) for _ in range(3)]

    td.manual_seed(3)
    lazy = model()
    lazy(x)
    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2), nn.Linear(2, 1)
    )
    plain.load_state_dict(lazy.state_dict())
    assert trained(lazy) == trained(plain)


def test_the_first_call_may_be_in_a_compiled_function() -> None:
    lazy = model()
    run = td.compile(lazy)
    x = np.ones((3, 2, 6, 6), np.float32)
    first = run(x).numpy()
    assert type(lazy[4]) is nn.Linear
    lazy.eval()
    np.testing.assert_allclose(run(x).numpy(), lazy(td.asarray(x)).detach().numpy(), rtol=1e-5)
    assert first.shape == (3, 1)


def test_values_are_those_of_the_plain_layer_made_then() -> None:
    lazy = nn.LazyLinear(4)
    td.manual_seed(5)
    lazy(td.ones((1, 3)))
    td.manual_seed(5)
    np.testing.assert_array_equal(lazy.weight.numpy(), nn.Linear(3, 4).weight.numpy())


def test_what_was_set_before_the_first_call_stays() -> None:
    lazy = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()).to(td.float64)
    lazy[0].weight.requires_grad = False
    lazy[0].requires_grad_(False)
    seen: list[Any] = []
    lazy[0].register_forward_hook(lambda m, args, y: seen.append(y.shape))
    lazy.eval()
    lazy(td.ones((2, 3), dtype=td.float64))
    assert lazy[0].weight.dtype is td.float64
    assert lazy[1].running_var.dtype is td.float64
    assert not lazy[0].weight.requires_grad
    assert lazy[1].weight.requires_grad
    assert not lazy[1].training
    assert seen == [(2, 4)]


def test_a_state_dict_loads_into_a_lazy_model() -> None:
    made, waiting = model(), model()
    x = td.asarray(np.random.default_rng(0).standard_normal((3, 2, 6, 6)).astype(np.float32))
    made(x)
    opt_error = pytest.raises(td.ShapeError, match="UninitializedParameter: it has no shape")
    with opt_error:
        optim.Adam(waiting.parameters())
    waiting.load_state_dict(made.state_dict())
    optim.Adam(waiting.parameters())
    assert not waiting[0].has_uninitialized_params()
    held = waiting[0].weight
    for net in (made, waiting):
        net.eval()
    np.testing.assert_array_equal(waiting(x).detach().numpy(), made(x).detach().numpy())
    assert held is waiting[0].weight
    assert type(waiting[0]) is nn.Conv2d
    assert waiting[0].in_channels == 2


def test_a_state_dict_of_another_size_is_noticed_at_the_first_call() -> None:
    lazy = nn.LazyLinear(2)
    lazy.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(
        td.ShapeError, match=r"LazyLinear: weight was loaded as \[2, 3\], and this input needs \[2, 4\]"
    ):
        lazy(td.ones((1, 4)))
    assert lazy(td.ones((1, 3))).shape == (1, 2)


def test_a_call_that_fails_changes_nothing() -> None:
    lazy = nn.LazyConv2d(4, 3)
    with pytest.raises(td.ShapeError):
        lazy(td.ones((3, 2, 2)))  # smaller than the kernel
    with pytest.raises(td.ShapeError, match=r"LazyConv2d: input f32\[3\] has no axis -3"):
        lazy(td.ones((3,)))
    norm = nn.LazyBatchNorm2d()
    with pytest.raises(td.ShapeError, match=r"BatchNorm2d: input .* has 2 axes"):
        norm(td.ones((3, 2)))
    assert type(lazy) is nn.LazyConv2d
    assert norm.has_uninitialized_params()
    assert lazy(td.ones((2, 5, 5))).shape == (4, 3, 3)


def test_copies_and_pickles_wait_too() -> None:
    lazy = model()
    for twin in (copy.deepcopy(lazy), pickle.loads(pickle.dumps(lazy))):
        assert twin[0].has_uninitialized_params()
        assert twin[0].weight is not lazy[0].weight
        assert twin(td.ones((1, 1, 5, 5))).shape == (1, 1)
    assert lazy[0].has_uninitialized_params()


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.state_dict(),
        lambda m: optim.Adam(m.parameters()),
        lambda m: optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
        lambda m: sum(p.size for p in m.parameters()),
        lambda m: m[0].weight + 1,
        lambda m: m[0].weight.shape,
        lambda m: nn.init.xavier_uniform_(m[0].weight),
        lambda m: nn.utils.parameters_to_vector(m.parameters()),
        lambda m: td.compile(lambda: m[0].weight + 1)(),
    ],
)
def test_use_before_the_first_call_says_what_to_do(act: Any) -> None:
    with pytest.raises(td.ShapeError, match="Call the model once with an input like those to come"):
        act(model())


def test_wrong_settings_are_said_when_it_is_made() -> None:
    with pytest.raises(td.ConfigError, match="LazyLinear: missing a required argument: 'out_features'"):
        nn.LazyLinear()
    with pytest.raises(td.ConfigError, match="kernel_size"):
        nn.LazyConv2d(4, 0)
    with pytest.raises(td.ConfigError, match="out_features is 0"):
        nn.LazyLinear(0)


def test_a_lazy_layer_of_ones_own() -> None:
    class Scale(nn.Module):
        def __init__(self, width: int, start: float = 1.0) -> None:
            super().__init__()
            self.width = width
            self.scale = nn.Parameter(td.full((width,), start))

        def forward(self, x: Any) -> Any:
            return x * self.scale

    class LazyScale(nn.LazyModule, Scale):
        axis = -1

    layer = LazyScale(start=2.0)
    assert layer.width == 0
    np.testing.assert_array_equal(layer(td.ones((2, 3))).detach().numpy(), 2)
    assert type(layer) is Scale
    assert layer.width == 3


def test_a_parameter_is_given_its_shape_by_hand() -> None:
    parameter, buffer = nn.UninitializedParameter(), nn.UninitializedBuffer(dtype=td.int64, persistent=False)
    assert repr(parameter) == "UninitializedParameter(float32)"
    parameter.materialize((2, 3))
    buffer.materialize((4,), dtype=td.int32)
    assert type(parameter) is nn.Parameter
    assert parameter.shape == (2, 3)
    assert parameter.requires_grad
    assert type(buffer) is nn.Buffer
    assert buffer.dtype is td.int32
    assert not buffer.persistent
