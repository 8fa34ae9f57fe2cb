"""A tiny text and settings small enough to train in a second."""

from collections.abc import Callable
from pathlib import Path

import pytest

from treadle.train import Progress, TrainConfig
from treadle.train.gpt import GPTRun, create


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return path


@pytest.fixture
def settings(text: Path) -> TrainConfig:
    return TrainConfig(
        text=(str(text),), vocabulary="chars", layers=1, heads=2, width=8, context=8, dropout=0.1, batch=4, steps=12,
        warmup=3, evaluations=2, eval_batches=2, lr=1e-2, checkpoint_seconds=1000,
    )  # fmt: skip


class Quiet(Progress):
    """Keeps what would be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., GPTRun]:
    def make(config: TrainConfig, name: str = "run") -> GPTRun:
        return create(config, tmp_path / name, progress=Quiet())

    return make
