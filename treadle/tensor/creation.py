"""Functions of the array API that make tensors: from data, from numbers, from shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core import (
    ConfigError,
    DType,
    DTypeError,
    ShapeError,
    as_dtype,
    bool_,
    check_size,
    float32,
    from_numpy,
    int64,
    whole_number,
    whole_numbers,
)
from treadle.ir import Node, Number, Op, constant

from . import realize
from .manipulation import Shape, broadcast_to, expand_dims, reshape, stack
from .promotion import ArrayLike, Operand, as_tensor, cast, held, integer_range, is_array, is_sequence, scalar
from .value import Maker, Value, made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor

DEVICES = (None, "cpu")


def check_device(what: str, device: object) -> None:
    """Raise unless the device is the one there is."""
    if device is not None and str(device) not in DEVICES:
        raise ConfigError(f"{what}: there is no device {device!r}. Allowed: 'cpu'.")


def of_array(array: np.ndarray[Any, Any]) -> Tensor:
    """Return the tensor of a C-contiguous array nobody else writes to; nothing is copied."""
    return Maker.new(realize.data(array), 0, False)


def asarray(
    obj: ArrayLike,
    /,
    *,
    dtype: object | None = None,
    device: object | None = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Return a tensor of the data: a tensor, NumPy array, nested lists of numbers, or anything with DLPack.

    Args:
        obj: the data. Python floats become float32, ints int64.
        dtype: what to convert to; None keeps the data's.
        device: "cpu" or None.
        copy: the data is copied unless this is False. Then the tensor uses the memory of `obj`, which must be
            C-contiguous and must not be written to afterwards; ValueError where that is impossible.
        requires_grad: collect a gradient for it in backward().
    """
    check_device("asarray", device)
    wanted = None if dtype is None else as_dtype(dtype)
    if isinstance(obj, Value):
        tensor = obj.read()
        if wanted is not None and tensor.dtype is not wanted:
            tensor = made(cast(node_of(tensor), wanted), tensor)
    elif _holds_tensors(obj):
        tensor = asarray(stack([asarray(item) for item in obj]), dtype=wanted)
    else:
        tensor = of_array(_array(obj, wanted, copy))
    return tensor.detach().requires_grad_() if requires_grad else tensor


def _holds_tensors(obj: Any) -> bool:
    return is_sequence(obj) and any(isinstance(item, Value) or _holds_tensors(item) for item in obj)


def _array(obj: Any, dtype: DType | None, copy: bool | None) -> np.ndarray[Any, Any]:
    array: realize.Array
    if is_array(obj):
        array = obj
    elif hasattr(obj, "__dlpack__"):
        array = _from_dlpack(obj)
    elif isinstance(obj, memoryview | bytearray | bytes):
        array = np.frombuffer(obj, np.uint8) if isinstance(obj, bytes | bytearray) else np.asarray(obj)
    elif hasattr(obj, "__array__"):
        array = np.asarray(obj)
    else:
        return _of_numbers(obj, dtype, copy)
    from_numpy(array.dtype)
    target = array.dtype if dtype is None else dtype.numpy
    if copy is False:
        if array.dtype != target or not array.dtype.isnative or not array.flags.c_contiguous:
            raise ConfigError(
                f"asarray: copy=False, but {array.dtype} data of shape {list(array.shape)} "
                f"{'must be converted to ' + str(target) if array.dtype != target else 'is not C-contiguous'}. Leave "
                "copy out."
            )
        return array.view(np.ndarray)
    with np.errstate(all="ignore"):
        return (
            realize.aligned_copy(np.asarray(array))
            if array.dtype == target
            else np.ascontiguousarray(array.astype(target)).reshape(array.shape)
        )


def _from_dlpack(obj: Any) -> np.ndarray[Any, Any]:
    try:
        return np.from_dlpack(obj)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DTypeError(
            f"asarray: cannot read a {type(obj).__module__}.{type(obj).__name__} through DLPack ({error}). Move it to "
            "the CPU, detach it from its gradient and use a dtype NumPy knows, then try again."
        ) from error


