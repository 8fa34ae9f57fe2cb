"""Autoencoders: images squeezed through a code of a few numbers, linear, denoising, convolutional and variational.

A linear one finds the subspace of principal component analysis (PCA), beyond which only a bent one gets. One that is
shown noisy images learns to take the noise away. The variational one has a distribution of codes, so that new images
can be drawn; it is trained on a lower bound of log p(image), the ELBO of Kingma & Welling 2014 (arXiv:1312.6114):

    E_q log p(x | z) - KL(q(z | x) || N(0, 1)),    z = mean + deviation * noise.
"""

import math
import os
from importlib.util import find_spec

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import treadle as td
from treadle import data, nn, optim
from treadle.nn import functional as F

SMALL = os.environ.get("TREADLE_EXAMPLE") == "small"
CODE = 8  # numbers per image
STEPS = 600 if SMALL else 4000
BATCH = 128
NOISE = 0.4  # standard deviation, for pixels in 0..1
DEVIATION = 0.3  # of pixels about the image that the variational decoder makes; a smaller one leaves the KL term no say
PICTURE = None if SMALL or find_spec("matplotlib") is None else "autoencoders.png"
console = Console(width=120)


def show(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """Print a table; floats with four decimals."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*[f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row])
    console.print(table)


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return images to train on and to test on, [N, 1, H, W]: clothes of 28 x 28 pixels, or digits of 8 x 8."""
    if not SMALL:
        return data.fashion_mnist("train").images, data.fashion_mnist("test").images[:2000]
    digits = data.digits().images[data.permutation(0, 0, 1797)]
    return digits[:1400], digits[1400:]


x_train, x_test = images()
SHAPE = x_train.shape[1:]
PIXELS = math.prod(SHAPE)
SMALLER = (32, SHAPE[1] // 4, SHAPE[2] // 4)  # what two convolutions of stride 2 leave
rng = np.random.default_rng(0)
td.manual_seed(0)


def random_images() -> np.ndarray:
    """Return a batch of images."""
    return x_train[rng.integers(0, len(x_train), BATCH)]


def train(
    what: str, model: nn.Module, loss_of, steps: int = STEPS, *, batch_of=random_images, lr: float = 2e-3
) -> None:
    """Do steps of Adam, with a rate that falls along a cosine."""
    opt = optim.Adam(model.parameters(), lr=optim.cosine(lr, lr / 1000, steps))

    @td.compile
    def step(x):
        loss = loss_of(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for _ in track(range(steps), what, console=console, transient=True, disable=not console.is_terminal):
        step(batch_of())


def error(x: np.ndarray, again) -> float:
    """Return the mean squared error of pixels."""
    return float(np.mean((np.asarray(again).reshape(x.shape) - x) ** 2))


# --- 1. Linear: the subspace of PCA


def principal_angles(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return the angles in degrees between two subspaces, each spanned by columns (Björck & Golub 1973)."""
    cosines = td.linalg.svdvals(td.linalg.qr(td.asarray(one))[0].mT @ td.linalg.qr(td.asarray(two))[0])
    return np.degrees(np.arccos(np.minimum(cosines.numpy(), 1)))


def project(x: np.ndarray) -> np.ndarray:
    """Return images moved to the nearest point of the space of the first principal components."""
    return mean + (x.reshape(len(x), PIXELS) - mean) @ components @ components.T


some = x_train[:1400].reshape(-1, PIXELS)
mean = some.mean(axis=0)
components = td.linalg.svd(td.asarray(some - mean), full_matrices=False)[2].numpy()[:CODE].T  # [pixels, CODE]
centred = td.asarray(some - mean)
linear = nn.Sequential(nn.Linear(PIXELS, CODE, bias=False), nn.Linear(CODE, PIXELS, bias=False))
before = principal_angles(linear[1].weight.value, components)
train("linear", linear, lambda x: F.mse_loss(linear(x), x), 2500, batch_of=lambda: centred, lr=1e-2)
after = principal_angles(linear[1].weight.value, components)
with td.no_grad():
    own = error(some - mean, linear(centred))
show(
    f"a linear autoencoder with a code of {CODE} numbers and as many principal components of {len(some)} images",
    ["", "error per pixel", "largest principal angle between them"],
    [
        ["principal components", error(some, project(some)), ""],
        ["autoencoder", own, f"{before.max():.2f} degrees untrained, {after.max():.2f} trained"],
    ],
)
assert before.max() > 45, before
assert after.max() < 1, after
assert own < 1.001 * error(some, project(some)), own


# --- 2. Bent: dense and convolutional, and shown noise


def dense_encoder(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 256), nn.ReLU(), nn.Linear(256, outputs))


def dense_decoder() -> nn.Module:
    return nn.Sequential(nn.Linear(CODE, 256), nn.ReLU(), nn.Linear(256, PIXELS), nn.Unflatten(1, SHAPE))


def conv_encoder(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(math.prod(SMALLER), outputs),
    )


def conv_decoder() -> nn.Module:
    return nn.Sequential(
        nn.Linear(CODE, math.prod(SMALLER)),
        nn.ReLU(),
        nn.Unflatten(1, SMALLER),
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
    )


def noisy(x):
    return x + NOISE * td.random.normal(x.shape)


def run(model: nn.Module, x) -> np.ndarray:
    """Return what the model makes of images."""
    with td.no_grad():
        return model(td.asarray(x)).numpy()


plain = nn.Sequential(dense_encoder(CODE), dense_decoder())
conv = nn.Sequential(conv_encoder(CODE), conv_decoder())
denoiser = nn.Sequential(dense_encoder(CODE), dense_decoder())
train("dense", plain, lambda x: F.mse_loss(plain(x), x))
train("convolutional", conv, lambda x: F.mse_loss(conv(x), x))
train("denoising", denoiser, lambda x: F.mse_loss(denoiser(noisy(x)), x))

x_noisy = (x_test + NOISE * rng.standard_normal(x_test.shape)).astype(np.float32)
again = {"principal components": (project(x_test), project(x_noisy))}
for name, model in {"dense": plain, "convolutional": conv, "dense, trained on noisy images": denoiser}.items():
    again[name] = (run(model, x_test), run(model, x_noisy))
errors = {name: (error(x_test, clean), error(x_test, cleaned)) for name, (clean, cleaned) in again.items()}
sizes = [2 * CODE * PIXELS] + [sum(p.size for p in model.parameters()) for model in (plain, conv, denoiser)]
show(
    f"{len(x_test)} test images from codes of {CODE} numbers: error per pixel against the clean image",
    ["", "parameters", "of the image", f"of the image with noise of {NOISE}"],
    [["nothing done", "", "", error(x_test, x_noisy)]]
    + [[name, f"{size:,}", *errors[name]] for size, name in zip(sizes, errors, strict=True)],
)
linear_error, dense_error, conv_error, _ = (clean for clean, _ in errors.values())
assert max(dense_error, conv_error) < 0.9 * linear_error, errors
assert sizes[2] < sizes[1], sizes
best = errors.pop("dense, trained on noisy images")[1]
assert best < 0.9 * min(cleaned for _, cleaned in errors.values()), (best, errors)


# --- 3. Variational: codes and images have distributions


class VAE(nn.Module):
    """A normal distribution of codes for each image, and one of images for each code."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = dense_encoder(2 * CODE), dense_decoder()

    def codes(self, x):
        """Return mean and log variance of q(z | x), [N, CODE] each."""
        return self.encoder(x).chunk(2, axis=1)

    def draw(self, mean, log_variance):
        """Return codes as mean + deviation * noise: a gradient reaches both, which it would not through a sampler."""
        return mean + td.exp(log_variance / 2) * td.random.normal(mean.shape)

    def log_likelihood(self, x, z):
        """Return log p(x | z), [N]."""
        squares = ((x - self.decoder(z)) ** 2).sum(axis=(1, 2, 3))
        return -squares / (2 * DEVIATION**2) - PIXELS * math.log(DEVIATION * math.sqrt(2 * math.pi))

    def terms(self, x):
        """Return log p(x | z) for one z, and KL(q(z | x) || N(0, 1)), [N] each; their difference is the ELBO."""
        mean, log_variance = self.codes(x)
        divergence = (mean**2 + td.exp(log_variance) - 1 - log_variance).sum(axis=1) / 2
        return self.log_likelihood(x, self.draw(mean, log_variance)), divergence


def log_normal(z, mean, log_variance):
    """Return the logarithm of a normal density of codes, [N]."""
    return -((z - mean) ** 2 / td.exp(log_variance) + log_variance + math.log(2 * math.pi)).sum(axis=1) / 2


vae = VAE()


def negative_elbo(x):
    likelihood, divergence = vae.terms(x)
    return (divergence - likelihood).mean()


@td.compile
def weigh(x):
    """Return log p(x, z) - log q(z | x) and log q(z | x) - log p(z) for one z per image, [N] each."""
    mean, log_variance = vae.codes(x)
    z = vae.draw(mean, log_variance)
    surprise = log_normal(z, mean, log_variance) - log_normal(z, 0.0, td.zeros(z.shape))
    return vae.log_likelihood(x, z) - surprise, surprise


@td.compile
def measure(x):
    return vae.terms(x)


train("variational", vae, negative_elbo)
DRAWS = 50


def draws(function) -> list[np.ndarray]:
    """Return the two results of a function for test images, each [DRAWS, N]."""
    with td.no_grad():
        results = [function(x_test) for _ in range(DRAWS)]
    return [np.stack([result[k].numpy() for result in results]) for k in range(2)]


likelihood, divergence = draws(measure)
weights, surprises = draws(weigh)
elbo = float((likelihood - divergence).mean())
tighter = float((td.logsumexp(td.asarray(weights), axis=0).numpy() - math.log(DRAWS)).mean())
show(
    "the variational autoencoder on test images, nats per image",
    ["", ""],
    [
        ["log p(x | z)", float(likelihood.mean())],
        ["KL(q(z | x) || p(z)), by its formula", float(divergence.mean())],
        [f"the same, from {DRAWS} draws", float(surprises.mean())],
        ["ELBO, the first less the second", elbo],
        [f"log p(x) is at least, from {DRAWS} draws (Burda et al. 2016)", tighter],
    ],
)
assert abs(divergence.mean() - surprises.mean()) < 0.02 * divergence.mean(), "KL: formula and draws differ"
assert elbo < tighter, "the bound with one draw is the looser one"

# Samples are good when each is near an image that was never seen, and every such image near a sample.
# That says nothing of how often each kind of image is drawn: by energy distance, which does, the variational samples
# came out behind those of the dense autoencoder with fitted codes (about 0.6 against 0.1 on the clothes).


def nearest(sample: np.ndarray) -> tuple[float, float]:
    """Return the mean distances from samples to the nearest test image, and from test images to the nearest sample."""
    between = td.cdist(td.asarray(sample.reshape(-1, PIXELS)), td.asarray(x_test.reshape(-1, PIXELS)))
    return float(between.min(axis=1).mean()), float(between.min(axis=0).mean())


n = len(x_test)
z = rng.standard_normal((n, CODE)).astype(np.float32)
codes = run(plain[0], x_train[:n])
fitted = (codes.mean(axis=0) + z @ np.linalg.cholesky(np.cov(codes.T)).T).astype(np.float32)
samples = {
    "images to train on": x_train[:n],
    "variational, z from N(0, 1)": run(vae.decoder, z),
    "dense, z from a normal distribution fitted to its codes": run(plain[1], fitted),
    "dense, z from N(0, 1)": run(plain[1], z),
    "each pixel from another image": rng.permuted(x_train[:n].reshape(n, PIXELS), axis=0),
}
distances = {name: nearest(sample) for name, sample in samples.items()}
show(
    f"{n} samples and {n} test images",
    ["", "sample to nearest image", "image to nearest sample"],
    [[name, *pair] for name, pair in distances.items()],
)
real, drawn, *others = distances.values()
for k in range(2):
    assert real[k] < drawn[k] < min(other[k] for other in others), distances

if PICTURE is not None:
    from matplotlib.figure import Figure

    rows = {
        "image": x_test,
        "principal components": again["principal components"][0],
        "dense": again["dense"][0],
        "convolutional": again["convolutional"][0],
        "noisy": x_noisy,
        "noise taken away": again["dense, trained on noisy images"][1],
        "variational": run(vae.decoder, vae.codes(td.asarray(x_test))[0].detach()),
        "samples": samples["variational, z from N(0, 1)"],
    }
    figure = Figure(figsize=(12, 9), layout="constrained")
    for axes, (name, row) in zip(figure.subplots(len(rows), 1), rows.items(), strict=True):
        strip = np.asarray(row).reshape(-1, *SHAPE[1:])[:14]
        axes.imshow(np.concatenate(list(strip), axis=1), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.savefig(PICTURE)
    print("picture:", PICTURE)
