"""Scaled dot-product attention, and what masks and biases it takes.

Shape suffixes: B batch, H heads, T rows (queries), S columns (keys), D width of a head.
"""

from __future__ import annotations

import math

from treadle.core import ConfigError, ShapeError
from treadle.ir import Op, results
from treadle.tensor import Tensor, creation, made, node_of, reductions
from treadle.tensor.elementwise import abs as absolute
from treadle.tensor.elementwise import logical_not, where
from treadle.tensor.manipulation import broadcast_to
from treadle.tensor.promotion import Operand, as_tensor, meet
from treadle.tensor.random import Generator

from .dropout import dropout
from .probabilities import softmax


def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # PyTorch's signature
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return softmax(scale * query key^T) value over the last two axes, [..., T, D].

    Without a mask and dropout it is one kernel that never holds the T x T scores.

    Args:
        query: [..., T, D].
        key: [..., S, D].
        value: [..., S, E].
        attn_mask: broadcasts to [..., T, S]; of bool: True where to look; of float: added to the scores.
        dropout_p: probability of dropping a weight; the caller passes 0 outside training.
        is_causal: row t sees columns 0..t; excludes a mask.
        scale: of the scores; 1 / sqrt(D) when None.
        enable_gqa: key and value may have fewer heads, axis -3, each for as many neighbouring heads of the query
            (Ainslie et al. 2023, arXiv:2305.13245).
        generator: of dropout.
    """
    what = "scaled_dot_product_attention"
    q, k, v = (as_tensor(what, x) for x in (query, key, value))
    if enable_gqa:
        k, v = shared_heads(what, q, k), shared_heads(what, q, v)
    nodes, (q, k, v), _ = meet(what, q, k, v)
    if min(t.ndim for t in (q, k, v)) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{what}: query {q.node.type!r}, key {k.node.type!r} and value {v.node.type!r} do not fit. They must be "
            "[..., T, D], [..., S, D] and [..., S, E]."
        )
    if is_causal and attn_mask is not None:
        raise ConfigError(f"{what}: both is_causal and attn_mask are given. Put the causal part into the mask.")
    factor = 1 / math.sqrt(q.shape[-1] or 1) if scale is None else scale
    plain = attn_mask is None and dropout_p == 0 and k.shape == v.shape and q.shape[:-2] == k.shape[:-2]
    if plain and 2 <= q.ndim <= 4:
        four = [made(node, t).reshape((1,) * (4 - t.ndim) + t.shape) for node, t in zip(nodes, (q, k, v), strict=True)]
        op = Op.registry["attention"](bool(is_causal), float(factor))
        out_BTHD = made(results(op(*[node_of(t) for t in four]))[0], *four)
        return out_BTHD.permute(0, 2, 1, 3).reshape((*q.shape[:-1], v.shape[-1]))
    if is_causal:
        attn_mask = causal_mask(q.shape[-2], k.shape[-2])
    if attn_mask is None:
        weights = attention_weights(q, k, scale=factor)
    else:
        weights = masked_weights(q, k, as_tensor(what, attn_mask), factor)
    return dropout(weights, dropout_p, generator=generator) @ v


def masked_weights(q: Tensor, k: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Return softmax(scale * q k^T) under a mask, [..., T, S]: zeros, not 0/0, in rows that may look nowhere."""
    nowhere = _sees_nothing(mask)
    scores = where(nowhere, 0.0, masked_scores((q @ k.mT) * scale, mask))  # there, too: for the gradient's sake
    return where(nowhere, 0.0, softmax(scores, -1))


def _sees_nothing(mask: Tensor) -> Tensor:
    """Return for every row of a mask whether all of it is masked."""
    visible = mask if mask.dtype.kind == "bool" else mask != -math.inf
    return logical_not(reductions.any(visible, axis=-1, keepdims=True))


def attention_weights(
    query: Operand, key: Operand, attn_mask: Operand | None = None, *, scale: float | None = None
) -> Tensor:
    """Return softmax(scale * query key^T), [..., T, S]; arguments are those of `scaled_dot_product_attention`."""
    what = "attention_weights"
    q, k = as_tensor(what, query), as_tensor(what, key)
    scores = (q @ k.mT) * (1 / math.sqrt(q.shape[-1] or 1) if scale is None else scale)
    return softmax(scores if attn_mask is None else masked_scores(scores, attn_mask), -1)


def masked_scores(scores: Tensor, attn_mask: Operand) -> Tensor:
    """Return scores with -inf where a mask of bool is False, or with a mask of floats added."""
    mask = as_tensor("attention", attn_mask)
    return where(mask, scores, -math.inf) if mask.dtype.kind == "bool" else scores + mask


def causal_mask(rows: int, columns: int) -> Tensor:
    """Return the bool matrix that is true on and below the diagonal."""
    return creation.arange(rows).reshape((rows, 1)) >= creation.arange(columns)


def local_mask(rows: int, columns: int, window: int, *, causal: bool = False) -> Tensor:
    """Return the bool matrix that is true where row and column are at most `window` apart.

    With `causal` only columns up to the row's are seen (Beltagy et al. 2020, arXiv:2004.05150).
    """
    if window < 0:
        raise ConfigError(f"local_mask: window is {window}. It must be at least 0.")
    distance = creation.arange(rows).reshape((rows, 1)) - creation.arange(columns)
    near = absolute(distance) <= window
    return near & (distance >= 0) if causal else near


def alibi_slopes(num_heads: int) -> list[float]:
    """Return one slope per head: the geometric sequence 2^(-8/n), 2^(-16/n), ... (Press et al. 2022, arXiv:2108.12409).

    For a number of heads that is no power of two, the sequence of the next lower one is filled up with every other
    slope of the next higher one, as in the paper's code.
    """
    if num_heads < 1:
        raise ConfigError(f"alibi_slopes: num_heads is {num_heads}. It must be at least 1.")
    lower = 1 << (num_heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (k + 1) / lower) for k in range(lower)]
    between = [2.0 ** (-8 * (k + 1) / (2 * lower)) for k in range(0, 2 * lower, 2)]
    return slopes + between[: num_heads - lower]


def alibi_bias(num_heads: int, rows: int, columns: int) -> Tensor:
    """Return -slope * |distance| as [H, T, S], to be added to scores; the last row belongs to the last column."""
    slopes = creation.asarray(alibi_slopes(num_heads), dtype="float32").reshape((num_heads, 1, 1))
    distance = creation.arange(columns - rows, columns).reshape((rows, 1)) - creation.arange(columns)
    return absolute(distance).astype("float32") * -slopes


def shared_heads(what: str, query: Tensor, x: Tensor) -> Tensor:
    """Return keys or values with every head repeated for its group of the query's heads."""
    if query.ndim < 3 or x.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise ShapeError(
            f"{what}: with enable_gqa the heads of the query {query.node.type!r}, axis -3, must be a multiple of those "
            f"of key and value {x.node.type!r}."
        )
    each = query.shape[-3] // x.shape[-3]
    wide = broadcast_to(x.reshape((*x.shape[:-2], 1, *x.shape[-2:])), (*x.shape[:-2], each, *x.shape[-2:]))
    return wide.reshape((*x.shape[:-3], query.shape[-3], *x.shape[-2:]))
