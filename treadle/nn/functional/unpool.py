"""The way back from max pooling: values at the places they came from, zeros elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from treadle.core import DTypeError, ShapeError
from treadle.ir import Op
from treadle.tensor import Tensor, made, node_of
from treadle.tensor.promotion import Operand, as_tensor

from .windows import Sizes, at_least, per_axis, spatial_axes


def _unpool(
    what: str,
    count: int,
    input: Operand,
    indices: Operand,
    kernel_size: Sizes,
    stride: Sizes | None,
    padding: Sizes,
    output_size: Sequence[int] | None,
) -> Tensor:
    x, at = as_tensor(what, input), as_tensor(what, indices)
    axes = spatial_axes(what, x, count)
    if at.shape != x.shape or not at.dtype.is_integer:
        raise (ShapeError if at.dtype.is_integer else DTypeError)(
            f"{what}: indices {at.node.type!r} do not fit input {x.node.type!r}. They must be integers of its shape, "
            "as max pooling returns with return_indices=True."
        )
    kernel = per_axis(what, "kernel_size", kernel_size, count)
    step = kernel if stride is None or stride == () else per_axis(what, "stride", stride, count)
    pad = per_axis(what, "padding", padding, count)
    at_least(what, 1, kernel_size=kernel, stride=step)
    usual = [(x.shape[a] - 1) * s - 2 * p + k for a, k, s, p in zip(axes, kernel, step, pad, strict=True)]
    size = usual if output_size is None else [int(n) for n in output_size]
    size = size[2:] if len(size) == count + 2 else size
    fits = len(size) == count and all(abs(n - u) < s for n, u, s in zip(size, usual, step, strict=True))
    if (output_size is not None and not fits) or min(size) < 1:
        raise ShapeError(
            f"{what}: output_size {size} is not what max pooling makes {x.node.type!r} from. Allowed: {usual}, each "
            f"give or take less than the stride {list(step)}, at least 1."
        )
    lead = x.shape[:-count]
    rows, places, each = math.prod(lead), math.prod(size), math.prod(x.shape[-count:])
    values, where = x.reshape((rows, each)), at.reshape((rows, each))
    return made(Op.registry["unpool"](places)(node_of(values), node_of(where)), values).reshape((*lead, *size))


def max_unpool1d(
    input: Operand,
    indices: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with every element of the input where `max_pool1d` found it.

    Args:
        input: [N, C, L] or [C, L], as pooling returns it.
        indices: where its elements were, as pooling returns them with `return_indices`; the last counts of equal ones.
        kernel_size: that of the pooling.
        stride: that of the pooling; None: `kernel_size`.
        padding: that of the pooling.
        output_size: what was pooled, when its size is not the one the other arguments say; one size per axis.
    """
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Operand,
    indices: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with every element of [N, C, H, W] or [C, H, W] where `max_pool2d` found it; see `max_unpool1d`."""
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Operand,
    indices: Operand,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Return zeros with every element of [N, C, D, H, W] or [C, D, H, W] where `max_pool3d` found it."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)
