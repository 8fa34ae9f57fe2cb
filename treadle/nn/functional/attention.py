"""Scaled dot-product attention."""

from __future__ import annotations

import math

from treadle.core import ConfigError, ShapeError
from treadle.ir import Op, results
from treadle.tensor import Tensor, creation, made, node_of
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor, meet
from treadle.tensor.random import Generator

from .activation import softmax
from .dropout import dropout


def scaled_dot_product_attention(
    query: Operand,
    key: Operand,
    value: Operand,
    attn_mask: Operand | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # PyTorch's signature
    scale: float | None = None,
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
        generator: of dropout.
    """
    what = "scaled_dot_product_attention"
    nodes, (q, k, v), _ = meet(what, *[as_tensor(what, x) for x in (query, key, value)])
    if min(t.ndim for t in (q, k, v)) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{what}: query {q.node.type!r}, key {k.node.type!r} and value {v.node.type!r} do not fit. They must be "
            "[..., T, D], [..., S, D] and [..., S, E]."
        )
    if is_causal and attn_mask is not None:
        raise ConfigError(f"{what}: both is_causal and attn_mask are given. Put the causal part into the mask.")
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    plain = attn_mask is None and dropout_p == 0 and k.shape == v.shape and q.shape[:-2] == k.shape[:-2]
    if plain and 2 <= q.ndim <= 4:
        four = [made(node, t).reshape((1,) * (4 - t.ndim) + t.shape) for node, t in zip(nodes, (q, k, v), strict=True)]
        op = Op.registry["attention"](bool(is_causal), float(factor))
        out_BTHD = made(results(op(*[node_of(t) for t in four]))[0], *four)
        return out_BTHD.permute(0, 2, 1, 3).reshape((*q.shape[:-1], v.shape[-1]))
    scores = (q @ k.mT) * factor
    if is_causal:
        attn_mask = causal_mask(q.shape[-2], k.shape[-2])
    if attn_mask is not None:
        mask = as_tensor(what, attn_mask)
        scores = where(mask, scores, -math.inf) if mask.dtype.kind == "bool" else scores + mask
    weights = dropout(softmax(scores, -1), dropout_p, generator=generator)
    return weights @ v


def causal_mask(rows: int, columns: int) -> Tensor:
    """Return the bool matrix that is true on and below the diagonal."""
    return creation.arange(rows).reshape((rows, 1)) >= creation.arange(columns)
