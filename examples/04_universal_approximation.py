"""One hidden layer approximates any continuous function: the error falls with the width, trained or constructed.

Beside the trained net stands the proof's own construction: one ReLU for each knot of the piecewise-linear interpolant,
whose error is at most h^2 max|f''| / 8 for knots h apart. A net without an activation is the control: it stays a line.
"""

import os
from pathlib import Path

import numpy as np

import treadle as td
from treadle import nn, optim

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
WIDTHS = [2, 8, 32] if SMALL else [2, 4, 8, 16, 32, 64, 128]
STEPS = 600 if SMALL else 4000
PICTURE = None if SMALL else Path("universal_approximation.png")


def target(x: np.ndarray) -> np.ndarray:
    """Return a function that is no polynomial: sin(3x) + x^2 / 2 on [-2, 2]."""
    return np.sin(3 * x) + x**2 / 2


def constructed(width: int) -> nn.Module:
    """Return the net that interpolates the target between width + 1 even knots: f(x_0) + sum of slope changes."""
    knots = np.linspace(-2, 2, width + 1)
    slopes = np.diff(target(knots)) / np.diff(knots)
    net = nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, 1))
    net[0].weight.value = td.ones((width, 1))
    net[0].bias.value = -knots[:-1].astype(np.float32)
    net[2].weight.value = np.diff(slopes, prepend=0).astype(np.float32)[None]
    net[2].bias.value = target(knots[:1]).astype(np.float32)
    return net


def trained(width: int, activation: nn.Module) -> nn.Module:
    """Return a net of the same shape, fitted to 256 points."""
    net = nn.Sequential(nn.Linear(1, width), activation, nn.Linear(width, 1))
    opt = optim.Adam(net.parameters(), lr=optim.cosine(2e-2, 1e-4, STEPS))

    @td.compile
    def step(x, y):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    x = np.linspace(-2, 2, 256, dtype=np.float32)[:, None]
    y = target(x).astype(np.float32)
    for _ in range(STEPS):
        step(x, y)
    return net


def error(net: nn.Module) -> float:
    """Return the root mean square error on points between those of the training."""
    x = np.linspace(-2, 2, 1001, dtype=np.float32)[:, None]
    with td.no_grad():
        return float(np.sqrt(np.mean((net(td.asarray(x)).numpy() - target(x)) ** 2)))


td.manual_seed(0)
errors: dict[str, list[float]] = {"trained": [], "constructed": [], "no activation": []}
print(f"{'width':>6} {'trained':>10} {'constructed':>12} {'bound':>10} {'no activation':>14}")
for width in WIDTHS:
    bound = (4 / width) ** 2 * 10 / 8  # |f''| = |1 - 9 sin(3x)| is at most 10
    errors["trained"].append(error(trained(width, nn.Tanh())))
    errors["constructed"].append(error(constructed(width)))
    errors["no activation"].append(error(trained(width, nn.Identity())))
    row = [values[-1] for values in errors.values()]
    print(f"{width:6} {row[0]:10.5f} {row[1]:12.5f} {bound:10.5f} {row[2]:14.5f}")
    assert row[1] <= bound

line = np.polyfit(x := np.linspace(-2, 2, 1001), target(x), 1)
floor = float(np.sqrt(np.mean((np.polyval(line, x) - target(x)) ** 2)))
print(f"best straight line: {floor:.5f}")
assert errors["trained"][-1] < (0.5 if SMALL else 0.1) * errors["trained"][0]
assert errors["constructed"][-1] < 0.02
assert min(errors["no activation"]) > 0.95 * floor

if PICTURE is not None:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for name, values in errors.items():
        axes.loglog(WIDTHS, values, "o-", label=name)
    axes.set(xlabel="width", ylabel="root mean square error", title="error against width")
    axes.legend()
    figure.savefig(PICTURE)
    print("picture:", PICTURE)
