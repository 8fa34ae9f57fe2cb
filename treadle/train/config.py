"""What defines a training run. Together with the text it decides every number the run will produce."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from treadle.core import ConfigError
from treadle.nn import GPTConfig

VOCABULARIES = ("bytes", "chars")
CALIBRATION_STEPS = 8  # timed before `minutes` is turned into a number of steps


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a GPT run, checked when it is made.

    Attributes:
        text: files and folders to train on; none for the Python standard library's sources.
        vocabulary: a token per byte, or per character of the text.
        validation: share of the text, its end, that is measured on and not trained on.
        layers, heads, width, context, dropout: the model.
        batch: windows of text per step; `accumulate` parts them into as many rounds of gradients.
        steps: how many to do; 0 lets `minutes` decide.
        minutes: the time to train for. The number of steps is worked out from the first ones, then recorded.
        lr: the highest learning rate, reached after `warmup` steps; it falls along a cosine to `min_lr` of it.
        weight_decay: of matrices; vectors have none.
        clip: largest norm of the gradient; 0 for no limit.
        seed: of weights, batches and dropout.
        evaluations: how many times to measure the validation loss, each on `eval_batches` batches.
        checkpoint_seconds: at least this long between checkpoints; 0 for one after every step.
    """

    text: tuple[str, ...] = ()
    vocabulary: str = "bytes"
    validation: float = 0.1
    layers: int = 4
    heads: int = 4
    width: int = 128
    context: int = 128
    dropout: float = 0.0
    batch: int = 8
    accumulate: int = 1
    steps: int = 0
    minutes: float = 1.6
    lr: float = 3e-3
    min_lr: float = 0.1
    warmup: int = 50
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.1
    clip: float = 1.0
    seed: int = 0
    evaluations: int = 8
    eval_batches: int = 8
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", tuple(self.text))
        for field in dataclasses.fields(self):
            _check_kind(field.name, getattr(self, field.name), field.default)
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"train: {name} is {value}. Allowed: {low} to {high}.")
        if self.vocabulary not in VOCABULARIES:
            raise ConfigError(f"train: vocabulary is {self.vocabulary!r}. Allowed: {', '.join(VOCABULARIES)}.")
        if self.batch % self.accumulate:
            raise ConfigError(
                f"train: batch {self.batch} cannot be parted into {self.accumulate} equal rounds (accumulate)."
            )
        if not self.steps and self.warmup < CALIBRATION_STEPS:
            raise ConfigError(
                f"train: warmup is {self.warmup}. To train for minutes, the first {CALIBRATION_STEPS} steps are timed, "
                f"during which the learning rate must rise. Allowed: {CALIBRATION_STEPS} or more; or set steps."
            )
        if not self.steps and not self.minutes:
            raise ConfigError("train: both steps and minutes are 0. Set one of them.")
        self.model(vocab_size=256)

    def model(self, vocab_size: int) -> GPTConfig:
        """Return the sizes of the model."""
        return GPTConfig(
            vocab_size=vocab_size,
            context=self.context,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            dropout=self.dropout,
        )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return the configuration with these settings; the error for an unknown name lists those that exist."""
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(settings) - set(names))
        if unknown:
            raise ConfigError(
                f"train: there is no setting {', '.join(map(repr, unknown))}. Allowed: {', '.join(names)}."
            )
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings by name, for a JSON file."""
        return {**dataclasses.asdict(self), "text": list(self.text)}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed."""
        return dataclasses.replace(self, **changes)


LIMITS: dict[str, tuple[float, float]] = {
    "validation": (1e-6, 0.9),
    "layers": (1, 1000),
    "heads": (1, 1000),
    "width": (1, 65536),
    "context": (1, 1 << 20),
    "dropout": (0.0, 0.99),
    "batch": (1, 1 << 20),
    "accumulate": (1, 1 << 20),
    "steps": (0, 10**12),
    "minutes": (0.0, 1e6),
    "lr": (0.0, 1e3),
    "min_lr": (0.0, 1.0),
    "warmup": (0, 10**9),
    "beta1": (0.0, 0.99999),
    "beta2": (0.0, 0.99999),
    "weight_decay": (0.0, 1e3),
    "clip": (0.0, 1e9),
    "seed": (0, 2**63 - 1),
    "evaluations": (1, 10**9),
    "eval_batches": (1, 10**6),
    "checkpoint_seconds": (0.0, 1e9),
}


KINDS: dict[type[Any], str] = {float: "a number", int: "a whole number", str: "a text", tuple: "a list"}


def _check_kind(name: str, value: Any, default: Any) -> None:
    kind = next(kind for kind in KINDS if isinstance(default, kind))
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ConfigError(
            f"train: {name} is {value!r}, a {type(value).__name__}. It must be {KINDS[kind]}, such as {default!r}."
        )
