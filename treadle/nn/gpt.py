"""GPT: a decoder-only transformer, readable from top to bottom.

After Radford et al. 2019, "Language models are unsupervised multitask learners", and nanoGPT's `model.py`.
Shape suffixes: B batch, T time, V vocabulary, C width, H heads, D width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.manipulation import unstack

from . import functional as F
from . import init
from .activation import GELU
from .containers import ModuleList
from .dropout import Dropout
from .embedding import Embedding
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

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return what every position gathered."""
        B, T, C = x_BTC.shape
        qkv_BT3HD = self.qkv(x_BTC).reshape((B, T, 3, self.heads, C // self.heads))
        q_BHTD, k_BHTD, v_BHTD = unstack(qkv_BT3HD.permute(2, 0, 3, 1, 4), axis=0)
        dropout = self.dropout if self.dropout and self.training else 0.0
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout, is_causal=True)
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

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Return the input with both parts added."""
        x_BTC = x_BTC + self.attn(self.ln1(x_BTC))
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

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return the logits of the token after each."""
        T, longest = tokens_BT.shape[-1], self.config.context
        if longest < T:
            raise ShapeError(f"GPT: {T} tokens are longer than the context of {longest}. Give the last of them.")
        x_BTC = self.drop(self.wte(tokens_BT) + self.wpe.weight[:T])
        for block in self.blocks:
            x_BTC = block(x_BTC)
        # The head shares the token table (Press & Wolf 2017, arXiv:1608.05859).
        return F.linear(self.lnf(x_BTC), self.wte.weight)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets, in nats per token."""
        logits_BTV = self(tokens_BT)
        V = logits_BTV.shape[-1]
        return F.cross_entropy(logits_BTV.reshape((-1, V)), targets_BT.reshape((-1,)))
