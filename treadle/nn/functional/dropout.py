"""Dropout: random zeros while training."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.tensor import Tensor, random
from treadle.tensor.elementwise import where
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import Generator


def dropout(
    input: Operand,
    p: float = 0.5,
    training: bool = True,  # PyTorch's signature
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Return the input with elements set to 0 with probability `p` and the others scaled by 1 / (1 - p)."""
    if not 0 <= p <= 1:
        raise ConfigError(f"dropout: p is {p}. It is a probability: 0 to 1.")
    x = as_tensor("dropout", input)
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    keep = random.uniform(x.shape, generator=generator) >= p
    return where(keep, x * (1 / (1 - p)), 0.0)
