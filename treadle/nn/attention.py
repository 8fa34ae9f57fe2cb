"""Attention in several heads: PyTorch's `MultiheadAttention`, and the form language models use today.

Shape suffixes: B batch, T rows (queries), S columns (keys), C width, H heads, D width of a head.
"""

from __future__ import annotations

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, creation
from treadle.tensor.creation import empty, zeros
from treadle.tensor.elementwise import logical_not, where
from treadle.tensor.manipulation import concat
from treadle.tensor.promotion import Operand

from . import functional as F
from . import init
from .functional.attention import masked_weights, shared_heads
from .kv_cache import KVCache, attend_so_far, positions_from
from .layers import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """Attention in `num_heads` heads (Vaswani et al. 2017, arXiv:1706.03762), with PyTorch's arguments and names.

    Masks of bool are True where NOT to look, unlike those of `scaled_dot_product_attention`; masks of floats are added
    to the scores. Operands are [T, B, C], or [B, T, C] with `batch_first`, or [T, C].

    For decoding: `forward` with a cache is self-attention that keeps its keys and values, `attend` looks at those that
    `remember` put into a cache once, such as those of an encoder's result.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        _check_heads("MultiheadAttention", embed_dim, num_heads)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.in_proj_weight: Parameter | None = None
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = Parameter(empty((3 * embed_dim, embed_dim), dtype=dtype))
        else:
            self.q_proj_weight = Parameter(empty((embed_dim, embed_dim), dtype=dtype))
            self.k_proj_weight = Parameter(empty((embed_dim, self.kdim), dtype=dtype))
            self.v_proj_weight = Parameter(empty((embed_dim, self.vdim), dtype=dtype))
        self.in_proj_bias = Parameter(empty((3 * embed_dim,), dtype=dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, dtype=dtype)
        self.bias_k = Parameter(empty((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.bias_v = Parameter(empty((1, 1, embed_dim), dtype=dtype)) if add_bias_kv else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections by Xavier's rule; biases are 0."""
        for weight in self._input_weights():
            init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def _input_weights(self) -> list[Parameter]:
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        cache: KVCache | None = None,
        at: Operand | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what every query gathered, and the weights if wanted.

        Args:
            query: [T, B, C].
            key: [S, B, kdim].
            value: [S, B, vdim].
            key_padding_mask: [B, S], True (or -inf) for keys that are padding.
            need_weights: return the weights too, which takes the memory of the T x S matrix; pass False for speed.
            attn_mask: [T, S] or [B * H, T, S].
            average_attn_weights: weights as [B, T, S], the mean of the heads, instead of [B, H, T, S].
            is_causal: row t sees columns 0..t only, also without a mask.
            cache: keeps keys and values, in `num_heads` heads. Without `at` they are those of the positions 0..S-1.
            at: [] or [B], a tensor: the position of the first query and key. Rows see what the cache holds up to
                themselves, and S of the masks is its capacity.
        """
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ShapeError(
                f"MultiheadAttention: query {query.node.type!r}, key {key.node.type!r} and value {value.node.type!r} "
                "must all be [T, B, C], [B, T, C] with batch_first, or [T, C]."
            )
        q, k, v = self._projected(query, key, value)
        seen: Tensor | None = None
        if cache is not None and at is None:
            cache.fill(k, v)
        elif cache is not None and at is not None:
            k, v = cache.update(k, v, at)
            seen = cache.seen(at, q.shape[2])
            is_causal = False
        out, weights = self._gathered(q, k, v, key_padding_mask, attn_mask, seen, is_causal, need_weights)
        if weights is not None and average_attn_weights:
            weights = weights.mean(axis=1)
        if weights is not None and query.ndim == 2:
            weights = weights[0]
        return self._as_given(out, query), weights

    def remember(self, key: Tensor, value: Tensor, cache: KVCache) -> None:
        """Put the keys and values of what `attend` is to look at into a cache; operands are those of `forward`."""
        cache.fill(self._projection(1, key), self._projection(2, value))

    def attend(
        self,
        query: Tensor,
        cache: KVCache,
        key_padding_mask: Tensor | None = None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Return what every query gathered from all that the cache holds; S of the masks is its capacity."""
        q, k, v = self._projection(0, query), cache.keys.read(), cache.values.read()
        return self._as_given(self._gathered(q, k, v, key_padding_mask, attn_mask)[0], query)

    def _batch_first(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x.reshape((1, *x.shape))
        return x if self.batch_first else x.permute(1, 0, 2)

    def _as_given(self, out_BTC: Tensor, query: Tensor) -> Tensor:
        """Undo `_batch_first`."""
        if query.ndim == 2:
            return out_BTC[0]
        return out_BTC if self.batch_first else out_BTC.permute(1, 0, 2)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, [B, H, T, D]."""
        if self.in_proj_weight is not None and query is key and key is value:
            bias = None if self.in_proj_bias is None else self.in_proj_bias.read()
            all_BT3C, C = F.linear(self._batch_first(query), self.in_proj_weight, bias), self.embed_dim
            q, k, v = (_split_heads(all_BT3C[..., i * C : (i + 1) * C], self.num_heads) for i in range(3))
            return q, k, v
        return self._projection(0, query), self._projection(1, key), self._projection(2, value)

    def _projection(self, part: int, x: Tensor) -> Tensor:
        """Return x as queries (part 0), keys (1) or values (2), [B, H, T, D]."""
        own = slice(part * self.embed_dim, (part + 1) * self.embed_dim)
        if self.in_proj_weight is not None:
            weight = self.in_proj_weight.read()[own]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part].read()
        bias = None if self.in_proj_bias is None else self.in_proj_bias.read()[own]
        return _split_heads(F.linear(self._batch_first(x), weight, bias), self.num_heads)

    def _gathered(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
        seen: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what queries [B, H, T, D] gather, [B, T, C], and the weights [B, H, T, S] if wanted."""
        k, v, extra = self._extended(k, v)
        only_causal = is_causal and not (need_weights or attn_mask is not None or key_padding_mask is not None or extra)
        mask = None
        if not only_causal:
            mask = self._mask(attn_mask, key_padding_mask, seen, q.shape[2], k.shape[2], extra, is_causal)
        drop = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = F.dropout(F.attention_weights(q, k, mask), drop)
            out_BHTD = weights @ v
        else:
            out_BHTD = F.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=only_causal)
        return self.out_proj(_join_heads(out_BHTD)), weights

    def _extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return keys and values with a learned pair and a zero pair behind, and how many were added."""
        extra = 0
        B, H, _, D = k.shape
        if self.bias_k is not None and self.bias_v is not None:
            learned = (_split_heads(x.read(), H).broadcast_to((B, H, 1, D)) for x in (self.bias_k, self.bias_v))
            k, v = (concat(pair, axis=2) for pair in zip((k, v), learned, strict=True))
            extra += 1
        if self.add_zero_attn:
            none = zeros((B, H, 1, D), dtype=k.dtype)
            k, v = concat((k, none), axis=2), concat((v, none), axis=2)
            extra += 1
        return k, v, extra

    def _mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        seen: Tensor | None,
        rows: int,
        columns: int,
        extra: int,
        is_causal: bool,
    ) -> Tensor | None:
        """Return all masks as one that is added to the scores [B, H, T, S], or of bool: True where to look."""
        parts: list[Tensor] = [] if seen is None else [seen]
        given = columns - extra
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape((-1, self.num_heads, rows, given))
            parts.append(_seen(attn_mask))
        elif is_causal:
            parts.append(F.causal_mask(rows, given))
        if key_padding_mask is not None:
            parts.append(_seen(key_padding_mask).reshape((-1, 1, 1, given)))
        if not parts:
            return None
        if any(p.dtype.kind != "bool" for p in parts):
            total = _added(parts[0])
            for p in parts[1:]:
                total = total + _added(p)
        else:
            total = parts[0]
            for p in parts[1:]:
                total = total & p
        if extra:
            always = creation.full((*total.shape[:-1], extra), total.dtype.kind == "bool", dtype=total.dtype)
            total = concat((total, always), axis=-1)
        return total

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


class GroupedQueryAttention(Module):
    """Self-attention as in today's language models: shared key heads, rotary or ALiBi positions, a cache for decoding.

    With kv_heads = heads it is multi-head attention, with 1 multi-query attention (Shazeer 2019, arXiv:1911.02150).

    Args:
        width: C of the operand [B, T, C].
        heads: of the queries.
        kv_heads: of keys and values, a divisor of `heads`; as many when None.
        causal: row t sees columns 0..t only.
        positions: "rotary", "alibi" or None.
        dropout: probability of dropping a weight in training.
        bias: of the projections.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        causal: bool = True,
        positions: str | None = "rotary",
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        _check_heads("GroupedQueryAttention", width, heads)
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            raise ConfigError(f"GroupedQueryAttention: kv_heads is {kv_heads}. It must divide heads, {heads}.")
        if positions not in ("rotary", "alibi", None):
            raise ConfigError(f"GroupedQueryAttention: positions is {positions!r}. Allowed: 'rotary', 'alibi', None.")
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, width // heads
        self.causal, self.positions, self.dropout = causal, positions, dropout
        self.q_proj = Linear(width, width, bias)
        self.k_proj = Linear(width, kv_heads * self.head_dim, bias)
        self.v_proj = Linear(width, kv_heads * self.head_dim, bias)
        self.o_proj = Linear(width, width, bias)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        cache: KVCache | None = None,
        at: Operand | None = None,
        need_weights: bool = False,
        average_attn_weights: bool = True,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what every position of x [B, T, C] gathered; with `at` also from those before, which the cache holds.

        Args:
            x: [B, T, C].
            attn_mask: broadcasts to [B, H, T, S], True where to look; with `at`, S is the cache's capacity.
            cache: of `kv_heads` heads. Without `at` it holds the positions of x afterwards.
            at: [] or [B], a tensor: the position of the first row of x.
            need_weights: return a pair, the weights behind; they take the memory of the T x S matrix.
            average_attn_weights: weights as [B, T, S], the mean of the heads, instead of [B, H, T, S].
        """
        rows = x.shape[1]
        q, k, v = _split_heads(self.q_proj(x), self.heads), self._keys(self.k_proj(x)), self._keys(self.v_proj(x))
        places = positions_from(0 if at is None else at, rows)  # [1 or B, T]
        if self.positions == "rotary":
            turned = places.reshape((-1, 1, rows))
            q, k = F.rotary_embedding(q, turned), F.rotary_embedding(k, turned)
        decoding = cache is not None and at is not None
        if cache is not None and at is not None:
            k, v = cache.update(k, v, at)
        elif cache is not None:
            cache.fill(k, v)
        causal, drop = decoding or self.causal, self.dropout if self.training and not decoding else 0.0
        plain = attn_mask is None and self.positions != "alibi" and not decoding
        mask = None if plain else self._mask(places, k.shape[2], attn_mask, causal=causal)
        if need_weights:
            out, weights = _with_weights(q, k, v, F.causal_mask(rows, rows) if plain and causal else mask, drop)
            return self.o_proj(_join_heads(out)), weights.mean(axis=1) if average_attn_weights else weights
        if decoding and attn_mask is None:  # every row sees itself at least
            out = attend_so_far(q, k, v, mask)
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=plain and causal, enable_gqa=True)
        return self.o_proj(_join_heads(out))

    def _keys(self, x_BTC: Tensor) -> Tensor:
        return _split_heads(x_BTC, self.kv_heads)

    def _mask(self, places: Tensor, columns: int, attn_mask: Tensor | None, *, causal: bool) -> Tensor | None:
        """Return what rows at the places [1 or B, T] see, or what is added to their scores."""
        distance = places.reshape((-1, 1, places.shape[1], 1)) - creation.arange(columns)
        mask: Tensor | None = distance >= 0 if causal else None
        if attn_mask is not None:
            mask = attn_mask if mask is None else mask & attn_mask
        if self.positions != "alibi":
            return mask
        slopes = creation.asarray(F.alibi_slopes(self.heads), dtype="float32").reshape((self.heads, 1, 1))
        bias = where(distance >= 0, distance, -distance).astype("float32") * -slopes
        return bias if mask is None else where(mask, bias, float("-inf"))


def _with_weights(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask: Tensor | None, drop: float
) -> tuple[Tensor, Tensor]:
    """Return what queries gather, [B, H, T, D], and the weights [B, H, T, S], of keys that heads share."""
    k, v = (shared_heads("GroupedQueryAttention", q_BHTD, x) for x in (k_BGSD, v_BGSD))
    if mask is None:
        weights = F.attention_weights(q_BHTD, k)
    else:
        weights = masked_weights(q_BHTD, k, mask, q_BHTD.shape[-1] ** -0.5)
    weights = F.dropout(weights, drop)
    return weights @ v, weights


def _check_heads(what: str, width: int, heads: int) -> None:
    if width < 1 or heads < 1 or width % heads:
        raise ConfigError(f"{what}: width {width} is not a multiple of heads {heads}. Choose heads that divide it.")


def _split_heads(x_BTC: Tensor, heads: int) -> Tensor:
    B, T, C = x_BTC.shape
    return x_BTC.reshape((B, T, heads, C // heads)).permute(0, 2, 1, 3)


def _join_heads(x_BHTD: Tensor) -> Tensor:
    B, H, T, D = x_BHTD.shape
    return x_BHTD.permute(0, 2, 1, 3).reshape((B, T, H * D))


def _seen(mask: Tensor) -> Tensor:
    """Return a mask whose True means: do not look, as one whose True means: look."""
    return logical_not(mask) if mask.dtype.kind == "bool" else mask


def _added(mask: Tensor) -> Tensor:
    return where(mask, 0.0, float("-inf")) if mask.dtype.kind == "bool" else mask
