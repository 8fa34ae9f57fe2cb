"""Where in the user's program something comes from: lines, each with the modules that ran it, equal layers as one."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from treadle.ir import Source

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """A line of the user's program; `modules` are paths such as `blocks.{0..5}.fc`, none outside modules."""

    file: str
    line: int
    modules: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The line itself; empty if the file is not there."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        where = f"{short_path(self.file)}:{self.line}"
        return f"{where} in {', '.join(self.modules)}" if self.modules else where


def places_of(sources: Iterable[Source | None]) -> tuple[Place, ...]:
    """Return the places of some sources in order of first appearance."""
    found: dict[tuple[str, int], list[str]] = {}
    for source in sources:
        if source is not None:
            modules = found.setdefault((source.file, source.line), [])
            if source.module and source.module not in modules:
                modules.append(source.module)
    return tuple(Place(file, line, layers(modules)) for (file, line), modules in found.items())


def layers(names: Iterable[str]) -> tuple[str, ...]:
    """Return module paths with those that differ in numbers only as one.

    >>> layers(["head", "blocks.0.fc", "blocks.1.fc", "blocks.4.fc"])
    ('head', 'blocks.{0..1,4}.fc')
    """
    shapes: dict[str, list[list[int]]] = {}
    for name in names:
        shapes.setdefault(re.sub(r"(?<![^.])\d+(?![^.])", "*", name), []).append(
            [int(part) for part in name.split(".") if part.isdigit()]
        )
    out: list[str] = []
    for shape, numbers in shapes.items():
        columns = [sorted(set(column)) for column in zip(*numbers, strict=True)]
        fixed = shape.split("*")
        out.append("".join([fixed[0], *[_ranges(c) + f for c, f in zip(columns, fixed[1:], strict=True)]]))
    return tuple(out)


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return "{" + ",".join("..".join(map(str, part)) for part in parts) + "}"


def short_path(file: str) -> str:
    """Return a path as people write it: from the current folder, or from treadle's own, if it is inside."""
    for folder in (Path.cwd(), PACKAGE.parent):
        if Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return Path(file).name
