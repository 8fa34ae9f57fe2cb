"""Attention in several heads: PyTorch's `MultiheadAttention`, and the form language models use today.

Shape suffixes: B batch, T rows (queries), S columns (keys), C width, H heads, D width of a head.
"""

from __future__ import annotations

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, creation
from treadle.tensor.creation import empty, zeros
from treadle.tensor.elementwise import clip, logical_not, where
from treadle.tensor.indexing import take
from treadle.tensor.manipulation import concat

from . import functional as F
from . import init
from .layers import Linear
from .module import Module
from .parameter import Buffer, Parameter


class MultiheadAttention(Module):
    """Attention in `num_heads` heads (Vaswani et al. 2017, arXiv:1706.03762), with PyTorch's arguments and names.

    Masks of bool are True where NOT to look, unlike those of `scaled_dot_product_attention`; masks of floats are added
    to the scores. Operands are [T, B, C], or [B, T, C] with `batch_first`, or [T, C].
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
        """
        batched = query.ndim == 3
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ShapeError(
                f"MultiheadAttention: query {query.node.type!r}, key {key.node.type!r} and value {value.node.type!r} "
                "must all be [T, B, C], [B, T, C] with batch_first, or [T, C]."
            )
        if not batched:
            query, key, value = (x.reshape((1, *x.shape)) for x in (query, key, value))
        elif not self.batch_first:
            same = key is value
            query, key = query.permute(1, 0, 2), key.permute(1, 0, 2)
            value = key if same else value.permute(1, 0, 2)
        q_BTC, k_BSC, v_BSC = self._projected(query, key, value)
        batch = q_BTC.shape[0]
        k_BSC, v_BSC, extra = self._extended(k_BSC, v_BSC)
        q, k, v = (_split_heads(x, self.num_heads) for x in (q_BTC, k_BSC, v_BSC))
        mask = self._mask(attn_mask, key_padding_mask, batch, q.shape[2], k.shape[2], extra, is_causal)
        drop = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = F.dropout(F.attention_weights(q, k, mask), drop)
            out_BHTD = weights @ v
        else:
            only_causal = is_causal and attn_mask is None and key_padding_mask is None and not extra
            out_BHTD = F.scaled_dot_product_attention(
                q, k, v, None if only_causal else mask, drop, is_causal=only_causal
            )
        out = self.out_proj(_join_heads(out_BHTD))
        if weights is not None and average_attn_weights:
            weights = weights.mean(axis=1)
        if not batched:
            return out[0], None if weights is None else weights[0]
        return (out if self.batch_first else out.permute(1, 0, 2)), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        C = self.embed_dim
        bias = None if self.in_proj_bias is None else self.in_proj_bias.read()
        if self.in_proj_weight is not None and query is key and key is value:
            all_BT3C = F.linear(query, self.in_proj_weight, bias)
            return all_BT3C[..., :C], all_BT3C[..., C : 2 * C], all_BT3C[..., 2 * C :]
        if self.in_proj_weight is not None:
            whole = self.in_proj_weight.read()
            weights = [whole[i * C : (i + 1) * C] for i in range(3)]
        else:
            weights = [self.q_proj_weight.read(), self.k_proj_weight.read(), self.v_proj_weight.read()]
        biases = [None if bias is None else bias[i * C : (i + 1) * C] for i in range(3)]
        q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))
        return q, k, v

    def _extended(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return keys and values with a learned pair and a zero pair behind, and how many were added."""
        extra = 0
        batch = key.shape[0]
        if self.bias_k is not None and self.bias_v is not None:
            shape = (batch, 1, self.embed_dim)
            key = concat((key, self.bias_k.read().broadcast_to(shape)), axis=1)
            value = concat((value, self.bias_v.read().broadcast_to(shape)), axis=1)
            extra += 1
        if self.add_zero_attn:
            none = zeros((batch, 1, self.embed_dim), dtype=key.dtype)
            key, value = concat((key, none), axis=1), concat((value, none), axis=1)
            extra += 1
        return key, value, extra

    def _mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        batch: int,
        rows: int,
        columns: int,
        extra: int,
        is_causal: bool,
    ) -> Tensor | None:
        """Return all masks as one that is added to the scores [B, H, T, S], or of bool: True where to look."""
        parts: list[Tensor] = []
        given = columns - extra
        if attn_mask is not None:
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape((batch, self.num_heads, rows, given))
            parts.append(_seen(attn_mask))
        elif is_causal:
            parts.append(F.causal_mask(rows, given))
        if key_padding_mask is not None:
            parts.append(_seen(key_padding_mask).reshape((batch, 1, 1, given)))
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
            seen = creation.full((*total.shape[:-1], extra), total.dtype.kind == "bool", dtype=total.dtype)
            total = concat((total, seen), axis=-1)
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

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Return what every position of x [B, T, C] gathered; with a cache also from the positions before x.

        `attn_mask` broadcasts to [B, H, T, S], True where to look.
        """
        rows = x.shape[1]
        q, k, v = _split_heads(self.q_proj(x), self.heads), self._keys(self.k_proj(x)), self._keys(self.v_proj(x))
        first = None if cache is None else cache.length.read()
        at = creation.arange(rows) if first is None else creation.arange(rows) + first
        if self.positions == "rotary":
            q, k = F.rotary_embedding(q, at), F.rotary_embedding(k, at)
        if cache is not None:
            k, v = cache.append(k, v)
        plain = cache is None and attn_mask is None and self.positions != "alibi"
        mask = None if plain else self._mask(at, k.shape[2], attn_mask, cached=cache is not None)
        drop = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=plain and self.causal, enable_gqa=True)
        return self.o_proj(_join_heads(out))

    def _keys(self, x_BTC: Tensor) -> Tensor:
        return _split_heads(x_BTC, self.kv_heads)

    def _mask(self, at: Tensor, columns: int, attn_mask: Tensor | None, *, cached: bool) -> Tensor | None:
        distance = at.reshape((at.shape[0], 1)) - creation.arange(columns)
        mask: Tensor | None = distance >= 0 if self.causal or cached else None
        if attn_mask is not None:
            mask = attn_mask if mask is None else mask & attn_mask
        if self.positions != "alibi":
            return mask
        slopes = creation.asarray(F.alibi_slopes(self.heads), dtype="float32").reshape((self.heads, 1, 1))
        bias = where(distance >= 0, distance, -distance).astype("float32") * -slopes
        return bias if mask is None else where(mask, bias, float("-inf"))


class KVCache(Module):
    """Keys and values of the positions so far, [B, H, capacity, D]; buffers, so a compiled step updates them in place.

    Appending past the capacity drops what does not fit; `reset` empties it.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_dim: int, *, dtype: object = "float32") -> None:
        super().__init__()
        self.keys = Buffer(zeros((batch, heads, capacity, head_dim), dtype=dtype))
        self.values = Buffer(zeros((batch, heads, capacity, head_dim), dtype=dtype))
        self.length = Buffer(creation.asarray(0))

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values [B, H, T, D] at the end; return all, those not yet written are 0."""
        rows, capacity = k.shape[2], self.keys.shape[2]
        first = self.length.read()
        place = creation.arange(capacity) - first
        new = ((place >= 0) & (place < rows)).reshape((capacity, 1))
        for cell, more in ((self.keys, k), (self.values, v)):
            spread = more if rows == 1 else take(more, clip(place, 0, rows - 1), axis=2)
            cell.value = where(new, spread, cell.read())
        self.length.value = clip(first + rows, 0, capacity)
        return self.keys.read(), self.values.read()

    def reset(self) -> None:
        """Forget all positions."""
        self.length.value = creation.asarray(0)


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
