"""The image models of the PyTorch peers, as their users write them; attributes are named as in torchvision."""

from torch import Tensor, nn
from torch.nn import functional as F

import vision


def convolution(channels_in: int, channels_out: int, taps: int, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size, or halves it with stride 2."""
    return nn.Conv2d(channels_in, channels_out, taps, stride=stride, padding=taps // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input, or what `downsample` makes of it, goes to the sum."""

    def __init__(self, block: vision.Block) -> None:
        super().__init__()
        self.conv1 = convolution(block.channels_in, block.width, 3, block.stride)
        self.bn1 = nn.BatchNorm2d(block.width)
        self.conv2 = convolution(block.width, block.width, 3)
        self.bn2 = nn.BatchNorm2d(block.width)
        self.downsample = shortcut(block)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, and a sum as in `BasicBlock`."""

    def __init__(self, block: vision.Block) -> None:
        super().__init__()
        self.conv1 = convolution(block.channels_in, block.width, 1)
        self.bn1 = nn.BatchNorm2d(block.width)
        self.conv2 = convolution(block.width, block.width, 3, block.stride)
        self.bn2 = nn.BatchNorm2d(block.width)
        self.conv3 = convolution(block.width, block.channels_out, 1)
        self.bn3 = nn.BatchNorm2d(block.channels_out)
        self.downsample = shortcut(block)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def shortcut(block: vision.Block) -> nn.Module:
    """Return the identity, or a convolution where the shape changes."""
    if not block.projected:
        return nn.Identity()
    projection = convolution(block.channels_in, block.channels_out, 1, block.stride)
    return nn.Sequential(projection, nn.BatchNorm2d(block.channels_out))


class ResNet(nn.Module):
    """A stem, four stages of blocks, the mean over all places, a linear head."""

    def __init__(self, stem: list[nn.Module], blocks: list[nn.Module], counts: tuple[int, ...], fc: nn.Linear) -> None:
        super().__init__()
        self.conv1, self.bn1, self.maxpool = stem
        left = iter(blocks)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*(next(left) for _ in range(count))) for count in counts
        )
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def resnet18() -> ResNet:
    """Return the net of 18 layers in its form for CIFAR."""
    counts = vision.RESNET18_BLOCKS
    stem = [convolution(3, 64, 3), nn.BatchNorm2d(64), nn.Identity()]
    return ResNet(stem, [BasicBlock(block) for block in vision.blocks(counts, 1)], counts, nn.Linear(512, 10))


def resnet50() -> ResNet:
    """Return the net of 50 layers."""
    counts, expansion = vision.RESNET50_BLOCKS, vision.EXPANSION
    stem = [convolution(3, 64, 7, 2), nn.BatchNorm2d(64), nn.MaxPool2d(3, 2, 1)]
    blocks = [Bottleneck(block) for block in vision.blocks(counts, expansion)]
    return ResNet(stem, blocks, counts, nn.Linear(512 * expansion, 1000))


class Autoencoder(nn.Module):
    """Three convolutions down, three transposed ones up."""

    def __init__(self) -> None:
        super().__init__()
        (a, b, c, d), (e, f, g, h) = vision.ENCODER, vision.DECODER
        self.encoder = nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(b, c, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(c, d, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(e, f, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(f, g, 4, stride=2, padding=1), nn.ReLU(),
            nn.ConvTranspose2d(g, h, 4, stride=2, padding=1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def fold_norms(model: nn.Module) -> None:
    """Put each batch normalisation into the convolution before it, as inference allows; the model is in eval mode."""
    for module in list(model.modules()):
        for conv, bn in vision.FOLDED:
            norm = getattr(module, bn, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv, nn.utils.fuse_conv_bn_eval(getattr(module, conv), norm))
                setattr(module, bn, nn.Identity())
