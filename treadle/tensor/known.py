"""Values that a shape depends on: they must be known, which inside a compiled function they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.core import TraceError
from treadle.ir import user_source

from . import realize
from .value import realized

if TYPE_CHECKING:
    from .tensor import Tensor


def known(what: str, tensor: Tensor, remedy: str) -> realize.Array:
    """Return the numbers of a tensor; TraceError, with what to do instead, where it depends on traced arguments."""
    if realize.is_traced(tensor.node):
        raise TraceError(
            f"{what}: the shape of its result at {user_source()} depends on the values of a {tensor.node.type!r}, "
            f"which a compiled function does not know. {remedy}"
        )
    (handle,) = realized(tensor, why=what)
    return handle.array
