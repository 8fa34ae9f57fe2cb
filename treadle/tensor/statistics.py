"""Statistics named as in PyTorch: both extremes at once, folds that skip NaN, variance with mean, covariance."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from treadle.core import DTypeError, IndexRangeError, ShapeError, int64

from . import elementwise as ew
from . import reductions
from .arranging import diagonal
from .creation import full
from .data_types import astype
from .keywords import either_word
from .linalg import matmul, matrix_transpose
from .manipulation import expand_dims, reshape
from .promotion import Operand, as_tensor
from .reductions import Axis

if TYPE_CHECKING:
    from .tensor import Tensor


class Extremes(NamedTuple):
    """The smallest and the largest elements."""

    min: Tensor
    max: Tensor


@either_word
def aminmax(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Extremes:
    """Return the smallest and the largest element along an axis (of all when None); NaN where there is one."""
    tensor = as_tensor("aminmax", x)
    return Extremes(
        reductions.min(tensor, axis=axis, keepdims=keepdims), reductions.max(tensor, axis=axis, keepdims=keepdims)
    )


@either_word
def nansum(x: Operand, axis: Axis = None, keepdims: bool = False, *, dtype: object | None = None) -> Tensor:
    """Return the sum along axes (all when None) of the elements that are not NaN."""
    tensor = as_tensor("nansum", x)
    there = ew.where(ew.isnan(tensor), 0, tensor) if tensor.dtype.is_float else tensor
    return reductions.sum(there, axis=axis, keepdims=keepdims, dtype=dtype)


@either_word
def nanmean(x: Operand, axis: Axis = None, keepdims: bool = False, *, dtype: object | None = None) -> Tensor:
    """Return the mean along axes (all when None) of the elements that are not NaN; NaN where all are."""
    tensor = as_tensor("nanmean", x)
    total = nansum(tensor, axis, keepdims, dtype=dtype)
    there = astype(ew.logical_not(ew.isnan(tensor)), int64)
    count = reductions.sum(there, axis=axis, keepdims=keepdims)
    return ew.divide(total, astype(count, total.dtype))


@either_word
def var_mean(x: Operand, axis: Axis = None, *, correction: float = 1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Return variance and mean along axes (all when None); the variance is over N - correction, as in PyTorch."""
    tensor = as_tensor("var_mean", x)
    mean = reductions.mean(tensor, axis=axis, keepdims=keepdims)
    return reductions.var(tensor, axis=axis, correction=correction, keepdims=keepdims), mean


@either_word
def std_mean(x: Operand, axis: Axis = None, *, correction: float = 1, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Return standard deviation and mean along axes (all when None); the former is over N - correction."""
    tensor = as_tensor("std_mean", x)
    mean = reductions.mean(tensor, axis=axis, keepdims=keepdims)
    return reductions.std(tensor, axis=axis, correction=correction, keepdims=keepdims), mean


def cov(
    x: Operand, *, correction: float = 1, fweights: Operand | None = None, aweights: Operand | None = None
) -> Tensor:
    """Return the covariances [N, N] of N variables (rows) of which each column holds one observation; 0-d for N = 1.

    Args:
        x: [N, M], or [M] for the variance of one variable.
        correction: what the number of observations is lowered by.
        fweights: [M], how often each observation occurs, integers.
        aweights: [M], how much each observation counts.
    """
    tensor = as_tensor("cov", x)
    if tensor.ndim > 2:
        raise ShapeError(f"cov: takes a vector or a matrix, got {tensor.node.type!r}.")
    if tensor.dtype.name == "bool":
        raise DTypeError("cov: does not take bool. Allowed: integers and floats. Convert with astype() first.")
    rows = astype(tensor, "float32") if not tensor.dtype.is_float else tensor
    rows = reshape(rows, (1, rows.size)) if rows.ndim < 2 else rows
    count = rows.shape[1]
    frequencies = _weights("fweights", fweights, count)
    importance = _weights("aweights", aweights, count)
    if frequencies is not None and frequencies.dtype.is_float:
        raise DTypeError(f"cov: fweights are {frequencies.dtype.name}. Allowed: integers; aweights may be floats.")
    given = [astype(w, rows.dtype) for w in (frequencies, importance) if w is not None]
    weights = full((count,), 1, dtype=rows.dtype)
    for w in given:
        weights = ew.multiply(weights, w)
    total = reductions.sum(weights)
    mean = ew.divide(reductions.sum(ew.multiply(rows, weights), axis=1, keepdims=True), total)
    if importance is None or correction == 0:
        lost = full((), correction, dtype=rows.dtype)
    else:
        lost = reductions.sum(ew.multiply(weights, astype(importance, rows.dtype)))
        lost = ew.divide(ew.multiply(lost, correction), total)
    centred = ew.subtract(rows, mean)
    product = matmul(ew.multiply(centred, weights), matrix_transpose(centred))
    found = ew.divide(product, ew.maximum(ew.subtract(total, lost), 0.0))
    return reshape(found, ()) if found.size == 1 else found


def _weights(name: str, weights: Operand | None, count: int) -> Tensor | None:
    if weights is None:
        return None
    given = as_tensor("cov", weights)
    if given.shape != (count,):
        raise ShapeError(f"cov: {name} {given.node.type!r} do not fit {count} observations. Give shape [{count}].")
    handle = given.handle  # nothing is computed to find out
    if handle is not None and handle.array.size and handle.array.min() < 0:
        raise IndexRangeError(f"cov: {name} have {handle.array.min()} in them. Allowed: 0 or more.")
    return given


def corrcoef(x: Operand, /) -> Tensor:
    """Return the correlations [N, N] of N variables (rows) of which each column holds one observation, in -1 .. 1."""
    c = cov(x)
    if c.ndim == 0:
        return ew.divide(c, c)
    deviation = ew.sqrt(diagonal(c))
    scaled = ew.divide(ew.divide(c, expand_dims(deviation, 1)), deviation)
    return ew.clip(scaled, -1.0, 1.0)
