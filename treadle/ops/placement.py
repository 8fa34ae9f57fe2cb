"""Values that are nothing but other values side by side: where each lies, so that its maker can write it there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from treadle.ir import Node
from treadle.te import Var, add, coefficients, flatten_index, index, unflatten_index

from .arithmetic import Add
from .movement import Pad, Permute, Reshape

Index = tuple[Node, ...]
Place = tuple[tuple[int, ...], int]  # the step along each axis of a part, and where it begins


def placement(node: Node, is_part: Callable[[Node], bool]) -> dict[Node, Place] | None:
    """Return where in `node`, a sum of padded views of parts that fill it without overlap, each part lies; else None.

    Such a sum is what the gradient of slices is.
    """
    above: list[Node] = []
    while isinstance(node.op, Permute | Reshape):
        above.append(node)
        node = node.args[0]
    pads = _summands(node)
    if not pads or not _fills(pads):
        return None
    places: dict[Node, Place] = {}
    for pad in pads:
        assert isinstance(pad.op, Pad)
        part, within = pad.args[0], list[Node]()
        while isinstance(part.op, Permute | Reshape):
            within.append(part)
            part = part.args[0]
        if not is_part(part) or part in places:
            return None
        axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(part.shape))
        at: Index = tuple(index(0) if size == 1 else a for a, size in zip(axes, part.shape, strict=True))
        for step in reversed(within):
            at = _moved(step, at)
        at = tuple(add(i, index(low)) for i, low in zip(at, pad.op.low, strict=True))
        for step in reversed(above):
            at = _moved(step, at)
        found = coefficients(flatten_index(at, (above[0] if above else node).shape), axes)
        if found is None:
            return None
        places[part] = found
    return places


def _summands(node: Node) -> list[Node]:
    """Return the pads with zeros that a sum consists of; none if there is anything else."""
    if isinstance(node.op, Pad):
        return [node] if node.op.value == 0 else []
    if not isinstance(node.op, Add):
        return []
    left, right = (_summands(a) for a in node.args)
    return [*left, *right] if left and right and node.args[0].shape == node.args[1].shape else []


def _fills(pads: Sequence[Node]) -> bool:
    """Whether the boxes that pads do not fill with zeros are all there is, without overlap."""
    boxes: list[list[tuple[int, int]]] = []
    for pad in pads:
        assert isinstance(pad.op, Pad)
        boxes.append([(low, low + n) for low, n in zip(pad.op.low, pad.args[0].shape, strict=True)])
    apart = all(
        any(a[1] <= b[0] or b[1] <= a[0] for a, b in zip(*two, strict=True)) for two in itertools.combinations(boxes, 2)
    )
    return apart and sum(math.prod(hi - lo for lo, hi in box) for box in boxes) == pads[0].type.size


def _moved(view: Node, at: Index) -> Index:
    """Return where element `at` of a view's operand is in the view."""
    if isinstance(view.op, Permute):
        return tuple(at[a] for a in view.op.axes)
    return unflatten_index(flatten_index(at, view.args[0].shape), view.shape)
