"""`compile`: a Python function becomes Plans, one for each kind of argument it is called with."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeGuard, TypeVar, overload

import numpy as np

from treadle.core import LEAF, TraceError, Type, config, flatten, from_numpy, unflatten
from treadle.tensor import Cell, Tensor, state
from treadle.tensor.realize import Data, Handle, leaf, private
from treadle.tensor.value import Maker, realized

from .checks import Checks, checks_of
from .hooks import Explained
from .plan import Plan
from .samples import Origin
from .surroundings import Variable, surroundings
from .tracer import CellUse, Guard, Trace, Tracer, trace

P = ParamSpec("P")
R = TypeVar("R")
Array = np.ndarray[Any, Any]

MANY_RECOMPILES = 8
STATIC = (bool, int, float, str, bytes, type(None))


class Entry:
    """One traced and compiled variant of a function, with its cells bound to the plan's slots."""

    def __init__(self, traced: Trace, num_arguments: int, outside: Sequence[Variable] = ()) -> None:
        self.trace = traced
        self.cells = traced.cells
        self.num_arguments = num_arguments
        self.guards: list[Guard | Variable] = [*outside, *traced.guards]
        graph = traced.graph
        input_of = {n: k for k, n in enumerate(graph.inputs)}
        first = sum(1 for is_tensor, _ in traced.leaves if is_tensor)
        self.state = {first + k: input_of[use.input] for k, use in enumerate(traced.written)}
        self.written = {id(use) for use in traced.written}
        self.cell_slots = [(use, input_of[use.input]) for use in self.cells]
        self.grad_slots = [(use, input_of[use.input]) for use in traced.grads if use.input is not None]
        out = first + len(traced.written)
        self.grad_outputs: list[tuple[Any, int | None]] = []
        for use in traced.grads:
            leaves = not use.local and use.held is not None
            self.grad_outputs.append((use.owner, out if leaves else None))
            out += leaves
        self.checks: Checks | None = checks_of(graph)
        self.plan = Plan(graph, self.state)
        for node, handle in traced.constants:
            self.plan.slots[input_of[node]] = handle.address
        self.bound: list[Tensor | None] = [None] * len(self.cells)
        self.arguments: list[Array] = []  # those it was last planned for

    def holds(self) -> bool:
        """Whether everything the trace looked at besides the arguments is still as it was."""
        for guard in self.guards:
            if not guard.holds():
                return False
        for (use, _), bound in zip(self.cell_slots, self.bound, strict=True):
            held = use.cell.held
            if held is not bound and (
                held.node.type != use.input.type
                or held.requires_grad != use.requires_grad
                or use.cell.hooks != use.hooks
            ):
                return False
        for use in self.trace.grads:
            if not use.read:
                continue
            grad = use.owner.collected
            now = None if grad is None else grad.node.type
            if now != (None if use.input is None else use.input.type):
                return False
        return True

    def holds_now(self) -> list[Array | None]:
        """Return what the plan's inputs hold now, as far as that is known."""
        held: list[Array | None] = [None] * self.plan.num_inputs
        held[: len(self.arguments)] = self.arguments
        for use, number in self.cell_slots:
            held[number] = _handle(use.cell.held).array
        for use, number in self.grad_slots:
            if use.owner.collected is not None:
                held[number] = _handle(use.owner.collected).array
        first = self.plan.num_inputs - len(self.trace.constants)
        held[first:] = [handle.array for _, handle in self.trace.constants]
        return held

    def changed(self) -> str:
        """Return what `holds` found changed, in words."""
        for guard in self.guards:
            if not guard.holds():
                return guard.changed()
        for use in self.cells:
            held = use.cell.held
            if held.requires_grad != use.requires_grad:
                return f"requires_grad of a {type(use.cell).__name__} {held.node.type!r} is now {held.requires_grad}"
            if use.cell.hooks != use.hooks:
                return f"a {type(use.cell).__name__} {held.node.type!r} has other hooks than before"
        return "a cell or gradient has another type than before"

    def run(self, addresses: list[int], keep: object) -> Any:
        """Run on argument addresses; return the user's result."""
        plan = self.plan
        slots = plan.slots
        for k, address in enumerate(addresses):
            slots[k] = address
        self.bind_cells()
        for use, number in self.grad_slots:
            slots[number] = _handle(use.owner.collected).address
        if self.checks is not None:
            self.checks.run(slots)
        outputs = plan.run_memory()
        del keep
        types = plan.out_types
        for owner, number in self.grad_outputs:
            owner.collected = None if number is None else _tensor(outputs, types, number)
        if self.trace.structure == LEAF:
            is_tensor, what = self.trace.leaves[0]
            return _tensor(outputs, types, what) if is_tensor else what
        leaves = [_tensor(outputs, types, what) if is_tensor else what for is_tensor, what in self.trace.leaves]
        return unflatten(self.trace.structure, leaves)

    def bind_cells(self) -> None:
        """Point the slots of cells at their memory; what will be overwritten must belong to the cell alone."""
        slots, bound = self.plan.slots, self.bound
        for k, (use, number) in enumerate(self.cell_slots):
            cell = use.cell
            # A tensor's memory stays where it is, so what is only read is bound anew only when the cell holds another.
            if cell.held is not bound[k] or (cell.lent and id(use) in self.written):
                slots[number] = self.own(use).address
                bound[k] = cell.held

    def own(self, use: CellUse) -> Handle:
        """Return a cell's memory; a private copy if the plan writes to it and someone else may hold it."""
        cell = use.cell
        if id(use) not in self.written or not cell.lent:
            return _handle(cell.held)
        handle = private(cell.held.node)
        tensor = cell.reads(leaf(handle))
        tensor.depth = 0
        cell.held = tensor
        cell.lent = False
        return handle


