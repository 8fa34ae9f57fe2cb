"""Ready parametrisations of weights: normalised by length, by the largest singular value, or orthogonal."""

from __future__ import annotations

import numpy as np

from treadle.core import ConfigError, ShapeError, normalize_axis
from treadle.nn.computed import held_cell
from treadle.nn.functional import normalize
from treadle.nn.module import Module
from treadle.nn.parameter import Buffer
from treadle.tensor import Tensor
from treadle.tensor.arranging import diag_embed
from treadle.tensor.creation import asarray, eye, zeros
from treadle.tensor.elementwise import abs, less, sign, where
from treadle.tensor.factorizations import matrix_exp, qr, solve, solve_triangular
from treadle.tensor.known import known
from treadle.tensor.linalg_extension import diagonal
from treadle.tensor.manipulation import broadcast_to, concat, tril, triu
from treadle.tensor.products import dot, mv
from treadle.tensor.promotion import as_tensor
from treadle.tensor.random import normal

from .lengths import directed, lengths
from .parametrize import is_parametrized, register_parametrization
from .power import as_matrix, check_steps, first_vectors, iterate, output_axis

MAPS = ("matrix_exp", "cayley", "householder")
FIRST_STEPS = 15  # of power iteration, before training


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Make a weight g v / |v|, `original0` being g and `original1` v (Salimans and Kingma 2016, arXiv:1602.07868).

    Args:
        module: whose weight it is; it is returned.
        name: its name.
        dim: the axis along which each slice has a length of its own; None for one length of all.
    """
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Return the weight of these lengths and directions."""
        return directed(g, v, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return lengths and directions of the weight."""
        return lengths(weight, self.dim), weight


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018, arXiv:1802.05957).

    That value is estimated by power iteration, which goes on in training whenever the weight is read. A vector is
    divided by its length.

    Args:
        module: whose weight it is; it is returned.
        name: its name.
        n_power_iterations: steps of each time.
        eps: lengths below it are taken for it.
        dim: the axis that counts outputs, the rows of the matrix; None is 1 for transposed convolutions, else 0.
    """
    weight = _weight("spectral_norm", module, name)
    axis = normalize_axis("spectral_norm", output_axis(module) if dim is None else dim, weight.ndim)
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, axis, eps))


class _SpectralNorm(Module):
    def __init__(self, weight: Tensor, steps: int, axis: int, eps: float) -> None:
        super().__init__()
        check_steps("spectral_norm", steps)
        self.n_power_iterations, self.dim, self.eps = steps, axis, eps
        if weight.ndim > 1:
            matrix = as_matrix(weight, axis)
            self._u, self._v = first_vectors(matrix, eps)
            self._turn(matrix, FIRST_STEPS)

    def _turn(self, matrix: Tensor, steps: int) -> None:
        # The vector of the rows first, as in PyTorch's parametrisation: that of the transposed matrix's columns.
        iterate(matrix.mT, self._v, self._u, steps, self.eps)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided."""
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._turn(matrix, self.n_power_iterations)
        return weight / dot(self._u, mv(matrix, self._v))

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return the weight itself: what is divided may have any size."""
        return value


