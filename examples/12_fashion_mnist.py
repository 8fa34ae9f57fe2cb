"""Pictures of clothes told apart: a small convolutional net on Fashion-MNIST, or ResNet-18 with `--model resnet18`.

ResNet-18 takes 60 times the arithmetic for each picture, so it gets one epoch of a part of them unless told otherwise.
Data come from Debian's package dataset-fashion-mnist or from the web; the small setting takes scikit-learn's digits.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import treadle as td
from treadle import data, inspect, metrics, nn, optim
from treadle.data import transforms
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
PICTURE = None if SMALL else Path("fashion_mnist_confusion.png")


@dataclass(frozen=True)
class Setting:
    """How a model is trained, and the share of the test set it must get right."""

    accuracy: float
    epochs: int
    rate: float
    batch: int = 128
    pictures: int = 60_000


SETTINGS = {
    "cnn": Setting(0.95, 12, 1e-2) if SMALL else Setting(0.91, 5, 1e-2),
    "resnet18": Setting(0.7, epochs=1, rate=2e-3, batch=64, pictures=4096),
}

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", choices=SETTINGS, default="cnn")
parser.add_argument("--epochs", type=int)
parser.add_argument("--pictures", type=int, help="how many of the training pictures are used, and half as many tested")
options = parser.parse_args()
setting = SETTINGS[options.model]
epochs, pictures = options.epochs or setting.epochs, options.pictures or setting.pictures
console = Console()


class CNN(nn.Module):
    """Three convolutions, each normalised and then halved in size, and a linear layer."""

    def __init__(self, size: int, classes: int, widths: tuple[int, ...] = (32, 64, 128)):
        super().__init__()
        channels = zip((1, *widths), widths, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(widths[-1] * (size >> len(widths)) ** 2, classes)

    def forward(self, images):
        x = images
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(F.max_pool2d(conv(x), 2)))
        return self.head(self.drop(x.reshape(x.shape[0], -1)))


if SMALL:
    digits = data.digits()
    classes = digits.classes
    train, test = data.random_split(digits, [0.75, 0.25])
    change = transforms.RandomCrop(8, padding=1)  # digits are not to be mirrored
else:
    train, test = data.fashion_mnist("train"), data.fashion_mnist("test")
    classes = train.classes
    change = transforms.RandomHorizontalFlip()

train = data.ArrayDataset(*(array[:pictures] for array in train.arrays))
test = data.ArrayDataset(*(array[: pictures // 2] for array in test.arrays))
images = train.arrays[0]
normalize = transforms.Normalize(float(images.mean()), float(images.std()))
train_loader = data.DataLoader(
    train, setting.batch, shuffle=True, drop_last=True, prefetch=2,
    transform=transforms.OnImages(transforms.Compose(change, normalize)),
)  # fmt: skip
test_loader = data.DataLoader(test, 128, transform=transforms.OnImages(normalize))

td.manual_seed(0)
model = CNN(images.shape[-1], len(classes))
if options.model == "resnet18":
    model = nn.resnet18(len(classes), in_channels=1, small_images=True)
steps = epochs * len(train_loader)
schedule = optim.warmup(steps // 10, optim.cosine(setting.rate, 1e-5, steps - steps // 10))
opt = optim.AdamW(model.parameters(), lr=schedule, weight_decay=0.02)


@td.compile
def step(x, y):
    loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


@td.compile
def predict(x):
    return model(x)


def evaluate() -> np.ndarray:
    """Return the counts of the test set: rows the true class, columns the predicted one."""
    model.eval()
    confusion = metrics.ConfusionMatrix(len(classes))
    for x, y in test_loader:
        confusion.update(predict(x), y)
    model.train()
    return confusion.compute()


console.print(f"{sum(p.size for p in model.parameters()):,} parameters, {len(train):,} pictures, {epochs} epochs")
history = Table("epoch", "loss", "test accuracy", "seconds")
with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
    task = progress.add_task("training", total=steps)
    for epoch in range(epochs):
        start, loss = perf_counter(), metrics.Mean()
        for x, y in train_loader:
            loss.update(step(x, y))
            progress.advance(task)
        counts = evaluate()
        accuracy = counts.trace() / counts.sum()
        history.add_row(str(epoch + 1), f"{loss.compute():.3f}", f"{accuracy:.2%}", f"{perf_counter() - start:.1f}")
        progress.update(task, description=f"epoch {epoch + 1}: {accuracy:.2%}")
console.print(history)

report = Table("class", "found", "right when named", "most often taken for")
for number, name in enumerate(classes):
    own, named = counts[number, number], counts[:, number].sum()
    others = np.where(np.arange(len(classes)) == number, 0, counts[number])
    wrong = f"{classes[others.argmax()]}, {others.max():.0f} times" if others.any() else "-"
    report.add_row(name, f"{own / counts[number].sum():.1%}", f"{own / max(named, 1):.1%}", wrong)
console.print(report)
if PICTURE is not None:
    inspect.plot_confusion(counts.astype(int), classes, PICTURE, title=f"{options.model}: {accuracy:.2%} right")
    console.print("picture:", PICTURE)

assert accuracy >= setting.accuracy, f"{accuracy:.2%} of the test set, not {setting.accuracy:.0%}"
