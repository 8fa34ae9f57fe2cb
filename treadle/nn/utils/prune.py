"""Pruning: weights of a module held at 0 by a mask, chosen at random, by size, or by the caller.

The parameter becomes `NAME_orig`, the mask is the buffer `NAME_mask`, and `NAME` their product whenever it is read.
Masks are chosen from values, so that is done outside of compiled functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from treadle.core import ConfigError, ShapeError, normalize_axis
from treadle.nn.computed import compute, held_cell, rules_of, uncompute
from treadle.nn.module import Module
from treadle.nn.parameter import Buffer
from treadle.tensor import Array, Tensor, set_grad_enabled
from treadle.tensor.creation import asarray, ones
from treadle.tensor.known import known
from treadle.tensor.norms import vector_norm
from treadle.tensor.promotion import Operand, as_tensor
from treadle.tensor.random import permutation

KINDS = ("unstructured", "structured", "global")
Norm = float | str


class BasePruningMethod:
    """Base of ways to prune. A subclass says which elements go, of those that are left.

    `PRUNING_TYPE` says what a method is given when something is pruned already: "unstructured" gets the elements left,
    as a vector; "structured" the slices along its `dim` that are not all pruned; "global" everything.
    """

    PRUNING_TYPE: ClassVar[str]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask, 1 or 0 for each element of importance `t`; 0 in any case where the default is 0."""
        raise NotImplementedError(f"{type(self).__name__}.compute_mask is not defined.")

    @classmethod
    def apply(
        cls, module: Module, name: str, *args: Any, importance_scores: Operand | None = None, **kwargs: Any
    ) -> BasePruningMethod:
        """Prune a parameter, on top of what is pruned already; return the method.

        Args:
            module: whose parameter it is.
            name: its name.
            args: arguments of the method.
            importance_scores: of the parameter's shape, by what elements are chosen; None for the parameter itself.
            kwargs: named arguments of the method.
        """
        method = cls(*args, **kwargs)
        _apply(method, module, name, importance_scores)
        return method

    def prune(
        self, t: Operand, default_mask: Operand | None = None, importance_scores: Operand | None = None
    ) -> Tensor:
        """Return a tensor pruned."""
        tensor = as_tensor("prune", t)
        scores = _scores("prune", tensor, importance_scores)
        mask = ones(tensor.shape, dtype=tensor.dtype) if default_mask is None else as_tensor("prune", default_mask)
        return tensor * self.compute_mask(scores, mask)


class PruningContainer(BasePruningMethod):
    """Methods applied one after the other; its mask is that of the last one, on what the mask so far leaves."""

    PRUNING_TYPE = "global"

    def __init__(self, *args: BasePruningMethod) -> None:
        self.methods = list(args)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add a method at the end."""
        self.methods.append(method)

    def __len__(self) -> int:
        return len(self.methods)

    def __getitem__(self, index: int) -> BasePruningMethod:
        return self.methods[index]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the default mask with what the last method takes away."""
        method = self.methods[-1]
        mask = _array(default_mask).copy()
        place = _left(method, mask)
        mask[place] = _array(method.compute_mask(asarray(_array(t)[place]), asarray(mask[place])))
        return asarray(mask)


class Identity(BasePruningMethod):
    """Prunes nothing, and makes the mask."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the default mask."""
        return default_mask


class _Amount(BasePruningMethod):
    """A number of elements or slices to prune, or their share."""

    def __init__(self, amount: float) -> None:
        if not amount >= 0 or (not isinstance(amount, int | np.integer) and amount > 1):
            raise ConfigError(
                f"{type(self).__name__}: amount is {amount}. Allowed: a whole number from 0, or a share of 0.0 to 1.0."
            )
        self.amount = amount

    def count(self, size: int) -> int:
        """Return how many of `size` are pruned."""
        if not isinstance(self.amount, int | np.integer):
            return round(self.amount * size)
        if self.amount > size:
            raise ConfigError(f"{type(self).__name__}: amount is {self.amount}, and only {size} are left. Give fewer.")
        return int(self.amount)


class RandomUnstructured(_Amount):
    """Prunes elements at random."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask."""
        return _without(default_mask, _array(permutation(t.size))[: self.count(t.size)])


