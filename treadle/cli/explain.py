"""`treadle explain`: what the compiler made of a run's training step, or of a function in a file."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from treadle.core import BY_SHORT, ConfigError, TreadleError, Type
from treadle.inspect import explain as explained
from treadle.jit import Compiled, compile
from treadle.train import gpt

TYPE = re.compile(r"^(\w+)\[([\d, ]*)\]$")


@click.command()
@click.argument("what", metavar="RUN|FILE.py:FUNCTION")
@click.option(
    "--arg", "types", multiple=True, help="Type of an argument of FUNCTION, such as f32[128,784]. Repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeline", type=click.Path(path_type=Path), help="Write one step of all threads as a Chrome trace.")
def explain(what: str, types: tuple[str, ...], as_json: bool, timeline: Path | None) -> None:
    """Show passes, kernels, fusion decisions, memory and times of a compiled function.

    RUN is the folder of a training run. FUNCTION is one that FILE.py defines at its top level, compiled or not; give
    the types of its arguments with --arg.
    """
    function, arguments = _of_file(what, types) if ".py:" in what else _of_run(Path(what), types)
    report = explained(function, *arguments)
    if timeline is not None:
        report.write_timeline(timeline)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        Console().print(report)


def _of_run(folder: Path, types: tuple[str, ...]) -> tuple[Compiled[..., Any], list[Any]]:
    if types:
        raise ConfigError(
            "explain: --arg is for functions of a file; a run's step has the arguments it was trained with."
        )
    made = gpt.resume(folder, truncate=False)
    return made.trainer.compiled, list(made.trainer.train_source.batch(0))


def _of_file(what: str, types: tuple[str, ...]) -> tuple[Compiled[..., Any], list[Any]]:
    path, _, name = what.rpartition(":")
    if not Path(path).is_file():
        raise ConfigError(f"explain: {path} does not exist. Give FILE.py:FUNCTION, or the folder of a run.")
    try:
        # Not as __main__: what a script guards with `if __name__ == "__main__"` is not run.
        found = runpy.run_path(path, run_name="explained")
    except TreadleError:
        raise
    except Exception as error:
        raise ConfigError(f"explain: running {path} failed: {type(error).__name__}: {error}.") from error
    function = found.get(name)
    if not callable(function):
        names = sorted(n for n, v in found.items() if isinstance(v, Compiled))
        listed = f"Compiled functions there: {', '.join(names)}." if names else "It defines no compiled function."
        raise ConfigError(f"explain: {path} has no function {name!r}. {listed}")
    return _compiled(function), [_argument(text) for text in types]


def _compiled(function: Any) -> Compiled[..., Any]:
    return function if isinstance(function, Compiled) else compile(function)


def _argument(text: str) -> np.ndarray[Any, Any]:
    """Return zeros of a type: what a function is compiled for depends on types only."""
    match = TYPE.match(text.strip())
    if match is None or match[1] not in BY_SHORT:
        raise ConfigError(
            f"explain: {text!r} is not a type. Allowed: such as f32[128,784] or i64[]; dtypes {', '.join(BY_SHORT)}."
        )
    of = Type(BY_SHORT[match[1]], tuple(int(size) for size in match[2].split(",") if size.strip()))
    return np.zeros(of.shape, of.dtype.numpy)