def _of_numbers(obj: Any, dtype: DType | None, copy: bool | None) -> np.ndarray[Any, Any]:
    """Return the array of nested sequences of Python numbers; floats are float32."""
    if copy is False:
        raise ConfigError("asarray: copy=False, but Python numbers have no memory to share. Leave copy out.")
    try:
        array = np.asarray(obj)
    except ValueError as error:
        raise ShapeError(
            f"asarray: the nested sequences differ in length ({error}). Give rows of equal length."
        ) from None
    except OverflowError:
        raise DTypeError("asarray: a number does not fit any integer dtype. Give dtype='float64'.") from None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise DTypeError(
            f"asarray: cannot make a tensor of {type(obj).__name__} data ({array.dtype}). Allowed: bools, integers, "
            "floats, in lists of equal length."
        )
    weak = isinstance(obj, bool | int | float) or _only_python(obj)
    if array.dtype.kind == "f" and array.size and weak and dtype is None and not _has_float(obj):
        raise DTypeError(
            "asarray: the integers fit no integer dtype together. Give dtype='float64' for the nearest floats."
        )
    target = dtype
    if target is None:
        target = (float32 if array.dtype.kind == "f" else from_numpy(array.dtype)) if weak else from_numpy(array.dtype)
    if target.is_integer and array.dtype.kind in "iu" and array.size:
        low, high = integer_range(target)
        for value in (int(array.min()), int(array.max())):
            if not low <= value <= high:
                raise DTypeError(
                    f"asarray: {value} does not fit {target.name}, which holds {low} to {high}. Use a wider dtype."
                )
    with np.errstate(all="ignore"):
        return np.array(array, target.numpy, order="C")


def _only_python(obj: Any) -> bool:
    """Whether nested sequences end in Python numbers, looking at the first of each."""
    first: Any = obj
    while is_sequence(first) and first:
        first = first[0]
    return isinstance(first, bool | int | float | range | list | tuple)


def _has_float(obj: Any) -> bool:
    """Whether nested sequences have an element other than Python's integers and bools."""
    return any(map(_has_float, obj)) if is_sequence(obj) else not isinstance(obj, int)


def from_dlpack(x: Any, /, *, device: object | None = None, copy: bool | None = None) -> Tensor:
    """Return a tensor of data in another library's array; the memory is shared when it is contiguous, unless `copy`."""
    check_device("from_dlpack", device)
    array = _from_dlpack(x)
    from_numpy(array.dtype)
    if copy or not array.flags.c_contiguous:
        if copy is False:
            raise ConfigError("from_dlpack: copy=False, but the data is not C-contiguous. Leave copy out.")
        return of_array(realize.aligned_copy(array))
    return of_array(array)


# --- filled -------------------------------------------------------------------------------------------------


def _filled(what: str, shape: int | Shape, value: Number, dtype: DType) -> Tensor:
    sizes = whole_numbers(what, shape)
    if any(n < 0 for n in sizes):
        raise ShapeError(f"{what}: shape {list(sizes)} has a negative size. Sizes must be at least 0.")
    check_size(what, sizes)
    node = constant(value, dtype)
    return Maker.new(Op.registry["broadcast_to"](sizes)(node) if sizes else node, 0 if not sizes else 1, False)


def full(
    shape: int | Shape, fill_value: Operand, *, dtype: object | None = None, device: object | None = None
) -> Tensor:
    """Return a tensor with every element equal to `fill_value`; its dtype is that of the value unless given."""
    check_device("full", device)
    number = None if isinstance(fill_value, Value) else scalar(fill_value)
    if number is None:
        tensor = as_tensor("full", fill_value)
        return broadcast_to(asarray(tensor, dtype=dtype), shape)
    kind = bool_ if isinstance(number, bool) else int64 if isinstance(number, int) else float32
    wanted = kind if dtype is None else as_dtype(dtype)
    return _filled("full", shape, held("full", number, wanted), wanted)


