"""Lengths of slices of a weight, and the weight of given lengths: the formulas of weight normalisation."""

from __future__ import annotations

from treadle.tensor import Tensor
from treadle.tensor.elementwise import divide, multiply
from treadle.tensor.norms import vector_norm
from treadle.tensor.promotion import Operand, as_tensor


def lengths(weight: Operand, dim: int | None) -> Tensor:
    """Return the norm of each slice along `dim`, other axes having size 1; of everything, without axes, for None.

    As in PyTorch -1 means None.
    """
    w = as_tensor("weight_norm", weight)
    if dim in (None, -1):
        return vector_norm(w)
    axes = tuple(axis for axis in range(w.ndim) if axis != dim % w.ndim)
    return vector_norm(w, axis=axes, keepdims=True)


def directed(g: Operand, v: Operand, dim: int | None) -> Tensor:
    """Return g v / |v|."""
    return multiply(v, divide(g, lengths(v, dim)))
