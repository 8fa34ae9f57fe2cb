"""Layers that move elements between channels and places: folding, pixel and channel shuffling."""

from __future__ import annotations

from typing import Any

from . import functional as F
from .stateless import Stateless


class Unfold(Stateless):
    """The windows of [N, C, H, W] as columns, [N, C * kH * kW, L]."""

    function = F.unfold

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        super().__init__(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)


class Fold(Stateless):
    """Images [N, C, H, W] whose elements are the sums of their copies in columns [N, C * kH * kW, L]."""

    function = F.fold

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__(
            output_size=output_size, kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride
        )


class PixelShuffle(Stateless):
    """[..., C, H r, W r] from [..., C r^2, H, W], r being `upscale_factor` (Shi et al. 2016, arXiv:1609.05158)."""

    function = F.pixel_shuffle

    def __init__(self, upscale_factor: int) -> None:
        super().__init__(upscale_factor=upscale_factor)


class PixelUnshuffle(Stateless):
    """[..., C r^2, H, W] from [..., C, H r, W r], r being `downscale_factor`."""

    function = F.pixel_unshuffle

    def __init__(self, downscale_factor: int) -> None:
        super().__init__(downscale_factor=downscale_factor)


class ChannelShuffle(Stateless):
    """[N, C, ...] with channels dealt out: the first of every group, then the second (Zhang et al. 2018)."""

    function = F.channel_shuffle

    def __init__(self, groups: int) -> None:
        super().__init__(groups=groups)
