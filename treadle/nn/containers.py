"""Modules made of modules: in a row, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from treadle.core import ConfigError, IndexRangeError

from .module import Module


class _Numbered(Module):
    """Modules in an order, under the names 0, 1, 2, ..., to be used like a list."""

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Module | Self:
        if isinstance(index, slice):
            part = type(self)()
            for name, module in list(self.named_children())[index]:
                # As in PyTorch, the parameters of a part of a Sequential are called what they were.
                setattr(part, name if isinstance(self, Sequential) else str(len(part)), module)
            return part
        return list(self.children())[self._place(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._names()[self._place(index)], _checked(self, module))
        self._called(self.__dict__["_name"])

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self.children())
        del modules[index if isinstance(index, slice) else self._place(index)]
        self._fill(modules)

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, modules: Iterable[Module]) -> Self:
        both = type(self)()
        both.extend(self)
        return both.extend(modules)

    def append(self, module: Module) -> Self:
        """Add a module at the end; return the container."""
        number = len(self)
        while str(number) in self.__dict__:
            number += 1
        setattr(self, str(number), _checked(self, module))
        self._called(self.__dict__["_name"])
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end; return the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Add a module in front of the one at `index`; return the container."""
        modules = list(self.children())
        modules.insert(index, _checked(self, module))
        self._fill(modules)
        return self

    def pop(self, index: int = -1) -> Module:
        """Remove a module, and return it."""
        module = self[index]
        del self[index]
        return module

    def _names(self) -> list[str]:
        return [name for name, _ in self.named_children()]

    def _place(self, index: int) -> int:
        count = len(self)
        if not -count <= index < count:
            raise IndexRangeError(
                f"{type(self).__name__}: there is no module {index}, only {count}. Allowed: {-count} to {count - 1}."
            )
        return index % count

    def _fill(self, modules: Iterable[Module]) -> None:
        """Hold these modules instead, numbered anew."""
        for name in self._names():
            delattr(self, name)
        self.extend(modules)


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
        self.extend(modules)


class ModuleDict(Module):
    """Modules by name, which their owner calls as it likes."""

    _transparent = True

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, name: str) -> Module:
        return dict(self.named_children())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        setattr(self, free_name(self, name), _checked(self, module))
        self._called(self.__dict__["_name"])

    def __delitem__(self, name: str) -> None:
        self[name]  # KeyError when there is none
        delattr(self, name)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.named_children())

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return dict(self.named_children()).keys()

    def values(self) -> Iterable[Module]:
        """Return the modules."""
        return dict(self.named_children()).values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Return names and modules."""
        return dict(self.named_children()).items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add modules by name; those there are under such a name make way."""
        for name, module in dict(modules).items():
            self[name] = module

    def pop(self, name: str) -> Module:
        """Remove a module, and return it."""
        module = self[name]
        del self[name]
        return module

    def clear(self) -> None:
        """Remove all modules."""
        for name in list(self):
            del self[name]


def free_name(container: Module, name: str) -> str:
    """Return a name under which a container can hold something; ConfigError if it means something else there."""
    if hasattr(type(container), name) or (name.startswith("_") and name in container.__dict__):
        raise ConfigError(f"{type(container).__name__}: the name {name!r} is taken by the container. Choose another.")
    return name


def _checked(container: Module, module: object) -> Module:
    if not isinstance(module, Module):
        raise ConfigError(f"{type(container).__name__}: {module!r} is no module. Write a Module around a function.")
    return module
