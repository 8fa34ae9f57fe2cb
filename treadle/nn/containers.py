"""Modules made of modules: in a row, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from treadle.core import ConfigError

from .module import Module


class _Numbered(Module):
    """Modules under the names 0, 1, 2, ..."""

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int) -> Module:
        return list(self.children())[index]

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        setattr(self, str(len(self)), _checked(self, module))
        self._called(self.__dict__["_name"])


class Sequential(_Numbered):
    """Calls modules one after the other, each with the result of the one before."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        super().__init__()
        named = (
            modules[0].items()
            if len(modules) == 1 and isinstance(modules[0], Mapping)
            else ((str(i), module) for i, module in enumerate(modules))
        )
        for name, module in named:
            setattr(self, name, _checked(self, module))

    def forward(self, x: Any) -> Any:
        """Return the result of the last module."""
        for module in self.children():
            x = module(x)
        return x


class ModuleList(_Numbered):
    """A list of modules, which its owner calls as it likes."""

    _transparent = True

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for i, module in enumerate(modules):
            setattr(self, str(i), _checked(self, module))


class ModuleDict(Module):
    """Modules by name, which their owner calls as it likes."""

    _transparent = True

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        for name, module in (modules or {}).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        return dict(self.named_children())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        setattr(self, name, _checked(self, module))
        self._called(self.__dict__["_name"])

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named_children())


def _checked(container: Module, module: object) -> Module:
    if not isinstance(module, Module):
        raise ConfigError(f"{type(container).__name__}: {module!r} is no module. Write a Module around a function.")
    return module
