"""`grad`, `value_and_grad`, `vjp`, `jvp`: functions of functions of tensors, in nested tuples, lists and dicts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from treadle.core import GradientError, ShapeError, flatten, unflatten
from treadle.ir import Node, Op, constant
from treadle.tensor import Tensor, Value
from treadle.tensor.promotion import as_tensor
from treadle.tensor.trace import set_grad_enabled
from treadle.tensor.value import Maker, made, owner_of, variable_tensor

from .reverse import variables_of, vjp_nodes


class _Variables:
    """Copies of tensors with markers of their own, so that gradients with respect to them are theirs alone."""

    def __init__(self, what: str, tree: Any) -> None:
        leaves, self.structure = flatten(tree)
        self.sources = [_checked(what, leaf) for leaf in leaves]
        self.tensors: list[Tensor] = []
        self.uids: set[int] = set()
        for source in self.sources:
            tensor, uid = variable_tensor(source)
            self.uids.add(uid)
            self.tensors.append(tensor)

    @property
    def tree(self) -> Any:
        return unflatten(self.structure, self.tensors)

    @property
    def nodes(self) -> list[Node]:
        # The markers, also when a tensor was computed meanwhile.
        return [t.node for t in self.tensors]

    def results(self, nodes: Sequence[Node]) -> list[Tensor]:
        """Return nodes computed from these variables as tensors that need a gradient if what is outside does."""
        uids = {marker.op.params()["uid"] for marker in variables_of(nodes)} - self.uids
        outside = any(owner_of(uid) is not None for uid in uids)
        depth = max((t.depth for t in self.tensors), default=0)
        return [Maker.new(n, depth + 1, outside and n.dtype.is_float) for n in nodes]

    def gradients(self, outputs: Sequence[Node], cotangents: Sequence[Node]) -> list[Node]:
        """Return the cotangents of the variables; zeros where the outputs do not depend on one."""
        found = vjp_nodes(outputs, cotangents, self.nodes)
        return [_zeros(n) if g is None else g for g, n in zip(found, self.nodes, strict=True)]


def _checked(what: str, leaf: Any) -> Tensor:
    if not isinstance(leaf, Value):
        leaf = as_tensor(what, leaf)
    tensor = leaf.read()
    if not tensor.dtype.is_float:
        raise GradientError(
            f"{what}: an argument to differentiate is {tensor.node.type!r}; only floats have gradients. Convert it "
            "with astype(td.float32), or leave it out of argnums."
        )
    return tensor


def _zeros(node: Node) -> Node:
    zero = constant(0, node.dtype)
    return Op.registry["broadcast_to"](node.shape)(zero) if node.shape else zero


def _ones(node: Node) -> Node:
    one = constant(1, node.dtype)
    return Op.registry["broadcast_to"](node.shape)(one) if node.shape else one


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that returns `function`'s value and its gradient.

    Args:
        function: takes tensors (or nested tuples, lists and dicts of them) and returns a scalar float tensor.
        argnums: which arguments to differentiate; a sequence gives a tuple of gradients.
        has_aux: the function returns (value, anything else); so does the result, in place of the value.
    """
    which = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(function)
    def differentiated(*args: Any, **keywords: Any) -> Any:
        for k in which:
            if not -len(args) <= k < len(args):
                raise GradientError(
                    f"grad: argnums names argument {k}, the function got {len(args)}. Give a smaller number."
                )
        variables = _Variables("grad", [args[k] for k in which])
        given = list(args)
        for k, tree in zip(which, variables.tree, strict=True):
            given[k] = tree
        with set_grad_enabled(True):
            returned = function(*given, **keywords)
            value, aux = returned if has_aux else (returned, None)
            output = _loss(value)
            nodes = variables.gradients([output.node], [_ones(output.node)])
        results = variables.results([output.node, *nodes])
        gradients = unflatten(variables.structure, results[1:])
        gradient = gradients[0] if isinstance(argnums, int) else tuple(gradients)
        return ((results[0], aux) if has_aux else results[0]), gradient

    return differentiated


