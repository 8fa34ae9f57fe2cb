"""`treadle train gpt` put together: text, vocabulary, model, optimiser and trainer of a configuration."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core import CheckpointError, ConfigError, DataError, MemoryLimitError
from treadle.data import ByteVocabulary, CharVocabulary, Corpus, Vocabulary, Windows, read_text, vocabulary_from
from treadle.nn import GPT, GPTConfig, generate
from treadle.optim import AdamW, Schedule, cosine, warmup
from treadle.runtime.storage import available_nbytes
from treadle.tensor.random import manual_seed

from . import checkpoint
from .config import TrainConfig
from .progress import Progress
from .run import Run
from .trainer import Plan, Trainer

COPIES = 4  # of each weight's size: the weight, its gradient, Adam's two means


@dataclass
class GPTRun:
    """A run that can be trained: what it is made of."""

    run: Run
    config: TrainConfig
    corpus: Corpus
    vocabulary: Vocabulary
    model: GPT
    trainer: Trainer


def create(config: TrainConfig, folder: Path | None = None, *, progress: Progress | None = None) -> GPTRun:
    """Return a new run, its folder and configuration written."""
    made = _assemble(config, read_text(config.text), Run.create(folder, "gpt"), progress)
    made.run.write_config(config.to_dict())
    return made


def resume(
    folder: Path, *, progress: Progress | None = None, steps: int | None = None, truncate: bool = True
) -> GPTRun:
    """Return an existing run, set to its last checkpoint; one that has none yet starts from the beginning.

    Args:
        folder: the run's.
        progress: where to show how it goes.
        steps: train for this many in all, instead of as many as planned.
        truncate: drop the metrics after the checkpoint, which training writes again; False changes nothing on the disk.
    """
    run = Run.open(folder)
    config = TrainConfig.of(run.read_config())
    if steps is not None:
        config = config.replace(steps=steps)
    made = _assemble(config, read_text(config.text), run, progress)
    if run.checkpoint.exists():
        made.trainer.resume()
    if steps is not None:
        if steps < max(made.trainer.step, 1):
            raise ConfigError(
                f"resume: steps is {steps}, but {made.trainer.step} are done. It is how many to train for in all. "
                f"Allowed: {max(made.trainer.step, 1)} or more."
            )
        run.write_config(config.to_dict())
    if truncate:
        run.truncate(made.trainer.step if run.checkpoint.exists() else -1)
    return made


def load(folder: Path) -> tuple[GPT, Vocabulary]:
    """Return the trained model of a run and its vocabulary; the text is not needed."""
    found = checkpoint.load(Run.open(folder).checkpoint)
    try:
        sizes = GPTConfig(**found.facts["model"])
        vocabulary = vocabulary_from(found.facts["vocabulary"])
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"load: the checkpoint in {folder} is not one of a GPT run ({error}).") from None
    model = GPT(sizes)
    model.load_state_dict(found.groups["model"])
    return model.eval(), vocabulary


def sample(
    model: GPT,
    vocabulary: Vocabulary,
    prompt: str,
    tokens: int,
    *,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Yield the text that follows a prompt, piece by piece as its characters are complete."""
    # Nothing to go on from: a line end is what comes before a first line.
    start = vocabulary.encode(prompt or "\n").tolist()
    drawn: list[int] = []
    told = ""
    for token in generate(model, start, tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed):
        drawn.append(token)
        text = vocabulary.decode(drawn)
        # The last character may be a part of one whose other bytes are still to come.
        ready = text.rstrip("\ufffd")
        if len(ready) > len(told):
            yield ready[len(told) :]
            told = ready
    rest = vocabulary.decode(drawn)[len(told) :]
    if rest:
        yield rest


def _assemble(config: TrainConfig, corpus: Corpus, run: Run, progress: Progress | None) -> GPTRun:
    vocabulary: Vocabulary = ByteVocabulary() if config.vocabulary == "bytes" else CharVocabulary.of(corpus.data)
    train, validation = (vocabulary.encode(part) for part in corpus.split(config.validation))
    manual_seed(config.seed)
    model = GPT(config.model(vocabulary.size))
    _check_memory(model)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
    )
    facts: dict[str, Any] = {
        "model": dataclasses.asdict(model.config),
        "vocabulary": vocabulary.spec(),
        "text_sha256": hashlib.sha256(corpus.data).hexdigest()[:16],
        "seed": config.seed,
        "batch": config.batch,
    }

    def decided(steps: int) -> None:
        # From here on the run is defined by a number of steps, so going on with it does not depend on the clock.
        run.write_config(config.replace(steps=steps).to_dict())

    trainer = Trainer(
        model,
        model.loss,
        optimizer,
        _windows("training", train, config, seed=config.seed),
        # Other windows than those of the training seed would pick from a text of the same length.
        _windows("validation", validation, config, seed=config.seed + 1),
        plan=plan_of(config),
        run=run,
        facts=facts,
        decided=decided,
        progress=progress,
    )
    return GPTRun(run, config, corpus, vocabulary, model, trainer)


def _check_memory(model: GPT) -> None:
    """Raise MemoryLimitError before any weight is drawn, if training cannot fit."""
    size = sum(p.size for p in model.parameters())
    needed = COPIES * sum(p.nbytes for p in model.parameters())
    available = available_nbytes()
    if needed > available:
        raise MemoryLimitError(
            f"train: a model of {size / 1e9:.2f} G parameters needs {needed / 1e9:.1f} GB for weights, gradients and "
            f"optimiser state; {available / 1e9:.1f} GB are available. Choose fewer layers, or less width."
        )


def plan_of(config: TrainConfig) -> Plan:
    """Return how long the trainer is to train."""
    return Plan(
        steps=config.steps,
        seconds=config.minutes * 60,
        schedule=lambda steps: schedule_of(config, steps),
        warmup=config.warmup,
        clip=config.clip,
        accumulate=config.accumulate,
        evaluations=config.evaluations,
        eval_batches=config.eval_batches,
        checkpoint_seconds=config.checkpoint_seconds,
    )


def schedule_of(config: TrainConfig, steps: int) -> Schedule:
    """Return the learning rate of a run of `steps` steps: a rise, then half a cosine."""
    return warmup(config.warmup, cosine(config.lr, config.lr * config.min_lr, max(steps - config.warmup, 1)))


def _windows(part: str, tokens: np.ndarray[Any, Any], config: TrainConfig, *, seed: int) -> Windows:
    if len(tokens) <= config.context:
        share = config.validation if part == "validation" else 1 - config.validation
        raise DataError(
            f"train: the {part} part, {share:.0%} of the text, has {len(tokens)} tokens; a context of {config.context} "
            f"needs at least {config.context + 1}. Use a longer text or a shorter context."
        )
    return Windows(tokens, config.context, config.batch, seed)
