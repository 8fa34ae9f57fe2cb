"""Shape arithmetic used by more than one layer."""

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any

from .errors import AxisError, DTypeError, ShapeError
from .types import Shape


def broadcast_shapes(what: str, *shapes: Shape) -> Shape:
    """Return the common shape under NumPy's rules; ShapeError names the axis that does not fit."""
    # Nearly always the shapes are equal but for scalars.
    full = [s for s in shapes if s]
    first = full[0] if full else ()
    if all(s == first for s in full):
        return first
    ndim = max(len(s) for s in shapes)
    out: list[int] = []
    for axis in range(-ndim, 0):
        sizes = {s[axis] for s in shapes if len(s) >= -axis} - {1}
        if len(sizes) > 1:
            given = " and ".join(str(list(s)) for s in shapes)
            raise ShapeError(
                f"{what}: cannot broadcast {given}; axis {axis} has sizes {sorted(sizes)}. Sizes must be equal or 1."
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(out)


MOST_ELEMENTS = (1 << 60) - 1  # of 8 bytes, which is what 64-bit addresses reach


def check_size(what: str, shape: Shape) -> None:
    """Raise ShapeError for a shape of more elements than any machine has memory for."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise ShapeError(
            f"{what}: shape {list(shape)} has more elements than any memory can hold. Allowed: up to {MOST_ELEMENTS}. "
            "Give smaller sizes."
        )


def whole_number(what: str, value: Any) -> int:
    """Return a size or an axis, an integer of whatever library, as Python's int; DTypeError for anything else."""
    if type(value) is int:
        return value
    try:
        return operator.index(value)
    except TypeError:
        raise DTypeError(f"{what}: {value!r} is not a whole number. Sizes and axes are integers.") from None


def whole_numbers(what: str, values: Any) -> tuple[int, ...]:
    """Return sizes or axes, given as one integer or as several, as Python's ints; DTypeError for anything else."""
    return tuple([whole_number(what, v) for v in values] if several(values) else [whole_number(what, values)])


def several(values: Any) -> bool:
    """Whether an argument is a sequence; a 0-d array or tensor is not, although it has `__iter__`."""
    return isinstance(values, Iterable) and getattr(values, "ndim", 1) > 0  # pyright: ignore[reportUnknownArgumentType]


def normalize_axis(what: str, axis: int, ndim: int) -> int:
    """Return `axis` counted from the front; AxisError when it is outside [-ndim, ndim)."""
    axis = whole_number(what, axis)
    if not -ndim <= axis < ndim:
        allowed = f"[{-ndim}, {ndim - 1}]" if ndim else "nothing, it has no axes"
        raise AxisError(f"{what}: axis {axis} is out of range for an operand with {ndim} axes. Allowed: {allowed}.")
    return axis % ndim if ndim else 0


def normalize_axes(what: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the sorted axes meant by None (all), one axis, or several distinct ones."""
    if axis is None:
        return tuple(range(ndim))
    axes = [normalize_axis(what, a, ndim) for a in whole_numbers(what, axis)]
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{what}: axes {axis} name the same axis twice. Give each axis once.")
    return tuple(sorted(axes))


def row_major_strides(shape: Iterable[int]) -> tuple[int, ...]:
    """Return the strides, in elements, of a dense row-major tensor."""
    strides: list[int] = []
    step = 1
    for size in reversed(tuple(shape)):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
