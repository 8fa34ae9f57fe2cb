"""Functions of the array API that fold axes: sums, extremes, statistics, truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from treadle.core import DType, ShapeError, as_dtype, bool_, float32, int64, normalize_axes, normalize_axis, uint64
from treadle.ir import Node, Op

from . import elementwise
from .elementwise import require_float
from .keywords import either_word
from .promotion import Operand, as_tensor, cast
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

Axis = int | Sequence[int] | None


def _axes(what: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes to fold. As in NumPy and PyTorch, a 0-d tensor lets itself be folded along axis 0."""
    if ndim == 0 and axis is not None:
        normalize_axes(what, axis, 1)
        return ()
    return normalize_axes(what, axis, ndim)


def _fold(what: str, name: str, node: Node, axis: Axis, keepdims: bool) -> Node:
    axes = _axes(what, axis, node.type.ndim)
    if not axes:
        return node
    return Op.registry[name](axes, keepdims)(node)


def _accumulator(dtype: DType, asked: object | None) -> DType:
    """Return the dtype a sum is made in: small integers widen to 64 bits, floats stay."""
    if asked is not None:
        return as_dtype(asked)
    if dtype.kind == "uint":
        return uint64
    return int64 if dtype.kind in ("bool", "int") else dtype


def _total(name: str, x: Operand, axis: Axis, dtype: object | None, keepdims: bool) -> Tensor:
    tensor = as_tensor(name, x)
    node = cast(node_of(tensor), _accumulator(tensor.dtype, dtype))
    fold = {"sum": "any", "prod": "all"}[name] if node.dtype is bool_ else name
    return made(_fold(name, fold, node, axis, keepdims), tensor)


@either_word
def sum(x: Operand, /, *, axis: Axis = None, dtype: object | None = None, keepdims: bool = False) -> Tensor:
    """Return the sum along axes (all when None); integers and bools are summed in 64 bits unless `dtype` says else."""
    return _total("sum", x, axis, dtype, keepdims)


@either_word
def prod(x: Operand, /, *, axis: Axis = None, dtype: object | None = None, keepdims: bool = False) -> Tensor:
    """Return the product along axes (all when None); integers and bools are multiplied in 64 bits."""
    return _total("prod", x, axis, dtype, keepdims)


def _extreme(name: str, x: Operand, axis: Axis, keepdims: bool) -> Tensor:
    tensor = as_tensor(name, x)
    axes = _axes(name, axis, tensor.ndim)
    empty = [a for a in axes if tensor.shape[a] == 0]
    if empty:
        raise ShapeError(
            f"{name}: axis {empty[0]} of {tensor.node.type!r} has size 0, so there is no {name}. "
            f"Allowed: axes with at least one element. Use where() or test the size first."
        )
    fold = {"max": "any", "min": "all"}[name] if tensor.dtype is bool_ else name
    return made(_fold(name, fold, node_of(tensor), axes if tensor.ndim else None, keepdims), tensor)


