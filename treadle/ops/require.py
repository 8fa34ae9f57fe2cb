"""Values that must be what they are meant to be: checked before the step runs, as indices are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treadle.core import ShapeError, Type, bool_, errors
from treadle.ir import Node, Op, constant
from treadle.te import Compute, compute, load

from .base import NUMERIC, Array, TensorOp, check_dtypes
from .indexing import Check


@dataclass(frozen=True)
class Require(TensorOp):
    """x as it is; `good`, of the same shape, says where it may be so.

    A Plan computes `good` before anything else; where it is false somewhere, an error shows the largest wrong value.

    Args:
        message: what the error says, with {value} in it.
        error: the name of its class, in `core/errors.py`.
    """

    name = "require"
    message: str
    error: str

    def infer(self, x: Type, good: Type) -> Type:
        check_dtypes(self.name, (x,), NUMERIC)
        if good != Type(bool_, x.shape):
            raise ShapeError(f"require: {good!r} does not say where {x!r} is good. Give bools of its shape.")
        return x

    def checks(self, *args: Node) -> list[Check]:
        """Return the check that all is good."""
        x, good = args
        if not x.type.size:
            return []
        axes = tuple(range(x.type.ndim))
        least = -math.inf if x.dtype.is_float else int(np.iinfo(x.dtype.numpy).min)
        only_wrong = Op.registry["where"]()(good, Op.registry["broadcast_to"](x.shape)(constant(least, x.dtype)), x)
        wrong: Node = Op.registry["max"](axes, False)(only_wrong)
        ok: Node = Op.registry["all"](axes, False)(good)
        # No number is allowed: nothing that is known of the values makes the check needless.
        return [Check(ok, wrong, wrong, self.message, (-math.inf, -math.inf), getattr(errors, self.error))]

    def eval(self, x: Array, good: Array) -> Array:
        return x

    def vjp(self, ct: Node, out: Node, x: Node, good: Node) -> Sequence[Node | None]:
        return [ct, None]

    def lower(self, x: Type, good: Type) -> Compute:
        return compute(x.shape, lambda *i: load(0, x, *i))
