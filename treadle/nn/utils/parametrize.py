"""Parametrisations: a weight computed by modules from other parameters, for any module that has a weight.

`parametrizations.weight.original` is what is trained, and `weight` what the modules make of it, each time it is read.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.nn.computed import compute, held_cell, original_class, rules_of, uncompute
from treadle.nn.containers import ModuleDict, ModuleList
from treadle.nn.module import Module
from treadle.nn.parameter import Buffer, Parameter
from treadle.tensor import Tensor, set_grad_enabled, state
from treadle.tensor.promotion import as_tensor

ATTRIBUTE = "parametrizations"  # where a module holds what its weights are made of


class _Cache(threading.local):
    """Within `cached()`: values by module and name, and by the trace they were made in.

    Trace and module are held, so that no later one has their identity.
    """

    values: dict[tuple[int, int, str], tuple[object, Module, Tensor]] | None = None


_cache = _Cache()


class ParametrizationList(ModuleList):
    """The parametrisations of one weight, applied one after the other, and the cells they start from.

    There is one cell, `original`, or several, `original0`, `original1`, ..., if the first one's `right_inverse` returns
    several tensors.
    """

    def __init__(self, modules: Sequence[Module], original: Parameter | Buffer, unsafe: bool = False) -> None:
        super().__init__(modules)
        self.unsafe = unsafe
        start = _inverted(modules, original.detach(), strict=False)
        self.is_tensor = isinstance(start, Tensor)
        self.ntensors = 1 if isinstance(start, Tensor) else len(start)
        if isinstance(start, Tensor):
            if start.dtype != original.dtype:
                raise DTypeError(
                    f"parametrize: right_inverse makes {start.dtype.name} of {original.dtype.name}. It must stay."
                )
            if start.shape != original.shape:
                original = _like(original, start)
            original.value = start
            self.original = original
        else:
            for i, part in enumerate(start):
                setattr(self, f"original{i}", _like(original, part))
        if not unsafe:
            with set_grad_enabled(False):
                _check_kept("parametrize: the parametrised weight", self(), original)

    def originals(self) -> list[Parameter | Buffer]:
        """Return the cells that the weight is made of."""
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def forward(self) -> Tensor:
        """Return the weight."""
        first, *rest = self
        value: Tensor = first(*[cell.read() for cell in self.originals()])
        for module in rest:
            value = module(value)
        return value

    def right_inverse(self, value: Any) -> None:
        """Set the originals so that the weight becomes this value, as far as that is possible."""
        start = _inverted(list(self), as_tensor("parametrize", value), strict=True)
        parts = [start] if isinstance(start, Tensor) else list(start)
        for cell, part in zip(self.originals(), parts, strict=True):
            cell.value = part


class _Parametrized:
    """The rule of a parametrised attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, module: Module) -> Tensor:
        values = _cache.values
        if values is None:
            return _list_of(module, self.name)()
        key = (id(state.trace), id(module), self.name)
        if key not in values:
            values[key] = (state.trace, module, _list_of(module, self.name)())
        return values[key][2]

    def write(self, module: Module, value: Any) -> None:
        _list_of(module, self.name).right_inverse(value)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Make a parameter or buffer the result of a module, on top of those it is the result of already; return `module`.

    Args:
        module: whose weight it is.
        tensor_name: the name of the weight.
        parametrization: its `forward` makes the weight of what is trained. Its `right_inverse(weight)`, if it has one,
            says what that is at the start, and when the weight is assigned to; it may return several tensors.
        unsafe: allow that shape or dtype change.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        held = _list_of(module, tensor_name)
        if not unsafe:
            with set_grad_enabled(False):
                before: Tensor = getattr(module, tensor_name)
                _check_kept("parametrize: the parametrised weight", parametrization(before), before)
        held.append(parametrization)
        held.unsafe = held.unsafe or unsafe
        return module
    original = held_cell("register_parametrization", module, tensor_name)
    made = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if ATTRIBUTE not in module.__dict__:
        setattr(module, ATTRIBUTE, ModuleDict())
    _lists(module)[tensor_name] = made
    compute(module, tensor_name, _Parametrized(tensor_name))
    return module


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make a parametrised weight an ordinary parameter again; return the module.

    Args:
        module: whose weight it is.
        tensor_name: the name of the weight.
        leave_parametrized: keep the value that the parametrisation gives now; else the value of `original`.
    """
    if not is_parametrized(module, tensor_name):
        raise ConfigError(
            f"remove_parametrizations: {tensor_name!r} of {original_class(module).__name__} is not parametrised. "
            f"Parametrised are: {', '.join(_lists(module)) if is_parametrized(module) else 'none'}."
        )
    held = _list_of(module, tensor_name)
    if not (leave_parametrized or held.is_tensor):
        raise ConfigError(
            f"remove_parametrizations: {tensor_name!r} is made of {held.ntensors} tensors, so no one is the original. "
            "Use leave_parametrized=True."
        )
    cell = held.originals()[0]
    if leave_parametrized:
        with set_grad_enabled(False):
            value: Tensor = getattr(module, tensor_name)
        # Where it fits, the cell that optimisers know stays.
        if not held.is_tensor or (cell.shape, cell.dtype) != (value.shape, value.dtype):
            cell = _like(cell, value)
        cell.value = value
    uncompute(module, tensor_name)
    del _lists(module)[tensor_name]
    if not len(_lists(module)):
        delattr(module, ATTRIBUTE)
    setattr(module, tensor_name, cell)
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a weight, or any, is parametrised."""
    names = [name for name, rule in rules_of(module).items() if isinstance(rule, _Parametrized)]
    return bool(names) if tensor_name is None else tensor_name in names