def zeros(shape: int | Shape, *, dtype: object = float32, device: object | None = None) -> Tensor:
    """Return a tensor of zeros."""
    check_device("zeros", device)
    return _filled("zeros", shape, 0, as_dtype(dtype if dtype is not None else float32))


def ones(shape: int | Shape, *, dtype: object = float32, device: object | None = None) -> Tensor:
    """Return a tensor of ones."""
    check_device("ones", device)
    return _filled("ones", shape, 1, as_dtype(dtype if dtype is not None else float32))


def empty(shape: int | Shape, *, dtype: object = float32, device: object | None = None) -> Tensor:
    """Return a tensor to be filled; tensors do not change, so it holds zeros."""
    return zeros(shape, dtype=dtype, device=device)


def _like(x: Operand, dtype: object | None) -> tuple[tuple[int, ...], DType]:
    tensor = as_tensor("like", x)
    return tensor.shape, tensor.dtype if dtype is None else as_dtype(dtype)


def zeros_like(x: Operand, /, *, dtype: object | None = None, device: object | None = None) -> Tensor:
    """Return zeros of the shape and dtype of x."""
    check_device("zeros_like", device)
    shape, wanted = _like(x, dtype)
    return _filled("zeros_like", shape, 0, wanted)


def ones_like(x: Operand, /, *, dtype: object | None = None, device: object | None = None) -> Tensor:
    """Return ones of the shape and dtype of x."""
    check_device("ones_like", device)
    shape, wanted = _like(x, dtype)
    return _filled("ones_like", shape, 1, wanted)


def empty_like(x: Operand, /, *, dtype: object | None = None, device: object | None = None) -> Tensor:
    """Return a tensor of the shape and dtype of x to be filled; it holds zeros."""
    return zeros_like(x, dtype=dtype, device=device)


def full_like(
    x: Operand, /, fill_value: Operand, *, dtype: object | None = None, device: object | None = None
) -> Tensor:
    """Return a tensor of the shape and dtype of x with every element equal to `fill_value`."""
    shape, wanted = _like(x, dtype)
    return full(shape, fill_value, dtype=wanted, device=device)


# --- numbers in order ---------------------------------------------------------------------------------------


def iota(size: int, dtype: DType) -> Node:
    """Return the node of 0, 1, ..., size - 1."""
    return Op.registry["iota"](size, dtype)()


def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: object | None = None,
    device: object | None = None,
) -> Tensor:
    """Return start, start + step, ... up to but not including stop; with one argument, 0, 1, ... up to it."""
    check_device("arange", device)
    first, last = (0, start) if stop is None else (start, stop)
    for number in (first, last, step):
        if scalar(number) is None:
            raise DTypeError(
                f"arange: {number!r} is not a number. Shapes are fixed, so start, stop and step must be numbers."
            )
    if not all(math.isfinite(v) for v in (first, last, step)):
        raise ShapeError(f"arange: from {first} to {last} by {step} has no end. Give finite numbers.")
    if step == 0:
        raise ConfigError("arange: step 0 never arrives. Give a positive or negative step.")
    whole = all(isinstance(v, int | np.integer) for v in (first, last, step))
    wanted = (int64 if whole else float32) if dtype is None else as_dtype(dtype)
    size = max(math.ceil((last - first) / step), 0)
    check_size("arange", (size,))
    if whole:
        size = len(range(int(first), int(last), int(step)))
    if wanted is bool_:
        raise DTypeError("arange: does not make bools. Allowed: integers and floats.")
    if whole and wanted.is_integer:
        low, high = integer_range(wanted)
        for number in (int(first), int(first) + (size - 1) * int(step)) if size else ():
            if not low <= number <= high:
                raise DTypeError(f"arange: {number} does not fit {wanted.name}, which holds {low} to {high}.")
        node = iota(size, wanted)
        node = node if step == 1 else node * _wrapping(int(step), wanted)
        return Maker.new(node if first == 0 else node + int(first), 1, False)
    return of_array(np.asarray(first + step * np.arange(size, dtype=np.float64)).astype(wanted.numpy))


