"""Loop nests: a small tree of statements over scalar nodes.

    stmt  = For(var, low, high, body, kind) | Store(buffer, index, value) | Reduce(register, combine, value)
          | Alloc(buffer) | Comment(text)
    kind  = "parallel" (the kernel's tile range) | "serial" | "vector"

Values may `Fetch` from buffers; a register is a buffer of one element that a loop carries.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from treadle.core import DType, Type
from treadle.ir import Const, Node, Op, topological

from .index import Affine, FloorDiv, Mod
from .scalar import Convert, Fn, Select, Var


@dataclass(frozen=True)
class Buffer:
    """Memory a nest works on.

    `space` is "arg" (one of the kernel's buffers, by `slot`), "scratch" (per thread) or "register" (one value).
    """

    name: str
    dtype: DType
    size: int
    space: Literal["arg", "scratch", "register"] = "arg"
    slot: int = -1

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Fetch(Op):
    """The element of a buffer at a flat index; a register takes no index."""

    name = "fetch"
    buffer: Buffer

    def infer(self, *types: Type) -> Type:
        return Type(self.buffer.dtype, ())


LoopKind = Literal["parallel", "serial", "vector"]


@dataclass(frozen=True)
class For:
    """Run the body for `var` from `low` to `high` - 1.

    A "parallel" loop's iterations are independent tiles: the kernel runs the range it is given. A "vector" loop's
    iterations run in lanes; registers reduced in it are folded across lanes in a fixed order. `lanes` is how many
    iterations run at once (the widest step; the tail is masked).
    """

    var: Node
    low: Node
    high: Node
    body: tuple[Stmt, ...]
    kind: LoopKind = "serial"
    lanes: int = 1


@dataclass(frozen=True)
class Store:
    """Write `value` to the buffer at a flat index."""

    buffer: Buffer
    index: Node
    value: Node


@dataclass(frozen=True)
class Reduce:
    """Fold `value` into a register with a combine of `te.COMBINES`."""

    buffer: Buffer
    combine: str
    value: Node


@dataclass(frozen=True)
class Alloc:
    """Bring a register to life with a first value, or name a scratch buffer."""

    buffer: Buffer
    init: Node | None = None


@dataclass(frozen=True)
class Comment:
    """A remark for the reader of the nest."""

    text: str


Stmt = For | Store | Reduce | Alloc | Comment


@dataclass(frozen=True)
class Nest:
    """A kernel's loops: its buffers in argument order and its statements."""

    name: str
    buffers: tuple[Buffer, ...]
    body: tuple[Stmt, ...]

    def __str__(self) -> str:
        head = f"nest {self.name}({', '.join(f'{b.name}: {b.dtype.short}[{b.size}]' for b in self.buffers)})"
        return "\n".join([head + ":", *_lines(self.body, 1)])


_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip


PLAIN_SIZE = 200  # nodes of an expression's tree up to which it is written out


def show_scalar(node: Node) -> str:
    """Return a scalar expression as people write it; in a long one, what is used twice gets a name behind `where`."""
    nodes = topological([node])
    size: dict[Node, int] = {}
    for n in nodes:
        size[n] = 1 + sum(size[a] for a in n.args)
    names: dict[Node, str] = {}
    if size[node] <= PLAIN_SIZE:  # written out, shared parts make a tree that may be exponentially large
        return _show(node, names)
    users = Counter(a for n in nodes for a in n.args if a.args and not isinstance(a.op, Affine))
    lines = list[str]()
    for n in nodes:
        if users[n] > 1:
            text = _show(n, names)
            names[n] = f"v{len(names)}"
            lines.append(f"{names[n]} = {text}")
    return f"{_show(node, names)} where {', '.join(lines)}"


def _show(node: Node, names: dict[Node, str]) -> str:
    if node in names:
        return names[node]
    op, args = node.op, [_show(a, names) for a in node.args]
    match op:
        case Const():
            return repr(op.value)
        case Var():
            return op.var
        case Affine():
            parts = [a if c == 1 else f"{c}*{a}" for c, a in zip(op.coefficients, args, strict=True)]
            return "(" + " + ".join([*parts, *([str(op.const)] if op.const else [])]) + ")"
        case FloorDiv():
            return f"({args[0]} // {op.by})"
        case Mod():
            return f"({args[0]} % {op.by})"
        case Fetch():
            return f"{op.buffer.name}[{args[0]}]" if args else op.buffer.name
        case Fn() if op.fn in _INFIX:
            return f"({args[0]} {_INFIX[op.fn]} {args[1]})"
        case Fn():
            return f"{op.fn}({', '.join(args)})"
        case Select():
            return f"({args[1]} if {args[0]} else {args[2]})"
        case Convert():
            return f"{op.to.short}({args[0]})"
        case _:
            return f"{op}({', '.join(args)})"


def _lines(body: tuple[Stmt, ...], depth: int) -> list[str]:
    pad, out = "  " * depth, list[str]()
    for stmt in body:
        match stmt:
            case For():
                kind = "" if stmt.kind == "serial" else f" {stmt.kind}" + (f"({stmt.lanes})" if stmt.lanes > 1 else "")
                span = f"{show_scalar(stmt.low)}..{show_scalar(stmt.high)}"
                out.append(f"{pad}for{kind} {show_scalar(stmt.var)} in {span}:")
                out.extend(_lines(stmt.body, depth + 1))
            case Store():
                out.append(f"{pad}{stmt.buffer.name}[{show_scalar(stmt.index)}] = {show_scalar(stmt.value)}")
            case Reduce():
                out.append(f"{pad}{stmt.buffer.name} = {stmt.combine}({stmt.buffer.name}, {show_scalar(stmt.value)})")
            case Alloc():
                what = f" = {show_scalar(stmt.init)}" if stmt.init else f"[{stmt.buffer.size}]"
                out.append(f"{pad}{stmt.buffer.space} {stmt.buffer.name}: {stmt.buffer.dtype.short}{what}")
            case Comment():
                out.append(f"{pad}# {stmt.text}")
    return out
