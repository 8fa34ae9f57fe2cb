"""Parameters in a list and by name, for modules that hold many of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from treadle.core import IndexRangeError
from treadle.tensor.promotion import Operand

from .containers import free_name
from .module import Module
from .parameter import Buffer, Parameter

Held = Parameter | Buffer


class _Cells(Module):
    """Parameters and buffers as attributes; anything else that is put in becomes a parameter."""

    def _held(self) -> dict[str, Held]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, Parameter | Buffer)}

    def _hold(self, name: str, value: Held | Operand) -> None:
        setattr(self, name, value if isinstance(value, Parameter | Buffer) else Parameter(value))

    def __len__(self) -> int:
        return len(self._held())

    def __repr__(self) -> str:
        lines = [f"  ({name}): {type(value).__name__} {value.node.type!r}" for name, value in self._held().items()]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class ParameterList(_Cells):
    """Parameters under the names 0, 1, 2, ..., to be used like a list."""

    def __init__(self, values: Iterable[Held | Operand] = ()) -> None:
        super().__init__()
        self.extend(values)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held().values())

    def __getitem__(self, index: int) -> Held:
        return self._held()[self._name_of(index)]

    def __setitem__(self, index: int, value: Held | Operand) -> None:
        self._hold(self._name_of(index), value)

    def __iadd__(self, values: Iterable[Held | Operand]) -> Self:
        return self.extend(values)

    def append(self, value: Held | Operand) -> Self:
        """Add a parameter at the end; return the list."""
        self._hold(str(len(self)), value)
        return self

    def extend(self, values: Iterable[Held | Operand]) -> Self:
        """Add parameters at the end; return the list."""
        for value in list(values):
            self.append(value)
        return self

    def _name_of(self, index: int) -> str:
        count = len(self)
        if not -count <= index < count:
            raise IndexRangeError(
                f"ParameterList: there is no parameter {index}, only {count}. Allowed: {-count} to {count - 1}."
            )
        return str(index % count)


class ParameterDict(_Cells):
    """Parameters by name, to be used like a dict."""

    def __init__(
        self, parameters: Mapping[str, Held | Operand] | Iterable[tuple[str, Held | Operand]] | None = None
    ) -> None:
        super().__init__()
        self.update(parameters or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._held())

    def __contains__(self, name: object) -> bool:
        return name in self._held()

    def __getitem__(self, name: str) -> Held:
        return self._held()[name]

    def __setitem__(self, name: str, value: Held | Operand) -> None:
        self._hold(free_name(self, name), value)

    def __delitem__(self, name: str) -> None:
        self[name]  # KeyError when there is none
        delattr(self, name)

    def keys(self) -> Iterable[str]:
        """Return the names."""
        return self._held().keys()

    def values(self) -> Iterable[Held]:
        """Return the parameters."""
        return self._held().values()

    def items(self) -> Iterable[tuple[str, Held]]:
        """Return names and parameters."""
        return self._held().items()

    def get(self, name: str, default: Held | None = None) -> Held | None:
        """Return a parameter, or the default where there is none."""
        return self._held().get(name, default)

    def update(self, parameters: Mapping[str, Held | Operand] | Iterable[tuple[str, Held | Operand]]) -> None:
        """Add parameters by name, those of a plain dict sorted, as in PyTorch; those under such a name make way."""
        pairs = list(dict(parameters).items())
        if isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict):
            pairs.sort(key=lambda pair: pair[0])
        for name, value in pairs:
            self[name] = value

    def pop(self, name: str) -> Held:
        """Remove a parameter, and return it."""
        value = self[name]
        del self[name]
        return value

    def clear(self) -> None:
        """Remove all parameters."""
        for name in list(self):
            del self[name]
