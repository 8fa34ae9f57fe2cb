"""The base of all layers: attributes are parameters, buffers and modules, found by looking; calling runs `forward`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from treadle.core import DTypeError
from treadle.ir import inside_module
from treadle.tensor import Cell, state
from treadle.tensor.creation import zeros
from treadle.tensor.torch_names import module_hint

from . import hooks, paths
from .convert import converted, wanted_dtype
from .hooks import Hook, HookHandle
from .parameter import Buffer, Parameter
from .state_dict import IncompatibleKeys, load, save_own

Function = TypeVar("Function", bound=Callable[..., Any])


def _open(method: Function) -> Function:
    """Mark a method that subclasses may define, and that is not called as it is here."""
    method.open = True  # pyright: ignore[reportFunctionMemberAccess]
    return method


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
        own.setdefault("_hooked", ())  # the functions among the hooks that a call depends on
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
        own = self.__dict__
        if state.trace is not None:
            state.trace.guard(self, "_replaced", own["_replaced"])
            state.trace.guard(self, "_hooked", own["_hooked"])
        return hooks.call(self, self._run, args, kwargs) if own["_hooked"] else self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        name: str = self.__dict__["_name"]
        if not name:
            return self.forward(*args, **kwargs)
        with inside_module(name):
            return self.forward(*args, **kwargs)

    # --- hooks: in a compiled function they run when it is traced, and another hook compiles it anew

    def _hook(self, hook: Hook, *, prepend: bool = False) -> HookHandle:
        self._prepare()
        return hooks.register(self, hook, prepend=prepend)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Call `hook(module, args)` before each call; what it returns, if not None, replaces the arguments.

        Args:
            hook: what to call; it returns a tuple of arguments, or the only one.
            prepend: call it before the hooks there are.
            with_kwargs: call `hook(module, args, kwargs)`, which returns both of them or None.
        """
        return self._hook(Hook("forward_pre", hook, with_kwargs), prepend=prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> HookHandle:
        """Call `hook(module, args, result)` after each call; what it returns, if not None, replaces the result.

        Args:
            hook: what to call.
            prepend: call it before the hooks there are.
            with_kwargs: call `hook(module, args, kwargs, result)`.
            always_call: call it, with None, even if the module's call fails.
        """
        return self._hook(Hook("forward", hook, with_kwargs, always_call), prepend=prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Call `hook(module, grad_output)` when the gradients of the result are known; it may return others.

        `grad_output` is a tuple, with zeros for a tensor that the loss does not depend on.
        """
        return self._hook(Hook("backward_pre", hook), prepend=prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the arguments are known.

        `grad_input` is a tuple with one entry for each argument without a name, None for what is no tensor, or where
        none of them needs a gradient. What the hook returns, if not None, replaces it.
        """
        return self._hook(Hook("backward", hook), prepend=prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict` looks at the module."""
        return self._hook(Hook("state_dict_pre", hook))

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, state_dict, prefix, local_metadata)` behind `state_dict`, to change the dict."""
        return self._hook(Hook("state_dict", hook))

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call a hook before `load_state_dict` looks for the values of this module, to change the copy of the dict.

        It is called as `hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs)`; what it appends to the last is raised. The metadata is empty.
        """
        return self._hook(Hook("load_pre", hook))

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> HookHandle:
        """Call `hook(module, incompatible_keys)` once values are loaded; names taken off the lists are forgiven."""
        return self._hook(Hook("load_post", hook))

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

    # --- by name and path

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:  # PyTorch's signature
        """Set the attribute `name` to a Buffer with this value, or to None."""
        paths.check_name(self, name, Buffer)
        value = tensor if tensor is None or isinstance(tensor, Buffer) else Buffer(tensor, persistent=persistent)
        setattr(self, name, value)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set the attribute `name` to a Parameter, or to None."""
        paths.check_part(self, name, param, Parameter)
        setattr(self, name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set the attribute `name` to a module, or to None."""
        paths.check_part(self, name, module, Module)
        setattr(self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Set the attribute `name` to a module, or to None."""
        self.add_module(name, module)

    def get_submodule(self, target: str) -> Module:
        """Return the module at a path such as "layers.0.proj"; "" is this one. AttributeError if there is none."""
        module = self
        for name in target.split(".") if target else ():
            module = paths.part(module, name, Module)
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module in the place of the one at a path; with `strict`, one must be there."""
        parent, _, name = target.rpartition(".")
        if strict:
            self.get_submodule(target)
        self.get_submodule(parent).add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a path. AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        return paths.part(self.get_submodule(path), name, Parameter)

    def get_buffer(self, target: str) -> Buffer:
        """Return the buffer at a path. AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        return paths.part(self.get_submodule(path), name, Buffer)

    # --- state

    def state_dict(
        self, *, destination: MutableMapping[str, Any] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return the values of all parameters and lasting buffers by path, as PyTorch names them.

        Args:
            destination: a dict to fill, and to return.
            prefix: what names begin with.
            keep_vars: parameters and buffers themselves instead of their values.
        """
        self._prepare()
        found: Any = OrderedDict[str, Any]() if destination is None else destination
        for hook in hooks.of_kind(self, "state_dict_pre"):
            hook(self, prefix, keep_vars)
        save_own(self, found, prefix, keep_vars=keep_vars)
        for name, child in self.named_children():
            child.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in hooks.of_kind(self, "state_dict"):
            hook(self, found, prefix, {})
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Set parameters and buffers from tensors or arrays by path; nothing is changed when something does not fit.

        Args:
            state_dict: values by path; their dtype is converted.
            strict: refuse names that are missing or not known; otherwise they are returned.
            assign: let parameters and buffers take on the dtypes of the values instead.
        """
        return load(self, state_dict, strict=strict, assign=assign)

    @_open
    def get_extra_state(self) -> Any:
        """Return what the state dict is to hold besides parameters and buffers; a subclass may define it.

        `nn.save` writes it if it is a tensor or an array.
        """
        raise NotImplementedError(f"{type(self).__name__}.get_extra_state is not defined.")

    @_open
    def set_extra_state(self, state: Any) -> None:
        """Take in what `get_extra_state` returned; called by `load_state_dict`."""
        raise NotImplementedError(f"{type(self).__name__}.set_extra_state is not defined.")

    # --- changing everything at once

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call a function of a module on every module below and then on this one; returns the module."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert all floating-point parameters and buffers to a dtype; returns the module.

        The dtype is given as such, as a tensor that has it, or by name; a device, `"cpu"`, may stand before it.
        """
        dtype = wanted_dtype(*args, **kwargs)
        return self if dtype is None else converted(self, dtype)

    def float(self) -> Self:
        """Convert to float32; returns the module."""
        return self.to("float32")

    def double(self) -> Self:
        """Convert to float64; returns the module."""
        return self.to("float64")

    def half(self) -> Self:
        """Convert to float16; returns the module."""
        return self.to("float16")

    def bfloat16(self) -> Self:
        """Convert to bfloat16; returns the module."""
        return self.to("bfloat16")

    def type(self, dst_type: object) -> Self:
        """Convert to a dtype, as `to` does; returns the module."""
        return self.to(dtype=dst_type)

    def cpu(self) -> Self:
        """Return the module: everything is on the CPU."""
        return self

    def to_empty(self, *, device: object = None, recurse: bool = True) -> Self:
        """Return the module, whose values may be anything then: here they stay."""
        return self.to(device=device)

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
