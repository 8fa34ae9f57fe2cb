"""Normalisation by statistics of a batch, or of each example, per channel, with running averages kept beside."""

from __future__ import annotations

import math

from treadle.core import ConfigError, DType, DTypeError, ShapeError
from treadle.ir import Op, results
from treadle.ops import sum_dtype
from treadle.tensor import Cell, Tensor, creation, made, node_of
from treadle.tensor.promotion import Operand, as_tensor


def batch_norm(
    input: Operand,
    running_mean: Operand | None,
    running_var: Operand | None,
    weight: Operand | None = None,
    bias: Operand | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with every channel at mean 0 and variance 1, then scaled and shifted (Ioffe and Szegedy 2015).

    Args:
        input: [N, C] or [N, C, ...].
        running_mean: [C]; in training, when it is a Buffer, it becomes (1 - momentum) itself + momentum times the mean.
        running_var: [C]; likewise for the unbiased variance.
        weight: [C], what channels are multiplied with.
        bias: [C], what is added to them.
        training: whether to take mean and variance of the batch; else the running ones.
        momentum: share of the new statistics in the running ones.
        eps: added to the variance.
    """
    what = "batch_norm"
    x = _floats(what, input)
    if x.shape == (0,):
        return x  # as in PyTorch: nothing at all needs no channels
    if x.ndim < 2:
        raise ShapeError(f"{what}: input {x.node.type!r} must be [N, C] or [N, C, ...]. Reshape it.")
    channels, wide = x.shape[1], sum_dtype(x.dtype)
    w = _of_channels(what, "weight", weight, channels, wide)
    b = _of_channels(what, "bias", bias, channels, wide)
    if not training:
        if running_mean is None or running_var is None:
            raise ConfigError(
                f"{what}: outside of training running_mean and running_var are needed. Give both, or training=True."
            )
        mean = _of_channels(what, "running_mean", running_mean, channels, wide)
        var = _of_channels(what, "running_var", running_var, channels, wide)
        assert mean is not None
        assert var is not None
        scale = (var + eps).rsqrt() if w is None else (var + eps).rsqrt() * w
        shift = -mean * scale if b is None else b - mean * scale
        line = (channels,) + (1,) * (x.ndim - 2)
        return (x.astype(wide) * scale.reshape(line) + shift.reshape(line)).astype(x.dtype)
    count = x.size // max(channels, 1)
    _check_many(what, x, count)
    w = creation.ones((channels,), dtype=wide) if w is None else w
    b = creation.zeros((channels,), dtype=wide) if b is None else b
    node = Op.registry["batch_norm"](1, float(eps))(node_of(x), node_of(w), node_of(b))
    y, mean, var = (made(n, x, w, b) for n in results(node))
    if count:
        _move(running_mean, mean, momentum)
        _move(running_var, var * (count / (count - 1)), momentum)
    return y


def instance_norm(
    input: Operand,
    running_mean: Operand | None = None,
    running_var: Operand | None = None,
    weight: Operand | None = None,
    bias: Operand | None = None,
    use_input_stats: bool = True,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Return the input with every channel of every example at mean 0 and variance 1, then scaled and shifted.

    The input is [N, C, ...]; other arguments are those of `batch_norm`. `use_input_stats` False takes the running
    statistics; otherwise they move, when they are Buffers, towards the averages of all examples.
    """
    what = "instance_norm"
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ConfigError(f"{what}: running_mean and running_var are needed. Give both, or use_input_stats=True.")
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    x = _floats(what, input)
    if x.ndim < 3:
        raise ShapeError(f"{what}: input {x.node.type!r} must be [N, C, ...]. Add the axes that are missing.")
    axes, channels, wide = tuple(range(2, x.ndim)), x.shape[1], sum_dtype(x.dtype)
    count = math.prod(x.shape[2:])
    _check_many(what, x, count)
    full = x.astype(wide)
    y, mean, var = (made(n, full) for n in results(Op.registry["standardize"](axes, float(eps))(node_of(full))))
    y = affine(what, y, weight, bias).astype(x.dtype)
    for running, found in ((running_mean, mean), (running_var, var * (count / (count - 1) if count > 1 else math.nan))):
        if running is not None:
            _move(running, found.reshape((x.shape[0], channels)).mean(axis=0), momentum)
    return y


def affine(what: str, y: Tensor, weight: Operand | None, bias: Operand | None) -> Tensor:
    """Return [N, C, ...] with every channel multiplied with its weight, its bias added."""
    line = (y.shape[1],) + (1,) * (y.ndim - 2)
    w = _of_channels(what, "weight", weight, y.shape[1], y.dtype)
    b = _of_channels(what, "bias", bias, y.shape[1], y.dtype)
    if w is not None:
        y = y * w.reshape(line)
    return y if b is None else y + b.reshape(line)


def _floats(what: str, input: Operand) -> Tensor:
    x = as_tensor(what, input)
    if not x.dtype.is_float:
        raise DTypeError(f"{what}: input has dtype {x.dtype.name}. It must be a float; convert with astype().")
    return x


def _check_many(what: str, x: Tensor, count: int) -> None:
    """Raise ShapeError where there is one value per channel: its variance is 0, which teaches nothing."""
    if count == 1:
        raise ShapeError(
            f"{what}: input {x.node.type!r} has one value per channel to take statistics of. Give more than one, or "
            "use running statistics."
        )


def _of_channels(what: str, name: str, value: Operand | None, channels: int, wide: DType) -> Tensor | None:
    """Return an operand with one value per channel in the dtype of statistics."""
    if value is None:
        return None
    t = as_tensor(what, value)
    if t.shape != (channels,):
        raise ShapeError(
            f"{what}: {name} {t.node.type!r} does not fit {channels} channels. Its shape must be [{channels}]."
        )
    return t.astype(wide)


def _move(running: Operand | None, found: Tensor, momentum: float | Tensor) -> None:
    """Move a running average towards what was found; a tensor that is not held in a cell cannot change."""
    if isinstance(running, Cell):
        held = running.detach().astype(found.dtype)
        running.value = held * (1 - momentum) + found.detach() * momentum
