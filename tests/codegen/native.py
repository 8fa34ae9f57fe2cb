"""What tests of generated code share: compile one elementwise kernel and run it on arrays; measure errors in ulp."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np

from treadle.codegen import target, toolchain
from treadle.codegen.llvm import Function, Module, Value
from treadle.codegen.memory import load_lanes, store_lanes
from treadle.core.dtypes import DType
from treadle.runtime.pool import scratch
from treadle.runtime.storage import Storage, allocate

Array = np.ndarray[Any, Any]
_KERNEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)


def call(address: int, buffers: Sequence[np.ndarray[Any, Any]], lo: int, hi: int, scratch: int | None = None) -> None:
    """Call a kernel on buffers numbered in order."""
    slots = (ctypes.c_void_p * len(buffers))(*[b.ctypes.data for b in buffers])
    args = (ctypes.c_int64 * len(buffers))(*range(len(buffers)))
    _KERNEL(address)(slots, args, lo, hi, scratch)


GUARD_NBYTES = 8192


@contextmanager
def guarded_scratch() -> Iterator[None]:
    """Give programs on one thread scratch memory of just the size they asked for, and fail if they write behind it."""
    taken: list[Array] = []

    def take(nbytes: int) -> Storage:
        block = allocate(nbytes + GUARD_NBYTES)
        taken.append(block.numpy()[nbytes:])
        taken[-1][:] = 0xA5
        return block

    with patch.object(scratch, "take", take), patch.object(scratch, "give"):
        yield
    for guard in taken:
        assert (guard == 0xA5).all(), f"wrote {np.flatnonzero(guard != 0xA5).max() + 1} bytes behind its scratch memory"


@dataclass(frozen=True)
class Formula:
    """`out[i] = emit(f, [a[i], b[i], ...])` for operands of `dtypes`."""

    emit: Callable[[Function, list[Value]], Value]
    dtypes: Sequence[DType]
    out: DType
    lanes: int


class Elementwise:
    """A kernel of a formula, loaded; lengths are padded to whole vectors."""

    def __init__(self, formula: Formula, library: toolchain.Library, name: str) -> None:
        self._formula, self._library, self._name = formula, library, name

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        n, lanes = len(arrays[0]), self._formula.lanes
        padded = -(-n // lanes) * lanes
        inputs = [np.ones(padded, d.numpy) for d in self._formula.dtypes]
        for to, given in zip(inputs, arrays, strict=True):
            to[:n] = given
        result = np.zeros(padded, self._formula.out.numpy)
        call(self._library.address(self._name), [*inputs, result], 0, padded)
        return result[:n]


def compile_all(formulas: dict[str, Formula], *, portable: bool = False) -> dict[str, Elementwise]:
    """The kernels of formulas, compiled as one module for `config.cpu`; portable: the module is not told the CPU."""
    machine = target.host()
    module = Module("test", None if portable else machine)
    for name, formula in formulas.items():
        _write(module.kernel(name), formula)
    library = toolchain.load([toolchain.compile_object(str(module), machine)], list(formulas))
    return {name: Elementwise(formula, library, name) for name, formula in formulas.items()}


def elementwise(
    emit: Callable[[Function, list[Value]], Value], dtypes: Sequence[DType], out: DType, lanes: int
) -> Elementwise:
    """One such kernel."""
    return compile_all({"kernel": Formula(emit, dtypes, out, lanes)})["kernel"]


def _write(f: Function, formula: Formula) -> None:
    buffers = [f.buffer(k) for k in range(len(formula.dtypes) + 1)]

    def body(i: Value, _: tuple[Value, ...]) -> None:
        values = [load_lanes(f, b, i, d, formula.lanes) for b, d in zip(buffers, formula.dtypes, strict=False)]
        store_lanes(f, formula.emit(f, values), buffers[-1], i, formula.out)

    f.loop(f.params[2], f.params[3], formula.lanes, (), body)
    f.ret()


def ulps(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Errors in units in the last place of the exact `want` (longdouble); equal NaN and infinities are no error."""
    info = np.finfo(got.dtype)
    usable = np.isfinite(want) & (want != 0)
    exponent = np.maximum(np.frexp(np.where(usable, want, 1))[1] - 1, int(info.minexp))
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        error = np.abs(got.astype(np.longdouble) - want) / np.ldexp(np.longdouble(1), exponent - info.nmant)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(same, np.where(np.isfinite(error), np.minimum(error, 0.5), 0), error)
    return np.where(np.isnan(error), np.inf, error).astype(np.float64)


def undefined_symbols(code: bytes) -> list[str]:
    """The symbols an ELF64 object expects from elsewhere."""
    sections = int.from_bytes(code[0x28:0x30], "little")
    size, count = int.from_bytes(code[0x3A:0x3C], "little"), int.from_bytes(code[0x3C:0x3E], "little")

    def number(section: int, at: int, nbytes: int) -> int:
        start = sections + section * size + at
        return int.from_bytes(code[start : start + nbytes], "little")

    found: list[str] = []
    for section in range(count):
        if number(section, 4, 4) != 2:  # SHT_SYMTAB
            continue
        names = number(number(section, 0x28, 4), 0x18, 8)
        first, nbytes = number(section, 0x18, 8), number(section, 0x20, 8)
        for at in range(first + 24, first + nbytes, 24):
            if code[at + 6 : at + 8] == b"\0\0":
                start = names + int.from_bytes(code[at : at + 4], "little")
                found.append(code[start : code.index(b"\0", start)].decode())
    return found
