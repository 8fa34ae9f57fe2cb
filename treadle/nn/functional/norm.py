"""Normalisation: mean 0 and variance 1 over some axes, then scale and shift."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import ShapeError
from treadle.ir import Op
from treadle.tensor import Tensor, made, node_of
from treadle.tensor.promotion import Operand, as_tensor, meet


def layer_norm(
    input: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with its last axes, of `normalized_shape`, at mean 0 and variance 1, then scaled and shifted."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    x = as_tensor("layer_norm", input)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"layer_norm: normalized_shape {list(shape)} is not the end of the input's shape {list(x.shape)}. "
            "Give the sizes of its last axes."
        )
    op = Op.registry["layer_norm"](len(shape), float(eps))
    if weight is None and bias is not None:
        return made(op(node_of(x)), x) + bias
    nodes, tensors, _ = meet("layer_norm", *[t for t in (x, weight, bias) if t is not None])
    return made(op(*nodes), *tensors)
