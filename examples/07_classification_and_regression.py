"""Classification against regression: the same backbone, and what the head, its likelihood and its gradient make of it.

A task is the kind of its target. "Which digit?" has no order, "how ill?" is a grade: classes, but in order. Each head
says which distribution targets have given the features, and the loss is its negative log likelihood:

    regression      one number      Gaussian about it      (y - f)^2 / 2 s^2 + log s
    classification  C logits        categorical            -log softmax(f)[y]
    ordinal         one score       cut at thresholds      -log(s(f - t_(y-1)) - s(f - t_y))
"""

import math
import os
from importlib.util import find_spec

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_diabetes

import treadle as td
from treadle import data, nn, optim
from treadle.nn import functional as F
from treadle.train import Binary, Count, Multiclass, Multilabel, Ordinal, Regression, Task, task_of

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
STEPS = 300 if SMALL else 3000  # on digits
SPLITS = 3 if SMALL else 20  # of the patients
SIZES = [60, 240] if SMALL else [60, 120, 240, 340]
PICTURE = None if SMALL or find_spec("matplotlib") is None else "classification_and_regression.png"
console = Console(width=120)


def show(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print a table; floats with three decimals."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row])
    console.print(table)


def train(model: nn.Module, loss_of, batches, lr: float) -> None:
    """Do a step on each batch, with a rate that falls along a cosine."""
    opt = optim.AdamW(model.parameters(), lr=optim.cosine(lr, lr / 100, len(batches)))

    @td.compile
    def step(*batch):
        loss = loss_of(*batch)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for batch in batches:
        step(*batch)


# --- 1. Gradients where the model is sure of the wrong class


def gradient(loss_of, z: float) -> float:
    """Return the slope of the loss of sigmoid(z) for the target 1."""
    one = td.asarray([1.0])
    return float(td.grad(lambda z: loss_of(z, one))(td.asarray([z]))[0])


def steps_to_learn(loss_of, z: float, most: int = 1000) -> int:
    """Return the steps of gradient descent with rate 1 until sigmoid(z) is above 1/2, at most `most`."""
    for step in range(most):
        if z > 0:
            return step
        z -= gradient(loss_of, z)
    return most


def squared(z, y):
    return F.mse_loss(td.sigmoid(z), y)


LOGITS = [0.0, -2.0, -5.0, -10.0, -20.0]
slopes = {z: (gradient(squared, z), gradient(F.binary_cross_entropy_with_logits, z)) for z in LOGITS}
learnt = (steps_to_learn(squared, -10.0), steps_to_learn(F.binary_cross_entropy_with_logits, -10.0))
show(
    "the truth is 1, the model says sigmoid(z)",
    ["z", "sigmoid(z)", "slope of (s - 1)^2: 2 (s - 1) s (1 - s)", "slope of -log s: s - 1"],
    [[z, f"{1 / (1 + math.exp(-z)):.1e}", *(f"{slope:.1e}" for slope in slopes[z])] for z in LOGITS]
    + [["-10", "steps to unlearn", f"more than {learnt[0]:,}", learnt[1]]],
)
assert abs(slopes[-10.0][0]) < 1e-3, "the squared error of a saturated sigmoid has no slope"
assert abs(slopes[-10.0][1] + 1) < 1e-3, "cross-entropy has the slope s - 1, whatever z"
assert learnt[0] == 1000, learnt
assert learnt[1] < 20, learnt


# --- 2. One backbone, two heads: a digit as a class and as a number


class TwoHeads(nn.Module):
    """Features of an image, and what each task makes of them."""

    def __init__(self, *tasks: Task):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.heads = nn.ModuleList(task.head(64) for task in tasks)

    def forward(self, x):
        features = self.backbone(x)
        return [head(features) for head in self.heads]


def gaussian(mean: np.ndarray, deviation: float, num_classes: int) -> np.ndarray:
    """Return the probabilities [n, C] of class numbers for a normal distribution, rounded: an interval for each."""
    edges = (np.arange(num_classes - 1) + 0.5 - mean[:, None]) / (deviation * math.sqrt(2))
    below = (1 + td.erf(td.asarray(edges)).numpy()) / 2
    return np.diff(below, axis=1, prepend=0.0, append=1.0)


def nats(p: np.ndarray, y: np.ndarray) -> float:
    """Return the mean negative log likelihood of classes, with probabilities of at least 1e-9."""
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-9)).mean())


