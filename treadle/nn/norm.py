"""Normalisation layers, named, initialised and stored as in PyTorch. The functions are in `functional/`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from treadle.core import ConfigError, ShapeError
from treadle.tensor import Tensor
from treadle.tensor.creation import asarray, empty, ones, zeros

from . import functional as F
from . import init
from .module import Module
from .parameter import Buffer, Parameter


class _Running(Module):
    """Scale and shift of channels, and running statistics beside them."""

    ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: object = "float32",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_features < 1:
            raise ConfigError(f"{type(self).__name__}: num_features is {num_features}. It must be at least 1.")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = Parameter(ones((num_features,), dtype=dtype)) if affine else None
        self.bias = Parameter(zeros((num_features,), dtype=dtype)) if affine and bias else None
        self.running_mean = Buffer(zeros((num_features,), dtype=dtype)) if track_running_stats else None
        self.running_var = Buffer(ones((num_features,), dtype=dtype)) if track_running_stats else None
        self.num_batches_tracked = Buffer(asarray(0)) if track_running_stats else None

    def reset_running_stats(self) -> None:
        """Forget the statistics."""
        for cell, value in ((self.running_mean, 0.0), (self.running_var, 1.0)):
            if cell is not None:
                init.constant_(cell, value)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.value = asarray(0)

    def reset_parameters(self) -> None:
        """Forget the statistics; scale by 1, shift by 0."""
        self.reset_running_stats()
        for cell, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if cell is not None:
                init.constant_(cell, value)

    def share(self) -> float | Tensor:
        """Count a batch; return what it counts in the running statistics: 1 / (batches so far) without a momentum."""
        if self.num_batches_tracked is not None and self.training:
            self.num_batches_tracked.value = self.num_batches_tracked.read() + 1
            if self.momentum is None:
                return 1.0 / self.num_batches_tracked.read().astype("float32")
        return 0.0 if self.momentum is None else self.momentum

    def check(self, x: Tensor) -> None:
        """Raise ShapeError unless the rank and the channels are right."""
        if x.ndim not in self.ranks:
            raise ShapeError(
                f"{type(self).__name__}: input {x.node.type!r} has {x.ndim} axes. Allowed: "
                f"{' or '.join(map(str, self.ranks))}."
            )

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_Running):
    def forward(self, input: Tensor) -> Tensor:
        """Return the input normalised: by the batch's statistics in training, else by the running ones."""
        self.check(input)
        training = self.training or self.running_mean is None
        moving = self.training and self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if moving or not training else None,
            self.running_var if moving or not training else None,
            self.weight,
            self.bias,
            training,
            self.share(),
            self.eps,
        )

    @contextmanager
    def averaging(self) -> Generator[None]:
        """Within a `with` block, let the statistics be plain means over its batches, of equal share each."""
        self.reset_running_stats()
        before, self.momentum = self.momentum, None
        try:
            yield
        finally:
            self.momentum = before


class BatchNorm1d(_BatchNorm):
    """Normalises channels of [N, C] or [N, C, L] over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalises channels of [N, C, H, W] over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalises channels of [N, C, D, H, W] over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    ranks = (5,)


class _InstanceNorm(_Running):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        dtype: object = "float32",
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype=dtype, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return every channel of every example normalised."""
        self.check(input)
        alone = input.ndim == self.ranks[0]
        x = input.reshape((1, *input.shape)) if alone else input
        own = self.training or not self.track_running_stats
        share = 0.0 if self.momentum is None else self.momentum
        y = F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, own, share, self.eps)
        return y[0] if alone else y


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each example of [N, C, L] or [C, L] (Ulyanov et al. 2016, arXiv:1607.08022)."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each example of [N, C, H, W] or [C, H, W] (Ulyanov et al. 2016)."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalises each channel of each example of [N, C, D, H, W] or [C, D, H, W] (Ulyanov et al. 2016)."""

    ranks = (4, 5)


class GroupNorm(Module):
    """Normalises groups of channels of each example (Wu and He 2018, arXiv:1803.08494)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: object = "float32",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups:
            raise ConfigError(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups.")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(ones((num_channels,), dtype=dtype)) if affine else None
        self.bias = Parameter(zeros((num_channels,), dtype=dtype)) if affine and bias else None

    def forward(self, input: Tensor) -> Tensor:
        """Return the input normalised."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the settings."""
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"


class RMSNorm(Module):
    """Divides by the root of the mean square along the last axes (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: object = "float32",
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        self.weight = Parameter(empty(shape, dtype=dtype)) if elementwise_affine else None
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return the input normalised."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class LocalResponseNorm(Module):
    """Divides each element by a power of the squares of its neighbours among the channels (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input: Tensor) -> Tensor:
        """Return the input normalised."""
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
