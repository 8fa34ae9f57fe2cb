"""GPT: a decoder-only transformer, readable from top to bottom.

After Radford et al. 2019, "Language models are unsupervised multitask learners", and nanoGPT's `model.py`.
Shape suffixes: B batch, T time, V vocabulary, C width, H heads, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.elementwise import clip
from treadle.tensor.manipulation import unstack
from treadle.tensor.promotion import Operand

from . import functional as F
from . import init
from .activation import GELU
from .containers import ModuleList
from .dropout import Dropout
from .embedding import Embedding
from .kv_cache import KVCache, attend_so_far, positions_from
from .layers import LayerNorm, Linear
from .module import Module


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT."""

    vocab_size: int
    context: int = 256
    layers: int = 6
    heads: int = 6
    width: int = 384
    dropout: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"GPT: {name} is {getattr(self, name)}. It must be at least 1.")
        if self.width % self.heads:
            near = ", ".join(str(h) for h in range(1, self.width + 1) if self.width % h == 0 and h <= 2 * self.heads)
            raise ConfigError(
                f"GPT: width {self.width} is not a multiple of heads {self.heads}. Allowed heads: {near}."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"GPT: dropout is {self.dropout}. Allowed: from 0 to below 1.")


class CausalSelfAttention(Module):
    """Every position looks at itself and those before it, in several heads (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"CausalSelfAttention: width {width} is not a multiple of heads {heads}.")
        self.heads = heads
        self.dropout = dropout
        self.qkv = Linear(width, 3 * width, bias)
        self.proj = Linear(width, width, bias)
        self.drop = Dropout(dropout)

    def forward(self, x_BTC: Tensor, cache: KVCache | None = None, at: Operand | None = None) -> Tensor:
        """Return what every position gathered; with `at` also from those before, which the cache holds."""
        B, T, C = x_BTC.shape
        qkv_BT3HD = self.qkv(x_BTC).reshape((B, T, 3, self.heads, C // self.heads))
        q_BHTD, k_BHTD, v_BHTD = unstack(qkv_BT3HD.permute(2, 0, 3, 1, 4), axis=0)
        if cache is not None and at is not None:
            k_BHSD, v_BHSD = cache.update(k_BHTD, v_BHTD, at)
            y_BHTD = attend_so_far(q_BHTD, k_BHSD, v_BHSD, cache.seen(at, T))
        else:
            dropout = self.dropout if self.dropout and self.training else 0.0
            y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout, is_causal=True)
            if cache is not None:
                cache.fill(k_BHTD, v_BHTD)
        return self.drop(self.proj(y_BHTD.permute(0, 2, 1, 3).reshape(B, T, C)))


class MLP(Module):
    """Two linear layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int, *, dropout: float = 0.0, bias: bool = False) -> None:
        super().__init__()
        self.fc = Linear(width, 4 * width, bias)
        self.gelu = GELU()
        self.proj = Linear(4 * width, width, bias)
        self.drop = Dropout(dropout)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return what every position makes of itself."""
        return self.drop(self.proj(self.gelu(self.fc(x_BTC))))


class Block(Module):
    """Attention, then an MLP, each added to what it was given after a layer norm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln1 = LayerNorm(config.width, bias=config.bias)
        self.attn = CausalSelfAttention(config.width, config.heads, dropout=config.dropout, bias=config.bias)
        self.ln2 = LayerNorm(config.width, bias=config.bias)
        self.mlp = MLP(config.width, dropout=config.dropout, bias=config.bias)

    def forward(self, x_BTC: Tensor, cache: KVCache | None = None, at: Operand | None = None) -> Tensor:
        """Return the input with both parts added; `cache` and `at` are the attention's."""
        x_BTC = x_BTC + self.attn(self.ln1(x_BTC), cache, at)
        return x_BTC + self.mlp(self.ln2(x_BTC))


class GPT(Module):
    """A language model: tokens [B, T] in, logits of the next token [B, T, V] out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = Embedding(config.vocab_size, config.width)
        self.wpe = Embedding(config.context, config.width)
        self.drop = Dropout(config.dropout)
        self.blocks = ModuleList(Block(config) for _ in range(config.layers))
        self.lnf = LayerNorm(config.width, bias=config.bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from N(0, 0.02); smaller where 2 x layers products add up in the residual stream."""
        residual_std = 0.02 / math.sqrt(2 * self.config.layers)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                init.zeros_(parameter)
            elif parameter.ndim >= 2:
                init.normal_(parameter, std=residual_std if name.endswith("proj.weight") else 0.02)

    def new_cache(self, batch: int = 1) -> tuple[KVCache, ...]:
        """Return an empty cache for each block, of the context's length."""
        sizes, dtype = self.config, self.wte.weight.dtype
        shape = (batch, sizes.heads, sizes.context, sizes.width // sizes.heads)
        return tuple(KVCache(*shape, dtype=dtype) for _ in range(sizes.layers))

    def forward(self, tokens_BT: Tensor, cache: Sequence[KVCache] | None = None, at: Operand | None = None) -> Tensor:
        """Return the logits of the token after each, [B, T, V].

        Args:
            tokens_BT: int[B, T].
            cache: of `new_cache(B)`. Without `at` the tokens are a beginning, which the cache holds afterwards.
            at: [] or [B], a tensor: the position of the first token of each row; those before are in the cache.
        """
        return self.head(self.features(tokens_BT, cache, at))

    def features(self, tokens_BT: Tensor, cache: Sequence[KVCache] | None = None, at: Operand | None = None) -> Tensor:
        """Return what `head` makes logits of, [B, T, C]; arguments are those of `forward`."""
        T, longest = tokens_BT.shape[-1], self.config.context
        if longest < T:
            raise ShapeError(f"GPT: {T} tokens are longer than the context of {longest}. Give the last of them.")
        # Rows that stand past the end, which happens to those nobody asks about, take the last place.
        places = None if at is None else clip(positions_from(at, T), 0, longest - 1)
        x_BTC = self.wte(tokens_BT) + (self.wpe.weight[:T] if places is None else self.wpe(places))
        x_BTC = self.drop(x_BTC)
        for block, held in zip(self.blocks, cache or (None,) * len(self.blocks), strict=True):
            x_BTC = block(x_BTC, held, at)
        return self.lnf(x_BTC)

    def head(self, x: Tensor) -> Tensor:
        """Return the logits [..., V] of features [..., C]."""
        # The head shares the token table (Press & Wolf 2017, arXiv:1608.05859).
        return F.linear(x, self.wte.weight)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets, in nats per token."""
        logits_BTV = self(tokens_BT)
        V = logits_BTV.shape[-1]
        return F.cross_entropy(logits_BTV.reshape((-1, V)), targets_BT.reshape((-1,)))
