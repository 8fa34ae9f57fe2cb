"""Layers that find out a size when they are first called; from then on they are the plain layer of that size."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor, set_grad_enabled, tracing
from treadle.tensor.creation import zeros
from treadle.tensor.promotion import as_tensor

from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .layers import Linear
from .module import Module
from .norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .parameter import Buffer, Parameter, Uninitialized, UninitializedBuffer, UninitializedParameter


class LazyModule(Module):
    """Base of lazy layers, beside the plain one: `class LazyLinear(LazyModule, Linear)`.

    It takes the arguments of the plain class except for the first, a size. That is the size of the first call's input
    along `axis`; then its parameters and buffers, the same objects as before, get their shapes and values, and its
    class becomes the plain one.

    Before that call there is nothing to train or to save: make optimisers after it. A state dict that is loaded before
    gives the values; the call is needed all the same.
    """

    axis: ClassVar[int]
    plain: ClassVar[type[Module]]
    size: ClassVar[str]  # the name of the plain class's first argument, and of its attribute

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if len(cls.__bases__) < 2:  # a base of several lazy layers
            return
        cls.plain = cls.__bases__[-1]
        signature = inspect.signature(cls.plain)
        cls.size, *others = signature.parameters
        if cls.__init__ is LazyModule.__init__:
            cls.__signature__ = signature.replace(parameters=[signature.parameters[name] for name in others])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._settings = args, kwargs
        # The plain layer of the smallest size has all settings, checked; convolutions want a channel for each group.
        try:
            given = inspect.signature(self.plain).bind(1, *args, **kwargs).arguments
        except TypeError as error:
            raise ConfigError(
                f"{type(self).__name__}: {error}. The arguments are those of {self.plain.__name__} without {self.size}."
            ) from None
        plain: Any = self.plain
        plain.__init__(self, max(1, given.get("groups", 1)), *args, **kwargs)
        self.__dict__[self.size] = 0
        for name, cell in self._floats().items():
            self.__dict__[name] = _without_shape(cell)

    def _floats(self) -> dict[str, Parameter | Buffer]:
        """Return the parameters and buffers that depend on the size: those of floats."""
        own = self.named_cells(recurse=False, shared=True)
        return {name: cell for name, cell in own if isinstance(cell, Uninitialized) or cell.dtype.is_float}

    def has_uninitialized_params(self) -> bool:
        """Whether parameters or buffers have no shape yet."""
        return any(isinstance(cell, Uninitialized) for cell in self._floats().values())

    def reset_parameters(self) -> None:
        """Do nothing: values are drawn once the shapes are known."""

    def initialize_parameters(self, input: Any) -> None:
        """Give parameters and buffers the shapes that fit an input, and become the plain layer.

        Raises:
            ShapeError: the layer does not take such an input, or a state dict that was loaded does not fit it. Then
                nothing is changed.
        """
        with tracing(None):  # also in a compiled function: what a layer starts with is none of its results
            x = as_tensor(type(self).__name__, input)
            args, kwargs = self._settings
            if x.ndim < -self.axis:
                raise ShapeError(
                    f"{type(self).__name__}: input {x.node.type!r} has no axis {self.axis}, whose size is {self.size}."
                )
            plain: Any = self.plain
            made: Module = plain(x.shape[self.axis], *args, **kwargs)
            with set_grad_enabled(False):
                made.eval()(zeros(x.shape, dtype=x.dtype))  # raises where the plain layer would; computes nothing
            self._take_over(made)
        for name in ("_settings", self.size):
            self.__dict__.pop(name)
        self.__dict__[self.size] = x.shape[self.axis]
        self.__class__ = plain

    def _take_over(self, made: Module) -> None:
        """Get the values of a plain layer, except where a state dict gave them."""
        own = self._floats()
        loaded = {name: cell for name, cell in own.items() if not isinstance(cell, Uninitialized)}
        for name, cell in loaded.items():
            wanted: Parameter | Buffer = getattr(made, name)
            if cell.shape != wanted.shape:
                raise ShapeError(
                    f"{type(self).__name__}: {name} was loaded as {list(cell.shape)}, and this input needs "
                    f"{list(wanted.shape)}. Use the model that the state dict belongs to."
                )
        for name, cell in own.items():
            if isinstance(cell, Uninitialized):
                value: Tensor = getattr(made, name).detach()
                cell.materialize(value.shape)
                self.__dict__[name].value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else next(iter(kwargs.values()), None)
        self.initialize_parameters(first)
        return self(*args, **kwargs)


def _without_shape(cell: Parameter | Buffer) -> UninitializedParameter | UninitializedBuffer:
    if isinstance(cell, Parameter):
        return UninitializedParameter(cell.requires_grad, dtype=cell.dtype)
    return UninitializedBuffer(dtype=cell.dtype, persistent=cell.persistent)


class LazyLinear(LazyModule, Linear):
    """A Linear whose `in_features` is the size of the first input's last axis."""

    axis = -1


class LazyConv1d(LazyModule, Conv1d):
    """A Conv1d whose `in_channels` is found at the first call."""

    axis = -2


class LazyConv2d(LazyModule, Conv2d):
    """A Conv2d whose `in_channels` is found at the first call."""

    axis = -3


class LazyConv3d(LazyModule, Conv3d):
    """A Conv3d whose `in_channels` is found at the first call."""

    axis = -4


class LazyConvTranspose1d(LazyModule, ConvTranspose1d):
    """A ConvTranspose1d whose `in_channels` is found at the first call."""

    axis = -2


class LazyConvTranspose2d(LazyModule, ConvTranspose2d):
    """A ConvTranspose2d whose `in_channels` is found at the first call."""

    axis = -3


class LazyConvTranspose3d(LazyModule, ConvTranspose3d):
    """A ConvTranspose3d whose `in_channels` is found at the first call."""

    axis = -4


class LazyBatchNorm1d(LazyModule, BatchNorm1d):
    """A BatchNorm1d whose `num_features` is found at the first call."""

    axis = 1


class LazyBatchNorm2d(LazyModule, BatchNorm2d):
    """A BatchNorm2d whose `num_features` is found at the first call."""

    axis = 1


class LazyBatchNorm3d(LazyModule, BatchNorm3d):
    """A BatchNorm3d whose `num_features` is found at the first call."""

    axis = 1


class _LazyInstanceNorm(LazyModule):
    """What lazy instance norms share: as in PyTorch, other defaults than those of the plain ones."""

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: object = "float32",
        bias: bool = True,
    ) -> None:
        super().__init__(eps, momentum, affine, track_running_stats, dtype=dtype, bias=bias)


class LazyInstanceNorm1d(_LazyInstanceNorm, InstanceNorm1d):
    """An InstanceNorm1d whose `num_features` is found at the first call; it scales and tracks statistics by default."""

    axis = -2


class LazyInstanceNorm2d(_LazyInstanceNorm, InstanceNorm2d):
    """An InstanceNorm2d whose `num_features` is found at the first call; it scales and tracks statistics by default."""

    axis = -3


class LazyInstanceNorm3d(_LazyInstanceNorm, InstanceNorm3d):
    """An InstanceNorm3d whose `num_features` is found at the first call; it scales and tracks statistics by default."""

    axis = -4
