"""Random programs for property tests."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from treadle import ops
from treadle.core import DTYPES, DType, Type, bool_
from treadle.ir import Const, Graph, Node, inputs_for

SHAPES = [(), (1,), (3,), (2, 3), (1, 3), (2, 1), (0, 3)]
TYPES = st.builds(Type, st.sampled_from(DTYPES), st.sampled_from(SHAPES))
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def literals(dtype: DType) -> st.SearchStrategy[Node]:
    if dtype is bool_:
        return st.booleans().map(lambda v: Const(v, dtype)())
    if dtype.is_float:
        return ANY_FLOAT.map(lambda v: Const(v, dtype)())
    low = 0 if dtype.kind == "uint" else -(1 << (dtype.bits - 1))
    return st.integers(low, low + (1 << dtype.bits) - 1).map(lambda v: Const(v, dtype)())


UNARY = [ops.Exp(), ops.Tanh(), ops.Negative(), ops.IsNan(), ops.BitwiseInvert(), ops.Erf(), ops.LogicalNot()]
BINARY = [ops.Add(), ops.Multiply(), ops.Maximum(), ops.Less(), ops.Equal(), ops.Pow(), ops.LogicalAnd(), ops.Divide()]


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 12) -> Graph:
    """Return a graph of elementwise, reducing, moving and multi-result ops on inputs of any type."""
    inputs = inputs_for(draw(st.lists(TYPES, min_size=1, max_size=3)))
    nodes: list[Node] = list(inputs)
    for _ in range(draw(st.integers(0, max_nodes))):
        made = draw(one_more(nodes))
        if made is not None:
            nodes.append(made)
    outputs = draw(st.lists(st.sampled_from(nodes), min_size=1, max_size=3))
    return Graph(inputs, tuple(outputs))


@st.composite
def one_more(draw: st.DrawFn, nodes: list[Node]) -> Node | None:
    """Return an op on some of the nodes, or None where it does not fit them."""
    x = draw(st.sampled_from(nodes))
    kind = draw(st.sampled_from(["unary", "binary", "literal", "cast", "sum", "movement", "where"]))
    try:
        match kind:
            case "unary":
                return draw(st.sampled_from(UNARY))(x)
            case "binary":
                return draw(st.sampled_from(BINARY))(x, draw(st.sampled_from(nodes)))
            case "literal":
                return draw(st.sampled_from(BINARY))(x, draw(literals(x.dtype)))
            case "cast":
                return ops.Cast(draw(st.sampled_from(DTYPES)))(x)
            case "sum":
                axes = tuple(a for a in range(x.type.ndim) if draw(st.booleans()))
                return draw(st.sampled_from([ops.Sum, ops.Max, ops.AnyTrue]))(axes, draw(st.booleans()))(x)
            case "movement":
                padded = ops.Pad((1,) * x.type.ndim, (0,) * x.type.ndim, draw(ANY_FLOAT | st.integers(-3, 3)))
                flat = ops.Reshape((math.prod(x.shape),))
                return draw(st.sampled_from([flat, padded, ops.BroadcastTo((4, *x.shape))]))(x)
            case _:
                return ops.Where()(ops.Cast(bool_)(x), x, draw(literals(x.dtype)))
    except (TypeError, ValueError):
        return None
