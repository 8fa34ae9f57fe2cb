"""`tensor.backward()`: gradients collected in `.grad` of parameters and leaves."""

from __future__ import annotations

from treadle.core import GradientError
from treadle.ir import Node, Op, constant
from treadle.tensor import Cell, Tensor
from treadle.tensor.trace import state
from treadle.tensor.value import Maker, expect, owner_of

from .reverse import variables_of, vjp_nodes


def backward(tensor: Tensor, gradient: Tensor | None) -> None:
    """Add the gradient of `tensor` to `.grad` of everything it depends on that requires one."""
    ct = _cotangent(tensor, gradient)
    owned: list[tuple[Cell | Tensor, Node]] = []
    for marker in variables_of([tensor.node]):
        owner = owner_of(marker.op.params()["uid"])
        if owner is not None and owner.requires_grad:
            owned.append((owner, marker))
    for (owner, _), found in zip(owned, vjp_nodes([tensor.node], [ct], [m for _, m in owned]), strict=True):
        if found is not None:
            collect(owner, found, tensor)


def collect(owner: Cell | Tensor, node: Node, source: Tensor) -> None:
    """Add a gradient to what its owner has collected so far."""
    held = owner.grad
    if held is not None:
        node = Op.registry["add"]()(held.node, node)
    depth = max(source.depth, held.depth if held is not None else 0)
    # Cut off: the gradient is a value like another, not a function of the parameters.
    total = Maker.new(Op.registry["detach"]()(node), depth + 1, False)
    owner.grad = total
    if state.trace is None:
        expect(total)


def _cotangent(tensor: Tensor, gradient: Tensor | None) -> Node:
    of = tensor.node.type
    if not tensor.requires_grad:
        raise GradientError(
            f"backward: this tensor ({of!r}) does not depend on anything that requires a gradient. Use parameters, "
            "call x.requires_grad_() on an operand first, or leave the no_grad() block in which it was made. What a "
            "compiled function returns has no history: call backward() inside that function."
        )
    if gradient is None:
        if of.shape != ():
            raise GradientError(
                f"backward: {of!r} is not a scalar. Reduce it with sum() or mean(), or give backward() a gradient of "
                "its shape."
            )
        return constant(1, of.dtype)
    if gradient.node.type != of:
        raise GradientError(
            f"backward: the gradient is {gradient.node.type!r}, the tensor {of!r}. They must be equal in type."
        )
    return gradient.node
