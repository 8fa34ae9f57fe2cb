"""The nest of `scatter_along`: a tile owns lines along the axis and takes the values of each in order.

Neighbouring lines run in lanes: no two lanes write to one place, as each has a line of its own.
"""

from __future__ import annotations

import math

from treadle.core import int64
from treadle.ir import Graph
from treadle.ops.scatter import ScatterAlong
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

WIDTH = 4  # vectors of a tile: neighbouring lines are in the same lines of the cache, and pages
SCALARS = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}


def schedule_scatter_along(body: Graph, cpu: Cpu) -> LoopSchedule:
    """Return the schedule of a group that is one `scatter_along` of dense operands."""
    (out,) = body.outputs
    op = out.op
    assert isinstance(op, ScatterAlong)
    before, after = math.prod(out.shape[: op.axis]), math.prod(out.shape[op.axis + 1 :])
    size, count = out.shape[op.axis], out.args[1].shape[op.axis]
    buffers = [Buffer(f"x{k}", n.dtype, n.type.size, "arg", k) for k, n in enumerate(body.inputs)]
    base, place, source = (buffers[body.inputs.index(n)] for n in out.args)
    target = Buffer("out", out.dtype, out.type.size, "arg", len(buffers))
    vector = max(1, cpu.vector_bytes // max(out.dtype.itemsize, 4))
    lanes = min(vector, 1 << max(after - 1, 0).bit_length())
    width = WIDTH * lanes
    blocks = max(1, -(-after // width))
    t, p, k, c = Var("t", before * blocks)(), Var("p", size)(), Var("k", count)(), Var("c", after)()
    a, block = floordiv(t, blocks), mod(t, blocks)
    low = scale(block, width)
    high = fn("min", add(low, width), index(after))

    def columns(store: Store) -> Stmt:
        return store if after == 1 else For(c, low, high, (store,), "vector", lanes)

    every = add(scale(a, size * after), scale(p, after), c)
    given = add(scale(a, count * after), scale(k, after), c)
    wide = convert(Fetch(place)(given if out.args[1].shape == out.args[2].shape else k), int64)
    row = fn("min", fn("max", wide, literal(0, int64)), literal(max(size - 1, 0), int64))
    onto = add(scale(a, size * after), scale(row, after), c)
    value = Fetch(source)(given)
    if op.combine != "set":
        value = fn(SCALARS[op.combine], Fetch(target)(onto), value)
    copy = (columns(Store(target, every, Fetch(base)(every))),)
    # A line that is dense is copied in lanes.
    start = For(p, index(0), index(size), copy, *(("vector", 4 * vector) if after == 1 else ("serial", 1)))
    take = For(k, index(0), index(count), (columns(Store(target, onto, value)),))
    shape = f"{count} values into lines of {size}, {before} x {after} of them, by {op.combine}"
    loop = For(t, index(0), index(before * blocks), (start, take), "parallel")
    nest = Nest("scatter_along", (*buffers, target), (Comment(shape), loop))
    nbytes = sum(b.size * b.dtype.itemsize for b in nest.buffers)
    return LoopSchedule(nest, before * blocks, out.args[1].type.size, nbytes, shape)
