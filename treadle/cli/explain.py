"""`treadle explain`: what the compiler made of a run's training step, or of a function in a file."""

from __future__ import annotations

import contextlib
import inspect
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import click
import numpy as np
from rich.console import Console

from treadle.core import BY_SHORT, ConfigError, MemoryLimitError, TreadleError, Type
from treadle.inspect import explain as explained
from treadle.jit import FORMS, Compiled, Plan, compile, recorded_plans
from treadle.train import gpt

TYPE = re.compile(r"^(\w+)\[([\d, ]*)\]$")
EXAMPLES = ("example_args", "EXAMPLE")
RUN_NAMES = ("explained", "__main__")  # the file is run under


@click.command()
@click.argument("what", metavar="RUN|FILE.py:FUNCTION")
@click.option(
    "--arg", "types", multiple=True, help="Type of an argument of FUNCTION, such as f32[128,784]. Repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timeline", type=click.Path(path_type=Path), help="Write one step of all threads as a Chrome trace.")
@click.option(
    "--stage", help="Print one intermediate form instead: simplify, memory, llvm:KERNEL, ... `list` prints their names."
)
def explain(what: str, types: tuple[str, ...], as_json: bool, timeline: Path | None, stage: str | None) -> None:
    """Show passes, kernels, fusion decisions, memory, threads and times of a compiled function.

    RUN is the folder of a training run: its training step is explained.

    FUNCTION is a function of FILE.py, compiled or not. What it is compiled for comes from, in this order: --arg;
    `EXAMPLE = (x, y)` or `def example_args()` in the file (a dict gives them by function name); the calls that
    running the file makes, first as a module, then as a script. Of several variants the last one compiled is
    explained. What the file prints goes to stderr.
    """
    plan = _of_file(what, types) if ".py:" in what else _of_run(what, types)
    if stage is not None:
        click.echo(_stage(plan, stage))
        if timeline is None:
            return
    report = explained(plan)
    if timeline is not None:
        report.write_timeline(timeline)
        click.echo(f"timeline of one step: {timeline} (for https://ui.perfetto.dev or chrome://tracing)", err=True)
    if stage is not None:
        return
    if as_json:
        click.echo(report.to_json())
    elif sys.stdout.isatty():
        Console().print(report)
    else:
        click.echo(str(report))


def _stage(plan: Plan, name: str) -> str:
    stages = plan.stages()
    if name == "list":
        return "\n".join(stages)
    if name in FORMS:  # of all kernels
        return "\n\n".join(f"--- {n}\n{text}" for n, text in stages.items() if n.startswith(f"{name}:"))
    return stages[name]


# ---- what to explain


def _of_run(folder: str, types: Sequence[str]) -> Plan:
    if folder.endswith(".py"):
        raise ConfigError(f"explain: which function of {folder}? Name it: {folder}:FUNCTION.")
    if types:
        raise ConfigError(
            "explain: --arg is for functions of a file; a run's step has the arguments it was trained with."
        )
    made = gpt.resume(Path(folder), truncate=False)
    return made.trainer.compiled.plan(*made.trainer.train_source.batch(made.trainer.step))


def _of_file(what: str, types: Sequence[str]) -> Plan:
    path, _, name = what.rpartition(":")
    if not Path(path).is_file():
        raise ConfigError(f"explain: {path} does not exist. Give FILE.py:FUNCTION, or the folder of a run.")
    if not name:
        raise ConfigError(f"explain: which function of {path}? Name it: {path}:FUNCTION.")
    with recorded_plans() as plans:
        # First not as __main__: what a script guards with `if __name__ == "__main__"` may take long.
        found = _run_file(path, "explained")
        function = found.get(name)
        arguments = [_argument(text) for text in types] or _example(found, name)
        if arguments is None and callable(function) and not _needs_arguments(function):
            arguments = []
        if callable(function) and arguments is not None:
            return _planned(function, arguments, path, name)
        plan = _compiled_there(function, plans, path, name)
        if plan is None and "__main__" in Path(path).read_text(encoding="utf-8", errors="replace"):
            found |= _run_file(path, "__main__", lambda: _compiled_there(None, plans, path, name) is not None)
            plan = _compiled_there(found.get(name), plans, path, name)
    if plan is not None:
        return plan
    if callable(function) or callable(found.get(name)):
        raise ConfigError(
            f"explain: running {path} does not call {name} as a compiled function, so there are no shapes to compile "
            f"it for. Give the types of its arguments (--arg f32[128,784] ...), or define `EXAMPLE = (x, y)` or "
            f"`def example_args()` in the file."
        )
    here = {n for n, v in found.items() if isinstance(v, Compiled | FunctionType) and v.__module__ in RUN_NAMES}
    names = sorted(here | {p.origin.name for p in plans})
    listed = f"Functions there: {', '.join(names)}." if names else "It defines no function."
    raise ConfigError(f"explain: {path} has no function {name!r}. {listed}")


