"""A module called with other parameters than its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core import ConfigError, ShapeError
from treadle.nn.module import Module
from treadle.tensor import Cell
from treadle.tensor.promotion import Operand, as_tensor


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Operand],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Return `module(*args, **kwargs)` computed with tensors in place of some of its parameters and buffers.

    Gradients flow to the tensors, so `td.grad` of a function of them works. The module is left as it was, and what it
    writes to a replaced buffer is lost.

    Args:
        module: what to call.
        parameters_and_buffers: tensors by path, as in `state_dict()`.
        args: a tuple of arguments, or the only one.
        kwargs: named arguments.
        tie_weights: what replaces a shared parameter replaces it everywhere.
        strict: refuse when a parameter or buffer is not given.
    """
    paths = _paths(module)
    unknown = [name for name in parameters_and_buffers if name not in paths]
    missing = [name for name in paths if name not in parameters_and_buffers] if strict else []
    if unknown or missing:
        raise ConfigError(
            f"functional_call: not in the module: {', '.join(unknown) or 'none'}; missing: "
            f"{', '.join(missing) or 'none'}. Allowed: {', '.join(paths)}."
        )
    changed: list[tuple[Module, str, Cell]] = []
    try:
        for name, value in parameters_and_buffers.items():
            holder, attribute, cell = paths[name]
            tensor = as_tensor("functional_call", value)
            if tensor.shape != cell.shape:
                raise ShapeError(f"functional_call: {name} is {tensor.node.type!r}. Its shape is {list(cell.shape)}.")
            places = [p for p in paths.values() if p[2] is cell] if tie_weights else [(holder, attribute, cell)]
            for place in places:
                changed.append(place)
                place[0].__dict__[place[1]] = tensor
        given = args if isinstance(args, tuple) else (args,)  # pyright: ignore[reportUnknownVariableType]
        return module(*given, **(kwargs or {}))
    finally:
        for holder, attribute, cell in changed:
            holder.__dict__[attribute] = cell


def _paths(module: Module, prefix: str = "") -> dict[str, tuple[Module, str, Cell]]:
    """Return, for each parameter and buffer by path, the module that holds it and as which attribute."""
    found: dict[str, tuple[Module, str, Cell]] = {}
    for name, value in module.__dict__.items():
        if isinstance(value, Cell):
            found[prefix + name] = (module, name, value)
    for name, child in module.named_children():
        found |= _paths(child, f"{prefix}{name}.")
    return found
