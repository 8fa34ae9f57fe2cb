"""Text to token numbers and back: one token per byte, or one per character that occurs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from treadle.core import ConfigError, DataError

Tokens = np.ndarray[Any, Any]
KINDS = ("bytes", "chars")


class Vocabulary(Protocol):
    """What turns text into token numbers and back."""

    @property
    def size(self) -> int:
        """Number of different tokens."""
        ...

    def encode(self, text: bytes | str) -> Tokens:
        """Return the tokens of a text."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        ...

    def spec(self) -> dict[str, Any]:
        """Return what `vocabulary_from` makes this vocabulary from again, for a JSON file."""
        ...


@dataclass(frozen=True)
class ByteVocabulary:
    """One token per byte: every text has tokens, and nothing needs to be learnt from the corpus."""

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return 256

    def encode(self, text: bytes | str) -> Tokens:
        """Return the bytes of a text as tokens, without a copy when it is bytes already."""
        return np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text; bytes that are no UTF-8, as a model may make them, show as U+FFFD."""
        return bytes(int(t) for t in tokens).decode("utf-8", errors="replace")

    def spec(self) -> dict[str, Any]:
        """Return the kind alone."""
        return {"kind": "bytes"}


@dataclass(frozen=True)
class CharVocabulary:
    """One token per character, in order of code points."""

    characters: str

    def __post_init__(self) -> None:
        if not self.characters or list(self.characters) != sorted(set(self.characters)):
            raise ConfigError(
                f"vocabulary: {self.characters[:20]!r} must be different characters in order. Make one with "
                "CharVocabulary.of(text)."
            )

    @classmethod
    def of(cls, text: bytes | str) -> CharVocabulary:
        """Return the vocabulary of the characters in a text."""
        decoded = text.decode() if isinstance(text, bytes) else text
        return cls("".join(sorted(set(decoded))))

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return len(self.characters)

    def encode(self, text: bytes | str) -> Tokens:
        """Return the tokens; DataError names the first character that has none."""
        decoded = text.decode() if isinstance(text, bytes) else text
        points = np.frombuffer(decoded.encode("utf-32-le"), np.uint32)
        known = np.frombuffer(self.characters.encode("utf-32-le"), np.uint32)
        found = np.minimum(np.searchsorted(known, points), len(known) - 1)
        unknown = known[found] != points
        if unknown.any():
            at = int(np.argmax(unknown))
            raise DataError(
                f"encode: character {decoded[at]!r} at position {at} is not in the vocabulary of {self.size} "
                "characters. "
                "Use characters of the training text, or train with a vocabulary of bytes."
            )
        return found.astype(np.min_scalar_type(self.size - 1))

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        return "".join(self.characters[int(t)] for t in tokens)

    def spec(self) -> dict[str, Any]:
        """Return the kind and the characters."""
        return {"kind": "chars", "characters": self.characters}


def vocabulary_from(spec: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary that said `spec`."""
    match spec:
        case {"kind": "bytes"}:
            return ByteVocabulary()
        case {"kind": "chars", "characters": str(characters)}:
            return CharVocabulary(characters)
        case _:
            raise ConfigError(f"vocabulary: {spec!r} is not one. Allowed kinds: {', '.join(KINDS)}.")
