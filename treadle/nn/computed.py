"""Attributes of a module that are computed whenever they are read: weights made of other parameters.

A module with such attributes gets a class of its own, a subclass of its class with a property for each. Whatever the
class's code does with `self.weight`, it gets what the rule returns.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from treadle.core import ConfigError
from treadle.tensor import Tensor

from .module import Module
from .parameter import Buffer, Parameter

RULES = "_rules"  # the attribute that holds the rule of each name


class Rule(Protocol):
    """How an attribute is computed."""

    def read(self, module: Module) -> Tensor:
        """Return the value."""
        ...

    def write(self, module: Module, value: Any) -> None:
        """Set what the value is computed from, so that it becomes this."""
        ...


def compute(module: Module, name: str, rule: Rule) -> None:
    """Make an attribute computed; what stood there must be deleted first."""
    base, rules = original_class(module), {**rules_of(module), name: rule}
    module.__dict__[RULES] = rules
    module.__class__ = _class_of(base, tuple(rules))


def uncompute(module: Module, name: str) -> Rule:
    """Make an attribute ordinary again, without a value; return its rule."""
    rules = dict(rules_of(module))
    rule = rules.pop(name)
    base = original_class(module)
    module.__dict__[RULES] = rules
    if rules:
        module.__class__ = _class_of(base, tuple(rules))
    else:
        del module.__dict__[RULES]
        module.__class__ = base
    return rule


def rules_of(module: Module) -> dict[str, Rule]:
    """Return the rules of a module's computed attributes, by name."""
    return module.__dict__.get(RULES, {})


def original_class(module: Module) -> type[Module]:
    """Return the class that a module had before any attribute was computed."""
    kind = type(module)
    return kind.__mro__[1] if RULES in module.__dict__ else kind


def held_cell(what: str, module: Module, name: str) -> Parameter | Buffer:
    """Return the parameter or buffer of a name; ConfigError if there is none."""
    found = module.__dict__.get(name)
    if not isinstance(found, Parameter | Buffer):
        known = [n for n, value in module.__dict__.items() if isinstance(value, Parameter | Buffer)]
        raise ConfigError(
            f"{what}: {original_class(module).__name__} has no parameter or buffer {name!r}. "
            f"Allowed: {', '.join(known) or 'it has none'}."
        )
    return found


@cache
def _class_of(base: type[Module], names: tuple[str, ...]) -> type[Module]:
    """Return a subclass with a property for each name, printed and pickled like its base."""

    def reduced(self: Module) -> Any:
        return _blank, (base, names), self.__dict__

    members: dict[str, Any] = {name: _attribute(name) for name in names}
    return type(base.__name__, (base,), {**members, "__reduce__": reduced, "__module__": base.__module__})


def _blank(base: type[Module], names: tuple[str, ...]) -> Module:
    """Return a module without attributes: what copying and unpickling start from."""
    kind = _class_of(base, names)
    return kind.__new__(kind)


def _attribute(name: str) -> property:
    def read(self: Module) -> Tensor:
        return rules_of(self)[name].read(self)

    def write(self: Module, value: Any) -> None:
        rules_of(self)[name].write(self, value)

    return property(read, write)
