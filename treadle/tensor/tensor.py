"""`Tensor`: an immutable, lazy array. It holds a node; numbers are computed when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from treadle.core import DType, GradientError, bool_
from treadle.ir import Node

from . import realize
from .markers import with_value
from .operators import Operators
from .realize import Handle
from .trace import state
from .value import DETACH, Maker, marked, new_uid, new_variable, realized, set_owner
from .watch import GradientHook, hooked

# What backward() does is above this layer; treadle/__init__.py sets it.
Backward = Callable[["Tensor", "Tensor | None"], None]


def _no_backward(tensor: Tensor, gradient: Tensor | None) -> None:
    raise AssertionError("no backward is set: treadle/__init__.py sets tensor.backward_hook")


class Hooks:
    """What upper layers put in."""

    backward: Backward = _no_backward


class Watched(NamedTuple):
    """The number of a tensor's marker, and the hooks that see its gradient."""

    uid: int
    hooks: list[GradientHook]


class Tensor(Operators):
    """An array that never changes. Make one with `td.asarray`, `td.zeros`, ...

    Operations only note what is to be computed; `numpy()`, `float()`, `print()` and the like compute it.
    """

    __slots__ = ("__weakref__", "_node", "_requires_grad", "_watched", "collected", "depth", "uid")

    _node: Node
    depth: int  # operations between this and known data, along the longest path
    _requires_grad: bool
    uid: int  # of the variable marker when it is a leaf that collects a gradient, else 0
    collected: Tensor | None  # the gradient outside of any trace
    _watched: Watched | None  # what sees its gradient

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError("Tensor: tensors are not made by calling Tensor(). Use td.asarray(data), td.zeros(shape), ...")

    @staticmethod
    def of(node: Node, depth: int, requires_grad: bool) -> Tensor:
        """Return the tensor of a node; what computes nodes from tensors uses `made`."""
        tensor = object.__new__(Tensor)
        tensor._node = node
        tensor._requires_grad = requires_grad
        tensor.collected = None
        tensor._watched = None
        tensor.depth = depth
        tensor.uid = 0
        return tensor

    def read(self) -> Tensor:
        """Return the tensor itself."""
        return self

    # --- what it is ---

    @property
    def node(self) -> Node:
        """The program that computes it."""
        return self._node

    @property
    def dtype(self) -> DType:
        """The type of its elements."""
        return self._node.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of elements along every axis."""
        return self._node.type.shape

    @property
    def handle(self) -> Handle | None:
        """The data, if it is known."""
        return realize.handle_of(self._node)

    @property
    def is_realized(self) -> bool:
        """Whether its numbers are known."""
        return self.handle is not None

    def realize(self) -> Tensor:
        """Compute the numbers now; return the tensor itself."""
        realized(self)
        return self

    def settle(self, handle: Handle) -> None:
        """Note that the numbers are known; forget the history unless gradients need it."""
        self.depth = 0
        if self.uid:
            self._node = with_value(self._node, realize.Data(handle)())
        elif not self._requires_grad:
            self._node = realize.Data(handle)()

    # --- gradients ---

    @property
    def requires_grad(self) -> bool:
        """Whether it takes part in backward()."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Start, or stop, collecting a gradient for this tensor in `.grad`; return the tensor itself."""
        if requires_grad and not self._requires_grad:
            if not self.dtype.is_float:
                raise GradientError(
                    f"requires_grad_: {self.node.type!r} holds "
                    f"{'truth values' if self.dtype is bool_ else 'integers'}, which "
                    f"have no gradient. Convert with astype(td.float32) first."
                )
            self.uid = new_variable(self)
            self._node = marked(self.uid, self._node)
            self._requires_grad = True
        elif not requires_grad and self._requires_grad:
            if not self.uid:
                raise GradientError(
                    "requires_grad_: this tensor was computed from others that require a gradient. Use detach() for "
                    "one that does not."
                )
            self._node = self._node.args[0]
            self.uid = 0
            self._requires_grad = False
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was not computed from tensors that require a gradient."""
        return bool(self.uid) or not self._requires_grad

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() has collected, or None."""
        return self.collected if state.trace is None else state.trace.read_grad(self)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if state.trace is None:
            self.collected = value
        else:
            state.trace.write_grad(self, value)

    def detach(self) -> Tensor:
        """Return the same numbers, not connected to the gradients of what they came from."""
        if not self._requires_grad:
            return self
        return Tensor.of(DETACH(self._node), self.depth, False)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> GradientHook:
        """Call `hook(gradient)` when the gradient of this tensor is known; what it returns, if not None, replaces it.

        It sees what passes through uses of the tensor from here on. In a compiled function it is called when that is
        traced. `remove()` of the result ends it.
        """
        if not self._requires_grad:
            raise GradientError(
                f"register_hook: this tensor ({self.node.type!r}) takes no part in gradients. Call requires_grad_() "
                "first, or compute it from what requires a gradient."
            )
        found = GradientHook(hook)
        self._watch().hooks.append(found)
        return found

    def retain_grad(self) -> None:
        """Let backward() collect the gradient of this tensor in `.grad`, although it was computed from others.

        It counts what passes through uses of the tensor from here on, or from its first hook on.
        """
        if not self._requires_grad:
            raise GradientError(
                f"retain_grad: this tensor ({self.node.type!r}) takes no part in gradients. Call requires_grad_(), or "
                "compute it from what requires a gradient."
            )
        if not self.is_leaf:
            set_owner(self._watch().uid, self)

    def _watch(self) -> Watched:
        """Let later uses of this tensor tell what their gradient is."""
        if self._watched is None:
            self._watched = Watched(self.uid or new_uid(), [])
            node = self._node if self.uid else marked(self._watched.uid, self._node)
            self._node = hooked(node, self._watched.hooks)
        return self._watched

    def backward(self, gradient: Tensor | None = None) -> None:
        """Add the gradient of this tensor to `.grad` of every parameter and leaf it was computed from.

        Args:
            gradient: what to multiply with when the tensor is not a scalar; its shape is the tensor's.
        """
        Hooks.backward(self, gradient)

    def __reduce__(self) -> Any:
        return (_unpickled, (self.numpy(), self._requires_grad))


def _unpickled(array: np.ndarray[Any, Any], requires_grad: bool) -> Tensor:
    tensor = Tensor.of(realize.data(array), 0, False)
    return tensor.requires_grad_() if requires_grad else tensor


Maker.new = Tensor.of
