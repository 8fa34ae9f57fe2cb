"""Loop nests to LLVM: one walk over the statements, values in lanes, every expression at the outermost loop it can be.

Inside a "vector" loop an expression has either one value for all lanes (a scalar) or one per lane. An index that is
affine in the loop variable becomes a plain vector load; any other becomes a gather.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from treadle.core import DType, bool_, float32
from treadle.ir import Const, Node
from treadle.te import (
    COMBINES,
    Affine,
    Alloc,
    Buffer,
    Comment,
    Convert,
    Fetch,
    FloorDiv,
    Fn,
    For,
    Mod,
    Nest,
    Reduce,
    Select,
    Stmt,
    Store,
    Var,
    bounds,
    identity_of,
    terms_of,
)

from . import scalars
from .llvm import I64, Function, Module, Value, compute_type, const
from .memory import STEPS, load_apart, load_lanes, store_lanes


@dataclass(frozen=True)
class Step:
    """The vector loop in progress: its variable, the index of lane 0, how many lanes, and which of them count."""

    var: Node
    base: Value
    lanes: int
    mask: Value | None


@dataclass(frozen=True)
class Stride:
    """An index that grows by `by` from lane to lane (0: the same in all lanes), `base` in lane 0."""

    base: Value
    by: int


def emit_nest(nest: Nest, name: str) -> str:
    """Return the module text of a kernel that runs the nest; see the kernel ABI in `codegen.llvm.Module.kernel`."""
    module = Module(str(nest))
    f = module.kernel(name)
    writer = Writer(f, {b: f.buffer(b.slot) for b in nest.buffers})
    writer.block(nest.body)
    f.ret()
    return str(module)


def scratch_nbytes(nest: Nest) -> int:
    """Return the bytes of per-thread workspace a nest's kernel needs."""
    return sum(_padded(b) for b in _allocated(nest.body) if b.space == "scratch")


