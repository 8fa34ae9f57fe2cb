"""All parameters of a model as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable

from treadle.core import ShapeError
from treadle.tensor import Cell, Tensor
from treadle.tensor.manipulation import concat
from treadle.tensor.promotion import Operand, as_tensor


def parameters_to_vector(parameters: Iterable[Cell | Tensor]) -> Tensor:
    """Return the elements of all parameters, one after the other, as a vector."""
    parts = [p.reshape((-1,)) if p.size else p.reshape((0,)) for p in parameters]
    if not parts:
        raise ShapeError("parameters_to_vector: there are no parameters. Give model.parameters(), not yet used up.")
    return concat(parts)


def vector_to_parameters(vec: Operand, parameters: Iterable[Cell]) -> None:
    """Set parameters to the elements of a vector, as `parameters_to_vector` returned it."""
    vector, cells = as_tensor("vector_to_parameters", vec), list(parameters)
    count = sum(cell.size for cell in cells)
    if vector.shape != (count,):
        raise ShapeError(
            f"vector_to_parameters: {vector.node.type!r} does not fit {len(cells)} parameters of {count} elements. "
            f"Give a vector of as many."
        )
    start = 0
    for cell in cells:
        cell.value = vector[start : start + cell.size].reshape(cell.shape)
        start += cell.size