def max(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the largest element along axes (all when None); NaN where there is one."""
    return _extreme("max", x, axis, keepdims)


def min(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the smallest element along axes (all when None); NaN where there is one."""
    return _extreme("min", x, axis, keepdims)


def _truth(name: str, x: Operand, axis: Axis, keepdims: bool) -> Tensor:
    tensor = as_tensor(name, x)
    return made(_fold(name, name, cast(node_of(tensor), bool_), axis, keepdims), tensor)


@either_word
def any(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether some element along axes (all when None) is true."""
    return _truth("any", x, axis, keepdims)


@either_word
def all(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return whether every element along axes (all when None) is true."""
    return _truth("all", x, axis, keepdims)


def count_nonzero(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return how many elements along axes (all when None) are not zero."""
    tensor = as_tensor("count_nonzero", x)
    node = cast(cast(node_of(tensor), bool_), int64)
    return made(_fold("count_nonzero", "sum", node, axis, keepdims), tensor)


def _position(name: str, x: Operand, axis: int | None, keepdims: bool) -> Tensor:
    tensor = as_tensor(name, x)
    node = node_of(tensor)
    if node.dtype is bool_:
        node = cast(node, as_dtype("uint8"))
    ndim = node.type.ndim
    if axis is None:
        node = Op.registry["reshape"]((node.type.size,))(node)
        at = 0
    else:
        at = normalize_axis(name, axis, ndim or 1)
        if ndim == 0:
            node = Op.registry["reshape"]((1,))(node)
    if node.shape[at] == 0:
        raise ShapeError(f"{name}: axis {axis} of {tensor.node.type!r} has size 0. Allowed: at least one element.")
    result = Op.registry[name](at, keepdims and axis is not None and ndim > 0)(node)
    if keepdims and axis is None and ndim:
        result = Op.registry["reshape"]((1,) * ndim)(result)
    return made(result, tensor)


@either_word
def argmax(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the position of the first largest element along an axis (of the flattened tensor when None), as int64."""
    return _position("argmax", x, axis, keepdims)


@either_word
def argmin(x: Operand, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Return the position of the first smallest element along an axis (of the flattened tensor when None), as int64."""
    return _position("argmin", x, axis, keepdims)


def _as_float(tensor: Tensor) -> Node:
    node = node_of(tensor)
    return node if node.dtype.is_float else cast(node, float32)


@either_word
def mean(x: Operand, /, *, axis: Axis = None, keepdims: bool = False, dtype: object | None = None) -> Tensor:
    """Return the mean along axes (all when None); integers and bools as float32, unless `dtype` says else."""
    tensor = as_tensor("mean", x)
    if dtype is not None:
        require_float("mean", as_dtype(dtype))
        tensor = made(cast(node_of(tensor), as_dtype(dtype)), tensor)
    return made(_fold("mean", "mean", _as_float(tensor), axis, keepdims), tensor)


def var(x: Operand, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Return the variance along axes (all when None): squared distances from the mean, summed, over N - correction."""
    tensor = as_tensor("var", x)
    axes = _axes("var", axis, tensor.ndim)
    return made(Op.registry["var"](axes, float(correction), keepdims)(_as_float(tensor)), tensor)


def std(x: Operand, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Return the square root of the variance; where that is 0, its gradient is 0."""
    tensor = as_tensor("std", x)
    _axes("std", axis, tensor.ndim)
    variance = var(tensor, axis=axis, correction=correction, keepdims=keepdims)
    flat = elementwise.equal(variance, 0.0)
    # The operand of the root is replaced as well: its slope at 0 is infinite.
    return elementwise.where(flat, 0.0, elementwise.sqrt(elementwise.where(flat, 1.0, variance)))


def _composite(name: str, x: Operand, axis: int) -> Tensor:
    tensor = as_tensor(name, x)
    require_float(name, tensor.dtype)
    node, ndim = node_of(tensor), tensor.ndim
    at = normalize_axis(name, axis, ndim or 1)
    if ndim == 0:
        result = Op.registry[name](0)(Op.registry["reshape"]((1,))(node))
        return made(Op.registry["reshape"](())(result), tensor)
    return made(Op.registry[name](at)(node), tensor)


def softmax(x: Operand, /, *, axis: int = -1) -> Tensor:
    """Return exp(x) scaled to sum to 1 along an axis, without overflow."""
    return _composite("softmax", x, axis)


def log_softmax(x: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the logarithm of softmax(x), without overflow."""
    return _composite("log_softmax", x, axis)


def logsumexp(x: Operand, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return log(sum(exp(x))) along axes (all when None), without overflow; integers are taken as float32."""
    tensor = as_tensor("logsumexp", x)
    return made(_fold("logsumexp", "logsumexp", _as_float(tensor), axis, keepdims), tensor)
