"""Rows of a table looked up by number, one by one or summed up in bags."""

from __future__ import annotations

import math
from collections.abc import Callable

from treadle.core import ConfigError, DTypeError, IndexRangeError, ShapeError
from treadle.ir import Op
from treadle.tensor import Cell, Tensor, made, node_of, set_grad_enabled
from treadle.tensor import elementwise as ew
from treadle.tensor.creation import arange, full, zeros
from treadle.tensor.elementwise import where
from treadle.tensor.manipulation import broadcast_to
from treadle.tensor.norms import vector_norm
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.realize import handle_of
from treadle.tensor.scattering import scatter_reduce
from treadle.tensor.sorting import searchsorted

MODES = ("sum", "mean", "max")

# From values [n, D], one for each number, to their sum or maximum in each bag, [B, D].
Fold = Callable[[Tensor], Tensor]


def embedding(
    input: Operand,
    weight: Operand,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows of `weight` numbered by `input`, along a new last axis; a number out of range is an error.

    Args:
        input: integers of any shape.
        weight: [V, D].
        padding_idx: the number of a row that gets no gradient.
        max_norm: rows looked up that are longer are first scaled to this norm, in place: weight must be a Parameter.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide the gradient of a row by how often it is looked up.
        sparse: PyTorch's; gradients are dense here, and True is refused.
    """
    what = "embedding"
    numbers, padding = _looked_up(what, input, weight, padding_idx, sparse)
    rows = _rows(what, numbers, weight, max_norm, norm_type, scale_grad_by_freq)
    if padding is None:
        return rows
    return where(ew.equal(numbers, padding).reshape((*numbers.shape, 1)), rows.detach(), rows)


def embedding_bag(
    input: Operand,
    weight: Operand,
    offsets: Operand | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Operand | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Return the sum, mean or maximum [B, D] of the rows of `weight` in each of B bags; 0 for an empty bag.

    Args:
        input: numbers of rows, [B, N]; or [n], all bags one after the other, with offsets.
        weight: [V, D].
        offsets: [B], where each bag starts in a vector of numbers, rising from 0.
        max_norm: as in `embedding`.
        norm_type: as in `embedding`.
        scale_grad_by_freq: as in `embedding`; not with mode "max".
        mode: "sum", "mean" or "max".
        sparse: as in `embedding`.
        per_sample_weights: of the input's shape, what each row is multiplied with; with mode "sum" only.
        include_last_offset: offsets are [B + 1], the last one being where the last bag ends.
        padding_idx: the number of a row that counts for nothing.
    """
    what = "embedding_bag"
    if mode not in MODES:
        raise ConfigError(f"{what}: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
    if mode == "max" and scale_grad_by_freq:
        raise ConfigError(f"{what}: scale_grad_by_freq does not go with mode 'max'. Allowed: 'sum', 'mean'.")
    numbers, padding = _looked_up(what, input, weight, padding_idx, sparse)
    factor = None if per_sample_weights is None else as_tensor(what, per_sample_weights)
    if factor is not None and (mode != "sum" or factor.shape != numbers.shape):
        raise ConfigError(
            f"{what}: per_sample_weights {factor.node.type!r} with mode {mode!r} and input {numbers.node.type!r}. "
            "They go with mode 'sum', and have the input's shape."
        )
    count, add, largest = _bags(what, numbers, offsets, include_last_offset)
    numbers = numbers.reshape((numbers.size,))
    rows = _rows(what, numbers, weight, max_norm, norm_type, scale_grad_by_freq)
    if not numbers.size:
        return zeros((count, rows.shape[1]), dtype=rows.dtype)
    ones = full((numbers.size, 1), 1.0, dtype=rows.dtype)
    kept = ones if padding is None else ew.not_equal(numbers, padding).reshape((-1, 1)).astype(rows.dtype)
    if mode == "max":
        found = largest(rows if padding is None else where(ew.equal(kept, 0.0), -math.inf, rows))
        return where(ew.equal(add(kept), 0.0), 0.0, found)
    if factor is not None:
        kept = kept * factor.reshape((-1, 1))
    # A product with 0 would carry NaN out of the padding row.
    total = add(rows * kept if padding is None else where(ew.equal(kept, 0.0), 0.0, rows * kept))
    return total if mode == "sum" else total / ew.maximum(add(kept), 1.0)


def refuse_sparse(what: str, sparse: bool) -> None:
    """Raise ConfigError when sparse gradients are asked for."""
    if sparse:
        raise ConfigError(f"{what}: sparse is True, and gradients are dense here. Leave it out; results are the same.")


def _looked_up(
    what: str, input: Operand, weight: Operand, padding_idx: int | None, sparse: bool
) -> tuple[Tensor, int | None]:
    """Return the numbers and the padding row, counted from 0; raise where they do not fit the table."""
    numbers, table = as_tensor(what, input), as_tensor(what, weight)
    if table.ndim != 2:
        raise ShapeError(
            f"{what}: weight {table.node.type!r} is not a table. It must be [num_embeddings, embedding_dim]."
        )
    if not numbers.dtype.is_integer:
        raise DTypeError(f"{what}: numbers have dtype {numbers.dtype.name}. They must be integers; use astype().")
    refuse_sparse(what, sparse)
    if padding_idx is None:
        return numbers, None
    count = table.shape[0]
    if not -count <= padding_idx < count:
        raise IndexRangeError(
            f"{what}: padding_idx {padding_idx} is out of range for {count} rows. Allowed: {-count} to {count - 1}."
        )
    return numbers, padding_idx % count


def _rows(
    what: str, numbers: Tensor, weight: Operand, max_norm: float | None, norm_type: float, scale_grad_by_freq: bool
) -> Tensor:
    """Return the rows of the table, once those of them that are too long are scaled down."""
    if max_norm is not None:
        _shorten(what, numbers, weight, max_norm, norm_type)
    table = as_tensor(what, weight)
    take = Op.registry["take"](0)
    rows = made(take(node_of(table), node_of(numbers)), numbers, table)
    if not scale_grad_by_freq:
        return rows
    times = _times(numbers, table)
    share = 1 / made(take(node_of(times), node_of(numbers)), numbers, times)
    held = rows.detach()
    # The value is that of the rows; what differs from it, nothing, carries the gradient.
    return held + (rows - held) * share


def _times(numbers: Tensor, table: Tensor) -> Tensor:
    """Return how often each row of the table is looked up, [V, 1]."""
    flat = numbers.reshape((numbers.size,))
    ones = full((numbers.size, 1), 1.0, dtype=table.dtype)
    return zeros((table.shape[0], 1), dtype=table.dtype).at[flat].add(ones)


def _shorten(what: str, numbers: Tensor, weight: Operand, max_norm: float, norm_type: float) -> None:
    """Scale the rows that are looked up and longer than `max_norm` to that norm, in the parameter itself."""
    if not isinstance(weight, Cell):
        raise ConfigError(
            f"{what}: max_norm changes the weight, and a {type(weight).__name__} does not change. Give an nn.Parameter."
        )
    with set_grad_enabled(False):
        table = weight.read()
        norm = vector_norm(table, axis=-1, keepdims=True, ord=norm_type)
        long = ew.logical_and(_times(numbers, table) > 0, norm > max_norm)
        weight.value = table * where(long, max_norm / (norm + 1e-7), 1.0)


def _bags(what: str, numbers: Tensor, offsets: Operand | None, include_last_offset: bool) -> tuple[int, Fold, Fold]:
    """Return the number of bags, and how values of a number each are added up, and compared, in each bag."""
    if numbers.ndim == 2 and offsets is None:
        shape = (*numbers.shape, -1)
        return (
            shape[0],
            lambda values: values.reshape((*shape[:2], values.shape[1])).sum(axis=1),
            lambda values: values.reshape((*shape[:2], values.shape[1])).max(axis=1),
        )
    if numbers.ndim != 1 or offsets is None:
        raise ShapeError(
            f"{what}: input {numbers.node.type!r} {'without' if offsets is None else 'with'} offsets. It must be "
            "[B, N] without, or [n] with offsets [B]."
        )
    bag, count = _bag_of(what, numbers, as_tensor(what, offsets), include_last_offset)
    # One bag more takes what stands behind the last offset.
    wide = count + include_last_offset

    def add(values: Tensor) -> Tensor:
        return zeros((wide, values.shape[1]), dtype=values.dtype).at[bag].add(values)[:count]

    def largest(values: Tensor) -> Tensor:
        nothing = full((wide, values.shape[1]), -math.inf, dtype=values.dtype)
        return scatter_reduce(nothing, 0, broadcast_to(bag[:, None], values.shape), values, "amax")[:count]

    return count, add, largest


def _bag_of(what: str, numbers: Tensor, offsets: Tensor, include_last_offset: bool) -> tuple[Tensor, int]:
    """Return which bag each number belongs to, [n], and the number of bags."""
    if offsets.ndim != 1 or not offsets.dtype.is_integer or offsets.size < include_last_offset:
        raise ShapeError(
            f"{what}: offsets {offsets.node.type!r} must be a vector of integers"
            f"{', of at least one with include_last_offset' if include_last_offset else ''}."
        )
    handle = handle_of(node_of(offsets))
    if handle is not None and handle.array.size:
        first, last = int(handle.array[0]), int(handle.array[-1])
        if first != 0 or last > numbers.size:
            raise IndexRangeError(
                f"{what}: offsets start at {first} and end at {last}. They must start at 0 and not exceed the "
                f"{numbers.size} numbers."
            )
    places = arange(numbers.size, dtype=offsets.dtype)
    # Where offsets rise from 0 nothing is clipped; but then indices need no check, which would search all over again.
    bag = ew.clip(searchsorted(offsets, places, side="right") - 1, 0, max(offsets.size - 1, 0))
    return bag, offsets.size - include_last_offset
