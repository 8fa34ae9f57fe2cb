"""Shape arithmetic used by more than one layer."""

from collections.abc import Iterable, Sequence

from .errors import ShapeError
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


def normalize_axis(what: str, axis: int, ndim: int) -> int:
    """Return `axis` counted from the front; ShapeError when it is outside [-ndim, ndim)."""
    if not -ndim <= axis < ndim:
        allowed = f"[{-ndim}, {ndim - 1}]" if ndim else "nothing, it has no axes"
        raise ShapeError(f"{what}: axis {axis} is out of range for an operand with {ndim} axes. Allowed: {allowed}.")
    return axis % ndim if ndim else 0


def normalize_axes(what: str, axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return the sorted axes meant by None (all), one axis, or several distinct ones."""
    if axis is None:
        return tuple(range(ndim))
    axes = [normalize_axis(what, a, ndim) for a in ([axis] if isinstance(axis, int) else axis)]
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
