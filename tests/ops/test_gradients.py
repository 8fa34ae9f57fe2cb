"""Gradients where they are a matter of convention: ties, kinks, zeros and NaN are PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tests.ops.apply import Array, gradients, types_of
from treadle import ops
from treadle.core import GradientError, Type, float32, float64
from treadle.ir import Graph, Node, inputs_for
from treadle.ops.base import TensorOp
from treadle.ops.fused import run_graph

INF, NAN = np.inf, np.nan


def of(*values: float) -> Array:
    return np.array(values, np.float64)


def torch_gradients(function: Callable[..., Any], arrays: Sequence[Array], ct: Array) -> list[Array]:
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(torch, *tensors)
    found = torch.autograd.grad(out, tensors, torch.tensor(ct), allow_unused=True)
    return [np.zeros(a.shape) if g is None else g.numpy() for a, g in zip(arrays, found, strict=True)]


TIES = [
    (ops.Maximum(), lambda t, x, y: t.maximum(x, y), [of(1, 2, 3, 0, -0.0, 5), of(1, 3, 2, 0, 0, 5)]),
    (ops.Minimum(), lambda t, x, y: t.minimum(x, y), [of(1, 2, 3, 0, -0.0, 5), of(1, 3, 2, 0, 0, 5)]),
    (ops.Abs(), lambda t, x: t.abs(x), [of(0, -0.0, 2, -3)]),
    (ops.Sign(), lambda t, x: t.sign(x), [of(0, 1, -2)]),
    (ops.Sqrt(), lambda t, x: t.sqrt(x), [of(0, 1, 4)]),
    (ops.Rsqrt(), lambda t, x: t.rsqrt(x), [of(0.25, 1, 4)]),
    (ops.Clip(), lambda t, x, a, b: t.clamp(x, a, b), [of(-1, 0, 0.5, 1, 2), of(0, 0, 0, 0, 0), of(1, 1, 1, 1, 1)]),
    (ops.Pow(), lambda t, x, y: t.pow(x, y), [of(0, 0, 0, 2, 2, -2, 1, 0), of(0, 1, 2, 0, 3, 2, 5, 0.5)]),
    (ops.Prod((0,)), lambda t, x: t.prod(x, 0), [of(2, 3, 4, 5)]),
    (ops.Prod((0,)), lambda t, x: t.prod(x, 0), [of(2, 0, 4, 5)]),
    (ops.Prod((0,)), lambda t, x: t.prod(x, 0), [of(2, 0, 0, 5)]),
    (ops.Prod((0,)), lambda t, x: t.prod(x, 0), [of(0)]),
    (ops.Max((0,)), lambda t, x: t.amax(x, 0), [of(1, 3, 3, 2, 3)]),
    (ops.Min((0,)), lambda t, x: t.amin(x, 0), [of(1, 3, 1, 2, 3)]),
    (ops.Max((0, 1)), lambda t, x: t.amax(x, (0, 1)), [of(1, 3, 3, 2).reshape(2, 2)]),
    (ops.CopySign(), lambda t, x, y: t.copysign(x, y), [of(1, -1, 0, 2), of(-1, -1, 1, 1)]),
    (ops.Hypot(), lambda t, x, y: t.hypot(x, y), [of(3, -3, 0), of(4, 0, 2)]),
    (ops.LogAddExp(), lambda t, x, y: t.logaddexp(x, y), [of(1, 1, 800, -800, 0), of(1, 2, 0, 0, 800)]),
    (ops.Remainder(), lambda t, x, y: t.remainder(x, y), [of(5.5, -5.5, 5.5), of(2, 2, -2)]),
    (ops.Sigmoid(), lambda t, x: t.sigmoid(x), [of(-1000, 0, 1000)]),
    (ops.Tanh(), lambda t, x: t.tanh(x), [of(-1000, 0, 1000)]),
    (ops.Erf(), lambda t, x: t.erf(x), [of(-30, 0, 0.5, 30)]),
    (ops.Erfinv(), lambda t, x: t.erfinv(x), [of(-0.5, 0, 0.999)]),
    (ops.Where(), None, [np.array([True, False, True]), of(1, NAN, 3), of(NAN, 2, NAN)]),
]


@pytest.mark.parametrize(("op", "function", "arrays"), TIES, ids=[str(t[0]) for t in TIES])
def test_conventions_are_pytorch_s(op: TensorOp, function: Any, arrays: list[Array]) -> None:
    out = op.eval(*arrays)
    ct = np.arange(1.0, out.size + 1).reshape(out.shape)
    if function is None:
        condition, *arrays = arrays
        expected = [
            np.zeros(3),
            *torch_gradients(lambda t, x, y: t.where(t.tensor(condition), x, y), arrays, ct),
        ]
        arrays = [condition, *arrays]
    else:
        expected = torch_gradients(function, arrays, ct)
    for mine, theirs in zip(gradients(op, arrays, ct), expected, strict=True):
        np.testing.assert_allclose(np.zeros(theirs.shape) if mine is None else mine, theirs, rtol=1e-12, atol=0)


def second(op: TensorOp, x: Array, place: int, *rest: Array) -> Array:
    """Return the derivative of sum(gradient of sum(op)) for the first operand: a row sum of the Hessian."""
    arrays = [x, *rest]
    types = types_of(arrays)
    inputs = inputs_for(types)
    out = op(*inputs)
    one = ops.ones_like(out)
    (first, *_) = op.vjp(one, out, *inputs)
    assert isinstance(first, Node)
    return run_graph(Graph(inputs, (pull(first, inputs[place]),)), arrays)[0]


def pull(output: Node, to: Node) -> Node:
    """Return the gradient of sum(output) for one input: reverse mode in a dozen lines."""
    order = Graph((), (output,)).nodes()
    cts: dict[Node, Node] = {output: ops.ones_like(output)}
    for node in reversed(order):
        if node in cts and node.args:
            for arg, ct in zip(node.args, node.op.vjp(cts[node], node, *node.args), strict=True):
                if ct is not None:
                    assert ct.type == arg.type
                    cts[arg] = cts[arg] + ct if arg in cts else ct
    return cts.get(to, ops.zeros_like(to))


def test_second_derivatives_hold_at_zero() -> None:
    x = of(0, 0, 2)
    # d2/dx_i dx_j of x0 x1 x2 summed over j: all others pairwise.
    np.testing.assert_allclose(second(ops.Prod((0,)), x, 0), [2, 2, 0])
    np.testing.assert_allclose(second(ops.Pow(), of(0, 0, 3), 0, of(2, 1, 2)), [2, 0, 2])
    np.testing.assert_allclose(second(ops.LogAddExp(), of(1, 0), 0, of(1, 2)), [0.25, np.exp(2) / (1 + np.exp(2)) ** 2])
    np.testing.assert_allclose(second(ops.Abs(), of(0, -2), 0), [0, 0])
    np.testing.assert_allclose(second(ops.Var((0,)), of(1, 2, 4), 0), [0, 0, 0], atol=1e-15)


def test_the_gradient_of_a_power_with_a_literal_is_short() -> None:
    (x,) = inputs_for([Type(float32, (3,))])
    (ct,) = inputs_for([Type(float32, (3,))])
    assert (x**2).op.vjp(ct, x**2, *(x**2).args) == [ct * (x * 2.0), None]
    assert (x**1).op.vjp(ct, x**1, *(x**1).args) == [ct, None]
    assert (x**0).op.vjp(ct, x**0, *(x**0).args) == [None, None]


def test_gradients_of_broadcast_operands_are_summed() -> None:
    x, y = np.ones((2, 3, 4)), np.full((3, 1), 2.0)
    ct = np.random.normal(size=(2, 3, 4))
    dx, dy = gradients(ops.Multiply(), [x, y], ct)
    assert dx is not None
    assert dy is not None
    np.testing.assert_allclose(dx, 2 * ct)
    np.testing.assert_allclose(dy, ct.sum((0, 2)).reshape(3, 1))


def test_unbroadcast_sums_what_was_repeated() -> None:
    (ct,) = inputs_for([Type(float64, (2, 1, 4))])
    value = np.arange(8.0).reshape(2, 1, 4)
    for shape, expected in (
        ((2, 1, 4), value),
        ((1, 4), value.sum(0)),
        ((1, 1), value.sum((0, 2)).reshape(1, 1)),
        ((), value.sum()),
    ):
        node = ops.unbroadcast(ct, shape)
        np.testing.assert_array_equal(run_graph(Graph((ct,), (node,)), [value])[0], expected)
    assert ops.unbroadcast(ct, (2, 1, 4)) is ct


def test_an_op_without_a_gradient_says_so() -> None:
    x, y = inputs_for([Type(float32, (3,))] * 2)
    node = ops.NextAfter()(x, y)
    with pytest.raises(GradientError, match="nextafter: has no gradient"):
        ops.TensorOp.vjp(node.op, node, node, x, y)
