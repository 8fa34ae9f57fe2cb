"""Checks of the settings of optimisers, so that all of them refuse in the same words."""

from __future__ import annotations

from collections.abc import Mapping

from treadle.core import ConfigError

# They choose among PyTorch's implementations of one update; a compiled step has one, the fused one.
IMPLEMENTATIONS = ("foreach", "fused", "capturable", "differentiable")


def at_least_zero(what: str, **settings: float) -> None:
    """Raise ConfigError for a setting that is negative or NaN."""
    for name, value in settings.items():
        if not value >= 0:
            raise ConfigError(f"{what}: {name} is {value}. It must be at least 0.")


def fractions(what: str, **settings: float) -> None:
    """Raise ConfigError for a setting outside [0, 1)."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{what}: {name} is {value}. Allowed: from 0 to below 1.")


def betas_within(what: str, betas: tuple[float, float]) -> tuple[float, float]:
    """Return the two averaging factors; raise ConfigError for one outside [0, 1)."""
    fractions(what, **{f"betas[{i}]": beta for i, beta in enumerate(betas)})
    first, second = betas
    return first, second


def check_implementation(what: str, given: Mapping[str, object]) -> None:
    """Accept PyTorch's arguments about the implementation, which change no result; refuse others."""
    for name, value in given.items():
        if name not in IMPLEMENTATIONS:
            raise ConfigError(f"{what}: there is no setting {name!r}. Beside its own: {', '.join(IMPLEMENTATIONS)}.")
        if name == "differentiable" and value:
            raise ConfigError(f"{what}: differentiable is True; no gradient goes through a step. Leave it out.")
