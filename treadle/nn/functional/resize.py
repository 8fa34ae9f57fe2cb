"""Images and the like in another size: nearest elements, linear and cubic interpolation, averages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.ir import Op
from treadle.ops import sum_dtype
from treadle.tensor import Tensor, creation, made, node_of
from treadle.tensor import elementwise as ew
from treadle.tensor.promotion import Operand, as_tensor

from .adaptive_pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .resize_tables import byte_tables, nearest_places, tables

AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
MODES = ("nearest", "nearest-exact", "area", *AXES)
Size = int | Sequence[int]
Factor = float | Sequence[float]

T = TypeVar("T")


def interpolate(
    input: Operand,
    size: Size | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Return the input in another size along its last axes.

    Args:
        input: [N, C, ...] with one to three axes behind the channels.
        size: the new size, one number or one per axis; or
        scale_factor: what sizes are multiplied with, rounded down, one number or one per axis.
        mode: "nearest", "nearest-exact", "area", "linear" (one axis), "bilinear", "bicubic" (two), "trilinear" (three).
        align_corners: for the interpolating modes: whether the centres of the corner elements stay where they are,
            rather than their outer edges.
        recompute_scale_factor: take the scale from the sizes after rounding rather than from `scale_factor`.
        antialias: for "bilinear" and "bicubic": widen the kernel when the size shrinks.
    """
    what = "interpolate"
    x = as_tensor(what, input)
    count = x.ndim - 2
    _check_mode(what, x, count, mode, align_corners, antialias)
    new, scales = _sizes(what, x, count, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[count - 1](x, new)
    if 0 in x.shape[1:] or any(n < 1 for n in new):
        raise ShapeError(
            f"{what}: {x.node.type!r} cannot become {list(new)} behind the channels. Sizes must be at least 1."
        )
    if mode.startswith("nearest"):
        return _nearest(x, new, scales, mode)
    one = "cubic" if mode == "bicubic" else "linear"
    if not x.dtype.is_float:
        return _bytes(x, one, new, scales, bool(align_corners), antialias)
    full = x.astype(sum_dtype(x.dtype))
    # Axes that shrink come first: what follows is less work.
    for k in sorted(range(count), key=lambda k: new[k] / x.shape[k + 2]):
        if x.shape[k + 2] != new[k] or scales[k] not in (None, 1.0):
            full = _resampled(full, k + 2, one, new[k], scales[k], bool(align_corners), antialias)
    return full.astype(x.dtype)


def upsample(
    input: Operand,
    size: Size | None = None,
    scale_factor: Factor | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Return `interpolate` of the input: the older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Operand, size: Size | None = None, scale_factor: Factor | None = None) -> Tensor:
    """Return the input in another size, each element the nearest old one."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Operand, size: Size | None = None, scale_factor: Factor | None = None) -> Tensor:
    """Return the input in another size by bilinear interpolation, corners staying where they are."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


def _check_mode(what: str, x: Tensor, count: int, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in MODES:
        raise ConfigError(f"{what}: mode is {mode!r}. Allowed: {', '.join(MODES)}.")
    if not 1 <= count <= 3 or AXES.get(mode, count) != count:
        raise ShapeError(
            f"{what}: mode {mode!r} takes [N, C, ...] with {AXES.get(mode, '1 to 3')} axes behind the channels, the "
            f"input is {x.node.type!r}."
        )
    if mode not in AXES and align_corners is not None:
        raise ConfigError(f"{what}: align_corners has no meaning for mode {mode!r}. Leave it out.")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ConfigError(f"{what}: antialias is for modes bilinear and bicubic, not {mode!r}. Leave it out.")
    if not x.dtype.is_float and not (mode.startswith("nearest") or x.dtype.name == "uint8"):
        raise DTypeError(f"{what}: mode {mode!r} takes floats or uint8, not {x.dtype.name}. Convert with astype().")


def _sizes(
    what: str, x: Tensor, count: int, size: Size | None, scale_factor: Factor | None, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Return the new sizes and, where they are to be used, the scales."""
    if (size is None) == (scale_factor is None):
        raise ConfigError(f"{what}: size is {size}, scale_factor is {scale_factor}. Give one of the two.")
    if size is not None:
        if recompute:
            raise ConfigError(f"{what}: recompute_scale_factor has no meaning when size is given. Leave it out.")
        given = (size,) * count if isinstance(size, int) else tuple(int(n) for n in size)
        return _of_axes(what, "size", given, count), (None,) * count
    assert scale_factor is not None
    factors = (
        (float(scale_factor),) * count
        if isinstance(scale_factor, int | float)
        else tuple(float(f) for f in scale_factor)
    )
    _of_axes(what, "scale_factor", factors, count)
    new = tuple(math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=True))
    return new, (None,) * count if recompute else factors


def _of_axes(what: str, name: str, given: tuple[T, ...], count: int) -> tuple[T, ...]:
    if len(given) != count:
        raise ConfigError(f"{what}: {name} is {given}. Give one number, or {count}, one per axis.")
    return given


def _nearest(x: Tensor, new: tuple[int, ...], scales: tuple[float | None, ...], mode: str) -> Tensor:
    old = x.shape[2:]
    if all(b % a == 0 and s in (None, b / a) for a, b, s in zip(old, new, scales, strict=True)):
        # Each element as often as the sizes say: no table is read, and the gradient is a sum over neighbours.
        apart = [size for n in old for size in (n, 1)]
        times = [size for a, b in zip(old, new, strict=True) for size in (a, b // a)]
        lead = x.shape[:2]
        return x.reshape((*lead, *apart)).broadcast_to((*lead, *times)).reshape((*lead, *new))
    for k, (n, scale) in enumerate(zip(new, scales, strict=True)):
        if x.dtype.is_float:
            x = _resampled(x, k + 2, mode, n, scale, False, False)
        else:
            places = nearest_places(x.shape[k + 2], n, scale, exact=mode == "nearest-exact")
            x = x.take(creation.asarray(places), axis=k + 2)
    return x


def _resampled(
    x: Tensor, axis: int, mode: str, out: int, scale: float | None, align_corners: bool, antialias: bool
) -> Tensor:
    """Return x interpolated along one axis."""
    wide = sum_dtype(x.dtype).name
    found = tables(mode, x.shape[axis], out, scale, align_corners, antialias, wide)
    return made(Op.registry["resample"](axis)(node_of(x), *[creation.asarray(t).node for t in found]), x)


def _bytes(
    x: Tensor, mode: str, new: tuple[int, ...], scales: tuple[float | None, ...], align_corners: bool, antialias: bool
) -> Tensor:
    """Return uint8 images interpolated in whole numbers, rounded after each axis, the last axis first."""
    for axis in range(x.ndim - 1, 1, -1):
        out, scale = new[axis - 2], scales[axis - 2]
        if x.shape[axis] == out:
            continue
        places, weights, bits = byte_tables(mode, x.shape[axis], out, scale, align_corners, antialias)
        behind = (1,) * (x.ndim - axis - 1)
        taken = x.astype("int32").take(creation.asarray(places), axis=axis)
        products = taken * creation.asarray(weights).reshape((*weights.shape, *behind))
        total = products.sum(axis=axis + 1, dtype="int32") + (1 << bits >> 1)
        x = ew.clip(ew.bitwise_right_shift(total, bits), 0, 255).astype("uint8")
    return x
