"""Distances and similarities of vectors, and the losses that learn them: pairs, triplets, contrast with a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

from treadle.core import ConfigError, ShapeError, broadcast_shapes, normalize_axis
from treadle.tensor import Tensor, creation
from treadle.tensor import elementwise as ew
from treadle.tensor.elementwise import where
from treadle.tensor.manipulation import broadcast_to, concat
from treadle.tensor.promotion import Operand, as_tensor

from .classification import cross_entropy
from .reduce import check_reduction, chosen, reduced


def pairwise_distance(x1: Operand, x2: Operand, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """Return the p-norm of x1 - x2 + eps along the last axis; operands broadcast."""
    a, b = as_tensor("pairwise_distance", x1), as_tensor("pairwise_distance", x2)
    return _norm(a - b + eps, p, -1, keepdims=keepdim)


def cosine_similarity(x1: Operand, x2: Operand, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Return x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along an axis; operands broadcast."""
    a, b = as_tensor("cosine_similarity", x1), as_tensor("cosine_similarity", x2)
    ndim = max(a.ndim, b.ndim, 1)
    axis = normalize_axis("cosine_similarity", dim, ndim) - ndim
    if a.ndim == b.ndim == 0:  # numbers are vectors of one
        a, b = a.reshape(1), b.reshape(1)
    # A vector of size 1 counts as often as it is repeated along the axis: that is part of its length.
    size = broadcast_shapes("cosine_similarity", a.shape, b.shape)[axis]
    a, b = (x if -x.ndim <= axis and x.shape[axis] == size else _repeated(x, axis, size) for x in (a, b))
    return (_unit(a, axis, eps) * _unit(b, axis, eps)).sum(axis=axis)


def _repeated(x: Tensor, axis: int, size: int) -> Tensor:
    """Return x repeated to a size along an axis counted from the end, which it may not have yet."""
    shape = [1] * (-axis - x.ndim) + list(x.shape)
    shape[axis] = size
    return broadcast_to(x, shape)


def cosine_embedding_loss(
    input1: Operand,
    input2: Operand,
    target: Operand,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return 1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1.

    Inputs are [N, D] with a target [N], or [D] with a scalar.
    """
    what = "cosine_embedding_loss"
    name = chosen(what, reduction, size_average, reduce)
    a, b, t = as_tensor(what, input1), as_tensor(what, input2), as_tensor(what, target)
    if t.ndim > 1 or a.ndim != t.ndim + 1 or b.ndim != a.ndim:
        raise ShapeError(
            f"{what}: inputs {a.node.type!r} and {b.node.type!r} and target {t.node.type!r} do not fit. They must be "
            "[N, D] and [N], or [D] and a scalar."
        )
    least = 1e-12
    squares = ((a * a).sum(axis=-1) + least) * ((b * b).sum(axis=-1) + least)
    cosine = (a * b).sum(axis=-1) / ew.sqrt(squares)
    far = where(ew.equal(t, -1), ew.clip(cosine - margin, 0.0), 0.0)
    return reduced(where(ew.equal(t, 1), 1.0 - cosine, 0.0) + far, name)


def triplet_margin_loss(
    anchor: Operand,
    positive: Operand,
    negative: Operand,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return max(0, margin + d(anchor, positive) - d(anchor, negative)) (Balntas et al. 2016).

    Args:
        anchor: [N, D] or [D].
        positive: the same, to be near the anchor.
        negative: the same, to be far from it.
        margin: by how much farther, above 0.
        p: of the norm in `pairwise_distance`.
        eps: as in `pairwise_distance`.
        swap: take d(positive, negative) for the second distance where it is smaller.
        size_average: older than `reduction`: whether to average; see `reduce`.
        reduce: older than `reduction`: whether to reduce at all. Either of the two counts instead of it when given.
        reduction: "mean", "sum", or "none" for one loss per triplet.
    """
    name = chosen("triplet_margin_loss", reduction, size_average, reduce)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap, reduction=name
    )


