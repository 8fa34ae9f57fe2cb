"""Images read at places that a grid gives (Jaderberg et al. 2015, arXiv:1506.02025), and grids of affine maps.

Each axis by itself turns coordinates into taps: positions and weights of the few elements that count. A sample is the
sum over all combinations of the axes' taps, so every mode is the same gather with other taps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np

from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.ir import Op
from treadle.ops import sum_dtype
from treadle.tensor import Tensor, creation, made, node_of
from treadle.tensor import elementwise as ew
from treadle.tensor.promotion import Operand, as_tensor

from .resize_tables import cubic_weights

MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection")


class Tap(NamedTuple):
    """One element that counts: its place, negative where it does not exist, and its weight, None for 1."""

    place: Tensor
    weight: Tensor | None


def affine_grid(theta: Operand, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Return a grid for `grid_sample`: where an affine map takes each place of an image of this size.

    Args:
        theta: one matrix per image, [N, 2, 3] for [N, H, W, 2] or [N, 3, 4] for [N, D, H, W, 3].
        size: of the images, [N, C, H, W] or [N, C, D, H, W].
        align_corners: whether -1 and 1 are the centres of the elements at the corners, rather than their outer edges.
    """
    what = "affine_grid"
    maps = as_tensor(what, theta)
    lengths = [int(n) for n in size][2:]
    count = len(lengths)
    if not maps.dtype.is_float:
        raise DTypeError(f"{what}: theta is {maps.dtype.name}. Allowed: floats. Convert with astype().")
    if count not in (2, 3) or min(size) < 1 or maps.shape != (size[0], count, count + 1):
        raise ShapeError(
            f"{what}: theta {maps.node.type!r} and size {tuple(size)} do not fit. Allowed: [N, 2, 3] with [N, C, H, W] "
            "and [N, 3, 4] with [N, C, D, H, W], all sizes at least 1."
        )
    ones = (1,) * count
    coefficients = maps.reshape((size[0], *ones, count, count + 1))
    grid = coefficients[..., count].broadcast_to((size[0], *lengths, count))
    for axis, n in enumerate(lengths):  # the last axis is the first coordinate
        line = [1] * (count + 2)
        line[axis + 1] = n
        centres = creation.asarray(_centres(n, align_corners=bool(align_corners)), dtype=maps.dtype)
        grid = grid + coefficients[..., count - 1 - axis] * centres.reshape(line)
    return grid


def _centres(n: int, *, align_corners: bool) -> np.ndarray:
    """Return where the centres of n elements are between -1 and 1."""
    if align_corners:
        return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
    return (2 * np.arange(n) + 1) / n - 1