def orthogonal(
    module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Module:
    """Keep a weight [..., N, K] orthonormal: its columns, or its rows where there are fewer (Lezcano 2019, 1909.09501).

    Args:
        module: whose weight it is; it is returned.
        name: its name.
        orthogonal_map: from any matrix to an orthonormal one: "matrix_exp" of its skew-symmetric part, the "cayley" map
            of that, or "householder", a product of reflections. None is matrix_exp for square weights, else
            householder.
        use_trivialization: start from the weight as it is: it is multiplied with what the map gives, at first the
            identity. Without, matrix_exp and cayley cannot be assigned to.
    """
    weight = _weight("orthogonal", module, name)
    if weight.ndim < 2:
        raise ShapeError(f"orthogonal: {name} is {weight.node.type!r}. It must be a matrix, or a batch of them.")
    square = weight.shape[-1] == weight.shape[-2]
    chosen = ("matrix_exp" if square else "householder") if orthogonal_map is None else orthogonal_map
    if chosen not in MAPS:
        raise ConfigError(f"orthogonal: orthogonal_map is {orthogonal_map!r}. Allowed: {', '.join(MAPS)}, None.")
    return register_parametrization(module, name, _Orthogonal(chosen, use_trivialization), unsafe=True)


class _Orthogonal(Module):
    def __init__(self, orthogonal_map: str, use_trivialization: bool) -> None:
        super().__init__()
        self.orthogonal_map = orthogonal_map
        self.use_trivialization = use_trivialization
        self.base: Buffer | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return an orthonormal matrix."""
        tall = _tall(x)
        match self.orthogonal_map:
            case "householder":
                q = _reflected(tall)
            case "cayley":
                skew, one = _skew(tall), eye(tall.shape[-2], dtype=x.dtype)
                q = solve(one - skew * 0.5, one + skew * 0.5)
            case _:
                q = matrix_exp(_skew(tall))
        q = q[..., : tall.shape[-1]]
        q = (q if self.base is None else self.base @ q).astype(x.dtype)  # factors of 16-bit floats are float32
        return q if tall is x else q.mT

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return what the map makes the value of; without a base, of householder only."""
        tall = _tall(value)
        if self.use_trivialization:
            base = _completed(tall)
            if self.base is None:
                self.base = Buffer(base)
            self.base.value = base
            return broadcast_to(-eye(*value.shape[-2:], dtype=value.dtype), value.shape)
        if self.orthogonal_map != "householder":
            raise NotImplementedError(f"{self.orthogonal_map} has no inverse without use_trivialization=True")
        start = _reflections(tall)
        return start if tall is value else start.mT


def _tall(x: Tensor) -> Tensor:
    return x if x.shape[-2] >= x.shape[-1] else x.mT


def _skew(x: Tensor) -> Tensor:
    """Return the skew-symmetric matrix [..., N, N] with the lower triangle of x [..., N, K] in its first columns."""
    low = tril(x)
    if x.shape[-1] < x.shape[-2]:
        low = concat([low, zeros((*x.shape[:-1], x.shape[-2] - x.shape[-1]), dtype=x.dtype)], axis=-1)
    return low - low.mT


def _reflected(x: Tensor) -> Tensor:
    """Return the first columns of the product of the reflections at the columns of x, times the signs on its diagonal.

    Column k stands for the vector v_k with 1 at place k and x below it. The product of I - 2 v v' / |v|^2 is
    I - V T V', the inverse of T being the triangle of V'V above its diagonal and half of that diagonal (Puglisi 1992).
    """
    one = eye(*x.shape[-2:], dtype=x.dtype)
    v = tril(x, k=-1) + one
    products = v.mT @ v
    inverse = triu(products, k=1) + diag_embed(diagonal(products) * 0.5)
    q = one - v @ solve_triangular(inverse, v[..., : x.shape[-1], :].mT, upper=True)
    return q * sign(diagonal(x).detach())[..., None, :]


def _reflections(x: Tensor) -> Tensor:
    """Return the matrix of which `_reflected` makes the orthonormal columns of x = QR with a positive diagonal of R."""
    array = known("orthogonal", x, "Assign to the weight outside of the compiled function.")
    raw, tau = np.linalg.qr(array.astype(np.float64), mode="raw")
    found = np.swapaxes(raw, -1, -2)
    places = np.arange(x.shape[-1])
    # LAPACK leaves out a reflection, tau 0, where the column is right already; here it changes the sign instead.
    found[..., places, places] = np.sign(found[..., places, places]) * np.where(tau == 0, -1, 1)
    return asarray(found).astype(x.dtype)


def _completed(x: Tensor) -> Tensor:
    """Return an orthogonal matrix [..., N, N] that begins with the columns of x, made orthonormal if they are not."""
    rows, columns = x.shape[-2:]
    if rows > columns:
        x = concat([x, normal((*x.shape[:-2], rows, rows - columns), dtype=x.dtype)], axis=-1)
    q, r = qr(x)
    q = q * where(diagonal(r) < 0, -1.0, 1.0)[..., None, :]
    # What is orthogonal already stays as it is, to the last bit.
    off = abs(x.mT @ x - eye(rows, dtype=x.dtype)).max(axis=(-2, -1), keepdims=True)
    return where(less(off, 10 * rows * np.finfo(np.float32 if x.dtype.bits < 64 else np.float64).eps), x, q)


def _weight(what: str, module: Module, name: str) -> Tensor:
    """Return the value of a weight, parametrised already or not."""
    return as_tensor(what, getattr(module, name) if is_parametrized(module, name) else held_cell(what, module, name))