def triplet_margin_with_distance_loss(
    anchor: Operand,
    positive: Operand,
    negative: Operand,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Return `triplet_margin_loss` with a distance of your own, a function of two tensors."""
    what = "triplet_margin_loss"
    check_reduction(what, reduction)
    if not margin > 0:
        raise ConfigError(f"{what}: margin is {margin}. It must be above 0.")
    a, b, c = as_tensor(what, anchor), as_tensor(what, positive), as_tensor(what, negative)
    if not a.ndim == b.ndim == c.ndim:
        raise ShapeError(
            f"{what}: anchor {a.node.type!r}, positive {b.node.type!r} and negative {c.node.type!r} differ in their "
            "number of axes. They must be equal."
        )
    distance = pairwise_distance if distance_function is None else distance_function
    far = distance(a, c)
    if swap:
        far = ew.minimum(far, distance(b, c))
    return reduced(ew.clip(distance(a, b) - far + margin, 0.0), reduction)


def info_nce(
    query: Operand,
    positive_key: Operand,
    negative_keys: Operand | None = None,
    temperature: float = 0.1,
    reduction: str = "mean",
) -> Tensor:
    """Return -log(exp(q.k+ / T) / sum_k exp(q.k / T)) with all vectors scaled to length 1.

    InfoNCE (van den Oord et al. 2018, arXiv:1807.03748); without negatives of their own, the queries are contrasted
    with each other's keys, as in SimCLR and CLIP (one direction).

    Args:
        query: [N, D].
        positive_key: [N, D], one for each query.
        negative_keys: [M, D] for all queries, [N, M, D] for each its own, or None: the positive keys of the others.
        temperature: above 0.
        reduction: "mean", "sum", or "none" for one loss per query.
    """
    what = "info_nce"
    check_reduction(what, reduction)
    if not temperature > 0:
        raise ConfigError(f"{what}: temperature is {temperature}. It must be above 0.")
    q, k = as_tensor(what, query), as_tensor(what, positive_key)
    if q.ndim != 2 or q.shape != k.shape:
        raise ShapeError(f"{what}: query {q.node.type!r} and positive_key {k.node.type!r} must both be [N, D].")
    count, width = q.shape
    q, k = _unit(q, -1, 1e-12), _unit(k, -1, 1e-12)
    if negative_keys is None:
        return cross_entropy(q @ k.mT / temperature, creation.arange(count), reduction=reduction)
    n = as_tensor(what, negative_keys)
    if n.ndim not in (2, 3) or n.shape[-1] != width or (n.ndim == 3 and n.shape[0] != count):
        raise ShapeError(f"{what}: negative_keys {n.node.type!r} must be [M, {width}] or [{count}, M, {width}].")
    n = _unit(n, -1, 1e-12)
    right = (q * k).sum(axis=-1, keepdims=True)
    wrong = q @ n.mT if n.ndim == 2 else (n @ q.reshape((count, width, 1))).reshape((count, n.shape[1]))
    logits = concat((right, wrong), axis=1) / temperature
    return cross_entropy(logits, creation.zeros((count,), dtype="int64"), reduction=reduction)


def _unit(x: Tensor, axis: int, eps: float) -> Tensor:
    """Return x / max(|x|, eps); only the value of the length is limited, not its gradient."""
    length = _norm(x, 2.0, axis, keepdims=True)
    return x / (length + (ew.maximum(length, eps) - length).detach())


def _norm(x: Tensor, p: float, axis: int, *, keepdims: bool) -> Tensor:
    """Return (sum |x|^p)^(1/p) along an axis; its gradient is 0 at 0."""
    if p == 0:
        return ew.not_equal(x, 0.0).astype(x.dtype).sum(axis=axis, keepdims=keepdims)
    if p == 1:
        return ew.abs(x).sum(axis=axis, keepdims=keepdims)
    if math.isinf(p):
        return ew.abs(x).max(axis=axis, keepdims=keepdims) if p > 0 else ew.abs(x).min(axis=axis, keepdims=keepdims)
    if p == 2:
        powers = x * x
    else:
        flat = ew.equal(x, 0.0)
        powers = where(flat, 0.0, where(flat, 1.0, ew.abs(x)) ** p)
    total = powers.sum(axis=axis, keepdims=keepdims)
    # The operand of the root is replaced as well: its slope at 0 is infinite.
    none = ew.equal(total, 0.0)
    total = where(none, 1.0, total)
    return where(none, 0.0, ew.sqrt(total) if p == 2 else total ** (1 / p))
