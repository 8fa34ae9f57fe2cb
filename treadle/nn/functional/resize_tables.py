"""Interpolation along one axis as tables: for each new element, which old ones count and how much.

Sources: bilinear and bicubic as in Keys 1981, "Cubic convolution interpolation", a = -3/4; with antialias the kernels
are stretched by the scale when images shrink, and a = -1/2, as in PIL.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Tables(NamedTuple):
    """Places and weights [out, taps], and those of the transposed sum [n, taps]."""

    places: Array
    weights: Array
    back_places: Array
    back_weights: Array


def nearest_places(n: int, out: int, scale: float | None, *, exact: bool) -> Array:
    """Return the old element each new one is; `scale` is new over old where it is given. In float32, as PyTorch."""
    o = np.arange(out)
    if not exact and out == n:
        return o
    if not exact and out == 2 * n:
        return o // 2
    step = np.float32(1 / scale) if scale is not None and scale > 0 else np.float32(n) / np.float32(max(out, 1))
    at = (o.astype(np.float32) + np.float32(0.5 if exact else 0)) * step
    return np.minimum(np.floor(at).astype(np.int64), n - 1)


@lru_cache(maxsize=256)
def tables(mode: str, n: int, out: int, scale: float | None, align_corners: bool, antialias: bool, wide: str) -> Tables:
    """Return the tables of a mode: "nearest", "nearest-exact", "linear" or "cubic", for weights of dtype `wide`."""
    if mode.startswith("nearest"):
        places = nearest_places(n, out, scale, exact=mode == "nearest-exact")[:, None]
        weights = np.ones(places.shape)
    elif antialias:
        places, weights = _antialiased(mode, n, out, _step(n, out, scale, align_corners))
    else:
        places, weights = _kernel(mode, n, out, _step(n, out, scale, align_corners), align_corners)
    back_places, back_weights = transposed(places, weights, n)
    return Tables(
        np.asarray(places, np.int32),
        np.asarray(weights, wide),
        np.asarray(back_places, np.int32),
        np.asarray(back_weights, wide),
    )


def _step(n: int, out: int, scale: float | None, align_corners: bool) -> float:
    """Return the distance between new elements, in old ones."""
    if align_corners:
        return (n - 1) / (out - 1) if out > 1 else 0.0
    return 1 / scale if scale is not None and scale > 0 else n / max(out, 1)


def _kernel(mode: str, n: int, out: int, step: float, align_corners: bool) -> tuple[Array, Array]:
    """Return tables of 2 or 4 neighbours, those beyond the ends being the last ones."""
    o = np.arange(out, dtype=np.float64)
    at = o * step if align_corners else (o + 0.5) * step - 0.5
    if mode == "linear":
        at = np.maximum(at, 0)
        first = np.minimum(np.floor(at).astype(np.int64), n - 1)
        part = np.clip(at - first, 0, 1)
        return np.stack([first, np.minimum(first + 1, n - 1)], 1), np.stack([1 - part, part], 1)
    first = np.floor(at).astype(np.int64)
    places = np.clip(first[:, None] + np.arange(-1, 3), 0, n - 1)
    return places, np.stack(cubic_weights(at - first), 1)


def cubic_weights(part: Any, a: float = -0.75) -> list[Any]:
    """Return the weights of four neighbours for a point `part` of the way from the second to the third."""

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(part + 1), near(part), near(1 - part), far(2 - part)]


def _triangle(x: Array) -> Array:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: Array) -> Array:
    x, a = np.abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _antialiased(mode: str, n: int, out: int, step: float) -> tuple[Array, Array]:
    """Return tables of as many neighbours as the kernel, stretched by the step, covers; their weights sum to 1."""
    shape: Callable[[Array], Array] = _triangle if mode == "linear" else _cubic
    radius = (1 if mode == "linear" else 2) * max(step, 1.0)
    centre = step * (np.arange(out) + 0.5)
    low = np.maximum((centre - radius + 0.5).astype(np.int64), 0)
    count = np.clip(np.minimum((centre + radius + 0.5).astype(np.int64), n) - low, 0, math.ceil(radius) * 2 + 1)
    t = np.arange(max(int(count.max(initial=1)), 1))
    weights = np.where(t < count[:, None], shape((low[:, None] + t - centre[:, None] + 0.5) / max(step, 1.0)), 0.0)
    total = weights.sum(1, keepdims=True)
    return np.minimum(low[:, None] + t, n - 1), weights / np.where(total == 0, 1, total)


def transposed(places: Array, weights: Array, n: int) -> tuple[Array, Array]:
    """Return the tables of the transposed sum; rows with fewer elements than others repeat one with weight 0."""
    rows = np.broadcast_to(np.arange(len(places))[:, None], places.shape).ravel()
    at, weight = places.ravel(), weights.ravel()
    keep = weight != 0
    order = np.argsort(at[keep], kind="stable")
    at, rows, weight = at[keep][order], rows[keep][order], weight[keep][order]
    first = np.searchsorted(at, np.arange(n))
    rank = np.arange(len(at)) - first[at]
    taps = int(rank.max(initial=0)) + 1
    back_places = np.zeros((n, taps), np.int64)
    if len(rows):
        back_places[:] = rows[np.minimum(first, len(rows) - 1)][:, None]
    back_weights = np.zeros((n, taps))
    back_places[at, rank] = rows
    back_weights[at, rank] = weight
    return back_places, back_weights


@lru_cache(maxsize=64)
def byte_tables(
    mode: str, n: int, out: int, scale: float | None, align_corners: bool, antialias: bool
) -> tuple[Array, Array, int]:
    """Return places, weights in whole numbers of 16 bits, and the power of two that is 1 among them; as in PIL."""
    found = tables(mode, n, out, scale, align_corners, antialias, "float64")
    places, weights = found.places, found.weights.copy()
    for t in range(1, places.shape[1]):  # an element that counts twice, at an end, has one weight
        for s in range(t):
            same = places[:, s] == places[:, t]
            weights[:, s] += np.where(same, weights[:, t], 0)
            weights[:, t] = np.where(same, 0, weights[:, t])
    bits = next(b for b in range(23) if b == 22 or int(0.5 + weights.max(initial=0) * (1 << (b + 1))) >= 1 << 15)
    whole = np.trunc(weights * (1 << bits) + np.where(weights < 0, -0.5, 0.5))
    return places, whole.astype(np.int32), bits
