"""Sequences of different lengths without padding: PyTorch's packed form, step by step, those that go on first.

Recurrent layers take it in place of a padded tensor with `lengths=`, which is what they make of it. Its sizes depend on
the lengths, so these must be known: inside a compiled function, use padded sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Array, Tensor
from treadle.tensor.creation import asarray
from treadle.tensor.elementwise import where
from treadle.tensor.indexing import take
from treadle.tensor.known import known
from treadle.tensor.manipulation import swapaxes
from treadle.tensor.promotion import Operand, as_tensor

REMEDY = "Keep the sequences padded there, and pass lengths= to the recurrent layer."


class PackedSequence(NamedTuple):
    """Sequences sorted by falling length, as their elements of step 0, then those of step 1, ...

    Attributes:
        data: [sum of lengths, ...].
        batch_sizes: [T], how many sequences have a step t.
        sorted_indices: [B], which sequence comes first, second, ...; None if they were sorted.
        unsorted_indices: [B], the place of each sequence among the sorted ones.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


def pack_padded_sequence(
    input: Operand, lengths: Operand | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Return the sequences of a tensor padded on the right, packed.

    Args:
        input: [T, B, ...], or [B, T, ...] with `batch_first`.
        lengths: [B], each at least 1.
        batch_first: whether B comes first.
        enforce_sorted: refuse lengths that do not fall; else sequences are sorted by length.
    """
    what = "pack_padded_sequence"
    x, counts = as_tensor(what, input), asarray(lengths)
    if x.ndim < 2 or counts.shape != (x.shape[0 if batch_first else 1],) or not counts.dtype.is_integer:
        raise ShapeError(
            f"{what}: lengths {counts.node.type!r} do not fit {x.node.type!r}. Give one whole number per sequence."
        )
    sizes = known(what, counts, REMEDY).astype(np.int64)
    steps = x.shape[1 if batch_first else 0]
    if not sizes.size or sizes.min() < 1 or sizes.max() > steps:
        raise ShapeError(f"{what}: lengths are {sizes.tolist()}. Allowed: 1 to {steps}, for at least one sequence.")
    if enforce_sorted and (np.diff(sizes) > 0).any():
        raise ConfigError(f"{what}: lengths {sizes.tolist()} do not fall. Sort them, or pass enforce_sorted=False.")
    order = np.argsort(-sizes, kind="stable")
    batch_sizes = np.count_nonzero(np.arange(int(sizes.max()))[:, None] < sizes, axis=1)
    indices = (None, None) if enforce_sorted else (asarray(order), asarray(np.argsort(order)))
    packed = PackedSequence(x, asarray(batch_sizes), *indices)
    return packed._replace(data=_packed(packed, x, batch_first))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return packed sequences padded on the right, [T, B, ...] in the order they had, and their lengths [B].

    Args:
        sequence: what to unpack.
        batch_first: return [B, T, ...].
        padding_value: what stands where a sequence has no element.
        total_length: T, if it is to be more than the greatest length.
    """
    places, there = _places(sequence)
    missing = 0 if total_length is None else total_length - len(places)
    if missing < 0:
        raise ConfigError(
            f"pad_packed_sequence: total_length is {total_length}, and the longest sequence has {len(places)} steps. "
            "Give at least as many."
        )
    places, there = (np.pad(a, ((0, missing), (0, 0))) for a in (places, there))
    tail = (1,) * (sequence.data.ndim - 1)
    padded = where(
        asarray(there.reshape(*there.shape, *tail)), take(sequence.data, asarray(places), axis=0), padding_value
    ).astype(sequence.data.dtype)
    return (swapaxes(padded, 0, 1) if batch_first else padded), asarray(there.sum(axis=0))


def packed_like(sequence: PackedSequence, padded: Tensor, batch_first: bool = False) -> PackedSequence:
    """Return other data [T, B, ...] packed as these sequences are."""
    return sequence._replace(data=_packed(sequence, padded, batch_first))


def _packed(sequence: PackedSequence, padded: Tensor, batch_first: bool) -> Tensor:
    places, there = _places(sequence)
    x = swapaxes(padded, 0, 1) if batch_first else padded
    count = x.shape[1]
    found = np.empty(int(there.sum()), np.int64)
    found[places[there]] = np.flatnonzero(there)  # which step and sequence stands at each place of the data
    return take(x.reshape((x.shape[0] * count, *x.shape[2:])), asarray(found), axis=0)


def _places(sequence: PackedSequence) -> tuple[Array, Array]:
    """Return where in the data each step of each sequence stands, [T, B], and whether there is such a step."""
    sizes = known("PackedSequence", sequence.batch_sizes, REMEDY).astype(np.int64)
    count = int(sizes[0])
    rank = np.arange(count)
    if sequence.unsorted_indices is not None:
        rank = known("PackedSequence", sequence.unsorted_indices, REMEDY).astype(np.int64)
    there = rank < sizes[:, None]
    return np.where(there, (np.cumsum(sizes) - sizes)[:, None] + rank, 0), there
