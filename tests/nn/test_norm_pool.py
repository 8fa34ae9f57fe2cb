"""Norm, pool and resize layers against PyTorch's: results, gradients, running statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(ours: nn.Module, theirs: torch.nn.Module, x: np.ndarray, *, times: int = 1) -> None:
    """Hold results, gradients and buffers of two layers against each other."""
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    assert set(state) == set(ours.state_dict())
    ours.load_state_dict(state)
    for number in range(times):
        a, b = td.asarray(x + number).requires_grad_(), torch.from_numpy(x + number).requires_grad_()
        out, expected = ours(a), theirs(b)
        np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        towards = draw(*out.shape, seed=1)
        (out * td.asarray(towards)).sum().backward()
        (expected * torch.from_numpy(towards)).sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-3, atol=1e-4)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-3, atol=1e-3, err_msg=name)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


NORMS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "batch, rows": ("BatchNorm1d", (5,), {}, (7, 5)),
    "batch, series": ("BatchNorm1d", (5,), {}, (3, 5, 4)),
    "batch, images": ("BatchNorm2d", (5,), {}, (3, 5, 4, 2)),
    "batch, average of all": ("BatchNorm2d", (5,), {"momentum": None}, (3, 5, 4, 2)),
    "batch, no affine": ("BatchNorm2d", (5,), {"affine": False}, (3, 5, 4, 2)),
    "batch, no statistics": ("BatchNorm2d", (5,), {"track_running_stats": False}, (3, 5, 4, 2)),
    "batch, volumes": ("BatchNorm3d", (5,), {"eps": 1e-3}, (2, 5, 2, 3, 2)),
    "instance": ("InstanceNorm2d", (5,), {}, (3, 5, 4, 2)),
    "instance, all kept": ("InstanceNorm1d", (5,), {"affine": True, "track_running_stats": True}, (3, 5, 8)),
    "instance, one": ("InstanceNorm3d", (5,), {}, (5, 2, 3, 4)),
    "group": ("GroupNorm", (2, 6), {}, (3, 6, 4, 2)),
    "group, no affine": ("GroupNorm", (3, 6), {"affine": False}, (3, 6)),
    "root mean square": ("RMSNorm", ((4, 2),), {}, (3, 4, 2)),
    "response": ("LocalResponseNorm", (3,), {"alpha": 0.5}, (2, 6, 3, 3)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NORMS)
def test_norms_are_pytorchs(name: str, training: bool) -> None:
    kind, args, settings, shape = NORMS[name]
    ours, theirs = getattr(nn, kind)(*args, **settings), getattr(torch.nn, kind)(*args, **settings)
    check(ours.train(training), theirs.train(training), draw(*shape), times=3)


POOLS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]] = {
    "max 1d": ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    "max": ("MaxPool2d", (2,), {}, (2, 3, 6, 7)),
    "max, stem": ("MaxPool2d", (3, 2, 1), {}, (2, 3, 9, 8)),
    "max, dilated": ("MaxPool2d", ((2, 3),), {"stride": 1, "dilation": 2}, (2, 3, 8, 8)),
    "max, ceil": ("MaxPool2d", (3, 2), {"ceil_mode": True}, (2, 3, 8, 6)),
    "max 3d": ("MaxPool3d", (2,), {}, (1, 2, 4, 4, 6)),
    "average 1d": ("AvgPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    "average": ("AvgPool2d", (2,), {}, (2, 3, 6, 7)),
    "average, padded": ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, (2, 3, 7, 8)),
    "average, ceil": ("AvgPool2d", (3, 2), {"ceil_mode": True}, (2, 3, 8, 6)),
    "average, divisor": ("AvgPool2d", (2,), {"divisor_override": 3}, (2, 3, 6, 6)),
    "average 3d": ("AvgPool3d", (2,), {}, (1, 2, 4, 4, 6)),
    "adaptive average": ("AdaptiveAvgPool2d", ((3, 2),), {}, (2, 3, 7, 8)),
    "global": ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 7, 8)),
    "adaptive, one axis kept": ("AdaptiveAvgPool2d", ((None, 2),), {}, (2, 3, 4, 6)),
    "adaptive max": ("AdaptiveMaxPool2d", ((3, 2),), {}, (2, 3, 7, 8)),
    "adaptive 1d": ("AdaptiveAvgPool1d", (4,), {}, (2, 3, 6)),
    "adaptive 3d": ("AdaptiveMaxPool3d", (2,), {}, (1, 2, 3, 4, 5)),
    "norm 1d": ("LPPool1d", (2, 3), {}, (2, 3, 9)),
    "norm": ("LPPool2d", (2, (2, 3)), {"stride": 2}, (2, 3, 7, 8)),
    "norm 3d": ("LPPool3d", (2, 2), {"ceil_mode": True}, (1, 2, 4, 4, 5)),
    "nearest": ("Upsample", (), {"scale_factor": 2}, (2, 3, 4, 5)),
    "nearest 2d": ("UpsamplingNearest2d", (), {"scale_factor": 3}, (2, 3, 4, 5)),
    "bilinear 2d": ("UpsamplingBilinear2d", ((7, 3),), {}, (2, 3, 4, 5)),
    "bilinear": ("Upsample", (), {"size": (7, 3), "mode": "bilinear"}, (2, 3, 4, 5)),
    "bilinear, corners": (
        "Upsample", (), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)
    ),
    "bicubic": ("Upsample", (), {"scale_factor": 1.5, "mode": "bicubic"}, (1, 2, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_pools_are_pytorchs(name: str) -> None:
    kind, args, settings, shape = POOLS[name]
    check(getattr(nn, kind)(*args, **settings), getattr(torch.nn, kind)(*args, **settings), draw(*shape))


def test_indices_of_the_largest() -> None:
    x = draw(2, 3, 6, 6)
    out, where = nn.MaxPool2d(2, return_indices=True)(td.asarray(x))
    expected, places = torch.nn.MaxPool2d(2, return_indices=True)(torch.from_numpy(x))
    np.testing.assert_array_equal(out.numpy(), expected.numpy())
    np.testing.assert_array_equal(where.numpy(), places.numpy())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_unpooling_layers(count: int) -> None:
    shape, pooled, unpooled = (2, 3, 7, 6, 5)[: 2 + count], f"MaxPool{count}d", f"MaxUnpool{count}d"
    x = draw(*shape)
    settings = {"stride": 2, "padding": 1}
    out, where = getattr(nn, pooled)(3, **settings, return_indices=True)(td.asarray(x))
    expected, places = getattr(torch.nn, pooled)(3, **settings, return_indices=True)(torch.from_numpy(x))
    back = getattr(nn, unpooled)(3, **settings)(out, where, shape[2:])
    again = getattr(torch.nn, unpooled)(3, **settings)(expected, places, output_size=shape)
    np.testing.assert_array_equal(back.numpy(), again.numpy())


@pytest.mark.parametrize("count", [2, 3])
def test_fractional_layers(count: int) -> None:
    name, shape = f"FractionalMaxPool{count}d", (2, 3, 7, 8, 9)[: 2 + count]
    x, u = draw(*shape), np.random.default_rng(3).random((2, 3, count), np.float32)
    settings = {"output_ratio": (0.5,) * count, "return_indices": True}
    ours = getattr(nn, name)(2, **settings, _random_samples=u)(td.asarray(x))
    theirs = getattr(torch.nn, name)(2, **settings, _random_samples=torch.from_numpy(u))(torch.from_numpy(x))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(td.ConfigError, match=f"{name}: output_size is None"):
        getattr(nn, name)(2)


def test_settings_are_attributes() -> None:
    layer = nn.AvgPool2d(3, 2)
    assert (layer.kernel_size, layer.stride, layer.ceil_mode) == (3, 2, False)
    layer.stride = 1
    assert layer(td.ones((1, 1, 5, 5))).shape == (1, 1, 3, 3)
    assert "stride=1" in repr(layer)


def test_statistics_move_inside_a_compiled_step() -> None:
    ours, theirs = nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    step = td.compile(ours)
    for seed in range(3):
        x = draw(4, 3, 5, 5, seed=seed) * 2 + 1
        np.testing.assert_allclose(step(x).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.running_var.numpy(), theirs.running_var.numpy(), rtol=1e-5)
    assert int(ours.num_batches_tracked) == 3


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(td.ShapeError, match=r"BatchNorm2d: input .* has 3 axes\. Allowed: 4"):
        nn.BatchNorm2d(3)(td.zeros((2, 3, 4)))
    with pytest.raises(td.ConfigError, match="do not divide into 4 groups"):
        nn.GroupNorm(4, 6)
    with pytest.raises(td.ConfigError, match="num_features is 0"):
        nn.BatchNorm1d(0)


def test_scales_without_shifts_and_batches_of_nothing() -> None:
    for layer in (
        nn.BatchNorm1d(4, bias=False),
        nn.GroupNorm(2, 4, bias=False),
        nn.InstanceNorm1d(4, affine=True, bias=False),
    ):
        assert layer.bias is None
        assert next(iter(layer.state_dict())) == "weight"
        assert layer(td.ones((2, 4, 3))).shape == (2, 4, 3)
    norm = nn.BatchNorm1d(4)
    norm(td.zeros((0, 4, 3)))
    assert norm.running_mean.tolist() == [0] * 4
    assert norm.running_var.tolist() == [1] * 4
