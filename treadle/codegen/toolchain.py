"""The door to LLVM: IR text to object code, object code to addresses.

No middle-end pass runs: what `llvm.py` wrote is what instructions are selected for. LLVM is initialised at first use.
Everything here may be called from any thread.
"""

import itertools
import re
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite
import llvmlite.binding

from treadle.codegen.target import Target
from treadle.core.config import config
from treadle.core.errors import CompileError

_llvm: Any = llvmlite.binding
_OPT_LEVEL = 2  # of code generation only: below 1 there is no scheduling, 3 gains nothing
_EMIT = "LLVMPY_TargetMachineEmitToMemory"
_library_numbers = itertools.count()
_own = threading.local()


@cache
def _triple() -> str:
    _llvm.initialize_native_target()
    _llvm.initialize_native_asmprinter()
    _llvm.initialize_native_asmparser()  # for inline assembly such as the futex system call
    return str(_llvm.get_process_triple())


def _machine(target: Target) -> Any:
    """The code generator for a CPU; every thread has its own."""
    machines: dict[str, Any] = _own.__dict__.setdefault("machines", {})
    if target.key not in machines:
        _unlock(_EMIT)
        triple = _llvm.Target.from_triple(_triple())
        machines[target.key] = triple.create_target_machine(
            cpu=target.cpu, features=target.features, opt=_OPT_LEVEL, reloc="pic", codemodel="small", jit=True
        )
    return machines[target.key]


@cache
def _unlock(name: str) -> None:
    """Let threads run a function of LLVM at the same time.

    llvmlite holds one lock around every call. Writing object code is nearly all of our time in LLVM, and threads that
    use contexts and machines of their own, as here, may do it side by side. Where llvmlite has no such wrapper any
    more, its lock stays.
    """
    functions: Any = llvmlite.binding.ffi.lib
    raw = getattr(getattr(functions, name), "_cfn", None)
    if raw is not None:
        functions._fntab[name] = raw


@cache
def _engine() -> Any:
    _triple()
    # JITLink puts code and constants of an object into one block, as the small code model needs.
    return _llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)


def versions() -> str:
    """Versions of llvmlite and LLVM, for cache keys."""
    return f"llvmlite {llvmlite.__version__} llvm {'.'.join(map(str, _llvm.llvm_version_info))}"


def _where(text: str, message: str) -> str:
    """The lines of the module around the place LLVM complains of."""
    found = re.search(r":(\d+):(\d+): error", message)
    if found is None:
        return ""
    number = int(found.group(1))
    lines = text.splitlines()
    first = max(number - 3, 1)
    shown = (
        f"{'>' if k == number else ' '} {k:5} | {line}" for k, line in enumerate(lines[first - 1 : number + 1], first)
    )
    return "\n" + "\n".join(shown)


def _parse(text: str) -> Any:
    try:
        module = _llvm.parse_assembly(text, _llvm.create_context())
        if config.checks:
            module.verify()
    except RuntimeError as error:
        message = str(error).strip()
        raise CompileError(
            f"compile: LLVM rejects the generated code ({' '.join(message.split())}). "
            f"This is a bug in treadle; please report it with this text.{_where(text, message)}"
        ) from None
    module.triple = _triple()
    return module


def compile_object(text: str, target: Target) -> bytes:
    """The relocatable object code of a module in text form."""
    return bytes(_machine(target).emit_object(_parse(text)))


def assembly(text: str, target: Target) -> str:
    """The assembly of a module in text form, to look at."""
    return str(_machine(target).emit_assembly(_parse(text)))


class Library:
    """Loaded object code. Its addresses are good for as long as the library is referenced."""

    def __init__(self, addresses: dict[str, int], tracker: object) -> None:
        self._addresses = addresses
        self._tracker = tracker

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that were asked for."""
        return tuple(self._addresses)

    def address(self, name: str) -> int:
        """The address of a function."""
        return self._addresses[name]


def load(objects: Sequence[bytes], names: Sequence[str]) -> Library:
    """Link objects with each other and give the addresses of the functions `names` in them."""
    builder = _llvm.JITLibraryBuilder()
    for code in objects:
        builder.add_object_img(code)
    for name in names:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_engine(), f"treadle{next(_library_numbers)}")
    except RuntimeError as error:
        raise CompileError(
            f"load: object code does not link: {str(error).strip()}. This is a bug in treadle."
        ) from None
    return Library({name: int(tracker[name]) for name in names}, tracker)
