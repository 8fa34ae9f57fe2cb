"""Products under the names PyTorch has for them. They compute with `matmul`, so that what is added is its epilogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from treadle.core import ShapeError

from . import elementwise as ew
from . import manipulation as shapes
from .linalg import matmul, outer, tensordot
from .promotion import Operand, as_tensor

if TYPE_CHECKING:
    from .tensor import Tensor


def _with_axes(what: str, *given: tuple[Operand, int]) -> list[Tensor]:
    """Return operands as tensors; each must have its number of axes, and all one dtype kind as `matmul` says."""
    found = [as_tensor(what, x) for x, _ in given]
    for t, (_, ndim) in zip(found, given, strict=True):
        if t.ndim != ndim:
            raise ShapeError(
                f"{what}: operands have {', '.join(repr(f.node.type) for f in found)}; the number of axes must be "
                f"{', '.join(str(n) for _, n in given)}. Use matmul() or einsum() for others."
            )
    return found


def mm(input: Operand, mat2: Operand) -> Tensor:
    """Return the product of two matrices, [N, K] and [K, M]."""
    return matmul(*_with_axes("mm", (input, 2), (mat2, 2)))


def bmm(input: Operand, mat2: Operand) -> Tensor:
    """Return the products of two batches of matrices, [B, N, K] and [B, K, M]."""
    a, b = _with_axes("bmm", (input, 3), (mat2, 3))
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"bmm: batches {a.node.type!r} and {b.node.type!r} differ in size. Use matmul() to broadcast.")
    return matmul(a, b)


def mv(input: Operand, vec: Operand) -> Tensor:
    """Return the product of a matrix [N, M] and a vector [M]."""
    return matmul(*_with_axes("mv", (input, 2), (vec, 1)))


def dot(input: Operand, tensor: Operand) -> Tensor:
    """Return the inner product of two vectors of one length."""
    return matmul(*_with_axes("dot", (input, 1), (tensor, 1)))


def inner(input: Operand, other: Operand) -> Tensor:
    """Return the sums of products over the last axes; with a number, the product."""
    a, b = as_tensor("inner", input), as_tensor("inner", other)
    if not a.ndim or not b.ndim:
        return ew.multiply(a, b)
    return tensordot(a, b, axes=((-1,), (-1,)))


def _plus(input: Operand, product: Tensor, beta: float, alpha: float) -> Tensor:
    """Return beta * input + alpha * product; with beta 0, input's NaN do not count."""
    scaled = product if alpha == 1 else ew.multiply(product, alpha)
    if beta == 0:
        return scaled
    added = as_tensor("add", input)
    added = added if beta == 1 else ew.multiply(added, beta)
    found = ew.add(added, scaled)
    if found.shape != product.shape:
        raise ShapeError(
            f"addmm: {as_tensor('add', input).node.type!r} does not broadcast to the product {product.node.type!r}. "
            "Give an operand of that shape, or with axes of size 1."
        )
    return found


def addmm(input: Operand, mat1: Operand, mat2: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * input + alpha * (mat1 @ mat2); `input` broadcasts."""
    return _plus(input, mm(mat1, mat2), beta, alpha)


def addmv(input: Operand, mat: Operand, vec: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * input + alpha * (mat @ vec); `input` broadcasts."""
    return _plus(input, mv(mat, vec), beta, alpha)


def addr(input: Operand, vec1: Operand, vec2: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * input + alpha * outer(vec1, vec2); `input` broadcasts."""
    return _plus(input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Operand, batch1: Operand, batch2: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * input + alpha * bmm(batch1, batch2); `input` broadcasts."""
    return _plus(input, bmm(batch1, batch2), beta, alpha)


def addbmm(input: Operand, batch1: Operand, batch2: Operand, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """Return beta * input + alpha * (the products of the batch, summed); `input` broadcasts."""
    a, b = _with_axes("addbmm", (batch1, 3), (batch2, 3))
    if a.shape[0] != b.shape[0]:
        raise ShapeError(f"addbmm: batches {a.node.type!r} and {b.node.type!r} differ in size. They must be equal.")
    # The sum over the batch is part of one product: [N, B K] @ [B K, M].
    return _plus(input, tensordot(a, b, axes=((0, 2), (0, 1))), beta, alpha)


def ger(input: Operand, vec2: Operand) -> Tensor:
    """Return the products of every element of a vector with every element of another: `outer`."""
    return outer(input, vec2)


def kron(input: Operand, other: Operand) -> Tensor:
    """Return the Kronecker product: every element of the first times the whole second, side by side."""
    a, b = as_tensor("kron", input), as_tensor("kron", other)
    ndim = max(a.ndim, b.ndim)
    left, right = (1,) * (ndim - a.ndim) + a.shape, (1,) * (ndim - b.ndim) + b.shape
    spread = shapes.reshape(a, [size for n in left for size in (n, 1)])
    product = ew.multiply(spread, shapes.reshape(b, [size for n in right for size in (1, n)]))
    return shapes.reshape(product, [m * n for m, n in zip(left, right, strict=True)])


def multi_dot(tensors: Sequence[Operand]) -> Tensor:
    """Return the product of two or more matrices, in the order of least work; the ends may be vectors.

    The order is found by dynamic programming over the sizes (Cormen et al., Introduction to Algorithms, 15.2).
    """
    given = [as_tensor("multi_dot", x) for x in tensors]
    if len(given) < 2:
        raise ShapeError(f"multi_dot: got {len(given)} tensors. Give at least 2.")
    for k, t in enumerate(given):
        if t.ndim != 2 and not (t.ndim == 1 and k in (0, len(given) - 1)):
            raise ShapeError(f"multi_dot: operand {k} is {t.node.type!r}. Allowed: matrices, and vectors at the ends.")
    first, last = given[0].ndim == 1, given[-1].ndim == 1
    chain = list(given)
    chain[0] = shapes.expand_dims(chain[0], 0) if first else chain[0]
    chain[-1] = shapes.expand_dims(chain[-1], 1) if last else chain[-1]
    sizes = [chain[0].shape[0], *[t.shape[1] for t in chain]]
    product = _in_order(chain, _splits(sizes), 0, len(chain) - 1)
    folded = [a for a, is_vector in ((0, first), (1, last)) if is_vector]
    return shapes.squeeze(product, folded) if folded else product


def _splits(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Return for every part of a chain behind which matrix it is best split."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    best: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            costs = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            cost[i, j] = min(costs)
            best[i, j] = i + costs.index(cost[i, j])
    return best


def _in_order(chain: Sequence[Tensor], best: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return chain[i]
    k = best[i, j]
    return matmul(_in_order(chain, best, i, k), _in_order(chain, best, k + 1, j))