class Compiled(Generic[P, R]):
    """A function that runs as native code. Made by `compile`.

    Attributes:
        num_compiles: Plans made so far.
        reasons: why each Plan after the first was needed.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.num_compiles = 0
        self.reasons: list[str] = []
        self._entries: dict[Any, list[Entry]] = {}
        self._last: tuple[Any, ...] | None = None
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if state.trace is not None:
            return self.function(*args, **kwargs)
        try:
            entry, addresses, keep = self._prepare(args, kwargs)
        except _RequiresGrad:  # whoever differentiates what comes out needs to know how it was computed
            return self.function(*args, **kwargs)
        with entry.plan.lock:
            return entry.run(addresses, keep)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    @property
    def plans(self) -> list[Plan]:
        """The Plans made so far."""
        return [entry.plan for entries in self._entries.values() for entry in entries]

    def plan(self, *args: P.args, **kwargs: P.kwargs) -> Plan:
        """Return the Plan for these arguments, compiling it if there is none; nothing is run."""
        entry, _, keep = self._prepare(args, kwargs)
        entry.arguments = [a.array if isinstance(a, Handle) else a for a in keep]
        return entry.plan

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explained:
        """Return the report on the Plan for these arguments; see `Plan.explain`."""
        return self.plan(*args, **kwargs).explain()

    def _prepare(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Entry, list[int], list[Any]]:
        """Return the entry for these arguments, the addresses of their data and what keeps that alive."""
        key: list[Any] = []
        addresses: list[int] = []
        keep: list[Any] = []
        nested = bool(kwargs)
        for arg in args:
            kind = arg.__class__
            if kind is Tensor:
                if arg.requires_grad and state.grad_enabled:
                    raise _RequiresGrad
                op = arg.node.op
                handle = op.handle if type(op) is Data else _handle(arg)
                key.append(handle.type)
                addresses.append(handle.address)
                keep.append(handle)
            elif kind is np.ndarray:
                self._array(arg, key, addresses, keep)
            elif kind in STATIC:
                key.append((kind, arg) if kind is not float else _exactly(arg))
            else:
                nested = True
                break
        if nested:
            key.clear()
            addresses.clear()
            keep.clear()
            leaves, structure = flatten((args, kwargs))
            key.append(structure)
            for leaf in leaves:
                self._leaf(leaf, key, addresses, keep)
        settings = (config.threads, config.cpu)
        found = self._entries.get((settings, *key))
        if found is not None:
            for entry in found:
                if entry.holds():
                    return entry, addresses, keep
        return self._compile((settings, *key), args, kwargs, found), addresses, keep

    def _leaf(self, leaf: Any, key: list[Any], addresses: list[int], keep: list[Any]) -> None:
        if isinstance(leaf, Cell):
            leaf = leaf.read()
        if isinstance(leaf, Tensor):
            self._tensor(leaf, key, addresses, keep)
        elif _is_array(leaf):
            self._array(np.asarray(leaf), key, addresses, keep)
        else:
            try:
                hash(leaf)
            except TypeError:
                raise TraceError(
                    f"compile: argument {leaf!r} of {self._name} is neither a tensor, an array nor hashable, so there "
                    "is no way to tell whether it changed. Pass tensors, arrays, numbers, strings, or nested tuples, "
                    "lists and dicts of them."
                ) from None
            key.append((type(leaf), leaf) if type(leaf) is not float else _exactly(leaf))

    def _tensor(self, arg: Tensor, key: list[Any], addresses: list[int], keep: list[Any]) -> None:
        if arg.requires_grad and state.grad_enabled:
            raise _RequiresGrad
        handle = _handle(arg)
        key.append(handle.type)
        addresses.append(handle.address)
        keep.append(handle)

    def _array(self, arg: Array, key: list[Any], addresses: list[int], keep: list[Any]) -> None:
        if not arg.flags.c_contiguous or not arg.dtype.isnative:
            arg = np.ascontiguousarray(arg, arg.dtype.newbyteorder("="))
        key.append(_types.get((arg.dtype, arg.shape)) or _type(arg))
        addresses.append(arg.__array_interface__["data"][0])
        keep.append(arg)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", repr(self.function))

    def _compile(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any], similar: list[Entry] | None) -> Entry:
        """Trace and compile for arguments not seen before."""
        if self.num_compiles:
            self._note(self._reason(key, similar))
        count = 0

        def stand_ins(tracer: Tracer) -> tuple[Any, Any]:
            nonlocal count
            leaves, structure = flatten((args, kwargs))
            new = [_stand_in(leaf, tracer) for leaf in leaves]
            count = len(tracer.inputs)
            return unflatten(structure, new)

        with _without_collection():
            start = time.perf_counter()
            outside = surroundings(self.function)
            traced = trace(self.function, stand_ins)
            seconds = time.perf_counter() - start
            entry = Entry(traced, count, outside)
        entry.plan.timings.seconds = {"trace": seconds, **entry.plan.timings.seconds}
        entry.plan.origin = Origin(self._name, _file(self.function), self.reasons, entry.holds_now)
        for record in _records:
            entry.arguments = [np.array(a) for a in _arrays((args, kwargs))]
            record.append(entry.plan)
        self.num_compiles += 1
        self._last = key
        self._entries.setdefault(key, []).append(entry)
        return entry

    def _reason(self, key: tuple[Any, ...], similar: list[Entry] | None) -> str:
        if similar:
            return similar[-1].changed()
        last: tuple[Any, ...] = self._last or ()
        if key[0] != last[0]:
            return f"threads and cpu were {last[0]} and are {key[0]}"
        inside = _is_nested(key)
        if inside != _is_nested(last) or (inside and key[1] != last[1]):
            return "the arguments are in other containers, or given by other names, than before"
        if len(key) != len(last):
            return f"it was called with {len(last) - 1} arguments and now with {len(key) - 1}"
        different = [k for k, (a, b) in enumerate(zip(last, key, strict=True)) if a != b]
        k = different[0] if different else 0
        return f"argument {k - 1 - inside} was {_shown(last[k])} and is {_shown(key[k])}"

    def _note(self, reason: str) -> None:
        self.reasons.append(reason)
        if len(self.reasons) == MANY_RECOMPILES:
            warnings.warn(
                f"compile: {self._name} was compiled {self.num_compiles + 1} times; last because {reason}. Pass "
                "numbers that change as 0-d arrays, and pad shapes that change to a few sizes.",
                stacklevel=4,
            )


_records: list[list[Plan]] = []


@contextmanager
def recorded_plans() -> Generator[list[Plan]]:
    """Return a list to which every Plan of a compiled function is added inside, with a copy of its arguments.

    It is how `treadle explain FILE.py:FUNCTION` finds what a script compiles.
    """
    plans: list[Plan] = []
    _records.append(plans)
    try:
        yield plans
    finally:
        _records[:] = [record for record in _records if record is not plans]


def _arrays(arguments: Any) -> list[Array]:
    """Return the data of the tensors and arrays among arguments, in the order of the inputs they become."""
    leaves = [leaf.read() if isinstance(leaf, Cell) else leaf for leaf in flatten(arguments)[0]]
    return [
        _handle(leaf).array if isinstance(leaf, Tensor) else np.asarray(leaf)
        for leaf in leaves
        if isinstance(leaf, Tensor) or _is_array(leaf)
    ]


def _file(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code is not None else ""


class _RequiresGrad(Exception):
    """An argument takes part in gradients that are taken outside of the compiled function."""


_types: dict[tuple[Any, tuple[int, ...]], Type] = {}


def _type(array: Array) -> Type:
    """Return the type of an array, and remember it: looking it up costs less than making it."""
    if len(_types) > 4096:
        _types.clear()
    made = _types[array.dtype, array.shape] = Type(from_numpy(array.dtype), array.shape)
    return made


def _exactly(value: float) -> tuple[Any, ...]:
    """Return what tells a float from all others: -0.0 equals 0.0, and NaN not even itself."""
    return (float, value) if value and not math.isnan(value) else (float, repr(value))


def _is_array(leaf: Any) -> TypeGuard[Array]:
    return isinstance(leaf, np.ndarray | np.generic)


def _stand_in(leaf: Any, tracer: Tracer) -> Any:
    if isinstance(leaf, Cell):
        leaf = leaf.read()
    if isinstance(leaf, Tensor):
        return Maker.new(tracer.new_input(leaf.node.type), 1, False)
    if _is_array(leaf):
        array = np.asarray(leaf)
        dtype = array.dtype.newbyteorder("=")
        return Maker.new(tracer.new_input(Type(from_numpy(dtype), array.shape)), 1, False)
    return leaf


def _is_nested(key: tuple[Any, ...]) -> bool:
    """Whether a key starts with the structure of nested arguments."""
    return len(key) > 1 and isinstance(key[1], tuple) and key[1][0] is tuple


def _shown(part: Any) -> str:
    return repr(part[1]) if part.__class__ is tuple and len(part) == 2 else repr(part)


@contextmanager
def _without_collection() -> Generator[None]:
    """Keep Python's collector of cycles from walking again and again over all nodes and statements being made."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _handle(tensor: Tensor) -> Handle:
    handle = tensor.handle
    return handle if handle is not None else realized(tensor)[0]


