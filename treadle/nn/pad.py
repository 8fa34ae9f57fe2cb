"""Padding layers: one for each number of axes and mode of `functional.pad`."""

from __future__ import annotations

from typing import ClassVar

from treadle.core import ConfigError
from treadle.tensor import Tensor

from . import functional as F
from .functional.windows import Sizes
from .module import Module


class _Pad(Module):
    """Padding of the last `num_axes` axes; `padding` is one width, or one for either end of each, last axis first."""

    num_axes: ClassVar[int]
    mode: ClassVar[str] = "constant"

    def __init__(self, padding: Sizes, value: float | None = None) -> None:
        super().__init__()
        count = 2 * self.num_axes
        self.padding = (padding,) * count if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != count:
            raise ConfigError(f"{type(self).__name__}: padding is {padding}. Give one width, or {count}.")
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with elements added around it."""
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.padding}" if self.value is None else f"padding={self.padding}, value={self.value}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding, value)


class _OwnPad(_Pad):
    """Padding that needs no value."""

    def __init__(self, padding: Sizes) -> None:
        super().__init__(padding)


class ConstantPad1d(_ConstantPad):
    """The input with `value` added at the ends of its last axis."""

    num_axes = 1


class ConstantPad2d(_ConstantPad):
    """The input with `value` added at the ends of its last two axes."""

    num_axes = 2


class ConstantPad3d(_ConstantPad):
    """The input with `value` added at the ends of its last three axes."""

    num_axes = 3


class ZeroPad1d(_OwnPad):
    """The input with zeros added at the ends of its last axis."""

    num_axes = 1


class ZeroPad2d(_OwnPad):
    """The input with zeros added at the ends of its last two axes."""

    num_axes = 2


class ZeroPad3d(_OwnPad):
    """The input with zeros added at the ends of its last three axes."""

    num_axes = 3


class ReflectionPad1d(_OwnPad):
    """[N, C, L] mirrored at the ends of its last axis."""

    num_axes = 1
    mode = "reflect"


class ReflectionPad2d(_OwnPad):
    """[N, C, H, W] mirrored at the ends of its last two axes."""

    num_axes = 2
    mode = "reflect"


class ReflectionPad3d(_OwnPad):
    """[N, C, D, H, W] mirrored at the ends of its last three axes."""

    num_axes = 3
    mode = "reflect"


class ReplicationPad1d(_OwnPad):
    """[N, C, L] with the end elements of its last axis repeated."""

    num_axes = 1
    mode = "replicate"


class ReplicationPad2d(_OwnPad):
    """[N, C, H, W] with the end elements of its last two axes repeated."""

    num_axes = 2
    mode = "replicate"


class ReplicationPad3d(_OwnPad):
    """[N, C, D, H, W] with the end elements of its last three axes repeated."""

    num_axes = 3
    mode = "replicate"


class CircularPad1d(_OwnPad):
    """[N, C, L] that goes on from the other end at the ends of its last axis."""

    num_axes = 1
    mode = "circular"


class CircularPad2d(_OwnPad):
    """[N, C, H, W] that goes on from the other end at the ends of its last two axes."""

    num_axes = 2
    mode = "circular"


class CircularPad3d(_OwnPad):
    """[N, C, D, H, W] that goes on from the other end at the ends of its last three axes."""

    num_axes = 3
    mode = "circular"
