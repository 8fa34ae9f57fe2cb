"""`treadle train gpt`: train a GPT on text, or go on with a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from treadle.core import ConfigError, config
from treadle.inspect import explain
from treadle.train import Outcome, Progress, TrainConfig
from treadle.train import gpt as gpt_runs
from treadle.train.atomic import replace_text
from treadle.train.gpt import GPTRun
from treadle.train.progress import duration

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
    text = made.corpus
    where = "the Python standard library's sources" if not made.config.text else ", ".join(made.config.text)
    skipped = f", {len(text.skipped)} files that are not text left out" if text.skipped else ""
    table = Table.grid(padding=(0, 2))
    table.add_row("text", f"{where}: {len(text.files)} files, {len(text.data) / 1e6:.1f} MB{skipped}")
    table.add_row(
        "model", f"GPT, {size / 1e6:.2f} M parameters, vocabulary of {made.vocabulary.size} {made.config.vocabulary}"
    )
    table.add_row("run", str(made.run.folder))
    defaults, now = DEFAULTS.to_dict(), made.config.to_dict()
    shown = [f"{name} {now[name]}" for name in (f.name for f in dataclasses.fields(TrainConfig)) if name != "text"]
    table.add_row("settings", ", ".join(shown))
    if any(now[name] != defaults[name] for name in now):
        table.add_row("changed", ", ".join(f"{name} {now[name]}" for name in now if now[name] != defaults[name]))
    table.add_row(
        "threads", f"{config.threads}" + (f", starts at step {made.trainer.step}" if made.trainer.step else "")
    )
    console.print(table, highlight=False)


def _conclude(console: Console, made: GPTRun, outcome: Outcome, *, explained: bool) -> None:
    run = made.run
    made.trainer.draw_curve()
    if outcome.interrupted is not None:
        console.print(
            f"{outcome.interrupted}: stopped after step {outcome.step} of {outcome.steps or '?'} and saved. Go on "
            "with:\n"
            f"  treadle train gpt --resume {run.folder}",
            highlight=False,
            soft_wrap=True,
        )
        return
    text = "".join(gpt_runs.sample(made.model, made.vocabulary, SAMPLE_PROMPT, SAMPLE_TOKENS, seed=made.config.seed))
    replace_text(run.sample, SAMPLE_PROMPT + text + "\n")
    console.rule("sample", align="left")
    console.print(Text(SAMPLE_PROMPT, style="bold") + Text(text))
    console.rule("result", align="left")
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "validation loss",
        f"{outcome.validation:.4f} nats per token after {outcome.step} steps in {duration(outcome.seconds)}",
    )
    table.add_row("run folder", f"{run.folder}")
    for path, what in (
        (run.config, "the settings"),
        (run.metrics, "losses, one JSON line per step"),
        (run.checkpoint, "weights, optimiser and random state (safetensors)"),
        (run.curve, "the loss curve"),
        (run.sample, "the sample above"),
    ):
        table.add_row("", f"{path.name}  [dim]{what}[/dim]")
    table.add_row("next", f"treadle sample {run.folder} --prompt 'class '")
    table.add_row("", f"treadle explain {run.folder}")
    console.print(table, highlight=False, soft_wrap=True)
    if explained:
        report = explain(made.trainer.compiled, *made.trainer.train_source.batch(0))
        console.rule("the compiled step", align="left")
        console.print(report.summary(), highlight=False)
