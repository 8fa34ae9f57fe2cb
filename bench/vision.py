"""The image models of the comparison: initial values and data of T2, T5 and I1. Keys are torchvision's."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from values import F32, Batch, Values, convolution, normal

RESNET18_WIDTHS, RESNET18_BLOCKS, RESNET18_BATCH = (64, 128, 256, 512), (2, 2, 2, 2), 32
RESNET18_LR, RESNET18_MOMENTUM = 0.01, 0.9
RESNET50_BLOCKS, EXPANSION = (3, 4, 6, 3), 4
FOLDED = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))  # a convolution and the norm behind it
BN_EPS, BN_MOMENTUM = 1e-5, 0.1

ENCODER, DECODER, AUTOENCODER_BATCH = (3, 32, 64, 128), (128, 64, 32, 3), 32
AUTOENCODER_LR, AUTOENCODER_BETAS, AUTOENCODER_EPS = 1e-3, (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Block:
    """One residual block: its path in the state dict, what goes in, its width, what comes out, its stride."""

    path: str
    channels_in: int
    width: int
    channels_out: int
    stride: int

    @property
    def projected(self) -> bool:
        """Whether the shortcut is a convolution: the shape changes."""
        return self.stride != 1 or self.channels_in != self.channels_out


def blocks(counts: tuple[int, ...], expansion: int) -> Iterator[Block]:
    """Yield the blocks of a residual network; the first of each stage but the first halves the image."""
    channels = 64
    for stage, (width, count) in enumerate(zip(RESNET18_WIDTHS, counts, strict=True)):
        for k in range(count):
            stride = 2 if stage and not k else 1
            yield Block(f"layer{stage + 1}.{k}.", channels, width, width * expansion, stride)
            channels = width * expansion


def fresh_norm(path: str, channels: int) -> Values:
    """Return batch normalisation that has seen nothing yet."""
    return {
        path + ".weight": np.ones(channels, F32),
        path + ".bias": np.zeros(channels, F32),
        path + ".running_mean": np.zeros(channels, F32),
        path + ".running_var": np.ones(channels, F32),
        path + ".num_batches_tracked": np.zeros((), np.int64),
    }


def trained_norm(rng: np.random.Generator, path: str, channels: int, scale: float = 1.0) -> Values:
    """Return batch normalisation as if trained: shift, mean and variance are drawn."""
    return fresh_norm(path, channels) | {
        path + ".weight": np.full(channels, scale, F32),
        path + ".bias": normal(rng, (channels,), 0.1),
        path + ".running_mean": normal(rng, (channels,), 0.1),
        path + ".running_var": 1 + np.abs(normal(rng, (channels,), 0.1)),
    }


def resnet18() -> Values:
    """Return ResNet-18 in its form for CIFAR: a stem of one 3x3 convolution with stride 1, no pooling behind it."""
    rng = np.random.default_rng(0)
    values: Values = {"conv1.weight": convolution(rng, 3, 64, 3), **fresh_norm("bn1", 64)}
    for block in blocks(RESNET18_BLOCKS, 1):
        at, width = block.path, block.width
        values[at + "conv1.weight"] = convolution(rng, block.channels_in, width, 3)
        values |= fresh_norm(at + "bn1", width)
        values[at + "conv2.weight"] = convolution(rng, width, width, 3)
        values |= fresh_norm(at + "bn2", width)
        if block.projected:
            values[at + "downsample.0.weight"] = convolution(rng, block.channels_in, width, 1)
            values |= fresh_norm(at + "downsample.1", width)
    values["fc.weight"] = normal(rng, (10, 512), 512**-0.5)
    values["fc.bias"] = np.zeros(10, F32)
    return values


def resnet18_batch() -> Batch:
    rng = np.random.default_rng(1)
    return rng.standard_normal((RESNET18_BATCH, 3, 32, 32), dtype=F32), rng.integers(0, 10, RESNET18_BATCH)


def resnet50() -> Values:
    """Return ResNet-50 v1.5 (the stride in the 3x3 convolution), batch normalisation as if trained."""
    rng = np.random.default_rng(0)
    values: Values = {"conv1.weight": convolution(rng, 3, 64, 7), **trained_norm(rng, "bn1", 64)}
    for block in blocks(RESNET50_BLOCKS, EXPANSION):
        at, width, out = block.path, block.width, block.channels_out
        values[at + "conv1.weight"] = convolution(rng, block.channels_in, width, 1)
        values |= trained_norm(rng, at + "bn1", width)
        values[at + "conv2.weight"] = convolution(rng, width, width, 3)
        values |= trained_norm(rng, at + "bn2", width)
        values[at + "conv3.weight"] = convolution(rng, width, out, 1)
        values |= trained_norm(rng, at + "bn3", out, 0.2)  # small, so that the sum over the blocks does not grow
        if block.projected:
            values[at + "downsample.0.weight"] = convolution(rng, block.channels_in, out, 1)
            values |= trained_norm(rng, at + "downsample.1", out)
    values["fc.weight"] = normal(rng, (1000, 2048), 0.01)
    values["fc.bias"] = np.zeros(1000, F32)
    return values


def resnet50_batch() -> Batch:
    return (np.random.default_rng(1).standard_normal((1, 3, 224, 224), dtype=F32),)


def autoencoder() -> Values:
    """Return the autoencoder: 3x3 convolutions with stride 2 down, 4x4 transposed ones [in, out, 4, 4] up."""
    rng = np.random.default_rng(0)
    values: Values = {}
    for i, (channels_in, channels_out) in enumerate(pairwise(ENCODER)):
        # 2 * i: the position of the convolution in a Sequential of convolutions and activations.
        values[f"encoder.{2 * i}.weight"] = convolution(rng, channels_in, channels_out, 3)
        values[f"encoder.{2 * i}.bias"] = np.zeros(channels_out, F32)
    for i, (channels_in, channels_out) in enumerate(pairwise(DECODER)):
        # With stride 2, four of the sixteen taps meet in one result.
        std = (2 / (4 * channels_in)) ** 0.5
        values[f"decoder.{2 * i}.weight"] = normal(rng, (channels_in, channels_out, 4, 4), std)
        values[f"decoder.{2 * i}.bias"] = np.zeros(channels_out, F32)
    return values


def autoencoder_batch() -> Batch:
    """Return images, and the same images as what is to come out."""
    x = np.random.default_rng(1).random((AUTOENCODER_BATCH, 3, 32, 32), dtype=F32)
    return x, x
