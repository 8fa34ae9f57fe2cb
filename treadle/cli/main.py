"""The command itself: its version, its subcommands, and how an error is shown."""

from __future__ import annotations

import errno
import sys

import click

from treadle import __version__
from treadle.core import TreadleError

from .bench import bench
from .explain import explain
from .sample import sample
from .train import train

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="treadle")
def commands(debug: bool) -> None:
    """Train, look at and sample from models compiled to native code."""


commands.add_command(train)
commands.add_command(sample)
commands.add_command(explain)
commands.add_command(bench)


def main() -> None:
    """Run the command; an error of treadle or of the system is one message and exit code 1."""
    try:
        commands.main(prog_name="treadle")
    except (TreadleError, OSError, MemoryError) as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"treadle: {_system(error) if isinstance(error, OSError) else _told(error)}", err=True)
        sys.exit(1)


def _told(error: TreadleError | MemoryError) -> str:
    if isinstance(error, TreadleError):
        return str(error)
    return f"memory: {str(error) or 'no more can be had'}. Use smaller sizes, or a machine with more memory."


def _system(error: OSError) -> str:
    """Return what the system refused, as errors of treadle say it."""
    where = f" for {error.filename}" if error.filename else ""
    what = "Free some space, or use another folder" if error.errno in FULL else "Check its path and permissions"
    return f"system: {error.strerror or error}{where}. What was saved before is kept. {what}; --debug shows where."