td.manual_seed(0)
rng = np.random.default_rng(0)
digits = data.digits()
order = rng.permutation(len(digits))
x, y = digits.images.reshape(-1, 64)[order], digits.labels[order]
x_test, y_test = x[1300:], y[1300:]
scaled = ((y - y.mean()) / y.std()).astype(np.float32)  # the two losses weigh about the same

as_class, as_number = Multiclass(10), Regression()
model = TwoHeads(as_class, as_number)
chosen = rng.integers(0, 1300, (STEPS, 128))


def both(x, y, number):
    logits, mean = model(x)
    return as_class.loss(logits, y) + as_number.loss(mean, number)


train(model, both, [(x[i], y[i], scaled[i]) for i in chosen], lr=3e-3)


def answers(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of classes [n, 10] and the number [n] that the two heads give."""
    with td.no_grad():
        logits, mean = model(td.asarray(x))
        return as_class.probabilities(logits).numpy(), as_number.predict(mean).numpy() * y.std() + y.mean()


p, number = answers(x_test)
# The deviation is chosen on the very test set, to the Gaussian's advantage.
p_gaussian = min((gaussian(number, s, 10) for s in np.linspace(0.3, 3, 28)), key=lambda p: nats(p, y_test))
right = [float((p.argmax(axis=1) == y_test).mean()), float((number.round() == y_test).mean())]
likelihoods = [nats(p, y_test), nats(p_gaussian, y_test)]

# Two digits laid over each other: a categorical distribution can have two peaks, a Gaussian is surest in between.
PAIRS = [(0, 8), (1, 7), (2, 8), (3, 9)]
named: list[np.ndarray] = []
blends: list[np.ndarray] = []
for pair in PAIRS:
    one, two = (x_test[y_test == digit][:30] for digit in pair)
    count = min(len(one), len(two))
    blends.append((one[:count] + two[:count]) / 2)
    p_blend, number_blend = answers(blends[-1])
    found = np.stack([p_blend.argmax(axis=1), number_blend.round()])
    named.append(np.isin(found, pair).mean(axis=1))
    if pair == (0, 8):
        print(f"half 0, half 8, as a class: {named[-1][0]:.0%} say 0 or 8; as a number: {number_blend.mean():.1f}")
mixed = np.mean(named, axis=0)
show(
    f"digits, one backbone with two heads, {len(y_test)} test images",
    ["head", "right", "nats", "names one of two digits laid over each other"],
    [
        ["class", right[0], likelihoods[0], float(mixed[0])],
        ["number, rounded", right[1], likelihoods[1], float(mixed[1])],
    ],
)
assert right[0] > (0.94 if SMALL else 0.96), right
assert right[0] > right[1] + 0.1, right
assert likelihoods[0] < 0.5 * likelihoods[1], likelihoods
assert mixed[0] > 0.8, mixed
assert mixed[1] < 0.2, mixed


# --- 3. Between the two: grades
# The grades are uneven on purpose: where they cut a number into steps of about the same size (at the quantiles 0.1,
# 0.3, 0.6 and 0.85, say), a Gaussian about it does as well as the ordinal head.


def grades() -> tuple[np.ndarray, np.ndarray]:
    """Return measurements of 442 diabetics [442, 10] and the grade of their illness a year later: half are at 0."""
    x, progress = load_diabetes(return_X_y=True)
    return (x / x.std(axis=0)).astype(np.float32), np.searchsorted(
        np.quantile(progress, [0.5, 0.7, 0.8, 0.95]), progress
    )


def fitted(task: Task, x: np.ndarray, y: np.ndarray):
    """Return a function from measurements to the output of a linear model."""
    head = task.head(x.shape[1])
    train(head, lambda x, y: task.loss(head(x), y), [(x, y)] * 300, lr=2e-2)
    return lambda x: head(td.asarray(x)).detach()


def grade_probabilities(kind: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Return the probabilities [n, 5] of grades that a head gives to test data."""
    if kind == "regression":
        task, spread = Regression(), y.std()
        output = fitted(task, x, ((y - y.mean()) / spread).astype(np.float32))
        mean, own = (task.predict(output(part)).numpy() * spread + y.mean() for part in (x_test, x))
        return gaussian(mean, float(np.sqrt(np.mean((own - y) ** 2))), 5)
    task = Ordinal(5) if kind == "ordinal" else Multiclass(5)
    return task.probabilities(fitted(task, x, y)(x_test)).numpy()


x_all, grade = grades()
KINDS = ["regression", "ordinal", "classification"]
losses: dict[tuple[str, int], float] = {}
rows: list[list[object]] = []
for size in SIZES:
    found = {kind: [] for kind in KINDS}
    for _ in range(SPLITS):
        order = rng.permutation(len(x_all))
        seen, unseen = order[:size], order[-100:]
        for kind in KINDS:
            p = grade_probabilities(kind, x_all[seen], grade[seen], x_all[unseen])
            median = np.minimum((p.cumsum(axis=1) < 0.5).sum(axis=1), 4)
            found[kind].append((nats(p, grade[unseen]), np.abs(median - grade[unseen]).mean()))
    means = {kind: np.mean(scores, axis=0) for kind, scores in found.items()}
    losses |= {(kind, size): float(means[kind][0]) for kind in KINDS}
    rows.append([size, *(f"{means[kind][0]:.3f}  (wrong by {means[kind][1]:.2f})" for kind in KINDS)])
show(f"grades 0 to 4 of an illness, uneven: nats on 100 unseen patients, {SPLITS} splits", ["patients", *KINDS], rows)
for size in SIZES:
    assert losses["ordinal", size] < min(losses["regression", size], losses["classification", size]), losses


# --- 4. The task says which head, loss and metrics belong to a target, and refuses what does not fit

targets = {
    "binary": y_test > 4,
    "multiclass": y_test,
    "multilabel": np.stack([y_test % 2 == 0, y_test > 4], axis=1),
    "regression": x_test.mean(axis=1),
    "count": (x_test > 0.5).sum(axis=1),
    "ordinal": grade,
}
rows = []
for kind, target in targets.items():
    task = task_of(kind, target)
    head = task.head(64)
    metrics = task.metrics().update(head(td.zeros((len(target), 64))), target).compute()
    shown = ", ".join(f"{name} {value:.2f}" for name, value in metrics.items())
    rows.append([task, type(head).__name__, task.outputs, f"{target.dtype}{list(target.shape)}", shown])
show("tasks, found from their targets, and an untrained head", ["task", "head", "outputs", "targets", "metrics"], rows)

MISTAKES = [
    (Multiclass(10), np.zeros((4, 10)), np.array([0.0, 1.0, 2.0, 3.0])),
    (Multiclass(3), np.zeros((4, 3)), np.array([0, 1, 2, 3])),
    (Multiclass(4), np.zeros((4, 1)), np.array([0, 1, 2, 3])),
    (Binary(), np.zeros((4, 1)), np.array([0, 1, 2, 3])),
    (Multilabel(2), np.zeros((4, 2)), np.array([0, 1, 1, 0])),
    (Regression(), np.zeros((4, 1)), np.zeros((4, 1))),
    (Count(), np.zeros((4, 1)), np.array([0, 1, -2, 3])),
    (Ordinal(4), np.zeros((4, 4)), np.array([0, 1, 2, 3])),
]
refused = []
for task, output, target in MISTAKES:
    try:
        task.loss(output, target)
    except td.TreadleError as error:
        refused.append([type(error).__name__, str(error)])
show("refused", ["error", "message"], refused)
assert len(refused) == len(MISTAKES), "a wrong pairing was taken"

if PICTURE is not None:
    from matplotlib.figure import Figure

    p_blend, number_blend = answers(blends[0])
    torn = np.minimum(p_blend[:, 0], p_blend[:, 8]).argmax()  # the picture that is most of both
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    left, middle, picture = figure.subplots(1, 3)
    z = np.linspace(-12, 4, 200)
    s = 1 / (1 + np.exp(-z))
    left.plot(z, 2 * (1 - s) * s * (1 - s), label="squared error")
    left.plot(z, 1 - s, label="cross-entropy")
    left.set(xlabel="z", title="size of the slope, the truth is 1")
    left.legend()
    middle.bar(np.arange(10) - 0.2, p_blend[torn], 0.4, label="categorical")
    middle.bar(np.arange(10) + 0.2, gaussian(number_blend, 1.0, 10)[torn], 0.4, label="Gaussian")
    middle.set(xlabel="digit", title="probabilities for the picture on the right", xticks=range(10))
    middle.legend()
    picture.imshow(blends[0][torn].reshape(8, 8), cmap="gray_r")
    picture.set(title="half 0, half 8", xticks=[], yticks=[])
    figure.savefig(PICTURE)
    print("picture:", PICTURE)
