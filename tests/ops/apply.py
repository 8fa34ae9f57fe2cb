"""Ops applied to arrays without a compiler: values, expansions and gradients by the reference meaning of the nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treadle.core import Type, from_numpy
from treadle.ir import Graph, Node, inputs_for
from treadle.ops.base import Composite, TensorOp
from treadle.ops.fused import run_graph
from treadle.te import run

Array = np.ndarray


def types_of(arrays: Sequence[Array]) -> list[Type]:
    return [Type(from_numpy(a.dtype), a.shape) for a in arrays]


def expanded(op: Composite, *arrays: Array) -> list[Array]:
    """Return the results of an op's expansion."""
    return run_graph(op.expansion(*types_of(arrays)), arrays)


def lowered(op: TensorOp, *arrays: Array) -> Array:
    """Return the result of an op's formula, rounded to the op's dtype as a kernel does when it stores."""
    types = types_of(arrays)
    return run(op.lower(*types), arrays).astype(op(*inputs_for(types)).dtype.numpy)


def gradients(op: TensorOp, arrays: Sequence[Array], *cts: Array | None) -> list[Array | None]:
    """Return the cotangents of the operands, given one per result (None: nothing flows back)."""
    types = types_of(arrays)
    given = [ct for ct in cts if ct is not None]
    inputs = inputs_for([*types, *types_of(given)])
    node = op(*inputs[: len(types)])
    rest = iter(inputs[len(types) :])
    ct_nodes = tuple(None if ct is None else next(rest) for ct in cts)
    back = list(op.vjp(ct_nodes[0] if len(cts) == 1 else ct_nodes, node, *inputs[: len(types)]))
    assert [b.type for b in back if b is not None] == [t for t, b in zip(types, back, strict=True) if b is not None]
    wanted: list[Node] = [b for b in back if b is not None]
    results = iter(run_graph(Graph(inputs, tuple(wanted)), [*arrays, *given]))
    return [None if b is None else next(results) for b in back]
