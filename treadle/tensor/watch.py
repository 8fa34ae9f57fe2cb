"""Functions that see gradients pass: whatever is between a result and what it was computed from can be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from treadle.core import ConfigError, GradientError
from treadle.ir import Node, Op, constant, results

from .markers import Watch
from .trace import state
from .value import Maker, Value

if TYPE_CHECKING:
    from .tensor import Tensor

Gradients = tuple[Any, ...]  # of tensors; None where there cannot be one


def watched(tensors: Sequence[Tensor], see: Callable[[Gradients], Gradients | None]) -> list[Tensor]:
    """Return tensors of the same values, whose gradients go through `see` together before they go on.

    It is called while gradients are derived: in a compiled function once, when that is traced.

    Args:
        tensors: those that need no gradient stay as they are.
        see: gets a gradient for each tensor, zeros where there is none; returns others, or None to change nothing.
    """
    places = [k for k, t in enumerate(tensors) if t.requires_grad and state.grad_enabled]
    if not places:
        return list(tensors)

    def at(cotangents: Sequence[Node | None]) -> Sequence[Node | None]:
        given: list[Node | None] = [None] * len(tensors)
        for k, ct in zip(places, cotangents, strict=True):
            given[k] = ct
        found = passed([t.node for t in tensors], given, see)
        return [found[k] for k in places]

    found = list(tensors)
    for k, node in zip(places, results(Watch(at)(*[tensors[k].node for k in places])), strict=True):
        found[k] = Maker.new(node, tensors[k].depth, True)
    return found


def passed(
    nodes: Sequence[Node], cotangents: Sequence[Node | None], see: Callable[[Gradients], Gradients | None]
) -> Sequence[Node | None]:
    """Return what a function makes of the cotangents of nodes."""
    given: Gradients = tuple(
        Maker.new(_zeros(node) if ct is None else ct, 1, False) for node, ct in zip(nodes, cotangents, strict=True)
    )
    changed = see(given)
    if changed is None:
        return cotangents
    # What was left alone goes on as it came: zeros that somebody was shown are not worth computing with.
    every = zip(nodes, cotangents, given, changed, strict=True)
    return [ct if new is old else _checked(new, node) for node, ct, old, new in every]


def hooked(node: Node, hooks: Sequence[GradientHook]) -> Node:
    """Return a node whose cotangent goes through hooks, one after the other: those there are when it is derived."""

    def at(cotangents: Sequence[Node | None]) -> Sequence[Node | None]:
        for hook in list(hooks):
            cotangents = passed([node], cotangents, hook)
        return cotangents

    return Watch(at)(node)


class GradientHook:
    """A function that sees one tensor's gradient, and may return another; `remove()` ends that."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        if not callable(function):
            raise ConfigError(
                f"register_hook: a {type(function).__name__} is no hook. Give a function of the gradient."
            )
        self.function: Callable[[Any], Any] | None = function

    def __call__(self, gradients: Gradients) -> Gradients | None:
        changed = None if self.function is None else self.function(gradients[0])
        return None if changed is None else (changed,)

    def remove(self) -> None:
        """See no gradient any more; nothing happens the second time."""
        self.function = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _zeros(node: Node) -> Node:
    zero = constant(0, node.dtype)
    return Op.registry["broadcast_to"](node.shape)(zero) if node.shape else zero


def _checked(gradient: Any, node: Node) -> Node | None:
    if gradient is None:
        return None
    if not isinstance(gradient, Value) or gradient.read().node.type != node.type:
        shown = repr(gradient.read().node.type) if isinstance(gradient, Value) else type(gradient).__name__
        raise GradientError(
            f"hook: it returned {shown} as the gradient of {node.type!r}. A gradient has the shape and dtype of its "
            "tensor; None keeps it."
        )
    return gradient.read().node
