"""Text LLVM IR builder: functions are written once, in order, in the SSA form that instruction selection gets.

Loops and branches are structured (`loop`, `if_`, `while_` take Python functions as bodies), so phi nodes come from
carried values and no alloca, no mem2reg and no other middle-end pass is needed. Equal calls give equal text, which is
what the object cache hashes.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from treadle.codegen.target import Target
from treadle.codegen.values import (
    F16,
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    PTR,
    VOID,
    Value,
    VType,
    compute_type,
    const,
    poison,
    storage_type,
    vector,
)

__all__ = [
    "F16",
    "F32",
    "F64",
    "I1",
    "I8",
    "I16",
    "I32",
    "I64",
    "PTR",
    "VOID",
    "Body",
    "Branch",
    "Function",
    "Index",
    "Module",
    "Operand",
    "VType",
    "Value",
    "compute_type",
    "const",
    "poison",
    "storage_type",
    "vector",
]

Operand = Value | int | float
Index = Value | int
Body = Callable[[Value, tuple[Value, ...]], Sequence[Value] | None]
Branch = Callable[[], Sequence[Value] | None]


def _index(value: Index) -> Value:
    return Value(str(value), I64) if isinstance(value, int) else value


class Module:
    """A set of functions, tables and the declarations they need; `str(module)` is the text.

    With a target, its special instructions may be used; without one the text suits every CPU.
    """

    def __init__(self, comment: str = "", target: Target | None = None) -> None:
        self.target = target
        self._comment = comment
        self._declarations: dict[str, str] = {}
        self._globals: dict[str, str] = {}
        self._functions: dict[str, Function] = {}

    def function(
        self, name: str, params: Sequence[tuple[str, VType]], *, result: VType = VOID, internal: bool = False
    ) -> "Function":
        """A function to fill. Internal ones can only be called from this module and are never inlined."""
        assert name not in self._functions, f"function {name} is defined twice"
        made = Function(self, name, params, result, internal=internal)
        self._functions[name] = made
        return made

    def shared(self, name: str, write: "Callable[[Module], Function]") -> "Function":
        """The function of that name, written on first use."""
        return self._functions.get(name) or write(self)

    def kernel(self, name: str) -> "Function":
        """A function with the kernel ABI: `(ptr slots, ptr args, i64 lo, i64 hi, ptr scratch)`."""
        return self.function(name, [("slots", PTR), ("args", PTR), ("lo", I64), ("hi", I64), ("scratch", PTR)])

    def declare(self, name: str, result: VType, params: Sequence[VType]) -> None:
        """Declare an intrinsic or external function, once."""
        self._declarations[name] = f"declare {result} @{name}({', '.join(map(str, params))})"

    def table(self, name: str, values: Sequence[int | float], elem: VType) -> Value:
        """A pointer to a constant array, 64-byte aligned; asking again by the same name gives the same array."""
        body = ", ".join(str(const(v, elem)) for v in values)
        self._globals[name] = f"@{name} = internal constant [{len(values)} x {elem}] [{body}], align 64"
        return Value(f"@{name}", PTR)

    def __str__(self) -> str:
        parts = [f"; {line}" for line in self._comment.splitlines()]
        parts += [self._globals[k] for k in sorted(self._globals)]
        parts += [self._declarations[k] for k in sorted(self._declarations)]
        parts += [str(f) for f in self._functions.values()]
        return "\n".join([*parts, "attributes #0 = { nounwind }", "!0 = !{i32 1}", ""])


class Function:
    """One function being written. Methods append an instruction and return its value.

    Pure instructions that repeat one still in scope are not written again. Arguments that are Python numbers become
    literals of the other operand's type.
    """

    def __init__(
        self, module: Module, name: str, params: Sequence[tuple[str, VType]], result: VType, *, internal: bool
    ) -> None:
        self.module = module
        self.name = name
        self.result = result
        self.params = tuple(Value(f"%{p}", t) for p, t in params)
        self._internal = internal
        self._lines: list[str] = []
        self._allocas: list[str] = []
        self._count = 0
        self._block = "entry"
        self._scopes: list[dict[tuple[str, VType], Value]] = [{}]
        self._ended = False
        self.stored: dict[tuple[Value, str], Value] = {}  # what values with that dtype's digits only were read from

    def __str__(self) -> str:
        assert self._ended, f"function {self.name} has no ret"
        head = ", ".join(map(str, self.params))
        link = "internal " if self._internal else ""
        attributes = "noinline #0" if self._internal else "#0"
        lines = [
            f"define {link}{self.result} @{self.name}({head}) {attributes} {{",
            "entry:",
            *self._allocas,
            *self._lines,
        ]
        return "\n".join([*lines, "}"])

    # ---- raw text

    def fresh(self, prefix: str = "v") -> str:
        """A name not yet used in this function."""
        self._count += 1
        return f"{prefix}{self._count}"

    def emit(self, text: str, type: VType, *, pure: bool = True) -> Value:
        """Append `%new = text`. A pure text that was written in an enclosing scope is reused."""
        if pure:
            for scope in self._scopes:
                if (found := scope.get((text, type))) is not None:
                    return found
        value = Value(f"%{self.fresh()}", type)
        self._lines.append(f"  {value.name} = {text}")
        if pure:
            self._scopes[-1][text, type] = value
        return value

    def line(self, text: str) -> None:
        """Append an instruction without a result."""
        self._lines.append(f"  {text}")

    def comment(self, text: str) -> None:
        """Append comment lines."""
        self._lines.extend(f"  ; {line}" for line in text.splitlines())

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._block = name

    @contextmanager
    def _scope(self) -> Generator[None]:
        self._scopes.append({})
        yield
        self._scopes.pop()

    def ret(self, value: Value | None = None) -> None:
        """Return; the function is complete."""
        self.line("ret void" if value is None else f"ret {value}")
        self._ended = True

    # ---- operands

    def _operand(self, value: Operand, like: VType) -> Value:
        return value if isinstance(value, Value) else const(value, like)

    def _pair(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        kind = a.type if isinstance(a, Value) else b.type if isinstance(b, Value) else None
        assert kind is not None, "at least one operand must be a Value"
        x, y = self._operand(a, kind), self._operand(b, kind)
        assert x.type == y.type, f"{self.name}: operands have types {x.type} and {y.type}"
        return x, y

    def binary(self, op: str, a: Operand, b: Operand, flags: str = "") -> Value:
        """`op` is LLVM's word: fadd, sub, shl, ...; `flags` such as `nsw` or `contract`."""
        x, y = self._pair(a, b)
        return self.emit(f"{op} {flags + ' ' if flags else ''}{x}, {y.name}", x.type)

    # ---- index arithmetic (i64; folds literals)

    def iadd(self, a: Index, b: Index) -> Value:
        """Sum of two indices."""
        x, y = _index(a), _index(b)
        m, n = x.const_int, y.const_int
        if m is not None and n is not None:
            return _index(m + n)
        if n == 0:
            return x
        return y if m == 0 else self.binary("add", x, y, "nsw")

    def isub(self, a: Index, b: Index) -> Value:
        """Difference of two indices."""
        x, y = _index(a), _index(b)
        m, n = x.const_int, y.const_int
        if m is not None and n is not None:
            return _index(m - n)
        return x if n == 0 else self.binary("sub", x, y, "nsw")

    def imul(self, a: Index, b: Index) -> Value:
        """Product of two indices."""
        x, y = _index(a), _index(b)
        m, n = x.const_int, y.const_int
        if m is not None and n is not None:
            return _index(m * n)
        if m == 0 or n == 0:
            return _index(0)
        if n == 1:
            return x
        return y if m == 1 else self.binary("mul", x, y, "nsw")

    def idiv(self, a: Index, b: int) -> Value:
        """Quotient of an index that is not negative."""
        x = _index(a)
        if (m := x.const_int) is not None:
            return _index(m // b)
        return x if b == 1 else self.binary("udiv", x, b)

    def imod(self, a: Index, b: int) -> Value:
        """Remainder of an index that is not negative."""
        x = _index(a)
        if (m := x.const_int) is not None:
            return _index(m % b)
        return _index(0) if b == 1 else self.binary("urem", x, b)

    def imin(self, a: Index, b: Index) -> Value:
        """The smaller index."""
        x, y = _index(a), _index(b)
        m, n = x.const_int, y.const_int
        if m is not None and n is not None:
            return _index(min(m, n))
        return self.intrinsic("llvm.smin", I64, x, y)

    def imax(self, a: Index, b: Index) -> Value:
        """The larger index."""
        x, y = _index(a), _index(b)
        m, n = x.const_int, y.const_int
        if m is not None and n is not None:
            return _index(max(m, n))
        return self.intrinsic("llvm.smax", I64, x, y)

    # ---- arithmetic on values

    def add(self, a: Operand, b: Operand) -> Value:
        """Wrapping integer sum."""
        return self.binary("add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        """Wrapping integer difference."""
        return self.binary("sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """Wrapping integer product."""
        return self.binary("mul", a, b)

    def and_(self, a: Operand, b: Operand) -> Value:
        """Bitwise and."""
        return self.binary("and", a, b)

    def or_(self, a: Operand, b: Operand) -> Value:
        """Bitwise or."""
        return self.binary("or", a, b)

    def xor(self, a: Operand, b: Operand) -> Value:
        """Bitwise exclusive or."""
        return self.binary("xor", a, b)

    def not_(self, a: Value) -> Value:
        """Bitwise complement; logical for i1."""
        return self.binary("xor", a, 1 if a.type.elem == "i1" else -1)

    def shl(self, a: Operand, b: Operand) -> Value:
        """Shift left; poison from the width on."""
        return self.binary("shl", a, b)

    def lshr(self, a: Operand, b: Operand) -> Value:
        """Shift right filling with zeros."""
        return self.binary("lshr", a, b)

    def ashr(self, a: Operand, b: Operand) -> Value:
        """Shift right keeping the sign."""
        return self.binary("ashr", a, b)

    def fadd(self, a: Operand, b: Operand, flags: str = "") -> Value:
        """Float sum."""
        return self.binary("fadd", a, b, flags)

    def fsub(self, a: Operand, b: Operand, flags: str = "") -> Value:
        """Float difference."""
        return self.binary("fsub", a, b, flags)

    def fmul(self, a: Operand, b: Operand, flags: str = "") -> Value:
        """Float product."""
        return self.binary("fmul", a, b, flags)

    def fdiv(self, a: Operand, b: Operand, flags: str = "") -> Value:
        """Float quotient."""
        return self.binary("fdiv", a, b, flags)

    def fneg(self, a: Value) -> Value:
        """Sign flipped, also of zeros and NaN."""
        return self.emit(f"fneg {a}", a.type)

    def fma(self, a: Operand, b: Operand, c: Operand) -> Value:
        """`a * b + c`, rounded once."""
        kind = next(v.type for v in (a, b, c) if isinstance(v, Value))
        return self.intrinsic("llvm.fma", kind, *(self._operand(v, kind) for v in (a, b, c)))

    def fabs(self, a: Value) -> Value:
        """Sign cleared."""
        return self.intrinsic("llvm.fabs", a.type, a)

    def opaque(self, a: Value) -> Value:
        """The floats as they are, through which LLVM rearranges nothing; takes no instruction."""
        return self.intrinsic("llvm.arithmetic.fence", a.type, a)

    def sqrt(self, a: Value) -> Value:
        """Correctly rounded square root."""
        return self.intrinsic("llvm.sqrt", a.type, a)

    def copysign(self, a: Operand, b: Operand) -> Value:
        """Magnitude of a, sign of b."""
        x, y = self._pair(a, b)
        return self.intrinsic("llvm.copysign", x.type, x, y)

    def round(self, a: Value, mode: str) -> Value:
        """`mode` is LLVM's word: floor, ceil, trunc, roundeven."""
        return self.intrinsic(f"llvm.{mode}", a.type, a)

    def fmax(self, a: Operand, b: Operand) -> Value:
        """`a > b ? a : b`, one instruction; b if either is NaN."""
        x, y = self._pair(a, b)
        return self.select(self.fcmp("ogt", x, y), x, y)

    def fmin(self, a: Operand, b: Operand) -> Value:
        """`a < b ? a : b`, one instruction; b if either is NaN."""
        x, y = self._pair(a, b)
        return self.select(self.fcmp("olt", x, y), x, y)

    def icmp(self, predicate: str, a: Operand, b: Operand) -> Value:
        """Integer comparison: eq ne slt sle sgt sge ult ule ugt uge."""
        x, y = self._pair(a, b)
        return self.emit(f"icmp {predicate} {x}, {y.name}", x.type.with_elem("i1"))

    def fcmp(self, predicate: str, a: Operand, b: Operand) -> Value:
        """Float comparison: oeq one olt ... (false on NaN), ueq une ult ... (true on NaN), ord, uno."""
        x, y = self._pair(a, b)
        return self.emit(f"fcmp {predicate} {x}, {y.name}", x.type.with_elem("i1"))

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """`a` where the condition holds, else `b`; lane by lane if the condition is a vector."""
        x, y = self._pair(a, b)
        return self.emit(f"select {condition}, {x}, {y}", x.type)

    def cast(self, op: str, a: Value, elem: str) -> Value:
        """LLVM cast to as many lanes of `elem`; `op` is LLVM's word: sext, zext, trunc, sitofp, fpext, ..."""
        target = a.type.with_elem(elem)
        return a if a.type == target else self.emit(f"{op} {a} to {target}", target)

    def bitcast(self, a: Value, target: VType) -> Value:
        """The same bits as another type of the same size."""
        return a if a.type == target else self.emit(f"bitcast {a} to {target}", target)

    # ---- vectors

    def splat(self, a: Operand, lanes: int, elem: VType | None = None) -> Value:
        """The scalar in every lane; vectors pass through."""
        if not isinstance(a, Value):
            assert elem is not None, "a Python number needs the element type"
            return const(a, elem.with_lanes(lanes))
        if a.type.lanes == lanes:
            return a
        target = a.type.with_lanes(lanes)
        if not a.name.startswith(("%", "@")):
            return Value(f"splat ({a})", target)
        one = self.emit(f"insertelement {target} poison, {a}, i64 0", target)
        return self.emit(f"shufflevector {target} {one.name}, {target} poison, <{lanes} x i32> zeroinitializer", target)

    def extract(self, a: Value, lane: Index) -> Value:
        """One lane as a scalar."""
        return self.emit(f"extractelement {a}, {_index(lane)}", a.type.with_lanes(1))

    def insert(self, a: Value, scalar: Value, lane: Index) -> Value:
        """The vector with one lane replaced."""
        return self.emit(f"insertelement {a}, {scalar}, {_index(lane)}", a.type)

    def shuffle(self, a: Value, b: Value | None, lanes: Sequence[int]) -> Value:
        """Lanes picked from a followed by b; -1 is any."""
        other = poison(a.type) if b is None else b
        picks = ", ".join("i32 poison" if k < 0 else f"i32 {k}" for k in lanes)
        target = a.type.with_lanes(len(lanes))
        return self.emit(f"shufflevector {a}, {other}, <{len(lanes)} x i32> <{picks}>", target)

    def half(self, a: Value, *, high: bool) -> Value:
        """The lower or upper half of the lanes."""
        n = a.type.lanes // 2
        if n == 1:
            return self.extract(a, int(high))
        return self.shuffle(a, None, range(n * high, n * high + n))

    def join(self, a: Value, b: Value) -> Value:
        """Lanes of a, then lanes of b."""
        if a.type.lanes == 1:
            both = poison(a.type.with_lanes(2))
            return self.insert(self.insert(both, a, 0), b, 1)
        return self.shuffle(a, b, range(2 * a.type.lanes))

    def reduce(self, a: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes combined into a scalar, halving each time: always the same order. Lanes must be a power of two."""
        assert a.type.lanes & (a.type.lanes - 1) == 0, f"cannot halve {a.type.lanes} lanes"
        while a.type.lanes > 1:
            a = combine(self.half(a, high=False), self.half(a, high=True))
        return a

    def iota(self, lanes: int, elem: VType = I64) -> Value:
        """The literal 0, 1, 2, ..."""
        return const(0, elem) if lanes == 1 else vector(range(lanes), elem)

    def any(self, mask: Value) -> Value:
        """Whether some lane of an i1 vector is true."""
        lanes = mask.type.lanes
        if lanes == 1:
            return mask
        return self.icmp("ne", self.bitcast(mask, VType(f"i{lanes}")), 0)

    def lane_mask(self, count: Index, lanes: int) -> Value:
        """i1 lanes, true in the first `count` (clamped to 0..lanes)."""
        n = _index(count)
        if (m := n.const_int) is not None:
            m = min(max(m, 0), lanes)
            if m in (0, lanes) or lanes == 1:
                return const(m == lanes, I1.with_lanes(lanes))
            return vector([k < m for k in range(lanes)], I1)
        small = self.cast("trunc", self.imin(n, lanes), "i32")
        return self.icmp("slt", self.iota(lanes, I32), self.splat(small, lanes))

    # ---- memory

    def gep(self, pointer: Value, index: Operand, elem: VType = I8) -> Value:
        """Address of element `index` (a vector of indices gives a vector of addresses)."""
        x = const(index, I64) if not isinstance(index, Value) else index
        if x.const_int == 0:
            return pointer
        return self.emit(f"getelementptr inbounds {elem}, {pointer}, {x}", PTR.with_lanes(x.type.lanes))

    def load(self, pointer: Value, type: VType, *, align: int | None = None, nontemporal: bool = False) -> Value:
        """Lanes read from consecutive elements; `align` defaults to the element's size."""
        extra = ", !nontemporal !0" if nontemporal else ""
        return self.emit(f"load {type}, {pointer}, align {align or type.elem_nbytes}{extra}", type, pure=False)

    def store(self, value: Value, pointer: Value, *, align: int | None = None, nontemporal: bool = False) -> None:
        """Lanes written to consecutive elements. A nontemporal vector store must be aligned to the vector's size."""
        extra = ", !nontemporal !0" if nontemporal else ""
        self.line(f"store {value}, {pointer}, align {align or value.type.elem_nbytes}{extra}")

    def buffer(self, k: int) -> Value:
        """The data pointer of buffer `k` of a kernel: `slots[args[k]]`."""
        slots, args = self.params[:2]
        return self.load(self.gep(slots, self.load(self.gep(args, k, I64), I64), PTR), PTR)

    def extra(self, k: int, type: VType = I64) -> Value:
        """The i64 scalar in `args[k]` of a kernel, behind its buffers."""
        return self.load(self.gep(self.params[1], k, I64), type)

    def _memory(self, name: str, result: VType, *args: Value) -> Value:
        # The alignment is an i32 argument here: LLVM 22 made it an attribute but reads this form, older ones only this.
        self.module.declare(name, result, [a.type for a in args])
        return self.call(name, *args, result=result)

    def masked_load(
        self, pointer: Value, type: VType, mask: Value, other: Operand | None = None, *, align: int | None = None
    ) -> Value:
        """Lanes read where the mask is true, `other` elsewhere; memory of false lanes is not touched."""
        fill = poison(type) if other is None else self._operand(other, type)
        if type.lanes == 1:
            return self.if_(mask, lambda: [self.load(pointer, type, align=align)], lambda: [fill])[0]
        name = f"llvm.masked.load.{type.mangled}.p0"
        return self._memory(name, type, pointer, const(align or type.elem_nbytes, I32), mask, fill)

    def masked_store(self, value: Value, pointer: Value, mask: Value, *, align: int | None = None) -> None:
        """Lanes written where the mask is true."""
        kind = value.type
        if kind.lanes == 1:
            self.if_(mask, lambda: self.store(value, pointer, align=align))
            return
        if mask == vector([k == 0 for k in range(kind.lanes)], I1):
            # LLVM 20 makes a wide store of this when the value is a truncation: 4 bytes written instead of 2.
            self.store(self.extract(value, 0), pointer, align=align or kind.elem_nbytes)
            return
        name = f"llvm.masked.store.{kind.mangled}.p0"
        self._memory(name, VOID, value, pointer, const(align or kind.elem_nbytes, I32), mask)

    def gather(self, pointers: Value, type: VType, mask: Value | None = None, other: Operand | None = None) -> Value:
        """One element from each address where the mask is true, `other` elsewhere."""
        if type.lanes == 1:
            return self.load(pointers, type) if mask is None else self.masked_load(pointers, type, mask, other)
        on = const(1, I1.with_lanes(type.lanes)) if mask is None else mask
        fill = poison(type) if other is None else self._operand(other, type)
        name = f"llvm.masked.gather.{type.mangled}.{pointers.type.mangled}"
        return self._memory(name, type, pointers, const(type.elem_nbytes, I32), on, fill)

    def scatter(self, value: Value, pointers: Value, mask: Value | None = None) -> None:
        """One element to each address where the mask is true; of equal addresses the highest lane wins."""
        kind = value.type
        if kind.lanes == 1:
            if mask is None:
                self.store(value, pointers)
            else:
                self.masked_store(value, pointers, mask)
            return
        on = const(1, I1.with_lanes(kind.lanes)) if mask is None else mask
        name = f"llvm.masked.scatter.{kind.mangled}.{pointers.type.mangled}"
        self._memory(name, VOID, value, pointers, const(kind.elem_nbytes, I32), on)

    def prefetch(self, pointer: Value, *, write: bool = False, locality: int = 3) -> None:
        """Ask for a cache line; locality 3 is all levels, 0 is non-temporal."""
        self.module.declare("llvm.prefetch.p0", VOID, [PTR, I32, I32, I32])
        self.line(f"call void @llvm.prefetch.p0({pointer}, i32 {int(write)}, i32 {locality}, i32 1)")

    def alloca(self, type: VType, count: int = 1, *, align: int = 64) -> Value:
        """Stack space for `count` values of `type`, made once at entry."""
        name = f"%{self.fresh('stack')}"
        self._allocas.append(f"  {name} = alloca {type}, i64 {count}, align {align}")
        return Value(name, PTR)

    def fence(self) -> None:
        """Order the non-temporal stores made so far before what another thread is told next."""
        self.module.declare("llvm.x86.sse.sfence", VOID, [])
        self.line("call void @llvm.x86.sse.sfence()")

    # ---- calls

    def intrinsic(self, name: str, result: VType, *args: Value, overload: Sequence[VType] | None = None) -> Value:
        """Call a pure intrinsic, declared on first use; `overload` are the types mangled into its name (the result)."""
        full = ".".join([name, *(t.mangled for t in ((result,) if overload is None else overload))])
        self.module.declare(full, result, [a.type for a in args])
        return self.emit(f"call {result} @{full}({', '.join(map(str, args))})", result)

    def call(self, callee: "Function | str", *args: Index, result: VType | None = None) -> Value:
        """Call a function of this module (or, by name, a declared one); a void call gives a value nobody may use."""
        name, kind = (callee, result or VOID) if isinstance(callee, str) else (callee.name, callee.result)
        text = f"call {kind} @{name}({', '.join(str(_index(a)) for a in args)})"
        if kind == VOID:
            self.line(text)
            return poison(I1)
        return self.emit(text, kind, pure=False)

    # ---- control flow

    def loop(self, lo: Index, hi: Index, step: Index, carried: Sequence[Value], body: Body) -> tuple[Value, ...]:
        """`for i = lo; i < hi; i += step`: body(i, carried) returns the next carried values; gives the last ones.

        With literal bounds a loop of no turn writes nothing and one of a single turn is written in place.
        """
        low, high, by = _index(lo), _index(hi), _index(step)
        m, n, s = low.const_int, high.const_int, by.const_int
        known = m is not None and n is not None
        if m is not None and n is not None:
            if m >= n:
                return tuple(carried)
            if s is not None and m + s >= n:
                return tuple(body(low, tuple(carried)) or ())
        head, done, before = self.fresh("loop"), self.fresh("done"), self._block
        if known:
            self.line(f"br label %{head}")
        else:
            enter = self.icmp("slt", low, high)
            self.line(f"br {enter}, label %{head}, label %{done}")
        self._label(head)
        i = Value(f"%{self.fresh('i')}", I64)
        phis = [Value(f"%{self.fresh()}", v.type) for v in carried]
        at = len(self._lines)
        self._lines.extend([""] * (1 + len(phis)))
        with self._scope():
            last = tuple(body(i, tuple(phis)) or ())
            assert [v.type for v in last] == [v.type for v in carried], (
                "the body must return a next value for each carried one"
            )
            following = self.emit(f"add nsw {i}, {by.name}", I64, pure=False)
            again = self.emit(f"icmp slt {following}, {high.name}", I1, pure=False)
        latch = self._block
        self.line(f"br {again}, label %{head}, label %{done}")
        self._lines[at] = f"  {i.name} = phi i64 [ {low.name}, %{before} ], [ {following.name}, %{latch} ]"
        for k, (phi, first, final) in enumerate(zip(phis, carried, last, strict=True)):
            ways = f"[ {first.name}, %{before} ], [ {final.name}, %{latch} ]"
            self._lines[at + 1 + k] = f"  {phi.name} = phi {phi.type} {ways}"
        self._label(done)
        if known:
            return last
        return tuple(
            self.emit(f"phi {f.type} [ {f.name}, %{before} ], [ {z.name}, %{latch} ]", f.type, pure=False)
            for f, z in zip(carried, last, strict=True)
        )

    def while_(
        self,
        carried: Sequence[Value],
        condition: Callable[[tuple[Value, ...]], Value],
        body: Callable[[tuple[Value, ...]], Sequence[Value]],
    ) -> tuple[Value, ...]:
        """`while condition(carried): carried = body(carried)`; gives the last carried values."""
        head, inside, done, before = self.fresh("while"), self.fresh("do"), self.fresh("done"), self._block
        self.line(f"br label %{head}")
        self._label(head)
        phis = tuple(Value(f"%{self.fresh()}", v.type) for v in carried)
        at = len(self._lines)
        self._lines.extend([""] * len(phis))
        go = condition(phis)
        self.line(f"br {go}, label %{inside}, label %{done}")
        self._label(inside)
        with self._scope():
            last = tuple(body(phis))
        latch = self._block
        self.line(f"br label %{head}")
        for k, (phi, first, final) in enumerate(zip(phis, carried, last, strict=True)):
            ways = f"[ {first.name}, %{before} ], [ {final.name}, %{latch} ]"
            self._lines[at + k] = f"  {phi.name} = phi {phi.type} {ways}"
        self._label(done)
        return phis

    def if_(
        self, condition: Value, then: Branch | Callable[[], None], orelse: Branch | None = None
    ) -> tuple[Value, ...]:
        """Run `then` if the condition (scalar i1) holds, else `orelse`; gives what the branch taken returned."""
        if condition.name in ("true", "false"):
            taken = then if condition.name == "true" else orelse
            return tuple((taken() if taken else None) or ())
        yes, no, done = self.fresh("then"), self.fresh("else"), self.fresh("join")
        before = self._block
        self.line(f"br {condition}, label %{yes}, label %{done if orelse is None else no}")
        self._label(yes)
        with self._scope():
            a = tuple(then() or ())
        end_a = self._block
        self.line(f"br label %{done}")
        b: tuple[Value, ...] = ()
        end_b = before
        if orelse is not None:
            self._label(no)
            with self._scope():
                b = tuple(orelse() or ())
            end_b = self._block
            self.line(f"br label %{done}")
        self._label(done)
        assert [v.type for v in a] == [v.type for v in b], "both branches must return values of the same types"
        return tuple(
            self.emit(f"phi {x.type} [ {x.name}, %{end_a} ], [ {y.name}, %{end_b} ]", x.type, pure=False)
            for x, y in zip(a, b, strict=True)
        )
