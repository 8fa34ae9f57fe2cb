"""Layers without parameters: a function, and the settings it is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .module import Module


class Stateless(Module):
    """A function as a layer; its settings are attributes and are shown in the repr."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self.settings = tuple(settings)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the function makes of the arguments."""
        settings = {name: getattr(self, name) for name in self.settings}
        return type(self).function(*args, **settings, **kwargs)

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
