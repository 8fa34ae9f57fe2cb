"""Change of dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treadle.core import DType, Type
from treadle.ir import Node
from treadle.te import convert

from .base import Array, Elementwise


@dataclass(frozen=True)
class Cast(Elementwise):
    """x in another dtype.

    Floats are rounded to nearest even; to an integer, towards zero. A float that the integer dtype cannot hold gives an
    unspecified value, as the array API says. To bool: whether x is not 0.
    """

    name = "cast"
    dtype: DType

    def infer(self, *types: Type) -> Type:
        return Type(self.dtype, types[0].shape)

    def eval(self, *args: Array) -> Array:
        with np.errstate(all="ignore"):
            return args[0].astype(self.dtype.numpy)

    def scalar(self, *args: Node) -> Node:
        return convert(args[0], self.dtype)

    def vjp(self, ct: Node, out: Node, *args: Node) -> Sequence[Node | None]:
        return [cast(ct, args[0].dtype) if args[0].dtype.is_float and self.dtype.is_float else None]


def cast(x: Node, dtype: DType) -> Node:
    """Return `x` in another dtype; `x` itself where nothing changes."""
    return x if x.dtype is dtype else Cast(dtype)(x)
