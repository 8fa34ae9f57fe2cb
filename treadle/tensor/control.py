"""When things are computed and remembered: `realize` now, `no_grad` never mind the gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from treadle.core import flatten

from .trace import set_grad_enabled, state
from .value import Value, realized


def realize(*values: Any) -> Any:
    """Compute tensors, also those inside nested tuples, lists and dicts, in one program; return what was given.

    Inside a compiled function it does nothing: there, everything is computed in one program anyway.
    """
    if state.trace is None:
        leaves, _ = flatten(list(values))
        realized(*[leaf.read() for leaf in leaves if isinstance(leaf, Value)])
    return values[0] if len(values) == 1 else values


def no_grad() -> AbstractContextManager[None]:
    """Return a context (also a decorator) in which results do not remember what they were computed from."""
    return set_grad_enabled(False)


def enable_grad() -> AbstractContextManager[None]:
    """Return a context that undoes an outer `no_grad()`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether results remember what they were computed from."""
    return state.grad_enabled
