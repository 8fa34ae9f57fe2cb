"""Fusion: which nodes share a kernel.

Two decisions. First, which values are *stored*: results of reductions, matrix products and the like, what leaves the
graph, and what would cost more to compute again than to load. Everything else is inlined into its readers. Second,
which stored values share a kernel: a group grows along an edge when every element is read in the same turn of the
same loops, and no other kernel would have to run in between. Every decision carries its reason.

After TVM's operator classes (Chen et al. 2018) and TorchInductor's scheduler (Ansel et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from treadle.core import Type
from treadle.ir import Const, Get, Graph, Input, Node, Source, results, substitute, topological, users_of
from treadle.ops.base import Reduction, TensorOp
from treadle.ops.formula import Inliner, lowered, op_cost
from treadle.ops.fused import Fused, KernelKind
from treadle.ops.placement import placement
from treadle.ops.scan import Scan
from treadle.te import Load, Var, coefficients, flatten_index, index, literal, substitute_index, unflatten_index

RECOMPUTE_COST = 64  # flops an element may cost to compute again before it is stored instead
BROADCAST_COST = 16  # the same where every element would be computed again many times
MAX_DEPTH = 80  # ops that may be nested in one kernel's expressions: they are built recursively
MAX_READS = 40  # buffers one kernel may read
DENSE = ("host", "scatter", "scatter_along", "cumulative", "sort")  # kernels that read no views
PRODUCTS = ("matmul", "conv", "conv_planes")  # kernels that finish the elementwise work that follows them
FLOAT_KERNELS = (*PRODUCTS, "conv_grad")  # kernels that integers do not have; for them there is the plain formula
MAX_MEMBERS = 48  # stored values one kernel may compute
SERIAL_OUTER, SERIAL_INNER = 8, 8192  # a loop over fewer rows than this, each longer than this, keeps threads idle


class Decision(NamedTuple):
    """Why two values do, or do not, share a kernel."""

    producer: Node
    consumer: Node
    fused: bool
    reason: str


@dataclass(frozen=True)
class Fusion:
    """The fused graph, the decisions that led to it, and for each kernel node the source graph's nodes it computes."""

    graph: Graph
    decisions: tuple[Decision, ...]
    members: dict[Node, tuple[Node, ...]]

    def sources(self, kernel: Node) -> tuple[Source, ...]:
        """Return the user's lines a kernel computes, in order of first appearance."""
        return tuple(dict.fromkeys(n.source for n in self.members[kernel] if n.source is not None))


class Loops(NamedTuple):
    """The loops of a kernel: `outer` rows of `inner` elements; `position` is the flat index of element (o, r)."""

    outer: int
    inner: int
    position: Node

    @property
    def o(self) -> Node:
        """The row variable."""
        return counter("o", self.outer)


@dataclass(eq=False)
class Group:
    """Stored values that one kernel computes. `loops` is None while all of them are elementwise over `size`."""

    kind: KernelKind
    members: list[Node]
    size: int
    loops: Loops | None
    first: int
    last: int
    depth: int = 1
    producers: dict[Group, None] = field(default_factory=dict[Any, None])
    consumers: dict[Group, None] = field(default_factory=dict[Any, None])


def fuse(graph: Graph) -> Fusion:
    """Return the graph as kernels."""
    return _Fuser(graph).run()


def is_heavy(node: Node) -> bool:
    """Whether a node has a code generator of its own."""
    kernel = getattr(node.op, "kernel", "loop")
    return node.dtype.is_float if kernel in FLOAT_KERNELS else kernel != "loop"


def is_reduction(node: Node) -> bool:
    """Whether a node's formula folds many elements into one."""
    return bool(lowered(node).reduce)


def is_view(node: Node) -> bool:
    """Whether a node's elements are elements of its operands, at computed places."""
    return isinstance(node.op, TensorOp) and not is_heavy(node) and isinstance(lowered(node).value.op, Load)