def _planned(function: Callable[..., Any], arguments: Sequence[Any], path: str, name: str) -> Plan:
    """Return the Plan for these arguments; what the function raises meanwhile is said with its line."""
    try:
        return (function if isinstance(function, Compiled) else compile(function)).plan(*arguments)
    except (TreadleError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"explain: compiling {name} for {len(arguments)} arguments failed{_at(error, path)}: "
            f"{type(error).__name__}: {error}. Give the arguments it takes (--arg, EXAMPLE); --debug shows where."
        ) from error


def _needs_arguments(function: Callable[..., Any]) -> bool:
    """Whether the function cannot be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return True
    return False


def _at(error: BaseException, path: str) -> str:
    """Return the line of the file that an error came from, in words."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" at line {lines[-1]}" if lines else ""


def _compiled_there(function: Any, plans: Sequence[Plan], path: str, name: str) -> Plan | None:
    """Return the last Plan of the function; functions inside others are found by their own name too."""
    if isinstance(function, Compiled) and function.plans:
        plans = function.plans
    else:
        here = Path(path).resolve()
        local = [plan for plan in plans if Path(plan.origin.file).resolve() == here]
        plans = [plan for plan in local if name in (plan.origin.name, plan.origin.name.rpartition(".")[2])]
    return plans[-1] if plans else None


def _run_file(path: str, run_name: str, enough: Any = lambda: False) -> dict[str, Any]:
    """Return the names a file defines when it is run; stopping it is fine once there is `enough` to explain."""
    arguments, folder = sys.argv[:], str(Path(path).resolve().parent)
    sys.argv[:] = [path]
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return runpy.run_path(path, run_name=run_name)
    except TreadleError:
        raise
    except (SystemExit, KeyboardInterrupt) as stop:
        if isinstance(stop, KeyboardInterrupt) and not enough():
            raise
        return {}
    except Exception as error:
        raise ConfigError(
            f"explain: running {path} failed{_at(error, path)}: {type(error).__name__}: {error}."
        ) from error
    finally:
        sys.argv[:] = arguments
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _example(found: dict[str, Any], name: str) -> list[Any] | None:
    """Return the arguments a file gives as an example, or None."""
    for key in EXAMPLES:
        example: Any = found.get(key)
        if callable(example):
            example = example()
        kind = example.__class__
        if issubclass(kind, dict):
            example = example.get(name)
            kind = example.__class__
        if example is not None:
            return list(example) if issubclass(kind, tuple | list) else [example]
    return None


def _argument(text: str) -> np.ndarray[Any, Any]:
    """Return zeros of a type: what a function is compiled for depends on types only."""
    match = TYPE.match(text.strip())
    if match is None or match[1] not in BY_SHORT:
        raise ConfigError(
            f"explain: {text!r} is not a type. Allowed: such as f32[128,784] or i64[]; dtypes {', '.join(BY_SHORT)}."
        )
    of = Type(BY_SHORT[match[1]], tuple(int(size) for size in match[2].split(",") if size.strip()))
    try:
        return np.zeros(of.shape, of.dtype.numpy)
    except (MemoryError, ValueError):
        raise MemoryLimitError(f"explain: an argument {of!r} does not fit into memory. Give smaller sizes.") from None
