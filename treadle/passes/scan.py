"""Loops made small: what needs no order of turns is computed before or after them, for all turns at once.

One product over all steps costs far less than one small product per step, so: products of slices with a constant are
*hoisted* (input projections), products whose results are only stacked are *sunk* behind the loop (output projections),
and so are sums over the turns of products (gradients of weights): `sum_t a_t b_t` is one product of the stacks with the
turns among the rows that are folded. What does not change from turn to turn is computed once, before.

Loops over the same operands with the same carries become one: so a gradient's second forward loop, which stacks what
the backward one reads, costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from treadle.ir import Get, Graph, Node, Op, Pass, attributed_to, const_value, rebuilt, substitute, topological
from treadle.ops import (
    Add,
    BroadcastTo,
    Matmul,
    Permute,
    Reshape,
    Sum,
    broadcast_to,
    full,
    reshape,
    sum_axes,
)
from treadle.ops.movement import narrow, permute, swap_last
from treadle.ops.scan import Loop, Scan, placeholder

from .batch import Stack, batched, can_batch
from .decompose import decompose
from .orient import is_transposed, orient
from .simplify import simplify
from .split import split

MOST_ROUNDS = 12  # of the loops of one graph; each round sees the operands and results the one before left
VIEWS = (Reshape, Permute, BroadcastTo)


def loops(graph: Graph) -> Graph:
    """Return the graph with its loops made small."""
    for _ in range(MOST_ROUNDS):
        new = _Round(graph).run()
        if new == graph:
            break
        graph = new
    return graph


def normal(body: Graph) -> Graph:
    """Return a loop's body after the passes that any graph goes through before fusion."""
    return split(orient(simplify(decompose(loops(body)))))


