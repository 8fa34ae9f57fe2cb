"""Eigenvalues of symmetric matrices and singular values of any, with the vectors or without.

`A'` is A transposed, `cA` the cotangent of A. Vectors are defined up to their sign (and up to a rotation where values
are equal): a function of them has a gradient where it does not depend on that choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import Type
from treadle.ir import Get, Node

from .base import Array
from .broadcast import reshape
from .compare import Equal
from .host import Host, Results, check_matrices, checked
from .indexing import Iota
from .linalg import matmul
from .logic import where
from .movement import Slice, swap_last

NOT_FOUND = "has no eigenvalues that the iteration finds."


class Eigh(Host):
    """The eigenvalues w of symmetric matrices, rising, and V with A = V diag(w) V'; reads the lower triangle."""

    name = "eigh"

    def infer(self, a: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a, square=True)
        return Type(a.dtype, a.shape[:-1]), a

    def compute(self, a: Array) -> tuple[Array, ...]:
        return tuple(checked(self.name, NOT_FOUND, np.linalg.eigh, a))

    def vjp(self, ct: Results, out: Node, a: Node) -> list[Node | None]:
        """Return cA = V (diag(cw) + the symmetric part of F * (V' cV)) V' with F_ij = 1 / (w_j - w_i), F_ii = 0.

        After Giles, "An extended collection of matrix derivative results" (2008).
        """
        w, v = (Get(k, t)(out) for k, t in enumerate(out.types))
        cw, cv = ct
        if cv is None:
            return [None if cw is None else matmul(v * row(cw), swap_last(v))]
        diagonal = on_diagonal(a.shape[-1])
        gaps = where(diagonal, 1.0, row(w) - column(w))
        inner = matmul(swap_last(v), cv) / gaps
        inner = (inner + swap_last(inner)) * 0.5  # a step from a symmetric matrix to another is symmetric
        inner = where(diagonal, 0.0 if cw is None else row(cw), inner)
        return [matmul(matmul(v, inner), swap_last(v))]


class EigenValues(Host):
    """The eigenvalues of symmetric matrices, rising."""

    name = "eigvalsh"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a, square=True)
        return Type(a.dtype, a.shape[:-1])

    def compute(self, a: Array) -> Array:
        return checked(self.name, NOT_FOUND, np.linalg.eigvalsh, a)

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        return Eigh().vjp((ct, None), Eigh()(a), a)


@dataclass(frozen=True)
class SVD(Host):
    """U, the singular values s, falling, and V' with A = U diag(s) V'; `full` makes U and V square."""

    name = "svd"
    full: bool = False

    def infer(self, a: Type) -> tuple[Type, ...]:
        check_matrices(self.name, a)
        *batch, m, n = a.shape
        k = min(m, n)
        left, right = (m, n) if self.full else (k, k)
        shapes = ((*batch, m, left), (*batch, k), (*batch, right, n))
        return tuple(Type(a.dtype, tuple(shape)) for shape in shapes)

    def compute(self, a: Array) -> tuple[Array, ...]:
        if not a.size:
            *batch, m, n = a.shape
            k = min(m, n)
            left, right = (m, n) if self.full else (k, k)
            return (
                np.broadcast_to(np.eye(m, left, dtype=a.dtype), (*batch, m, left)),
                np.zeros((*batch, k), a.dtype),
                np.broadcast_to(np.eye(right, n, dtype=a.dtype), (*batch, right, n)),
            )
        return tuple(checked(self.name, NOT_FOUND, self._factors, a))

    def _factors(self, a: Array) -> tuple[Any, ...]:
        return np.linalg.svd(a, full_matrices=self.full)

    def vjp(self, ct: Results, out: Node, a: Node) -> list[Node | None]:
        """Return cA = U M V' + what leaves the two spaces.

        With skew(X) = X - X' and E_ij = s_j^2 - s_i^2 (1 on the diagonal):
        M = (skew(U' cU) / E) diag(s) + diag(s) (skew(V' cV) / E) + diag(cs), and further
        (I - U U') cU diag(1/s) V' where M > N, U diag(1/s) cV' (I - V V') where M < N. After Townsend, "Differentiating
        the singular value decomposition" (2016). Of full matrices only the first min(M, N) vectors have a gradient: the
        others are an arbitrary basis of what is left.
        """
        m, n = a.shape[-2:]
        k = min(m, n)
        u, s, vh = (Get(i, t)(out) for i, t in enumerate(out.types))
        cu, cs, cvh = ct
        if self.full:
            u, vh = part(u, m, k), part(vh, k, n)
            cu, cvh = (None if cu is None else part(cu, m, k)), (None if cvh is None else part(cvh, k, n))
        if cu is None and cvh is None:
            return [None if cs is None else matmul(u * row(cs), vh)]
        diagonal = on_diagonal(k)
        gaps = where(diagonal, 1.0, (row(s) - column(s)) * (row(s) + column(s)))
        inner = None if cs is None else where(diagonal, row(cs), 0.0)
        outside: list[Node] = []
        if cu is not None:
            own = matmul(swap_last(u), cu)
            inner = _plus(inner, (own - swap_last(own)) / gaps * row(s))
            if m > k:
                outside.append(matmul((cu - matmul(u, own)) / row(s), vh))
        if cvh is not None:
            own = matmul(vh, swap_last(cvh))
            inner = _plus(inner, (own - swap_last(own)) / gaps * column(s))
            if n > k:
                outside.append(matmul(u, (cvh - matmul(matmul(cvh, swap_last(vh)), vh)) / column(s)))
        assert inner is not None
        total = matmul(matmul(u, inner), vh)
        for more in outside:
            total = total + more
        return [total]


class SingularValues(Host):
    """The singular values, falling."""

    name = "svdvals"

    def infer(self, a: Type) -> Type:
        check_matrices(self.name, a)
        return Type(a.dtype, (*a.shape[:-2], min(a.shape[-2:])))

    def compute(self, a: Array) -> Array:
        if not a.size:
            return np.zeros((*a.shape[:-2], min(a.shape[-2:])), a.dtype)
        return checked(self.name, NOT_FOUND, np.linalg.svdvals, a)

    def vjp(self, ct: Node, out: Node, a: Node) -> list[Node | None]:
        return [singular_values_vjp(ct, a)]


def singular_values_vjp(ct: Node, a: Node) -> Node:
    """Return cA = U diag(cs) V'."""
    (found,) = SVD().vjp((None, ct, None), SVD()(a), a)
    assert found is not None
    return found


def _plus(a: Node | None, b: Node) -> Node:
    return b if a is None else a + b


def row(x: Node) -> Node:
    """Return vectors as matrices of one row."""
    return reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def column(x: Node) -> Node:
    """Return vectors as matrices of one column."""
    return reshape(x, (*x.shape, 1))


def part(x: Node, rows: int, columns: int) -> Node:
    """Return the first rows and columns."""
    ndim = x.type.ndim
    return Slice((0,) * ndim, (*x.shape[:-2], rows, columns), (1,) * ndim)(x)


def on_diagonal(n: int) -> Node:
    """Return whether an element of a square matrix is on its diagonal."""
    return Equal()(reshape(Iota(n)(), (n, 1)), reshape(Iota(n)(), (1, n)))
