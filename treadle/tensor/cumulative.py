"""Running sums, products and extremes along an axis, and differences of neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from treadle.core import DType, ShapeError, as_dtype, bool_, int64, normalize_axis, uint8, uint64
from treadle.ir import Node
from treadle.ops import Cumulative, cumulative_index

from . import elementwise as ew
from .creation import full
from .elementwise import require_float
from .keywords import either_word
from .manipulation import broadcast_to, concat, reshaped, sliced
from .promotion import Operand, as_tensor, cast
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


class Extremes(NamedTuple):
    """Elements, and where they are on the axis (int64)."""

    values: Tensor
    indices: Tensor


def _accumulator(dtype: DType, asked: object | None) -> DType:
    """Return the dtype a running sum has: small integers widen to 64 bits, floats stay."""
    if asked is not None:
        return as_dtype(asked)
    if dtype.kind == "uint":
        return uint64
    return int64 if dtype.kind in ("bool", "int") else dtype


def _lines(what: str, tensor: Tensor, axis: int | None) -> tuple[Node, int]:
    """Return the node and the axis counted from the front: flat where it is None, a vector of one for a 0-d tensor."""
    node = node_of(tensor)
    if axis is None:
        return reshaped(node, (tensor.size,)), 0
    if tensor.ndim == 0:
        return reshaped(node, (1,)), normalize_axis(what, axis, 1)
    return node, normalize_axis(what, axis, tensor.ndim)


def _running(what: str, combine: str, x: Operand, axis: int | None, dtype: object | None) -> Tensor:
    tensor = as_tensor(what, x)
    node, at = _lines(what, tensor, axis)
    folded = Cumulative(at, combine)(cast(node, _accumulator(tensor.dtype, dtype)))
    return made(reshaped(folded, tensor.shape) if axis is not None else folded, tensor)


@either_word
def cumsum(x: Operand, axis: int | None = None, dtype: object | None = None) -> Tensor:
    """Return the running sum along an axis (of the flattened tensor when None).

    Integers and bools are summed in 64 bits unless `dtype` says else, 16-bit floats in float32.
    """
    return _running("cumsum", "sum", x, axis, dtype)


@either_word
def cumprod(x: Operand, axis: int | None = None, dtype: object | None = None) -> Tensor:
    """Return the running product along an axis (of the flattened tensor when None); dtypes as in `cumsum`."""
    return _running("cumprod", "prod", x, axis, dtype)


def _cumulative(
    what: str, combine: str, x: Operand, axis: int | None, dtype: object | None, include_initial: bool
) -> Tensor:
    tensor = as_tensor(what, x)
    if tensor.ndim == 0:
        raise ShapeError(f"{what}: a 0-d tensor has no axis. Reshape it to (1,).")
    if axis is None and tensor.ndim != 1:
        raise ShapeError(f"{what}: {tensor.node.type!r} has {tensor.ndim} axes. Say which with axis=.")
    at = normalize_axis(what, axis or 0, tensor.ndim)
    result = _running(what, combine, tensor, at, dtype)
    if not include_initial:
        return result
    first = [1 if a == at else n for a, n in enumerate(tensor.shape)]
    start = full(first, 0 if combine == "sum" else 1, dtype=result.dtype)
    return concat([start, result], axis=at)


def cumulative_sum(
    x: Operand, /, *, axis: int | None = None, dtype: object | None = None, include_initial: bool = False
) -> Tensor:
    """Return the running sum along an axis, which may be left out for a vector; with a 0 in front if wanted."""
    return _cumulative("cumulative_sum", "sum", x, axis, dtype, include_initial)


def cumulative_prod(
    x: Operand, /, *, axis: int | None = None, dtype: object | None = None, include_initial: bool = False
) -> Tensor:
    """Return the running product along an axis, which may be left out for a vector; with a 1 in front if wanted."""
    return _cumulative("cumulative_prod", "prod", x, axis, dtype, include_initial)


def _running_extreme(what: str, combine: str, x: Operand, axis: int) -> Extremes:
    tensor = as_tensor(what, x)
    node, at = _lines(what, tensor, axis)
    plain = cast(node, uint8) if tensor.dtype is bool_ else node
    values = Cumulative(at, combine)(plain)
    places = cumulative_index(plain, values, at)
    values, places = reshaped(values, tensor.shape), reshaped(places, tensor.shape)
    return Extremes(made(cast(values, tensor.dtype), tensor), made(places, tensor))


@either_word
def cummax(x: Operand, axis: int) -> Extremes:
    """Return the largest element so far along an axis and where it was, of equal ones the last; NaN stays."""
    return _running_extreme("cummax", "max", x, axis)


@either_word
def cummin(x: Operand, axis: int) -> Extremes:
    """Return the smallest element so far along an axis and where it was, of equal ones the last; NaN stays."""
    return _running_extreme("cummin", "min", x, axis)


@either_word
def logcumsumexp(x: Operand, axis: int) -> Tensor:
    """Return log(cumsum(exp(x))) along an axis, without overflow; x is a float tensor."""
    tensor = as_tensor("logcumsumexp", x)
    require_float("logcumsumexp", tensor.dtype)
    node, at = _lines("logcumsumexp", tensor, axis)
    return made(reshaped(Cumulative(at, "logaddexp")(node), tensor.shape), tensor)


@either_word
def diff(
    x: Operand, n: int = 1, axis: int = -1, prepend: Operand | None = None, append: Operand | None = None
) -> Tensor:
    """Return the differences of neighbours along an axis, taken n times; of bools, whether they differ.

    `prepend` and `append` are joined to x before; all their axes but this one have the sizes of x.
    """
    tensor = as_tensor("diff", x)
    if tensor.ndim == 0:
        raise ShapeError("diff: a 0-d tensor has no neighbours. Give at least one axis.")
    if n < 0:
        raise ShapeError(f"diff: n is {n}. Allowed: 0 or more.")
    at = normalize_axis("diff", axis, tensor.ndim)
    if n == 0:
        return tensor
    parts = [p for p in (prepend, tensor, append) if p is not None]
    if len(parts) > 1:
        tensor = concat([_widened(as_tensor("diff", p), tensor, at) for p in parts], axis=at)
    for _ in range(n):
        node, count = node_of(tensor), max(tensor.shape[at] - 1, 0)
        sizes = [count if a == at else size for a, size in enumerate(tensor.shape)]
        start = [int(a == at and count > 0) for a in range(tensor.ndim)]
        upper, lower = (made(sliced(node, s, sizes), tensor) for s in (start, [0] * tensor.ndim))
        tensor = ew.not_equal(upper, lower) if tensor.dtype is bool_ else ew.subtract(upper, lower)
    return tensor


def _widened(part: Tensor, like: Tensor, axis: int) -> Tensor:
    """Return a 0-d tensor repeated to one slice; others as they are."""
    if part.ndim:
        return part
    shape = tuple(1 if a == axis else n for a, n in enumerate(like.shape))
    return broadcast_to(part, shape)
