"""Where a node came from: the user's file and line, and the path of the module that ran it."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

PACKAGE = str(Path(__file__).resolve().parent.parent)


class Source(NamedTuple):
    """A line of the user's program; `module` is the path of the running module, as in `blocks.0.mlp`."""

    file: str
    line: int
    module: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}"
        return f"{place} in {self.module}" if self.module else place


class _Here:
    """What the next node is attributed to: a fixed source, or the user's frame under the running modules."""

    def __init__(self) -> None:
        self.fixed: Source | None = None
        self.modules: list[str] = []


_here = _Here()


MODELS = ("nn", "optim", "data", "train")  # packages whose code is written as a user's would be


@lru_cache(maxsize=4096)
def _kind(code: CodeType) -> str:
    """Return whose code it is: "user", or of treadle "models", "command" (nobody's program calls it) or "core"."""
    name = code.co_filename
    if not name.startswith(PACKAGE + os.sep):
        return "core" if name.startswith("<frozen") else "user"
    package = name[len(PACKAGE) + 1 :].partition(os.sep)[0]
    return "models" if package in MODELS else "command" if package == "cli" else "core"


def user_source() -> Source | None:
    """Return the innermost frame outside treadle, or the source fixed by `attributed_to`.

    Under the `treadle` command there is none; then it is the innermost line of a model or optimiser.
    """
    if _here.fixed is not None:
        return _here.fixed
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]  # the documented way to walk frames cheaply
    models = None
    while frame is not None and (kind := _kind(frame.f_code)) != "user":
        if kind == "models" and models is None:
            models = frame
        frame = None if kind == "command" else frame.f_back
    frame = frame or models
    if frame is None:
        return None
    return Source(frame.f_code.co_filename, frame.f_lineno, ".".join(_here.modules))


class attributed_to:  # entered for every node of a pass; a generator would take five times as long
    """Attribute nodes made inside to `source`: a gradient belongs to the line of its forward op."""

    __slots__ = ("before", "source")

    def __init__(self, source: Source | None) -> None:
        self.source = source

    def __enter__(self) -> None:
        self.before = _here.fixed
        if self.source is not None:
            _here.fixed = self.source

    def __exit__(self, *_: object) -> None:
        _here.fixed = self.before


@contextmanager
def inside_module(name: str) -> Generator[None]:
    """Put `name` on the module path of nodes made inside."""
    _here.modules.append(name)
    try:
        yield
    finally:
        _here.modules.pop()


def module_path() -> str:
    """Return the path of the modules now running, joined by dots."""
    return ".".join(_here.modules)
