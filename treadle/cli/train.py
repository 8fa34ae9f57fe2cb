"""`treadle train gpt`: train a GPT on text, or go on with a run."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from treadle.core import ConfigError, config
from treadle.inspect import explain
from treadle.train import Outcome, Progress, TrainConfig
from treadle.train import gpt as gpt_runs
from treadle.train.atomic import replace_text
from treadle.train.gpt import GPTRun
from treadle.train.progress import duration

from .sample import printable

DEFAULTS = TrainConfig()
SAMPLE_TOKENS = 320
SAMPLE_PROMPT = "def "


def setting(name: str, text: str, *flags: str) -> Any:
    """Return the option of a configuration field; left out, it is not part of the settings given."""
    default = getattr(DEFAULTS, name)
    flag = "--" + name.replace("_", "-")
    return click.option(*flags, flag, name, type=type(default), default=None, help=f"{text}  [default: {default}]")


@click.group()
def train() -> None:
    """Train a model."""


@train.command()
@click.option(
    "--text",
    multiple=True,
    type=click.Path(path_type=str),
    help="File or folder to train on, instead of Python's own sources. Repeatable.",
)
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), help="Folder to write to.  [default: runs/gpt-DATE-TIME]"
)
@click.option("--resume", type=click.Path(path_type=Path), help="Go on with the run in this folder.")
@setting("steps", "Steps to train for; 0 to train for --minutes.")
@setting("minutes", "Time to train for, when --steps is 0.")
@setting("layers", "Transformer blocks.")
@setting("heads", "Attention heads.")
@setting("width", "Size of a token's vector.")
@setting("context", "Tokens the model sees at once.")
@setting("dropout", "Probability of dropping an element.")
@setting("vocabulary", "Tokens: bytes or chars.")
@setting("batch", "Windows of text per step.")
@setting("accumulate", "Rounds of gradients a batch is parted into.")
@setting("lr", "Highest learning rate.")
@setting("min_lr", "Share of it that is left at the end.")
@setting("warmup", "Steps in which the learning rate rises.")
@setting("weight_decay", "Decay of matrices.")
@setting("clip", "Largest norm of the gradient; 0 for no limit.")
@setting("seed", "Seed of weights, batches and dropout.")
@setting("evaluations", "Times the validation loss is measured.")
@setting("eval_batches", "Batches it is measured on.")
@setting("checkpoint_seconds", "Least time between checkpoints.")
@click.option("--threads", type=int, default=None, help="Threads to run on.  [default: all cores]")
@click.option("--explain/--no-explain", "explained", default=True, help="End with a summary of the compiled step.")
def gpt(
    folder: Path | None,
    resume: Path | None,
    threads: int | None,
    explained: bool,
    text: tuple[str, ...],
    **options: Any,
) -> None:
    """Train a GPT on text: files and folders, or the Python standard library's own sources."""
    console = Console()
    settings = {name: value for name, value in options.items() if value is not None}
    if text:
        settings["text"] = text
    with config(**({} if threads is None else {"threads": threads})):
        if resume is not None:
            steps = settings.pop("steps", None)
            if settings or folder is not None:
                given = ", ".join("--" + name.replace("_", "-") for name in [*settings, *(["run"] if folder else [])])
                raise ConfigError(
                    f"train: {given} cannot change when a run is resumed; its config.json decides. Leave it out, or "
                    "start a new run. Allowed with --resume: --steps, --threads."
                )
            made = gpt_runs.resume(resume, progress=Progress(console), steps=steps)
        else:
            if "minutes" in settings and "steps" not in settings:
                settings["steps"] = 0
            made = gpt_runs.create(TrainConfig.of(settings), folder, progress=Progress(console))
        _introduce(console, made)
        outcome = made.trainer.fit()
        _conclude(console, made, outcome, explained=explained)


def _introduce(console: Console, made: GPTRun) -> None:
    size = sum(p.size for p in made.model.parameters())
    text, settings = made.corpus, made.config.to_dict()
    where = "the Python standard library's sources" if not made.config.text else ", ".join(made.config.text)
    skipped = f", {len(text.skipped)} files that are not text left out" if text.skipped else ""
    changed = [f"{name} {value}" for name, value in settings.items() if value != DEFAULTS.to_dict()[name]]
    table(
        console,
        ("text", f"{where}: {len(text.files)} files, {len(text.data) / 1e6:.1f} MB{skipped}"),
        ("model", f"GPT, {size / 1e6:.2f} M parameters, vocabulary of {made.vocabulary.size} {made.config.vocabulary}"),
        ("run", str(made.run.folder)),
        ("settings", ", ".join(f"{name} {value}" for name, value in settings.items() if name != "text")),
        *([("changed", ", ".join(changed))] if changed else []),
        ("threads", str(config.threads)),
        *([("resumed", _resumed(made.trainer.step, made.trainer.steps))] if made.trainer.step else []),
    )


def _resumed(step: int, steps: int) -> str:
    if step < steps or not steps:
        return f"starts at step {step}"
    return f"all {steps} steps are done; --steps {2 * steps} would train for {steps} more"


def _conclude(console: Console, made: GPTRun, outcome: Outcome, *, explained: bool) -> None:
    run = made.run
    made.trainer.draw_curve()
    if outcome.interrupted is not None:
        table(
            console,
            (
                outcome.interrupted,
                f"stopped after step {outcome.step} of {outcome.steps or '?'} and saved. Go on with:",
            ),
            ("", f"{_command()} train gpt --resume {shlex.quote(str(run.folder))}"),
        )
        sys.exit(128 + signal.Signals[outcome.interrupted])
    text = "".join(gpt_runs.sample(made.model, made.vocabulary, SAMPLE_PROMPT, SAMPLE_TOKENS, seed=made.config.seed))
    replace_text(run.sample, SAMPLE_PROMPT + text + "\n")
    console.rule("sample", align="left")
    console.print(Text.assemble((SAMPLE_PROMPT, "bold"), printable(text)), soft_wrap=True)
    console.rule("result", align="left")
    loss = f"{outcome.validation:.4f} nats per token after {outcome.step} steps in {duration(outcome.seconds)}"
    table(
        console,
        ("validation loss", loss),
        ("run folder", str(run.folder)),
        ("", f"{run.config.name}: the settings"),
        ("", f"{run.metrics.name}: losses, one JSON line per step"),
        ("", f"{run.checkpoint.name}: weights, optimiser and random state"),
        ("", f"{run.curve.name}: the loss curve"),
        ("", f"{run.sample.name}: the sample above"),
        ("next", f"{_command()} sample {shlex.quote(str(run.folder))} --prompt 'class '"),
        ("", f"{_command()} explain {shlex.quote(str(run.folder))}"),
    )
    if explained:
        report = explain(made.trainer.compiled, *made.trainer.train_source.batch(0))
        console.rule("the compiled step", align="left")
        console.print(report.summary(), highlight=False)


def _command() -> str:
    """Return how this command is started again: its name if the shell finds it, else as it was started now."""
    started = Path(sys.argv[0])
    return shlex.quote(str(started)) if started.name == "treadle" and shutil.which("treadle") is None else "treadle"


def table(console: Console, *rows: tuple[str, str]) -> None:
    """Print names and values; long values are not cut, so that paths and commands can be copied."""
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        console.print(Text.assemble((name.ljust(width), "dim"), value), soft_wrap=True)
