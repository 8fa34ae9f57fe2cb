"""The greatest common divisor. How many steps it takes depends on the numbers, so NumPy computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core import ShapeError, Type
from treadle.ir import Node

from .base import INTEGERS, Array, check_dtypes
from .host import Host


class Gcd(Host):
    """The greatest whole number that divides both x1 and x2; of 0 and x, the magnitude of x."""

    name = "gcd"

    def infer(self, x1: Type, x2: Type) -> Type:
        check_dtypes(self.name, (x1, x2), INTEGERS)
        if x1.shape != x2.shape:
            raise ShapeError(f"gcd: {x1} and {x2} differ in shape. Broadcast them first.")
        return x1

    def work(self, *types: Any, **_: Any) -> int:
        return 100 * types[0].size + 1000

    def compute(self, *args: Any, **_: Any) -> Array:
        return np.gcd(*args)

    def vjp(self, ct: Node, out: Node, *args: Any) -> Sequence[Node | None]:
        return [None, None]
