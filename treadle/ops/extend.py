"""An axis made longer by its own elements: mirrored at its ends, its ends repeated, or going round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from treadle.core import ConfigError, ShapeError, Type
from treadle.ir import Node
from treadle.te import Compute, add, compute, fn, index, load, mod, scale

from .base import ANY, Array, TensorOp, check_axes, check_dtypes
from .movement import Pad, Slice, flip
from .reduce import Sum

MODES = ("reflect", "replicate", "circular")


@dataclass(frozen=True)
class Extend(TensorOp):
    """x with `low` elements before and `high` behind it along `axis`, which are its own.

    "reflect" mirrors x at its first and last element, which are not repeated; "replicate" repeats these; "circular"
    goes on at the other end.
    """

    name = "extend"
    axis: int
    low: int
    high: int
    mode: str

    def infer(self, x: Type) -> Type:
        if self.mode not in MODES:
            raise ConfigError(f"pad: mode is {self.mode!r}. Allowed: {', '.join(MODES)}.")
        check_dtypes("pad", (x,), ANY)
        check_axes("pad", (self.axis,), x)
        n, longest = x.shape[self.axis], max(self.low, self.high)
        most = {"reflect": n - 1, "circular": n, "replicate": longest if n else 0}[self.mode]
        if min(self.low, self.high) < 0 or longest > most:
            raise ShapeError(
                f"pad: {self.mode} widths {self.low} and {self.high} do not fit axis {self.axis} of {x}. Allowed: 0 to "
                f"{max(most, 0)}."
            )
        return Type(x.dtype, (*x.shape[: self.axis], self.low + n + self.high, *x.shape[self.axis + 1 :]))

    def permuted(self, axes: tuple[int, ...]) -> Extend:
        """Return the op that does to operands what this one does to them with their axes in another order."""
        return replace(self, axis=axes[self.axis])

    def eval(self, x: Array) -> Array:
        width = tuple((self.low, self.high) if a == self.axis else (0, 0) for a in range(x.ndim))
        how: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
        return np.pad(x, width, mode=how[self.mode])

    def vjp(self, ct: Node, out: Node, x: Node) -> list[Node | None]:
        n, low, high = x.shape[self.axis], self.low, self.high
        onto = {"reflect": (1, n - 1 - high), "replicate": (0, n - 1), "circular": (n - low, 0)}[self.mode]
        total = self._part(ct, low, n)
        for count, start, place in ((low, 0, onto[0]), (high, low + n, onto[1])):
            if not count:
                continue
            part = self._part(ct, start, count)
            if self.mode == "reflect":
                part = flip(part, [a == self.axis for a in range(part.type.ndim)])
            elif self.mode == "replicate":
                part = Sum((self.axis,), True)(part)
            total = total + self._among(part, place, n)
        return [total]

    def lower(self, x: Type) -> Compute:
        n = x.shape[self.axis]

        def element(*i: Node) -> Node:
            at = add(i[self.axis], -self.low)
            if self.mode == "circular":
                at = mod(add(at, n), n)
            elif self.mode == "reflect":
                at = fn("max", at, scale(at, -1))
                at = fn("min", at, add(scale(at, -1), 2 * (n - 1)))
            else:
                at = fn("min", fn("max", at, index(0)), index(n - 1))
            return load(0, x, *i[: self.axis], at, *i[self.axis + 1 :])

        return compute(self.infer(x).shape, element)

    def _part(self, ct: Node, start: int, count: int) -> Node:
        """Return some elements along the axis."""
        starts = tuple(start if a == self.axis else 0 for a in range(ct.type.ndim))
        sizes = tuple(count if a == self.axis else n for a, n in enumerate(ct.shape))
        return Slice(starts, sizes, (1,) * ct.type.ndim)(ct)

    def _among(self, part: Node, start: int, n: int) -> Node:
        """Return n elements along the axis: a part, and zeros around it."""
        behind = n - start - part.shape[self.axis]
        low = tuple(start if a == self.axis else 0 for a in range(part.type.ndim))
        high = tuple(behind if a == self.axis else 0 for a in range(part.type.ndim))
        return Pad(low, high, 0)(part)
