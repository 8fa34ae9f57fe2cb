"""A classifier of small pictures of digits, made up here: one compiled function is the whole training step."""

import os

import numpy as np

import treadle as td
from treadle import data, nn, optim

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
EPOCHS = 3 if SMALL else 12

DIGITS = """
 ###   #   ###  ###  # #  ###  #    ###  ###  ###
 # #  ##     #    #  # #  #    #      #  # #  # #
 # #   #   ###  ###  ###  ###  ###    #  ###  ###
 # #   #   #      #    #    #  # #    #  # #    #
 ###  ###  ###  ###    #  ###  ###    #  ###    #
"""


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy digits of 8 x 8 pixels, each somewhere else in its picture, and what they are."""
    rows = [line.ljust(50) for line in DIGITS.splitlines()[1:]]
    shapes = np.array([[[c == "#" for c in row[5 * d : 5 * d + 5]] for row in rows] for d in range(10)], np.float32)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.normal(0, 0.25, (count, 8, 8)).astype(np.float32)
    for image, label, (top, left) in zip(images, labels, rng.integers(0, 3, (count, 2)), strict=True):
        image[top : top + 5, left : left + 5] += shapes[label]
    return images.reshape(count, 64), labels


td.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 10))
opt = optim.AdamW(model.parameters(), lr=optim.warmup(20, optim.cosine(1e-2, 1e-4, EPOCHS * 32)))
print(model)


@td.compile
def step(x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


@td.compile
def right(x, y):
    return (model(x).argmax(axis=1) == y).mean()


loader = data.DataLoader(data.ArrayDataset(*pictures(4096, seed=0)), batch_size=128, shuffle=True)
test = pictures(1024, seed=1)
for epoch in range(EPOCHS):
    losses = [float(step(x, y)) for x, y in loader]
    model.eval()
    accuracy = float(right(*test))
    model.train()
    print(f"epoch {epoch + 1:2}  loss {np.mean(losses):.3f}  right {accuracy:.1%}")

assert accuracy > (0.8 if SMALL else 0.9), accuracy
print("compiled", step.num_compiles, "time")
