"""Loop kernels without reductions: blocks of a flat range, or rows of the last axes where not all are read in order."""

from __future__ import annotations

import math
from collections.abc import Sequence

from treadle.ir import Const, Input, Node
from treadle.ops.placement import Place, placement
from treadle.te import For, Store, Var, add, cost, flatten_index, floordiv, fn, index, mod, scale, unflatten_index

from .loop_kernel import LoopKernel, LoopSchedule, even_suffix, extent_of
from .pieces import Piece, periods, pieces

BLOCK = 4096  # elements of a tile


class Elementwise(LoopKernel):
    """Every result at every element of one shape."""

    def run(self) -> LoopSchedule:
        """Return rows of trailing axes that every access walks evenly; one flat row if all of them."""
        places = self.places()
        parts = list(places)
        shape = parts[0].shape if parts else self.body.outputs[0].shape
        axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(shape))
        self.values_at(axes, parts)
        self.reads.extend((self.results[0], _placed(axes, place)) for place in places.values())
        count = even_suffix(self.reads, axes, shape)
        self.reads.clear()
        outer, inner = math.prod(shape[: len(shape) - count]), math.prod(shape[len(shape) - count :])
        blocks = max(1, -(-inner // BLOCK))
        t, r = Var("t", outer * blocks)(), Var("r", inner)()
        o, block = floordiv(t, blocks), mod(t, blocks)
        position = (
            *unflatten_index(o, shape[: len(shape) - count]),
            *unflatten_index(r, shape[len(shape) - count :]),
        )
        values = self.values_at(position, parts)
        where = add(scale(o, inner), r)
        if places:
            wheres = [_placed(position, place) for place in places.values()]
            stores = tuple(Store(self.results[0], w, v) for w, v in zip(wheres, values, strict=True))
        else:
            stores = tuple(Store(b, where, v) for b, v in zip(self.results, values, strict=True))
        low = scale(block, BLOCK)
        high = fn("min", add(low, BLOCK), index(inner)) if inner % BLOCK else add(low, BLOCK)
        if blocks == 1:
            low, high = index(0), index(inner)
        parts = pieces(r, stores) if inner >= self.lanes() else [(0, r, stores)]
        if blocks > 1 and any(periods(v, inside) for _, v, inside in parts[1:]):
            parts = [(0, r, stores)]
        rows = [self.piece(part, low, high, inner, blocks) for part in parts]
        work = sum(cost(v) for v in values) * outer * inner
        kind = "elementwise, flat" if outer == 1 else f"elementwise, {outer} rows of {inner}"
        return self.schedule(tuple(rows), t, outer * blocks, work, kind)

    def piece(self, part: Piece, low: Node, high: Node, inner: int, blocks: int) -> For:
        """Return the loop over what a block, from low to high, has of a piece of a row."""
        start, v, stores = part
        extent = extent_of(v)
        if blocks == 1:
            low, high = index(0), index(extent)
        elif extent < inner:
            low = fn("min", fn("max", add(low, -start), index(0)), index(extent))
            high = fn("max", low, fn("min", add(high, -start), index(extent)))
        lanes, common = self.wide(min(extent, BLOCK)), periods(v, stores)
        while lanes > self.lanes() and common % lanes:  # lanes that lie in one period read it evenly
            lanes //= 2
        return For(v, low, high, stores, "vector", lanes if common % lanes == 0 else self.wide(min(extent, BLOCK)))

    def places(self) -> dict[Node, Place]:
        """Return the parts of the one result and where in it each lies, if it is nothing but parts side by side.

        Written part by part, each element is computed once; as a sum of padded parts, all of them would be for each.
        """
        (value, *others) = self.body.outputs
        found = {} if others else placement(value, lambda n: not isinstance(n.op, Input | Const)) or {}
        alike = len({n.shape for n in found}) == 1 and len(found) > 1
        return found if alike and all(steps[-1] == 1 for steps, _ in found.values()) else {}

    def values_at(self, position: Sequence[Node], parts: Sequence[Node] = ()) -> list[Node]:
        """Return the expressions of all results, or of `parts`, at an index of the first one's shape."""
        nodes = parts or self.body.outputs
        shape = nodes[0].shape
        flat = flatten_index(position, shape)
        inliner = self.inliner()
        return [
            inliner.value(n, tuple(position) if n.shape == shape else unflatten_index(flat, n.shape)) for n in nodes
        ]


def _placed(position: Sequence[Node], place: Place) -> Node:
    """Return where in a result the element of a part at an index lies."""
    steps, offset = place
    at: Node = index(offset)
    for i, step in zip(position, steps, strict=True):
        at = add(at, scale(i, step))
    return at
