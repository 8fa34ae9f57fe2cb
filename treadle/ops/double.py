"""Functions of calculus that are computed in float64 whatever the dtype: their formulas lose digits on the way."""

from __future__ import annotations

import numpy as np

from treadle.core import float64
from treadle.ir import Node
from treadle.te import convert, literal

from .base import Array
from .math import FloatFunction


class DoubleFunction(FloatFunction):
    """An elementwise op on floats; a subclass gives the formula and the reference meaning of one element."""

    def eval(self, *args: Array) -> Array:
        with np.errstate(all="ignore"):
            wide = np.vectorize(self.reference, otypes=[np.float64])(*[a.astype(np.float64) for a in args])
            return np.asarray(wide).astype(args[0].dtype)

    def scalar(self, *args: Node) -> Node:
        return convert(self.double(*[convert(a, float64) for a in args]), args[0].dtype)

    def reference(self, *args: float) -> float:
        """Return the value at Python's numbers."""
        raise NotImplementedError(f"{self.name}.reference")

    def double(self, *args: Node) -> Node:
        """Return the formula for scalars of float64."""
        raise NotImplementedError(f"{self.name}.double")


def double(value: float) -> Node:
    """Return a literal of float64."""
    return literal(value, float64)
