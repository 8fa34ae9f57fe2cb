"""The base of all layers: attributes are parameters, buffers and modules, found by looking; calling runs `forward`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from treadle.core import CheckpointError, ConfigError, DTypeError, as_dtype
from treadle.ir import inside_module
from treadle.tensor import Cell, Tensor, state
from treadle.tensor.creation import asarray, zeros
from treadle.tensor.promotion import is_array
from treadle.tensor.torch_names import module_hint

from .parameter import Buffer, Parameter

DEVICES = ("cpu", "cuda", "mps", "xpu", "meta")  # what PyTorch programs name
Hook = Callable[["Module", tuple[Any, ...], Any], Any]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` found missing, and what it left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class HookHandle:
    """Removes a hook again."""

    def __init__(self, hooks: dict[int, Hook]) -> None:
        self._hooks = hooks

    def remove(self) -> None:
        """Remove the hook; nothing happens the second time."""
        self._hooks.pop(id(self), None)


class Module:
    """Base of layers and models: set parameters, buffers and modules as attributes in `__init__`, compute in `forward`.

    Names are PyTorch's: an attribute `proj` that is a Linear has the parameters `proj.weight` and `proj.bias`.
    """

    # Names in a ModuleList are `blocks.0`, though the list itself is never called.
    _transparent = False

    def __init__(self) -> None:
        self._prepare()

    def _prepare(self) -> None:
        """Set what every module has; also done for subclasses that forget to call `super().__init__()`."""
        own = self.__dict__
        own.setdefault("_training", True)
        own.setdefault("_name", "")
        own.setdefault("_hooks", {})
        own.setdefault("_replaced", 0)  # times a parameter, buffer or module made way for another

    def __setattr__(self, name: str, value: object) -> None:
        if "_hooks" not in self.__dict__:
            self._prepare()
        if isinstance(self.__dict__.get(name), Cell) and not (value is None or isinstance(value, Cell)):
            raise DTypeError(
                f"{type(self).__name__}.{name} is a {type(self.__dict__[name]).__name__}, and a "
                f"{type(value).__name__} was "
                f"assigned to it. Change its value with `.{name}.value = ...`, or assign a new Parameter or Buffer."
            )
        if isinstance(value, Module):
            value._called(name)
        if isinstance(self.__dict__.get(name), Cell | Module) and state.trace is None:
            self.__dict__["_replaced"] += value is not self.__dict__[name]
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if isinstance(self.__dict__.get(name), Cell | Module):
            self.__dict__["_replaced"] += 1
        object.__delattr__(self, name)

    def _called(self, name: str) -> None:
        self.__dict__["_name"] = name
        if self._transparent:
            for key, child in self.named_children():
                child._called(f"{name}.{key}")

    # --- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every module defines it."""
        raise NotImplementedError(f"{type(self).__name__}.forward is not defined.")

    if not TYPE_CHECKING:  # a type checker is to go on reporting names that do not exist

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{module_hint(name)}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "_hooks" not in self.__dict__:
            self._prepare()
        if state.trace is not None:
            state.trace.guard(self, "_replaced", self.__dict__["_replaced"])
        name: str = self.__dict__["_name"]
        if name:
            with inside_module(name):
                result = self.forward(*args, **kwargs)
        else:
            result = self.forward(*args, **kwargs)
        for hook in list(self.__dict__["_hooks"].values()):
            changed = hook(self, args, result)
            result = result if changed is None else changed
        return result

    def register_forward_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(module, args, result)` after each call; what it returns, if not None, replaces the result."""
        self._prepare()
        hooks: dict[int, Hook] = self.__dict__["_hooks"]
        handle = HookHandle(hooks)
        hooks[id(handle)] = hook
        return handle

    # --- train and eval

    @property
    def training(self) -> bool:
        """Whether the module behaves as in training: dropout on. A compiled function that looks depends on it."""
        value: bool = self.__dict__.get("_training", True)
        current = state.trace
        if current is not None:
            current.guard(self, "training", value)
        return value

    @training.setter
    def training(self, value: bool) -> None:
        self.__dict__["_training"] = value

    def train(self, mode: bool = True) -> Self:  # PyTorch's signature
        """Set this module and all below it to training (or not); returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Set this module and all below it to inference; returns the module."""
        return self.train(False)

    # --- what is inside

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the modules that are attributes."""
        for name, value in self.__dict__.items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Yield the modules that are attributes."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set[int] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield this module and all below it by path.

        Args:
            memo: identities of modules to leave out; those yielded are added.
            prefix: what paths begin with.
            remove_duplicate: yield a module that is in several places once.
        """
        seen = set[int]() if memo is None else memo
        if not (remove_duplicate and id(self) in seen):
            seen.add(id(self))
            yield prefix, self
            for name, child in self.named_children():
                yield from child.named_modules(seen, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """Yield this module and all below it, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_cells(
        self, prefix: str = "", recurse: bool = True, *, shared: bool = False
    ) -> Iterator[tuple[str, Parameter | Buffer]]:
        """Yield parameters and buffers by path; with `shared`, a tied one under each of its names.

        Args:
            prefix: what paths begin with.
            recurse: also yield those of modules below this one.
            shared: see above.
        """
        seen: set[int] = set()
        # A module used twice has two paths, too, so tied cells are told apart here and not by named_modules.
        for path, module in self._paths(prefix) if recurse else ((prefix, self),):
            for name, value in module.__dict__.items():
                if isinstance(value, Parameter | Buffer) and (shared or id(value) not in seen):
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    def _paths(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._paths(f"{prefix}.{name}" if prefix else name)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield parameters by path, a tied one once; the arguments are those of `named_cells`."""
        for name, cell in self.named_cells(prefix, recurse, shared=not remove_duplicate):
            if isinstance(cell, Parameter):
                yield name, cell

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, a tied one once; without `recurse`, the module's own."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Buffer]]:
        """Yield buffers by path; the arguments are those of `named_cells`."""
        for name, cell in self.named_cells(prefix, recurse, shared=not remove_duplicate):
            if isinstance(cell, Buffer):
                yield name, cell

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """Yield the buffers; without `recurse`, the module's own."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    # --- state

    def state_dict(self, *, prefix: str = "") -> dict[str, Tensor]:
        """Return the values of all parameters and lasting buffers by path, as PyTorch names them, behind a prefix."""
        return OrderedDict(
            (prefix + name, cell.value)
            for name, cell in self.named_cells(shared=True)
            if getattr(cell, "persistent", True)
        )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Set parameters and buffers from tensors or arrays by path; nothing is changed when something does not fit.

        Args:
            state_dict: values by path; their dtype is converted.
            strict: refuse names that are missing or not known; otherwise they are returned.
        """
        given: Any = state_dict
        if not isinstance(given, Mapping):
            raise CheckpointError(
                f"load_state_dict: a {type(given).__name__} is no state dict. Give a dict of tensors by name, such as "
                "nn.load(path) returns."
            )
        cells = {n: c for n, c in self.named_cells(shared=True) if getattr(c, "persistent", True)}
        missing = [name for name in cells if name not in state_dict]
        unexpected = [name for name in state_dict if name not in cells]
        found = {name: state_dict[name] for name in cells if name in state_dict}
        shapes = [
            f"{name} is {list(value.shape)}, the model's {list(cells[name].shape)}"
            for name, value in found.items()
            if tuple(value.shape) != cells[name].shape
        ]
        wrong = [
            *([f"missing: {_listed(missing)}"] if missing and strict else []),
            *([f"not in the model: {_listed(unexpected)}"] if unexpected and strict else []),
            *([f"other shapes: {_listed(shapes)}"] if shapes else []),
        ]
        if wrong:
            raise CheckpointError(
                f"load_state_dict: the state is not one of this {type(self).__name__}; {'; '.join(wrong)}. "
                "Make the model with the settings it was saved with"
                + (", or pass strict=False to load what fits." if strict and not shapes else ".")
            )
        for name, value in found.items():
            cell = cells[name]
            cell.value = value if is_array(value) else asarray(value)
        return IncompatibleKeys(missing, unexpected)

    # --- changing everything at once

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call a function of a module on every module below and then on this one; returns the module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, dtype: object) -> Self:
        """Convert all floating-point parameters and buffers to a dtype; returns the module. `"cpu"` changes nothing."""
        if isinstance(dtype, str) and dtype.partition(":")[0] in DEVICES:
            if dtype != "cpu":
                raise ConfigError(f"to: there is no device {dtype!r}. Allowed: 'cpu'.")
            return self
        wanted = as_dtype(dtype)
        if not wanted.is_float:
            raise DTypeError(f"to: parameters cannot be {wanted.name}. Allowed: floating-point dtypes.")
        for _, cell in self.named_cells():
            if cell.dtype.is_float:
                # A cell keeps its dtype when it is assigned to; made anew in place, it stays the one optimisers hold.
                if isinstance(cell, Parameter):
                    Parameter.__init__(cell, cell.detach().astype(wanted), cell.requires_grad)
                else:
                    Buffer.__init__(cell, cell.detach().astype(wanted), persistent=cell.persistent)
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether parameters collect gradients; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradient of every parameter; with `set_to_none=False`, those there are become zeros."""
        for parameter in self.parameters():
            if set_to_none or parameter.grad is not None:
                parameter.grad = None if set_to_none else zeros(parameter.shape, dtype=parameter.dtype)

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:  # PyTorch's signature
        """Set the attribute `name` to a Buffer with this value, or to None."""
        setattr(self, name, None if tensor is None else Buffer(tensor, persistent=persistent))

    # --- printing

    def extra_repr(self) -> str:
        """Return the settings shown in the repr."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        extra = self.extra_repr()
        if not lines:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}({extra}", *lines]) + "\n)"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
