"""Windows of images as columns, and columns added up to images again (im2col, col2im); pixels to channels and back."""

from __future__ import annotations

import math

from treadle.core import ConfigError, DTypeError, ShapeError
from treadle.ir import Op
from treadle.ops import Span
from treadle.tensor import Tensor, made, node_of
from treadle.tensor.promotion import Operand, as_tensor

from .windows import Sizes, at_least, per_axis


def _spans(
    what: str, lengths: tuple[int, ...], kernel_size: Sizes, dilation: Sizes, padding: Sizes, stride: Sizes
) -> tuple[Span, ...]:
    """Return the windows along H and W."""
    kernel, apart = per_axis(what, "kernel_size", kernel_size, 2), per_axis(what, "dilation", dilation, 2)
    pad, step = per_axis(what, "padding", padding, 2), per_axis(what, "stride", stride, 2)
    at_least(what, 1, kernel_size=kernel, dilation=apart, stride=step)
    at_least(what, 0, padding=pad)
    spans: list[Span] = []
    for n, k, d, p, s in zip(lengths, kernel, apart, pad, step, strict=True):
        out = (n + 2 * p - d * (k - 1) - 1) // s + 1
        if out < 1:
            raise ShapeError(
                f"{what}: windows of {k} elements, {d} apart, do not fit {n} elements with padding {p}. Make the "
                "kernel smaller or the image larger."
            )
        spans.append(Span(k, s, d, p, out))
    return tuple(spans)


def unfold(input: Operand, kernel_size: Sizes, dilation: Sizes = 1, padding: Sizes = 0, stride: Sizes = 1) -> Tensor:
    """Return the windows of images as columns: [N, C * kH * kW, L], or without N, for L windows.

    Args:
        input: [N, C, H, W] or [C, H, W].
        kernel_size: elements of a window, one number or one per axis; likewise
        dilation: elements from one in a window to the next.
        padding: zeros around the image.
        stride: elements between windows.
    """
    what = "unfold"
    x = as_tensor(what, input)
    if x.ndim not in (3, 4) or 0 in x.shape[-3:]:
        raise ShapeError(f"{what}: input {x.node.type!r} must be [N, C, H, W] or [C, H, W], and only N may be 0.")
    images = x if x.ndim == 4 else x.reshape((1, *x.shape))
    spans = _spans(what, images.shape[2:], kernel_size, dilation, padding, stride)
    windows = made(Op.registry["windows"]((2, 3), spans)(node_of(images)), images)
    n, c = images.shape[:2]
    size, count = math.prod(s.size for s in spans), math.prod(s.out for s in spans)
    columns = windows.permute(0, 1, 4, 5, 2, 3).reshape((n, c * size, count))
    return columns if x.ndim == 4 else columns[0]


def fold(
    input: Operand,
    output_size: Sizes,
    kernel_size: Sizes,
    dilation: Sizes = 1,
    padding: Sizes = 0,
    stride: Sizes = 1,
) -> Tensor:
    """Return images [N, C, H, W], or without N, whose elements are the sums of their copies in columns.

    Args:
        input: [N, C * kH * kW, L] or [C * kH * kW, L], as `unfold` returns it.
        output_size: H and W.
        kernel_size: that of `unfold`; likewise
        dilation: elements from one in a window to the next.
        padding: zeros around the image, dropped.
        stride: elements between windows.
    """
    what = "fold"
    x = as_tensor(what, input)
    size = per_axis(what, "output_size", output_size, 2)
    at_least(what, 1, output_size=size)
    spans = _spans(what, size, kernel_size, dilation, padding, stride)
    (kh, oh), (kw, ow) = ((s.size, s.out) for s in spans)
    if x.ndim not in (2, 3) or 0 in x.shape[-2:] or x.shape[-2] % (kh * kw) or x.shape[-1] != oh * ow:
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [N, C * {kh * kw}, {oh * ow}], or without N: {kh} x {kw} elements "
            f"of {oh} x {ow} windows. Check the arguments against those of unfold."
        )
    if x.dtype.name == "bool":
        raise DTypeError(f"{what}: adds numbers, not truth values. Convert with astype().")
    columns = x if x.ndim == 3 else x.reshape((1, *x.shape))
    n, c = columns.shape[0], columns.shape[1] // (kh * kw)
    windows = columns.reshape((n, c, kh, kw, oh, ow)).permute(0, 1, 4, 5, 2, 3)
    images = made(Op.registry["windows_add"]((2, 3), spans, size)(node_of(windows)), windows)
    return images if x.ndim == 3 else images[0]


def pixel_shuffle(input: Operand, upscale_factor: int) -> Tensor:
    """Return [..., C, H r, W r] from [..., C r^2, H, W]: channels become blocks of pixels (Shi et al. 2016)."""
    what, r = "pixel_shuffle", upscale_factor
    x = as_tensor(what, input)
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [..., C, H, W] with C a multiple of upscale_factor^2, {r * r}, the "
            "factor being at least 1."
        )
    *lead, c, h, w = x.shape
    k = len(lead)
    blocks = x.reshape((*lead, c // (r * r), r, r, h, w))
    return blocks.permute(*range(k), k, k + 3, k + 1, k + 4, k + 2).reshape((*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Operand, downscale_factor: int) -> Tensor:
    """Return [..., C r^2, H, W] from [..., C, H r, W r]: blocks of pixels become channels."""
    what, r = "pixel_unshuffle", downscale_factor
    x = as_tensor(what, input)
    if x.ndim < 3 or r < 1 or x.shape[-2] % r or x.shape[-1] % r:
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [..., C, H, W] with H and W multiples of downscale_factor, {r}, "
            "which must be at least 1."
        )
    *lead, c, h, w = x.shape
    k = len(lead)
    blocks = x.reshape((*lead, c, h // r, r, w // r, r))
    return blocks.permute(*range(k), k, k + 2, k + 4, k + 1, k + 3).reshape((*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Operand, groups: int) -> Tensor:
    """Return [N, C, ...] with channels dealt out: the first of every group, then the second of every group, ..."""
    what = "channel_shuffle"
    x = as_tensor(what, input)
    if x.ndim < 3 or groups < 1 or x.shape[1] % groups:
        raise ConfigError(
            f"{what}: input {x.node.type!r} must be [N, C, ...] with 3 axes or more, and groups, {groups}, divide C."
        )
    n, c, *rest = x.shape
    apart = x.reshape((n, groups, c // groups, *rest))
    return apart.swapaxes(1, 2).reshape(x.shape)


native_channel_shuffle = channel_shuffle
