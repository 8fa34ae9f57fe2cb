"""Factorisations and solutions of linear systems: Cholesky, QR, LU's uses, least squares, the matrix exponential.

Every gradient is an equation in these ops and products, so gradients of gradients follow. `A'` is A transposed, `cA`
the cotangent of A. Equations without another source are those of Giles, "An extended collection of matrix derivative
results for forward and reverse mode algorithmic differentiation" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import GradientError, ShapeError, Type, int64
from treadle.ir import Get, Node

from .base import Array
from .broadcast import reshape, zeros_like
from .host import Host, Results, batch_size, check_matrices, checked
from .indexing import Tril, Triu
from .linalg import matmul
from .logic import where
from .movement import Concat, Slice, swap_last
from .reduce import Sum
from .spectral_host import on_diagonal, singular_values_vjp

SINGULAR = "is singular."
BLOCK = 32  # rows that are substituted one by one; the others meet in products of blocks


class Cholesky(Host):
    """The lower triangular L with L L' = A, for symmetric positive definite A; only A's lower triangle is read."""

    name = "cholesky"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return a

    def compute(self, a: Array) -> Array:
        return checked(self.name, "is not positive definite.", _cholesky, a)

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        """With P = the lower triangle of L' cL, its diagonal halved: cA = (S + S') / 2, S = L'^-1 P L^-1.

        After Murray, "Differentiation of the Cholesky decomposition" (2016), eq. 10.
        """
        product = Tril(0)(matmul(swap_last(out), ct))
        half = where(on_diagonal(a.shape[-1]), product * 0.5, product)
        upper = SolveTriangular(True, False)
        left = upper(swap_last(out), half)
        s = swap_last(upper(swap_last(out), swap_last(left)))
        return [(s + swap_last(s)) * 0.5]


def _cholesky(a: Array) -> Array:
    factor = np.linalg.cholesky(a)
    if np.isnan(factor).any():  # LAPACK may take NaN for positive
        raise np.linalg.LinAlgError
    return factor


@dataclass(frozen=True)
class SolveTriangular(Host):
    """X with A X = B, for triangular A: only that triangle is read; `unit` takes its diagonal to be 1."""

    name = "solve_triangular"
    upper: bool
    unit: bool

    def infer(self, a: Type, b: Type) -> Type:
        return solution_type(self.name, a, b)

    def compute(self, a: Array, b: Array) -> Array:
        if self.upper:  # upper triangular with both orders reversed is lower triangular
            return _substituted(a[..., ::-1, ::-1], b[..., ::-1, :], self.unit)[..., ::-1, :]
        return _substituted(a, b, self.unit)

    def vjp(self, ct: Node, out: Node, a: Node, b: Node) -> list[Node | None]:
        """Return cB = A'^-1 cX and cA = the triangle of -cB X'."""
        cb = SolveTriangular(not self.upper, self.unit)(swap_last(a), ct)
        ca = -matmul(cb, swap_last(out))
        skip = int(self.unit)
        return [Triu(skip)(ca) if self.upper else Tril(-skip)(ca), cb]


def _substituted(a: Array, b: Array, unit: bool) -> Array:
    """Return A^-1 B for lower triangular A by forward substitution, in halves down to small blocks."""
    n = a.shape[-1]
    if n > BLOCK:
        h = n // 2
        top = _substituted(a[..., :h, :h], b[..., :h, :], unit)
        return np.concatenate([top, _substituted(a[..., h:, h:], b[..., h:, :] - a[..., h:, :h] @ top, unit)], axis=-2)
    x = b.copy()
    for i in range(n):
        x[..., i, :] -= (a[..., i : i + 1, :i] @ x[..., :i, :])[..., 0, :]
        if not unit:
            x[..., i, :] /= a[..., i, i, None]
    return x


class Solve(Host):
    """X with A X = B."""

    name = "solve"

    def infer(self, a: Type, b: Type) -> Type:
        return solution_type(self.name, a, b)

    def compute(self, a: Array, b: Array) -> Array:
        return checked(self.name, SINGULAR, np.linalg.solve, a, b)

    def vjp(self, ct: Node, out: Node, a: Node, b: Node) -> list[Node | None]:
        """Return cB = A'^-1 cX and cA = -cB X'."""
        cb = Solve()(swap_last(a), ct)
        return [-matmul(cb, swap_last(out)), cb]


class Inv(Host):
    """The inverse X of A."""

    name = "inv"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return a

    def compute(self, a: Array) -> Array:
        return checked(self.name, SINGULAR, np.linalg.inv, a)

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        """Return cA = -X' cX X'."""
        t = swap_last(out)
        return [-matmul(matmul(t, ct), t)]


class Det(Host):
    """The determinant."""

    name = "det"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return Type(a.dtype, a.shape[:-2])

    def compute(self, a: Array) -> Array:
        return np.linalg.det(a)

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        """Return cA = c * the cofactors of A (Jacobi): right for singular A, too."""
        return [as_matrix(ct) * Cofactor()(a)]


class Cofactor(Host):
    """The matrix of cofactors, C = det(A) A'^-1: from A = U S V', C = det(U) det(V) U diag(prod_j!=i s_j) V'."""

    name = "cofactor"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return a

    def compute(self, a: Array) -> Array:
        u, s, vh = checked("det", "has no singular values.", np.linalg.svd, a)
        ones = np.ones_like(s[..., :1])
        before = np.cumprod(np.concatenate([ones, s[..., :-1]], axis=-1), axis=-1)[..., : s.shape[-1]]
        after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], axis=-1), axis=-1)[..., : s.shape[-1]][..., ::-1]
        sign = np.sign(np.linalg.det(u) * np.linalg.det(vh))[..., None]
        return (u * (sign * before * after)[..., None, :]) @ vh

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        """For invertible A, with T = A'^-1: cA = sum(cC * T) C - det(A) T cC' T."""
        t = swap_last(Inv()(a))
        inside = Sum((a.type.ndim - 2, a.type.ndim - 1))(ct * t)
        return [as_matrix(inside) * out - as_matrix(Det()(a)) * matmul(matmul(t, swap_last(ct)), t)]


