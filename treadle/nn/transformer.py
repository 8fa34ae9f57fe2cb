"""Transformer encoder and decoder (Vaswani et al. 2017, arXiv:1706.03762), with PyTorch's arguments and names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple, cast

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand

from . import functional as F
from . import init
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .kv_cache import KVCache
from .layers import LayerNorm, Linear
from .module import Module

Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "gelu": F.gelu}


class _Layer(Module):
    """What encoder and decoder layers share: two linear layers, and where the norms stand."""

    norm_first: bool
    activation: Activation
    linear1: Linear
    linear2: Linear
    dropout: Dropout

    def _set_feed_forward(self, d_model: int, width: int, dropout: float, bias: bool, dtype: object) -> None:
        """Make the linear layers; optimisers number parameters in order, and PyTorch's stand behind the attention."""
        self.linear1 = Linear(d_model, width, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(width, d_model, bias, dtype=dtype)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _added(self, x: Tensor, norm: Module, drop: Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        """Return x plus what a block makes of it, normalised before the block or after the sum."""
        return x + drop(block(norm(x))) if self.norm_first else norm(x + drop(block(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward net, each with dropout, a residual and a layer norm.

    Operands are [T, B, C], or [B, T, C] with `batch_first`, or [T, C]. Masks of bool are True where NOT to look.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        self.norm_first, self.activation = norm_first, _activation(activation)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._set_feed_forward(d_model, dim_feedforward, dropout, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return the encoded sequence."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)[0]

        x = self._added(src, self.norm1, self.dropout1, attend)
        return self._added(x, self.norm2, self.dropout2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's result and a feed-forward net, as in `TransformerEncoderLayer`."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        self.norm_first, self.activation = norm_first, _activation(activation)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype)
        self._set_feed_forward(d_model, dim_feedforward, dropout, bias, dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the decoded sequence, given the encoder's result `memory`."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)[0]

        def across(x: Tensor) -> Tensor:
            return self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )[0]

        return self._through(tgt, attend, across)

    def decode(
        self, tgt: Tensor, cache: DecoderCache, at: Operand | None = None, memory_key_padding_mask: Tensor | None = None
    ) -> Tensor:
        """Return the rows of `forward` with a causal mask for `tgt`, part of a sequence: see `TransformerDecoder`."""

        def attend(x: Tensor) -> Tensor:
            return self.self_attn(x, x, x, None, False, is_causal=True, cache=cache.so_far, at=at)[0]

        def across(x: Tensor) -> Tensor:
            return self.multihead_attn.attend(x, cache.memory, memory_key_padding_mask)

        return self._through(tgt, attend, across)

    def _through(self, tgt: Tensor, attend: Callable[[Tensor], Tensor], across: Callable[[Tensor], Tensor]) -> Tensor:
        x = self._added(tgt, self.norm1, self.dropout1, attend)
        x = self._added(x, self.norm2, self.dropout2, across)
        return self._added(x, self.norm3, self.dropout3, self._feed_forward)


class DecoderCache(NamedTuple):
    """What one decoder layer keeps between calls of `decode`."""

    so_far: KVCache  # keys and values of the positions decoded
    memory: KVCache  # those of the encoder's result


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, and a last norm if given.

    `enable_nested_tensor` and `mask_check` are PyTorch's, for its way to skip padding, and ask for nothing here.
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.norm = norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Return the encoded sequence; arguments are those of the layer."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """`num_layers` copies of a layer, one after the other, and a last norm if given."""

    def __init__(self, decoder_layer: TransformerDecoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the decoded sequence; arguments are those of the layer."""
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask,
                memory_mask,
                tgt_key_padding_mask,
                memory_key_padding_mask,
                bool(tgt_is_causal),
                memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)

    def new_cache(self, memory: Tensor, capacity: int) -> tuple[DecoderCache, ...]:
        """Return a cache for each layer, for sequences of up to `capacity` positions; it remembers `memory`."""
        attentions = [layer.multihead_attn for layer in self._decoder_layers()]
        batch, columns = 1, memory.shape[0]
        if memory.ndim == 3:
            batch, columns = memory.shape[:2] if attentions[0].batch_first else memory.shape[1::-1]
        caches: list[DecoderCache] = []
        for mha in attentions:
            heads, dim, dtype = mha.num_heads, mha.embed_dim // mha.num_heads, mha.out_proj.weight.dtype
            so_far, there = (KVCache(batch, heads, size, dim, dtype=dtype) for size in (capacity, columns))
            caches.append(DecoderCache(so_far, there))
        self.remember(memory, caches)
        return tuple(caches)

    def remember(self, memory: Tensor, cache: Sequence[DecoderCache]) -> None:
        """Put the keys and values of an encoder's result into a cache, for one batch of sequences after another."""
        for layer, held in zip(self._decoder_layers(), cache, strict=True):
            layer.multihead_attn.remember(memory, memory, held.memory)

    def decode(
        self,
        tgt: Tensor,
        cache: Sequence[DecoderCache],
        at: Operand | None = None,
        memory_key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the rows of `forward` that belong to `tgt`, with `tgt_is_causal`, computing nothing twice.

        Args:
            tgt: rows of the sequence, in the layout of `forward`: its beginning, then usually one row per call.
            cache: of `new_cache`.
            at: [] or [B], a tensor: the position of the first row of `tgt`; those before were given in earlier calls.
                None for the beginning, which replaces what the cache holds.
            memory_key_padding_mask: [B, S], that of `forward`.
        """
        for layer, held in zip(self._decoder_layers(), cache, strict=True):
            tgt = layer.decode(tgt, held, at, memory_key_padding_mask)
        return tgt if self.norm is None else self.norm(tgt)

    def _decoder_layers(self) -> list[TransformerDecoderLayer]:
        return cast(list[TransformerDecoderLayer], list(self.layers))


class Transformer(Module):
    """An encoder and a decoder; embeddings, positions and the output layer are the caller's."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        norms = [LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype) for _ in range(2)]
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*sizes, dtype=dtype), num_encoder_layers, norms[0]
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*sizes, dtype=dtype), num_decoder_layers, norms[1]
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw every matrix by Xavier's rule."""
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return what the decoder makes of `tgt`, given what the encoder makes of `src`."""
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ShapeError(
                f"Transformer: src {src.node.type!r} and tgt {tgt.node.type!r} must have {self.d_model} features, "
                "d_model, along the last axis."
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, bool(src_is_causal))
        return self.decoder(
            tgt,
            memory,
            tgt_mask,
            memory_mask,
            tgt_key_padding_mask,
            memory_key_padding_mask,
            bool(tgt_is_causal),
            memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(size: int, *, dtype: object = "float32") -> Tensor:
        """Return [size, size] with 0 where row t may look, columns 0..t, and -inf elsewhere."""
        return where(F.causal_mask(size, size), 0.0, float("-inf")).astype(dtype)


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList(deepcopy(layer) for _ in range(count))


def _activation(given: str | Activation) -> Activation:
    if not isinstance(given, str):
        return given
    if given not in ACTIVATIONS:
        raise ConfigError(f"Transformer: activation is {given!r}. Allowed: {', '.join(ACTIVATIONS)}, or a function.")
    return ACTIVATIONS[given]
