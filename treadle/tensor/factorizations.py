"""Factorisations of matrices and what is solved with them: functions on the last two axes, leading axes being a batch.

They run on NumPy's LAPACK, as one task of a compiled program (see `treadle.ops.host`). Outside of one they compute at
once, so that a matrix for which there is no result raises where the function is called. float16 and bfloat16 are
computed in float32. All have gradients, of any order.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from treadle import ops
from treadle.core import ConfigError, DTypeError, ShapeError, TraceError, broadcast_shapes
from treadle.ir import results

from . import manipulation as shapes
from .creation import eye, zeros
from .elementwise import require_float
from .manipulation import broadcast_to, expand_dims
from .promotion import Operand, as_tensor, cast, meet
from .trace import state
from .value import made, made_all, node_of, realized

if TYPE_CHECKING:
    from .tensor import Tensor


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Any
    eigenvectors: Any


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Any
    R: Any


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Any
    logabsdet: Any


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Any
    S: Any
    Vh: Any


class LstsqResult(NamedTuple):
    """What `lstsq` returns."""

    solution: Any
    residuals: Any
    rank: Any
    singular_values: Any


def _apply(op: ops.Host, *operands: Tensor) -> tuple[Tensor, ...]:
    """Return the results of an op; outside of a trace, computed."""
    outs = made_all(results(op(*[node_of(t) for t in operands])), *operands)
    if state.trace is None:
        with suppress(TraceError):  # part of a function that is being traced after all
            realized(*outs)
    return outs


def _one(op: ops.Host, *operands: Tensor) -> Tensor:
    (out,) = _apply(op, *operands)
    return out


def cholesky(x: Operand, /, *, upper: bool = False) -> Tensor:
    """Return the lower triangular L with x = L L' for symmetric positive definite x [..., M, M], or the upper U = L'.

    Only the triangle of x that is asked for is read. LinAlgError where x is not positive definite.
    """
    a = as_tensor("cholesky", x)
    if upper:
        return shapes.swapaxes(_one(ops.Cholesky(), shapes.swapaxes(_matrices("cholesky", a), -1, -2)), -1, -2)
    return _one(ops.Cholesky(), a)


def det(x: Operand, /) -> Tensor:
    """Return the determinants of x [..., M, M]."""
    return _one(ops.Det(), as_tensor("det", x))


def slogdet(x: Operand, /) -> SlogdetResult:
    """Return the sign of the determinants of x [..., M, M] and the logarithms of their magnitudes."""
    return SlogdetResult(*_apply(ops.SlogDet(), as_tensor("slogdet", x)))


def inv(x: Operand, /) -> Tensor:
    """Return the inverses of x [..., M, M]. LinAlgError where x is singular."""
    return _one(ops.Inv(), as_tensor("inv", x))


def eigh(x: Operand, /, UPLO: str = "L") -> EighResult:
    """Return the eigenvalues [..., M] of symmetric x [..., M, M], rising, and the eigenvectors as columns [..., M, M].

    UPLO says which triangle of x is read, "L" or "U". The gradient exists where eigenvalues differ and the result does
    not depend on the signs of the vectors.
    """
    return EighResult(*_apply(ops.Eigh(), _triangle("eigh", x, UPLO)))


def eigvalsh(x: Operand, /, UPLO: str = "L") -> Tensor:
    """Return the eigenvalues [..., M] of symmetric x [..., M, M], rising."""
    return _one(ops.EigenValues(), _triangle("eigvalsh", x, UPLO))


def _triangle(what: str, x: Operand, uplo: str) -> Tensor:
    if uplo not in ("L", "U"):
        raise ConfigError(f"{what}: UPLO {uplo!r} is unknown. Allowed: 'L' and 'U'.")
    a = as_tensor(what, x)
    return a if uplo == "L" else shapes.swapaxes(_matrices(what, a), -1, -2)


def eig(x: Operand, /) -> Any:
    """Raise DTypeError: the eigenvalues of a matrix that is not symmetric are complex."""
    raise DTypeError("eig: eigenvalues of matrices that are not symmetric are complex, and there is no complex dtype. "
                     "Use eigh() for symmetric matrices, or svd().")  # fmt: skip


def eigvals(x: Operand, /) -> Any:
    """Raise DTypeError: the eigenvalues of a matrix that is not symmetric are complex."""
    raise DTypeError("eigvals: eigenvalues of matrices that are not symmetric are complex, and there is no complex "
                     "dtype. Use eigvalsh() for symmetric matrices, or svdvals().")  # fmt: skip


def qr(x: Operand, /, *, mode: str = "reduced") -> QRResult:
    """Return Q [..., M, K] with orthonormal columns and upper triangular R [..., K, N] with x = Q R.

    K is min(M, N); with mode "complete", M. The gradient needs the first min(M, N) columns of x to be independent.
    """
    if mode not in ("reduced", "complete"):
        raise ConfigError(f"qr: mode {mode!r} is unknown. Allowed: 'reduced' and 'complete'.")
    return QRResult(*_apply(ops.QR(mode == "complete"), as_tensor("qr", x)))


def svd(x: Operand, /, *, full_matrices: bool = True) -> SVDResult:
    """Return U, the singular values S [..., K], falling, and Vh with x = U diag(S) Vh, for x [..., M, N].

    K is min(M, N). U is [..., M, M] and Vh [..., N, N]; without `full_matrices`, [..., M, K] and [..., K, N]. The
    gradient exists where singular values differ and the result does not depend on the signs of the vectors; of full
    matrices, the vectors behind the first K have none.
    """
    return SVDResult(*_apply(ops.SVD(full_matrices), as_tensor("svd", x)))


def svdvals(x: Operand, /) -> Tensor:
    """Return the singular values [..., min(M, N)] of x [..., M, N], falling."""
    return _one(ops.SingularValues(), as_tensor("svdvals", x))


def pinv(x: Operand, /, *, rtol: Operand | None = None, hermitian: bool = False) -> Tensor:
    """Return the Moore-Penrose inverse [..., N, M] of x [..., M, N].

    Args:
        x: the matrices.
        rtol: singular values up to this times the largest count as 0; max(M, N) times the precision when None. A
            number, or one per matrix.
        hermitian: x is symmetric, which is quicker.
    """
    a = _matrices("pinv", as_tensor("pinv", x))
    if rtol is None:
        return _one(ops.Pinv(hermitian), a)
    (_, limit), tensors, _ = meet("pinv", a, rtol)
    return _one(ops.Pinv(hermitian), a, broadcast_to(made(cast(limit, a.dtype), *tensors), a.shape[:-2]))


def matrix_exp(x: Operand, /) -> Tensor:
    """Return the matrix exponentials of x [..., M, M]."""
    return _one(ops.MatrixExp(), as_tensor("matrix_exp", x))


def solve(x1: Operand, x2: Operand, /) -> Tensor:
    """Return the X with x1 X = x2, for x1 [..., M, M] and x2 [..., M, K] or one vector [M]; batches broadcast.

    LinAlgError where x1 is singular.
    """
    a, b, vector = _system("solve", x1, x2)
    found = _one(ops.Solve(), a, b)
    return shapes.squeeze(found, -1) if vector else found


def solve_triangular(
    A: Operand, B: Operand, /, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """Return the X with A X = B for triangular A [..., M, M] and B [..., M, K]; batches broadcast.

    Args:
        A: only the upper or lower triangle is read.
        B: the right-hand sides.
        upper: A is upper triangular, else lower.
        left: else X A = B is solved, B being [..., K, M].
        unitriangular: the diagonal of A is taken to be 1 and not read.
    """
    (a, b) = _met("solve_triangular", A, B)
    if not left:
        a, b = shapes.swapaxes(a, -1, -2), shapes.swapaxes(b, -1, -2)
    a, b = _of_one_batch("solve_triangular", a, b)
    found = _one(ops.SolveTriangular(upper == left, unitriangular), a, b)
    return found if left else shapes.swapaxes(found, -1, -2)


def cholesky_solve(B: Operand, L: Operand, /, upper: bool = False) -> Tensor:
    """Return the X with A X = B, given the Cholesky factor L of A = L L' (U of A = U' U if `upper`)."""
    factor = _matrices("cholesky_solve", as_tensor("cholesky_solve", L))
    lower = shapes.swapaxes(factor, -1, -2) if upper else factor
    half = solve_triangular(lower, B, upper=False)
    return solve_triangular(shapes.swapaxes(lower, -1, -2), half, upper=True)


def cholesky_inverse(L: Operand, /, upper: bool = False) -> Tensor:
    """Return the inverse of A, given its Cholesky factor L with A = L L' (U with A = U' U if `upper`)."""
    factor = _matrices("cholesky_inverse", as_tensor("cholesky_inverse", L))
    return cholesky_solve(eye(factor.shape[-1], dtype=factor.dtype), factor, upper)


def lstsq(A: Operand, B: Operand, /, rcond: float | None = None, *, driver: str | None = None) -> LstsqResult:
    """Return the X of least norm that makes A X - B smallest, for A [..., M, N] and B [..., M, K] or vectors [..., M].

    Further the sums of squares of A X - B [..., K] where M > N (else an empty tensor), the rank of A, and its singular
    values. Shapes are fixed, so the sums are there for matrices of lower rank, too.

    Args:
        A: the systems.
        B: the right-hand sides.
        rcond: singular values up to this times the largest count as 0; max(M, N) times the precision when None.
        driver: PyTorch's; LAPACK's gelsd is always used.
    """
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise ConfigError(f"lstsq: driver {driver!r} is unknown. Allowed: None, which chooses gelsd.")
    a, b = _met("lstsq", A, B)
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if vector:
        b = expand_dims(b, -1)
    a, b = _of_one_batch("lstsq", a, b)
    x, rank, values = _apply(ops.LeastSquares(None if rcond is None else float(rcond)), a, b)
    if a.shape[-2] > a.shape[-1]:
        off = a @ x - b
        left = (off * off).sum(axis=-2)
    else:
        left = zeros((0,), dtype=a.dtype)
    if vector:
        x = shapes.squeeze(x, -1)
    return LstsqResult(x, left, rank, values)


# --- operands -----------------------------------------------------------------------------------------------


def _matrices(what: str, x: Tensor) -> Tensor:
    require_float(what, x.dtype)
    if x.ndim < 2:
        raise ShapeError(f"{what}: takes matrices, got {x.node.type!r}. Allowed: at least 2 axes.")
    return x


def _met(what: str, x1: Operand, x2: Operand) -> tuple[Tensor, Tensor]:
    """Return two operands as float tensors of one dtype."""
    first, second = as_tensor(what, x1), as_tensor(what, x2)
    require_float(what, first.dtype)
    require_float(what, second.dtype)
    (a, b), _, _ = meet(what, first, second)
    return made(a, first), made(b, second)


def _of_one_batch(what: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return matrices with their leading axes broadcast."""
    _matrices(what, a)
    _matrices(what, b)
    batch = broadcast_shapes(what, a.shape[:-2], b.shape[:-2])
    return broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:]))


def _system(what: str, x1: Operand, x2: Operand) -> tuple[Tensor, Tensor, bool]:
    """Return the operands of a system of equations, and whether the right-hand side was one vector."""
    a, b = _met(what, x1, x2)
    _matrices(what, a)
    vector = b.ndim == 1
    if b.ndim == 0 or (not vector and b.shape[-2] != a.shape[-1]):
        hint = " Vectors of a batch need an axis more: b[..., None]." if b.ndim and b.shape[-1] == a.shape[-1] else ""
        raise ShapeError(
            f"{what}: {a.node.type!r} and {b.node.type!r} do not fit. The second is a vector of {a.shape[-1]} elements "
            f"or matrices with {a.shape[-1]} rows.{hint}"
        )
    return *_of_one_batch(what, a, expand_dims(b, -1) if vector else b), vector
