"""The nest of `scatter_add`: a tile owns some columns and adds all slices to them in order, so no two threads meet."""

from __future__ import annotations

import math

from treadle.core import int64
from treadle.ir import Graph
from treadle.ops.indexing import ScatterAdd
from treadle.te import (
    Buffer,
    Comment,
    Fetch,
    For,
    Nest,
    Stmt,
    Store,
    Var,
    add,
    convert,
    floordiv,
    fn,
    index,
    literal,
    mod,
    scale,
)

from .loop_kernel import Cpu, LoopSchedule


def schedule_scatter(body: Graph, cpu: Cpu) -> LoopSchedule:
    """Return the schedule of a group that is one `scatter_add` of dense operands."""
    (out,) = body.outputs
    op = out.op
    assert isinstance(op, ScatterAdd)
    values, where = out.args
    before, after = math.prod(out.shape[: op.axis]), math.prod(out.shape[op.axis + 1 :])
    count = where.type.size
    lanes = max(1, 4 * cpu.vector_bytes // max(out.dtype.itemsize, 4))
    blocks = max(1, -(-after // lanes))
    order = (*body.inputs, out)
    source, place, target = (
        Buffer(name, n.dtype, n.type.size, "arg", order.index(n))
        for name, n in (("values", values), ("at", where), ("out", out))
    )
    buffers = tuple(sorted({source, place, target}, key=lambda b: b.slot))
    t, p, k = Var("t", before * blocks)(), Var("p", op.size)(), Var("k", count)()
    c = Var("c", after)()
    a, block = floordiv(t, blocks), mod(t, blocks)
    low = scale(block, lanes)
    high = fn("min", add(low, lanes), index(after))
    wide = convert(Fetch(place)(k), int64)
    row = fn("min", fn("max", wide, literal(0, int64)), literal(max(op.size - 1, 0), int64))

    def columns(store: Store) -> Stmt:
        return store if after == 1 else For(c, low, high, (store,), "vector", lanes)

    first = add(scale(a, op.size * after), scale(p, after), c)
    onto = add(scale(a, op.size * after), scale(row, after), c)
    value = Fetch(source)(add(scale(a, count * after), scale(k, after), c))
    # Where slices are single elements, the line they are added to is dense.
    how = ("vector", lanes) if after == 1 else ("serial", 1)
    clear = For(p, index(0), index(op.size), (columns(Store(target, first, literal(0, out.dtype))),), *how)
    collect = For(k, index(0), index(count), (columns(Store(target, onto, fn("add", Fetch(target)(onto), value))),))
    shape = f"{count} slices of {before} x {after} onto {op.size} places"
    loop = For(t, index(0), index(before * blocks), (clear, collect), "parallel")
    nest = Nest("scatter", buffers, (Comment(shape), loop))
    nbytes = sum(b.size * b.dtype.itemsize for b in buffers)
    return LoopSchedule(nest, before * blocks, values.type.size, nbytes, shape)
