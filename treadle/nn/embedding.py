"""Tables of vectors looked up by number: one vector for each number, or one for each bag of numbers."""

from __future__ import annotations

from typing import Any, Self

from treadle.core import ConfigError, IndexRangeError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import empty
from treadle.tensor.promotion import Operand, as_tensor

from . import functional as F
from . import init
from .functional.embedding import MODES, refuse_sparse
from .module import Module
from .parameter import Parameter


class _Table(Module):
    """What the two layers share: the table, how it starts, and the settings of looking up."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        dtype: object,
    ) -> None:
        super().__init__()
        what = type(self).__name__
        if min(num_embeddings, embedding_dim) < 1:
            raise ConfigError(f"{what}: sizes {num_embeddings}, {embedding_dim}. Each must be at least 1.")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise IndexRangeError(
                f"{what}: padding_idx {padding_idx} is out of range for {num_embeddings} rows. Allowed: "
                f"{-num_embeddings} to {num_embeddings - 1}."
            )
        refuse_sparse(what, sparse)
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self.weight = Parameter(empty((num_embeddings, embedding_dim), dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the rows from N(0, 1); the padding row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.value = self.weight.at[self.padding_idx].set(0.0)

    @classmethod
    def from_pretrained(cls, embeddings: Operand, freeze: bool = True, *args: Any, **settings: Any) -> Self:
        """Return a layer with this table [V, D]; the other arguments are PyTorch's, those of the layer in its order.

        Args:
            embeddings: the table.
            freeze: whether it is to stay as it is: it collects no gradient.
            args: settings behind the sizes.
            settings: the same by name.
        """
        table = as_tensor("from_pretrained", embeddings)
        if table.ndim != 2:
            raise ShapeError(f"from_pretrained: {table.node.type!r} is not a table. It must be [V, D].")
        rows, width = table.shape
        layer = cls(rows, width, *args, **settings, dtype=table.dtype)
        layer.weight.value = table
        layer.weight.requires_grad = not freeze
        return layer

    def extra_repr(self) -> str:
        """Return the sizes, and the settings that are not the defaults."""
        defaults = {"padding_idx": None, "max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False}
        shown = [f"{k}={getattr(self, k)}" for k, default in defaults.items() if getattr(self, k) != default]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *shown])


class Embedding(_Table):
    """A table of `num_embeddings` vectors, looked up by number; see `functional.embedding` for the settings."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, dtype
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the vectors of the numbers in `input`, along a new last axis."""
        return F.embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the vectors of each bag of numbers; see `functional.embedding_bag`."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: object = "float32",
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"EmbeddingBag: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, dtype
        )
        self.mode = mode
        self.include_last_offset = include_last_offset

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """Return [B, D] for numbers [B, N], or [n] with offsets [B]."""
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        """Return the sizes and the settings, as PyTorch shows them."""
        return f"{super().extra_repr()}, mode={self.mode}"
