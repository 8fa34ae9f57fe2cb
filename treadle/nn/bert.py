"""BERT: a transformer encoder over text, readable from top to bottom, with Hugging Face's parameter names.

After Devlin et al. 2019, "BERT: Pre-training of deep bidirectional transformers" (arXiv:1810.04805); MiniLM and many
sentence encoders have the same form. Every norm stands after its sum.
Shape suffixes: B batch, T time, C width, H heads, D width of a head.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from treadle.core import CheckpointError, ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import zeros

from . import functional as F
from . import init
from .containers import ModuleDict, ModuleList
from .dropout import Dropout
from .embedding import Embedding
from .files import load
from .layers import LayerNorm, Linear
from .module import Module

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of a BERT, under the names of Hugging Face's config.json; the defaults are those of bert-base."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"BertConfig: hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}. Choose heads that divide it."
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ConfigError(f"BertConfig: hidden_act is {self.hidden_act!r}. Allowed: {', '.join(ACTIVATIONS)}.")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Return the settings in a config.json; what says nothing about sizes is left out."""
        try:
            found: dict[str, Any] = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"BertConfig: {path} cannot be read: {error}. Give a model's config.json.") from None
        positions = found.get("position_embedding_type", "absolute")
        if found.get("model_type", "bert") != "bert" or positions != "absolute":
            raise CheckpointError(
                f"BertConfig: {path} is of a model of type {found.get('model_type')!r} with {positions} positions. "
                "Only 'bert' with absolute positions is supported."
            )
        return cls(**{f.name: found[f.name] for f in fields(cls) if f.name in found})


class BertEmbeddings(Module):
    """The vectors of token, position and segment added up and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids_BT: Tensor, token_type_ids_BT: Tensor) -> Tensor:
        """Return the vectors of tokens, [B, T, C]."""
        T, longest = input_ids_BT.shape[1], self.position_embeddings.num_embeddings
        if longest < T:
            raise ShapeError(f"BERT: {T} tokens are more than its {longest} positions. Cut the text.")
        words, segments = self.word_embeddings(input_ids_BT), self.token_type_embeddings(token_type_ids_BT)
        return self.dropout(self.LayerNorm(words + segments + self.position_embeddings.weight[:T]))


class BertSelfAttention(Module):
    """Every position looks at all that are no padding, in several heads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x_BTC: Tensor, seen_B11T: Tensor | None) -> Tensor:
        """Return what every position gathered."""
        B, T, C = x_BTC.shape
        q_BHTD, k_BHTD, v_BHTD = (
            project(x_BTC).reshape((B, T, self.heads, C // self.heads)).permute(0, 2, 1, 3)
            for project in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, seen_B11T, dropout)
        return y_BHTD.permute(0, 2, 1, 3).reshape((B, T, C))


class BertOutput(Module):
    """A linear layer, added to what its block was given, then normalised."""

    def __init__(self, in_features: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = Linear(in_features, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, y: Tensor, x_BTC: Tensor) -> Tensor:
        """Return the sum of the layer's result and x, normalised."""
        return self.LayerNorm(self.dropout(self.dense(y)) + x_BTC)


class BertLayer(Module):
    """Self-attention, then a feed-forward net. Modules lie as the names of their parameters say."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.attention = ModuleDict(
            {"self": BertSelfAttention(config), "output": BertOutput(config.hidden_size, config)}
        )
        self.intermediate = ModuleDict({"dense": Linear(config.hidden_size, config.intermediate_size)})
        self.output = BertOutput(config.intermediate_size, config)

    def forward(self, x_BTC: Tensor, seen_B11T: Tensor | None) -> Tensor:
        """Return what every position makes of what it gathered."""
        x_BTC = self.attention["output"](self.attention["self"](x_BTC, seen_B11T), x_BTC)
        return self.output(self.activation(self.intermediate["dense"](x_BTC)), x_BTC)


class BertModel(Module):
    """Token numbers [B, T] in, one vector for each token, [B, T, C], out."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = ModuleDict({"layer": ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))})
        self.pooler = ModuleDict({"dense": Linear(config.hidden_size, config.hidden_size)})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices from N(0, initializer_range); biases are 0."""
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                init.normal_(parameter, std=self.config.initializer_range)
            elif name.endswith(".bias"):
                init.zeros_(parameter)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """Return the model in a folder as Hugging Face keeps it: config.json and model.safetensors; for inference."""
        model = cls(BertConfig.read(Path(folder) / "config.json"))
        weights = load(Path(folder) / "model.safetensors")
        # A table of the numbers 0, 1, 2, ... that files of older versions hold.
        weights.pop("embeddings.position_ids", None)
        model.load_state_dict(weights)
        return model.eval()

    def forward(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor | None = None, token_type_ids_BT: Tensor | None = None
    ) -> Tensor:
        """Return the vectors of the last layer, [B, T, C].

        Args:
            input_ids_BT: token numbers, shorter texts filled up with any number.
            attention_mask_BT: 1 or True for tokens, 0 or False for padding; all are tokens when None.
            token_type_ids_BT: the segment of each token; all 0 when None.
        """
        if input_ids_BT.ndim != 2:
            raise ShapeError(f"BERT: token numbers {input_ids_BT.node.type!r} are not [B, T].")
        B, T = input_ids_BT.shape
        segments_BT = zeros((B, T), dtype="int64") if token_type_ids_BT is None else token_type_ids_BT
        seen_B11T = None if attention_mask_BT is None else (attention_mask_BT != 0).reshape((B, 1, 1, T))
        x_BTC = self.embeddings(input_ids_BT, segments_BT)
        for layer in self.encoder["layer"].children():
            x_BTC = layer(x_BTC, seen_B11T)
        return x_BTC

    def pooled(self, x_BTC: Tensor) -> Tensor:
        """Return a vector [B, C] of each text, made of that of its first token, as in next-sentence prediction."""
        return F.tanh(self.pooler["dense"](x_BTC[:, 0]))
