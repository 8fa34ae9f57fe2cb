"""The meaning of formulas, evaluated with NumPy on whole index grids: the oracle for loop nests and kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import int64
from treadle.ir import Const, Node

from .compute import COMBINES, Compute, identity_of
from .index import Affine, FloorDiv, Mod
from .scalar import SCALARS, Convert, Fn, Load, Select, Var

Array = np.ndarray[Any, Any]


def evaluate(node: Node, variables: dict[Node, Array], operands: Sequence[Array]) -> Array:
    """Return the value of a scalar expression for arrays of variable values that broadcast together.

    Reading outside an operand is an AssertionError: a formula never does.
    """
    memo: dict[Node, Array] = {}

    def value(n: Node) -> Array:
        if n not in memo:
            memo[n] = _one(n, [value(a) for a in n.args], variables, operands)
        return memo[n]

    with np.errstate(all="ignore"):
        return value(node)


def _one(node: Node, args: list[Array], variables: dict[Node, Array], operands: Sequence[Array]) -> Array:
    op = node.op
    match op:
        case Const():
            return np.asarray(op.value, op.dtype.numpy)
        case Var():
            return variables[node]
        case Affine():
            total = np.asarray(op.const, np.int64)
            for c, a in zip(op.coefficients, args, strict=True):
                total = total + c * a
            return total
        case FloorDiv():
            return args[0] // op.by
        case Mod():
            return args[0] % op.by
        case Load():
            array = operands[op.operand]
            for a, size in zip(args, array.shape, strict=True):
                assert a.size == 0 or (a.min() >= 0 and a.max() < size), f"{node} reads outside {array.shape}"
            return np.asarray(array[tuple(args)])
        case Select():
            return np.where(args[0], args[1], args[2])
        case Convert():
            return np.asarray(args[0]).astype(op.to.numpy)
        case Fn():
            return np.asarray(SCALARS[op.fn].numpy(*args)).astype(node.dtype.numpy)
        case _:
            raise AssertionError(f"{node} is not part of a formula")


def run(formula: Compute, operands: Sequence[Array]) -> Array:
    """Return the tensor a formula describes."""
    loops = [*formula.index, *formula.reduce]
    shape = tuple(_extent(v) for v in loops)
    grids = {
        v: np.arange(size, dtype=int64.numpy).reshape([-1 if k == axis else 1 for k in range(len(loops))])
        for axis, (v, size) in enumerate(zip(loops, shape, strict=True))
    }
    dtype = formula.value.dtype
    if 0 in shape:  # nothing is computed, so nothing may be read: indices of empty operands have no value
        values = np.zeros(shape, dtype.numpy)
    else:
        values = np.broadcast_to(evaluate(formula.value, grids, operands), shape)
    if not formula.reduce:
        return np.array(values, dtype.numpy)
    axes = tuple(range(len(formula.index), len(loops)))
    start = np.asarray(getattr(identity_of(formula.combine, dtype).op, "value"), dtype.numpy)  # noqa: B009
    wide = np.float64 if dtype.is_float else dtype.numpy
    folded = (
        COMBINES[formula.combine].fold(values.astype(wide), axis=axes, initial=start.astype(wide))
        if (formula.combine not in ("any", "all"))
        else COMBINES[formula.combine].fold(values, axis=axes)
    )
    return np.asarray(folded).astype(dtype.numpy)


def _extent(var: Node) -> int:
    assert isinstance(var.op, Var)
    return var.op.extent