class SlogDet(Host):
    """The sign of the determinant, and the logarithm of its magnitude: 0 and -inf for singular A."""

    name = "slogdet"

    def infer(self, a: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a, square=True)
        of = Type(a.dtype, a.shape[:-2])
        return of, of

    def compute(self, a: Array) -> tuple[Array, ...]:
        return tuple(np.linalg.slogdet(a))

    def vjp(self, ct: Results, out: Node, a: Node) -> list[Node | None]:
        """Return cA = c A'^-1, c being the cotangent of the logarithm; the sign has slope 0."""
        return [None if ct[1] is None else as_matrix(ct[1]) * swap_last(Inv()(a))]


@dataclass(frozen=True)
class QR(Host):
    """Q with orthonormal columns and upper triangular R with A = Q R; `complete` makes Q square."""

    name = "qr"
    complete: bool = False

    def infer(self, a: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a)
        *batch, m, n = a.shape
        k = m if self.complete else min(m, n)
        return Type(a.dtype, (*batch, m, k)), Type(a.dtype, (*batch, k, n))

    def compute(self, a: Array) -> tuple[Array, ...]:
        *batch, m, n = a.shape
        if not a.size:
            k = m if self.complete else min(m, n)
            return np.broadcast_to(np.eye(m, k, dtype=a.dtype), (*batch, m, k)), np.zeros((*batch, k, n), a.dtype)
        return tuple(np.linalg.qr(a, mode="complete" if self.complete else "reduced"))

    def vjp(self, ct: Results, out: Node, a: Node) -> list[Node | None]:
        """For M = R cR' - cQ' Q: cA = (cQ + Q copyltu(M)) R'^-1, copyltu copying the lower triangle to the upper.

        After Walter and Lehmann, "Algorithmic differentiation of linear algebra functions" (2010). A wide A = [X Y]
        has R = [U V] with X = Q U; then cY = Q cV, and X gets what the equation says of cQ + Y cV' and cU (Roberts and
        Roberts, "QR and LQ decomposition matrix backpropagation algorithms", 2020).
        """
        m, n = a.shape[-2:]
        if self.complete and m > n:
            raise GradientError(
                f"qr: with mode='complete', the last {m - n} columns of Q for {a.type!r} are an arbitrary choice, "
                "which has no gradient. Use mode='reduced'."
            )
        q, r = (Get(k, t)(out) for k, t in enumerate(out.types))
        cq, cr = (zeros_like(x) if c is None else c for c, x in zip(ct, (q, r), strict=True))
        if m >= n:
            return [_qr_vjp(q, r, cq, cr)]
        u, cu, cv = columns(r, 0, m), columns(cr, 0, m), columns(cr, m, n)
        cx = _qr_vjp(q, u, cq + matmul(columns(a, m, n), swap_last(cv)), cu)
        return [Concat(a.type.ndim - 1)(cx, matmul(q, cv))]