def grid_sample(
    input: Operand,
    grid: Operand,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Return the input at the places of a grid, interpolated.

    Args:
        input: images [N, C, H, W] or volumes [N, C, D, H, W].
        grid: [N, H', W', 2] or [N, D', H', W', 3] of the input's dtype, x before y before z, -1 to 1 across the input.
        mode: "bilinear", over volumes trilinear; "nearest"; "bicubic", for images.
        padding_mode: what is outside: "zeros", the "border" element, or the input seen in a mirror, "reflection".
        align_corners: whether -1 and 1 are the centres of the elements at the corners, rather than their outer edges.
    """
    what = "grid_sample"
    x, at = as_tensor(what, input), as_tensor(what, grid)
    _check(what, x, at, mode, padding_mode)
    n, c, *lengths = x.shape
    elements, samples = math.prod(lengths), math.prod(at.shape[1:-1])
    coordinates = at.astype(sum_dtype(x.dtype)).reshape((n, 1, samples, len(lengths)))
    taps = [
        _taps(coordinates[..., -1 - axis], size, mode, padding_mode, align_corners=bool(align_corners))
        for axis, size in enumerate(lengths)
    ]
    flat = x.reshape((n, c, elements))
    terms = [_term(flat, _corner(combination, lengths)) for combination in itertools.product(*taps)]
    return reduce(ew.add, terms).astype(x.dtype).reshape((n, c, *at.shape[1:-1]))


def _corner(taps: Sequence[Tap], lengths: Sequence[int]) -> Tap:
    """Return the element that one tap of every axis makes, its place counted in row-major order."""
    elements = math.prod(lengths)
    places = [
        ew.where(ew.less(tap.place, 0), -elements, tap.place * math.prod(lengths[axis + 1 :]))
        for axis, tap in enumerate(taps)
    ]  # one that is missing makes the sum negative, whatever the others are
    weights = [tap.weight for tap in taps if tap.weight is not None]
    return Tap(reduce(ew.add, places), reduce(ew.multiply, weights) if weights else None)


def _term(x: Tensor, tap: Tap) -> Tensor:
    """Return the elements of [N, C, elements] at a tap's places [N, 1, samples], times its weight."""
    places = tap.place.broadcast_to((*x.shape[:2], tap.place.shape[2]))
    taken = made(Op.registry["take_or_zero"]()(node_of(x), node_of(places)), x)
    return taken if tap.weight is None else taken.astype(tap.weight.dtype) * tap.weight


def _check(what: str, x: Tensor, grid: Tensor, mode: str, padding_mode: str) -> None:
    if mode not in MODES:
        raise ConfigError(f"{what}: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
    if padding_mode not in PADDING_MODES:
        raise ConfigError(f"{what}: padding_mode is {padding_mode!r}. Allowed: {', '.join(PADDING_MODES)}.")
    if not x.dtype.is_float or grid.dtype != x.dtype:
        raise DTypeError(
            f"{what}: input is {x.dtype.name} and grid {grid.dtype.name}. They must be floats of one dtype; convert "
            "with astype()."
        )
    count = x.ndim - 2
    if count not in (2, 3) or grid.ndim != x.ndim or grid.shape[0] != x.shape[0] or grid.shape[-1] != count:
        raise ShapeError(
            f"{what}: input {x.node.type!r} and grid {grid.node.type!r} do not fit. Allowed: [N, C, H, W] with "
            "[N, H', W', 2] and [N, C, D, H, W] with [N, D', H', W', 3]."
        )
    if 0 in x.shape[2:]:
        raise ShapeError(f"{what}: input {x.node.type!r} has no elements to sample. Sizes must be at least 1.")
    if mode == "bicubic" and count != 2:
        raise ConfigError(f"{what}: mode 'bicubic' is for [N, C, H, W], the input is {x.node.type!r}. Use 'bilinear'.")


def _taps(coordinate: Tensor, n: int, mode: str, padding_mode: str, *, align_corners: bool) -> list[Tap]:
    """Return the elements of an axis of n that count for coordinates from -1 to 1."""
    at = (coordinate + 1) * ((n - 1) / 2) if align_corners else ((coordinate + 1) * n - 1) * 0.5
    if mode == "bicubic":
        first = ew.floor(at)
        weights = cubic_weights(at - first)
        places = [_padded(first + k, n, padding_mode, align_corners=align_corners) for k in range(-1, 3)]
        return [_tap(place, n, weight) for place, weight in zip(places, weights, strict=True)]
    at = _padded(at, n, padding_mode, align_corners=align_corners)
    if mode == "nearest":
        return [_tap(ew.round(at), n, None)]
    first = ew.floor(at)
    part = at - first
    return [_tap(first, n, 1 - part), _tap(first + 1, n, part)]


def _tap(place: Tensor, n: int, weight: Tensor | None) -> Tap:
    exists = ew.logical_and(ew.greater_equal(place, 0), ew.less_equal(place, n - 1))
    return Tap(ew.where(exists, place, -1).detach().astype("int32"), weight)


def _padded(at: Tensor, n: int, padding_mode: str, *, align_corners: bool) -> Tensor:
    """Return positions moved into an axis of n elements, but for zeros, which have places of their own."""
    if padding_mode == "zeros":
        return at
    if padding_mode == "reflection":
        low, span = (0.0, n - 1) if align_corners else (-0.5, n)
        if span == 0:
            return at * 0
        within = ew.remainder(ew.abs(at - low), 2 * span)
        at = span - ew.abs(within - span) + low
    return ew.clip(at, 0, n - 1)
