"""Kernels of compiled convolutions: what is part of them, and that values are those of the ops one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import config
from treadle.nn import functional as F

Array = np.ndarray[Any, Any]


def drawn(*shape: int) -> td.Tensor:
    return td.asarray(np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32))


class Block(nn.Module):
    """A convolution, its normalisation, a sum with another image."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: td.Tensor, y: td.Tensor) -> td.Tensor:
        return F.relu(self.norm(self.conv(F.relu(x))) + y)


@pytest.mark.parametrize(("kernel", "kind"), [(3, "conv"), (1, "matmul")])
def test_normalisation_in_inference_is_a_scale_and_a_shift_in_the_kernel_of_the_convolution(
    kernel: int, kind: str
) -> None:
    first, second = Block(kernel).eval(), Block(kernel).eval()
    x = drawn(2, 16, 24, 20)

    @td.compile
    def predict(x: td.Tensor) -> td.Tensor:
        with td.no_grad():
            y = first(x, x)
            return second(y, y).sum(axis=(2, 3))

    kernels = [call.step.kernel for call in predict.plan(x).calls]
    heavy = [k for k in kernels if k.kind == kind]
    assert len(heavy) == 2
    assert all("rsqrt" not in k.text and "sqrt" not in k.text for k in heavy)
    large = [k for k in kernels if k.nbytes >= x.size * 4 and k.kind == "loop"]
    # Besides the convolutions only relu of the input, channels last for the first, and the last sum pass over images.
    assert all("rsqrt" not in k.name and "multiply" not in k.name for k in large), [k.name for k in large]
    with td.no_grad():
        y = first(x, x)
        wanted = np.asarray(second(y, y).sum(axis=(2, 3)))
    np.testing.assert_allclose(np.asarray(predict(x)), wanted, rtol=1e-4, atol=1e-3)


def kinds(function: Any, *args: td.Tensor) -> list[str]:
    return [call.step.kernel.kind for call in function.plan(*args).calls]


def test_few_channels_out_are_one_kernel_with_all_that_follows() -> None:
    up = nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1)

    @td.compile
    def last(x: td.Tensor) -> td.Tensor:
        with td.no_grad():
            return F.sigmoid(up(x))

    x = drawn(2, 32, 16, 16)
    assert kinds(last, x) == ["conv_planes"]
    with td.no_grad():
        np.testing.assert_allclose(np.asarray(last(x)), np.asarray(F.sigmoid(up(x))), rtol=1e-4, atol=1e-5)


def test_an_inverted_bottleneck_of_large_images_is_three_kernels() -> None:
    wide, deep, thin = nn.Conv2d(8, 48, 1), nn.Conv2d(48, 48, 3, padding=1, groups=48), nn.Conv2d(48, 8, 1)

    @td.compile
    def block(x: td.Tensor) -> td.Tensor:
        with td.no_grad():
            return x + thin(F.relu6(deep(F.relu6(wide(x)))))

    x = drawn(2, 8, 28, 28)
    assert kinds(block, x) == ["matmul", "conv_planes", "matmul"]
    with td.no_grad():
        wanted = np.asarray(x + thin(F.relu6(deep(F.relu6(wide(x))))))
    np.testing.assert_allclose(np.asarray(block(x)), wanted, rtol=1e-4, atol=1e-4)


def test_gradients_of_layers_with_few_channels_have_the_same_bits_for_every_number_of_threads() -> None:
    net = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.ReLU(), nn.Conv2d(20, 3, 3, padding=1))
    x = drawn(3, 3, 25, 23)

    def step(x: td.Tensor) -> tuple[td.Tensor, ...]:
        for p in net.parameters():
            p.grad = None
        (net(x) ** 2).sum().backward()
        return tuple(p.grad for p in net.parameters() if p.grad is not None)

    found: list[list[Array]] = []
    for threads in (1, 2, 5):
        with config(threads=threads):
            found.append([np.asarray(g) for g in td.compile(step)(x)])
    assert len(found[0]) == 4
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


class Skip(nn.Module):
    """Images of few and of many channels that meet: as parts side by side, and as a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(3, 16, 3, padding=1)
        self.narrow = nn.Conv2d(16, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.back = nn.Conv2d(4, 16, 3, padding=1)
        self.last = nn.Conv2d(20, 2, 3, padding=1)

    def forward(self, x: td.Tensor) -> td.Tensor:
        wide = F.relu(self.wide(x))
        narrow = F.relu(self.norm(self.narrow(wide)))
        return self.last(td.concat((narrow, wide + self.back(narrow) * narrow.mean()), axis=1))


def test_values_in_either_order_meet_and_settle() -> None:
    """Each order would turn the other for ever, did both move."""
    model = Skip()
    x = drawn(2, 3, 21, 22)

    def loss(x: td.Tensor) -> tuple[td.Tensor, list[td.Tensor]]:
        model.zero_grad()
        value = (model(x) ** 2).mean()
        value.backward()
        return value, [p.grad for p in model.parameters() if p.grad is not None]

    value, gradients = td.compile(loss)(x)
    wanted, wanted_gradients = loss(x)
    np.testing.assert_allclose(float(value), float(wanted), rtol=1e-5)
    for got, want in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(np.asarray(got), np.asarray(want), rtol=1e-3, atol=1e-5)