def _tensor(outputs: list[Any], types: list[Type], number: int) -> Tensor:
    return Tensor.of(leaf(Handle.of(outputs[number], types[number])), 0, False)


@overload
def compile(function: Callable[P, R]) -> Compiled[P, R]: ...
@overload
def compile() -> Callable[[Callable[P, R]], Compiled[P, R]]: ...
def compile(function: Callable[..., Any] | None = None) -> Any:
    """Return a version of `function` that runs as one native program per call.

    Arguments may be tensors, NumPy arrays (read in place), numbers, strings and nested containers of them. The function
    is run once in Python for every new combination of shapes, dtypes and other values, then only as native code.
    Parameters and buffers it reads are inputs, those it assigns are updated in place. It is compiled anew when a global
    or enclosing variable that its code names is assigned something else. What it reads in other ways is as it was when
    the function was traced: items of lists and dicts, attributes of objects, elements of arrays that are no arguments,
    variables of functions it calls.

    A `.grad` that the function clears before anything else (`zero_grad()`) is scratch: it is None again afterwards.

    >>> import treadle as td
    >>> @td.compile
    ... def f(x):
    ...     return (x * x).sum()
    >>> float(f(td.asarray([1.0, 2.0])))
    5.0
    """
    return compile if function is None else Compiled(function)
