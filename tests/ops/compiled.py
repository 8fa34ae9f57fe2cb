"""Ops run by the compiler's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.ops.apply import types_of
from treadle.ir import Graph, inputs_for, results
from treadle.jit import Plan
from treadle.ops.base import TensorOp

Array = np.ndarray


def compiled(op: TensorOp, arrays: Sequence[Array]) -> list[Array]:
    """Return the results of an op as compiled code gives them."""
    inputs = inputs_for(types_of(arrays))
    return Plan(Graph(inputs, results(op(*inputs)))).run([np.ascontiguousarray(a) for a in arrays])
