"""Operands of array functions: what may stand beside a tensor, and the dtype they meet in.

Tensors promote by the array API's table. Python numbers have no dtype of their own: they take the tensor's, except that
a float beside integers gives float32 and an int beside bools gives int64. NumPy scalars count as Python numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from treadle.core import DType, DTypeError, float32, from_numpy, int64, promote
from treadle.ir import Node, Op, constant

from . import realize
from .value import Maker, Number, Value, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

Operand = Value | Number | np.ndarray[Any, Any] | np.generic
ArrayLike = Any  # what asarray takes: nested sequences of numbers besides operands


def is_array(x: object) -> TypeGuard[realize.Array]:
    """Whether it is a NumPy array."""
    return isinstance(x, np.ndarray)


def is_sequence(x: object) -> TypeGuard[Sequence[Any]]:
    """Whether it is a list or a tuple."""
    return isinstance(x, list | tuple)


def as_tensor(what: str, x: object) -> Tensor:
    """Return the tensor of an operand; numbers become 0-d tensors of their default dtype."""
    if isinstance(x, Value):
        return x.read()
    if is_array(x):
        from_numpy(x.dtype)
        return Maker.new(realize.data(realize.aligned_copy(x)), 0, False)
    if isinstance(x, bool | int | float):
        return Maker.new(constant(x, _default(what, x)), 0, False)
    number = scalar(x)
    if number is not None:
        return as_tensor(what, number)
    if hasattr(x, "__array__"):
        return as_tensor(what, _array_of(what, x))
    raise DTypeError(
        f"{what}: cannot take a {type(x).__name__} as an operand. Allowed: tensors, parameters, Python numbers and "
        "NumPy arrays. Convert other data with td.asarray() first."
    )


def _array_of(what: str, x: object) -> realize.Array:
    """Return an array of another library as one of NumPy's."""
    try:
        return np.asarray(x)
    except (RuntimeError, TypeError, ValueError) as error:
        kind = f"{type(x).__module__}.{type(x).__name__}"
        raise DTypeError(
            f"{what}: cannot take this {kind} as an operand ({error}). Give it as a NumPy array: on the CPU, apart "
            "from gradients of its own, of a dtype NumPy knows."
        ) from None


def _default(what: str, x: Number) -> DType:
    if isinstance(x, bool):
        return _BOOL
    if isinstance(x, float):
        return float32
    return _fits(what, x, int64)


def scalar(x: object) -> Number | None:
    """Return the Python number an operand is, if it is one."""
    if isinstance(x, bool | int | float):
        # A NumPy float64 is a Python float by inheritance; it must not bring its dtype along.
        return float(x) if type(x) is np.float64 else x
    if isinstance(x, np.generic) and not isinstance(x, np.complexfloating):
        return _python_number(x)
    return None


def _python_number(x: Any) -> Number:
    value = x.item()
    return value if isinstance(value, bool | int | float) else float(value)


def scalar_dtype(what: str, x: Number, beside: DType) -> DType:
    """Return the dtype in which a number meets a tensor of dtype `beside`."""
    if isinstance(x, bool) or beside.is_float:
        return beside
    if isinstance(x, float):
        return float32
    return _fits(what, x, int64 if beside.kind == "bool" else beside)


def _fits(what: str, x: int, dtype: DType) -> DType:
    low, high = integer_range(dtype)
    if not low <= x <= high:
        raise DTypeError(
            f"{what}: the number {x} does not fit {dtype.name}, which holds {low} to {high}. Cast the tensor to a "
            "wider dtype with astype() first."
        )
    return dtype


def held(what: str, number: Number, dtype: DType) -> Number:
    """Return the number, which is to become an element; DTypeError where it is none that an integer dtype holds."""
    if dtype.is_integer:
        if isinstance(number, float):
            raise DTypeError(
                f"{what}: {number} is a float, dtype {dtype.name} holds integers. Give an integer or a float dtype."
            )
        low, high = integer_range(dtype)
        if not low <= number <= high:
            raise DTypeError(
                f"{what}: {number} does not fit {dtype.name}, which holds {low} to {high}. Use a wider dtype."
            )
    return number


def integer_range(dtype: DType) -> tuple[int, int]:
    """Return the smallest and largest value of an integer dtype."""
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def cast(node: Node, dtype: DType) -> Node:
    """Return the node in another dtype; literals are rewritten in place."""
    if node.dtype is dtype:
        return node
    if node.op.name == "const":
        value = node.op.params()["value"]
        if dtype.kind not in ("int", "uint") or isinstance(value, bool):
            return constant(value, dtype)
    return Op.registry["cast"](dtype)(node)


def meet(what: str, *operands: object) -> tuple[list[Node], list[Tensor], DType]:
    """Return the operands as nodes of their common dtype, the tensors among them, and that dtype."""
    tensors: list[Tensor] = []
    slots: list[Tensor | Number] = []
    dtype: DType | None = None
    for x in operands:
        number = None if isinstance(x, Value) else scalar(x)
        if number is None:
            tensor = as_tensor(what, x)
            tensors.append(tensor)
            slots.append(tensor)
            dtype = tensor.dtype if dtype is None else promote(dtype, tensor.dtype)
        else:
            slots.append(number)
    numbers = [s for s in slots if isinstance(s, bool | int | float)]
    if dtype is None:
        dtypes = [_default(what, n) for n in numbers]
        dtype = dtypes[0]
        for other in dtypes[1:]:
            dtype = promote(dtype, other)
    else:
        for number in numbers:
            dtype = scalar_dtype(what, number, dtype)
    nodes = [constant(s, dtype) if isinstance(s, bool | int | float) else cast(node_of(s), dtype) for s in slots]
    return nodes, tensors, dtype


def result_type(*operands: object) -> DType:
    """Return the dtype that tensors, dtypes and numbers promote to together."""
    if not operands:
        raise DTypeError("result_type: needs at least one tensor, dtype or number.")
    dtypes: list[DType] = []
    numbers: list[Number] = []
    for x in operands:
        number = None if isinstance(x, Value) else scalar(x)
        if number is not None:
            numbers.append(number)
        else:
            dtypes.append(x if isinstance(x, DType) else as_tensor("result_type", x).dtype)
    if not dtypes:
        dtypes = [_default("result_type", n) for n in numbers]
    dtype = dtypes[0]
    for other in dtypes[1:]:
        dtype = promote(dtype, other)
    for number in numbers:
        dtype = scalar_dtype("result_type", number, dtype)
    return dtype


_BOOL = from_numpy(np.dtype(bool))
