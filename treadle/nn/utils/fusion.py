"""Batch normalisation taken into the layer in front of it: in inference, it is a scale and a shift of its outputs."""

from __future__ import annotations

import copy
from typing import TypeVar

from treadle.core import ConfigError, ShapeError
from treadle.nn.conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from treadle.nn.layers import Linear
from treadle.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from treadle.nn.parameter import Parameter
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.creation import ones, zeros
from treadle.tensor.elementwise import rsqrt
from treadle.tensor.promotion import Operand, as_tensor

Convolution = Conv1d | Conv2d | Conv3d | ConvTranspose1d | ConvTranspose2d | ConvTranspose3d
BatchNorm = BatchNorm1d | BatchNorm2d | BatchNorm3d
ConvT = TypeVar("ConvT", bound=Convolution)


def fuse_conv_bn_eval(conv: ConvT, bn: BatchNorm, transpose: bool = False) -> ConvT:
    """Return a copy of a convolution that does what it and the normalisation behind it do in inference.

    Args:
        conv: in `eval()`.
        bn: in `eval()`, with running statistics.
        transpose: the convolution is a transposed one, whose weight is [in, out, ...].
    """
    mean, var = _statistics("fuse_conv_bn_eval", conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, var, bn.eps, bn.weight, bn.bias, transpose
    )
    return fused


def fuse_conv_bn_weights(
    conv_w: Operand,
    conv_b: Operand | None,
    bn_rm: Operand,
    bn_rv: Operand,
    bn_eps: float,
    bn_w: Operand | None,
    bn_b: Operand | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """Return weight and bias of the convolution that `fuse_conv_bn_eval` makes.

    Args:
        conv_w: [out, in, ...], or [in, out, ...] of a transposed convolution.
        conv_b: [out] or None.
        bn_rm: the running mean, [out].
        bn_rv: the running variance, [out].
        bn_eps: what is added to the variance.
        bn_w: the scale, [out] or None.
        bn_b: the shift, [out] or None.
        transpose: whether the weight is a transposed convolution's.
    """
    return _fused("fuse_conv_bn_weights", conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, axis=int(transpose))


def fuse_linear_bn_eval(linear: Linear, bn: BatchNorm) -> Linear:
    """Return a copy of a linear layer that does what it and the normalisation behind it do in inference.

    Args:
        linear: in `eval()`.
        bn: in `eval()`, with running statistics, for as many features as the layer puts out; or one, for a layer that
            puts out one.
    """
    mean, var = _statistics("fuse_linear_bn_eval", linear, bn)
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(linear.weight, linear.bias, mean, var, bn.eps, bn.weight, bn.bias)
    return fused


def fuse_linear_bn_weights(
    linear_w: Operand,
    linear_b: Operand | None,
    bn_rm: Operand,
    bn_rv: Operand,
    bn_eps: float,
    bn_w: Operand | None,
    bn_b: Operand | None,
) -> tuple[Parameter, Parameter]:
    """Return weight and bias of the layer that `fuse_linear_bn_eval` makes; see `fuse_conv_bn_weights`."""
    return _fused("fuse_linear_bn_weights", linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, axis=0)


def _statistics(what: str, layer: Convolution | Linear, bn: BatchNorm) -> tuple[Tensor, Tensor]:
    if layer.training or bn.training:
        raise ConfigError(f"{what}: layers are in training, with statistics of each batch. Call eval() first.")
    if bn.running_mean is None or bn.running_var is None:
        raise ConfigError(f"{what}: the normalisation has no running statistics. It needs track_running_stats=True.")
    return bn.running_mean.read(), bn.running_var.read()


def _fused(
    what: str,
    weight: Operand,
    bias: Operand | None,
    mean: Operand,
    var: Operand,
    eps: float,
    scale: Operand | None,
    shift: Operand | None,
    *,
    axis: int,
) -> tuple[Parameter, Parameter]:
    """Return weight and bias with the scale of the normalisation along the axis of outputs, and its shift."""
    w, m, v = (as_tensor(what, given) for given in (weight, mean, var))
    if m.shape != (w.shape[axis],) or v.shape != m.shape:
        raise ShapeError(
            f"{what}: {w.shape[axis]} outputs are normalised by a mean {m.node.type!r} and a variance "
            f"{v.node.type!r}. They must have one number for each output."
        )
    with set_grad_enabled(False):
        factor = rsqrt(v + eps) * (ones(m.shape, dtype=m.dtype) if scale is None else as_tensor(what, scale))
        b = zeros(m.shape, dtype=w.dtype) if bias is None else as_tensor(what, bias)
        moved = (b - m) * factor + (0.0 if shift is None else as_tensor(what, shift))
        line = [1] * w.ndim
        line[axis] = -1
        fused = (w * factor.reshape(line)).astype(w.dtype)
    return Parameter(fused), Parameter(moved.astype(b.dtype))