def _qr_vjp(q: Node, r: Node, cq: Node, cr: Node) -> Node:
    m = matmul(r, swap_last(cr)) - matmul(swap_last(cq), q)
    copied = Tril(0)(m) + swap_last(Tril(-1)(m))
    left = cq + matmul(q, copied)
    return swap_last(SolveTriangular(True, False)(r, swap_last(left)))  # X R'^-1 = (R^-1 X')'


@dataclass(frozen=True)
class Pinv(Host):
    """The Moore-Penrose inverse P of A; singular values up to `rtol` times the largest count as 0.

    A second operand gives rtol, one per matrix; without it, it is max(M, N) times the precision of the dtype.
    """

    name = "pinv"
    hermitian: bool = False

    def infer(self, a: Type, *rtol: Type) -> Type:
        check_matrices(self.name, a, square=self.hermitian)
        *batch, m, n = a.shape
        if rtol and rtol[0] != Type(a.dtype, tuple(batch)):
            raise ShapeError(f"pinv: rtol {rtol[0]!r} does not fit {a!r}. Give one number per matrix of its batch.")
        return Type(a.dtype, (*batch, n, m))

    def compute(self, a: Array, *rtol: Array) -> Array:
        eps = max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)

        def inverse(a: Array, *limit: Array) -> Array:
            return np.linalg.pinv(a, rtol=limit[0] if limit else np.asarray(eps, a.dtype), hermitian=self.hermitian)

        return checked(self.name, "has no singular values.", inverse, a, *rtol)

    def vjp(self, ct: Node, out: Node, a: Node, *rtol: Node) -> list[Node | None]:
        return [pinv_vjp(ct, out, a), *[None for _ in rtol]]


def pinv_vjp(ct: Node, p: Node, a: Node) -> Node:
    """Return cA = -P' cP P' + (I - A P) cP' P P' + P' P cP' (I - P A), for matrices of constant rank.

    After Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate" (1973), eq. 4.12.
    """
    pt, ctt = swap_last(p), swap_last(ct)
    right = matmul(ctt, matmul(p, pt))
    left = matmul(matmul(pt, p), ctt)
    return -matmul(matmul(pt, ct), pt) + (right - matmul(a, matmul(p, right))) + (left - matmul(matmul(left, p), a))