def _wrapping(value: int, dtype: DType) -> int:
    """Return the number modulo 2**bits: a negative step in an unsigned dtype counts down all the same."""
    return value % (1 << dtype.bits) if dtype.kind == "uint" else value


def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: object | None = None,
    device: object | None = None,
    endpoint: bool = True,
) -> Tensor:
    """Return `num` evenly spaced numbers from start to stop, with or without stop itself."""
    check_device("linspace", device)
    wanted = float32 if dtype is None else as_dtype(dtype)
    count = whole_number("linspace", num)
    if count < 0:
        raise ShapeError(f"linspace: {count} numbers are not possible. Give num of at least 0.")
    # As Python floats: NumPy would compute in the precision of arrays or tensors.
    ends = float(start), float(stop)
    with np.errstate(all="ignore"):
        return of_array(np.linspace(*ends, count, endpoint=endpoint, dtype=np.float64).astype(wanted.numpy))


def logspace(
    start: float,
    end: float,
    /,
    steps: int,
    base: float = 10.0,
    *,
    dtype: object | None = None,
    device: object | None = None,
) -> Tensor:
    """Return `steps` numbers from base**start to base**end, evenly spaced on a logarithmic scale."""
    check_device("logspace", device)
    count = whole_number("logspace", steps)
    if count < 0:
        raise ShapeError(f"logspace: {count} numbers are not possible. Give steps of at least 0.")
    wanted = float32 if dtype is None else as_dtype(dtype)
    with np.errstate(all="ignore"):
        powers = np.power(float(base), np.linspace(float(start), float(end), count, dtype=np.float64))
        return of_array(powers.astype(wanted.numpy))


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: object = float32, device: object | None = None
) -> Tensor:
    """Return a matrix with ones on diagonal k, zeros elsewhere."""
    check_device("eye", device)
    height, width = whole_numbers("eye", (n_rows, n_rows if n_cols is None else n_cols))
    rows = Maker.new(iota(height, int64), 1, False)
    diagonal = Maker.new(iota(width, int64), 1, False)
    shift = min(max(whole_number("eye", k), -height), width)  # of the same value, and sure to fit int64
    hit = expand_dims(rows, 1) + shift == diagonal
    return made(cast(hit.node, as_dtype(dtype if dtype is not None else float32)), hit)


def meshgrid(*arrays: Operand, indexing: str = "xy") -> list[Tensor]:
    """Return the coordinates of a grid, one tensor per axis vector (or number); "xy" exchanges the first two axes."""
    if indexing not in ("xy", "ij"):
        raise ConfigError(f"meshgrid: indexing {indexing!r} is unknown. Allowed: 'xy' and 'ij'.")
    tensors = [as_tensor("meshgrid", x) for x in arrays]
    for t in tensors:
        if t.ndim > 1:
            raise ShapeError(f"meshgrid: takes vectors, got {t.node.type!r}. Use reshape(x, -1) first.")
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[0], order[1] = 1, 0
    shape = [0] * len(tensors)
    for t, axis in zip(tensors, order, strict=True):
        shape[axis] = t.size
    grid: list[Tensor] = []
    for t, axis in zip(tensors, order, strict=True):
        line = [t.size if a == axis else 1 for a in range(len(shape))]
        grid.append(broadcast_to(reshape(t, line), shape))
    return grid


def one_hot(x: Operand, /, num_classes: int, *, dtype: object = float32) -> Tensor:
    """Return ones at the position of every index along a new last axis, zeros elsewhere."""
    tensor = as_tensor("one_hot", x)
    return made(Op.registry["one_hot"](num_classes, as_dtype(dtype))(node_of(tensor)), tensor)
