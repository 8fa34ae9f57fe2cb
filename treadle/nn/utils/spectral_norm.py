"""Spectral normalisation in its older form, with `weight_orig`, `weight_u` and `weight_v` beside the parameters.

The one with `parametrizations.weight.original` is in `parametrizations.py`.
"""

from __future__ import annotations

from typing import Any

from treadle.core import ConfigError, normalize_axis
from treadle.nn.computed import compute, held_cell, rules_of, uncompute
from treadle.nn.module import Module
from treadle.nn.parameter import Buffer
from treadle.tensor import Tensor, set_grad_enabled
from treadle.tensor.products import dot, mv

from .power import as_matrix, check_steps, first_vectors, iterate, output_axis


class _SpectralNorm:
    """The rule of a weight that is `NAME_orig` divided by its largest singular value."""

    def __init__(self, name: str, steps: int, eps: float, axis: int) -> None:
        check_steps("spectral_norm", steps)
        self.name, self.steps, self.eps, self.axis = name, steps, eps, axis

    def vectors(self, module: Module) -> tuple[Buffer, Buffer]:
        """Return the estimates of the singular vectors."""
        return getattr(module, f"{self.name}_u"), getattr(module, f"{self.name}_v")

    def value(self, module: Module, steps: int) -> Tensor:
        """Return the weight after so many steps of power iteration."""
        weight: Tensor = getattr(module, f"{self.name}_orig").read()
        matrix = as_matrix(weight, self.axis)
        u, v = self.vectors(module)
        if steps:
            iterate(matrix, u, v, steps, self.eps)
        return weight / dot(u, mv(matrix, v))

    def read(self, module: Module) -> Tensor:
        return self.value(module, self.steps if module.training else 0)

    def write(self, module: Module, value: Any) -> None:
        getattr(module, f"{self.name}_orig").value = value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018, arXiv:1802.05957); return the module.

    Args:
        module: whose weight it is.
        name: its name.
        n_power_iterations: steps of power iteration whenever the weight is read in training.
        eps: lengths below it are taken for it.
        dim: the axis that counts outputs, the rows of the matrix; None is 1 for transposed convolutions, else 0.
    """
    cell = held_cell("spectral_norm", module, name)
    axis = normalize_axis("spectral_norm", output_axis(module) if dim is None else dim, cell.ndim)
    rule = _SpectralNorm(name, n_power_iterations, eps, axis)
    u, v = first_vectors(as_matrix(cell.detach(), axis), eps)
    delattr(module, name)
    for suffix, held in (("orig", cell), ("u", u), ("v", v)):
        setattr(module, f"{name}_{suffix}", held)
    compute(module, name, rule)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make a weight that `spectral_norm` divides an ordinary parameter, as it is now; return the module."""
    rule = rules_of(module).get(name)
    if not isinstance(rule, _SpectralNorm):
        raise ConfigError(f"remove_spectral_norm: {name!r} has no spectral_norm. Apply spectral_norm first.")
    with set_grad_enabled(False):
        value = rule.value(module, 0)
    uncompute(module, name)
    cell = held_cell("remove_spectral_norm", module, f"{name}_orig")
    cell.value = value
    for suffix in ("orig", "u", "v"):
        delattr(module, f"{name}_{suffix}")
    setattr(module, name, cell)
    return module
