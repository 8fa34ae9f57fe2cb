"""Max pooling whose windows start at random distances, for any ratio of sizes (Graham 2014, arXiv:1412.6071)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce

from treadle.core import ConfigError, ShapeError
from treadle.ir import Op
from treadle.ops import sum_dtype
from treadle.tensor import Tensor, creation, made, node_of, random
from treadle.tensor import elementwise as ew
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import Generator

from .pool import Pooled
from .windows import Sizes, at_least, per_axis, spatial_axes

Ratios = float | Sequence[float]


def fractional_max_pool2d(
    input: Operand,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Ratios | None = None,
    return_indices: bool = False,
    _random_samples: Operand | None = None,
    *,
    generator: Generator | None = None,
) -> Pooled:
    """Return the largest element of windows that start at random places in order, other ones in every channel.

    Args:
        input: [N, C, H, W] or [C, H, W].
        kernel_size: elements of a window, one number or one per axis.
        output_size: how many windows there are, one number or one per axis; or
        output_ratio: as a part of the input's size, rounded down.
        return_indices: also return int64 positions of the elements found, H and W flattened.
        _random_samples: [N, C, 2] numbers from 0 up to 1 that fix the windows along W and H; None: they are drawn.
        generator: what they are drawn from; None: the default one.
    """
    # PyTorch's samples are those of W and H in two dimensions, but of D, H and W in three.
    return _fractional(
        "fractional_max_pool2d", (1, 0), input, kernel_size, output_size, output_ratio, return_indices,
        _random_samples, generator,
    )  # fmt: skip


def fractional_max_pool3d(
    input: Operand,
    kernel_size: Sizes,
    output_size: Sizes | None = None,
    output_ratio: Ratios | None = None,
    return_indices: bool = False,
    _random_samples: Operand | None = None,
    *,
    generator: Generator | None = None,
) -> Pooled:
    """Return the largest elements of [N, C, D, H, W] or [C, D, H, W]; see `fractional_max_pool2d`.

    `_random_samples` are [N, C, 3], along D, H and W.
    """
    return _fractional(
        "fractional_max_pool3d", (0, 1, 2), input, kernel_size, output_size, output_ratio, return_indices,
        _random_samples, generator,
    )  # fmt: skip


fractional_max_pool2d_with_indices = partial(fractional_max_pool2d, return_indices=True)
fractional_max_pool3d_with_indices = partial(fractional_max_pool3d, return_indices=True)


def _fractional(
    what: str,
    order: tuple[int, ...],
    input: Operand,
    kernel_size: Sizes,
    output_size: Sizes | None,
    output_ratio: Ratios | None,
    return_indices: bool,
    samples: Operand | None,
    generator: Generator | None,
) -> Pooled:
    """Pool over as many axes as there are in `order`, which says which sample is whose."""
    count = len(order)
    given = as_tensor(what, input)
    lengths = [given.shape[a] for a in spatial_axes(what, given, count)]
    kernel = per_axis(what, "kernel_size", kernel_size, count)
    check_sizes(what, count, output_size, output_ratio)
    sizes = _sizes(what, lengths, output_size, output_ratio)
    at_least(what, 1, kernel_size=kernel, output_size=sizes)
    if any(out + size - 1 > n for n, out, size in zip(lengths, sizes, kernel, strict=True)):
        raise ShapeError(
            f"{what}: {list(sizes)} windows of {list(kernel)} elements do not fit {given.node.type!r}. Allowed: up to "
            f"{[n - size + 1 for n, size in zip(lengths, kernel, strict=True)]}."
        )
    lead = given.shape[:-count] if given.ndim == count + 2 else (1, *given.shape[:-count])
    u = _samples(what, given, (*lead, count), samples, generator)
    starts = [_starts(u[..., k], *each) for k, *each in zip(order, lengths, sizes, kernel, strict=True)]
    places = _places(starts, lengths, sizes, kernel).reshape((*lead, math.prod(sizes), math.prod(kernel)))
    x = given.reshape((*lead, math.prod(lengths)))
    windows = _taken(x.detach(), places.reshape((*lead, -1))).reshape(places.shape)
    best = windows.argmax(axis=-1, keepdims=True)
    largest = _taken(places, best).reshape(places.shape[:-1])
    shape = (*given.shape[:-count], *sizes)
    top = _taken(x, largest).reshape(shape)
    return (top, largest.reshape(shape).astype("int64")) if return_indices else top


def check_sizes(what: str, count: int, output_size: Sizes | None, output_ratio: Ratios | None) -> None:
    """Raise ConfigError unless either sizes are given or, for `count` axes, ratios between 0 and 1."""
    if (output_size is None) == (output_ratio is None):
        raise ConfigError(f"{what}: output_size is {output_size}, output_ratio is {output_ratio}. Give one of the two.")
    if output_ratio is not None:
        ratios = _ratios(output_ratio, count)
        if len(ratios) != count or not all(0 < ratio < 1 for ratio in ratios):
            raise ConfigError(
                f"{what}: output_ratio is {output_ratio}. Give a number between 0 and 1, or {count}, one per axis."
            )


def _ratios(given: Ratios, count: int) -> tuple[float, ...]:
    return (given,) * count if isinstance(given, int | float) else tuple(given)


def _sizes(
    what: str, lengths: Sequence[int], output_size: Sizes | None, output_ratio: Ratios | None
) -> tuple[int, ...]:
    """Return how many windows there are along each axis."""
    if output_ratio is None:
        assert output_size is not None
        return per_axis(what, "output_size", output_size, len(lengths))
    return tuple(int(n * ratio) for n, ratio in zip(lengths, _ratios(output_ratio, len(lengths)), strict=True))


def _samples(
    what: str, x: Tensor, shape: tuple[int, ...], given: Operand | None, generator: Generator | None
) -> Tensor:
    """Return numbers from 0 up to 1, drawn unless they are given."""
    if given is None:
        return random.uniform(shape, dtype=sum_dtype(x.dtype) if x.dtype.is_float else "float32", generator=generator)
    u = as_tensor(what, given)
    if u.shape != shape or not u.dtype.is_float:
        raise ShapeError(f"{what}: samples {u.node.type!r} must be floats of shape {list(shape)}.")
    return u


def _starts(u: Tensor, n: int, out: int, size: int) -> Tensor:
    """Return where `out` windows of `size` elements start along an axis of n, [..., out]; the last ends with it."""
    u = u.reshape((*u.shape, 1))
    alpha = (n - size) / max(out - 1, 1)
    o = creation.arange(out, dtype=u.dtype)
    start = ew.floor((o + u) * alpha) - ew.floor(u * alpha)
    return ew.where(ew.equal(o, out - 1), n - size, start).astype("int32")


def _places(starts: Sequence[Tensor], lengths: Sequence[int], sizes: Sequence[int], kernel: Sequence[int]) -> Tensor:
    """Return the row-major positions of the windows' elements: [N, C, windows per axis, elements per axis]."""
    count = len(lengths)
    parts: list[Tensor] = []
    for axis, (start, out, size) in enumerate(zip(starts, sizes, kernel, strict=True)):
        windows = [out if a == axis else 1 for a in range(count)]
        elements = [size if a == axis else 1 for a in range(count)]
        at = start.reshape((*start.shape[:2], *windows, *[1] * count))
        at = at + creation.arange(size, dtype="int32").reshape(elements)
        parts.append(at * math.prod(lengths[axis + 1 :]))
    return reduce(ew.add, parts)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    return made(Op.registry["take_or_zero"]()(node_of(x), node_of(places)), x)
