"""Where NaN or infinity came from: the first module whose result is not finite, found by running it with hooks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from treadle.core import flatten
from treadle.nn import Module
from treadle.tensor import Tensor
from treadle.tensor.elementwise import isfinite
from treadle.tensor.manipulation import stack


def first_not_finite(model: Module, run: Callable[[], Tensor]) -> str:
    """Return in words where the first value that is not finite appears when `run()` computes and differentiates a loss.

    A module counts before the one that called it, so the innermost is named.
    """
    names = {id(module): name for name, module in model.named_modules()}
    seen: list[tuple[Module, Tensor]] = []

    def note(module: Module, args: tuple[Any, ...], result: Any) -> None:
        seen.extend((module, leaf) for leaf in flatten(result)[0] if isinstance(leaf, Tensor) and leaf.dtype.is_float)

    handles = [module.register_forward_hook(note) for module in model.modules()]
    try:
        loss = run()
    finally:
        for handle in handles:
            handle.remove()
    for module, finite in zip([m for m, _ in seen], _all_finite([output for _, output in seen]), strict=True):
        if not finite:
            return f"the output of {_name(names[id(module)], module)}{_cause(module)}"
    if not math.isfinite(float(loss)):
        return "the loss itself; the output of every module is finite"
    loss.backward()
    grads = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    # The backward pass goes from the last parameter to the first.
    flags = _all_finite([grad for _, grad in grads])
    for (name, _), finite in reversed(list(zip(grads, flags, strict=True))):
        if not finite:
            return f"the gradient of {name}; all results of the forward pass are finite"
    return "the optimiser's step; all results and gradients are finite"


def _all_finite(tensors: list[Tensor]) -> list[bool]:
    """Return for each tensor whether all of it is finite, computed in one program."""
    if not tensors:
        return []
    flags = stack([isfinite(t).all() for t in tensors])
    return np.asarray(flags).tolist()


def _name(path: str, module: Module) -> str:
    return f"{path} ({type(module).__name__})" if path else type(module).__name__


def _cause(module: Module) -> str:
    """Return that a parameter of the module is not finite, if so."""
    own = [(name, p) for name, p in module.named_parameters() if "." not in name]
    for (name, _), finite in zip(own, _all_finite([p.value for _, p in own]), strict=True):
        if not finite:
            return f", whose parameter {name} is not finite"
    return ""
