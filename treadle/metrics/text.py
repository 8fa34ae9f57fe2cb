"""How near texts come to their references: BLEU, and edits per word and per character."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from treadle.core import ConfigError, DataError

from .metric import Metric, State, ratio

Tokens = Sequence[Any]
SMOOTHINGS = ("none", "exp", "floor", "add-k")


class BLEU(Metric):
    """Geometric mean of n-gram precisions times a brevity penalty (Papineni et al. 2002), of a whole corpus, 0 to 1.

    exp(min(0, 1 - r / c)) exp(mean of log(p_n) for n = 1..max_n), with c the length of all candidates and r that of the
    references nearest in length (the shorter of two). Texts are split at white space; give tokens to split otherwise.

    Args:
        max_n: the longest n-grams.
        smoothing: for an order without a match, as in sacreBLEU: "none", which makes the score 0; "exp", 1 / (2^k
            total) for the k-th such order; "floor", value / total; "add-k", value added to matches and total of n > 1.
        value: of "floor" (0.1 when None) and "add-k" (1 when None).
    """

    def __init__(self, max_n: int = 4, *, smoothing: str = "none", value: float | None = None) -> None:
        if max_n < 1:
            raise ConfigError(f"BLEU: max_n is {max_n}. It must be at least 1.")
        if smoothing not in SMOOTHINGS:
            raise ConfigError(f"BLEU: smoothing is {smoothing!r}. Allowed: {', '.join(SMOOTHINGS)}.")
        self.max_n, self.smoothing, self.value = max_n, smoothing, value
        super().__init__()

    def start(self) -> State:
        """Return no texts."""
        counts = {name: np.zeros(self.max_n, np.int64) for name in ("matches", "totals")}
        return {**counts, "lengths": np.zeros(2, np.int64)}

    def update(self, input: Sequence[str | Tokens], target: Sequence[Any]) -> Self:
        """Add candidates, and for each a reference or a list of references.

        All are texts, or all are lists of tokens, which are strings or numbers.
        """
        if len(input) != len(target):
            raise DataError(f"BLEU: there are {len(input)} candidates and {len(target)} references. Give one for each.")
        for candidate, given in zip(input, target, strict=True):
            words = _words(candidate)
            references = [_words(r) for r in _listed(given, candidate)]
            if not references:
                raise DataError("BLEU: a candidate has no references. Give at least one.")
            nearest = min((abs(len(r) - len(words)), len(r)) for r in references)[1]
            self.state["lengths"] += (len(words), nearest)
            for n in range(1, self.max_n + 1):
                found = _ngrams(words, n)
                best: Counter[tuple[Any, ...]] = Counter()
                for reference in references:
                    best |= _ngrams(reference, n)
                self.state["matches"][n - 1] += (found & best).total()
                self.state["totals"][n - 1] += found.total()
        return self

    def compute(self) -> float:
        """Return the score; 0 without any match."""
        length, reference = (int(v) for v in self.state["lengths"])
        if not length or not self.state["matches"].any():
            return 0.0
        orders = zip(self.state["matches"].tolist(), self.state["totals"].tolist(), strict=True)
        logs = 0.0
        misses = 0
        for n, (matches, total) in enumerate(orders, 1):
            added = (1.0 if self.value is None else self.value) if self.smoothing == "add-k" and n > 1 else 0.0
            right, out_of = matches + added, total + added
            if not out_of:
                return 0.0
            if not right:
                misses += 1
                floor = 0.1 if self.value is None else self.value
                right = {"exp": 1 / 2**misses, "floor": floor}.get(self.smoothing, 0.0)
            if not right:
                return 0.0
            logs += math.log(right / out_of)
        return math.exp(min(0.0, 1 - reference / length) + logs / self.max_n)


class _Edits(Metric):
    """Edits of all texts together, and the lengths of the references."""

    def start(self) -> State:
        """Return no texts."""
        return {name: np.zeros((), np.int64) for name in ("edits", "length", "texts")}

    def tokens(self, text: str | Tokens) -> Tokens:
        """Return what is counted: an edit changes one of these."""
        raise NotImplementedError(f"{type(self).__name__}.tokens is not defined.")

    def update(self, input: str | Sequence[str | Tokens], target: str | Sequence[str | Tokens]) -> Self:
        """Add texts and their references, or one of each; texts may be given as lists of tokens."""
        texts, references = ([t] if isinstance(t, str) else t for t in (input, target))
        if len(texts) != len(references):
            raise DataError(
                f"{type(self).__name__}: there are {len(texts)} texts and {len(references)} references. Give as many."
            )
        for text, reference in zip(texts, references, strict=True):
            a, b = self.tokens(text), self.tokens(reference)
            self.add(edits=edit_distance(a, b), length=len(b), texts=1)
        return self

    def compute(self) -> float:
        """Return edits per token of the references; above 1 for texts that are much too long."""
        return float(ratio(self.state["edits"], self.state["length"]))


class WER(_Edits):
    """Word error rate: words inserted, deleted and replaced, per word of the references."""

    def tokens(self, text: str | Tokens) -> Tokens:
        """Return the words."""
        return _words(text)


class CER(_Edits):
    """Character error rate: characters inserted, deleted and replaced, per character of the references."""

    def tokens(self, text: str | Tokens) -> Tokens:
        """Return the characters."""
        return text


class EditDistance(_Edits):
    """The mean number of edits per text; of characters, or of tokens where lists are given."""

    def tokens(self, text: str | Tokens) -> Tokens:
        """Return the characters, or the tokens."""
        return text

    def compute(self) -> float:
        """Return edits per text."""
        return float(ratio(self.state["edits"], self.state["texts"]))


def edit_distance(a: Tokens, b: Tokens) -> int:
    """Return the least number of insertions, deletions and replacements that turn a into b (Levenshtein 1966)."""
    numbers: dict[Any, int] = {}
    x, y = (np.array([numbers.setdefault(t, len(numbers)) for t in tokens], np.int64) for tokens in (a, b))
    place = np.arange(len(y) + 1)
    row = place
    for i, token in enumerate(x, 1):
        # Without insertions first; they go along the row, where each costs one more: a running minimum.
        best = np.concatenate([[i], np.minimum(row[1:] + 1, row[:-1] + (y != token))])
        row = np.minimum.accumulate(best - place) + place
    return int(row[-1])


def _words(text: str | Tokens) -> Tokens:
    return text.split() if isinstance(text, str) else text


def _listed(given: Any, candidate: str | Tokens) -> Sequence[Any]:
    """Return references as a list. Strings are texts beside a text, and tokens of one reference beside tokens."""
    if isinstance(given, str):
        return [given]
    if isinstance(candidate, str):
        return given
    return [given] if all(isinstance(item, str | int) for item in given) else given


def _ngrams(words: Tokens, n: int) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
