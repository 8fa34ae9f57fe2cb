"""Tasks that run in Python: a function on arrays as an address that the executor calls like a kernel.

The call takes the GIL, whichever thread makes it, and looks at the program's buffers as NumPy arrays. An exception
cannot pass through native code: it is kept, the results become NaN (0 in integers), the run goes on to its end, and
whoever started it raises what was kept.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from treadle.core import Type

Array = np.ndarray[Any, Any]
Function = Callable[[Sequence[Array]], Sequence[Array]]

_WORD = ctypes.c_size_t
_TASK = ctypes.CFUNCTYPE(None, _WORD, _WORD, _WORD, _WORD, _WORD)  # slots, args, first tile, last tile, scratch


class Failure(NamedTuple):
    """What went wrong in a run: the address of the failing task's arguments, and the exception."""

    args: int
    error: BaseException


_failures: dict[int, Failure] = {}  # by the address of the slots of the run: one run at a time uses them
_keep: list[object] = []  # native code holds addresses, which Python cannot see


def host_task(function: Function, reads: Sequence[Type], makes: Sequence[Type]) -> int:
    """Return the address of a task that calls `function` on the operands and copies what it returns to the results."""

    def task(slots: int, args: int, *_: int) -> None:
        outs: list[Array] = []
        try:
            places = [_word(slots + 8 * _word(args + 8 * k)) for k in range(len(reads) + len(makes))]
            arrays = [_view(at, t) for at, t in zip(places, [*reads, *makes], strict=True)]
            operands, outs = arrays[: len(reads)], arrays[len(reads) :]
            for out, value in zip(outs, function(operands), strict=True):
                out[...] = value
        except BaseException as error:
            _failures.setdefault(slots, Failure(args, error))
            for out in outs:
                out.fill(0 if out.dtype.kind in "biu" else np.nan)

    callback = _TASK(task)
    _keep.append(callback)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    return address


def take_failure(slots: int) -> Failure | None:
    """Return the first exception of the run that just ended over these slots, and forget it."""
    return _failures.pop(slots, None) if _failures else None


def _word(address: int) -> int:
    return _WORD.from_address(address).value


def _view(address: int, of: Type) -> Array:
    """Return the memory at an address as an array."""
    if not of.nbytes:
        return np.empty(of.shape, of.dtype.numpy)
    memory: Any = (ctypes.c_char * of.nbytes).from_address(address)
    return np.ndarray(of.shape, of.dtype.numpy, memory)
