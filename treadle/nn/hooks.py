"""Functions called around a module: its call, its backward pass, and its saving and loading."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from treadle.core import ConfigError, flatten, unflatten
from treadle.tensor import Tensor, state, watched
from treadle.tensor.watch import Gradients

if TYPE_CHECKING:
    from .module import Module

Kind = Literal[
    "forward_pre", "forward", "backward_pre", "backward", "state_dict_pre", "state_dict", "load_pre", "load_post"
]
CALLS = frozenset({"forward_pre", "forward", "backward_pre", "backward"})  # those that a compiled call depends on
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Hook:
    """A function, when it is called, and how.

    Attributes:
        kind: around what.
        function: what to call; the arguments depend on the kind.
        with_kwargs: it gets the named arguments of the call, too.
        always_call: it is called even when the module's call fails.
    """

    kind: Kind
    function: Callable[..., Any]
    with_kwargs: bool = False
    always_call: bool = False


class HookHandle:
    """Removes a hook again; as a `with` block, at its end."""

    def __init__(self, module: Module) -> None:
        self._module = module

    def remove(self) -> None:
        """Remove the hook; nothing happens the second time."""
        hooks = hooks_of(self._module)
        hooks.pop(self, None)
        _set(self._module, hooks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def hooks_of(module: Module) -> dict[HookHandle, Hook]:
    """Return the hooks of a module, in the order they are called."""
    return module.__dict__["_hooks"]


def of_kind(module: Module, kind: Kind) -> Iterator[Callable[..., Any]]:
    """Yield the functions of one kind of hook; hooks may come and go meanwhile."""
    return (hook.function for hook in list(hooks_of(module).values()) if hook.kind == kind)


def register(module: Module, hook: Hook, *, prepend: bool = False) -> HookHandle:
    """Add a hook behind the others, or in front of them; return what removes it."""
    if not callable(hook.function):
        raise ConfigError(
            f"{type(module).__name__}: a {type(hook.function).__name__} is no hook. Give a function that can be called."
        )
    handle = HookHandle(module)
    hooks = hooks_of(module)
    _set(module, {handle: hook, **hooks} if prepend else {**hooks, handle: hook})
    return handle


def _set(module: Module, hooks: dict[HookHandle, Hook]) -> None:
    own = module.__dict__
    own["_hooks"] = hooks
    own["_hooked"] = tuple(hook.function for hook in hooks.values() if hook.kind in CALLS)


def call(module: Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return `forward(*args, **kwargs)` with what the hooks make of the arguments and the result."""
    hooks = list(hooks_of(module).values())
    done: set[int] = set()
    result: Any = None
    try:
        for hook in hooks:
            if hook.kind == "forward_pre":
                args, kwargs = _prepared(module, hook, args, kwargs)
        backward = Backward(module) if any(h.kind in ("backward", "backward_pre") for h in hooks) else None
        if backward is not None and state.grad_enabled:
            args = backward.entered(args)
        result = forward(*args, **kwargs)
        for hook in hooks:
            if hook.kind == "forward":
                done.add(id(hook))
                result = _finished(module, hook, args, kwargs, result)
        return result if backward is None or not state.grad_enabled else backward.left(result)
    except Exception:
        for hook in hooks:
            if hook.always_call and id(hook) not in done:
                _despite(module, hook, args, kwargs, result)
        raise


def _prepared(module: Module, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments as a hook before the call changes them."""
    if hook.with_kwargs:
        changed = hook.function(module, args, kwargs)
        if changed is None:
            return args, kwargs
        if not isinstance(changed, tuple) or len(cast(tuple[Any, ...], changed)) != 2:
            raise ConfigError(
                f"{type(module).__name__}: a forward pre-hook with_kwargs returned {changed!r}. It must return None, "
                "or both the tuple of arguments and the dict of named ones."
            )
        return cast(Arguments, changed)
    changed = hook.function(module, args)
    if changed is None:
        return args, kwargs
    return (cast(tuple[Any, ...], changed) if isinstance(changed, tuple) else (changed,)), kwargs


def _finished(module: Module, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Return the result as a hook after the call changes it."""
    seen = (args, kwargs) if hook.with_kwargs else (args,)
    changed = hook.function(module, *seen, result)
    return result if changed is None else changed


def _despite(module: Module, hook: Hook, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    """Call a hook although the call failed, whose error is the one to raise."""
    try:
        _finished(module, hook, args, kwargs, result)
    except Exception as error:
        name = type(module).__name__
        warnings.warn(f"{name}: a forward hook with always_call failed after the call itself: {error}", stacklevel=4)


class Backward:
    """One call of a module with backward hooks: the gradient of its result, then that of its arguments."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.watches_inputs = False
        self.grad_output: Gradients = ()

    def entered(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments, the tensors directly among them watched."""
        self.positions = [k for k, arg in enumerate(args) if isinstance(arg, Tensor)]
        self.count = len(args)
        tensors = [args[k] for k in self.positions]
        self.watches_inputs = any(t.requires_grad for t in tensors)
        changed = list(args)
        for k, tensor in zip(self.positions, watched(tensors, self._at_inputs), strict=True):
            changed[k] = tensor
        return tuple(changed)

    def left(self, result: Any) -> Any:
        """Return the result, the tensors in it watched."""
        leaves, structure = flatten(result)
        places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        for k, tensor in zip(places, watched([leaves[k] for k in places], self._at_outputs), strict=True):
            leaves[k] = tensor
        return unflatten(structure, leaves)

    def _at_outputs(self, gradients: Gradients) -> Gradients:
        for function in of_kind(self.module, "backward_pre"):
            gradients = _replaced(self.module, function(self.module, gradients), gradients)
        self.grad_output = gradients
        if not self.watches_inputs:  # no gradient will arrive there
            self._tell((None,) * self.count)
        return gradients

    def _at_inputs(self, gradients: Gradients) -> Gradients:
        every: list[Tensor | None] = [None] * self.count
        for k, gradient in zip(self.positions, gradients, strict=True):
            every[k] = gradient
        told = self._tell(tuple(every))
        return tuple(told[k] for k in self.positions)

    def _tell(self, grad_input: Gradients) -> Gradients:
        grad_output, self.grad_output = self.grad_output, ()
        for function in of_kind(self.module, "backward"):
            grad_input = _replaced(self.module, function(self.module, grad_input, grad_output), grad_input)
        return grad_input


def _replaced(module: Module, changed: Any, gradients: Gradients) -> Gradients:
    """Return what a backward hook wants gradients to be."""
    if changed is None:
        return gradients
    found = cast(Gradients, changed) if isinstance(changed, tuple) else (changed,)
    if len(found) != len(gradients):
        raise ConfigError(
            f"{type(module).__name__}: a backward hook returned {len(found)} gradients for {len(gradients)}. Return "
            "None, or as many as it was given."
        )
    return found
