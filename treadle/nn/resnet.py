"""Residual networks for images, readable from top to bottom, with torchvision's names of parts.

After He et al. 2016, "Deep residual learning for image recognition" (arXiv:1512.03385). In bottlenecks the 3 x 3
convolution has the stride, not the first one (Goyal et al. 2017, arXiv:1706.02677): the form called v1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor

from . import init
from .activation import Identity, ReLU
from .containers import Sequential
from .conv import Conv2d
from .layers import Linear
from .module import Module
from .norm import BatchNorm2d
from .pool import AdaptiveAvgPool2d, MaxPool2d

WIDTHS = (64, 128, 256, 512)  # of the blocks in each of the four stages


class BasicBlock(Module):
    """Two 3 x 3 convolutions, added to the input, or to the input at the result's size (`downsample`)."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.relu = ReLU()
        self.conv2 = Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, width, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))

    def last_norm(self) -> BatchNorm2d:
        """Return the norm before the sum."""
        return self.bn2


class Bottleneck(Module):
    """A 3 x 3 convolution between two of 1 x 1, from few channels to four times as many; added as in `BasicBlock`."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.conv3 = Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = ReLU()
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, 4 width, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))

    def last_norm(self) -> BatchNorm2d:
        """Return the norm before the sum."""
        return self.bn3


class ResNet(Module):
    """A stem, four stages of residual blocks, the mean over all places, and a linear layer to the classes.

    Takes images [N, in_channels, H, W], returns logits [N, num_classes].

    Args:
        block: `BasicBlock` or `Bottleneck`.
        layers: how many blocks each of the four stages has.
        num_classes: numbers that come out.
        zero_init_residual: let every block begin as the identity: its last norm scales by 0 (Goyal et al. 2017).
        in_channels: of the images.
        small_images: for images of about 32 x 32, as CIFAR's: the stem is one 3 x 3 convolution, instead of one of
            7 x 7 with stride 2 and a pool, which leave an eighth of the side to the stages.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        *,
        in_channels: int = 3,
        small_images: bool = False,
    ) -> None:
        super().__init__()
        if len(layers) != len(WIDTHS) or min(layers) < 1:
            raise ConfigError(f"ResNet: layers is {list(layers)}. It must be {len(WIDTHS)} numbers of at least 1.")
        kernel_size, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = Conv2d(in_channels, WIDTHS[0], kernel_size, stride, kernel_size // 2, bias=False)
        self.bn1 = BatchNorm2d(WIDTHS[0])
        self.relu = ReLU()
        self.maxpool = Identity() if small_images else MaxPool2d(3, 2, 1)
        ends = [WIDTHS[0], *(width * block.expansion for width in WIDTHS)]
        self.layer1 = _stage(block, ends[0], WIDTHS[0], layers[0], 1)
        self.layer2 = _stage(block, ends[1], WIDTHS[1], layers[1], 2)
        self.layer3 = _stage(block, ends[2], WIDTHS[2], layers[2], 2)
        self.layer4 = _stage(block, ends[3], WIDTHS[3], layers[3], 2)
        self.avgpool = AdaptiveAvgPool2d((1, 1))
        self.fc = Linear(ends[4], num_classes)
        self.reset_parameters(zero_init_residual)

    def reset_parameters(self, zero_init_residual: bool = False) -> None:
        """Draw convolutions by He's rule for the way back; norms scale by 1, or where blocks end by 0 if wanted."""
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Linear | BatchNorm2d):
                module.reset_parameters()
        for module in self.modules() if zero_init_residual else ():
            if isinstance(module, BasicBlock | Bottleneck):
                last = module.last_norm().weight
                assert last is not None
                init.zeros_(last)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classes."""
        if x.ndim != 4 or x.shape[1] != self.conv1.in_channels:
            raise ShapeError(f"ResNet: {x.node.type!r} are no images [N, {self.conv1.in_channels}, H, W].")
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(num_classes: int = 1000, **settings: Any) -> ResNet:
    """Return the net of 18 layers; settings are those of `ResNet`."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, **settings)


def resnet34(num_classes: int = 1000, **settings: Any) -> ResNet:
    """Return the net of 34 layers; settings are those of `ResNet`."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, **settings)


def resnet50(num_classes: int = 1000, **settings: Any) -> ResNet:
    """Return the net of 50 layers; settings are those of `ResNet`."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, **settings)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return Sequential(Conv2d(in_channels, out_channels, 1, stride, bias=False), BatchNorm2d(out_channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, count: int, stride: int
) -> Sequential:
    """Return `count` blocks; the first changes the number of channels and the size."""
    rest = [block(width * block.expansion, width) for _ in range(count - 1)]
    return Sequential(block(in_channels, width, stride), *rest)
