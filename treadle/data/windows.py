"""Batches of text windows for a language model. Batch `step` depends on the seed and the step alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core import ConfigError, DataError

from .random import positions

Batch = tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]


@dataclass(frozen=True, eq=False)
class Windows:
    """Random windows of `context` tokens, and the same windows one token later as what to predict."""

    tokens: np.ndarray[Any, Any]
    context: int
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("context", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"windows: {name} is {getattr(self, name)}. It must be at least 1.")
        if len(self.tokens) <= self.context:
            raise DataError(
                f"windows: the text has {len(self.tokens)} tokens; a context of {self.context} needs at least "
                f"{self.context + 1}. "
                "Use a longer text or a shorter context."
            )

    def batch(self, step: int) -> Batch:
        """Return inputs and targets of a step, both [batch_size, context] of int64."""
        starts = positions(self.seed, step, self.batch_size, len(self.tokens) - self.context)
        rows = self.tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