class L1Unstructured(_Amount):
    """Prunes the elements of least size."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask."""
        sizes = np.abs(_array(t)).ravel()
        return _without(default_mask, np.argsort(sizes, kind="stable")[: self.count(t.size)])


class _Slices(_Amount):
    """Prunes whole slices along an axis."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: float, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def order(self, t: Tensor, axis: int) -> Array:
        """Return the slices, those that go first in front."""
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask."""
        if t.ndim < 2:
            raise ShapeError(f"{type(self).__name__}: {t.node.type!r} has no slices to prune. Give at least 2 axes.")
        axis = normalize_axis("prune", self.dim, t.ndim)
        mask = _array(default_mask).copy()
        mask[(slice(None),) * axis + (self.order(t, axis)[: self.count(t.shape[axis])],)] = 0
        return asarray(mask)


class RandomStructured(_Slices):
    """Prunes slices along an axis at random."""

    def order(self, t: Tensor, axis: int) -> Array:
        """Return a random order."""
        return _array(permutation(t.shape[axis]))


class LnStructured(_Slices):
    """Prunes the slices along an axis that have the least n-norm."""

    def __init__(self, amount: float, n: Norm, dim: int = -1) -> None:
        super().__init__(amount, dim)
        if isinstance(n, str) and n != "fro":
            raise ConfigError(f"LnStructured: n is {n!r}. Allowed: a number, inf, 'fro'.")
        self.n = n

    def order(self, t: Tensor, axis: int) -> Array:
        """Return the slices by rising norm."""
        others = tuple(a for a in range(t.ndim) if a != axis)
        norm = vector_norm(t, axis=others, ord=2 if isinstance(self.n, str) else self.n)
        return np.argsort(_array(norm), kind="stable")


class CustomFromMask(BasePruningMethod):
    """Prunes where a mask is 0."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Operand) -> None:
        self.mask = as_tensor("CustomFromMask", mask)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask."""
        if default_mask.shape != self.mask.shape:
            raise ShapeError(f"CustomFromMask: the mask is {self.mask.node.type!r}, not {list(default_mask.shape)}.")
        return default_mask * self.mask.astype(default_mask.dtype)


class _Pruned:
    """The rule of a pruned parameter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.methods = PruningContainer()

    def read(self, module: Module) -> Tensor:
        return getattr(module, f"{self.name}_orig") * getattr(module, f"{self.name}_mask")

    def write(self, module: Module, value: Any) -> None:
        getattr(module, f"{self.name}_orig").value = value


# --- the same as functions


def identity(module: Module, name: str) -> Module:
    """Give a parameter a mask that prunes nothing; return the module."""
    return _apply(Identity(), module, name, None)


def random_unstructured(module: Module, name: str, amount: float) -> Module:
    """Prune elements of a parameter at random: a number of them, or a share; return the module."""
    return _apply(RandomUnstructured(amount), module, name, None)


def l1_unstructured(module: Module, name: str, amount: float, importance_scores: Operand | None = None) -> Module:
    """Prune the elements of least size, or of least importance: a number of them, or a share; return the module."""
    return _apply(L1Unstructured(amount), module, name, importance_scores)


def random_structured(module: Module, name: str, amount: float, dim: int) -> Module:
    """Prune slices along an axis at random: a number of them, or a share; return the module."""
    return _apply(RandomStructured(amount, dim), module, name, None)


def ln_structured(
    module: Module, name: str, amount: float, n: Norm, dim: int, importance_scores: Operand | None = None
) -> Module:
    """Prune the slices along an axis that have the least n-norm: a number of them, or a share; return the module."""
    return _apply(LnStructured(amount, n, dim), module, name, importance_scores)


def custom_from_mask(module: Module, name: str, mask: Operand) -> Module:
    """Prune a parameter where a mask is 0; return the module."""
    return _apply(CustomFromMask(mask), module, name, None)


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: Mapping[tuple[Module, str], Operand] | None = None,
    **kwargs: Any,
) -> None:
    """Prune several parameters as if they were one vector.

    Args:
        parameters: modules and names.
        pruning_method: an unstructured method.
        importance_scores: of the shape of each parameter, by module and name; those not given are the parameters.
        kwargs: arguments of the method.
    """
    if pruning_method.PRUNING_TYPE != "unstructured":
        raise ConfigError(
            f"global_unstructured: {pruning_method.__name__} is {pruning_method.PRUNING_TYPE}. Give a method of "
            "elements: L1Unstructured or RandomUnstructured."
        )
    pairs, given = list(parameters), importance_scores or {}
    scores = [_array(_scores("prune", _value(m, name), given.get((m, name)))) for m, name in pairs]
    masks = [_array(_mask_of(m, name)) for m, name in pairs]
    whole = [asarray(np.concatenate([a.ravel() for a in arrays])) for arrays in (scores, masks)]
    found = _array(PruningContainer(pruning_method(**kwargs)).compute_mask(*whole))
    ends = np.cumsum([mask.size for mask in masks])[:-1]
    for (module, name), old, part in zip(pairs, masks, np.split(found, ends), strict=True):
        custom_from_mask(module, name, asarray(part.reshape(old.shape)))


def remove(module: Module, name: str) -> Module:
    """Make a pruned parameter an ordinary one again, with zeros where it is pruned; return the module."""
    if not isinstance(rules_of(module).get(name), _Pruned):
        raise ConfigError(f"remove: {name!r} is not pruned. Apply a pruning method first.")
    with set_grad_enabled(False):
        value = _value(module, name)
    uncompute(module, name)
    cell = held_cell("remove", module, f"{name}_orig")
    cell.value = value
    delattr(module, f"{name}_orig")
    delattr(module, f"{name}_mask")
    setattr(module, name, cell)
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module, or of one below it, is pruned."""
    return any(isinstance(rule, _Pruned) for m in module.modules() for rule in rules_of(m).values())