class _Round:
    """Every loop of a graph, once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.nodes()
        self.new: dict[Node, Node] = {}
        self.results: dict[Node, list[Node | None]] = {}
        self.used: dict[Node, set[int]] = {}
        for node in [*self.order, *graph.outputs]:
            if isinstance(node.op, Get) and isinstance(node.args[0].op, Scan):
                self.used.setdefault(node.args[0], set()).add(node.op.index)
            elif isinstance(node.op, Scan) and len(node.types) == 1:
                self.used[node] = {0}

    def run(self) -> Graph:
        """Return the graph after the round."""
        if not self.used:
            return self.graph
        alike: dict[object, list[Node]] = {}
        for node in self.used:
            alike.setdefault(_likeness(node), []).append(node)
        new = self.new
        for node in self.order:
            if node in self.used:
                if node not in self.results:
                    self.rewrite(alike[_likeness(node)])
                if len(node.types) == 1:
                    new[node] = self.result(node, 0)
            elif isinstance(node.op, Get) and node.args[0] in self.results:
                new[node] = self.result(node.args[0], node.op.index)
            elif not isinstance(node.op, Scan):
                args = tuple([new[a] for a in node.args])
                new[node] = node if args == node.args else rebuilt(node, args)
        return Graph(self.graph.inputs, tuple(new[n] for n in self.graph.outputs))

    def result(self, node: Node, index: int) -> Node:
        found = self.results[node][index]
        assert found is not None, f"result {index} of {node} is used, and was dropped"
        return found

    def rewrite(self, nodes: Sequence[Node]) -> None:
        """Fill in the results of loops that are alike: those of one loop that stacks whatever any of them does."""
        op = _scan(nodes[0])
        nc = op.num_carry
        ys = dict.fromkeys(y for node in nodes for y in _scan(node).body.outputs[nc:])
        place = {y: nc + k for k, y in enumerate(ys)}
        used: set[int] = set()
        places: dict[Node, list[int]] = {}
        for node in nodes:
            places[node] = [*range(nc), *[place[y] for y in _scan(node).body.outputs[nc:]]]
            used |= {places[node][k] for k in self.used[node]}
        body = Graph(op.body.inputs, (*op.body.outputs[:nc], *ys))
        args = [self.new[a] for a in nodes[0].args]
        with attributed_to(nodes[0].source):
            found = _Rewrite(op, normal(body), args, used).run()
        for node in nodes:
            self.results[node] = [found.get(k) for k in places[node]]


def _scan(node: Node) -> Scan:
    assert isinstance(node.op, Scan)
    return node.op


def _likeness(node: Node) -> object:
    """Return what two loops must have in common to be one."""
    op = _scan(node)
    return node.args, op.num_carry, op.num_xs, op.length, op.reverse, op.body.inputs, op.body.outputs[: op.num_carry]


class _Rewrite:
    """One loop. Its body is in terms of placeholders for carries and slices; constants are the outer nodes themselves.

    Attributes:
        carries: by number of the result: placeholder, first value, new value.
        slices: placeholder -> stacked operand.
        ys: by number of the result: the value of a turn to stack.
        found: by number of the result: what it is outside, as far as that is settled.
        emitted: value of a turn -> what stands for its stack until the loop is built.
    """

    def __init__(self, op: Scan, body: Graph, args: Sequence[Node], used: set[int]) -> None:
        self.op = op
        self.length = op.length
        nc, nx = op.num_carry, op.num_xs
        swap: dict[Node, Node] = dict(zip(body.inputs[nc + nx :], args[nc + nx :], strict=True))
        self.slices: dict[Node, Node] = {}
        known: dict[Node, Node] = {}
        for leaf, x in zip(body.inputs[nc : nc + nx], args[nc : nc + nx], strict=True):
            same = _same_slice(x, leaf.shape)
            if same is None and x not in known:
                known[x] = placeholder(leaf.type)
                self.slices[known[x]] = x
            swap[leaf] = known[x] if same is None else same
        inside = [placeholder(leaf.type) for leaf in body.inputs[:nc]]
        swap |= dict(zip(body.inputs[:nc], inside, strict=True))
        outputs = substitute(body.outputs, swap)
        self.carries = dict(enumerate(zip(inside, args, outputs, strict=False))) if nc else {}
        self.ys = {k: outputs[k] for k in range(nc, len(outputs)) if k in used}
        self.used = used
        self.found: dict[int, Node] = {}
        self.emitted: dict[Node, Node] = {}
        self.stacks: dict[Node, Stack] = {}

    def run(self) -> dict[int, Node]:
        """Return the results that are used."""
        if not self.length:
            return {k: self.first(k) if k in self.carries else self.nothing(k) for k in self.used}
        if self.length == 1:
            return self.only_turn()
        self.drop_unused()
        self.drop_constant_carries()
        self.study()
        self.hoist()
        self.study()
        self.sink_stacked()
        self.sink_sums()
        return self.build()

    def first(self, k: int) -> Node:
        return self.carries[k][1]

    def nothing(self, k: int) -> Node:
        of = self.op.stacked(self.ys[k].type)
        return full(0, of.dtype, of.shape)

    def only_turn(self) -> dict[int, Node]:
        """Return the results of a loop of one turn, which needs no loop."""
        swap = {p: first for p, first, _ in self.carries.values()}
        swap |= {p: reshape(x, p.shape) for p, x in self.slices.items()}
        self.replace(swap)
        found = {k: new for k, (_, _, new) in self.carries.items() if k in self.used}
        return found | {k: reshape(y, (1, *y.shape)) for k, y in self.ys.items()}

    # ---- what is not needed

    def drop_unused(self) -> None:
        """Forget carries that no result depends on."""
        needed = {k for k in self.carries if k in self.used}
        number = {p: k for k, (p, _, _) in self.carries.items()}
        while True:
            roots = [*self.ys.values(), *[self.carries[k][2] for k in needed]]
            reached = needed | {number[n] for n in topological(roots) if n in number}
            if reached == needed:
                break
            needed = reached
        self.carries = {k: c for k, c in self.carries.items() if k in needed}

    def drop_constant_carries(self) -> None:
        """Carries that every turn hands on as they are never change."""
        while True:
            kept = {k: c for k, c in self.carries.items() if c[2] is c[0]}
            if not kept:
                return
            for k, (_, first, _) in kept.items():
                del self.carries[k]
                if k in self.used:
                    self.found[k] = first
            self.replace({p: first for p, first, _ in kept.values()})

    def replace(self, swap: dict[Node, Node]) -> None:
        """Put other nodes into the body."""
        keys, ys = list(self.carries), list(self.ys)
        made = substitute([*[self.carries[k][2] for k in keys], *self.ys.values()], swap)
        for k, new in zip(keys, made, strict=False):
            p, first, _ = self.carries[k]
            self.carries[k] = p, first, new
        self.ys = dict(zip(ys, made[len(keys) :], strict=True))

    # ---- what depends on what

    def study(self, *leaving: Node) -> None:
        """Find what differs between turns, what depends on the turns before, and what the turns after need.

        `leaving` are values that neither carries nor stacks need any more.
        """
        inside = {p for p, _, _ in self.carries.values()}
        news = [new for _, _, new in self.carries.values()]
        roots = [*news, *self.ys.values(), *leaving]
        self.order = topological(roots, stop=lambda n: n in inside or n in self.slices)
        self.varies: set[Node] = set()
        self.ordered: set[Node] = set()
        for node in self.order:
            if node in inside or any(a in self.ordered for a in node.args):
                self.ordered.add(node)
            if node in self.ordered or node in self.slices or any(a in self.varies for a in node.args):
                self.varies.add(node)
        self.needed = set(topological(news, stop=lambda n: n not in self.varies))

    def can_leave(self, node: Node) -> bool:
        """Whether a value can be computed for all turns at once if its operands are stacks."""
        return can_batch(node, [a in self.varies for a in node.args])

    def leaves_whole(self, node: Node) -> bool:
        """Whether all of a value that does not depend on earlier turns can be computed for all turns at once."""
        inside = topological([node], stop=lambda n: n in self.slices or n not in self.varies)
        return all(n in self.slices or n not in self.varies or self.can_leave(n) for n in inside)

    def is_heavy(self, node: Node, stop: Callable[[Node], bool]) -> bool:
        """Whether a value takes a product, or a fold, that differs between turns."""
        inside = topological([node], stop=lambda n: stop(n) or n not in self.varies)
        return any(isinstance(n.op, Matmul) and not stop(n) and n in self.varies for n in inside)

    # ---- before the loop

    def hoist(self) -> None:
        """Compute products of slices with constants before the loop, and what follows them up to the carries."""
        roots: dict[Node, None] = {}
        for node in self.order:
            if node in self.ordered:
                roots.update((_base(a), None) for a in node.args if a in self.varies and a not in self.ordered)
        whole = {k: y for k, y in self.ys.items() if y not in self.ordered and self.leaves_whole(y)}
        for k in whole:
            del self.ys[k]  # first: what is still stacked in the loop would be taken from there
        self.found |= {k: self.whole(y) for k, y in whole.items()}
        swap: dict[Node, Node] = {}
        for root in roots:
            if root not in self.slices and self.is_heavy(root, lambda _: False) and self.leaves_whole(root):
                swap[root] = placeholder(root.type)
                self.slices[swap[root]] = self.stack(root).node
        if swap:
            self.replace(swap)

    # ---- behind the loop

    def sink_stacked(self) -> None:
        """Compute products whose results are only stacked behind the loop."""
        stop = self.needed.__contains__
        for k, y in list(self.ys.items()):
            if y in self.varies and y not in self.needed and self.is_heavy(y, stop) and self.can_leave(y):
                del self.ys[k]  # first: what is still stacked in the loop would be taken from there
                self.found[k] = self.whole(y)

    def sink_sums(self) -> None:
        """Compute sums over the turns of products, or of what is stacked anyway, behind the loop."""
        for only_products in (True, False):
            for k, (p, first, new) in list(self.carries.items()):
                term = self.addend(p, new)
                if term is None or p in self.ys.values() or not self.worth_sinking(term, only_products=only_products):
                    continue
                del self.carries[k]
                self.study(term)
                total = self.total(term)
                self.found[k] = total if _is_zero(first) else Add()(first, total)

    def addend(self, p: Node, new: Node) -> Node | None:
        """Return x where the new value of a carry is its old one plus x, and nothing else reads the old one."""
        if not isinstance(new.op, Add) or p not in new.args or new.args[0] is new.args[1]:
            return None
        (term,) = [a for a in new.args if a is not p]
        others = [n for _, _, n in self.carries.values() if n is not new]
        everything = topological([term, *others, *self.ys.values()])
        users = sum(new is n for _, _, n in self.carries.values())
        return term if term.type == p.type and p not in everything and users == 1 and new not in everything else None

    def worth_sinking(self, term: Node, *, only_products: bool) -> bool:
        """Whether the sum of a term is cheaper for all turns at once."""
        if isinstance(term.op, Add) and all(a.type == term.type for a in term.args):
            return all(self.worth_sinking(a, only_products=only_products) for a in term.args)
        if isinstance(term.op, Reshape | Permute):
            return self.worth_sinking(term.args[0], only_products=only_products)
        if isinstance(term.op, Matmul):
            return True
        if only_products:
            return False
        if term not in self.ordered:
            return self.leaves_whole(term)
        return isinstance(term.op, Sum) and self.at_hand(term.args[0])

    def at_hand(self, node: Node) -> bool:
        """Whether the stack of a value exists anyway, or follows from those that do."""
        if node in self.slices or node in self.emitted or node in self.ys.values() or node not in self.varies:
            return True
        return node not in self.needed and self.can_leave(node) and all(map(self.at_hand, node.args))

    def total(self, term: Node) -> Node:
        """Return the sum of a value over all turns."""
        if isinstance(term.op, Add) and all(a.type == term.type for a in term.args):
            return Add()(*map(self.total, term.args))
        if isinstance(term.op, Reshape | Permute):
            return rebuilt(term, [self.total(term.args[0])])
        if isinstance(term.op, Matmul) and all(a in self.varies for a in term.args):
            return self.product(*term.args)
        if isinstance(term.op, Sum) and term.args[0] in self.varies:
            axes = (0, *[a + 1 for a in term.op.axes])
            return reshape(sum_axes(self.stack(term.args[0]).node, axes), term.shape)
        return sum_axes(self.whole(term), (0,))

    def product(self, a: Node, b: Node) -> Node:
        """Return `sum_t a_t @ b_t` as one product, the turns being part of the axis that is folded."""
        if a.type.ndim == b.type.ndim == 2:
            left = self.stack(a.args[0]).node if is_transposed(a) else swap_last(self.stack(a).node)
            right = self.stack(b).node
            rows = self.length * right.shape[1]
            return Matmul()(swap_last(reshape(left, (rows, left.shape[2]))), reshape(right, (rows, right.shape[2])))
        batch = Matmul().infer(a.type, b.type).shape[:-2]
        n = len(batch)
        sides: list[Node] = []
        for x, behind in ((a, 1), (b, 0)):
            stack = self.stack(x).node
            own = x.type.ndim - 2
            stack = reshape(stack, (self.length, *[1] * (n - own), *x.shape))
            axes = [*range(1, n + 1), n + 1, 0, n + 2] if behind else [*range(1, n + 1), 0, n + 1, n + 2]
            stack = permute(stack, tuple(axes))
            size = self.length * x.shape[-1 if behind else -2]
            rows = (x.shape[-2], size) if behind else (size, x.shape[-1])
            sides.append(reshape(stack, (*stack.shape[:n], *rows)))
        return Matmul()(*sides)

    # ---- stacks

    def whole(self, node: Node) -> Node:
        """Return the stack of a value, also of one that is the same in all turns."""
        if node not in self.varies:
            return broadcast_to(node, (self.length, *node.shape))
        return self.stack(node).node

    def stack(self, node: Node) -> Stack:
        """Return the stack of a value: made of the stacks of operands if it can leave the loop, else emitted."""
        for n in topological([node], stop=self.is_source):
            if n not in self.stacks:
                self.stacks[n] = self.source(n) if self.is_source(n) else self.made(n)
        return self.stacks[node]

    def is_source(self, node: Node) -> bool:
        """Whether the stack of a value is not computed from those of its operands."""
        if node not in self.varies or node in self.slices or node in self.stacks or node in self.inside:
            return True
        if node in self.emitted or node in self.ys.values() or not self.can_leave(node):
            return True
        if node not in self.ordered or _moves(node):
            return False
        if node in self.needed:
            return True
        return not (self.is_heavy(node, self.needed.__contains__) or all(map(self.at_hand, node.args)))

    @property
    def inside(self) -> set[Node]:
        """The placeholders of carries."""
        return {p for p, _, _ in self.carries.values()}

    def made(self, node: Node) -> Stack:
        """Return the stack of a value, given those of its operands."""
        args = [self.stacks[a] for a in node.args]
        with attributed_to(node.source):
            return Stack(batched(node, args, self.length), True)

    def source(self, node: Node) -> Stack:
        """Return the stack of an operand, of a carry, or of what the loop has to emit."""
        if node not in self.varies:
            return Stack(node, False)
        if node in self.slices:
            return Stack(self.slices[node], True)
        for p, first, new in self.carries.values():
            if node is p:
                return Stack(self.before(first, self.whole(new)), True)
        if node not in self.emitted:
            self.emitted[node] = placeholder(self.op.stacked(node.type))
        return Stack(self.emitted[node], True)

    def before(self, first: Node, after: Node) -> Node:
        """Return the carries that turns got, given the first and those that turns returned."""
        row, rest = reshape(first, (1, *first.shape)), self.length - 1
        join = Op.registry["concat"](0)
        return join(narrow(after, 0, 1, rest), row) if self.op.reverse else join(row, narrow(after, 0, 0, rest))

    # ---- the new loop

    def build(self) -> dict[int, Node]:
        """Return the results in terms of the new loop."""
        ys = dict.fromkeys([*self.ys.values(), *self.emitted])
        last: dict[int, Node] = {}  # carries whose last value is the last of a stack
        for k, (_, _, new) in self.carries.items():
            if k in self.used and new in ys:
                last[k] = new
        operands = {n for n in topological([*ys, *[c[2] for c in self.carries.values()]]) if n in self.slices}
        xs = [(p, x) for p, x in self.slices.items() if p in operands]
        made = Loop(list(self.carries.values()), xs, list(ys), self.length, self.op.reverse).close()
        stacks = dict(zip(ys, made[len(self.carries) :], strict=True))
        at = 0 if self.op.reverse else self.length - 1
        for k, node in zip(self.carries, made, strict=False):
            self.found[k] = reshape(narrow(stacks[last[k]], 0, at, 1), node.shape) if k in last else node
        for k, y in self.ys.items():
            self.found[k] = stacks[y]
        swap = {stand: stacks[value] for value, stand in self.emitted.items()}
        keys = list(self.found)
        return dict(zip(keys, substitute([self.found[k] for k in keys], swap), strict=True)) if swap else self.found


def _same_slice(x: Node, shape: tuple[int, ...]) -> Node | None:
    """Return the slice of a stack that is one value repeated along its first axis."""
    if not isinstance(x.op, BroadcastTo):
        return None
    (value,) = x.args
    if value.type.ndim == x.type.ndim:
        if value.shape[0] != 1:
            return None
        value = reshape(value, value.shape[1:])
    return broadcast_to(value, shape)


def _is_zero(node: Node) -> bool:
    """Whether a value is a literal zero, repeated."""
    return const_value(node.args[0] if isinstance(node.op, BroadcastTo) else node) == 0


def _base(node: Node) -> Node:
    """Return what a view is a view of."""
    while _moves(node):
        node = node.args[0]
    return node


def _moves(node: Node) -> bool:
    return isinstance(node.op, VIEWS) or node.op.name == "slice"


LOOPS = Pass("loops", loops, "what needs no order of turns leaves the loops over time", about=frozenset((Scan.name,)))

__all__ = ["LOOPS", "loops", "normal"]
