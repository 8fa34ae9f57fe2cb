"""Pooling and resizing layers, named as in PyTorch. The functions are in `functional/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from treadle.tensor import Tensor

from . import functional as F
from .module import Module


class _Settings(Module):
    """A layer without parameters: a function called with the settings it was made with."""

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, input: Tensor) -> Any:
        """Return what the function makes of the input."""
        return type(self).function(input, **self.settings)

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


class _MaxPool(_Settings):
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


class AvgPool1d(_Settings):
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


class _AvgPool(_Settings):
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


class _AdaptiveAvgPool(_Settings):
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


class _AdaptiveMaxPool(_Settings):
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


class Upsample(_Settings):
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
