"""Distances between all pairs of vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from treadle.core import ConfigError, ShapeError, broadcast_shapes

from . import elementwise as ew
from . import manipulation as shapes
from . import reductions
from .creation import asarray
from .indexing import take
from .linalg import matmul
from .norms import root, vector_norm
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor

MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
MANY = 25  # vectors from which on a matrix product pays, as PyTorch has it


def cdist(x1: Operand, x2: Operand, p: float = 2.0, compute_mode: str = MODES[0]) -> Tensor:
    """Return the p-norms [..., P, R] of all differences of a vector of x1 [..., P, M] and one of x2 [..., R, M].

    Args:
        x1: the first vectors; the leading axes of both broadcast.
        x2: the second vectors.
        p: the order of the norm, from 0 to inf. A distance of 0 has slope 0.
        compute_mode: for p 2, whether |a - b|^2 is computed as |a|^2 + |b|^2 - 2 a.b, with a matrix product: always
            ("use_mm_for_euclid_dist"), never ("donot_use_mm_for_euclid_dist"), or for more than 25 vectors. It is
            quick, and less exact where vectors are near each other.
    """
    a, b = as_tensor("cdist", x1), as_tensor("cdist", x2)
    ew.require_float("cdist", a.dtype)
    ew.require_float("cdist", b.dtype)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"cdist: {a.node.type!r} and {b.node.type!r} do not fit. They are [..., P, M] and [..., R, M] with one M."
        )
    if not p >= 0:
        raise ConfigError(f"cdist: p {p} is not the order of a norm. Allowed: 0 to inf.")
    if compute_mode not in MODES:
        raise ConfigError(f"cdist: compute_mode {compute_mode!r} is unknown. Allowed: {', '.join(MODES)}.")
    broadcast_shapes("cdist", a.shape[:-2], b.shape[:-2])
    many = compute_mode == MODES[0] and max(a.shape[-2], b.shape[-2]) > MANY
    if p == 2 and (many or compute_mode == MODES[1]):
        return _by_product(a, b)
    difference = ew.subtract(shapes.expand_dims(a, -2), shapes.expand_dims(b, -3))
    if math.isinf(p) and a.shape[-1] == 0:
        p = 1  # of nothing, every norm is 0
    return vector_norm(difference, axis=-1, ord=p)


def _by_product(a: Tensor, b: Tensor) -> Tensor:
    squares = reductions.sum(ew.square(a), axis=-1, keepdims=True)
    others = shapes.swapaxes(reductions.sum(ew.square(b), axis=-1, keepdims=True), -1, -2)
    total = ew.add(ew.multiply(matmul(a, shapes.swapaxes(b, -1, -2)), -2.0), ew.add(squares, others))
    return root(ew.maximum(total, 0.0), 2)


def pdist(input: Operand, p: float = 2.0) -> Tensor:
    """Return the p-norms of the differences of all pairs of rows of [N, M]: (0, 1), (0, 2), ..., (N - 2, N - 1)."""
    x = as_tensor("pdist", input)
    if x.ndim != 2:
        raise ShapeError(f"pdist: takes a matrix, got {x.node.type!r}. Use cdist() for batches.")
    if not p >= 0:
        raise ConfigError(f"pdist: p {p} is not the order of a norm. Allowed: 0 to inf.")
    rows = x.shape[0]
    every = shapes.reshape(cdist(x, x, p, MODES[2]), (rows * rows,))
    if rows < 2:
        return every[:0]
    first, second = np.triu_indices(rows, 1)
    return take(every, asarray(first * rows + second), axis=0)


def dist(input: Operand, other: Operand, p: float = 2.0) -> Tensor:
    """Return the p-norm of the difference of all elements; shapes broadcast."""
    difference = ew.subtract(as_tensor("dist", input), other)
    return vector_norm(shapes.reshape(difference, (difference.size,)), ord=p)
