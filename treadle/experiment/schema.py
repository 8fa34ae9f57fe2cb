"""A small schema for YAML: what may stand where, checked against the parsed nodes so that every problem knows its line.

`check` never stops at the first problem. It reads scalars from their text, not through YAML's own guesses: a variant
may be called `on`, `no` or `1e3`.
"""

import datetime as dt
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml


class Problem(NamedTuple):
    """Something wrong with a file: `line` counts from 1, `path` is like `metrics.revenue.type`."""

    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, `{self.path}`: {self.message}" if self.path else f"line {self.line}: {self.message}"


class Report:
    """Collects problems; remembers the line of every path that was read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}

    def add(self, path: str, message: str, *, line: int | None = None) -> None:
        """Record a problem at a path.

        Without `line`, at the path's own line or that of the nearest parent that exists.
        """
        at = path
        while line is None:
            line = self.lines.get(at)
            at = at.rpartition(".")[0] if line is None and at else at
            if line is None and not at:
                line = self.lines.get("", 1)
        self.problems.append(Problem(line, path, message))


@dataclass(frozen=True)
class Text:
    """Any non-empty text."""

    def __str__(self) -> str:
        return "a text"


@dataclass(frozen=True)
class Number:
    """A number between `low` and `high`, `%` allowed; `open_low`, `open_high`: the end itself is not allowed."""

    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False
    whole: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.low == float("-inf") and self.high == float("inf"):
            return kind
        if self.high == float("inf"):
            return f"{kind} {'above' if self.open_low else 'of at least'} {self.low:g}"
        return f"{kind} in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"

    def allows(self, value: float) -> bool:
        """Whether the value lies in the range."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def __str__(self) -> str:
        return "true or false"


@dataclass(frozen=True)
class Date:
    """A day, 2026-01-31."""

    def __str__(self) -> str:
        return "a date like 2026-01-31"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Any1:
    """A text, a number or a flag, as YAML reads it."""

    def __str__(self) -> str:
        return "a text, a number, or true or false"


@dataclass(frozen=True)
class ListOf:
    """A sequence; with `lone`, a single item may stand without brackets."""

    item: "Schema"
    lone: bool = False

    def __str__(self) -> str:
        return f"a list, each item {self.item}"


@dataclass(frozen=True)
class MapOf:
    """A mapping from names to one kind of value; `short` names the field that a bare value stands for."""

    value: "Schema"

    def __str__(self) -> str:
        return f"a mapping from names, each value {self.value}"


@dataclass(frozen=True)
class Record:
    """A mapping with known fields. A bare scalar stands for the field `short`, when there is one."""

    fields: Mapping[str, "Schema"]
    required: tuple[str, ...] = ()
    short: str | None = None
    name: str = "a mapping"

    def __str__(self) -> str:
        return f"{self.name} with {', '.join(self.fields)}"


Schema = Text | Number | Flag | Date | Choice | Any1 | ListOf | MapOf | Record


def parse(text: str, report: Report) -> yaml.Node | None:
    """The YAML node of a text, or None with a problem recorded."""
    try:
        node: Any = yaml.compose(text, yaml.SafeLoader)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        report.add(
            "",
            f"not YAML: {error.problem or error}; check indentation, colons and quotes.",
            line=mark.line + 1 if mark else 1,
        )
        return None
    if not isinstance(node, yaml.Node):
        report.add("", "the file is empty; `treadle experiment new` writes a template.", line=1)
        return None
    return node


def check(node: yaml.Node, schema: Schema, report: Report, path: str = "") -> Any:
    """The value of a node under a schema, as dicts, lists and scalars.

    None (and a problem in `report`) where it does not fit.
    """
    report.lines.setdefault(path, node.start_mark.line + 1)
    match schema:
        case Record():
            return _record(node, schema, report, path)
        case MapOf():
            if not isinstance(node, yaml.MappingNode):
                return _wrong(node, schema, report, path)
            pairs = _pairs(node, report, path)
            return {name: check(value, schema.value, report, _join(path, name)) for name, value in pairs.items()}
        case ListOf():
            if schema.lone and not isinstance(node, yaml.SequenceNode):
                return [check(node, schema.item, report, path)]
            if not isinstance(node, yaml.SequenceNode):
                return _wrong(node, schema, report, path)
            return [check(item, schema.item, report, f"{path}[{i}]") for i, item in enumerate(node.value)]
        case _:
            if not isinstance(node, yaml.ScalarNode):
                return _wrong(node, schema, report, path)
            return _scalar(node, schema, report, path)


def suggest(word: str, allowed: Iterable[str]) -> str:
    """What is allowed, and which of it is near `word`."""
    known = list(allowed)
    near = difflib.get_close_matches(word.lower(), known, 1, 0.6)
    return f"allowed: {', '.join(known) or 'nothing'}" + (f"; did you mean `{near[0]}`?" if near else ".")


def _record(node: yaml.Node, schema: Record, report: Report, path: str) -> dict[str, Any] | None:
    if schema.short and isinstance(node, yaml.ScalarNode):
        return {schema.short: check(node, schema.fields[schema.short], report, path)}
    if not isinstance(node, yaml.MappingNode):
        return _wrong(node, schema, report, path)
    pairs = _pairs(node, report, path)
    values: dict[str, Any] = {}
    for name, value in pairs.items():
        if name not in schema.fields:
            report.add(_join(path, name), f"there is no field `{name}` here; {suggest(name, schema.fields)}")
        elif not _is_null(value):
            values[name] = check(value, schema.fields[name], report, _join(path, name))
    for name in schema.required:
        if name not in values:
            report.add(
                path, f"the field `{name}` is missing; it is {schema.fields[name]}.", line=node.start_mark.line + 1
            )
    return values


def _pairs(node: yaml.MappingNode, report: Report, path: str) -> dict[str, yaml.Node]:
    pairs: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in pairs:
            report.add(
                _join(path, name),
                f"`{name}` stands here twice, first on line {report.lines[_join(path, name)]}; keep one.",
                line=line,
            )
            continue
        report.lines[_join(path, name)] = line
        pairs[name] = value
    return pairs


def _scalar(node: yaml.ScalarNode, schema: Schema, report: Report, path: str) -> Any:
    text: str = node.value
    if _is_null(node):
        return _wrong(node, schema, report, path)
    match schema:
        case Choice(words):
            if text in words:
                return text
            report.add(path, f"`{text}` is not allowed; {suggest(text, words)}")
            return None
        case Number():
            value = _number(text)
            if value is None or (schema.whole and value != int(value)) or not schema.allows(value):
                return _wrong(node, schema, report, path)
            return int(value) if schema.whole else value
        case Flag():
            words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
            return words[text.lower()] if text.lower() in words else _wrong(node, schema, report, path)
        case Date():
            try:
                return dt.date.fromisoformat(text)
            except ValueError:
                return _wrong(node, schema, report, path)
        case Any1() if node.style is None:
            value = yaml.safe_load(text)
            return value if isinstance(value, int | float | bool) else text
        case _:
            return text


def _number(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%").replace("_", ""))
    except ValueError:
        return None
    value = value / 100 if text.endswith("%") else value
    return value if value - value == 0 else None  # neither infinite nor NaN


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in {"", "~", "null"}


def _wrong(node: yaml.Node, schema: Schema, report: Report, path: str) -> None:
    if isinstance(node, yaml.ScalarNode):
        found = "nothing" if _is_null(node) else f"`{node.value}`"
    else:
        found = "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    report.add(path, f"is {found}, but must be {schema}.", line=node.start_mark.line + 1)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def joined(words: Sequence[str]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{word}`" for word in words]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else "".join(quoted)
