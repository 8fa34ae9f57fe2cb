"""What a function reads from around itself, globals and variables of enclosing functions: a change compiles it anew."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

NUMBERS = (bool, int, float, str, bytes)  # compared by value; everything else is another when it is another object
ABSENT = object()


@dataclass(frozen=True)
class Variable:
    """A variable outside of a function, and what it held when the function was traced."""

    name: str
    read: Callable[[], Any]
    value: Any

    def holds(self) -> bool:
        """Whether it still holds the same."""
        now = self.read()
        return now is self.value or (
            type(now) is type(self.value) and isinstance(now, NUMBERS) and repr(now) == repr(self.value)
        )

    def changed(self) -> str:
        """Return what it was and is, in words."""
        now = self.read()
        if isinstance(now, NUMBERS) and isinstance(self.value, NUMBERS):
            return f"the variable {self.name} was {self.value!r} and is {now!r}"
        return f"the variable {self.name} is another {type(now).__name__} than before"


def surroundings(function: Callable[..., Any]) -> list[Variable]:
    """Return the variables that the code of `function` reads and does not assign, except modules and builtins.

    Functions that it calls are not looked into, nor are attributes and items of what the variables hold.
    """
    plain = inspect.unwrap(function)
    plain = getattr(plain, "__func__", plain)
    if not isinstance(plain, FunctionType):
        return []
    found = [*_globals(plain.__code__, plain.__globals__), *_enclosing(plain)]
    return [variable for variable in found if not isinstance(variable.value, ModuleType)]


def _globals(code: CodeType, names: Mapping[str, Any]) -> Iterator[Variable]:
    read, assigned = set[str](), set[str]()
    for inner in _with_nested(code):
        for step in dis.get_instructions(inner):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                read.add(step.argval)
            elif step.opname == "STORE_GLOBAL":
                assigned.add(step.argval)
    for name in sorted(read - assigned):
        if name in names:
            yield Variable(name, partial(names.get, name, ABSENT), names[name])


def _enclosing(function: FunctionType) -> Iterator[Variable]:
    code = function.__code__
    assigned = {
        step.argval
        for inner in _with_nested(code)
        for step in dis.get_instructions(inner)
        if step.opname == "STORE_DEREF"
    }
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        read = partial(_content, cell)
        if name not in assigned and read() is not ABSENT:
            yield Variable(name, read, read())


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet, or deleted
        return ABSENT


def _with_nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_nested(constant)