def affine_view(node: Node, stored: set[Node]) -> Node | None:
    """Return the stored value that `node` is a strided view of, or None."""
    base = node
    while base not in stored and not isinstance(base.op, Input) and len(base.args) == 1 and is_view(base):
        base = base.args[0]
    if base not in stored and not isinstance(base.op, Input):
        return None
    return None if strides_of(node, base) is None else base


def strides_of(node: Node, base: Node) -> tuple[int, ...] | None:
    """Return each axis's step in elements of `base`, which `node` is a view of; None where they are not even."""
    axes = tuple(Var(f"a{k}", size)() for k, size in enumerate(node.shape))
    found: list[Node] = []

    def leaf(n: Node, at: tuple[Node, ...]) -> Node | None:
        if n is not base:
            return None
        found.append(flatten_index(at, base.shape))
        return literal(0, n.dtype)

    Inliner(leaf).value(node, axes)
    steps = coefficients(found[0], axes)
    return None if steps is None else steps[0]


def has_whole_slices(node: Node, base: Node, *, sliced: bool) -> bool:
    """Whether a view's elements, or if `sliced` those of each slice of its first axis, lie densely in memory."""
    steps = strides_of(node, base)
    if steps is None:
        return False
    wanted = 1
    for axis in range(node.type.ndim - 1, sliced - 1, -1):
        if node.shape[axis] != 1 and steps[axis] != wanted:
            return False
        wanted *= node.shape[axis]
    return True


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.nodes()
        self.rank = {n: k for k, n in enumerate(self.order)}
        self.users = users_of(self.order)
        self.stored: set[Node] = set()
        self.decisions: list[Decision] = []
        self.reads: dict[Node, dict[Node, list[Node]]] = {}  # stored value -> value it reads -> flat indices
        self.group_of: dict[Node, Group] = {}
        self.depths: dict[Node, int] = {}  # ops nested in what a reader of the value inlines
        self.nested: dict[Node, int] = {}  # ops nested in the expression of a stored value

    def run(self) -> Fusion:
        self.choose_stored()
        self.make_groups()
        self.merge_placements()
        self.merge_epilogues()
        self.merge_loops()
        self.merge_siblings()
        return self.build()

    # ---- what is stored

    def choose_stored(self) -> None:
        """Mark the values that go to memory."""
        leaving = set(self.graph.outputs)
        loads: dict[Node, frozenset[Node]] = {}
        costs: dict[Node, int] = {}
        depths = self.depths
        for node in self.order:
            if isinstance(node.op, Input) or (is_heavy(node) and len(node.types) > 1):
                loads[node], costs[node], depths[node] = frozenset((node,)), 0, 0
                if is_heavy(node):
                    self.store_operands(node)
                continue
            read = frozenset[Node]().union(*[loads[a] for a in node.args]) if node.args else frozenset[Node]()
            cost = _own_cost(node) + sum(costs[a] for a in node.args)
            depth = 1 + max((depths[a] for a in node.args), default=0)
            if self.must_store(node, leaving) or depth > MAX_DEPTH // 2 or self.better_stored(node, read, cost):
                self.stored.add(node)
                self.nested[node] = depth
                read, cost, depth = frozenset((node,)), 0, 0
                if is_heavy(node):
                    self.store_operands(node)
            loads[node], costs[node], depths[node] = read, min(cost, 1 << 20), depth

    def must_store(self, node: Node, leaving: set[Node]) -> bool:
        """Whether there is no choice."""
        if node in leaving:
            return True
        if isinstance(node.op, Const):
            return False
        kept: bool = getattr(node.op, "kept", False)
        return isinstance(node.op, Get) or kept or is_heavy(node) or is_reduction(node)

    def better_stored(self, node: Node, read: frozenset[Node], cost: int) -> bool:
        """Whether loading the value costs less than computing it again for each reader."""
        if isinstance(node.op, Const):
            return False
        if len(read) > MAX_READS // 2:
            return True
        users = self.users[node]
        widened = any(_reuse(u, node) >= 2 for u in users if len(u.types) == 1 and not is_heavy(u))
        if widened and cost > BROADCAST_COST:
            return True
        if len(users) < 2 or cost == 0:
            return False
        full = sum(r.types[0].size * 2 > node.type.size for r in read)
        return full >= 2 or cost > RECOMPUTE_COST

    def store_operands(self, node: Node) -> None:
        """A kernel of its own reads operands as strided views of stored values, or stored themselves."""
        if isinstance(node.op, Scan):
            self.store_slices(node, node.op)
            return
        for operand in node.args:
            if isinstance(operand.op, Input) or operand in self.stored:
                continue
            if getattr(node.op, "kernel", "") not in DENSE:
                base = operand
                while len(base.args) == 1 and base not in self.stored and is_view(base):
                    base = base.args[0]
                may = self.stored if isinstance(base.op, Input | Const) else self.stored | {base}
                if affine_view(operand, may) is not None:
                    if not isinstance(base.op, Input):
                        self.stored.add(base)
                    continue
                self.decide(base, node, False, "its elements are not evenly spaced, so the operand is copied first")
            self.stored.add(operand)

    def store_slices(self, node: Node, op: Scan) -> None:
        """A loop reads stored values, and views of them that lie densely: the slices of a stack each for itself."""
        for k, operand in enumerate(node.args):
            base = operand
            while len(base.args) == 1 and base not in self.stored and is_view(base):
                base = base.args[0]
            sliced = op.num_carry <= k < op.num_carry + op.num_xs
            if (
                operand.type.size == 0
                or isinstance(base.op, Const)
                or not has_whole_slices(operand, base, sliced=sliced)
            ):
                base = operand
            if not isinstance(base.op, Input):
                self.stored.add(base)

    # ---- groups of one

    def make_groups(self) -> None:
        """Give every stored value a group, and find what each reads and where."""
        by_kernel: dict[Node, Group] = {}
        for node in self.order:
            if node not in self.stored:
                continue
            root = node.args[0] if isinstance(node.op, Get) else node
            if root in by_kernel:
                by_kernel[root].members.append(node)
                self.group_of[node] = by_kernel[root]
                self.reads[node] = self.reads[by_kernel[root].members[0]]
                continue
            group = self.group_for(node, root)
            by_kernel[root] = self.group_of[node] = group
            for read in self.reads[node]:
                producer = self.group_of.get(read)
                if producer is not None and producer is not group:
                    group.producers[producer] = None
                    producer.consumers[group] = None

    def group_for(self, node: Node, root: Node) -> Group:
        """Return the group of one stored value."""
        rank = self.rank[node]
        if is_heavy(root):
            kind: KernelKind = getattr(root.op, "kernel", "loop")
            self.reads[node] = {
                self.base_of(a): [] for a in root.args if not isinstance(a.op, Const) or a in self.stored
            }
            loops = None
            if kind in PRODUCTS:
                outer, inner = math.prod(root.shape[:-1]), root.shape[-1]
                o, r = counter("o", outer), counter("r", inner)
                loops = Loops(outer, inner, flatten_index((o, r), (outer, inner)))
            return Group(kind, [node], node.type.size, loops, rank, rank)
        loops = self.loops_of(node)
        self.reads[node] = self.find_reads(node, loops)
        return Group("loop", [node], node.type.size, loops, rank, rank, self.nested.get(node, 1))

    def base_of(self, operand: Node) -> Node:
        """Return the stored value or input a kernel's operand is a view of."""
        while operand not in self.stored and not isinstance(operand.op, Input):
            operand = operand.args[0]
        return operand

    def loops_of(self, node: Node) -> Loops | None:
        """Return the loops of a reduction; None for an elementwise value."""
        formula = None if isinstance(node.op, Const | Get) else lowered(node)
        if formula is None or not formula.reduce:
            return None
        outer = node.type.size
        inner = math.prod(_extent(v) for v in formula.reduce)
        o, r = counter("o", outer), counter("r", inner)
        if not isinstance(node.op, Reduction):
            return Loops(outer, inner, flatten_index((o, r), (outer, inner)))
        shape = node.args[0].shape
        return Loops(outer, inner, flatten_index(reduced_index(node.op.axes, shape, o, r), shape))

    def find_reads(self, node: Node, loops: Loops | None) -> dict[Node, list[Node]]:
        """Return the flat indices at which a value reads others, in terms of its loops or of `i`, its own position."""
        reads: dict[Node, list[Node]] = {}

        def leaf(n: Node, at: tuple[Node, ...]) -> Node | None:
            if n is node or (n not in self.stored and not isinstance(n.op, Input)):
                return None
            where = flatten_index(at, n.shape)
            found = reads.setdefault(n, [])
            if where not in found:
                found.append(where)
            return Load(self.rank[n], Type(n.dtype))()

        inliner = Inliner(leaf)
        if isinstance(node.op, Const):
            return reads
        if loops is None:
            inliner.value(node, unflatten_index(counter("i", node.type.size), node.shape))
            return reads
        formula = lowered(node)
        o, r = counter("o", loops.outer), counter("r", loops.inner)
        over = unflatten_index(r, [_extent(v) for v in formula.reduce])
        inliner.element(node, formula, unflatten_index(o, node.shape), over)
        return reads

    # ---- merging

    def merge_placements(self) -> None:
        """Let attention's gradient write its results side by side where that is all that is done with them."""
        leaving = set(self.graph.outputs)
        for group in self.groups():
            if group.kind != "loop" or len(group.producers) != 1 or len(group.members) != 1:
                continue
            (producer,), (value,) = group.producers, group.members
            parts = producer.members
            if producer.kind != "attention" or list(producer.consumers) != [group] or not leaving.isdisjoint(parts):
                continue
            places = placement(value, lambda n: isinstance(n.op, Get))
            if places is not None and set(places) == set(parts) and all(steps[-1] == 1 for steps, _ in places.values()):
                self.join(producer, group)
                self.decide(parts[0], value, True, "as the place the results are written to")

    def merge_epilogues(self) -> None:
        """Let products finish the elementwise work that follows them."""
        for group in self.groups():
            if group.kind != "loop" or group.loops is not None:
                continue
            for producer in sorted(group.producers, key=lambda g: -g.last):
                if producer.kind in PRODUCTS and self.try_merge(producer, group):
                    break

    def merge_loops(self) -> None:
        """Join a kernel with those it reads from."""
        for group in self.groups():
            again = True
            while again:
                again = False
                if group.kind != "loop" or group.members[0] not in self.group_of:
                    break
                current = self.group_of[group.members[0]]
                if current.kind != "loop":
                    break
                for producer in sorted(current.producers, key=lambda g: -g.last):
                    if producer.kind == "loop" and self.try_merge(producer, current):
                        again = True
                        break

    def merge_siblings(self) -> None:
        """Join kernels that read the same large value with the same loops."""
        readers: dict[Node, list[Group]] = {}
        for group in self.groups():
            if group.kind == "loop":
                for member in group.members:
                    for read in self.reads[member]:
                        known = readers.setdefault(read, [])
                        if group not in known:
                            known.append(group)
        for value, groups in readers.items():
            if value.types[0].size < 1024:
                continue
            for a in groups:
                for b in groups:
                    left, right = self.group_of[a.members[0]], self.group_of[b.members[0]]
                    if left is right or left.kind != "loop" or right.kind != "loop" or left.first > right.first:
                        continue
                    same = left.loops == right.loops and left.size == right.size
                    if same and self.fits(left, right) and not self.connected(left, right):
                        self.join(left, right)
                        reason = f"both read {value.types[0]} in the same loops"
                        self.decide(left.members[0], right.members[-1], True, reason)

    def groups(self) -> list[Group]:
        """Return the groups, earliest first."""
        return sorted(dict.fromkeys(self.group_of.values()), key=lambda g: g.first)

    def decide(self, producer: Node, consumer: Node, fused: bool, reason: str) -> None:
        """Keep a decision for `explain`."""
        self.decisions.append(Decision(producer, consumer, fused, reason))

    def try_merge(self, producer: Group, consumer: Group) -> bool:
        """Join two groups along their edge if that is right; say why either way."""
        reason, loops = self.common_loops(producer, consumer)
        if not reason and not self.fits(producer, consumer):
            reason = (
                f"the kernel would have more than {MAX_MEMBERS} results, {MAX_READS} operands or {MAX_DEPTH} ops nested"
            )
        if not reason and self.path_between(producer, consumer):
            reason = "another kernel has to run in between"
        at = (producer.members[-1], consumer.members[0])
        if reason:
            self.decide(*at, False, reason)
            return False
        joined = self.join(producer, consumer)
        joined.loops = loops
        if loops is not None:
            joined.size = loops.outer * loops.inner
        product = "matrix product" if producer.kind == "matmul" else "convolution"
        epilogue = producer.kind in PRODUCTS
        reason = f"as epilogue of the {product}" if epilogue else "each element is read where it is made"
        self.decide(*at, True, reason)
        return True

    def common_loops(self, producer: Group, consumer: Group) -> tuple[str, Loops | None]:
        """Return ("", the loops both can run in), or the reason why there are none."""
        p, c = producer.loops, consumer.loops
        if p is not None and c is not None and p != c:
            return f"loops differ: {p.outer} rows of {p.inner} against {c.outer} of {c.inner}", None
        loops = p or c
        if loops is None:
            if producer.size != consumer.size:
                return f"sizes differ: {producer.size} and {consumer.size} elements", None
            aligned = all(w is counter("i", m.type.size) for m in consumer.members for w in self.wheres(m, producer))
            return ("" if aligned else "elements are read in another order than they are made"), None
        for group in (producer, consumer):
            if group.loops is None and group.size not in (loops.outer, loops.outer * loops.inner):
                return f"{group.size} elements fit neither {loops.outer} rows nor their {loops.inner} elements", None
        if producer.kind in PRODUCTS and consumer.size != producer.size:
            return "an epilogue must have one element per element of the product", None
        if c is not None and p is None and loops.outer < SERIAL_OUTER and loops.inner > SERIAL_INNER:
            return f"a reduction to {loops.outer} elements would compute it on few threads", None
        for member in consumer.members:
            for read, wheres in self.reads[member].items():
                if self.group_of.get(read) is not producer:
                    continue
                full = loops.position if self.is_full(read, loops) else loops.o
                if any(self.in_loops(w, member, loops) is not full for w in wheres):
                    return "elements are read in another turn of the loops than they are made", None
        return "", loops

    def is_full(self, node: Node, loops: Loops) -> bool:
        """Whether a value has an element for every turn of the inner loop, not one per row."""
        reduced = not isinstance(node.op, Get | Const) and not is_heavy(node) and is_reduction(node)
        return not reduced and node.type.size == loops.outer * loops.inner

    def in_loops(self, where: Node, member: Node, loops: Loops) -> Node:
        """Return an index a member reads at, in terms of the loops."""
        if not isinstance(member.op, Get | Const) and is_reduction(member):
            return where
        if member.type.size == 1:
            return where
        place = loops.position if self.is_full(member, loops) else loops.o
        return substitute_index(where, {counter("i", member.type.size): place})

    def wheres(self, member: Node, producer: Group) -> list[Node]:
        """Return the indices at which a member reads anything of a group."""
        return [w for read, ws in self.reads[member].items() if self.group_of.get(read) is producer for w in ws]

    def fits(self, a: Group, b: Group) -> bool:
        """Whether the joined kernel stays within its limits."""
        members = {*a.members, *b.members}
        reads = {r for m in members for r in self.reads[m]} - members
        return len(members) <= MAX_MEMBERS and len(reads) <= MAX_READS and a.depth + b.depth <= MAX_DEPTH

    def path_between(self, producer: Group, consumer: Group) -> bool:
        """Whether some third group reads from the producer and leads to the consumer."""
        return self.reaches([g for g in producer.consumers if g is not consumer], consumer)

    def connected(self, a: Group, b: Group) -> bool:
        """Whether one group needs the other's results, directly or not."""
        return self.reaches([a], b) or self.reaches([b], a)

    def reaches(self, start: list[Group], goal: Group) -> bool:
        """Whether results flow from any of `start` to `goal`."""
        seen: set[int] = set()
        stack = start
        while stack:
            group = stack.pop()
            if group is goal:
                return True
            if id(group) in seen or group.first > goal.last:
                continue
            seen.add(id(group))
            stack = [*stack, *group.consumers]
        return False

    def join(self, a: Group, b: Group) -> Group:
        """Make b's values part of a."""
        a.members = sorted([*a.members, *b.members], key=self.rank.__getitem__)
        a.first, a.last = min(a.first, b.first), max(a.last, b.last)
        a.depth += b.depth
        for producer in b.producers:
            del producer.consumers[b]
            if producer is not a:
                producer.consumers[a] = a.producers[producer] = None
        for consumer in b.consumers:
            del consumer.producers[b]
            if consumer is not a:
                consumer.producers[a] = a.consumers[consumer] = None
        a.producers.pop(b, None)
        a.consumers.pop(b, None)
        for member in b.members:
            self.group_of[member] = a
        return a

    # ---- the fused graph

    def build(self) -> Fusion:
        """Return the graph of kernels."""
        made: dict[Node, Node] = {n: n for n in self.graph.inputs}
        members: dict[Node, tuple[Node, ...]] = {}
        leaving = set(self.graph.outputs)
        for group in self.in_order():
            needed = [m for m in group.members if m in leaving or self.read_outside(m, group)]
            outside = self.outside(group)
            inside = topological(needed, stop=outside)
            leaves = [n for n in inside if outside(n)]
            swap = {leaf: Input(k, leaf.type)() for k, leaf in enumerate(leaves)}
            body = Graph(tuple(swap.values()), substitute(needed, swap))
            kernel = Fused(group.kind, body)(*[made[leaf] for leaf in leaves])
            made.update(zip(needed, results(kernel), strict=True))
            members[kernel] = tuple(n for n in inside if n not in swap)
        graph = Graph(self.graph.inputs, tuple(made[n] for n in self.graph.outputs))
        return Fusion(graph, tuple(self.decisions), members)

    def outside(self, group: Group) -> Callable[[Node], bool]:
        """Return the test whether a node is not computed by a group."""
        return lambda n: isinstance(n.op, Input) or self.group_of.get(n, group) is not group

    def read_outside(self, member: Node, group: Group) -> bool:
        """Whether another kernel reads the value."""
        return any(member in self.reads[m] for g in group.consumers for m in g.members)

    def in_order(self) -> list[Group]:
        """Return the groups, each after those it reads from."""
        done: dict[Group, None] = {}
        for root in self.groups():
            stack = [root]
            while stack:
                group = stack[-1]
                waiting = [p for p in group.producers if p not in done]
                if waiting:
                    stack.extend(waiting)
                else:
                    done[group] = None
                    stack.pop()
        return list(done)


def counter(name: str, extent: int) -> Node:
    """Return the variable of a loop; a loop of one turn has none."""
    return index(0) if extent == 1 else Var(name, extent)()


def reduced_index(axes: tuple[int, ...], shape: tuple[int, ...], o: Node, r: Node) -> tuple[Node, ...]:
    """Return the index of element `r` of what is folded into element `o` of a reduction over `axes`."""
    kept = [a for a in range(len(shape)) if a not in axes]
    outer = dict(zip(kept, unflatten_index(o, [shape[a] for a in kept]), strict=True))
    inner = dict(zip(axes, unflatten_index(r, [shape[a] for a in axes]), strict=True))
    return tuple((outer | inner)[a] for a in range(len(shape)))


def _extent(var: Node) -> int:
    assert isinstance(var.op, Var)
    return var.op.extent


def _reuse(user: Node, node: Node) -> int:
    """Return how often a user reads each element of a value, roughly."""
    return max(user.types[0].size // max(node.type.size, 1), getattr(user.op, "reuse", 1))


def _own_cost(node: Node) -> int:
    return op_cost(node.op) if isinstance(node.op, TensorOp) else 0
