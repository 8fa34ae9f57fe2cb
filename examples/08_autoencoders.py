"""Autoencoders: images squeezed through a code of a few numbers, linear, denoising, convolutional and variational.

A linear one finds the subspace of principal component analysis, which no code of its size beats without a bend. One
that is shown noise learns to take it away. The variational one has a distribution over codes, so that it can be
sampled: it is trained on a lower bound of log p(image), the ELBO of Kingma & Welling 2014 (arXiv:1312.6114),

    E_q log p(x | z) - KL(q(z | x) || N(0, 1)),    z = mean + deviation * noise.
"""

import os
from importlib.util import find_spec

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import treadle as td
from treadle import data, nn, optim

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
CODE = 8  # numbers per image
STEPS = 400 if SMALL else 6000
BATCH = 128
NOISE = 0.4  # standard deviation, for pixels in 0..1
PICTURE = None if SMALL or find_spec("matplotlib") is None else "autoencoders.png"
console = Console(width=120)


def show(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print a table; floats with four decimals."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row])
    console.print(table)


def split() -> tuple[np.ndarray, np.ndarray]:
    """Return images to train on and to test on, [N, 1, H, W]: clothes of 28 x 28 pixels, or digits of 8 x 8."""
    if not SMALL:
        return data.fashion_mnist("train").images, data.fashion_mnist("test").images[:2000]
    images = data.digits().images[data.permutation(0, 0, 1797)]
    return images[:1400], images[1400:]


train_images, test_images = split()
HEIGHT, WIDTH = train_images.shape[2:]
PIXELS = HEIGHT * WIDTH
rng = np.random.default_rng(0)
td.manual_seed(0)


class Autoencoder(nn.Module):
    """An encoder from images to codes, and a decoder back."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        return self.decoder(self.encoder(x))


def train(model: nn.Module, loss_of, steps: int = STEPS, lr: float = 2e-3, batch_of=None, name: str = "") -> None:
    """Do steps of Adam on batches of images, with a rate that falls along a cosine."""
    opt = optim.Adam(model.parameters(), lr=optim.cosine(lr, lr / 1000, steps))

    @td.compile
    def step(x):
        loss = loss_of(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for _ in track(range(steps), name, console=console, transient=True, disable=not console.is_terminal):
        step(train_images[rng.integers(0, len(train_images), BATCH)] if batch_of is None else batch_of)
