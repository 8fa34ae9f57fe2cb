"""Pooling to a given number of windows, which divide the input evenly whatever its size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from treadle.core import ConfigError
from treadle.ops import Span
from treadle.tensor import Tensor
from treadle.tensor.promotion import Operand, as_tensor

from .pool import Pooled, average, largest
from .windows import at_least, spatial_axes

OutputSize = int | None | Sequence[int | None]


def _dividing(what: str, x: Tensor, count: int, output_size: OutputSize) -> tuple[tuple[int, ...], tuple[Span, ...]]:
    """Return the spatial axes and the windows along them; None keeps the size of an axis."""
    axes = spatial_axes(what, x, count)
    given = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,)
    if len(given) == 1:
        given *= count
    if len(given) != count:
        raise ConfigError(f"{what}: output_size is {output_size}. Give one number or None, or {count}, one per axis.")
    outs = [x.shape[a] if out is None else out for a, out in zip(axes, given, strict=True)]
    at_least(what, 0, output_size=outs)
    return axes, tuple(Span.dividing(x.shape[a], out) for a, out in zip(axes, outs, strict=True))


def _nothing(x: Tensor, axes: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """Return no windows at all, connected to the gradient of x."""
    shape = list(x.shape)
    for axis, span in zip(axes, spans, strict=True):
        shape[axis] = span.out
    return x.sum(axis=tuple(axes), keepdims=True).broadcast_to(
        tuple(max(n, 1) if a in axes else n for a, n in enumerate(shape))
    )[tuple(slice(0, n) for n in shape)]


def _adaptive_max(what: str, count: int, input: Operand, output_size: OutputSize, return_indices: bool) -> Pooled:
    x = as_tensor(what, input)
    axes, spans = _dividing(what, x, count, output_size)
    if any(span.out == 0 for span in spans):
        empty = _nothing(x, axes, spans)
        return (empty, empty.detach().astype("int64")) if return_indices else empty
    return largest(x, axes, spans, return_indices=return_indices)


def _adaptive_avg(what: str, count: int, input: Operand, output_size: OutputSize) -> Tensor:
    x = as_tensor(what, input)
    axes, spans = _dividing(what, x, count, output_size)
    if any(span.out == 0 for span in spans):
        return _nothing(x, axes, spans)
    counts = [span.positions(x.shape[a])[1].sum(axis=1) for a, span in zip(axes, spans, strict=True)]
    return average(x, axes, spans, [np.asarray(c, np.int64) for c in counts])


def adaptive_max_pool1d(input: Operand, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """Return the largest element of each of `output_size` windows that divide the last axis of [N, C, L] or [C, L].

    Window o holds the elements floor(o L / out) .. ceil((o + 1) L / out) - 1. With `return_indices` also the int64
    positions of the elements found.
    """
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Operand, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """Return the largest element of windows that divide H and W of [N, C, H, W] or [C, H, W].

    `output_size` is one number or one per axis, None for the input's; see `adaptive_max_pool1d`.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Operand, output_size: OutputSize, return_indices: bool = False) -> Pooled:
    """Return the largest element of windows that divide D, H and W of [N, C, D, H, W] or [C, D, H, W].

    `output_size` is one number or one per axis, None for the input's; see `adaptive_max_pool1d`.
    """
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


adaptive_max_pool1d_with_indices = partial(adaptive_max_pool1d, return_indices=True)
adaptive_max_pool2d_with_indices = partial(adaptive_max_pool2d, return_indices=True)
adaptive_max_pool3d_with_indices = partial(adaptive_max_pool3d, return_indices=True)


def adaptive_avg_pool1d(input: Operand, output_size: OutputSize) -> Tensor:
    """Return the average of each of `output_size` windows that divide the last axis of [N, C, L] or [C, L]."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Operand, output_size: OutputSize) -> Tensor:
    """Return the average of windows that divide H and W of [N, C, H, W] or [C, H, W].

    `output_size` is one number or one per axis, None for the input's; see `adaptive_max_pool1d` for the windows.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Operand, output_size: OutputSize) -> Tensor:
    """Return the average of windows that divide D, H and W of [N, C, D, H, W] or [C, D, H, W].

    `output_size` is one number or one per axis, None for the input's; see `adaptive_max_pool1d` for the windows.
    """
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)
