"""Random tensors. Every function takes `key=` and is then pure; without one it draws from the default generator.

The generator is a cell, so a compiled step that draws reads its state and writes it back.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from treadle import ops
from treadle.core import DTypeError, ShapeError, Type, as_dtype, float32, int64, uint32, whole_numbers
from treadle.ir import Node

from .cell import Cell
from .creation import of_array
from .indexing import take
from .manipulation import Shape
from .promotion import Operand, as_tensor
from .trace import state
from .value import Value, expect, made, node_of

if TYPE_CHECKING:
    from .tensor import Tensor


def key(seed: int) -> Tensor:
    """Return the key, uint32[2], of a seed below 2**64."""
    return of_array(np.array(ops.key_words(seed), np.uint32))


def split(key: Operand, num: int = 2) -> tuple[Tensor, ...]:
    """Return `num` new keys that share nothing with each other or with numbers drawn from `key`."""
    tensor = _key(key)
    keys = made(ops.split(node_of(tensor), num), tensor)
    return tuple(keys[i] for i in range(num))


def fold_in(key: Operand, data: Operand) -> Tensor:
    """Return a new key from a key and a whole number: the key of step `data`, which is also `split(key, n)[data]`."""
    tensor = _key(key)
    number = as_tensor("fold_in", data)
    return made(ops.fold_in(node_of(tensor), node_of(number)), tensor, number)


def _key(key: Operand) -> Tensor:
    tensor = as_tensor("random", key)
    if tensor.node.type != Type(uint32, (2,)):
        raise DTypeError(
            f"random: the key is {tensor.node.type!r}. It must be uint32[2], as from key(), split() or fold_in()."
        )
    return tensor


class Generator(Cell):
    """A source of keys: a seed's key, and how many keys were drawn from it. Its state is a tensor, uint32[3]."""

    __slots__ = ()

    def __init__(self, seed: int = 0) -> None:
        super().__init__(np.array([*ops.key_words(seed), 0], np.uint32))

    def manual_seed(self, seed: int) -> Generator:
        """Start anew from a seed below 2**64; return the generator."""
        self.value = of_array(np.array([*ops.key_words(seed), 0], np.uint32))
        return self

    def next_key(self) -> Tensor:
        """Return a key that no earlier or later call returns."""
        held = self.value
        drawn = fold_in(held[:2], held[2])
        # Outside a trace the count is known: written as data it makes programs that draw often equal to each other.
        known = held.handle if state.trace is None else None
        self.value = held + of_array(_ONE) if known is None else of_array(known.array + _ONE)
        return drawn


_ONE = np.array([0, 0, 1], np.uint32)
default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Make the default generator start from `seed`: what is drawn afterwards is the same every time."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Make the default generator start from a number of the operating system, and return it."""
    number = int.from_bytes(os.urandom(8), "little")
    default_generator.manual_seed(number)
    return number


def _source(key: Operand | None, generator: Generator | None) -> Tensor:
    if key is not None:
        return _key(key)
    return (default_generator if generator is None else generator).next_key()


def _drawn(node: Node, *sources: Tensor) -> Tensor:
    """Return random numbers, to be computed once with whatever is computed next: they are data more than a formula."""
    tensor = made(node, *sources)
    if state.trace is None:
        expect(tensor)
    return tensor


def uniform(
    shape: int | Shape = (),
    low: float = 0.0,
    high: float = 1.0,
    *,
    dtype: object = float32,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return numbers evenly distributed over [low, high)."""
    source = _source(key, generator)
    return _drawn(ops.uniform(node_of(source), whole_numbers("uniform", shape), as_dtype(dtype), low, high), source)


def normal(
    shape: int | Shape = (),
    mean: float = 0.0,
    std: float = 1.0,
    *,
    dtype: object = float32,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return normally distributed numbers."""
    source = _source(key, generator)
    node = ops.normal(node_of(source), whole_numbers("normal", shape), as_dtype(dtype))
    node = node if std == 1.0 else node * std
    return _drawn(node if mean == 0.0 else node + mean, source)


def rand(
    *shape: int, dtype: object = float32, key: Operand | None = None, generator: Generator | None = None
) -> Tensor:
    """Return numbers evenly distributed over [0, 1); sizes are separate arguments, as in PyTorch."""
    return uniform(shape, dtype=dtype, key=key, generator=generator)


def randn(
    *shape: int, dtype: object = float32, key: Operand | None = None, generator: Generator | None = None
) -> Tensor:
    """Return normally distributed numbers with mean 0 and variance 1; sizes are separate arguments, as in PyTorch."""
    return normal(shape, dtype=dtype, key=key, generator=generator)


def integers(
    low: int,
    high: int | None = None,
    shape: int | Shape = (),
    *,
    dtype: object = int64,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return whole numbers in [low, high), or in [0, low) when `high` is None."""
    first, last = (0, low) if high is None else (low, high)
    source = _source(key, generator)
    return _drawn(ops.integers(node_of(source), whole_numbers("integers", shape), first, last, as_dtype(dtype)), source)


def randint(
    low: int,
    high: int,
    shape: int | Shape = (),
    *,
    dtype: object = int64,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return whole numbers in [low, high): PyTorch's name of integers."""
    return integers(low, high, shape, dtype=dtype, key=key, generator=generator)


def bits(
    shape: int | Shape = (),
    *,
    dtype: object = uint32,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return random bits in an unsigned dtype."""
    source = _source(key, generator)
    return _drawn(ops.bits(node_of(source), whole_numbers("bits", shape), as_dtype(dtype)), source)


def bernoulli(
    p: float | Operand,
    shape: int | Shape | None = None,
    *,
    key: Operand | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Return bools that hold with probability p: of the given shape, or of that of p."""
    source = _source(key, generator)
    if isinstance(p, Value):
        chance = as_tensor("bernoulli", p)
        sizes = chance.shape if shape is None else whole_numbers("bernoulli", shape)
        return _drawn(ops.bernoulli(node_of(source), sizes, node_of(chance)), source, chance)
    sizes = () if shape is None else whole_numbers("bernoulli", shape)
    return _drawn(ops.bernoulli(node_of(source), sizes, float(p)), source)


def categorical(logits: Operand, *, key: Operand | None = None, generator: Generator | None = None) -> Tensor:
    """Return for every row of logits a position, drawn with the probabilities softmax(logits)."""
    tensor = as_tensor("categorical", logits)
    if tensor.ndim == 0:
        raise ShapeError("categorical: logits are a scalar. Give at least one axis of choices.")
    source = _source(key, generator)
    return _drawn(ops.categorical(node_of(source), node_of(tensor)), source, tensor)


def permutation(
    x: int | Operand, *, axis: int = 0, key: Operand | None = None, generator: Generator | None = None
) -> Tensor:
    """Return 0, ..., x - 1 in random order, or the slices of a tensor along an axis in random order."""
    source = _source(key, generator)
    if isinstance(x, int):
        return _drawn(ops.permutation(node_of(source), x), source)
    tensor = as_tensor("permutation", x)
    return take(tensor, _drawn(ops.permutation(node_of(source), tensor.shape[axis]), source), axis=axis)


def randperm(n: int, *, key: Operand | None = None, generator: Generator | None = None) -> Tensor:
    """Return 0, ..., n - 1 in random order: PyTorch's name of permutation."""
    return permutation(n, key=key, generator=generator)
