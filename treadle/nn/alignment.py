"""The attention of recurrent sequence models: how a decoder's state picks among the encoder's states.

Shape suffixes: B batch, T rows (queries), S columns (keys), Q, K, A widths of queries, keys and their alignment.
"""

from __future__ import annotations

import math
from typing import Any

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, creation, random
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import one_hot
from treadle.tensor.manipulation import concat
from treadle.tensor.random import Generator
from treadle.tensor.reductions import argmax

from . import functional as F
from .functional.attention import masked_scores
from .layers import Linear
from .module import Module

Aligned = tuple[Tensor, Tensor]
LUONG_SCORES = ("dot", "general", "concat")


class _Alignment(Module):
    """Scores, a softmax over the columns that the mask shows, and the weighted sum of the values."""

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return [B, T, S]."""
        raise NotImplementedError

    def forward(self, query: Tensor, key: Tensor, value: Tensor | None = None, mask: Tensor | None = None) -> Aligned:
        """Return the context [B, T, V] and the weights [B, T, S].

        Args:
            query: [B, T, Q], or [B, Q] for one step; the results then lack T, too.
            key: [B, S, K].
            value: [B, S, V]; the keys when None.
            mask: broadcasts to [B, T, S], True where to look; or [B, S].
        """
        one = query.ndim == 2
        if query.ndim not in (2, 3) or key.ndim != 3 or query.shape[0] != key.shape[0]:
            raise ShapeError(
                f"{type(self).__name__}: query {query.node.type!r} and key {key.node.type!r} must be [B, T, Q] or "
                "[B, Q], and [B, S, K]."
            )
        query = query.reshape((query.shape[0], 1, query.shape[-1])) if one else query
        scores = self.scores(query, key)
        if mask is not None:
            scores = masked_scores(scores, mask.reshape((mask.shape[0], 1, mask.shape[1])) if mask.ndim == 2 else mask)
        weights = self.weights(scores)
        context = weights @ (key if value is None else value)
        return (context[:, 0], weights[:, 0]) if one else (context, weights)

    def weights(self, scores: Tensor) -> Tensor:
        """Return what each column counts, given the scores [B, T, S]."""
        return F.softmax(scores, -1)


class AdditiveAttention(_Alignment):
    """score = v^T tanh(W q + U k) (Bahdanau et al. 2015, arXiv:1409.0473, section A.1.2)."""

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.query = Linear(query_dim, hidden_dim, bias=False)
        self.key = Linear(key_dim, hidden_dim, bias=False)
        self.score = Linear(hidden_dim, 1, bias=False)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return v^T tanh(W q + U k)."""
        q_BTA, k_BSA = self.query(query), self.key(key)
        (B, T, A), S = q_BTA.shape, k_BSA.shape[1]
        both = q_BTA.reshape((B, T, 1, A)) + k_BSA.reshape((B, 1, S, A))
        return self.score(ew.tanh(both)).reshape((B, T, S))


class LuongAttention(_Alignment):
    """score = q^T k ("dot"), q^T W k ("general") or v^T tanh(W [q; k]) ("concat").

    Luong et al. 2015, arXiv:1508.04025, equation 8.
    """

    def __init__(self, query_dim: int, key_dim: int | None = None, score: str = "general") -> None:
        super().__init__()
        key_dim = query_dim if key_dim is None else key_dim
        if score not in LUONG_SCORES:
            raise ConfigError(f"LuongAttention: score is {score!r}. Allowed: {', '.join(LUONG_SCORES)}.")
        if score == "dot" and key_dim != query_dim:
            raise ConfigError(
                f"LuongAttention: score 'dot' needs queries and keys of one width, given {query_dim} and {key_dim}. "
                "Use 'general'."
            )
        self.kind = score
        self.general = Linear(key_dim, query_dim, bias=False) if score == "general" else None
        self.joined = Linear(query_dim + key_dim, query_dim, bias=False) if score == "concat" else None
        self.score = Linear(query_dim, 1, bias=False) if score == "concat" else None

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the scores of the chosen kind."""
        if self.joined is None or self.score is None:
            return query @ (key if self.general is None else self.general(key)).mT
        (B, T, Q), (_, S, K) = query.shape, key.shape
        wide_q = query.reshape((B, T, 1, Q)).broadcast_to((B, T, S, Q))
        wide_k = key.reshape((B, 1, S, K)).broadcast_to((B, T, S, K))
        return self.score(ew.tanh(self.joined(concat((wide_q, wide_k), axis=-1)))).reshape((B, T, S))


class LocalAttention(LuongAttention):
    """Luong's local attention: the model predicts a position p and looks at 2 `window` + 1 columns around it.

    p = S sigmoid(v^T tanh(W q)), and the weights are multiplied by exp(-(s - p)^2 / (2 (window/2)^2))
    (Luong et al. 2015, equations 9 and 10).
    """

    def __init__(self, query_dim: int, key_dim: int | None = None, *, window: int = 10, score: str = "general") -> None:
        super().__init__(query_dim, key_dim, score)
        if window < 1:
            raise ConfigError(f"LocalAttention: window is {window}. It must be at least 1.")
        self.window = window
        self.position = Linear(query_dim, query_dim, bias=False)
        self.place = Linear(query_dim, 1, bias=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor | None = None, mask: Tensor | None = None) -> Aligned:
        """Return context and weights; arguments are those of the other attentions."""
        one = query.ndim == 2
        rows = query.reshape((query.shape[0], 1, query.shape[-1])) if one else query
        columns = key.shape[1]
        p_BT1 = ew.sigmoid(self.place(ew.tanh(self.position(rows)))) * columns
        distance = creation.arange(columns).astype(p_BT1.dtype) - p_BT1
        near = ew.abs(distance) <= self.window
        near = near if mask is None else near & (mask.reshape((mask.shape[0], 1, -1)) if mask.ndim == 2 else mask)
        # A row that sees no column at all has weights 0 instead of NaN.
        seen = near.any(axis=-1, keepdims=True)
        scores = ew.where(near | ~seen, self.scores(rows, key), -math.inf)
        weights = F.softmax(scores, -1) * ew.exp(distance * distance * (-2 / self.window**2))
        weights = ew.where(seen, weights, 0.0)
        context = weights @ (key if value is None else value)
        return (context[:, 0], weights[:, 0]) if one else (context, weights)


class HardAttention(AdditiveAttention):
    """Looks at one column: drawn from the softmax of the scores in training, the likeliest one otherwise.

    The draw has no gradient; the weights are one-hot in the result and those of the softmax for gradients
    (straight-through; Xu et al. 2015, arXiv:1502.03044, train it with REINFORCE instead, from `log_prob`).
    """

    def __init__(self, query_dim: int, key_dim: int, hidden_dim: int, *, generator: Generator | None = None) -> None:
        super().__init__(query_dim, key_dim, hidden_dim)
        self.generator = generator

    def weights(self, scores: Tensor) -> Tensor:
        """Return one-hot weights whose gradient is that of the softmax."""
        soft = F.softmax(scores, -1)
        logits: Any = scores
        if self.training:
            even = random.uniform(scores.shape, generator=self.generator)
            logits = scores - ew.log(-ew.log(even + 1e-20))  # the largest of these is a draw from the softmax
        hard = one_hot(argmax(logits, axis=-1), scores.shape[-1], dtype=soft.dtype)
        return hard + (soft - soft.detach())
