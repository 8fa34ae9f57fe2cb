"""State dicts: the values of a module by path, taken from it and put into it, with what hooks make of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle.core import CheckpointError
from treadle.tensor.creation import asarray
from treadle.tensor.promotion import is_array

from .hooks import of_kind
from .parameter import Buffer, Parameter, Uninitialized, renew

if TYPE_CHECKING:
    from .module import Module

EXTRA = "_extra_state"  # the name of what `get_extra_state` returns


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` found missing, and what it left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def save_own(module: Module, found: MutableMapping[str, Any], prefix: str, *, keep_vars: bool) -> None:
    """Put the values of a module's own parameters and lasting buffers, and its extra state, into a dict."""
    for name, cell in _lasting(module):
        found[prefix + name] = cell if keep_vars else cell.value
    if _has_extra(module, "get_extra_state"):
        found[prefix + EXTRA] = module.get_extra_state()


def _lasting(module: Module) -> Iterator[tuple[str, Parameter | Buffer]]:
    for name, value in module.named_cells(recurse=False, shared=True):
        if getattr(value, "persistent", True):
            yield name, value


def _has_extra(module: Module, method: str) -> bool:
    """Whether the class of a module defines one of the methods that `Module` leaves open."""
    return not getattr(getattr(type(module), method), "open", False)


class Loading:
    """A state dict on its way into a module: what fits, what is missing, and what hooks add.

    Values are set when all is known to fit, so that a state that does not fit changes nothing.
    """

    def __init__(self, module: Module, state: Mapping[str, Any], *, strict: bool, assign: bool) -> None:
        self.module, self.strict, self.assign = module, strict, assign
        self.state = dict(state)  # hooks may change it
        self.keys = IncompatibleKeys([], [])
        self.problems: list[str] = []  # what hooks found wrong
        self.shapes: list[str] = []
        self.values: list[tuple[Parameter | Buffer, Any]] = []
        self.extras: list[tuple[Module, Any]] = []
        self.listeners: list[Module] = []  # with hooks to call afterwards, inner ones first
        self.known: set[str] = set()
        self._visit(module, "")
        self.keys.unexpected_keys.extend(name for name in self.state if name not in self.known)

    def _visit(self, module: Module, prefix: str) -> None:
        for hook in of_kind(module, "load_pre"):
            missing, unexpected = self.keys
            hook(module, self.state, prefix, {}, self.strict, missing, unexpected, self.problems)
        for name, cell in _lasting(module):
            value = self._take(prefix + name)
            if value is None:
                continue
            if not isinstance(cell, Uninitialized) and tuple(value.shape) != cell.shape:
                self.shapes.append(f"{prefix + name} is {list(value.shape)}, the model's {list(cell.shape)}")
            self.values.append((cell, value))
        if _has_extra(module, "set_extra_state"):
            extra = self._take(prefix + EXTRA)
            if extra is not None:
                self.extras.append((module, extra))
        for name, child in module.named_children():
            self._visit(child, f"{prefix}{name}.")
        if any(of_kind(module, "load_post")):
            self.listeners.append(module)

    def _take(self, name: str) -> Any:
        self.known.add(name)
        if name not in self.state:
            self.keys.missing_keys.append(name)
        return self.state.get(name)

    def run(self) -> IncompatibleKeys:
        """Set the values; CheckpointError, and everything as before, where they do not fit."""
        if self.problems or self.shapes or not (self.listeners or self._fits()):
            raise self._error()
        before = [(cell, cell.detach()) for cell, _ in self.values] if not self._fits() else []
        for cell, value in self.values:
            self._set(cell, value if is_array(value) else asarray(value))
        for module, extra in self.extras:
            module.set_extra_state(extra)
        for module in self.listeners:
            for hook in of_kind(module, "load_post"):
                hook(module, self.keys)  # which may take names off the lists
        if not self._fits():
            for cell, value in before:
                renew(cell, value)
            raise self._error()
        return self.keys

    def _fits(self) -> bool:
        return not (self.strict and (self.keys.missing_keys or self.keys.unexpected_keys))

    def _set(self, cell: Parameter | Buffer, value: Any) -> None:
        if isinstance(cell, Uninitialized):
            cell.materialize(value.shape, dtype=value.dtype if self.assign else None)
        if self.assign:
            renew(cell, asarray(value))
        else:
            cell.value = value

    def _error(self) -> CheckpointError:
        missing, unexpected = self.keys
        wrong = [
            *([f"missing: {_listed(missing)}"] if missing and self.strict else []),
            *([f"not in the model: {_listed(unexpected)}"] if unexpected and self.strict else []),
            *([f"other shapes: {_listed(self.shapes)}"] if self.shapes else []),
            *self.problems,
        ]
        only_names = self.strict and not (self.shapes or self.problems)
        return CheckpointError(
            f"load_state_dict: the state is not one of this {type(self.module).__name__}; {'; '.join(wrong)}. "
            f"Make the model with the settings it was saved with"
            f"{', or pass strict=False to load what fits.' if only_names else '.'}"
        )


def load(module: Module, state: Any, *, strict: bool, assign: bool) -> IncompatibleKeys:
    """Set parameters and buffers by path; see `Module.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"load_state_dict: a {type(state).__name__} is no state dict. Give a dict of tensors by name, such as "
            "nn.load(path) returns."
        )
    return Loading(module, state, strict=strict, assign=assign).run()  # pyright: ignore[reportUnknownArgumentType]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
