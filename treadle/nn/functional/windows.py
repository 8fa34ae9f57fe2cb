"""What pooling, folding and their layers share: sizes given as one number or one per axis, and where windows lie."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core import ConfigError, ShapeError
from treadle.ops import Span
from treadle.tensor import Tensor

Sizes = int | Sequence[int]


def per_axis(what: str, name: str, value: Sizes, count: int) -> tuple[int, ...]:
    """Return one number per axis, given one for all or one for each."""
    values = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    if len(values) == 1:
        values *= count
    if len(values) != count:
        raise ConfigError(f"{what}: {name} is {value}. Give one number, or {count}, one per axis.")
    return values


def at_least(what: str, least: int, **values: Sequence[int]) -> None:
    """Raise ConfigError unless all numbers are at least `least`."""
    for name, numbers in values.items():
        if any(n < least for n in numbers):
            raise ConfigError(f"{what}: {name} is {tuple(numbers)}. Every number must be at least {least}.")


def spatial_axes(what: str, x: Tensor, count: int) -> tuple[int, ...]:
    """Return the last `count` axes of [N, C, ...] or [C, ...]."""
    if x.ndim not in (count + 1, count + 2) or 0 in x.shape[-count - 1 :]:
        raise ShapeError(
            f"{what}: input {x.node.type!r} must be [N, C, ...] or [C, ...] with {count} axes behind the channels, and "
            "only N may be 0. Reshape it."
        )
    return tuple(range(x.ndim - count, x.ndim))


def sliding(
    what: str,
    x: Tensor,
    count: int,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    dilation: Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> tuple[tuple[int, ...], tuple[Span, ...]]:
    """Return the spatial axes and the windows along them; with `ceil_mode` a last one may stick out behind."""
    axes = spatial_axes(what, x, count)
    kernel = per_axis(what, "kernel_size", kernel_size, count)
    step = kernel if stride is None or stride == () else per_axis(what, "stride", stride, count)
    pad, apart = per_axis(what, "padding", padding, count), per_axis(what, "dilation", dilation, count)
    at_least(what, 1, kernel_size=kernel, stride=step, dilation=apart)
    at_least(what, 0, padding=pad)
    spans: list[Span] = []
    for axis, k, s, p, d in zip(axes, kernel, step, pad, apart, strict=True):
        reach = d * (k - 1) + 1
        if 2 * p > reach:
            raise ConfigError(
                f"{what}: padding {p} is more than half of the {reach} elements a window spans. Allowed: up to "
                f"{reach // 2}; pad() the input for more."
            )
        room = x.shape[axis] + 2 * p - reach
        out = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= x.shape[axis] + p:  # a window must begin inside, or in the padding before
            out -= 1
        if out < 1:
            raise ShapeError(
                f"{what}: windows that span {reach} elements do not fit axis {axis} of {x.node.type!r} with padding "
                f"{p}. Make the kernel smaller or the input larger."
            )
        spans.append(Span(k, s, d, p, out))
    return axes, tuple(spans)
