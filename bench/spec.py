"""What is measured: the exact shapes, initial values, data and reference losses of each case, in NumPy alone.

All float32. Model values are drawn from seed 0 and data from seed 1, in the order written here. Linear weights are
(out, in). The keys are the names of a PyTorch `state_dict`, so that every peer loads the same dictionary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

F32 = np.float32
Values = dict[str, NDArray[np.float32]]
Batch = tuple[NDArray[np.generic], NDArray[np.int64]]

MLP_SIZES = (784, 512, 512, 10)
MLP_BATCH = 128
MLP_LR, MLP_MOMENTUM = 0.01, 0.9

LAYERS, HEADS, WIDTH, CONTEXT, VOCAB = 6, 6, 384, 256, 65
GPT_BATCH = 8
GPT_LR, GPT_BETAS, GPT_EPS, GPT_DECAY = 1e-3, (0.9, 0.99), 1e-8, 0.1

LSTM_LAYERS, LSTM_WIDTH, LSTM_TIME, LSTM_VOCAB, LSTM_BATCH = 2, 256, 64, 65, 32
LSTM_LR, LSTM_BETAS, LSTM_EPS = 1e-3, (0.9, 0.999), 1e-8


def normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=F32) * F32(std)


def mlp() -> Values:
    """Return the MLP's parameters: He-initialised weights, zero biases."""
    rng = np.random.default_rng(0)
    values: Values = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(MLP_SIZES)):
        # 2 * i: the position of the linear layer in a Sequential of Linear, ReLU, Linear, ReLU, Linear.
        values[f"{2 * i}.weight"] = normal(rng, (fan_out, fan_in), (2 / fan_in) ** 0.5)
        values[f"{2 * i}.bias"] = np.zeros(fan_out, F32)
    return values


def mlp_batch() -> Batch:
    rng = np.random.default_rng(1)
    return rng.standard_normal((MLP_BATCH, MLP_SIZES[0]), dtype=F32), rng.integers(0, 10, MLP_BATCH)


def gpt() -> Values:
    """Return the GPT's parameters; the output head is tied to `wte`."""
    rng = np.random.default_rng(0)
    residual_std = 0.02 / (2 * LAYERS) ** 0.5
    values = {"wte.weight": normal(rng, (VOCAB, WIDTH), 0.02), "wpe.weight": normal(rng, (CONTEXT, WIDTH), 0.02)}
    for i in range(LAYERS):
        at = f"blocks.{i}."
        values[at + "ln1.weight"] = np.ones(WIDTH, F32)
        values[at + "qkv.weight"] = normal(rng, (3 * WIDTH, WIDTH), 0.02)
        values[at + "proj.weight"] = normal(rng, (WIDTH, WIDTH), residual_std)
        values[at + "ln2.weight"] = np.ones(WIDTH, F32)
        values[at + "fc.weight"] = normal(rng, (4 * WIDTH, WIDTH), 0.02)
        values[at + "fc2.weight"] = normal(rng, (WIDTH, 4 * WIDTH), residual_std)
    values["lnf.weight"] = np.ones(WIDTH, F32)
    return values


def gpt_batch() -> Batch:
    tokens = np.random.default_rng(1).integers(0, VOCAB, (GPT_BATCH, CONTEXT + 1))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float) -> NDArray[np.float32]:
    return (rng.random(shape, dtype=F32) * 2 - 1) * F32(bound)


def lstm() -> Values:
    """Return the LSTM language model's parameters: gates in the order i, f, g, o, two biases per layer."""
    rng = np.random.default_rng(0)
    width, bound = LSTM_WIDTH, LSTM_WIDTH**-0.5
    values = {"embedding.weight": normal(rng, (LSTM_VOCAB, width), 0.1)}
    for i in range(LSTM_LAYERS):
        for name, shape in (("weight", (4 * width, width)), ("bias", (4 * width,))):
            for part in ("ih", "hh"):
                values[f"lstm.{name}_{part}_l{i}"] = uniform(rng, shape, bound)
    values["head.weight"] = uniform(rng, (LSTM_VOCAB, width), bound)
    values["head.bias"] = np.zeros(LSTM_VOCAB, F32)
    return values


def lstm_batch() -> Batch:
    tokens = np.random.default_rng(1).integers(0, LSTM_VOCAB, (LSTM_BATCH, LSTM_TIME + 1))
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


@dataclass(frozen=True)
class Case:
    """One row of the comparison."""

    name: str
    title: str
    values: Callable[[], Values]
    batch: Callable[[], Batch]
    losses: tuple[float, ...]  # of the first calls, the same batch each time
    tolerance: float  # relative; float32 sums in another order, amplified by the steps before
    gflop: float  # of one step, causal attention counted in half


CASES = {
    case.name: case
    for case in (
        Case("T1", "MLP 784-512-512-10, batch 128, SGD with momentum", mlp, mlp_batch,
             (3.068857, 2.801895, 2.437629, 2.142401, 1.903046, 1.610962, 1.245590, 0.884435), 1e-4, 0.51),
        Case("T3", "GPT 6 layers, 384 wide, 256 tokens, batch 8, AdamW", gpt, gpt_batch,
             (4.276484, 4.26018, 4.208529, 4.314424, 4.169861, 4.131675), 1e-3, 138.0),
        Case("T4", "LSTM 2 layers, 256 wide, 64 steps, batch 32, Adam", lstm, lstm_batch,
             (4.174889, 4.17226, 4.169655, 4.166744, 4.163224, 4.159197), 1e-4, 13.1),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Floor:
    """What treadle must reach: a summary's value and its bound; the first one missing is the first thing to work on."""

    what: str
    path: tuple[str, str, str]  # into the summary that `run.py` writes
    bound: float
    at_least: bool


FLOORS = (
    Floor("T1: steps per second, relative to torch eager", ("T1", "treadle", "speed"), 1.1, at_least=True),
    Floor("T3: steps per second, relative to torch eager", ("T3", "treadle", "speed"), 1.0, at_least=True),
    Floor("T3: peak memory, relative to torch eager", ("T3", "treadle", "rss"), 0.7, at_least=False),
    Floor("T3: first call, nothing cached, seconds", ("T3", "treadle", "first_cold_s"), 12.0, at_least=False),
    Floor("T3: first call of a second process, seconds", ("T3", "treadle", "first_warm_s"), 1.5, at_least=False),
    Floor("import treadle, seconds", ("overheads", "treadle", "import_s"), 0.4, at_least=False),
    Floor(
        "one call of a tiny compiled function, microseconds", ("overheads", "treadle", "call_us"), 8.0, at_least=False
    ),
)
