"""What becomes of one loss per target: their mean, their sum, or themselves."""

from __future__ import annotations

from treadle.core import ConfigError
from treadle.tensor import Tensor

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(what: str, reduction: str) -> None:
    """Raise ConfigError unless the name of a reduction is known."""
    if reduction not in REDUCTIONS:
        raise ConfigError(f"{what}: reduction is {reduction!r}. Allowed: {', '.join(REDUCTIONS)}.")


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the losses, their mean or their sum."""
    match reduction:
        case "mean":
            return losses.mean()
        case "sum":
            return losses.sum()
        case _:
            return losses
