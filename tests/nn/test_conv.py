"""Convolutions against PyTorch's: values and gradients over strides, paddings, dilations and groups; layers; errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import treadle as td
from treadle import nn
from treadle.nn import functional as F

TF = torch.nn.functional


def draw(seed: int, *shape: int, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check(name: str, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, **settings: Any) -> None:
    """Hold a function and its gradients against PyTorch's."""
    ours = [td.asarray(a).requires_grad_() for a in (x, w) + (() if b is None else (b,))]
    theirs = [torch.from_numpy(a).requires_grad_() for a in (x, w) + (() if b is None else (b,))]
    out, expected = getattr(F, name)(*ours, **settings), getattr(TF, name)(*theirs, **settings)
    tolerance = {"rtol": 2e-4, "atol": 2e-4} if x.dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    assert out.shape == tuple(expected.shape)
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), **tolerance)
    towards = draw(9, *out.shape, dtype=x.dtype.str)
    (out * td.asarray(towards)).sum().backward()
    (expected * torch.from_numpy(towards)).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), **tolerance)


CONV2D: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 8, 7), (5, 3, 3, 3), {}),
    "padded": ((2, 3, 8, 7), (5, 3, 3, 3), {"padding": 1}),
    "strided": ((2, 4, 9, 8), (6, 4, 3, 3), {"stride": 2, "padding": 1}),
    "uneven": ((1, 2, 9, 8), (3, 2, 3, 2), {"stride": (2, 3), "padding": (0, 2), "dilation": (1, 2)}),
    "dilated": ((2, 3, 9, 9), (4, 3, 3, 3), {"dilation": 2, "padding": "same"}),
    "same, even kernel": ((2, 3, 6, 6), (4, 3, 2, 4), {"padding": "same"}),
    "groups": ((2, 6, 7, 7), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 6, 7, 7), (6, 1, 3, 3), {"groups": 6, "padding": 1, "stride": 2}),
    "one by one": ((2, 6, 5, 5), (4, 6, 1, 1), {}),
    "one by one, strided": ((2, 6, 5, 5), (4, 6, 1, 1), {"stride": 2}),
    "whole image": ((3, 2, 4, 4), (20, 2, 4, 4), {}),
    "stem": ((1, 3, 20, 20), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "rows left over": ((2, 2, 10, 10), (3, 2, 3, 3), {"stride": 3}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    "wide": ((1, 33, 6, 6), (40, 33, 3, 3), {"padding": 1}),
    "no images": ((0, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CONV2D)
def test_conv2d_is_pytorchs(name: str, bias: bool) -> None:
    x, w, settings = CONV2D[name]
    check("conv2d", draw(0, *x), draw(1, *w), draw(2, w[0]) if bias else None, **settings)


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}])
def test_conv1d_and_conv3d_are_pytorchs(settings: dict[str, Any]) -> None:
    g = settings.get("groups", 1)
    check("conv1d", draw(0, 2, 4, 11), draw(1, 6, 4 // g, 3), draw(2, 6), **settings)
    check("conv3d", draw(0, 2, 4, 6, 5, 7), draw(1, 6, 4 // g, 3, 2, 3), draw(2, 6), **settings)


TRANSPOSED: dict[str, dict[str, Any]] = {
    "plain": {},
    "doubling": {"stride": 2, "padding": 1},
    "output padding": {"stride": 2, "padding": 1, "output_padding": 1},
    "dilated": {"dilation": 2, "padding": 1},
    "uneven": {"stride": (3, 2), "padding": (1, 0), "output_padding": (2, 0)},
    "groups": {"stride": 2, "groups": 2},
}


@pytest.mark.parametrize("name", TRANSPOSED)
def test_conv_transpose2d_is_pytorchs(name: str) -> None:
    settings = TRANSPOSED[name]
    k = 6 // settings.get("groups", 1)
    check("conv_transpose2d", draw(0, 2, 4, 5, 6), draw(1, 4, k, 4, 3), draw(2, 6), **settings)


def test_conv_transpose1d_and_3d_are_pytorchs() -> None:
    check("conv_transpose1d", draw(0, 2, 4, 5), draw(1, 4, 3, 3), draw(2, 3), stride=2, padding=1)
    check("conv_transpose3d", draw(0, 1, 2, 3, 4, 3), draw(1, 2, 3, 2, 3, 2), draw(2, 3), stride=2)


def test_an_image_without_a_batch() -> None:
    check("conv2d", draw(0, 3, 6, 6), draw(1, 4, 3, 3, 3), draw(2, 4), padding=1)


def test_float64() -> None:
    check("conv2d", draw(0, 2, 3, 8, 8, dtype="f8"), draw(1, 4, 3, 3, 3, dtype="f8"), None, stride=2, padding=1)


def test_second_gradients_are_pytorchs() -> None:
    x, w = draw(0, 1, 2, 6, 6, dtype="f8"), draw(1, 3, 2, 3, 3, dtype="f8")

    def inner(x: td.Tensor, w: td.Tensor) -> td.Tensor:
        return (F.conv2d(x, w, stride=2, padding=1) ** 3).sum()

    first = td.grad(inner, argnums=(0, 1))
    second = td.grad(lambda x, w: sum((g * g).sum() for g in first(x, w)), argnums=(0, 1))
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    grads = torch.autograd.grad((TF.conv2d(tx, tw, stride=2, padding=1) ** 3).sum(), (tx, tw), create_graph=True)
    expected = torch.autograd.grad(sum((g * g).sum() for g in grads), (tx, tw))
    for mine, other in zip(second(td.asarray(x), td.asarray(w)), expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_on_any_number_of_threads(threads: int) -> None:
    def run() -> list[bytes]:
        x, w = (
            td.asarray(draw(s, *shape)).requires_grad_() for s, shape in ((0, (4, 16, 12, 12)), (1, (24, 16, 3, 3)))
        )
        out = F.relu(F.conv2d(x, w, padding=1))
        out.sum().backward()
        return [t.numpy().tobytes() for t in (out, x.grad, w.grad)]

    before = td.config.threads
    try:
        td.config.threads = 1
        expected = run()
        td.config.threads = threads
        assert run() == expected
    finally:
        td.config.threads = before


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_layers_are_pytorchs(mode: str) -> None:
    settings: dict[str, Any] = {"stride": 2, "padding": 1, "padding_mode": mode}
    ours, theirs = nn.Conv2d(3, 4, 3, **settings), torch.nn.Conv2d(3, 4, 3, **settings)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x = draw(0, 2, 3, 7, 8)
    np.testing.assert_allclose(
        ours(td.asarray(x)).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-5
    )


def test_a_transposed_layer_takes_an_output_size() -> None:
    ours, theirs = nn.ConvTranspose2d(3, 4, 3, stride=2), torch.nn.ConvTranspose2d(3, 4, 3, stride=2)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    x = draw(0, 2, 3, 5, 5)
    np.testing.assert_allclose(
        ours(td.asarray(x)).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-5
    )


def test_over_time_first() -> None:
    x, w, b = draw(0, 6, 2, 3), draw(1, 3, 3, 4), draw(2, 4)
    for pad in (0, 2):
        found = F.conv_tbc(td.asarray(x), td.asarray(w), td.asarray(b), pad)
        expected = torch.conv_tbc(*map(torch.from_numpy, (x, w, b)), pad)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    with pytest.raises(td.ShapeError, match=r"conv_tbc: input .* must be \[T, N, C\]"):
        F.conv_tbc(td.asarray(x)[0], td.asarray(w), td.asarray(b))


def test_what_does_not_fit_is_named() -> None:
    x, w = td.asarray(draw(0, 1, 3, 5, 5)), td.asarray(draw(1, 4, 3, 3, 3))
    with pytest.raises(td.TreadleError, match="channels"):
        F.conv2d(x, td.asarray(draw(1, 4, 2, 3, 3)))
    with pytest.raises(td.TreadleError, match="kernel"):
        F.conv2d(x, td.asarray(draw(1, 4, 3, 7, 7)))
    with pytest.raises(td.TreadleError, match="stride"):
        F.conv2d(x, w, stride=0)


def test_a_trained_step_is_compiled_once_and_matches() -> None:
    td.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU())
    x = td.asarray(draw(0, 4, 1, 10, 10))

    def loss() -> td.Tensor:
        return (model(x) ** 2).mean()

    loss().backward()
    expected = {n: p.grad.numpy() for n, p in model.named_parameters()}
    model.zero_grad()

    @td.compile
    def step() -> td.Tensor:
        value = loss()
        value.backward()
        return value

    step()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), expected[name], rtol=1e-4, atol=1e-6)
