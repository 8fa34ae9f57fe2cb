"""Parts of a module by name: those there are, and names for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from treadle.core import ConfigError, DTypeError

if TYPE_CHECKING:
    from .module import Module

Part = TypeVar("Part")


def part(module: Module, name: str, kind: type[Part]) -> Part:
    """Return the attribute of a module that is of a kind. AttributeError, saying what there is, if there is none."""
    found = module.__dict__.get(name)
    if isinstance(found, kind):
        return found
    known = ", ".join(n for n, value in module.__dict__.items() if isinstance(value, kind))
    raise AttributeError(
        f"{type(module).__name__} has no {kind.__name__.lower()} {name!r}. Allowed: {known or 'it has none'}."
    )


def check_name(module: Module, name: Any, kind: type[Any]) -> None:
    """Raise ConfigError unless a part of a kind can get this name."""
    what = type(module).__name__
    if not isinstance(name, str) or not name or "." in name:
        raise ConfigError(f"{what}: {name!r} cannot name a {kind.__name__.lower()}. Give a text without a dot.")
    held = module.__dict__.get(name)
    if hasattr(module, name) and not (name in module.__dict__ and (held is None or isinstance(held, kind))):
        raise ConfigError(f"{what}: the name {name!r} is taken by something else. Choose another, or delete that.")


def check_part(module: Module, name: str, part: Any, kind: type[Any]) -> None:
    """Raise an error unless a part is None or of a kind, and can get this name."""
    check_name(module, name, kind)
    if part is not None and not isinstance(part, kind):
        raise DTypeError(
            f"{type(module).__name__}: {name!r} is a {type(part).__name__}. It must be a {kind.__name__}, or None."
        )