def _padded(buffer: Buffer) -> int:
    return -(-buffer.size * buffer.dtype.itemsize // 64) * 64


def _allocated(body: tuple[Stmt, ...]) -> Iterator[Buffer]:
    for stmt in body:
        if isinstance(stmt, Alloc):
            yield stmt.buffer
        elif isinstance(stmt, For):
            yield from _allocated(stmt.body)


class Writer:
    """Writes statements into a function, given the addresses of the buffers they use.

    Another generator may set `step`, `registers` and `known` variables to have statements run for lanes of its own.
    """

    def __init__(self, f: Function, pointers: dict[Buffer, Value]) -> None:
        self.f = f
        self.pointers = pointers
        self.registers: dict[Buffer, Value] = {}
        self.known: list[dict[Node, Value]] = [{}]
        self.step: Step | None = None
        self.scratch_used = 0

    # ---- statements

    def block(self, body: tuple[Stmt, ...]) -> None:
        """Write statements in order; of neighbouring stores all values are read before the first is written."""
        waiting: list[tuple[Store, Value]] = []
        for stmt in body:
            if isinstance(stmt, Store):
                waiting.append((stmt, self.value(stmt.value)))
                continue
            self.flush(waiting)
            match stmt:
                case For():
                    self.loop(stmt)
                case Reduce():
                    self.reduce(stmt)
                case Alloc():
                    self.alloc(stmt)
                case Comment():
                    self.f.comment(stmt.text)
        self.flush(waiting)

    def flush(self, waiting: list[tuple[Store, Value]]) -> None:
        """Write the stores whose values are ready."""
        for stmt, value in waiting:
            self.store(stmt, value)
        waiting.clear()

    def alloc(self, stmt: Alloc) -> None:
        """Give a register its first value, or a scratch buffer its place."""
        if stmt.buffer.space == "register":
            assert stmt.init is not None, f"register {stmt.buffer} has no first value"
            first = self.value(stmt.init)
            self.registers[stmt.buffer] = self.f.splat(first, self.step.lanes) if self.step else first
        else:
            scratch = self.f.params[4]
            self.pointers[stmt.buffer] = self.f.gep(scratch, self.scratch_used)
            self.scratch_used += _padded(stmt.buffer)

    def store(self, stmt: Store, value: Value) -> None:
        """Write one value, or a vector of them."""
        pointer, dtype = self.pointers[stmt.buffer], stmt.buffer.dtype
        if self.step is None:
            store_lanes(self.f, value, pointer, self.scalar(stmt.index), dtype)
            return
        value = self.f.splat(value, self.step.lanes)
        where = self.stride(stmt.index)
        if isinstance(where, Stride) and where.by == 1:
            store_lanes(self.f, value, pointer, where.base, dtype, mask=self.step.mask)
        else:
            store_lanes(self.f, value, pointer, self.spread(where), dtype, mask=self.step.mask)

    def reduce(self, stmt: Reduce) -> None:
        """Fold a value into a register; lanes that do not count contribute nothing."""
        value = self.value(stmt.value)
        old = self.registers[stmt.buffer]
        step = self.step
        if step is not None and old.type.lanes > 1:
            value = self.f.splat(value, old.type.lanes)
            if step.mask is not None:
                nothing = self.identity(stmt.combine, stmt.buffer.dtype, value.type.lanes)
                value = self.f.select(step.mask, value, nothing)
        self.registers[stmt.buffer] = self.combine(stmt.combine, old, value, stmt.buffer.dtype)

    def combine(self, combine: str, a: Value, b: Value, dtype: DType) -> Value:
        """Join two partial results."""
        lanes = max(a.type.lanes, b.type.lanes)
        return scalars.emit(self.f, COMBINES[combine].scalar, [self.f.splat(a, lanes), self.f.splat(b, lanes)], dtype)

    def identity(self, combine: str, dtype: DType, lanes: int) -> Value:
        """The value that joining leaves alone."""
        return self.literal(identity_of(combine, dtype), lanes)

    # ---- loops

    def loop(self, stmt: For) -> None:
        """Write a loop, the expressions that do not change in it before it."""
        carried = [b for b in _reduced(stmt.body) if b in self.registers]
        self.hoist(stmt)
        if stmt.kind == "parallel":
            low, high = self.f.params[2], self.f.params[3]
            self.turns(stmt, low, high, 1, carried)
        elif stmt.kind == "serial":
            self.turns(stmt, self.scalar(stmt.low), self.scalar(stmt.high), 1, carried)
        else:
            assert self.step is None, "vector loops do not nest"
            self.vector_loop(stmt, carried)

    def turns(self, stmt: For, low: Value, high: Value, by: int, carried: list[Buffer]) -> None:
        """Write the loop itself; registers travel through it."""

        def body(i: Value, values: tuple[Value, ...]) -> list[Value]:
            self.registers.update(zip(carried, values, strict=True))
            with self.scope():
                self.known[-1][stmt.var] = i
                self.block(stmt.body)
            return [self.registers[b] for b in carried]

        with self.scope():
            last = self.f.loop(low, high, by, [self.registers[b] for b in carried], body)
        self.registers.update(zip(carried, last, strict=True))

    def vector_loop(self, stmt: For, carried: list[Buffer]) -> None:
        """Write wide steps, then narrow ones, then one masked step; fold the lanes of registers at the end.

        Narrow steps keep the tail short: their width is the widest power of two not above a quarter of `lanes`.
        """
        f = self.f
        low, high = self.scalar(stmt.low), self.scalar(stmt.high)
        combines = {s.buffer: s.combine for s in _reductions(stmt.body)}
        before = {b: self.registers[b] for b in carried}
        wide = stmt.lanes
        narrow = max(1, wide // 4) if wide >= 32 else wide
        count = f.isub(high, low)

        def whole(lanes: int, start: Value) -> Value:
            done = f.isub(start, low)
            left = f.isub(count, done)
            return f.iadd(start, f.imul(f.idiv(left, lanes), lanes))

        for b in carried:
            self.registers[b] = self.identity(combines[b], b.dtype, wide)
        at = low
        for lanes in dict.fromkeys((wide, narrow)):
            for b in carried:
                self.registers[b] = self.narrowed(self.registers[b], lanes, combines[b], b.dtype)
            stop = whole(lanes, at)
            self.steps(stmt, at, stop, lanes, carried)
            at = stop
        if narrow > 1:
            self.tail(stmt, at, high, narrow, carried)
        for b in carried:
            folded = f.reduce(self.registers[b], lambda x, y, b=b: self.combine(combines[b], x, y, b.dtype))
            self.registers[b] = self.combine(combines[b], before[b], folded, b.dtype)

    def narrowed(self, value: Value, lanes: int, combine: str, dtype: DType) -> Value:
        """Fold a register's lanes down to fewer."""
        while value.type.lanes > lanes:
            value = self.combine(combine, self.f.half(value, high=False), self.f.half(value, high=True), dtype)
        return value

    def steps(self, stmt: For, low: Value, high: Value, lanes: int, carried: list[Buffer]) -> None:
        """Write the unmasked steps of one width."""

        def body(i: Value, values: tuple[Value, ...]) -> list[Value]:
            self.registers.update(zip(carried, values, strict=True))
            self.one_step(stmt, Step(stmt.var, i, lanes, None))
            return [self.registers[b] for b in carried]

        last = self.f.loop(low, high, lanes, [self.registers[b] for b in carried], body)
        self.registers.update(zip(carried, last, strict=True))

    def tail(self, stmt: For, at: Value, high: Value, lanes: int, carried: list[Buffer]) -> None:
        """Write the masked last step, if there is anything left."""
        f = self.f
        left = f.isub(high, at)
        before = [self.registers[b] for b in carried]

        def masked() -> list[Value]:
            self.registers.update(zip(carried, before, strict=True))
            self.one_step(stmt, Step(stmt.var, at, lanes, f.lane_mask(left, lanes)))
            return [self.registers[b] for b in carried]

        if left.const_int == 0:
            return
        if left.const_int is not None:
            masked()
            return
        last = f.if_(f.icmp("sgt", left, 0), masked, lambda: before)
        self.registers.update(zip(carried, last, strict=True))

    def one_step(self, stmt: For, step: Step) -> None:
        """Write the body for one step's lanes."""
        with self.scope():
            self.step = step
            self.block(stmt.body)
            self.step = None

    def hoist(self, stmt: For) -> None:
        """Write what the loop body needs but does not change, now."""
        changing = _changed(stmt)
        done: set[Node] = set()

        def visit(node: Node) -> None:
            if node in done:
                return
            done.add(node)
            if not node.args and not isinstance(node.op, Fetch):
                return
            if not (depends(node) & changing):
                self.value(node)
                return
            for arg in node.args:
                visit(arg)

        for expression in _expressions(stmt.body):
            visit(expression)

    @contextmanager
    def scope(self) -> Generator[None]:
        """Forget on leaving what was computed inside."""
        self.known.append({})
        yield
        self.known.pop()

    # ---- values

    def value(self, node: Node) -> Value:
        """Return the value of an expression: a scalar, or one value per lane."""
        for scope in self.known:
            if (found := scope.get(node)) is not None:
                return found
        made = self.compute(node)
        self.known[-1][node] = made
        return made

    def compute(self, node: Node) -> Value:
        """Write an expression."""
        op = node.op
        match op:
            case Const():
                return self.literal(node, 1)
            case Var() | Affine() | FloorDiv() | Mod():
                where = self.stride(node)
                return where.base if isinstance(where, Stride) and where.by == 0 else self.spread(where)
            case Fetch():
                return self.fetch(op.buffer, node)
            case Fn():
                values, dtype = self.aligned([self.value(a) for a in node.args]), node.args[0].dtype
                if node.dtype is bool_ and len(values) == 2 and dtype.is_float and dtype.bits < 32:
                    # Registers hold digits the dtype does not have: values that are equal in memory must be so here.
                    values = [scalars.cast(self.f, v, float32, dtype) for v in values]
                return scalars.emit(self.f, op.fn, values, dtype)
            case Select():
                condition, a, b = self.aligned([self.value(x) for x in node.args])
                return self.f.select(condition, a, b)
            case Convert():
                return scalars.cast(self.f, self.value(node.args[0]), node.args[0].dtype, op.to)
            case _:
                raise AssertionError(f"{node} is not part of a loop nest")

    def literal(self, node: Node, lanes: int) -> Value:
        """Return a constant in every lane."""
        assert isinstance(node.op, Const)
        value, dtype = node.op.value, node.dtype
        if dtype.is_float and dtype.bits < 32:  # computed with in float32, but the number is the one the dtype has
            value = float(np.asarray(value, dtype.numpy))
        return const(value, compute_type(dtype, lanes))

    def aligned(self, values: list[Value]) -> list[Value]:
        """Return the values with as many lanes as the widest has."""
        lanes = max(v.type.lanes for v in values)
        return [self.f.splat(v, lanes) for v in values]

    def fetch(self, buffer: Buffer, node: Node) -> Value:
        """Read a register or memory."""
        if buffer.space == "register":
            return self.registers[buffer]
        pointer = self.pointers[buffer]
        where = self.stride(node.args[0]) if self.step else Stride(self.scalar(node.args[0]), 0)
        if isinstance(where, Stride) and where.by == 0:
            return load_lanes(self.f, pointer, where.base, buffer.dtype, 1)
        assert self.step is not None
        if isinstance(where, Stride) and (where.by == -1 or 1 < where.by <= STEPS) and self.step.mask is None:
            return load_apart(self.f, pointer, where.base, where.by, buffer.dtype, self.step.lanes)
        index = where.base if isinstance(where, Stride) and where.by == 1 else self.spread(where)
        return load_lanes(self.f, pointer, index, buffer.dtype, self.step.lanes, mask=self.step.mask)

    def scalar(self, node: Node) -> Value:
        """Return an index that is the same in all lanes."""
        value = self.value(node)
        assert value.type.lanes == 1, f"{node} differs from lane to lane"
        return value

    # ---- how indices vary over lanes

    def stride(self, node: Node) -> Stride | Value:
        """Return an index as base and step where it is affine over the lanes, else its vector of values."""
        step = self.step
        if step is None or step.var not in _variables(node):
            known = next((s[node] for s in self.known if node in s), None)
            if known is not None and known.type.lanes == 1:
                return Stride(known, 0)
            plain = self.plain(node)
            if isinstance(plain, Stride):
                return plain
            return Stride(plain, 0) if plain.type.lanes == 1 else plain
        return self.varying(node, step)

    def plain(self, node: Node) -> Stride | Value:
        """Return an index that does not contain the vector variable."""
        op = node.op
        if isinstance(op, Const):
            return Stride(const(op.value, I64), 0)
        if isinstance(op, FloorDiv | Mod):
            inner = self.stride(node.args[0])
            if isinstance(inner, Stride) and inner.by == 0:
                divide = self.f.idiv if isinstance(op, FloorDiv) else self.f.imod
                return Stride(divide(inner.base, op.by), 0)
            return self.divided(op, node.args[0], self.spread(inner))
        if isinstance(op, Affine):
            return self.sum(node)
        return self.value(node)

    def varying(self, node: Node, step: Step) -> Stride | Value:
        """Return an index that contains the vector variable."""
        op = node.op
        if node is step.var:
            return Stride(step.base, 1)
        if isinstance(op, Affine):
            return self.sum(node)
        if isinstance(op, FloorDiv | Mod):
            inner = self.stride(node.args[0])
            if isinstance(inner, Stride) and self.stays_inside(node.args[0], inner.by, op.by, step):
                if isinstance(op, FloorDiv):
                    return Stride(self.f.idiv(inner.base, op.by), 0)
                return Stride(self.f.imod(inner.base, op.by), inner.by)
            return self.divided(op, node.args[0], self.spread(inner))
        value = self.value(node)
        return Stride(value, 0) if value.type.lanes == 1 else value

    def sum(self, node: Node) -> Stride | Value:
        """Return an affine index, adding up how its terms vary."""
        op = node.op
        assert isinstance(op, Affine)
        base: Value = const(op.const, I64)
        by = 0
        rest: list[tuple[Value, int]] = []
        for c, arg in zip(op.coefficients, node.args, strict=True):
            where = self.stride(arg)
            if isinstance(where, Stride):
                base, by = self.f.iadd(base, self.f.imul(where.base, c)), by + c * where.by
            else:
                rest.append((where, c))
        if not rest:
            return Stride(base, by)
        total = self.spread(Stride(base, by))
        for vector, c in rest:
            total = self.f.add(total, self.f.mul(vector, c) if c != 1 else vector)
        return total

    def divided(self, op: FloorDiv | Mod, node: Node, value: Value) -> Value:
        """Return the quotient or remainder in every lane; indices are not negative where this is reached."""
        f, divide = self.f, "udiv" if isinstance(op, FloorDiv) else "urem"
        if not 0 <= bounds(node)[0] <= bounds(node)[1] < 1 << 31:
            return f.binary(divide, value, op.by)
        # Vectors of 64-bit numbers have no high half of a product, which divisions by constants are made of.
        return f.cast("zext", f.binary(divide, f.cast("trunc", value, "i32"), op.by), "i64")

    def stays_inside(self, node: Node, by: int, size: int, step: Step) -> bool:
        """Whether all lanes fall into the same block of `size`: lanes start at multiples of their number."""
        if by == 0:
            return True
        span = by * step.lanes
        if by < 0 or size % span:
            return False
        terms, extra = terms_of(node)
        return extra % span == 0 and all(t is step.var or c % span == 0 for t, c in terms.items())

    def spread(self, where: Stride | Value) -> Value:
        """Return an index in every lane."""
        if isinstance(where, Value):
            return where
        lanes = self.step.lanes if self.step else 1
        base = self.f.splat(where.base, lanes)
        if where.by == 0 or lanes == 1:
            return base
        return self.f.add(base, self.f.mul(self.f.iota(lanes), where.by) if where.by != 1 else self.f.iota(lanes))


_depends: WeakKeyDictionary[Node, frozenset[object]] = WeakKeyDictionary()


def depends(node: Node) -> frozenset[object]:
    """Return the loop variables and buffers an expression reads."""
    found = _depends.get(node)
    if found is None:
        own: frozenset[object] = frozenset()
        if isinstance(node.op, Var):
            own = frozenset((node,))
        elif isinstance(node.op, Fetch):
            own = frozenset((node.op.buffer,))
        found = _depends[node] = own.union(*[depends(a) for a in node.args])
    return found


def _variables(node: Node) -> frozenset[object]:
    return depends(node)


def _expressions(body: tuple[Stmt, ...]) -> Iterator[Node]:
    for stmt in body:
        match stmt:
            case For():
                yield stmt.low
                yield stmt.high
                yield from _expressions(stmt.body)
            case Store():
                yield stmt.index
                yield stmt.value
            case Reduce():
                yield stmt.value
            case Alloc() if stmt.init is not None:
                yield stmt.init
            case _:
                pass


def _reductions(body: tuple[Stmt, ...]) -> Iterator[Reduce]:
    for stmt in body:
        if isinstance(stmt, Reduce):
            yield stmt
        elif isinstance(stmt, For):
            yield from _reductions(stmt.body)


def _reduced(body: tuple[Stmt, ...]) -> list[Buffer]:
    return list(dict.fromkeys(stmt.buffer for stmt in _reductions(body)))


def _changed(stmt: For) -> frozenset[object]:
    """Return the variables a loop binds and the buffers its body writes."""
    found: set[object] = {stmt.var}
    for inner in stmt.body:
        if isinstance(inner, For):
            found |= _changed(inner)
        elif isinstance(inner, Store | Reduce | Alloc):
            found.add(inner.buffer)
    return frozenset(found)