@dataclass(frozen=True)
class LeastSquares(Host):
    """X of least norm that makes A X - B smallest; the rank of A; its singular values.

    Singular values up to `rcond` times the largest count as 0; None is max(M, N) times the precision of the dtype.
    """

    name = "lstsq"
    rcond: float | None = None

    def infer(self, a: Type, b: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a, b)
        *batch, m, n = a.shape
        if b.shape[-2] != m:
            raise ShapeError(f"lstsq: {a!r} has {m} rows, {b!r} has {b.shape[-2]}. They must be equal.")
        return (
            Type(a.dtype, (*batch, n, b.shape[-1])),
            Type(int64, tuple(batch)),
            Type(a.dtype, (*batch, min(m, n))),
        )

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        batch, n = a.shape[:-2], a.shape[-1]
        x = np.zeros((*batch, n, b.shape[-1]), a.dtype)
        rank, s = np.zeros(batch, np.int64), np.zeros((*batch, min(a.shape[-2:])), a.dtype)
        for place in np.ndindex(batch) if a.size else ():
            found = checked(self.name, "has no singular values.", self._solved, a[place], b[place])
            x[place], _, rank[place], s[place] = found
        return x, rank, s

    def _solved(self, a: Array, b: Array) -> tuple[Any, ...]:
        return np.linalg.lstsq(a, b, rcond=self.rcond)

    def vjp(self, ct: Results, out: Node, a: Node, b: Node) -> list[Node | None]:
        """X = P B, P being the Moore-Penrose inverse: cB = P' cX, and cA is that of P for cP = cX B'."""
        ca: Node | None = None
        cb: Node | None = None
        if ct[0] is not None:
            p = Pinv()(a)
            ca, cb = pinv_vjp(matmul(ct[0], swap_last(b)), p, a), matmul(swap_last(p), ct[0])
        if ct[2] is not None:
            from_values = singular_values_vjp(ct[2], a)
            ca = from_values if ca is None else ca + from_values
        return [ca, cb]


class MatrixExp(Host):
    """The exponential of a matrix by scaling, a Padé approximant and squaring (Higham 2005, degree 13)."""

    name = "matrix_exp"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return a

    def work(self, a: Type) -> int:
        return 40 * batch_size(a) * a.shape[-1] ** 3 + 1000

    def compute(self, a: Array) -> Array:
        norm = np.abs(a).sum(axis=-2).max(axis=-1, initial=0)
        times = np.ceil(np.log2(np.where(norm > _THETA, norm / _THETA, 1)))
        times = np.where(np.isfinite(times), times, 0).astype(np.int64)
        x = _pade(a * (2.0 ** -times.astype(a.dtype)).astype(a.dtype)[..., None, None])
        for k in range(int(times.max(initial=0))):
            x = np.where((times > k)[..., None, None], x @ x, x)
        return x

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        """Return cA, the upper right block of exp([[A', c], [0, A']]).

        After Mathias, "A chain rule for matrix functions and applications" (1996).
        """
        n, last = a.shape[-1], a.type.ndim - 1
        t = swap_last(a)
        block = Concat(last - 1)(Concat(last)(t, ct), Concat(last)(zeros_like(t), t))
        whole = MatrixExp()(block)
        starts = (*[0] * (last - 1), 0, n)
        return [Slice(starts, a.shape, (1,) * (last + 1))(whole)]


_THETA = 5.371920351148152  # up to this norm the approximant is exact to float64
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip


def _pade(a: Array) -> Array:
    b: list[Any] = [a.dtype.type(c / _PADE[0]) for c in _PADE]
    one = np.eye(a.shape[-1], dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a @ (a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * one)
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * one
    down: Array = even - odd
    up: Array = even + odd
    return np.asarray(np.linalg.solve(down, up), a.dtype)


# ---- what the equations are written with


def solution_type(what: str, a: Type, b: Type) -> Type:
    """Return the type of A^-1 B."""
    check_matrices(what, a, b, square=True)
    if b.shape[-2] != a.shape[-1]:
        raise ShapeError(f"{what}: {a!r} has {a.shape[-1]} columns, {b!r} {b.shape[-2]} rows. They must be equal.")
    return b


def as_matrix(x: Node) -> Node:
    """Return numbers, one per matrix, as 1x1 matrices that broadcast."""
    return reshape(x, (*x.shape, 1, 1))


def columns(x: Node, start: int, stop: int) -> Node:
    """Return the columns from `start` to before `stop`."""
    ndim = x.type.ndim
    return Slice((*[0] * (ndim - 1), start), (*x.shape[:-1], stop - start), (1,) * ndim)(x)
