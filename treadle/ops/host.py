"""Ops whose kernel calls back into Python: work that LAPACK does, which no generator of ours competes with.

Such an op is one task of the native program, like any other kernel: it reads and writes the program's own buffers. Its
reference meaning is its kernel, so there is nothing to lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from treadle.core import LinAlgError, ShapeError, Type, from_numpy
from treadle.ir import Node

from .base import FLOATS, Array, TensorOp, check_dtypes, sum_dtype

T = TypeVar("T")


class Host(TensorOp):
    """An op computed by NumPy's LAPACK, on the last two axes of its operands; leading axes are a batch.

    A subclass gives `compute` on arrays of float32 or float64; 16-bit floats are widened for it and rounded after.
    """

    kernel = "host"

    def compute(self, *args: Any, **_: Any) -> Any:
        """Return the result, or a tuple of them; raise LinAlgError where it does not exist."""
        raise NotImplementedError(f"{self.name}.compute")

    def work(self, *types: Any, **_: Any) -> int:
        """Return about how many flops it takes; only the order in which tasks are placed depends on it."""
        rows, columns = types[0].shape[-2:]
        return 4 * types[0].size * min(rows, columns) + 1000

    def eval(self, *args: Array) -> Array | tuple[Array, ...]:
        types = [Type(from_numpy(a.dtype), a.shape) for a in args]
        of = self.infer(*types)
        wide = [a.astype(sum_dtype(t.dtype).numpy, copy=False) for a, t in zip(args, types, strict=True)]
        with np.errstate(all="ignore"):
            found = self.compute(*wide)
            if isinstance(of, Type):
                return np.asarray(found, of.dtype.numpy)
            return tuple(np.asarray(f, t.dtype.numpy) for f, t in zip(found, of, strict=True))


def check_matrices(what: str, *types: Type, square: bool = False) -> None:
    """Raise unless all operands are float matrices of one batch, the first a square one if asked."""
    check_dtypes(what, types, FLOATS)
    for t in types:
        if t.ndim < 2:
            raise ShapeError(f"{what}: takes matrices, got {t!r}. Allowed: at least 2 axes.")
    first = types[0]
    if square and first.shape[-1] != first.shape[-2]:
        raise ShapeError(f"{what}: {first!r} is not square. Allowed: the last two axes have one size.")
    for t in types[1:]:
        if t.shape[:-2] != first.shape[:-2]:
            raise ShapeError(f"{what}: {first!r} and {t!r} are not of one batch. Broadcast the leading axes first.")


def checked(what: str, problem: str, function: Callable[..., T], *arrays: Array) -> T:
    """Return `function(*arrays)`; where it raises NumPy's LinAlgError, say which matrix of the batch is at fault."""
    try:
        return function(*arrays)
    except np.linalg.LinAlgError:
        for place in np.ndindex(arrays[0].shape[:-2]):
            own = [a[place] for a in arrays]
            try:
                function(*own)
            except np.linalg.LinAlgError:
                raise LinAlgError(f"{what}: {which_matrix(place)} {_reason(own[0], problem)}") from None
        raise


def which_matrix(place: Sequence[int]) -> str:
    """Return words for a matrix of a batch."""
    if not place:
        return "the matrix"
    return f"the matrix {place[0] if len(place) == 1 else tuple(place)} of the batch"


def _reason(matrix: Array, problem: str) -> str:
    return problem if np.isfinite(matrix).all() else "has elements that are NaN or infinite. Look at what made it."


def transposed(x: Array) -> Array:
    """Return a view with the last two axes exchanged."""
    return x.swapaxes(-1, -2)


def batch_size(x: Type) -> int:
    """Return how many matrices an operand holds."""
    return math.prod(x.shape[:-2])


def no_gradient(count: int) -> list[Node | None]:
    """Return the cotangents of an op on `count` operands that it does not depend on smoothly."""
    return [None] * count


Results = tuple[Any, ...]  # cotangents of an op with several results, None where nothing flows back
