"""The kinds of tensor op. A final op is one class that holds all its meanings; see `Op.registry` for the list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from treadle.core import (
    DType,
    DTypeError,
    GradientError,
    Shape,
    ShapeError,
    Type,
    bool_,
    broadcast_shapes,
    float32,
    from_numpy,
)
from treadle.ir import Graph, Node, Op, inputs_for
from treadle.te import COMBINES, Compute, broadcast_load, compute, convert, fn, load

Array = np.ndarray[Any, Any]
Accepts = tuple[str, ...]

NUMERIC: Accepts = ("int", "uint", "float")
FLOATS: Accepts = ("float",)
INTEGERS: Accepts = ("int", "uint")
BITS: Accepts = ("bool", "int", "uint")
ANY: Accepts = ("bool", "int", "uint", "float")


class TensorOp(Op):
    """An op on tensors.

    `infer` is the only place where shapes and dtypes are checked. `eval` is the reference meaning, `lower` the formula
    kernels are made from, `vjp` the gradient as ops. Tests hold them against each other.
    """

    tracked = True
    kernel: ClassVar[str] = "loop"  # which family of kernels computes it: see `fused.KernelKind`

    def eval(self, *args: Any, **_: Any) -> Any:
        """Return the result (a tuple where there are several) for NumPy arrays."""
        raise NotImplementedError(f"{self.name}.eval")

    def lower(self, *types: Any, **_: Any) -> Compute:
        """Return the formula of one element of the result."""
        raise NotImplementedError(f"{self.name}.lower")

    def vjp(self, ct: Any, out: Node, *args: Any, **_: Any) -> Sequence[Node | None]:
        """Return one cotangent per operand (None for no dependence), given that of the result.

        An op with several results gets a tuple of cotangents, None where nothing flows back.
        """
        raise GradientError(
            f"{self.name}: has no gradient. Use stop_gradient() on its operands where none should flow."
        )


class Elementwise(TensorOp):
    """An op that computes each element from the elements at the same place; shapes broadcast, dtypes must be equal.

    A subclass says its NumPy function, the scalar function of `te.SCALARS` and its gradient. One whose formula takes
    more than one scalar function says `scalar` instead of `formula`.
    """

    numpy: ClassVar[Callable[..., Any]]
    formula: ClassVar[str] = ""
    accepts: ClassVar[Accepts] = NUMERIC
    returns_bool: ClassVar[bool] = False

    def infer(self, *types: Type) -> Type:
        check_dtypes(self.name, types, self.accepts)
        shape = broadcast_shapes(self.name, *[t.shape for t in types])
        return Type(bool_ if self.returns_bool else types[0].dtype, shape)

    def eval(self, *args: Array) -> Array:
        with np.errstate(all="ignore"):
            result = np.asarray(type(self).numpy(*args))
        return result if self.returns_bool else result.astype(args[0].dtype, copy=False)

    def scalar(self, *args: Node) -> Node:
        """Return one element of the result, given the elements of the operands."""
        return fn(self.formula, *args)

    def lower(self, *types: Type) -> Compute:
        shape = self.infer(*types).shape
        return compute(shape, lambda *i: self.scalar(*[broadcast_load(k, t, i) for k, t in enumerate(types)]))


@dataclass(frozen=True)
class Reduction(TensorOp):
    """An op that folds the axes `axes` (sorted, not negative); `keepdims` leaves them with size 1.

    Sums and products of 16-bit floats are folded in float32: `lower`'s value is then float32, rounded when stored.
    """

    combine: ClassVar[str]  # of te.COMBINES
    accepts: ClassVar[Accepts] = NUMERIC
    axes: tuple[int, ...]
    keepdims: bool = False

    def infer(self, x: Type) -> Type:
        check_dtypes(self.name, (x,), self.accepts)
        check_axes(self.name, self.axes, x)
        if self.combine in ("max", "min") and any(x.shape[a] == 0 for a in self.axes):
            raise ShapeError(
                f"{self.name}: {x} has no elements along axes {self.axes}. Give it at least one element there."
            )
        return Type(x.dtype, reduced_shape(x.shape, self.axes, keepdims=self.keepdims))

    def wide(self, x: DType) -> DType:
        """Return the dtype elements are folded in."""
        return sum_dtype(x) if self.combine in ("sum", "prod") else x

    def eval(self, x: Array) -> Array:
        fold, dtype = COMBINES[self.combine].fold, from_numpy(x.dtype)
        more = {"dtype": self.wide(dtype).numpy} if self.combine in ("sum", "prod") else {}
        with np.errstate(all="ignore"):
            return np.asarray(fold(x, axis=self.axes, keepdims=self.keepdims, **more)).astype(x.dtype)

    def lower(self, x: Type) -> Compute:
        shape = self.infer(x).shape

        def body(*position: Node) -> Node:
            kept, folded = position[: len(shape)], iter(position[len(shape) :])
            rest = iter([i for a, i in enumerate(kept) if a not in self.axes] if self.keepdims else kept)
            value = load(0, x, *[next(folded if a in self.axes else rest) for a in range(x.ndim)])
            return convert(value, self.wide(x.dtype)) if self.axes else value

        return compute(shape, body, over=[x.shape[a] for a in self.axes], combine=self.combine)


class Composite(TensorOp):
    """An op defined by simpler ones: `expand` builds them. The `decompose` pass replaces it, `vjp` may say more.

    `lower` does not exist for it: what kernels see are the ops it expands to.
    """

    def expand(self, *args: Any, **_: Any) -> Any:
        """Return the node (a tuple of nodes where there are several results) in simpler ops."""
        raise NotImplementedError(f"{self.name}.expand")

    def infer(self, *types: Any, **_: Any) -> Type | tuple[Type, ...]:
        """Return the types of the expansion; overridden to check operands first with better words."""
        expanded = self.expand(*inputs_for(types))
        return expanded.type if isinstance(expanded, Node) else tuple(n.type for n in expanded)

    def expansion(self, *types: Type) -> Graph:
        """Return the expansion as a graph of its own."""
        inputs = inputs_for(types)
        expanded = self.expand(*inputs)
        return Graph(inputs, (expanded,) if isinstance(expanded, Node) else tuple(expanded))


def check_dtypes(what: str, types: Sequence[Type], accepts: Accepts) -> None:
    """Raise DTypeError unless all dtypes are equal and of an accepted kind."""
    first = types[0].dtype
    for t in types[1:]:
        if t.dtype is not first:
            raise DTypeError(
                f"{what}: operands have dtypes {', '.join(u.dtype.name for u in types)}. "
                "They must be equal; cast with astype()."
            )
    if first.kind not in accepts:
        allowed = " or ".join({"int": "signed integer", "uint": "unsigned integer"}.get(k, k) for k in accepts)
        raise DTypeError(f"{what}: does not take {first.name}. Allowed: {allowed}. Convert with astype() first.")


def sum_dtype(dtype: DType) -> DType:
    """Return the dtype in which sums and products of many values are taken: float32 for shorter floats."""
    return float32 if dtype.is_float and dtype.bits < 32 else dtype


def check_axes(what: str, axes: Sequence[int], x: Type) -> None:
    """Raise ShapeError unless the axes are sorted, distinct and counted from the front."""
    if any(not 0 <= a < x.ndim for a in axes) or list(axes) != sorted(set(axes)):
        raise ShapeError(
            f"{what}: axes {tuple(axes)} do not fit {x}, which has {x.ndim} axes. "
            "Allowed: distinct axes in rising order from 0."
        )


def reduced_shape(shape: Shape, axes: Sequence[int], *, keepdims: bool) -> Shape:
    """Return the shape after folding the axes."""
    if keepdims:
        return tuple(1 if a in axes else size for a, size in enumerate(shape))
    return tuple(size for a, size in enumerate(shape) if a not in axes)
