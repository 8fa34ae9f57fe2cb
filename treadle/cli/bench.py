"""`treadle bench`: the comparison with other frameworks, which lives beside the package in the source tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

import treadle
from treadle.core import ConfigError

SCRIPT = Path(treadle.__file__).resolve().parents[1] / "bench" / "run.py"


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure treadle beside PyTorch and JAX; the arguments are those of bench/run.py."""
    if not SCRIPT.is_file():
        raise ConfigError(
            f"bench: {SCRIPT} does not exist: the comparison is part of the source tree, not of the installed package. "
            "Clone the repository and run `make bench` there."
        )
    sys.exit(subprocess.run([sys.executable, str(SCRIPT), *arguments], check=False).returncode)
