"""Pooling over sliding windows: the largest element, the average, the p-norm; inputs are [N, C, ...] or [C, ...].

In a layout with channels last, permute around these functions: the ops take their axes as they come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from treadle.core import ConfigError, float32
from treadle.ir import Op
from treadle.ops import Span
from treadle.tensor import Tensor, creation, made, node_of
from treadle.tensor import elementwise as ew
from treadle.tensor.promotion import Operand, as_tensor

from .windows import Sizes, sliding

Pooled = Tensor | tuple[Tensor, Tensor]


def largest(x: Tensor, axes: tuple[int, ...], spans: tuple[Span, ...], *, return_indices: bool) -> Pooled:
    """Return the largest element of every window and, if asked for, where on the flattened axes it is."""
    top = made(Op.registry["window_max"](axes, spans)(node_of(x)), x)
    if not return_indices:
        return top
    place = Op.registry["window_place"](axes, spans)(node_of(x), node_of(top))
    return top, _flat_positions(made(place).astype("int64"), x.shape, axes, spans)


def _flat_positions(place: Tensor, shape: Sequence[int], axes: Sequence[int], spans: Sequence[Span]) -> Tensor:
    """Return the row-major positions along `axes` of the elements at these places in their windows."""
    rest, flat = place, None
    after = 1
    for axis, span in reversed(list(zip(axes, spans, strict=True))):
        k = rest if axis == axes[0] else ew.remainder(rest, span.size)
        rest = ew.floor_divide(rest, span.size)
        start = np.arange(span.out)
        start = start * span.stride - span.low if span.stride else start * shape[axis] // span.out
        line = tuple(-1 if a == axis else 1 for a in range(len(shape)))
        at = (creation.asarray(start.astype(np.int64)).reshape(line) + k * span.dilation) * after
        flat = at if flat is None else flat + at
        after *= shape[axis]
    assert flat is not None
    return flat


def average(x: Tensor, axes: tuple[int, ...], spans: tuple[Span, ...], counts: Sequence[np.ndarray]) -> Tensor:
    """Return the sum of every window over the product of its counts, one array per axis; integers round towards 0."""
    wide = x.astype(float32) if x.dtype.is_float and x.dtype.bits < 32 else x
    whole = all(s.out == 1 and s.low == 0 and s.size == x.shape[a] for a, s in zip(axes, spans, strict=True))
    op = Op.registry["sum"](axes, True) if whole else Op.registry["window_sum"](axes, spans)
    total = made(op(node_of(wide)), wide)
    divisor: float | Tensor = 1
    for axis, count in zip(axes, counts, strict=True):
        if count.size and (count == count[0]).all():
            divisor = divisor * int(count[0])
        else:
            line = tuple(-1 if a == axis else 1 for a in range(x.ndim))
            divisor = creation.asarray(count).astype(total.dtype).reshape(line) * divisor
    if x.dtype.is_float:
        return (total / divisor).astype(x.dtype)
    rest = ew.sign(total) * ew.remainder(ew.abs(total), ew.abs(divisor))
    return ew.floor_divide(total - rest, divisor).astype(x.dtype)


def _max_pool(
    what: str,
    count: int,
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
) -> Pooled:
    x = as_tensor(what, input)
    axes, spans = sliding(what, x, count, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    return largest(x, axes, spans, return_indices=return_indices)


def max_pool1d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """Return the largest element of every window along the last axis, NaN where there is one.

    Args:
        input: [N, C, L] or [C, L].
        kernel_size: elements of a window.
        stride: elements between windows; None: `kernel_size`.
        padding: elements before and behind the input that count as -inf, at most half a window.
        dilation: elements from one in a window to the next.
        ceil_mode: let a last window stick out behind the padding.
        return_indices: also return int64 positions of the elements found, the first of equal ones; they get the
            gradient, too.
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """Return the largest element of every window of [N, C, H, W] or [C, H, W]; arguments are those of `max_pool1d`.

    Sizes are one number or one per axis; indices count H and W flattened.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pooled:
    """Return the largest element of every window of [N, C, D, H, W] or [C, D, H, W]; see `max_pool2d`."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


max_pool1d_with_indices = partial(max_pool1d, return_indices=True)
max_pool2d_with_indices = partial(max_pool2d, return_indices=True)
max_pool3d_with_indices = partial(max_pool3d, return_indices=True)


def _avg_pool(
    what: str,
    count: int,
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    if divisor_override == 0:
        raise ConfigError(f"{what}: divisor_override is 0. Give another number, or None.")
    x = as_tensor(what, input)
    axes, spans = sliding(what, x, count, kernel_size, stride, padding, ceil_mode=ceil_mode)
    if divisor_override is not None:
        counts = [np.array([divisor_override if a == axes[0] else 1]) for a in axes]
    else:
        counts = [_counts(span, x.shape[a], pad=count_include_pad) for a, span in zip(axes, spans, strict=True)]
    return average(x, axes, spans, counts)


def _counts(span: Span, n: int, *, pad: bool) -> np.ndarray:
    """Return how many elements of every window count: those in the input, with `pad` also those in the padding."""
    start = np.arange(span.out) * span.stride - span.low
    end = start + span.size
    return np.minimum(end, n + span.low) - start if pad else np.minimum(end, n) - np.maximum(start, 0)


def avg_pool1d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the average of every window along the last axis of [N, C, L] or [C, L].

    Args:
        input: what is averaged; averages of integers are rounded towards 0.
        kernel_size: elements of a window.
        stride: elements between windows; None: `kernel_size`.
        padding: zeros before and behind the input, at most half a window.
        ceil_mode: let a last window stick out behind the padding; what sticks out does not count.
        count_include_pad: whether padding counts in what a sum is divided by.
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the average of every window of [N, C, H, W] or [C, H, W]; arguments are those of `avg_pool1d`.

    `divisor_override`, if given, is what every sum is divided by.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the average of every window of [N, C, D, H, W] or [C, D, H, W]; see `avg_pool2d`."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _lp_pool(
    what: str, count: int, input: Operand, p: float, kernel_size: Sizes, stride: Sizes | None, ceil_mode: bool
) -> Tensor:
    if p == 0:
        raise ConfigError(f"{what}: norm_type is 0. Give another number.")
    x = as_tensor(what, input)
    powers = x**p
    axes, spans = sliding(what, powers, count, kernel_size, stride, 0, ceil_mode=ceil_mode)
    counts = [_counts(span, x.shape[a], pad=True) for a, span in zip(axes, spans, strict=True)]
    mean = average(powers, axes, spans, counts)
    return (ew.sign(mean) * ew.abs(mean) * math.prod(s.size for s in spans)) ** (1 / p)


def lp_pool1d(
    input: Operand, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """Return (sum of x^p)^(1/p) of every window of [N, C, L] or [C, L], p being `norm_type`.

    A window that sticks out with `ceil_mode` is scaled up to the size of a whole one.
    """
    return _lp_pool("lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Operand, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """Return (sum of x^p)^(1/p) of every window of [N, C, H, W] or [C, H, W]; see `lp_pool1d`."""
    return _lp_pool("lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Operand, norm_type: float, kernel_size: Sizes, stride: Sizes | None = None, ceil_mode: bool = False
) -> Tensor:
    """Return (sum of x^p)^(1/p) of every window of [N, C, D, H, W] or [C, D, H, W]; see `lp_pool1d`."""
    return _lp_pool("lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode)
