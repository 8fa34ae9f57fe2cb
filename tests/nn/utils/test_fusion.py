"""A layer and the batch normalisation behind it as one layer, against what both give and against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from tests.nn.functional.peer import draw
from treadle import nn
from treadle.core import ConfigError, ShapeError


def norm(rank: int, channels: int, affine: bool = True) -> Any:
    """Return a normalisation in inference with statistics of its own."""
    layer = getattr(nn, f"BatchNorm{rank}d")(channels, affine=affine)
    layer.running_mean.value = draw(channels, seed=1)
    layer.running_var.value = np.abs(draw(channels, seed=2)) + 0.1
    if affine:
        layer.weight.value, layer.bias.value = draw(channels, seed=3), draw(channels, seed=4)
    return layer.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("rank", "transpose"), [(1, False), (2, False), (3, False), (1, True), (2, True), (3, True)], ids=str
)
def test_convolutions(rank: int, transpose: bool, affine: bool, bias: bool) -> None:
    conv = getattr(nn, f"Conv{'Transpose' if transpose else ''}{rank}d")(2, 3, 2, bias=bias).eval()
    bn, x = norm(rank, 3, affine), td.asarray(draw(2, 2, *[4] * rank))
    before = conv.weight.numpy()
    fused = nn.utils.fuse_conv_bn_eval(conv, bn, transpose)
    np.testing.assert_allclose(fused(x).numpy(), bn(conv(x)).numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(conv.weight.numpy(), before)  # the layers given stay as they are
    assert type(fused) is type(conv)


def test_linear() -> None:
    linear, bn, x = nn.Linear(4, 3).eval(), norm(1, 3), td.asarray(draw(5, 4))
    fused = nn.utils.fuse_linear_bn_eval(linear, bn)
    np.testing.assert_allclose(fused(x).numpy(), bn(linear(x)).numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transpose", [False, True])
def test_weights_are_pytorchs(transpose: bool) -> None:
    w = draw(2, 3, 2) if transpose else draw(3, 2, 2)
    rest = [draw(3, seed=k) if k != 3 else np.abs(draw(3, seed=k)) for k in (1, 2, 3)]
    args: Any = (1e-5, draw(3, seed=5), draw(3, seed=6))
    found = nn.utils.fuse_conv_bn_weights(w, *rest, *args, transpose)
    theirs = [torch.tensor(a) if isinstance(a, np.ndarray) else a for a in (w, *rest, *args)]
    for ours, want in zip(found, torch.nn.utils.fuse_conv_bn_weights(*theirs, transpose), strict=True):
        np.testing.assert_allclose(ours.numpy(), want.detach().numpy(), rtol=1e-5, atol=1e-6)
        assert isinstance(ours, nn.Parameter)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: nn.utils.fuse_conv_bn_eval(nn.Conv1d(2, 3, 2), norm(1, 3)), ConfigError, "Call eval.. first"),
        (
            lambda: nn.utils.fuse_linear_bn_eval(nn.Linear(2, 3).eval(), nn.BatchNorm1d(3)),
            ConfigError,
            "fuse_linear_bn_eval: layers are in training",
        ),
        (
            lambda: nn.utils.fuse_linear_bn_eval(
                nn.Linear(2, 3).eval(), nn.BatchNorm1d(3, track_running_stats=False).eval()
            ),
            ConfigError,
            "no running statistics",
        ),
        (
            lambda: nn.utils.fuse_conv_bn_eval(nn.ConvTranspose1d(2, 3, 2).eval(), norm(1, 3)),
            ShapeError,
            "2 outputs are normalised by a mean",
        ),
    ],
)
def test_errors(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
