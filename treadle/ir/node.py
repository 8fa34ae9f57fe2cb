"""The one data structure: immutable, interned nodes `Node(op, args, types)`. Equal programs are the same object."""

from __future__ import annotations

import dataclasses
import math
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, cast
from weakref import WeakValueDictionary

from treadle.core import DType, Type, VerifyError

from .source import Source, user_source

Number = bool | int | float


class Node:
    """An op applied to nodes. `types` has one entry per result; `type` exists only when there is one.

    Nodes are interned: the same op on the same arguments is the same object, so `is` compares programs and common
    sub-expressions cost nothing. `source` stands beside the node, outside its identity: the first maker wins.
    """

    __slots__ = ("__weakref__", "args", "op", "source", "type", "types")

    op: Op
    args: tuple[Node, ...]
    types: tuple[Type, ...]
    type: Type
    source: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a node with one result."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The dtype of a node with one result."""
        return self.type.dtype

    def __repr__(self) -> str:
        inner = ", ".join("..." if a.args else repr(a) for a in self.args)
        return f"{self.op}({inner}) : {', '.join(map(repr, self.types))}"

    def __add__(self, other: Node | Number) -> Node:
        return _apply("add", self, other)

    def __radd__(self, other: Number) -> Node:
        return _apply("add", other, self)

    def __sub__(self, other: Node | Number) -> Node:
        return _apply("subtract", self, other)

    def __rsub__(self, other: Number) -> Node:
        return _apply("subtract", other, self)

    def __mul__(self, other: Node | Number) -> Node:
        return _apply("multiply", self, other)

    def __rmul__(self, other: Number) -> Node:
        return _apply("multiply", other, self)

    def __truediv__(self, other: Node | Number) -> Node:
        return _apply("divide", self, other)

    def __rtruediv__(self, other: Number) -> Node:
        return _apply("divide", other, self)

    def __pow__(self, other: Node | Number) -> Node:
        return _apply("pow", self, other)

    def __neg__(self) -> Node:
        return Op.registry["negative"]()(self)

    def __reduce__(self) -> Any:
        return (_rebuild, (self.op, self.args))


def _rebuild(op: Op, args: tuple[Node, ...]) -> Node:
    return op(*args)


def _apply(name: str, a: Node | Number, b: Node | Number) -> Node:
    """Apply a binary op by name: `ir` need not import the ops above it."""
    dtype = a.dtype if isinstance(a, Node) else cast(Node, b).dtype
    left = a if isinstance(a, Node) else constant(a, dtype)
    right = b if isinstance(b, Node) else constant(b, dtype)
    return Op.registry[name]()(left, right)


_interned: WeakValueDictionary[Any, Node] = WeakValueDictionary()


@dataclass(frozen=True)
class Op:
    """What a node does. Final subclasses are frozen dataclasses: fields are its parameters, methods its meanings."""

    name: ClassVar[str] = ""
    tracked: ClassVar[bool] = False  # whether its nodes remember the user's line
    registry: ClassVar[dict[str, type[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name")
        if name:
            known = Op.registry.get(name)
            assert known is None or known.__qualname__ == cls.__qualname__, f"two ops are called {name}"
            Op.registry[name] = cls

    def infer(self, *types: Any, **_: Any) -> Type | tuple[Type, ...]:  # typed so that any signature may override
        """Return the type of the result, or of each result; raise where the operands do not fit."""
        raise NotImplementedError(f"{self.name}.infer")

    def __call__(self, *args: Node) -> Node:
        """Return the one node of this op on these arguments."""
        key = (self.name, self, *args)  # ops of different kinds may share a hash
        node = _interned.get(key)
        if node is None:
            node = _interned.setdefault(key, _make(self, args))  # another thread may have been first
        return node

    def params(self) -> dict[str, Any]:
        """Return the parameters by name, in order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(cast(Any, self))}

    def __str__(self) -> str:
        inner = ", ".join(f"{k}={v!r}" for k, v in self.params().items())
        return f"{self.name}{{{inner}}}" if inner else self.name


def _make(op: Op, args: tuple[Node, ...]) -> Node:
    inferred = op.infer(*[a.type for a in args])
    node = Node.__new__(Node)
    node.op = op
    node.args = args
    if isinstance(inferred, Type):
        node.type = inferred
        node.types = (inferred,)
    else:
        node.types = inferred
    node.source = user_source() if op.tracked else None
    return node


def bare_node(op: Op, of: Type) -> Node:
    """Return a node without arguments that is not interned: a leaf that nothing else can equal."""
    node = Node.__new__(Node)
    node.op = op
    node.args = ()
    node.type = of
    node.types = (of,)
    node.source = None
    return node


@dataclass(frozen=True)
class Input(Op):
    """The index-th argument of a graph."""

    name = "input"
    index: int
    of: Type

    def infer(self) -> Type:
        return self.of


@dataclass(frozen=True)
class Get(Op):
    """One result of a node that has several."""

    name = "get"
    index: int
    of: Type

    def infer(self, *types: Type) -> Type:
        return self.of

    def __call__(self, *args: Node) -> Node:
        (source,) = args
        if not 0 <= self.index < len(source.types) or source.types[self.index] != self.of:
            raise VerifyError(f"get: result {self.index} of type {self.of} is not among {source.types}.")
        key = (self, source)
        node = _interned.get(key)
        if node is None:
            node = Node.__new__(Node)
            node.op, node.args, node.types, node.type, node.source = self, args, (self.of,), self.of, source.source
            _interned[key] = node
        return node


def results(node: Node) -> tuple[Node, ...]:
    """Return one node per result."""
    if len(node.types) == 1 and not isinstance(node.op, Get):
        return (node,)
    return tuple(Get(i, t)(node) for i, t in enumerate(node.types))


@dataclass(frozen=True, eq=False)
class Const(Op):
    """A scalar literal. Literals are equal when their bits are: 0.0 and -0.0 differ, NaN is itself."""

    name = "const"
    value: Number
    dtype: DType

    def __post_init__(self) -> None:
        kind = {"bool": bool, "float": float}.get(self.dtype.kind, int)
        value = kind(self.value)
        if isinstance(value, float) and math.isnan(value):
            value = math.nan  # the sign and payload of a NaN mean nothing, and do not print
        object.__setattr__(self, "value", value)

    @cached_property
    def _key(self) -> tuple[DType, bytes | int]:
        return self.dtype, struct.pack("d", self.value) if isinstance(self.value, float) else self.value

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Const) and self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def infer(self) -> Type:
        return Type(self.dtype, ())


def constant(value: Number, dtype: DType) -> Node:
    """Return the scalar node of a literal."""
    return Const(value, dtype)()


def const_value(node: Node) -> Number | None:
    """Return the literal of a constant node, else None."""
    return node.op.value if isinstance(node.op, Const) else None


def is_finite_number(value: Number) -> bool:
    """Whether a literal is neither NaN nor infinite."""
    return not isinstance(value, float) or math.isfinite(value)
