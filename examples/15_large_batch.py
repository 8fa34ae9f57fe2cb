"""Large batches: how far more pictures per step save steps, and which learning rate breaks SGD, Adam, LARS and LAMB.

For each batch size the rate is doubled from a safe one until training no longer reaches the target in the time it has.
Steps fall with the batch as long as gradients are noise, then no more; rates that work are bounded by the loss's
curvature, not by the batch (McCandlish et al. 2018, arXiv:1812.06162; Shallue et al. 2019, arXiv:1811.03600).
"""

import math
import os
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import treadle as td
from treadle import data, nn, optim
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
BATCHES = [32, 512] if SMALL else [64, 512, 4096]
DEPTH, WIDTH = (2, 64) if SMALL else (3, 128)
TARGET = 0.9 if SMALL else 0.85  # of the held-out pictures right
EPOCHS, LEAST = (20, 60) if SMALL else (2, 100)  # time a run has: epochs, but at least so many steps
WARMUP = 0.1  # of that time, in which the rate rises to its value
PICTURE = None if SMALL else Path("large_batch.png")

OPTIMIZERS = {  # and the rate each starts from at the smallest batch
    "SGD": (partial(optim.SGD, momentum=0.9), 0.02),
    "Adam": (optim.Adam, 5e-4),
    "LARS": (partial(optim.LARS, trust_coefficient=0.02), 0.1),
    "LAMB": (optim.LAMB, 5e-3),
}

if SMALL:
    train, test = data.random_split(data.digits(), [0.8, 0.2])
else:
    train, test = data.fashion_mnist("train"), data.fashion_mnist("test")
mean, std = train.arrays[0].mean(), train.arrays[0].std()
(x_train, y_train), (x_test, y_test) = (
    (((part.arrays[0] - mean) / std).reshape(len(part), -1).astype(np.float32), part.arrays[1])
    for part in (train, test)
)
x_test, y_test = x_test[:2048], y_test[:2048]


def steps_to_target(name: str, batch: int, rate: float) -> int | None:
    """Return how many steps training takes to the target; None if it does not get there, or the loss is no number."""
    td.manual_seed(0)
    sizes = [x_train.shape[1], *[WIDTH] * DEPTH]
    layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    opt = OPTIMIZERS[name][0](model.parameters())

    @td.compile
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    @td.compile
    def accuracy(x, y):
        return (model(x).argmax(axis=1) == y).astype("float32").mean()

    limit = max(LEAST, EPOCHS * len(x_train) // batch)
    for i in range(limit):
        opt.param_groups[0].lr = rate * min(1.0, (i + 1) / (WARMUP * limit))
        rows = data.positions(0, i, batch, len(x_train))
        loss = step(x_train[rows], y_train[rows])
        if i % max(1, len(x_test) // batch) == 0:  # looking costs a third of training on as many pictures
            if not math.isfinite(float(loss)):
                return None
            if float(accuracy(x_test, y_test)) >= TARGET:
                return i + 1
    return None


@dataclass(frozen=True)
class Outcome:
    """Fewest steps to the target, the rate that takes them, and the first above it that fails; None: no rate works."""

    steps: int | None = None
    best: float | None = None
    broken: float | None = None

    def __str__(self):
        return "not reached" if self.steps is None else f"{self.steps} at {self.best:g} / {self.broken:g}"


def search(name: str, batch: int, start: float) -> Outcome:
    """Double the rate, from half of `start` on, until it works no more, or five have not worked."""
    tried: dict[float, int] = {}
    for power in count(-1):
        rate = start * 2.0**power
        steps = steps_to_target(name, batch, rate)
        if steps is not None:
            tried[rate] = steps
        elif tried or power == 3:
            break
    if not tried:
        return Outcome()
    best = min(tried, key=tried.__getitem__)
    return Outcome(tried[best], best, rate)


console = Console()
found: dict[str, list[Outcome]] = {}
with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
    task = progress.add_task("", total=len(OPTIMIZERS) * len(BATCHES))
    for name, (_, rate) in OPTIMIZERS.items():
        start, found[name] = rate, []
        for batch in BATCHES:
            progress.update(task, description=f"{name}, batches of {batch}")
            found[name].append(search(name, batch, start))
            start = found[name][-1].best or start  # larger batches like the rates of smaller ones, or higher
            progress.advance(task)

table = Table("batch", *OPTIMIZERS, title=f"steps to {TARGET:.0%} right, at the best rate / the first rate that fails")
for number, batch in enumerate(BATCHES):
    table.add_row(str(batch), *(str(row[number]) for row in found.values()))
console.print(table)

if PICTURE is not None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, row in found.items():
        reached = [(batch, o.steps, o.best, o.broken) for batch, o in zip(BATCHES, row, strict=True) if o.steps]
        batches, steps, best, broken = zip(*reached, strict=True)
        (line,) = left.loglog(batches, steps, "o-", label=name)
        right.loglog(batches, best, "o-", color=line.get_color())
        right.loglog(batches, broken, "x:", color=line.get_color())
    first = max(row[0].steps for row in found.values())
    ideal = [first * BATCHES[0] / batch for batch in BATCHES]
    left.loglog(BATCHES, ideal, "k--", label="twice the batch, half the steps")
    left.set(xlabel="batch", ylabel="steps", title=f"steps to {TARGET:.0%}")
    right.set(xlabel="batch", ylabel="learning rate", title="best rate (o), first that fails (x)")
    left.legend()
    figure.savefig(PICTURE)
    console.print("picture:", PICTURE)

more = BATCHES[-1] / BATCHES[0]
for name, row in found.items():
    assert all(outcome.steps for outcome in row), f"{name} does not reach the target with every batch: {row}"
    assert 2 <= row[0].steps / row[-1].steps < more, f"{name}: steps must fall, by less than the batch grows: {row}"
sgd = found["SGD"]
assert sgd[-1].broken / sgd[0].broken <= more / 4, f"SGD's rates cannot grow in proportion to the batch: {sgd}"
assert min(row[-1].steps for row in found.values()) < sgd[-1].steps, (
    f"SGD is expected not to be the best with the largest batch: {found}"
)
