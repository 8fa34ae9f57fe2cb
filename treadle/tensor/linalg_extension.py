"""`td.linalg`: the array API's extension for linear algebra, and PyTorch's further names.

Matrices are the last two axes, leading axes a batch. What needs a factorisation is in `factorizations.py`, norms are in
`norms.py`, products in `linalg.py` and `products.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from treadle.core import DTypeError, LinAlgError, ShapeError, broadcast_shapes, normalize_axis

from . import elementwise as ew
from . import manipulation as shapes
from . import reductions
from .creation import eye, ones_like, zeros
from .elementwise import require_float
from .factorizations import (
    cholesky,
    cholesky_inverse,
    cholesky_solve,
    det,
    eig,
    eigh,
    eigvals,
    eigvalsh,
    inv,
    lstsq,
    matrix_exp,
    pinv,
    qr,
    slogdet,
    solve,
    solve_triangular,
    svd,
    svdvals,
)
from .linalg import matmul, matrix_transpose, outer, tensordot, vecdot
from .norms import cond, matrix_norm, norm, vector_norm
from .products import multi_dot
from .promotion import Operand, as_tensor
from .value import made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


def cross(x1: Operand, x2: Operand, /, *, axis: int = -1) -> Tensor:
    """Return the cross products of vectors of 3 elements along an axis; the other axes broadcast."""
    a, b = as_tensor("cross", x1), as_tensor("cross", x2)
    shape = broadcast_shapes("cross", a.shape, b.shape)
    if a.ndim != b.ndim and axis >= 0:
        raise ShapeError(f"cross: axis {axis} is ambiguous for {a.ndim} and {b.ndim} axes. Count it from the end.")
    at = normalize_axis("cross", axis, len(shape))
    for t in (a, b):
        normalize_axis("cross", axis, t.ndim)
        if t.shape[axis] != 3:
            raise ShapeError(f"cross: axis {axis} of {t.node.type!r} has size {t.shape[axis]}. Allowed: 3.")
    (a0, a1, a2), (b0, b1, b2) = (shapes.unstack(shapes.broadcast_to(t, shape), axis=at) for t in (a, b))
    return shapes.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=at)


def diagonal(x: Operand, /, *, offset: int = 0) -> Tensor:
    """Return the diagonals of the matrices x [..., M, N]: above the main one for `offset` > 0, below it for < 0."""
    tensor = as_tensor("diagonal", x)
    if tensor.ndim < 2:
        raise ShapeError(f"diagonal: takes matrices, got {tensor.node.type!r}. Allowed: at least 2 axes.")
    *batch, rows, columns = tensor.shape
    size = max(min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns), 0)
    # In a row of all elements, those of a diagonal stand one row and one place apart.
    flat = shapes.reshaped(node_of(tensor), (*batch, rows * columns))
    start = (offset if offset >= 0 else -offset * columns) if size else 0
    starts, steps = [*[0] * len(batch), start], [*[1] * len(batch), columns + 1]
    return made(shapes.sliced(flat, starts, [*batch, size], steps), tensor)


def trace(x: Operand, /, *, offset: int = 0, dtype: object | None = None) -> Tensor:
    """Return the sums of the diagonals of the matrices x [..., M, N]; integers are summed in 64 bits."""
    return reductions.sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def matrix_power(x: Operand, n: int, /) -> Tensor:
    """Return x [..., M, M] multiplied n times by itself, by squaring; of its inverse where n < 0."""
    tensor = as_tensor("matrix_power", x)
    if not hasattr(n, "__index__"):
        raise DTypeError(f"matrix_power: the power {n!r} is not a whole number. Give an integer.")
    if tensor.ndim < 2 or tensor.shape[-1] != tensor.shape[-2]:
        raise ShapeError(f"matrix_power: takes square matrices, got {tensor.node.type!r}.")
    if n == 0:
        one = shapes.broadcast_to(eye(tensor.shape[-1], dtype=tensor.dtype), tensor.shape)
        return ew.where(True, one, tensor)  # which has a gradient: 0
    base, left = (inv(tensor), -n) if n < 0 else (tensor, n)
    result: Tensor | None = None
    while left:
        if left & 1:
            result = base if result is None else matmul(result, base)
        left >>= 1
        if left:
            base = matmul(base, base)
    assert result is not None
    return result


def matrix_rank(
    x: Operand, /, *, rtol: Operand | None = None, atol: Operand | None = None, hermitian: bool = False
) -> Tensor:
    """Return how many singular values of x [..., M, N] are larger than max(atol, rtol * the largest), as int64.

    Args:
        x: the matrices.
        rtol: max(M, N) times the precision of the dtype when None (0 when only atol is given).
        atol: 0 when None.
        hermitian: x is symmetric; its eigenvalues are used, which is quicker.
    """
    tensor = as_tensor("matrix_rank", x)
    require_float("matrix_rank", tensor.dtype)
    values = ew.abs(eigvalsh(tensor)) if hermitian else svdvals(tensor)
    if values.shape[-1] == 0:
        return zeros(values.shape[:-1], dtype="int64")
    if rtol is None:
        rtol = 0.0 if atol is not None else max(tensor.shape[-2:]) * _precision(tensor)
    limit = ew.multiply(rtol, reductions.max(values, axis=-1))
    if atol is not None:
        limit = ew.maximum(limit, atol)
    return reductions.count_nonzero(ew.greater(values, shapes.expand_dims(limit, -1)), axis=-1)


def _precision(x: Tensor) -> float:
    return 2.0**-52 if x.dtype.bits == 64 else 2.0**-23  # 16-bit floats are computed in float32


def tensorinv(x: Operand, ind: int = 2) -> Tensor:
    """Return the inverse of x as a map from its last axes to its first `ind` ones, whose sizes have one product."""
    tensor = as_tensor("tensorinv", x)
    rows, columns = math.prod(tensor.shape[:ind]), math.prod(tensor.shape[ind:])
    if ind < 1 or rows != columns:
        raise ShapeError(
            f"tensorinv: {tensor.node.type!r} with ind {ind} is a map of {columns} numbers to {rows}. They must be "
            "equal, and ind at least 1."
        )
    inverse = inv(shapes.reshape(tensor, (rows, columns)))
    return shapes.reshape(inverse, (*tensor.shape[ind:], *tensor.shape[:ind]))


def tensorsolve(A: Operand, B: Operand, dims: Sequence[int] | None = None) -> Tensor:
    """Return the X for which `tensordot(A, X, X.ndim)` is B; the axes `dims` of A are moved to its end first."""
    a, b = as_tensor("tensorsolve", A), as_tensor("tensorsolve", B)
    if dims is not None:
        a = shapes.moveaxis(a, tuple(dims), tuple(range(a.ndim - len(dims), a.ndim)))
    shape = a.shape[b.ndim :]
    if math.prod(shape) != b.size or a.size != b.size**2:
        raise ShapeError(
            f"tensorsolve: {a.node.type!r} and {b.node.type!r} are no square system. The first axes of A must be as "
            "many elements as B, and so must the others."
        )
    found = solve(shapes.reshape(a, (b.size, b.size)), shapes.reshape(b, (b.size,)))
    return shapes.reshape(found, shape)


def vander(x: Operand, /, N: int | None = None) -> Tensor:
    """Return the matrices [..., K, N] of powers 0, 1, ..., N - 1 of the elements of x [..., K]; N is K when None."""
    tensor = as_tensor("vander", x)
    if tensor.ndim == 0:
        raise ShapeError("vander: takes vectors, got a number. Use reshape(1) for a vector of one.")
    count = tensor.shape[-1] if N is None else N
    if count < 1:
        raise ShapeError(f"vander: {count} powers asked. Give at least 1.")
    column = shapes.expand_dims(tensor, -1)
    powers = [ones_like(column)]
    for _ in range(count - 1):
        powers.append(ew.multiply(powers[-1], column))
    return shapes.concat(powers, axis=-1)


__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_inverse",
    "cholesky_solve",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vander",
    "vecdot",
    "vector_norm",
]
