"""Weight normalisation: a weight as lengths times directions (Salimans and Kingma 2016, arXiv:1602.07868).

Here is the older form, with `weight_g` and `weight_v` beside the other parameters of the module; the one with
`parametrizations.weight.original0` is in `parametrizations.py`.
"""

from __future__ import annotations

from typing import Any

from treadle.core import ConfigError
from treadle.nn.computed import compute, held_cell, rules_of, uncompute
from treadle.nn.module import Module
from treadle.nn.parameter import Parameter
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.promotion import as_tensor

from .lengths import directed, lengths


class _WeightNorm:
    """The rule of a weight that is made of `NAME_g` and `NAME_v`."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name = name
        self.dim = dim

    def read(self, module: Module) -> Tensor:
        return directed(getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v"), self.dim)

    def write(self, module: Module, value: Any) -> None:
        v = as_tensor("weight_norm", value)
        getattr(module, f"{self.name}_v").value = v
        getattr(module, f"{self.name}_g").value = lengths(v, self.dim)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Make a weight the product g v / |v| of new parameters `NAME_g` and `NAME_v`; return the module.

    Args:
        module: whose weight it is.
        name: its name.
        dim: the axis along which each slice has a length of its own; None for one length of all.
    """
    cell = held_cell("weight_norm", module, name)
    rule = _WeightNorm(name, dim)
    length = Parameter(lengths(cell.detach(), dim), cell.requires_grad)
    delattr(module, name)
    setattr(module, f"{name}_g", length)
    setattr(module, f"{name}_v", cell)
    compute(module, name, rule)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make a weight that `weight_norm` divided one parameter again; return the module."""
    if not isinstance(rules_of(module).get(name), _WeightNorm):
        raise ConfigError(f"remove_weight_norm: {name!r} has no weight_norm. Apply weight_norm first.")
    with set_grad_enabled(False):
        value: Tensor = getattr(module, name)
    uncompute(module, name)
    cell = held_cell("remove_weight_norm", module, f"{name}_v")
    cell.value = value
    delattr(module, f"{name}_g")
    delattr(module, f"{name}_v")
    setattr(module, name, cell)
    return module
