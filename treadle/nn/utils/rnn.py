"""Sequences of different lengths in one tensor, padded or packed. Recurrent layers take either; see `nn/packed.py`."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import ConfigError, ShapeError
from treadle.nn.packed import PackedSequence, pack_padded_sequence, pad_packed_sequence
from treadle.tensor import Tensor
from treadle.tensor.creation import asarray, full
from treadle.tensor.known import known
from treadle.tensor.manipulation import concat, stack, swapaxes
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.sorting import argsort

SIDES = ("right", "left")


def pad_sequence(
    sequences: Sequence[Operand], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Return sequences [L, ...] of different lengths L as one tensor [T, B, ...], T being the greatest length.

    Args:
        sequences: tensors that differ in their first axis only.
        batch_first: return [B, T, ...].
        padding_value: what stands where a sequence has no element.
        padding_side: "right" or "left" of the elements.
    """
    what = "pad_sequence"
    if padding_side not in SIDES:
        raise ConfigError(f"{what}: padding_side is {padding_side!r}. Allowed: {', '.join(SIDES)}.")
    given = [as_tensor(what, s) for s in sequences]
    if not given or any(s.ndim < 1 or s.shape[1:] != given[0].shape[1:] for s in given):
        raise ShapeError(
            f"{what}: got {', '.join(repr(s.node.type) for s in given) or 'no sequences'}. Give at least one, all with "
            "the same sizes behind the first axis."
        )
    longest = max(s.shape[0] for s in given)
    rows: list[Tensor] = []
    for s in given:
        padding = full((longest - s.shape[0], *s.shape[1:]), padding_value).astype(s.dtype)
        rows.append(concat([s, padding] if padding_side == "right" else [padding, s]))
    return stack(rows, axis=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Operand, lengths: Operand | Sequence[int], batch_first: bool = False
) -> list[Tensor]:
    """Return the sequences of a padded tensor [T, B, ...], or [B, T, ...]; their lengths must be known.

    Args:
        padded_sequences: padded on the right.
        lengths: [B].
        batch_first: whether B comes first.
    """
    what = "unpad_sequence"
    padded, counts = as_tensor(what, padded_sequences), asarray(lengths)
    rows = padded if batch_first or padded.ndim < 2 else swapaxes(padded, 0, 1)
    if padded.ndim < 2 or counts.shape != (rows.shape[0],):
        raise ShapeError(
            f"{what}: lengths {counts.node.type!r} do not fit {padded.node.type!r}. Give one for each sequence."
        )
    sizes = known(what, counts, "Keep the sequences padded there, and use their lengths as a mask.")
    if sizes.size and (int(sizes.min()) < 0 or int(sizes.max()) > rows.shape[1]):
        raise ShapeError(f"{what}: lengths are {sizes.tolist()}. Allowed: 0 to {rows.shape[1]}.")
    return [rows[i, :size] for i, size in enumerate(sizes.tolist())]


def pack_sequence(sequences: Sequence[Operand], enforce_sorted: bool = True) -> PackedSequence:
    """Return sequences [L, ...] of different lengths packed; see `pack_padded_sequence`."""
    lengths = [as_tensor("pack_sequence", s).shape[0] for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return packed sequences one by one, in the order they had."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def invert_permutation(permutation: Operand | None) -> Tensor | None:
    """Return the permutation that undoes another; None for None."""
    return None if permutation is None else argsort(permutation)


__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]
