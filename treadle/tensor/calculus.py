"""Integrals and slopes of functions known at some places: the trapezoidal rule and finite differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from treadle.core import ShapeError, normalize_axes, normalize_axis, whole_numbers

from . import elementwise as ew
from . import reductions
from .cumulative import cumsum
from .data_types import astype
from .indexing import getitem
from .keywords import either_word
from .manipulation import broadcast_to, concat, moveaxis
from .promotion import Operand, as_tensor, is_sequence

if TYPE_CHECKING:
    from .tensor import Tensor


def _strips(what: str, y: Operand, x: Operand | None, dx: Operand | None, axis: int) -> tuple[Tensor, int]:
    """Return the areas between neighbours, the axis last, and that axis."""
    if x is not None and dx is not None:
        raise ShapeError(f"{what}: x and dx are both given. Give the places, or the distance between them.")
    values = _floats(what, y)
    at = normalize_axis(what, axis, values.ndim)
    values = moveaxis(values, at, -1)
    width: Operand = 1 if dx is None else dx
    if x is not None:
        places = _floats(what, x)
        if places.ndim == 0 or (places.ndim == 1 and places.shape[0] != values.shape[-1]):
            raise ShapeError(
                f"{what}: places {places.node.type!r} do not fit {values.shape[-1]} values. Give one for each."
            )
        places = places if places.ndim == 1 else moveaxis(places, at - values.ndim, -1)
        width = ew.subtract(_from(places, 1), _to(places, -1))
    means = ew.divide(ew.add(_from(values, 1), _to(values, -1)), 2)
    return ew.multiply(means, width), at - values.ndim


def _floats(what: str, x: Operand) -> Tensor:
    """Return an operand as floats: sums and differences of integers might not fit their dtype."""
    tensor = as_tensor(what, x)
    return tensor if tensor.dtype.is_float else astype(tensor, "float32")


def _from(x: Tensor, start: int) -> Tensor:
    return getitem(x, (..., slice(start, None)))


def _to(x: Tensor, stop: int) -> Tensor:
    return getitem(x, (..., slice(None, stop)))


@either_word
def trapezoid(y: Operand, x: Operand | None = None, *, dx: Operand | None = None, axis: int = -1) -> Tensor:
    """Return the integral along an axis of the lines between values at places x, or `dx` (1) apart."""
    strips, _ = _strips("trapezoid", y, x, dx, axis)
    return reductions.sum(strips, axis=-1, dtype=strips.dtype)


@either_word
def cumulative_trapezoid(y: Operand, x: Operand | None = None, *, dx: Operand | None = None, axis: int = -1) -> Tensor:
    """Return the integrals from the first value to each of the others; see `trapezoid`."""
    strips, at = _strips("cumulative_trapezoid", y, x, dx, axis)
    return moveaxis(cumsum(strips, -1), -1, at)


@either_word
def gradient(
    input: Operand,
    *,
    spacing: Operand | Sequence[Operand] | None = None,
    axis: int | Sequence[int] | None = None,
    edge_order: int = 1,
) -> list[Tensor]:
    """Return the slopes along axes (all when None) by central differences of second order, one tensor per axis.

    Args:
        input: values on a grid.
        spacing: the distance of neighbours (1 when None), for all axes or one for each; or the places along each axis.
        axis: the axes.
        edge_order: 1 or 2: how many neighbours count in the slope at an edge.
    """
    tensor = as_tensor("gradient", input)
    if edge_order not in (1, 2):
        raise ShapeError(f"gradient: edge_order is {edge_order}. Allowed: 1 and 2.")
    normalize_axes("gradient", axis, tensor.ndim)  # they are different
    wanted = range(tensor.ndim) if axis is None else whole_numbers("gradient", axis)
    axes = [normalize_axis("gradient", a, tensor.ndim) for a in wanted]
    given: list[Any] = list(spacing) if is_sequence(spacing) else [1 if spacing is None else spacing] * len(axes)
    if len(given) != len(axes):
        raise ShapeError(f"gradient: {len(given)} spacings for {len(axes)} axes. Give one for each, or one number.")
    values = _floats("gradient", tensor)
    return [_slope(values, a, step, edge_order) for a, step in zip(axes, given, strict=True)]


def _slope(values: Tensor, axis: int, step: Operand, edge_order: int) -> Tensor:
    y = moveaxis(values, axis, -1)
    size = y.shape[-1]
    if size < edge_order + 1:
        raise ShapeError(
            f"gradient: axis {axis} has {size} elements. Slopes with edge_order {edge_order} take {edge_order + 1}."
        )
    widths = _widths(step, y, axis)
    slopes = ew.divide(ew.subtract(_from(y, 1), _to(y, -1)), widths)
    left, right, before, after = _to(slopes, -1), _from(slopes, 1), _to(widths, -1), _from(widths, 1)
    # The slope of the parabola through three neighbours in its middle, and how fast it changes to the sides.
    bend = ew.divide(ew.subtract(right, left), ew.add(before, after))
    inner = ew.add(left, ew.multiply(bend, before))
    start, end = _first(slopes), _from(slopes, -1)
    if edge_order == 2:
        start = ew.subtract(start, ew.multiply(_first(bend), _first(widths)))
        end = ew.add(end, ew.multiply(_from(bend, -1), _from(widths, -1)))
    return moveaxis(concat([start, inner, end], axis=-1), -1, axis)


def _widths(step: Operand, y: Tensor, axis: int) -> Tensor:
    """Return the distances of neighbours along the last axis of y."""
    size = y.shape[-1]
    given = as_tensor("gradient", step)
    if given.ndim == 0:
        return broadcast_to(astype(given, y.dtype), (size - 1,))
    if given.shape != (size,):
        raise ShapeError(f"gradient: places {given.node.type!r} do not fit {size} elements of axis {axis}.")
    return astype(ew.subtract(_from(given, 1), _to(given, -1)), y.dtype)


def _first(x: Tensor) -> Tensor:
    return getitem(x, (..., slice(0, 1)))