def _loss(value: Any) -> Tensor:
    if not isinstance(value, Value):
        raise GradientError(
            f"grad: the function returned {type(value).__name__}, not a tensor. Return a scalar tensor; with "
            "has_aux=True, a pair of it and anything else."
        )
    tensor = value.read()
    if tensor.shape != ():
        raise GradientError(
            f"grad: the function returned {tensor.node.type!r}; only a scalar has a gradient. Reduce it with sum() or "
            "mean(), or use vjp()."
        )
    if not tensor.dtype.is_float:
        raise GradientError(
            f"grad: the function returned {tensor.node.type!r}; only floats have gradients. Convert with "
            "astype(td.float32) before it is computed."
        )
    return tensor


def grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """Return a function that returns the gradient of `function`, which returns a scalar.

    >>> import treadle as td
    >>> float(td.grad(lambda x: x * x * x)(td.asarray(2.0)))
    12.0

    Args:
        function: takes tensors (or nested tuples, lists and dicts of them) and returns a scalar float tensor.
        argnums: which arguments to differentiate; a sequence gives a tuple of gradients.
        has_aux: the function returns (value, anything else); the result is then (gradient, anything else).
    """
    both = value_and_grad(function, argnums, has_aux=has_aux)

    @functools.wraps(function)
    def differentiated(*args: Any, **keywords: Any) -> Any:
        value, gradient = both(*args, **keywords)
        return (gradient, value[1]) if has_aux else gradient

    return differentiated


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return `function(*primals)` and a function from a cotangent of that result to the cotangents of the primals."""
    variables = _Variables("vjp", list(primals))
    with set_grad_enabled(True):
        returned = function(*variables.tree)
    leaves, structure = flatten(returned)
    outputs = [as_tensor("vjp", leaf) for leaf in leaves]
    nodes = [t.node for t in outputs]

    def backward(cotangent: Any) -> tuple[Any, ...]:
        given, given_structure = flatten(cotangent)
        if given_structure != structure:
            raise GradientError(
                "vjp: the cotangent is not nested as the function's result is. Give one tensor per result."
            )
        cts = [as_tensor("vjp", ct) for ct in given]
        for ct, node in zip(cts, nodes, strict=True):
            _fits("vjp", "cotangent", ct, node)
        found = variables.results(variables.gradients(nodes, [ct.node for ct in cts]))
        return tuple(unflatten(variables.structure, found))

    return unflatten(structure, variables.results(nodes)), backward


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return `function(*primals)` and its change when the primals move along the tangents.

    It is the gradient of a gradient: the vjp is linear in its cotangent u, and its transpose is the jvp.
    """
    variables = _Variables("jvp", list(primals))
    given, structure = flatten(list(tangents))
    if structure != variables.structure:
        raise GradientError("jvp: the tangents are not nested as the primals are. Give one tangent per primal.")
    directions = [as_tensor("jvp", t) for t in given]
    for direction, node in zip(directions, variables.nodes, strict=True):
        _fits("jvp", "tangent", direction, node)
    with set_grad_enabled(True):
        returned = function(*variables.tree)
    leaves, out_structure = flatten(returned)
    nodes = [as_tensor("jvp", leaf).node for leaf in leaves]
    dummies = _Variables("jvp", [made(_zeros(n)) for n in nodes])
    pulled = variables.gradients(nodes, dummies.nodes)
    pushed = dummies.gradients(pulled, [d.node for d in directions])
    variables.uids |= dummies.uids
    results = variables.results([*nodes, *pushed])
    return (
        unflatten(out_structure, results[: len(nodes)]),
        unflatten(out_structure, results[len(nodes) :]),
    )


def _fits(what: str, kind: str, tensor: Tensor, node: Node) -> None:
    if tensor.node.type != node.type:
        raise ShapeError(
            f"{what}: a {kind} is {tensor.node.type!r}, its counterpart {node.type!r}. Shape and dtype must be equal."
        )


def stop_gradient(x: Any) -> Any:
    """Return x with every tensor in it cut from its gradients."""
    leaves, structure = flatten(x)
    return unflatten(structure, [as_tensor("stop_gradient", leaf).detach() for leaf in leaves])
