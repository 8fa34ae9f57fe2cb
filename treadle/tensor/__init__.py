"""Tensors and the array API. Open `tensor.py` first, then `value.py` (tensors made), `realize.py` (computed)."""

import sys
from types import ModuleType
from typing import NoReturn

from . import random
from .cell import Cell
from .realize import Array, Data, Executor, Lifted, lift, set_executor, set_memory
from .tensor import Hooks, Tensor
from .trace import Trace, set_grad_enabled, state, tracing
from .value import Value, expect, made, node_of, realized
from .watch import watched

__all__ = [
    "Array",
    "Cell",
    "Data",
    "Executor",
    "Hooks",
    "Lifted",
    "Tensor",
    "Trace",
    "Value",
    "expect",
    "lift",
    "made",
    "node_of",
    "random",
    "realized",
    "set_executor",
    "set_grad_enabled",
    "set_memory",
    "state",
    "tracing",
    "watched",
]


class _Package(ModuleType):
    """The package, which says what to use instead when it is taken for PyTorch's function of this name."""

    def __call__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "tensor: this is the package of tensors. PyTorch's torch.tensor(data, requires_grad=True) is here: "
            "td.asarray(data).requires_grad_()"
        )


sys.modules[__name__].__class__ = _Package
