"""`Split`: which variant takes each of 10,000 slots, and new weights that move as few users as possible."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from treadle.core.errors import ConfigError

SLOTS = 10_000  # a weight is a whole number of these: 0.01 percentage points


@dataclass(frozen=True)
class Split:
    """The variants of an experiment and the slots [start, stop) each of them takes.

    Together they cover [0, SLOTS) once.

    A unit's slot comes from a hash of its own, apart from the bucket that decides whether it takes part: its variant
    therefore never changes while traffic grows, and two experiments that use the same buckets one after the other
    split them independently.
    """

    variants: tuple[str, ...]
    segments: tuple[tuple[int, int, int], ...]  # start, stop, index of the variant

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> "Split":
        """The split with these weights, one run of slots a variant.

        Raises:
            ConfigError: fewer than two variants, a weight that is no number in (0, 1], or weights that do not sum to
                one.
        """
        counts = _counts(weights)
        stops = np.cumsum(counts).tolist()
        return cls(
            tuple(weights),
            tuple((stop - count, stop, i) for i, (count, stop) in enumerate(zip(counts, stops, strict=True))),
        )

    def __post_init__(self) -> None:
        at = 0
        for start, stop, variant in self.segments:
            if start != at or stop <= start or not 0 <= variant < len(self.variants):
                raise ConfigError(
                    f"split: segment ({start}, {stop}, {variant}) does not follow on slot {at}; segments "
                    f"cover 0..{SLOTS} once and in "
                    f"order, with variants 0..{len(self.variants) - 1}."
                )
            at = stop
        if at != SLOTS:
            raise ConfigError(f"split: the segments end at slot {at}; they must end at {SLOTS}.")

    @property
    def weights(self) -> dict[str, float]:
        """The share of each variant, as realised in whole slots: what a sample-ratio check compares with."""
        counts = np.bincount(self.table, minlength=len(self.variants))
        return {name: int(count) / SLOTS for name, count in zip(self.variants, counts, strict=True)}

    @property
    def table(self) -> NDArray[np.int8]:
        """The variant of every slot: int8[SLOTS]."""
        starts, stops, variants = (np.array(column) for column in zip(*self.segments, strict=True))
        return np.repeat(variants.astype(np.int8), stops - starts)

    def reweight(self, weights: Mapping[str, float]) -> "Split":
        """The split with new weights that moves the fewest slots: those a variant must give up, and no others.

        Variants are matched by name; new ones may be added and old ones left out. The share of users that change
        variant is half the sum of the absolute changes of weight, the least possible.
        """
        wanted = dict(zip(weights, _counts(weights), strict=True))
        names = list(weights)
        kept: list[int] = []  # the variant of each slot, or -1 where it is given up; each variant keeps its first slots
        left = dict(wanted)
        owners: list[int] = self.table.tolist()
        for name in [self.variants[i] for i in owners]:
            stays = left.get(name, 0) > 0
            kept.append(names.index(name) if stays else -1)
            if stays:
                left[name] -= 1
        takers = [i for i, name in enumerate(names) for _ in range(left[name])]
        table = np.array(kept, np.int64)
        table[table < 0] = takers
        return Split(tuple(names), _segments(table))

    def moved(self, other: "Split") -> float:
        """The share of units whose variant differs between the two splits."""
        mine, theirs = np.array(self.variants)[self.table], np.array(other.variants)[other.table]
        differ: NDArray[np.bool_] = np.not_equal(mine, theirs)
        return float(differ.mean())


def _segments(table: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    cuts: list[int] = [0, *(np.flatnonzero(np.diff(table)) + 1).tolist(), len(table)]
    return tuple((start, stop, int(table[start])) for start, stop in pairwise(cuts))


def _counts(weights: Mapping[str, float]) -> list[int]:
    """The slots of each variant: weights times SLOTS, rounded so that they sum to SLOTS (largest remainders first)."""
    check_weights(weights)
    exact = [weight * SLOTS for weight in weights.values()]
    counts = [math.floor(share + 1e-6) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[: SLOTS - sum(counts)]:
        counts[i] += 1
    empty = [name for name, count in zip(weights, counts, strict=True) if count == 0]
    if empty:
        raise ConfigError(
            f"split: the weights of {empty} are below 1/{SLOTS}, the smallest share of traffic; give each at least "
            f"{1 / SLOTS}."
        )
    return counts


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ConfigError unless there are two or more variants whose weights are in (0, 1] and sum to one."""
    if len(weights) < 2:
        raise ConfigError(
            f"split: {len(weights)} variant{'s' * (len(weights) != 1)} given "
            f"({', '.join(weights) or 'none'}); an experiment compares at "
            "least two."
        )
    wrong = {name: weight for name, weight in weights.items() if not 0 < weight <= 1}
    if wrong:
        raise ConfigError(f"split: the weights {wrong} are not in (0, 1]; leave out a variant that gets no traffic.")
    total = math.fsum(weights.values())
    if abs(total - 1) > 1e-6:
        given = " + ".join(f"{weight:g}" for weight in weights.values())
        raise ConfigError(
            f"split: the weights sum to {total:g} ({given}); they must sum to 1; divide each by {total:g}."
        )
