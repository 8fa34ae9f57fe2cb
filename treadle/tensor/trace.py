"""What is different while a function is being traced or gradients are off: two thread-local flags.

A trace stands between cells and their values: `jit` sets one, so that cells read become inputs and cells written become
outputs of the program being made.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .cell import Cell
    from .tensor import Tensor


class Trace(Protocol):
    """What `jit` provides while it runs the user's function.

    `read` and `write` stand for the value of a cell; `read_grad` and `write_grad` for the `.grad` of whatever collects
    one (a cell, or a tensor with requires_grad).
    """

    def read(self, cell: Cell) -> Tensor:
        """Return the cell's value at this point of the program."""
        ...

    def write(self, cell: Cell, value: Tensor) -> None:
        """Set the cell's value from this point on."""
        ...

    def read_grad(self, owner: Cell | Tensor) -> Tensor | None:
        """Return the gradient collected so far."""
        ...

    def write_grad(self, owner: Cell | Tensor, grad: Tensor | None) -> None:
        """Set the collected gradient from this point on."""
        ...

    def guard(self, owner: object, attribute: str, value: object) -> None:
        """Note that the program holds only while `owner.attribute` equals `value`."""
        ...


class State(threading.local):
    """Per-thread: the trace in progress, and whether new tensors remember what they were computed from."""

    trace: Trace | None = None
    grad_enabled: bool = True


state = State()


@contextmanager
def tracing(trace: Trace | None) -> Generator[None]:
    """Make `trace` the current one inside a `with` block (None suspends tracing)."""
    before, state.trace = state.trace, trace
    try:
        yield
    finally:
        state.trace = before


@contextmanager
def set_grad_enabled(enabled: bool) -> Generator[None]:
    """Turn the recording of gradients on or off inside a `with` block."""
    before, state.grad_enabled = state.grad_enabled, enabled
    try:
        yield
    finally:
        state.grad_enabled = before
