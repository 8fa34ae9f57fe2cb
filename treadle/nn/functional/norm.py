"""Normalisation of each example by itself: mean 0 and variance 1 over some axes, or a norm of 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

from treadle.core import ShapeError
from treadle.ir import Op, results
from treadle.ops import Span, sum_dtype
from treadle.tensor import Tensor, made, node_of
from treadle.tensor import elementwise as ew
from treadle.tensor.data_types import finfo
from treadle.tensor.promotion import Operand, as_tensor, meet

from .batch_norm import affine


def layer_norm(
    input: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with its last axes, of `normalized_shape`, at mean 0 and variance 1, then scaled and shifted."""
    x = as_tensor("layer_norm", input)
    shape = _end_of("layer_norm", x, normalized_shape)
    op = Op.registry["layer_norm"](len(shape), float(eps))
    if weight is None and bias is not None:
        return made(op(node_of(x)), x) + bias
    nodes, tensors, _ = meet("layer_norm", *[t for t in (x, weight, bias) if t is not None])
    return made(op(*nodes), *tensors)


def rms_norm(
    input: Operand,
    normalized_shape: int | Sequence[int],
    weight: Operand | None = None,
    eps: float | None = None,
) -> Tensor:
    """Return the input over the root of its mean square along the last axes, of `normalized_shape`, times the weight.

    Source: Zhang and Sennrich 2019, arXiv:1910.07467. eps, added to the mean square, is by default the dtype's.
    """
    what = "rms_norm"
    x = as_tensor(what, input)
    shape = _end_of(what, x, normalized_shape)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    full = x.astype(sum_dtype(x.dtype))
    least = float(finfo(full.dtype).eps) if eps is None else eps
    y = full * ((full * full).mean(axis=axes, keepdims=True) + least).rsqrt()
    if weight is not None:
        w = as_tensor(what, weight)
        if w.shape != shape:
            raise ShapeError(f"{what}: weight {w.node.type!r} does not have normalized_shape {list(shape)}.")
        y = y * w.astype(full.dtype)
    return y.astype(x.dtype)


def group_norm(
    input: Operand,
    num_groups: int,
    weight: Operand | None = None,
    bias: Operand | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with every group of channels of every example at mean 0 and variance 1, then scaled and shifted.

    Source: Wu and He 2018, arXiv:1803.08494.

    Args:
        input: [N, C, ...].
        num_groups: groups of neighbouring channels; it divides C.
        weight: [C], what channels are multiplied with.
        bias: [C], what is added to them.
        eps: added to the variance.
    """
    what = "group_norm"
    x = as_tensor(what, input)
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [N, C, ...] with channels in {num_groups} equal groups. Use a "
            "num_groups that divides C."
        )
    n, c, *rest = x.shape
    full = x.astype(sum_dtype(x.dtype)).reshape((n, num_groups, c // num_groups, *rest))
    axes = tuple(range(2, full.ndim))
    y = made(results(Op.registry["standardize"](axes, float(eps))(node_of(full)))[0], full)
    return affine(what, y.reshape(x.shape), weight, bias).astype(x.dtype)


def local_response_norm(input: Operand, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Return the input over (k + alpha * mean square of `size` neighbouring channels)^beta.

    The input is [N, C, ...] with at least three axes; channels beyond the ends count as 0. Source: Krizhevsky et al.
    2012, section 3.3.
    """
    what = "local_response_norm"
    x = as_tensor(what, input)
    if x.ndim < 3 or size < 1:
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [N, C, ...] with 3 axes or more, and size, {size}, at least 1."
        )
    if x.size == 0:
        return x
    squares = (x * x).astype(sum_dtype(x.dtype))
    span = Span(size, 1, 1, size // 2, x.shape[1])
    total = made(Op.registry["window_sum"]((1,), (span,))(node_of(squares)), squares)
    return x / ((total / size).astype(x.dtype) * alpha + k) ** beta


def normalize(input: Operand, p: float = 2.0, dim: int | Sequence[int] = 1, eps: float = 1e-12) -> Tensor:
    """Return the input over its p-norm along `dim`, or over eps where the norm is smaller."""
    x = as_tensor("normalize", input)
    return x / vector_norm(x, p, dim).clip(eps)


def vector_norm(x: Tensor, p: float, axis: int | Sequence[int] | None) -> Tensor:
    """Return the p-norm along axes, which keep size 1; the gradient of a norm that is 0 is 0."""
    full = x.astype(sum_dtype(x.dtype))
    if p == 0:
        return ew.not_equal(full, 0).astype(full.dtype).sum(axis=axis, keepdims=True).astype(x.dtype)
    if math.isinf(p):
        size = ew.abs(full)
        return (size.max(axis=axis, keepdims=True) if p > 0 else size.min(axis=axis, keepdims=True)).astype(x.dtype)
    powers = full * full if p == 2 else ew.abs(full) if p == 1 else ew.abs(full) ** p
    total = powers.sum(axis=axis, keepdims=True)
    if p == 1:
        return total.astype(x.dtype)
    # A root has no slope at 0: it is taken of 1 there, and its value not used.
    some = ew.not_equal(total, 0)
    safe = ew.where(some, total, 1.0)
    root = ew.sqrt(safe) if p == 2 else safe ** (1 / p)
    return ew.where(some, root, 0.0 if p > 0 else math.inf).astype(x.dtype)


def _end_of(what: str, x: Tensor, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the last axes, which must be those given."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{what}: normalized_shape {list(shape)} is not the end of the input's shape {list(x.shape)}. "
            "Give the sizes of its last axes."
        )
    return shape
