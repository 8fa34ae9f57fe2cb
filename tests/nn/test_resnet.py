"""Residual networks against the same nets written in PyTorch; their sizes against the published ones."""

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import ConfigError, ShapeError
from treadle.nn.resnet import BasicBlock, Bottleneck

torch = pytest.importorskip("torch")


class Block(torch.nn.Module):
    """The residual block of either kind, as a PyTorch user writes it; `kernels` are those of its convolutions."""

    def __init__(self, channels, width, out, stride, kernels):
        super().__init__()
        sizes = [channels, *[width] * (len(kernels) - 1), out]
        strides = [1] * len(kernels)
        strides[kernels.index(3)] = stride
        for i, (a, b, k, s) in enumerate(zip(sizes, sizes[1:], kernels, strides, strict=False), 1):
            setattr(self, f"conv{i}", torch.nn.Conv2d(a, b, k, s, k // 2, bias=False))
            setattr(self, f"bn{i}", torch.nn.BatchNorm2d(b))
        self.count, self.downsample = len(kernels), None
        if stride != 1 or channels != out:
            short = torch.nn.Conv2d(channels, out, 1, stride, bias=False)
            self.downsample = torch.nn.Sequential(short, torch.nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = torch.relu(y) if i < self.count else y
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Peer(torch.nn.Module):
    def __init__(self, kernels, expansion, layers, classes, channels, small):
        super().__init__()
        size, stride = (3, 1) if small else (7, 2)
        self.conv1 = torch.nn.Conv2d(channels, 64, size, stride, size // 2, bias=False)
        self.bn1, self.small = torch.nn.BatchNorm2d(64), small
        before = 64
        for i, count in enumerate(layers):
            width = 64 << i
            blocks = []
            for j in range(count):
                blocks.append(Block(before, width, width * expansion, 2 if i and not j else 1, kernels))
                before = width * expansion
            setattr(self, f"layer{i + 1}", torch.nn.Sequential(*blocks))
        self.fc = torch.nn.Linear(before, classes)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = x if self.small else torch.nn.functional.max_pool2d(x, 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def pair(kind, layers, *, small, channels=3):
    torch.manual_seed(0)
    kernels, expansion = ([3, 3], 1) if kind is BasicBlock else ([1, 3, 1], 4)
    peer = Peer(kernels, expansion, layers, 5, channels, small)
    for module in peer.modules():  # norms that are not the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.1)
    model = nn.ResNet(kind, layers, 5, in_channels=channels, small_images=small)
    model.load_state_dict({name: value.numpy() for name, value in peer.state_dict().items()})
    return model, peer


@pytest.mark.parametrize(
    ("make", "size"), [(nn.resnet18, 11_689_512), (nn.resnet34, 21_797_672), (nn.resnet50, 25_557_032)]
)
def test_sizes_are_those_published(make, size):
    assert sum(p.size for p in make().parameters()) == size


def test_keys_are_torchvisions():
    names = set(nn.resnet50(10).state_dict())
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert {"conv1.weight", "fc.weight", "fc.bias"} | {f"bn1.{n}" for n in norm} <= names
    assert {f"layer1.0.conv{i}.weight" for i in (1, 2, 3)} <= names
    assert {"layer1.0.downsample.0.weight"} | {f"layer1.0.downsample.1.{n}" for n in norm} <= names
    assert not any(name.startswith("layer1.1.downsample") for name in names)
    assert "layer3.5.bn3.running_var" in names
    assert len(names) == 53 + 53 * 5 + 2  # convolutions, norms, the linear layer


@pytest.mark.parametrize(
    ("kind", "layers", "small"),
    [(BasicBlock, (2, 1, 1, 1), True), (BasicBlock, (1, 1, 1, 1), False), (Bottleneck, (1, 2, 1, 1), True)],
)
def test_results_are_pytorchs(kind, layers, small):
    model, peer = pair(kind, layers, small=small)
    assert [*model.state_dict()] == [*peer.state_dict()]
    x = np.random.default_rng(0).standard_normal((2, 3, 16 if small else 32, 32), dtype=np.float32)
    with torch.no_grad():
        for mode in (True, False):  # in training first: it changes the running statistics that inference uses
            ours, theirs = model.train(mode)(td.asarray(x)), peer.train(mode)(torch.tensor(x))
            np.testing.assert_allclose(np.asarray(ours), theirs.numpy(), rtol=2e-3, atol=2e-3)


def test_gradients_of_a_compiled_step_are_pytorchs():
    model, peer = pair(BasicBlock, (1, 1, 1, 1), small=True, channels=1)
    x = np.random.default_rng(0).standard_normal((4, 1, 16, 16), dtype=np.float32)
    y = np.array([0, 1, 2, 3])

    @td.compile
    def step(x, y):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    loss = torch.nn.functional.cross_entropy(peer(torch.tensor(x)), torch.tensor(y))
    loss.backward()
    assert float(step(x, y)) == pytest.approx(loss.item(), rel=1e-4)
    theirs = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    for name, parameter in model.named_parameters():
        scale = np.abs(theirs[name]).max()
        np.testing.assert_allclose(np.asarray(parameter.grad), theirs[name], rtol=0, atol=2e-3 * scale, err_msg=name)


def test_blocks_may_begin_as_the_identity():
    model = nn.resnet18(10, zero_init_residual=True, small_images=True, in_channels=1)
    assert not np.asarray(model.layer3[1].bn2.weight).any()
    x = td.asarray(np.random.default_rng(0).random((1, 64, 8, 8), dtype=np.float32))
    np.testing.assert_array_equal(np.asarray(model.layer1(x)), np.asarray(x))


def test_wrong_sizes_are_named():
    with pytest.raises(ConfigError, match=r"layers is \[2, 2\]. It must be 4 numbers"):
        nn.ResNet(BasicBlock, (2, 2))
    with pytest.raises(ShapeError, match=r"f32\[2,1,8,8\] are no images \[N, 3, H, W\]"):
        nn.resnet18(10)(td.zeros((2, 1, 8, 8)))


def test_parts_are_named_and_ordered_as_torchvisions():
    model = nn.resnet18()
    names = "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool fc"
    assert [name for name, _ in model.named_children()] == names.split()
    assert [name for name, _ in model.layer1[0].named_children()] == ["conv1", "bn1", "relu", "conv2", "bn2"]
    block = "conv1 bn1 relu conv2 bn2 downsample"
    assert [name for name, _ in model.layer2[0].named_children()] == block.split()
    bottleneck = "conv1 bn1 conv2 bn2 conv3 bn3 relu downsample"
    assert [name for name, _ in nn.resnet50().layer1[0].named_children()] == bottleneck.split()


@pytest.mark.parametrize("small", [False, True])
def test_a_net_without_its_last_layer_is_a_row_of_its_parts(small):
    model, x = nn.resnet18(3, small_images=small).eval(), td.random.randn(2, 3, 32, 32)
    features = nn.Sequential(*list(model.children())[:-1])(x)
    seen = []
    model.avgpool.register_forward_hook(lambda module, args, result: seen.append(result))
    logits = model(x)
    assert features.shape == (2, 512, 1, 1)
    np.testing.assert_array_equal(seen[0].numpy(), features.numpy())
    np.testing.assert_allclose(model.fc(features.flatten(1)).numpy(), logits.numpy(), atol=1e-5)
