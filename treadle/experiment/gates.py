"""`Gate`s: the shuffles a unit passes on its way to an experiment, from the outermost domain inwards."""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from treadle.experiment.conditions import Condition
from treadle.experiment.layers import BUCKETS, Allocation, Domain, Layer, Nested, Range


class Reason(IntEnum):
    """Why a unit has its variant or has none."""

    ASSIGNED = 0  # has a variant
    FORCED = 1  # has a variant by decree: not for analysis
    HOLDOUT = 2  # in the hold-out of a domain (the global one)
    LAYER_HOLDOUT = 3  # in the hold-out of a layer
    ELSEWHERE = 4  # its bucket belongs to another experiment, to another domain, or to nobody
    NOT_YET = 5  # its bucket is the experiment's, but above the present traffic
    CONDITION = 6  # fails a condition, the allow list or the caller's `eligible`
    MISSING = 7  # has no id (SQL only; the other paths raise)


@dataclass(frozen=True)
class Gate:
    """One shuffle on the way.

    `bucket = H(salt, unit) mod buckets`; `segments` (start, stop, reason) cover the buckets, ASSIGNED meaning "pass".
    """

    salt: int
    buckets: int
    segments: tuple[tuple[int, int, Reason], ...]

    @property
    def table(self) -> NDArray[np.uint8]:
        """The reason of every bucket: uint8[buckets]."""
        return np.repeat(np.array([s[2] for s in self.segments], np.uint8), [s[1] - s[0] for s in self.segments])

    @property
    def open(self) -> bool:
        """Whether every unit passes."""
        return all(reason is Reason.ASSIGNED for *_, reason in self.segments)


@dataclass(frozen=True)
class Rival:
    """An experiment that stands before this one in a layer with fall-through.

    It takes the units of its buckets that fulfil its conditions.
    """

    gate: int  # the index of the layer's gate
    ranges: tuple[Range, ...]
    conditions: tuple[Condition, ...]


def gates_on(
    path: tuple[tuple[Domain, Layer, Allocation | Nested], ...],
) -> tuple[tuple[Gate, ...], tuple[Rival, ...]]:
    """The gates on a way down (`Domain.path`), and the experiments that may take a unit before its end is reached."""
    gates: list[Gate] = []
    rivals: list[Rival] = []
    for domain, layer, entry in path:
        if domain.holdout:
            usable = BUCKETS - round(domain.holdout * BUCKETS)
            segments = ((0, usable, Reason.ASSIGNED), (usable, BUCKETS, Reason.HOLDOUT))
            gates.append(Gate(domain.holdout_salt, BUCKETS, segments))
        rivals += [Rival(len(gates), other.active, other.conditions) for other in _before(layer, entry)]
        gates.append(Gate(layer.salt, layer.buckets, _layer_segments(layer, entry)))
    return tuple(gates), tuple(rivals)


def _before(layer: Layer, entry: Allocation | Nested) -> list[Allocation]:
    earlier = layer.entries[: layer.entries.index(entry)]
    return [other for other in earlier if isinstance(other, Allocation) and _overlap(other.active, entry.active)]


def _overlap(left: tuple[Range, ...], right: tuple[Range, ...]) -> bool:
    return any(a < d and c < b for a, b in left for c, d in right)


def _layer_segments(layer: Layer, entry: Allocation | Nested) -> tuple[tuple[int, int, Reason], ...]:
    reasons = np.full(layer.buckets, Reason.ELSEWHERE, np.uint8)
    reasons[layer.usable :] = Reason.LAYER_HOLDOUT
    for ranges, reason in ((entry.ranges, Reason.NOT_YET), (entry.active, Reason.ASSIGNED)):
        for start, stop in ranges:
            reasons[start:stop] = reason
    cuts = [0, *(np.flatnonzero(np.diff(reasons)) + 1).tolist(), layer.buckets]
    return tuple((start, stop, Reason(int(reasons[start]))) for start, stop in pairwise(cuts))
