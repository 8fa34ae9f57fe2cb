"""Convolutions and transposed convolutions, channels first as in PyTorch, around the channels-last op `conv`."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import ConfigError, ShapeError
from treadle.ir import Node, Op
from treadle.ops import channels_exchanged, flip_taps, permute, reshape
from treadle.tensor import Tensor, made
from treadle.tensor.promotion import Operand, as_tensor, meet

Sizes = int | Sequence[int]
PADDINGS = ("valid", "same")


def conv1d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of [N, C, L] or [C, L] with weight [K, C / groups, taps]; see `conv2d`."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution (cross-correlation, as everywhere in deep learning), [N, K, H', W'].

    Args:
        input: [N, C, H, W] or [C, H, W].
        weight: [K, C / groups, taps, taps].
        bias: [K].
        stride: steps between results, one number or one per axis.
        padding: zeros at both ends of every axis; "valid" for none, "same" for as many as keep the size at stride 1.
        dilation: steps between taps.
        groups: channel blocks that do not meet; must divide C and K.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Return the convolution of [N, C, D, H, W] or [C, D, H, W] with weight [K, C / groups, 3 x taps]; see `conv2d`."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_tbc(input: Operand, weight: Operand, bias: Operand, pad: int = 0) -> Tensor:
    """Return the convolution over time of [T, N, C] with weight [taps, C, K] and bias [K]: [T', N, K]."""
    what = "conv_tbc"
    x, w = as_tensor(what, input), as_tensor(what, weight)
    if x.ndim != 3 or w.ndim != 3:
        raise ShapeError(f"{what}: input {x.node.type!r} must be [T, N, C] and weight {w.node.type!r} [taps, C, K].")
    return _conv(what, 1, x.permute(1, 2, 0), w.permute(2, 1, 0), bias, 1, pad, 1, 1).permute(2, 0, 1)


def conv_transpose1d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Return the transposed convolution of [N, C, L] or [C, L]; see `conv_transpose2d`."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Return the transposed convolution: what the gradient of `conv2d` with the same arguments does to `input`.

    Args:
        input: [N, C, H, W] or [C, H, W].
        weight: [C, K / groups, taps, taps].
        bias: [K].
        stride: steps between what neighbours of the input add to.
        padding: results left out at both ends of every axis.
        output_padding: further results at the high end, fewer than the stride or the dilation.
        groups: channel blocks that do not meet; must divide C and K.
        dilation: steps between taps.
    """
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Operand,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """Return the transposed convolution of [N, C, D, H, W] or [C, D, H, W]; see `conv_transpose2d`."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def per_axis(what: str, name: str, value: Sizes, count: int, *, least: int) -> tuple[int, ...]:
    """Return a setting as one number per spatial axis, each at least `least`."""
    given = (value,) if isinstance(value, int) else tuple(value)
    sizes = given * count if len(given) == 1 else given
    if len(sizes) != count or any(isinstance(s, bool) or not hasattr(s, "__index__") or s < least for s in sizes):
        raise ConfigError(
            f"{what}: {name} is {value!r}. It must be one whole number of at least {least}, or {count} of them."
        )
    return tuple(s.__index__() for s in sizes)


def check_groups(what: str, groups: int, **channels: int) -> None:
    """Raise ConfigError unless the groups divide both channel counts."""
    if groups < 1 or any(size % groups for size in channels.values()):
        counts = " and ".join(f"{name} {size}" for name, size in channels.items())
        raise ConfigError(f"{what}: groups is {groups}, {counts}. It must be at least 1 and divide both.")


def same_padding(taps: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the zeros before and after every axis that keep its size; an odd one goes to the end."""
    total = [(t - 1) * d for t, d in zip(taps, dilation, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def _conv(
    what: str,
    count: int,
    input: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    x, w, b, tensors = _operands(what, count, input, weight, bias)
    strides = per_axis(what, "stride", stride, count, least=1)
    dilations = per_axis(what, "dilation", dilation, count, least=1)
    check_groups(what, groups, **{"the weight has output channels": w.shape[0]})
    channels = x.shape[-count - 1]
    if w.shape[1] * groups != channels:
        raise ShapeError(
            f"{what}: the input {x.type!r} has {channels} channels, the weight {w.type!r} takes {w.shape[1] * groups} "
            f"({w.shape[1]} in each of {groups} groups). They must be equal; the input is [N, C, ...] or [C, ...]."
        )
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise ConfigError(f"{what}: padding is {padding!r}. Allowed: numbers, {' and '.join(map(repr, PADDINGS))}.")
        if padding == "same" and any(s > 1 for s in strides):
            raise ConfigError(f"{what}: padding='same' with stride {stride!r}. It is for stride 1; give numbers.")
        low, high = same_padding(w.shape[2:], dilations) if padding == "same" else ((0,) * count, (0,) * count)
    else:
        low = high = per_axis(what, "padding", padding, count, least=0)
    op = Op.registry["conv"](strides, low, high, dilations, (1,) * count, groups)
    last_first = (*range(2, count + 2), 1, 0)  # [K, C, *taps] as [*taps, C, K]
    return _around(op, count, x, permute(w, last_first), b, tensors)


def _transposed(
    what: str,
    count: int,
    input: Operand,
    weight: Operand,
    bias: Operand | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> Tensor:
    x, w, b, tensors = _operands(what, count, input, weight, bias)
    strides = per_axis(what, "stride", stride, count, least=1)
    dilations = per_axis(what, "dilation", dilation, count, least=1)
    cut = per_axis(what, "padding", padding, count, least=0)
    more = per_axis(what, "output_padding", output_padding, count, least=0)
    channels = x.shape[-count - 1]
    check_groups(what, groups, **{"the weight has input channels": w.shape[0]})
    if w.shape[0] != channels:
        raise ShapeError(
            f"{what}: the input {x.type!r} has {channels} channels, the weight {w.type!r} takes {w.shape[0]}. They "
            "must be equal; the input is [N, C, ...] or [C, ...], the weight [C, K / groups, ...]."
        )
    for axis, (extra, s, d) in enumerate(zip(more, strides, dilations, strict=True)):
        if extra >= max(s, d):
            raise ConfigError(
                f"{what}: output_padding is {extra} on axis {axis}, with stride {s} and dilation {d}. It must be "
                "smaller than one of the two."
            )
    reach = [(t - 1) * d for t, d in zip(w.shape[2:], dilations, strict=True)]
    low = tuple(r - c for r, c in zip(reach, cut, strict=True))
    high = tuple(a + m for a, m in zip(low, more, strict=True))
    op = Op.registry["conv"]((1,) * count, low, high, dilations, strides, groups)
    forward = permute(w, (*range(2, count + 2), 1, 0))  # the weight of the convolution whose gradient this is
    return _around(op, count, x, channels_exchanged(flip_taps(forward), groups), b, tensors)


def _operands(
    what: str, count: int, input: Operand, weight: Operand, bias: Operand | None
) -> tuple[Node, Node, Node | None, list[Tensor]]:
    """Return the operands in their common dtype, axes and bias checked."""
    given = [as_tensor(what, t) for t in (input, weight, *([] if bias is None else [bias]))]
    (x, w, *rest), tensors, _ = meet(what, *given)
    if len(w.shape) != count + 2 or len(x.shape) not in (count + 1, count + 2):
        raise ShapeError(
            f"{what}: the input {x.type!r} must have {count + 2} axes ({count + 1} without a batch), the weight "
            f"{w.type!r} {count + 2}. Reshape them, or use the function for another number of axes."
        )
    if rest and len(rest[0].shape) != 1:
        raise ShapeError(f"{what}: the bias {rest[0].type!r} must have one axis, of one number per output channel.")
    return x, w, rest[0] if rest else None, tensors


def _around(op: Op, count: int, x: Node, w: Node, bias: Node | None, tensors: list[Tensor]) -> Tensor:
    """Return the channels-last op on a channels-first input, with a bias, a batch of one added where there is none."""
    single = len(x.shape) == count + 1
    batch = reshape(x, (1, *x.shape)) if single else x
    y = op(permute(batch, (0, *range(2, count + 2), 1)), w)
    if bias is not None:
        if bias.shape != y.shape[-1:]:
            raise ShapeError(
                f"{op.name}: the bias {bias.type!r} does not fit {y.shape[-1]} output channels. Give one number for "
                "each."
            )
        y = y + bias
    y = permute(y, (0, count + 1, *range(1, count + 1)))
    return made(reshape(y, y.shape[1:]) if single else y, *tensors)
