"""What is measured: the exact shapes, initial values, data and reference losses of each case, in NumPy alone.

All float32. Model values are drawn from seed 0 and data from seed 1, in the order written here. Linear weights are
(out, in). The keys are the names of a PyTorch `state_dict`, so that every peer loads the same dictionary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

import operators
import vision
from values import F32, Batch, Values, normal, uniform

BASELINE = "torch"  # the peer that speed and memory are relative to

MLP_SIZES = (784, 512, 512, 10)
MLP_BATCH = 128
MLP_LR, MLP_MOMENTUM = 0.01, 0.9

LAYERS, HEADS, WIDTH, CONTEXT, VOCAB = 6, 6, 384, 256, 65
GPT_BATCH = 8
GPT_LR, GPT_BETAS, GPT_EPS, GPT_DECAY = 1e-3, (0.9, 0.99), 1e-8, 0.1

LSTM_LAYERS, LSTM_WIDTH, LSTM_TIME, LSTM_VOCAB, LSTM_BATCH = 2, 256, 64, 65, 32
LSTM_LR, LSTM_BETAS, LSTM_EPS = 1e-3, (0.9, 0.999), 1e-8


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
    """One row of the comparison. Cases whose names begin alike up to the dot share a process.

    Attributes:
        reference: the mean absolute value of what the first calls return, the same batch each time; of a training
            step that is the loss.
        tolerance: relative; float32 sums in another order, amplified by the steps before.
        gflop: of one step, causal attention counted in half; None where memory is what takes the time.
        share: of the budget of a process.
    """

    name: str
    title: str
    values: Callable[[], Values]
    batch: Callable[[], Batch]
    reference: tuple[float, ...]
    tolerance: float
    gflop: float | None
    share: float = 1.0

    @property
    def group(self) -> str:
        """Return the name of what one process measures."""
        return self.name.partition(".")[0]


def operator_case(op: operators.Operator) -> Case:
    """Return one operator of K1 as a case: no parameters, its operands are the batch."""
    share = 1 / len(operators.OPERATORS)
    return Case(f"K1.{op.name}", op.title, dict, op.operands, (op.mean,), op.tolerance, op.gflop, share)


CASES = {
    case.name: case
    for case in (
        Case("T1", "MLP 784-512-512-10, batch 128, SGD with momentum", mlp, mlp_batch,
             (3.068857, 2.801895, 2.437629, 2.142401, 1.903046, 1.610962, 1.245590, 0.884435), 1e-4, 0.51),
        Case("T2", "ResNet-18 for CIFAR, batch 32, SGD with momentum", vision.resnet18, vision.resnet18_batch,
             (2.567663, 1.666972, 0.790566, 0.415209, 0.258386, 0.162159), 3e-3, 106.7),
        Case("T3", "GPT 6 layers, 384 wide, 256 tokens, batch 8, AdamW", gpt, gpt_batch,
             (4.276484, 4.26018, 4.208529, 4.314424, 4.169861, 4.131675), 1e-3, 138.0),
        Case("T4", "LSTM 2 layers, 256 wide, 64 steps, batch 32, Adam", lstm, lstm_batch,
             (4.174889, 4.17226, 4.169655, 4.166744, 4.163224, 4.159197), 1e-4, 13.1),
        Case("T5", "convolutional autoencoder, batch 32, Adam", vision.autoencoder, vision.autoencoder_batch,
             (0.112349, 0.092982, 0.087132, 0.085239, 0.084427, 0.084003), 1e-4, 1.38),
        Case("I1", "ResNet-50 inference, 1 image 224 x 224", vision.resnet50, vision.resnet50_batch,
             (0.899113,), 1e-4, 8.2),
        *map(operator_case, operators.OPERATORS),
    )
}  # fmt: skip
GROUPS = {case.group: [other for other in CASES.values() if other.group == case.group] for case in CASES.values()}


@dataclass(frozen=True)
class Floor:
    """What treadle must reach: a summary's value and its bound; the first one missing is the first thing to work on."""

    what: str
    path: tuple[str, str, str]  # into the summary that `run.py` writes
    bound: float
    at_least: bool


SPEEDS = {"T1": 1.1, "T2": 0.9, "T3": 1.0, "T4": 1.3, "T5": 1.0, "I1": 1.0}
SPEEDS |= {case.name: 0.95 for case in GROUPS["K1"]}
MEMORY = {"T3": 0.7}  # the others: no more than torch eager takes

FLOORS = (
    *(
        Floor(f"{case}: speed, relative to torch eager", (case, "treadle", "speed"), bound, at_least=True)
        for case, bound in SPEEDS.items()
    ),
    *(
        Floor(
            f"{group}: peak memory, relative to torch eager",
            (cases[0].name, "treadle", "rss"),
            MEMORY.get(group, 1.0),
            at_least=False,
        )
        for group, cases in GROUPS.items()
    ),
    Floor("T3: first call, nothing cached, seconds", ("T3", "treadle", "first_cold_s"), 12.0, at_least=False),
    Floor("T3: first call of a second process, seconds", ("T3", "treadle", "first_warm_s"), 1.5, at_least=False),
    Floor("import treadle, seconds", ("overheads", "treadle", "import_s"), 0.4, at_least=False),
    Floor(
        "one call of a tiny compiled function, microseconds", ("overheads", "treadle", "call_us"), 8.0, at_least=False
    ),
)
