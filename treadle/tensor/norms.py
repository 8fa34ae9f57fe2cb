"""Sizes of vectors and matrices: norms and condition numbers. A norm that is 0 has slope 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from treadle.core import ConfigError, DType, ShapeError, as_dtype, float32, normalize_axes, normalize_axis

from . import elementwise as ew
from . import manipulation as shapes
from . import reductions
from .elementwise import require_float
from .factorizations import inv, svdvals
from .promotion import Operand, as_tensor
from .reductions import Axis

if TYPE_CHECKING:
    from .tensor import Tensor

Order = int | float | str | None


def vector_norm(x: Operand, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """Return sum(abs(x)**ord)**(1/ord) over axes (all when None, as one vector).

    `ord` may be any number: inf and -inf give the largest and smallest magnitude, 0 the number of elements not zero.
    Sums of 16-bit floats are made in float32.
    """
    tensor = as_tensor("vector_norm", x)
    require_float("vector_norm", tensor.dtype)
    axes = normalize_axes("vector_norm", axis, tensor.ndim)
    if isinstance(ord, str) or math.isnan(ord):
        raise ConfigError(f"vector_norm: ord {ord!r} is not the order of a vector norm. Allowed: numbers and inf.")
    if not tensor.ndim:  # a number is a vector of one element
        return shapes.reshape(vector_norm(shapes.reshape(tensor, (1,)), ord=ord), ())
    if axes == () and axis is not None:
        return vector_norm(shapes.expand_dims(tensor, -1), axis=-1, ord=ord)
    return _folded(tensor, axes, float(ord), keepdims).astype(tensor.dtype)


def _folded(x: Tensor, axes: Sequence[int], ord: float, keepdims: bool) -> Tensor:
    if math.isinf(ord):
        fold = reductions.max if ord > 0 else reductions.min
        return fold(ew.abs(x), axis=axes, keepdims=keepdims)
    if ord == 0:
        # The slope of the magnitude at 0 is 0, as those of the ones.
        return reductions.sum(ew.where(ew.equal(x, 0), ew.abs(x), 1), axis=axes, keepdims=keepdims)
    wide = x.astype(_wide(x.dtype))
    if ord == 1:
        return reductions.sum(ew.abs(wide), axis=axes, keepdims=keepdims)
    total = reductions.sum(_powers(wide, ord), axis=axes, keepdims=keepdims)
    return root(total, ord)


def _powers(x: Tensor, ord: float) -> Tensor:
    if ord == 2:
        return ew.square(x)
    if not 0 < ord < 2:
        return ew.pow(ew.abs(x), ord)
    flat = ew.equal(x, 0)  # there, the slope of a root is infinite
    return ew.where(flat, 0, ew.pow(ew.where(flat, 1, ew.abs(x)), ord))


def root(total: Tensor, ord: float) -> Tensor:
    """Return the ord-th root; where the sum is 0, its slope is taken to be 0."""
    flat = ew.equal(total, 0)
    safe = ew.where(flat, 1, total)
    root = ew.sqrt(safe) if ord == 2 else ew.pow(safe, 1 / ord)
    return ew.where(flat, 0 if ord > 0 else math.inf, root)


def _wide(dtype: DType) -> DType:
    return float32 if dtype.bits < 32 else dtype


def matrix_norm(x: Operand, /, *, keepdims: bool = False, ord: Order = "fro") -> Tensor:
    """Return norms of the matrices x [..., M, N].

    `ord` is "fro" (root of the sum of squares), "nuc" (sum of the singular values), 2 or -2 (largest or smallest
    singular value), 1 or -1 (largest or smallest sum of magnitudes of a column), inf or -inf (of a row).
    """
    tensor = as_tensor("matrix_norm", x)
    require_float("matrix_norm", tensor.dtype)
    if tensor.ndim < 2:
        raise ShapeError(f"matrix_norm: takes matrices, got {tensor.node.type!r}. Allowed: at least 2 axes.")
    if ord == "fro":
        return vector_norm(tensor, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        values = svdvals(tensor)
        # Of nothing, every norm is 0.
        if ord == "nuc" or (ord == 2 and values.shape[-1] == 0):
            found = reductions.sum(values, axis=-1)
        else:
            found = _first_or_last(values, last=ord == -2)
    elif ord in (1, -1, math.inf, -math.inf):
        assert not isinstance(ord, str)
        assert ord is not None
        summed, other = (-2, -1) if abs(ord) == 1 else (-1, -1)
        sums = vector_norm(tensor, axis=summed, ord=1)
        if ord > 0 and sums.shape[other] == 0:
            found = reductions.sum(sums, axis=other)
        else:
            found = reductions.max(sums, axis=other) if ord > 0 else reductions.min(sums, axis=other)
    else:
        raise ConfigError(f"matrix_norm: ord {ord!r} is unknown. Allowed: 'fro', 'nuc', inf, -inf, 1, -1, 2, -2.")
    return shapes.expand_dims(found, (-2, -1)) if keepdims else found


def _first_or_last(values: Tensor, *, last: bool) -> Tensor:
    if values.shape[-1] == 0:
        raise ShapeError("matrix_norm: an empty matrix has no singular values. Give it at least one row and column.")
    return values[..., -1 if last else 0]


def norm(
    A: Operand,
    ord: Order = None,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: object | None = None,
) -> Tensor:
    """Return a vector or matrix norm, as PyTorch's function of this name.

    Args:
        A: the elements.
        ord: the order of a norm; None is 2, of all elements as one vector when `dim` is None, too.
        dim: one axis for norms of vectors, two for norms of matrices; with `ord` None, any number.
        keepdim: leave the folded axes with size 1.
        dtype: what to convert to first.
    """
    x = as_tensor("norm", A)
    x = x if dtype is None else x.astype(as_dtype(dtype))
    if ord is None:
        return vector_norm(x, axis=dim, keepdims=keepdim)
    if dim is None and x.ndim not in (1, 2):
        raise ShapeError(f"norm: ord {ord!r} without dim takes a vector or a matrix, got {x.node.type!r}. Give dim.")
    given = range(x.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    axes = [normalize_axis("norm", a, x.ndim) for a in given]
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ConfigError(f"norm: ord {ord!r} is a norm of matrices. Give two axes, or a number.")
        return vector_norm(x, axis=axes[0], keepdims=keepdim, ord=ord)
    if len(axes) != 2 or axes[0] == axes[1]:
        raise ShapeError(f"norm: dim {dim} with ord {ord!r}. Allowed: one axis, or two different ones.")
    found = matrix_norm(shapes.moveaxis(x, axes, (-2, -1)), ord=ord)
    return shapes.expand_dims(found, sorted(axes)) if keepdim else found


def cond(x: Operand, /, p: Order = None) -> Tensor:
    """Return condition numbers of x [..., M, N]: the largest singular value over the smallest (p None or 2).

    p -2 is its inverse; any other order of `matrix_norm`, the norm of x times that of its inverse; inf where there is
    none.
    """
    tensor = as_tensor("cond", x)
    require_float("cond", tensor.dtype)
    if p in (None, 2, -2):
        values = svdvals(tensor)
        first, last = values[..., 0], values[..., -1]
        return ew.divide(last, first) if p == -2 else ew.divide(first, last)
    return ew.multiply(matrix_norm(tensor, ord=p), matrix_norm(inv(tensor), ord=p))


def renorm(x: Operand, p: float, dim: int, maxnorm: float) -> Tensor:
    """Return x with every slice along `dim` whose p-norm is above `maxnorm` scaled down to about that."""
    tensor = as_tensor("renorm", x)
    require_float("renorm", tensor.dtype)
    if tensor.ndim < 2 or p <= 0 or maxnorm < 0:
        raise ShapeError(
            f"renorm: p {p}, maxnorm {maxnorm} of {tensor.node.type!r}. Allowed: p above 0, maxnorm of at least 0, at "
            "least 2 axes."
        )
    at = normalize_axis("renorm", dim, tensor.ndim)
    size = vector_norm(tensor, axis=[a for a in range(tensor.ndim) if a != at], keepdims=True, ord=p)
    scale = ew.where(ew.greater(size, maxnorm), ew.divide(maxnorm, ew.add(size, 1e-7)), 1.0)
    return ew.multiply(tensor, scale)