def _apply(method: BasePruningMethod, module: Module, name: str, importance_scores: Operand | None) -> Module:
    rule = rules_of(module).get(name)
    if not isinstance(rule, _Pruned):
        held_cell("prune", module, name)
        rule = _Pruned(name)
    with set_grad_enabled(False):
        scores = _scores("prune", _value(module, name), importance_scores)
        mask = PruningContainer(method).compute_mask(scores, _mask_of(module, name))
    rule.methods.add_pruning_method(method)
    if rules_of(module).get(name) is rule:
        getattr(module, f"{name}_mask").value = mask
        return module
    cell = held_cell("prune", module, name)
    delattr(module, name)
    setattr(module, f"{name}_orig", cell)
    setattr(module, f"{name}_mask", Buffer(mask))
    compute(module, name, rule)
    return module


def _value(module: Module, name: str) -> Tensor:
    return as_tensor("prune", getattr(module, name)).detach()


def _mask_of(module: Module, name: str) -> Tensor:
    """Return the mask of a parameter, ones if it has none yet."""
    if isinstance(rules_of(module).get(name), _Pruned):
        return getattr(module, f"{name}_mask").read()
    value = _value(module, name)
    return ones(value.shape, dtype=value.dtype)


def _scores(what: str, t: Tensor, scores: Operand | None) -> Tensor:
    if scores is None:
        return t
    given = as_tensor(what, scores)
    if given.shape != t.shape:
        raise ShapeError(f"{what}: importance_scores {given.node.type!r} must have the shape {list(t.shape)}.")
    return given


def _left(method: BasePruningMethod, mask: Array) -> Any:
    """Return the index of what a method is to look at: what the mask leaves."""
    match method.PRUNING_TYPE:
        case "unstructured":
            return mask == 1
        case "structured":
            axis = normalize_axis("prune", getattr(method, "dim", -1), mask.ndim)
            others = tuple(a for a in range(mask.ndim) if a != axis)
            return (slice(None),) * axis + (mask.astype(np.float64).sum(axis=others) != 0,)
        case "global":
            return ...
        case kind:
            raise ConfigError(f"{type(method).__name__}: PRUNING_TYPE is {kind!r}. Allowed: {', '.join(KINDS)}.")


def _without(mask: Tensor, places: Array) -> Tensor:
    """Return the mask with 0 at these places of it as a vector."""
    changed = _array(mask).copy()
    changed.reshape(-1)[places] = 0
    return asarray(changed)


def _array(x: Tensor) -> Array:
    return known("prune", x, "Prune outside of the compiled function.")
