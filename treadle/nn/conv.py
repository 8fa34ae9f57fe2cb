"""Convolution layers, named, initialised and stored as in PyTorch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import empty

from . import functional as F
from . import init
from .functional.conv import Sizes, check_groups, per_axis, same_padding
from .module import Module
from .parameter import Parameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What all convolution layers share: settings, parameters and how they start."""

    num_axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        dilation: Sizes,
        groups: int,
        *,
        weight: tuple[int, int],
        bias: bool,
        dtype: object,
    ) -> None:
        super().__init__()
        what, count = type(self).__name__, self.num_axes
        for name, size in (("in_channels", in_channels), ("out_channels", out_channels)):
            if size < 1:
                raise ConfigError(f"{what}: {name} is {size}. It must be at least 1.")
        check_groups(what, groups, in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(what, "kernel_size", kernel_size, count, least=1)
        self.stride = per_axis(what, "stride", stride, count, least=1)
        self.dilation = per_axis(what, "dilation", dilation, count, least=1)
        self.weight = Parameter(empty((weight[0], weight[1] // groups, *self.kernel_size), dtype=dtype))
        self.bias = Parameter(empty((out_channels,), dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly within 1 / sqrt(fan_in)."""
        fan_in, _ = init.fans(type(self).__name__, self.weight)
        init.uniform_(self.weight, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        if self.bias is not None:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def described(self, **more: object) -> str:
        """Return the settings that are not the usual ones, as PyTorch shows them."""
        words = [f"{self.in_channels}, {self.out_channels}", f"kernel_size={self.kernel_size}", f"stride={self.stride}"]
        words += [f"{name}={value}" for name, value in more.items() if value not in (0, (0,) * self.num_axes)]
        if self.dilation != (1,) * self.num_axes:
            words.append(f"dilation={self.dilation}")
        if self.groups != 1:
            words.append(f"groups={self.groups}")
        if self.bias is None:
            words.append("bias=False")
        return ", ".join(words)


class _Conv(_Convolution):
    """A convolution, with the padding it does itself."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            groups,
            weight=(out_channels, in_channels),
            bias=bias,
            dtype=dtype,
        )
        what = type(self).__name__
        if padding_mode not in PADDING_MODES:
            raise ConfigError(f"{what}: padding_mode is {padding_mode!r}. Allowed: {', '.join(PADDING_MODES)}.")
        if isinstance(padding, str):
            if padding not in ("valid", "same"):
                raise ConfigError(f"{what}: padding is {padding!r}. Allowed: numbers, 'valid' and 'same'.")
            if padding == "same" and self.stride != (1,) * self.num_axes:
                raise ConfigError(f"{what}: padding='same' with stride {stride!r}. It is for stride 1; give numbers.")
            self.padding: tuple[int, ...] | str = padding
        else:
            self.padding = per_axis(what, "padding", padding, self.num_axes, least=0)
        self.padding_mode = padding_mode

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of [N, C, ...] or [C, ...]."""
        padding = self.padding
        if self.padding_mode != "zeros":
            ends = reversed(list(zip(*self.widths(), strict=True)))
            input = F.pad(input, [width for both in ends for width in both], self.padding_mode)
            padding = 0
        return type(self).function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def widths(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many elements are put before and after every axis."""
        if self.padding == "same":
            return same_padding(self.kernel_size, self.dilation)
        width = (0,) * self.num_axes if isinstance(self.padding, str) else self.padding
        return width, width

    def extra_repr(self) -> str:
        """Return the settings."""
        mode = {} if self.padding_mode == "zeros" else {"padding_mode": self.padding_mode}
        return self.described(padding=self.padding, **mode)


class Conv1d(_Conv):
    """Convolution of [N, C, L] with a weight [out_channels, in_channels / groups, taps], plus a bias."""

    num_axes = 1
    function = F.conv1d


class Conv2d(_Conv):
    """Convolution of [N, C, H, W] with a weight [out_channels, in_channels / groups, taps, taps], plus a bias."""

    num_axes = 2
    function = F.conv2d


class Conv3d(_Conv):
    """Convolution of [N, C, D, H, W] with a weight [out_channels, in_channels / groups, 3 x taps], plus a bias."""

    num_axes = 3
    function = F.conv3d


class _ConvTranspose(_Convolution):
    """A transposed convolution: a convolution's way back, from its results' size to that of its input."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation,
            groups,
            weight=(in_channels, out_channels),
            bias=bias,
            dtype=dtype,
        )
        what = type(self).__name__
        if padding_mode != "zeros":
            raise ConfigError(f"{what}: padding_mode is {padding_mode!r}. Only 'zeros' makes sense here.")
        self.padding = per_axis(what, "padding", padding, self.num_axes, least=0)
        self.output_padding = per_axis(what, "output_padding", output_padding, self.num_axes, least=0)
        self.padding_mode = padding_mode

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the transposed convolution of [N, C, ...] or [C, ...], of spatial size `output_size` if given."""
        more = self.output_padding if output_size is None else self._padding_for(input, output_size)
        return type(self).function(
            input, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _padding_for(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, ...]:
        """Return the output padding that gives the wanted spatial sizes."""
        what, count = type(self).__name__, self.num_axes
        wanted = tuple(output_size)[-count:]
        sizes = zip(input.shape[-count:], self.stride, self.padding, self.dilation, self.kernel_size, strict=True)
        least = [(size - 1) * s - 2 * p + d * (t - 1) + 1 for size, s, p, d, t in sizes]
        most = [n + s - 1 for n, s in zip(least, self.stride, strict=True)]
        given = len(output_size) in (count, count + 2, input.ndim)
        if not given or any(not a <= n <= b for a, n, b in zip(least, wanted, most, strict=True)):
            raise ShapeError(
                f"{what}: output_size is {tuple(output_size)} for an input of shape {list(input.shape)}. Its spatial "
                f"sizes must be at least {tuple(least)} and at most {tuple(most)}."
            )
        return tuple(n - a for n, a in zip(wanted, least, strict=True))

    def extra_repr(self) -> str:
        """Return the settings."""
        return self.described(padding=self.padding, output_padding=self.output_padding)


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of [N, C, L] with a weight [in_channels, out_channels / groups, taps], plus a bias."""

    num_axes = 1
    function = F.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of [N, C, H, W]; weight [in_channels, out_channels / groups, taps, taps], and a bias."""

    num_axes = 2
    function = F.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of [N, C, D, H, W]; weight [in_channels, out_channels / groups, 3 x taps], and a bias."""

    num_axes = 3
    function = F.conv_transpose3d
