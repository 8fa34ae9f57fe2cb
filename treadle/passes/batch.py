"""An op on one slice as an op on the whole stack: how what needs no order of turns leaves a loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from treadle.ir import Node, rebuilt
from treadle.ops import (
    BroadcastTo,
    Concat,
    Elementwise,
    Matmul,
    Pad,
    Permute,
    Reduction,
    Reshape,
    Slice,
    Take,
    broadcast_to,
    matmul,
    reshape,
)


class Stack(NamedTuple):
    """A value of a turn, outside of the loop: all turns along a first axis, or one value that all turns share."""

    node: Node
    stacked: bool


def can_batch(node: Node, stacked: Sequence[bool]) -> bool:
    """Whether `batched` knows the op; `stacked` says which operands differ from turn to turn."""
    op = node.op
    if len(node.types) > 1:
        return False
    if isinstance(op, Take):
        return op.axis == 0 and list(stacked) == [False, True]
    return isinstance(op, Elementwise | Reduction | Reshape | Permute | BroadcastTo | Slice | Pad | Concat | Matmul)


def batched(node: Node, args: Sequence[Stack], length: int) -> Node:
    """Return the stack of a node, given those of its operands; at least one of them differs from turn to turn."""
    op, ndim = node.op, node.type.ndim
    values = [a.node for a in args]
    match op:
        case Elementwise():
            return rebuilt(node, [_aligned(a, ndim) for a in args])
        case Reduction():
            return replace(op, axes=tuple(a + 1 for a in op.axes))(*values)
        case Reshape():
            return reshape(values[0], (length, *op.shape))
        case Permute():
            return Permute((0, *[a + 1 for a in op.axes]))(*values)
        case BroadcastTo():
            return broadcast_to(_aligned(args[0], ndim), (length, *op.shape))
        case Slice():
            return Slice((0, *op.starts), (length, *op.sizes), (1, *op.steps))(*values)
        case Pad():
            return Pad((0, *op.low), (0, *op.high), op.value)(*values)
        case Concat():
            whole = [a.node if a.stacked else broadcast_to(a.node, (length, *a.node.shape)) for a in args]
            return Concat(op.axis + 1)(*whole)
        case Matmul():
            return matmul(_aligned(args[0], ndim), _aligned(args[1], ndim))
        case _:
            assert isinstance(op, Take), f"{node} has no form for stacks"
            return op(*values)


def _aligned(value: Stack, ndim: int) -> Node:
    """Return a stack with axes of size 1 behind the first, so that it broadcasts as its slices do to `ndim` axes."""
    if not value.stacked:
        return value.node
    first, *shape = value.node.shape
    return reshape(value.node, (first, *[1] * (ndim - len(shape)), *shape))
