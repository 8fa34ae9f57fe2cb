"""`treadle sample`: text from a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from treadle.train import gpt


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prompt", default="\n", help="Text to go on from.")
@click.option("--tokens", default=400, show_default=True, type=click.IntRange(min=1), help="How many tokens to draw.")
@click.option(
    "--temperature", default=0.8, show_default=True, type=float, help="0 takes the likeliest token every time."
)
@click.option("--top-k", type=int, default=None, help="Draw among this many likeliest tokens only.")
@click.option("--top-p", type=float, default=None, help="Draw among the likeliest tokens that make up this share.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the draw.")
def sample(
    run: Path, prompt: str, tokens: int, temperature: float, top_k: int | None, top_p: float | None, seed: int
) -> None:
    """Print text that the model of the folder RUN writes."""
    model, vocabulary = gpt.load(run)
    prompt = prompt.encode(errors="surrogateescape").decode(errors="replace")  # a shell passes any bytes
    settings: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    pieces = gpt.sample(model, vocabulary, prompt, tokens, **settings)
    first = next(pieces, "")  # nothing is shown of a prompt that cannot be used
    shown = printable if sys.stdout.isatty() else str
    click.echo(prompt.lstrip("\n") + shown(first), nl=False)
    for piece in pieces:
        click.echo(shown(piece), nl=False)
    click.echo()


def printable(text: str) -> str:
    """Return the text with U+FFFD for control characters, with which a young model could move the cursor or worse."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
