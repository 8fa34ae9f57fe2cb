"""From a fused group around a matrix product to the product's problem and the statements that finish each tile."""

from __future__ import annotations

import math
from dataclasses import dataclass

from treadle.core import float32
from treadle.ir import Graph, Input, Node
from treadle.ops.formula import Inliner
from treadle.te import (
    Buffer,
    Fetch,
    Store,
    Var,
    add,
    coefficients,
    cost,
    flatten_index,
    index,
    literal,
    scale,
    show_scalar,
    unflatten_index,
)

from .matmul import Cpu, MatmulProblem, MatmulSchedule, Matrix, schedule_matmul


@dataclass(frozen=True)
class Following:
    """What follows a product, a matrix product or a convolution, element by element.

    `row` and `column` are the variables in which `stores` are written: the row counts through all axes but the last.
    `acc` is the register that holds the sums there; with no stores the sums go straight to the one result.
    `buffers` are the group's operands and results in the kernel's argument order; the first two are those multiplied.
    """

    buffers: tuple[Buffer, ...]
    order: tuple[int, ...]  # for every buffer, the number of the group's operand or result (results after operands)
    row: Node
    column: Node
    acc: Buffer
    stores: tuple[Store, ...]

    @property
    def cost(self) -> int:
        """Flops per element."""
        return sum(cost(s.value) for s in self.stores)

    def __str__(self) -> str:
        lines = [f"  {s.buffer.name}[{show_scalar(s.index)}] = {show_scalar(s.value)}" for s in self.stores]
        return "\n".join(["", "then, for every element (o, r) of the product:", *lines]) if lines else ""


@dataclass(frozen=True)
class ProductSchedule:
    """A decided matrix product with what follows it."""

    matmul: MatmulSchedule
    after: Following
    flops: int
    nbytes: int

    def __str__(self) -> str:
        return f"{self.matmul}{self.after}"


def product_of(body: Graph) -> Node:
    """Return the matrix product of a group."""
    return next(n for n in body.nodes() if n.op.name == "matmul")


def strided_view(operand: Node) -> tuple[Node, tuple[int, ...], int]:
    """Return the input an operand is a strided view of, each axis's step in elements (0 of size 1), and the offset."""
    base = operand
    while not isinstance(base.op, Input):
        base = base.args[0]
    axes = [Var(f"a{k}", size)() for k, size in enumerate(operand.shape)]
    position = tuple(index(0) if size == 1 else a for a, size in zip(axes, operand.shape, strict=True))
    found: list[Node] = []

    def leaf(node: Node, at: tuple[Node, ...]) -> Node | None:
        if node is not base:
            return None
        found.append(flatten_index(at, base.shape))
        return literal(0, node.dtype)

    Inliner(leaf).value(operand, position)
    strides = coefficients(found[0], axes)
    assert strides is not None, f"{operand} is not a strided view of {base}"
    return base, *strides


def operand_matrix(operand: Node, batch: tuple[int, ...]) -> tuple[Node, Matrix]:
    """Return the input an operand is a strided view of, and its strides; axes of size 1 broadcast over the batch."""
    base, (*outer, row, column), offset = strided_view(operand)
    return base, Matrix(base.dtype, row, column, offset, (*[0] * (len(batch) - len(outer)), *outer))


def schedule_product(body: Graph, cpu: Cpu) -> ProductSchedule:
    """Return the schedule of a group whose one product's elements all other results follow (see `passes.fuse`)."""
    product = product_of(body)
    batch, (m, n), k = product.shape[:-2], product.shape[-2:], product.args[0].shape[-1]
    left, a = operand_matrix(product.args[0], batch)
    right, b = operand_matrix(product.args[1], batch)
    wide = product.dtype if product.dtype.bits >= 32 else float32
    steps = [math.prod(batch[d + 1 :]) * m * n for d in range(len(batch))]
    problem = MatmulProblem(wide, m, n, k, a, b, Matrix(product.dtype, n, 1, 0, tuple(steps)), batch)
    plain = body.outputs == (product,)
    matmul = schedule_matmul(problem, cpu, fused=not plain)

    after = following(body, product, (left, right), plain=plain)
    nbytes = sum(x.type.nbytes for x in (*body.inputs, *body.outputs))
    return ProductSchedule(matmul, after, problem.flops + after.cost * product.type.size, nbytes)


def following(body: Graph, product: Node, operands: tuple[Node, Node], *, plain: bool) -> Following:
    """Return what follows a product of two of a group's inputs; `plain` says that the sums are stored as they are."""
    inputs = body.inputs
    n = product.shape[-1]
    row, column = Var("o", math.prod(product.shape[:-1]))(), Var("r", n)()
    acc = Buffer("acc", product.dtype, 1, "register")
    arguments: dict[Node, Buffer] = {}
    order = [inputs.index(x) for x in operands]

    def leaf(node: Node, at: tuple[Node, ...]) -> Node | None:
        if node is product:
            return Fetch(acc)()
        if not isinstance(node.op, Input):
            return None
        if node not in arguments:
            arguments[node] = Buffer(f"x{len(order) - 2}", node.dtype, node.type.size, "arg", len(order))
            order.append(inputs.index(node))
        return Fetch(arguments[node])(flatten_index(at, node.shape))

    where = add(scale(row, n), column)
    inliner = Inliner(leaf, body.outputs)
    values = [] if plain else [inliner.value(node, unflatten_index(where, node.shape)) for node in body.outputs]
    results: list[Buffer] = []
    for number, node in enumerate(body.outputs):
        results.append(Buffer(f"y{number}", node.dtype, node.type.size, "arg", len(order)))
        order.append(len(inputs) + number)
    stores = tuple(Store(buffer, where, value) for buffer, value in zip(results, values, strict=False))
    multiplied = [
        Buffer(name, x.dtype, x.type.size, "arg", k) for k, (name, x) in enumerate(zip("ab", operands, strict=True))
    ]
    buffers = (*multiplied, *arguments.values(), *results)
    return Following(buffers, tuple(order), row, column, acc, stores)


__all__ = [
    "Following",
    "ProductSchedule",
    "following",
    "operand_matrix",
    "product_of",
    "schedule_product",
    "strided_view",
]
