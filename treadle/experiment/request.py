"""What a scan is asked for: columns, capped or not, and the pairs whose products are needed; the least of all metrics.

A capped (winsorised) column is one of its own, made before the scan with a limit that does not depend on the arm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from treadle.core import ConfigError

from .moment_table import Pair


@dataclass(frozen=True)
class Cap:
    """A column whose larger values count as the limit: a value `at`, or a `quantile` of all units of all arms."""

    column: str
    at: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        if (self.at is None) == (self.quantile is None):
            raise ConfigError(f"Cap: {self.column} has at={self.at} and quantile={self.quantile}; give one of the two.")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ConfigError(f"Cap: quantile is {self.quantile}; it is a share such as 0.99.")

    @property
    def name(self) -> str:
        """How the moment table calls it."""
        return f"{self.column} capped at " + (
            f"{self.at:g}" if self.quantile is None else f"quantile {self.quantile:g}"
        )


Source = str | Cap
"""A column of the data, or one with its large values capped."""


def name_of(source: Source) -> str:
    """Return how the moment table calls a source."""
    return source if isinstance(source, str) else source.name


@dataclass(frozen=True)
class Request:
    """Sources to sum, and pairs of their names whose products to sum, each in one order.

    Of the columns `lowest` the lowest value is wanted.
    """

    sources: tuple[Source, ...]
    pairs: tuple[Pair, ...]
    lowest: tuple[str, ...] = ()

    @classmethod
    def of(cls, blocks: Iterable[Iterable[Source]], lowest: Iterable[str] = ()) -> Request:
        """Return the request for blocks of sources, within each of which every pair is needed."""
        sources: dict[str, Source] = {}
        pairs: dict[Pair, None] = {}
        for block in blocks:
            listed = {name_of(source): source for source in block}
            for name, source in listed.items():
                if isinstance(source, Cap) and name in sources and sources[name] != source:
                    raise ConfigError(f"Request: two sources are called {name!r}.")
                sources.setdefault(name, source)
            for a in listed:
                for b in listed:
                    if (b, a) not in pairs:
                        pairs[a, b] = None
        return cls(tuple(sources.values()), tuple(pairs), tuple(dict.fromkeys(lowest)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(name_of(source) for source in self.sources)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the data that they need, each once."""
        return tuple(dict.fromkeys(s if isinstance(s, str) else s.column for s in self.sources))
