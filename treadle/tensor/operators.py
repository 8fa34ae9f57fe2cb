"""The operators and methods that tensors and cells share. Each is one call of a function of the namespace."""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core import (
    BY_NAME,
    ConfigError,
    DType,
    DTypeError,
    ShapeError,
    flatten,
    normalize_axis,
    unflatten,
    whole_numbers,
)
from treadle.ir import Node, Number

from . import data_types, indexing, linalg, manipulation, realize, reductions
from . import elementwise as ew
from .creation import check_device
from .indexing import At, Key
from .keywords import either_word
from .manipulation import Shape
from .order_methods import OrderMethods
from .promotion import Operand, scalar
from .reductions import Axis
from .torch_names import method_hint
from .value import Value, realized

if TYPE_CHECKING:
    from .tensor import Tensor

Array = np.ndarray[Any, Any]

API_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")  # of the array API standard


def _usable(x: object) -> bool:
    """Whether an operator should try the operand; others get their own turn, and else Python's TypeError.

    Arrays of other libraries count: operators take what functions take.
    """
    return isinstance(x, Value | np.ndarray) or scalar(x) is not None or hasattr(x, "__array__")


class _Unmarked:
    """The memory of an array without the mark that it is not to be written to; NumPy's view of it keeps this alive."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


class Operators(OrderMethods):
    """What can be done with a tensor, or with a cell as the tensor it holds.

    Tensors do not change: `x += y` is `x = x + y`, and gives x the dtype and shape that sum has.
    """

    __slots__ = ()
    __array_priority__ = 1000  # `array + tensor` is a tensor

    if not TYPE_CHECKING:  # a type checker is to go on reporting names that do not exist

        def __getattr__(self, name: str) -> Any:
            owner = type(self)
            raise AttributeError(f"{owner.__name__!r} object has no attribute {name!r}{method_hint(name, owner)}")

    # --- what it is ---

    @property
    def node(self) -> Node:
        """The program that computes it."""
        return self.read().node

    @property
    def dtype(self) -> DType:
        """The type of its elements."""
        return self.node.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of elements along every axis."""
        return self.node.type.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.node.type.size

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.node.type.nbytes

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def device(self) -> str:
        """Where it is: always "cpu"."""
        return "cpu"

    def numel(self) -> int:
        """Return the number of elements."""
        return self.size

    def dim(self) -> int:
        """Return the number of axes."""
        return self.ndim

    @property
    def T(self) -> Tensor:
        """The matrix transposed."""
        if self.ndim != 2:
            raise ShapeError(f"T: {self.node.type!r} is not a matrix. Use .mT for the last two axes, or permute().")
        return linalg.matrix_transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return linalg.matrix_transpose(self)

    @property
    def at(self) -> At:
        """`x.at[key].set(v)`, `.add(v)`, `.multiply(v)`: a copy of x with some elements changed."""
        return At(self.read())

    # --- its numbers ---

    def _array(self, why: str) -> Array:
        (handle,) = realized(self.read(), why=why)
        return handle.array

    def numpy(self) -> Array:
        """Return the numbers as a NumPy array that must not be written to; nothing is copied."""
        view = self._array("numpy").view()
        view.flags.writeable = False
        return view

    def item(self) -> Number:
        """Return the only element as a Python number."""
        if self.size != 1:
            raise ShapeError(
                f"item: {self.node.type!r} has {self.size} elements. Allowed: exactly one; use tolist() or index it."
            )
        return _python(self._array("item")).reshape(()).item()

    def tolist(self) -> Any:
        """Return the numbers as nested lists of Python numbers."""
        return _python(self._array("tolist")).tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            if copy is False:
                raise ConfigError(f"numpy: {self.dtype.name} cannot be seen as {dtype} without a copy. Leave copy out.")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions take tensors as arrays and return arrays."""
        leaves, structure = flatten((args, kwargs))
        read = _outline if function in (np.shape, np.ndim, np.size) else np.asarray
        args, kwargs = unflatten(structure, [read(leaf) if isinstance(leaf, Operators) else leaf for leaf in leaves])
        return function(*args, **kwargs)

    def __dlpack__(
        self,
        *,
        stream: object | None = None,
        max_version: tuple[builtins.int, builtins.int] | None = None,
        dl_device: tuple[builtins.int, builtins.int] | None = None,
        copy: builtins.bool | None = None,
    ) -> Any:
        if self.dtype.name == "bfloat16":
            raise DTypeError("__dlpack__: NumPy cannot hand out bfloat16. Convert with astype(td.float32) first.")
        # Not every library heeds the mark that memory is read-only, so theirs is a copy unless they insist. Versions
        # before 1.0 do not know the mark: NumPy hands out only what may be written to.
        if copy is False:
            array = self.numpy() if max_version and max_version[0] >= 1 else np.asarray(_Unmarked(self.numpy()))
        else:
            array = self.numpy().copy()
        return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        if api_version is not None and api_version not in API_VERSIONS:
            raise ConfigError(
                f"__array_namespace__: version {api_version!r} is unknown. Allowed: {', '.join(API_VERSIONS)}."
            )
        return Namespace.module

    def _scalar(self, why: str) -> Number:
        if self.size != 1:
            raise ShapeError(
                f"{why}: {self.node.type!r} has {self.size} elements; only a tensor with one can be a Python {why}. "
                f"Reduce it first, for instance with {'any() or all()' if why == 'bool' else 'sum() or mean()'}."
            )
        return _python(self._array(why)).reshape(()).item()

    def __bool__(self) -> bool:
        return builtins.bool(self._scalar("bool"))

    def __float__(self) -> float:
        return builtins.float(self._scalar("float"))

    def __int__(self) -> int:
        return builtins.int(self._scalar("int"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex"))

    def __index__(self) -> int:
        if not self.dtype.is_integer:
            raise DTypeError(
                f"index: a {self.dtype.name} tensor is not a whole number. Use int(x), or an integer dtype."
            )
        return builtins.int(self._scalar("index"))

    def __len__(self) -> int:
        if not self.ndim:
            raise ShapeError("len: a 0-d tensor has no length. Use reshape(1) for a vector of one.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise ShapeError("iter: a 0-d tensor cannot be iterated over. Use item() for its value.")
        return iter(manipulation.unstack(self))

    def __contains__(self, value: Operand) -> bool:
        return builtins.bool(reductions.any(ew.equal(self, value)))

    def __repr__(self) -> str:
        tensor = self.read()
        extra = ", requires_grad=True" if tensor.requires_grad else ""
        if realize.is_traced(tensor.node):
            return f"{type(self).__name__}({tensor.node.type!r}, traced{extra})"
        start = f"{type(self).__name__}("
        (handle,) = realized(tensor, why="repr")
        array = handle.array.astype(np.float32) if self.dtype.name == "bfloat16" else handle.array
        values = np.array2string(array, separator=", ", prefix=start)
        return f"{start}{values}, dtype={self.dtype.name}, shape={self.shape}{extra})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __hash__(self) -> int:
        return id(self)

    # --- indexing ---

    def __getitem__(self, key: Key) -> Tensor:
        return indexing.getitem(self.read(), key)

    def __setitem__(self, key: Key, value: object) -> None:
        raise TypeError(
            f"Tensor: x[{_key_text(key)}] = ... is not possible, tensors do not change. Use x = "
            f"x.at[{_key_text(key)}].set(value) for a changed copy, or td.where(condition, value, x)."
        )

    # --- operators ---

    def __add__(self, other: Operand) -> Tensor:
        return ew.add(self, other) if _usable(other) else NotImplemented

    def __radd__(self, other: Operand) -> Tensor:
        return ew.add(other, self) if _usable(other) else NotImplemented

    def __sub__(self, other: Operand) -> Tensor:
        return ew.subtract(self, other) if _usable(other) else NotImplemented

    def __rsub__(self, other: Operand) -> Tensor:
        return ew.subtract(other, self) if _usable(other) else NotImplemented

    def __mul__(self, other: Operand) -> Tensor:
        return ew.multiply(self, other) if _usable(other) else NotImplemented

    def __rmul__(self, other: Operand) -> Tensor:
        return ew.multiply(other, self) if _usable(other) else NotImplemented

    def __truediv__(self, other: Operand) -> Tensor:
        return ew.divide(self, other) if _usable(other) else NotImplemented

    def __rtruediv__(self, other: Operand) -> Tensor:
        return ew.divide(other, self) if _usable(other) else NotImplemented

    def __floordiv__(self, other: Operand) -> Tensor:
        return ew.floor_divide(self, other) if _usable(other) else NotImplemented

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return ew.floor_divide(other, self) if _usable(other) else NotImplemented

    def __mod__(self, other: Operand) -> Tensor:
        return ew.remainder(self, other) if _usable(other) else NotImplemented

    def __rmod__(self, other: Operand) -> Tensor:
        return ew.remainder(other, self) if _usable(other) else NotImplemented

    def __pow__(self, other: Operand) -> Tensor:
        return ew.pow(self, other) if _usable(other) else NotImplemented

    def __rpow__(self, other: Operand) -> Tensor:
        return ew.pow(other, self) if _usable(other) else NotImplemented

    def __and__(self, other: Operand) -> Tensor:
        return ew.bitwise_and(self, other) if _usable(other) else NotImplemented

    def __rand__(self, other: Operand) -> Tensor:
        return ew.bitwise_and(other, self) if _usable(other) else NotImplemented

    def __or__(self, other: Operand) -> Tensor:
        return ew.bitwise_or(self, other) if _usable(other) else NotImplemented

    def __ror__(self, other: Operand) -> Tensor:
        return ew.bitwise_or(other, self) if _usable(other) else NotImplemented

    def __xor__(self, other: Operand) -> Tensor:
        return ew.bitwise_xor(self, other) if _usable(other) else NotImplemented

    def __rxor__(self, other: Operand) -> Tensor:
        return ew.bitwise_xor(other, self) if _usable(other) else NotImplemented

    def __lshift__(self, other: Operand) -> Tensor:
        return ew.bitwise_left_shift(self, other) if _usable(other) else NotImplemented

    def __rlshift__(self, other: Operand) -> Tensor:
        return ew.bitwise_left_shift(other, self) if _usable(other) else NotImplemented

    def __rshift__(self, other: Operand) -> Tensor:
        return ew.bitwise_right_shift(self, other) if _usable(other) else NotImplemented

    def __rrshift__(self, other: Operand) -> Tensor:
        return ew.bitwise_right_shift(other, self) if _usable(other) else NotImplemented

    def __lt__(self, other: Operand) -> Tensor:
        return ew.less(self, other) if _usable(other) else NotImplemented

    def __le__(self, other: Operand) -> Tensor:
        return ew.less_equal(self, other) if _usable(other) else NotImplemented

    def __gt__(self, other: Operand) -> Tensor:
        return ew.greater(self, other) if _usable(other) else NotImplemented

    def __ge__(self, other: Operand) -> Tensor:
        return ew.greater_equal(self, other) if _usable(other) else NotImplemented

    def __eq__(self, other: object) -> Any:
        return ew.equal(self, other) if _usable(other) else NotImplemented  # pyright: ignore[reportArgumentType]

    def __ne__(self, other: object) -> Any:
        return ew.not_equal(self, other) if _usable(other) else NotImplemented  # pyright: ignore[reportArgumentType]

    def __matmul__(self, other: Operand) -> Tensor:
        return linalg.matmul(self, other) if _usable(other) else NotImplemented

    def __rmatmul__(self, other: Operand) -> Tensor:
        return linalg.matmul(other, self) if _usable(other) else NotImplemented

    def __divmod__(self, other: Operand) -> tuple[Tensor, Tensor]:
        return (ew.floor_divide(self, other), ew.remainder(self, other)) if _usable(other) else NotImplemented

    def __rdivmod__(self, other: Operand) -> tuple[Tensor, Tensor]:
        return (ew.floor_divide(other, self), ew.remainder(other, self)) if _usable(other) else NotImplemented

    def __round__(self, digits: int = 0) -> Tensor:
        return ew.round(self, decimals=digits)

    def __neg__(self) -> Tensor:
        return ew.negative(self)

    def __pos__(self) -> Tensor:
        return self.read()

    def __abs__(self) -> Tensor:
        return ew.abs(self)

    def __invert__(self) -> Tensor:
        return ew.bitwise_invert(self)

    # --- dtype and device ---

    def astype(self, dtype: object, *, copy: builtins.bool = True) -> Tensor:
        """Return it in another dtype."""
        return data_types.astype(self, dtype, copy=copy)

    def to(
        self,
        target: object | None = None,
        dtype: object | None = None,
        non_blocking: builtins.bool = False,
        copy: builtins.bool = False,
        *,
        device: object | None = None,
    ) -> Tensor:
        """Return it in another dtype, or on a device, of which there is one: "cpu".

        `target` is a dtype, a device, or a tensor whose dtype is meant. Nothing is ever copied, nothing has to be
        waited for: `non_blocking` and `copy` make no difference.
        """
        check_device("to", device)
        if isinstance(dtype, builtins.bool):  # PyTorch's order after a dtype: non_blocking, copy
            dtype = None
        if isinstance(target, Operators):
            target = target.dtype
        elif isinstance(target, str) and target not in BY_NAME:
            check_device("to", target)
            target = None
        wanted = dtype if target is None else target
        return self.read() if wanted is None else data_types.astype(self, wanted)

    def to_device(self, device: object, /, *, stream: object | None = None) -> Tensor:
        """Return it on a device, of which there is one: "cpu"."""
        check_device("to_device", device)
        return self.read()

    def cpu(self) -> Tensor:
        """Return the tensor: it is on the CPU."""
        return self.read()

    def contiguous(self) -> Tensor:
        """Return the tensor: its elements are dense."""
        return self.read()

    def clone(self) -> Tensor:
        """Return the tensor: it does not change, so it is its own copy."""
        return self.read()

    def float(self) -> Tensor:
        """Return it as float32."""
        return data_types.astype(self, "float32")

    def double(self) -> Tensor:
        """Return it as float64."""
        return data_types.astype(self, "float64")

    def half(self) -> Tensor:
        """Return it as float16."""
        return data_types.astype(self, "float16")

    def bfloat16(self) -> Tensor:
        """Return it as bfloat16."""
        return data_types.astype(self, "bfloat16")

    def int(self) -> Tensor:
        """Return it as int32."""
        return data_types.astype(self, "int32")

    def long(self) -> Tensor:
        """Return it as int64."""
        return data_types.astype(self, "int64")

    def bool(self) -> Tensor:
        """Return it as bool."""
        return data_types.astype(self, "bool")

    # --- elementwise ---

    def abs(self) -> Tensor:
        """Return the absolute values, element by element."""
        return ew.abs(self)

    def exp(self) -> Tensor:
        """Return e**x, element by element."""
        return ew.exp(self)

    def log(self) -> Tensor:
        """Return the natural logarithm, element by element."""
        return ew.log(self)

    def log1p(self) -> Tensor:
        """Return log(1 + x), element by element."""
        return ew.log1p(self)

    def sqrt(self) -> Tensor:
        """Return the square root, element by element."""
        return ew.sqrt(self)

    def rsqrt(self) -> Tensor:
        """Return 1 / sqrt(x), element by element."""
        return ew.rsqrt(self)

    def square(self) -> Tensor:
        """Return x * x, element by element."""
        return ew.square(self)

    def reciprocal(self) -> Tensor:
        """Return 1 / x, element by element."""
        return ew.reciprocal(self)

    def sin(self) -> Tensor:
        """Return the sine, element by element."""
        return ew.sin(self)

    def cos(self) -> Tensor:
        """Return the cosine, element by element."""
        return ew.cos(self)

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent, element by element."""
        return ew.tanh(self)

    def sigmoid(self) -> Tensor:
        """Return 1 / (1 + exp(-x)), element by element."""
        return ew.sigmoid(self)

    def erf(self) -> Tensor:
        """Return the error function, element by element."""
        return ew.erf(self)

    def sign(self) -> Tensor:
        """Return -1, 0 or 1, element by element."""
        return ew.sign(self)

    def floor(self) -> Tensor:
        """Return x rounded down, element by element."""
        return ew.floor(self)

    def ceil(self) -> Tensor:
        """Return x rounded up, element by element."""
        return ew.ceil(self)

    def trunc(self) -> Tensor:
        """Return x rounded towards 0, element by element."""
        return ew.trunc(self)

    def round(self, *, decimals: builtins.int = 0) -> Tensor:
        """Return x rounded to so many decimals, halves to even, element by element."""
        return ew.round(self, decimals=decimals)

    def isnan(self) -> Tensor:
        """Return whether it is NaN, element by element."""
        return ew.isnan(self)

    def isinf(self) -> Tensor:
        """Return whether it is infinite, element by element."""
        return ew.isinf(self)

    def isfinite(self) -> Tensor:
        """Return whether it is neither NaN nor infinite, element by element."""
        return ew.isfinite(self)

    def pow(self, exponent: Operand) -> Tensor:
        """Return x raised to the exponent."""
        return ew.pow(self, exponent)

    def maximum(self, other: Operand) -> Tensor:
        """Return the larger of it and another."""
        return ew.maximum(self, other)

    def minimum(self, other: Operand) -> Tensor:
        """Return the smaller of it and another."""
        return ew.minimum(self, other)

    def clip(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """Return x limited to a range."""
        return ew.clip(self, min, max)

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """Return x limited to a range: PyTorch's name of clip."""
        return ew.clip(self, min, max)

    def masked_fill(self, mask: Operand, value: Operand) -> Tensor:
        """Return x, of its dtype, with `value` where the mask holds."""
        return ew.where(mask, indexing.replacement("masked_fill", self.read(), value), self)

    # --- folding ---

    @either_word
    def sum(self, axis: Axis = None, *, dtype: object | None = None, keepdims: builtins.bool = False) -> Tensor:
        """Return the sum along axes (all when None)."""
        return reductions.sum(self, axis=axis, dtype=dtype, keepdims=keepdims)

    @either_word
    def prod(self, axis: Axis = None, *, dtype: object | None = None, keepdims: builtins.bool = False) -> Tensor:
        """Return the product along axes (all when None)."""
        return reductions.prod(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis: Axis = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return the largest element along axes (all when None)."""
        return reductions.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return the smallest element along axes (all when None)."""
        return reductions.min(self, axis=axis, keepdims=keepdims)

    @either_word
    def mean(self, axis: Axis = None, *, keepdims: builtins.bool = False, dtype: object | None = None) -> Tensor:
        """Return the mean along axes (all when None)."""
        return reductions.mean(self, axis=axis, keepdims=keepdims, dtype=dtype)

    @either_word
    def any(self, axis: Axis = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return whether some element is true along axes (all when None)."""
        return reductions.any(self, axis=axis, keepdims=keepdims)

    @either_word
    def all(self, axis: Axis = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return whether every element is true along axes (all when None)."""
        return reductions.all(self, axis=axis, keepdims=keepdims)

    def logsumexp(self, axis: Axis = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return log(sum(exp(x))) along axes (all when None)."""
        return reductions.logsumexp(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, *, correction: builtins.float = 0.0, keepdims: builtins.bool = False) -> Tensor:
        """Return the variance along axes (all when None)."""
        return reductions.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Axis = None, *, correction: builtins.float = 0.0, keepdims: builtins.bool = False) -> Tensor:
        """Return the standard deviation along axes (all when None)."""
        return reductions.std(self, axis=axis, correction=correction, keepdims=keepdims)

    @either_word
    def argmax(self, axis: builtins.int | None = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return the position of the first largest element along an axis (of the flattened tensor when None)."""
        return reductions.argmax(self, axis=axis, keepdims=keepdims)

    @either_word
    def argmin(self, axis: builtins.int | None = None, *, keepdims: builtins.bool = False) -> Tensor:
        """Return the position of the first smallest element along an axis (of the flattened tensor when None)."""
        return reductions.argmin(self, axis=axis, keepdims=keepdims)

    def softmax(self, axis: builtins.int = -1) -> Tensor:
        """Return exp(x) scaled to sum to 1 along an axis."""
        return reductions.softmax(self, axis=axis)

    def log_softmax(self, axis: builtins.int = -1) -> Tensor:
        """Return the logarithm of softmax along an axis."""
        return reductions.log_softmax(self, axis=axis)

    # --- arranging ---

    def reshape(self, *shape: builtins.int | Shape) -> Tensor:
        """Return it under another shape; one size may be -1."""
        return manipulation.reshape(self, _shape("reshape", shape))

    def view(self, *shape: builtins.int | Shape) -> Tensor:
        """Return it under another shape: PyTorch's name of reshape."""
        return manipulation.reshape(self, _shape("view", shape))

    def flatten(self, start: builtins.int = 0, end: builtins.int = -1) -> Tensor:
        """Return it with the axes from `start` to `end` joined."""
        return manipulation.flatten(self, start, end)

    def unflatten(self, axis: builtins.int, sizes: Shape) -> Tensor:
        """Return it with one axis split into several; one size may be -1."""
        at = normalize_axis("unflatten", axis, self.ndim)
        parts, size = whole_numbers("unflatten", sizes), self.shape[at]
        known = math.prod(s for s in parts if s != -1)
        if known > 0 and parts.count(-1) == 1:
            parts = tuple(size // known if s == -1 else s for s in parts)
        if math.prod(parts) != size or builtins.min(parts, default=0) < 0:
            raise ShapeError(
                f"unflatten: sizes {list(sizes)} do not multiply to {size}, the size of axis {at} of "
                f"{self.node.type!r}. They must; one of them may be -1."
            )
        return manipulation.reshape(self, (*self.shape[:at], *parts, *self.shape[at + 1 :]))

    def permute(self, *axes: builtins.int | Shape) -> Tensor:
        """Return it with its axes in another order."""
        return manipulation.permute_dims(self, _shape("permute", axes))

    def transpose(self, *axes: builtins.int | Shape) -> Tensor:
        """Return it with two axes exchanged (PyTorch); with a tuple of axes, or none, reordered or reversed (NumPy)."""
        order = _shape("transpose", axes)
        if len(axes) == 2:
            return manipulation.swapaxes(self, *order)
        return manipulation.permute_dims(self, order if axes else tuple(reversed(range(self.ndim))))

    def swapaxes(self, axis1: builtins.int, axis2: builtins.int) -> Tensor:
        """Return it with two axes exchanged."""
        return manipulation.swapaxes(self, axis1, axis2)

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Return it without axes of size 1: the given ones, or all."""
        ones = [a for a, n in enumerate(self.shape) if n == 1]
        return manipulation.squeeze(self, ones if axis is None else axis)

    def unsqueeze(self, axis: builtins.int) -> Tensor:
        """Return it with a new axis of size 1."""
        return manipulation.expand_dims(self, axis)

    def expand(self, *shape: builtins.int | Shape) -> Tensor:
        """Return it repeated along axes of size 1, and along new axes in front; -1 keeps a size."""
        sizes = _shape("expand", shape)
        new = len(sizes) - self.ndim
        if new < 0 or -1 in sizes[:new]:
            raise ShapeError(
                f"expand: {list(sizes)} does not fit {self.node.type!r}. Give a size for every axis, and for new ones "
                "in front; -1 keeps the size of an axis that there is."
            )
        kept = zip(sizes[new:], self.shape, strict=True)
        return manipulation.broadcast_to(self, (*sizes[:new], *[own if s == -1 else s for s, own in kept]))

    def broadcast_to(self, *shape: builtins.int | Shape) -> Tensor:
        """Return it repeated along axes of size 1, and along new axes in front."""
        return manipulation.broadcast_to(self, _shape("broadcast_to", shape))

    def split(self, sizes: builtins.int | Sequence[builtins.int], axis: builtins.int = 0) -> tuple[Tensor, ...]:
        """Return consecutive parts along an axis: all of one size, or of the sizes given."""
        return manipulation.split(self, sizes, axis=axis)

    def chunk(self, count: builtins.int, axis: builtins.int = 0) -> tuple[Tensor, ...]:
        """Return `count` parts along an axis."""
        return manipulation.chunk(self, count, axis=axis)

    def flip(self, axis: Axis = None) -> Tensor:
        """Return it with the order reversed along axes (all when None)."""
        return manipulation.flip(self, axis=axis)

    def tril(self, k: builtins.int = 0) -> Tensor:
        """Return the matrices with zeros above diagonal k."""
        return manipulation.tril(self, k=k)

    def triu(self, k: builtins.int = 0) -> Tensor:
        """Return the matrices with zeros below diagonal k."""
        return manipulation.triu(self, k=k)

    def take(self, indices: Operand, axis: builtins.int | None = None) -> Tensor:
        """Return the slices along an axis at integer positions."""
        return indexing.take(self, indices, axis=axis)

    def matmul(self, other: Operand) -> Tensor:
        """Return the matrix product."""
        return linalg.matmul(self, other)


class Namespace:
    """The module `treadle`, which is above this layer; treadle/__init__.py sets it."""

    module: Any = None


def _outline(x: Operators) -> Array:
    """Return an array of the tensor's shape and dtype, without its numbers."""
    return np.broadcast_to(np.empty((), x.dtype.numpy), x.shape)


def _python(array: Array) -> Array:
    """Return an array whose elements have Python numbers: bfloat16 comes from outside NumPy."""
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name == "bfloat16" else array


def _shape(what: str, sizes: tuple[int | Shape, ...]) -> tuple[int, ...]:
    """Return sizes given one by one or as one sequence."""
    return whole_numbers(what, sizes[0] if len(sizes) == 1 else sizes)


def _key_text(key: Key) -> str:
    return "i" if isinstance(key, Value | np.ndarray | list) else str(key).strip("()").replace("Ellipsis", "...")
