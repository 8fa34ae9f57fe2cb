"""Pooling, unpooling and resizing layers, named as in PyTorch. The functions are in `functional/`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from treadle.tensor import Tensor

from . import functional as F
from .functional.fractional_pool import check_sizes
from .stateless import Stateless


class _MaxPool(Stateless):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
            return_indices=return_indices,
        )


class MaxPool1d(_MaxPool):
    """The largest element of every window of [N, C, L]."""

    function = F.max_pool1d


class MaxPool2d(_MaxPool):
    """The largest element of every window of [N, C, H, W]."""

    function = F.max_pool2d


class MaxPool3d(_MaxPool):
    """The largest element of every window of [N, C, D, H, W]."""

    function = F.max_pool3d


class AvgPool1d(Stateless):
    """The mean of every window of [N, C, L]."""

    function = F.avg_pool1d

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        )


class _AvgPool(Stateless):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


class AvgPool2d(_AvgPool):
    """The mean of every window of [N, C, H, W]."""

    function = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of every window of [N, C, D, H, W]."""

    function = F.avg_pool3d


class _AdaptiveAvgPool(Stateless):
    def __init__(self, output_size: Any) -> None:
        super().__init__(output_size=output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of `output_size` windows that cover the last axis."""

    function = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of `output_size` windows that cover the last two axes."""

    function = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of `output_size` windows that cover the last three axes."""

    function = F.adaptive_avg_pool3d


class _AdaptiveMaxPool(Stateless):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows that cover the last axis."""

    function = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows that cover the last two axes."""

    function = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of `output_size` windows that cover the last three axes."""

    function = F.adaptive_max_pool3d


class _LPPool(Stateless):
    def __init__(self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> None:
        super().__init__(norm_type=norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode)


class LPPool1d(_LPPool):
    """The p-norm, p being `norm_type`, of every window of [N, C, L]."""

    function = F.lp_pool1d


class LPPool2d(_LPPool):
    """The p-norm, p being `norm_type`, of every window of [N, C, H, W]."""

    function = F.lp_pool2d


class LPPool3d(_LPPool):
    """The p-norm, p being `norm_type`, of every window of [N, C, D, H, W]."""

    function = F.lp_pool3d


class _FractionalMaxPool(Stateless):
    num_axes: ClassVar[int]

    def __init__(
        self,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        check_sizes(type(self).__name__, self.num_axes, output_size, output_ratio)
        super().__init__(
            kernel_size=kernel_size,
            output_size=output_size,
            output_ratio=output_ratio,
            return_indices=return_indices,
            _random_samples=_random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest element of windows of [N, C, H, W] that start at random places in order (Graham 2014)."""

    num_axes = 2
    function = F.fractional_max_pool2d


class FractionalMaxPool3d(_FractionalMaxPool):
    """The largest element of windows of [N, C, D, H, W] that start at random places in order (Graham 2014)."""

    num_axes = 3
    function = F.fractional_max_pool3d


class _MaxUnpool(Stateless):
    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size=kernel_size, stride=stride, padding=padding)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return zeros with the input where the indices say, of size `output_size` if given."""
        return super().forward(input, indices, output_size=output_size)


class MaxUnpool1d(_MaxUnpool):
    """The way back from MaxPool1d: zeros with every element of [N, C, L] where it was found."""

    function = F.max_unpool1d


class MaxUnpool2d(_MaxUnpool):
    """The way back from MaxPool2d: zeros with every element of [N, C, H, W] where it was found."""

    function = F.max_unpool2d


class MaxUnpool3d(_MaxUnpool):
    """The way back from MaxPool3d: zeros with every element of [N, C, D, H, W] where it was found."""

    function = F.max_unpool3d


class Upsample(Stateless):
    """The input in another size; see `functional.interpolate`."""

    function = F.interpolate

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__(
            size=size,
            scale_factor=scale_factor,
            mode=mode,
            align_corners=align_corners,
            recompute_scale_factor=recompute_scale_factor,
        )


class UpsamplingNearest2d(Stateless):
    """[N, C, H, W] in another size, each element the nearest old one; see `Upsample`."""

    function = F.upsample_nearest

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size=size, scale_factor=scale_factor)


class UpsamplingBilinear2d(Stateless):
    """[N, C, H, W] in another size by bilinear interpolation, corners staying where they are; see `Upsample`."""

    function = F.upsample_bilinear

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size=size, scale_factor=scale_factor)