def type_before_parametrizations(module: Module) -> type[Module]:
    """Return the class of a module, parametrised or not."""
    return original_class(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Parametrise weights of one module as those of another are, by the same modules and cells; return the one.

    Args:
        from_module: what to take from.
        to_module: what to change; a weight that it does not have is made.
        tensor_name: which weight; all parametrised ones when None.
    """
    for name in list(_lists(from_module)) if is_parametrized(from_module) else []:
        if tensor_name not in (None, name):
            continue
        if name not in to_module.__dict__ and not is_parametrized(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        source = _list_of(from_module, name)
        for parametrization in source:
            register_parametrization(to_module, name, parametrization, unsafe=source.unsafe)
        target = _list_of(to_module, name)
        for cell, part in zip(_names(target), source.originals(), strict=True):
            setattr(target, cell, part)
    return to_module


@contextmanager
def cached() -> Generator[None]:
    """Within a `with` block, compute each parametrised weight once, however often it is read."""
    before = _cache.values
    _cache.values = {} if before is None else before
    try:
        yield
    finally:
        _cache.values = before


def _names(held: ParametrizationList) -> Iterator[str]:
    return (name for name, value in held.__dict__.items() if isinstance(value, Parameter | Buffer))


def _lists(module: Module) -> ModuleDict:
    found = module.__dict__[ATTRIBUTE]
    assert isinstance(found, ModuleDict)
    return found


def _list_of(module: Module, name: str) -> ParametrizationList:
    found = _lists(module)[name]
    assert isinstance(found, ParametrizationList)
    return found


def _inverted(modules: Sequence[Module], value: Tensor, *, strict: bool) -> Tensor | Sequence[Tensor]:
    """Return what modules make the value of; one without an inverse is passed over, or refused if `strict`."""
    found: Any = value
    with set_grad_enabled(False):
        for module in reversed(modules):
            inverse = getattr(module, "right_inverse", None)
            try:
                if inverse is not None:
                    found = inverse(found)
                    continue
                reason = "it has no right_inverse"
            except NotImplementedError as error:
                reason = str(error)
            if strict:
                raise ConfigError(
                    f"parametrize: the weight cannot be assigned to, because of {type(module).__name__}: {reason}. "
                    "Assign to the originals, in `module.parametrizations`."
                )
    return found


def _like(cell: Parameter | Buffer, value: Tensor) -> Parameter | Buffer:
    """Return a cell of the same kind with another value."""
    if isinstance(cell, Buffer):
        return Buffer(value.detach(), persistent=cell.persistent)
    return Parameter(value.detach(), cell.requires_grad)


def _check_kept(what: str, value: object, before: Parameter | Buffer | Tensor) -> None:
    if not isinstance(value, Tensor):
        raise DTypeError(f"{what} is a {type(value).__name__}. A parametrisation must return a tensor.")
    if value.dtype != before.dtype:
        raise DTypeError(
            f"{what} is {value.node.type!r}, and was {before.dtype.name}. The dtype must stay, or pass unsafe=True."
        )
    if value.shape != before.shape:
        raise ShapeError(
            f"{what} is {value.node.type!r}, and was {list(before.shape)}. The shape must stay, or pass unsafe=True."
        )
