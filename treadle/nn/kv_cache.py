"""What attention keeps for decoding: keys and values of the positions so far, so that a new token is one row of work.

Shape suffixes: B batch, T rows (queries), S columns (keys), H heads, D width of a head.
"""

from __future__ import annotations

from treadle.core import ShapeError
from treadle.tensor import Tensor, creation
from treadle.tensor.creation import zeros
from treadle.tensor.elementwise import clip, where
from treadle.tensor.indexing import take, take_along_axis
from treadle.tensor.manipulation import broadcast_to, concat
from treadle.tensor.promotion import Operand, as_tensor

from . import functional as F
from .module import Module
from .parameter import Buffer


class KVCache(Module):
    """Keys and values of one attention layer, [B, H, capacity, D]; buffers, so a compiled step updates them in place.

    The cache does not count. Whoever decodes says where the rows of a call stand, as `at`: the position of the first,
    a tensor, so that one program serves all positions. Rows look at the columns up to their own; what the cache holds
    behind is never looked at. So a row that was decoded too far, or padding behind a prompt, is undone by giving an
    earlier position. Rows behind the capacity are dropped.

    Args:
        batch: B.
        heads: H, those of the keys.
        capacity: how many positions fit.
        head_dim: D.
        dtype: of keys and values.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_dim: int, *, dtype: object = "float32") -> None:
        super().__init__()
        self.keys = Buffer(zeros((batch, heads, capacity, head_dim), dtype=dtype), persistent=False)
        self.values = Buffer(zeros((batch, heads, capacity, head_dim), dtype=dtype), persistent=False)

    def fill(self, k: Tensor, v: Tensor) -> None:
        """Hold keys and values [B, H, T, D] as those of the positions 0..T-1, and zeros behind."""
        self._check(k, v)
        B, H, capacity, D = self.keys.shape
        rest = capacity - k.shape[2]
        for cell, given in ((self.keys, k), (self.values, v)):
            behind = [zeros((B, H, rest, D), dtype=given.dtype)] if rest else []
            cell.value = concat([given, *behind], axis=2)

    def update(self, k: Tensor, v: Tensor, at: Operand) -> tuple[Tensor, Tensor]:
        """Put keys and values [B, H, T, D] at the positions from `at` on, [] or [B]; return all there are."""
        self._check(k, v)
        rows, capacity = k.shape[2], self.keys.shape[2]
        place = creation.arange(capacity) - as_tensor("KVCache", at).reshape((-1, 1, 1))  # of [B, H, capacity]
        new = ((place >= 0) & (place < rows)).reshape((-1, 1, capacity, 1))
        for cell, given in ((self.keys, k), (self.values, v)):
            cell.value = where(new, _spread(given, clip(place, 0, rows - 1)), cell.read())
        return self.keys.read(), self.values.read()

    def seen(self, at: Operand, rows: int) -> Tensor:
        """Return a mask [1 or B, 1, T, capacity], True where rows from `at` on may look: up to themselves."""
        columns = creation.arange(self.keys.shape[2])
        return (positions_from(at, rows).reshape((-1, rows, 1)) >= columns).reshape((-1, 1, rows, self.keys.shape[2]))

    def _check(self, k: Tensor, v: Tensor) -> None:
        B, H, capacity, D = self.keys.shape
        for given in (k, v):
            if given.ndim != 4 or given.shape != (B, H, given.shape[2], D) or given.shape[2] > capacity:
                raise ShapeError(
                    f"KVCache: {given.node.type!r} does not fit into {list(self.keys.shape)}, [B, H, capacity, D]. "
                    f"Allowed: [{B}, {H}, T, {D}] with T up to {capacity}. Make a cache of the sizes needed."
                )

    def extra_repr(self) -> str:
        """Return the sizes."""
        B, H, capacity, D = self.keys.shape
        return f"batch={B}, heads={H}, capacity={capacity}, head_dim={D}"


def _spread(rows: Tensor, place: Tensor) -> Tensor:
    """Return the row of [B, H, T, D] for every place, [B or 1, 1, S]."""
    B, H, T, D = rows.shape
    if T == 1:
        return rows
    if place.shape[0] == 1:
        return take(rows, place.reshape((-1,)), axis=2)
    columns = place.shape[-1]
    return take_along_axis(rows, broadcast_to(place.reshape((B, 1, columns, 1)), (B, H, columns, D)), axis=2)


def positions_from(at: Operand, rows: int) -> Tensor:
    """Return the positions of `rows` rows from `at` on, [] or [B], as [1 or B, T]."""
    return as_tensor("attention", at).reshape((-1, 1)) + creation.arange(rows)


def attend_so_far(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask: Tensor | None) -> Tensor:
    """Return what queries gather from a cache, [B, H, T, D], given a mask of bool or floats of [B, H, T, S].

    Keys may have fewer heads, each for as many neighbouring heads of the queries; those are rows of one product, so
    the cache is read once.
    """
    B, H, T, D = q_BHTD.shape
    G, S = k_BGSD.shape[1], k_BGSD.shape[2]
    if G == H:
        return F.attention_weights(q_BHTD, k_BGSD, mask) @ v_BGSD
    q_BGRD = q_BHTD.reshape((B, G, H // G * T, D))
    if mask is not None:
        wide = broadcast_to(mask, (mask.shape[0] if mask.ndim == 4 else 1, H, T, S))
        mask = wide.reshape((wide.shape[0], G, H // G * T, S))
    return (F.attention_weights(q_BGRD, k_BGSD, mask) @ v_BGSD).reshape((B, H, T, D))
