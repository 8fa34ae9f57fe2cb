"""What a matrix product computes: sizes, dtypes and strides, and rewrites to an equal problem that is easier to run."""

import math
from dataclasses import dataclass, replace

from treadle.core.dtypes import DType, float32
from treadle.core.errors import ScheduleError


@dataclass(frozen=True)
class Matrix:
    """Where a matrix lies. Element (batch, i, j) is number `offset + sum(batch * strides) + i * row + j * column`."""

    dtype: DType
    row: int
    column: int
    offset: int = 0
    batch: tuple[int, ...] = ()

    @property
    def transposed(self) -> "Matrix":
        """The same elements with rows and columns exchanged."""
        return replace(self, row=self.column, column=self.row)


@dataclass(frozen=True)
class MatmulProblem:
    """C = A @ B for every index of `batch`: A is m x k, B is k x n. `dtype` is what is multiplied and added."""

    dtype: DType
    m: int
    n: int
    k: int
    a: Matrix
    b: Matrix
    c: Matrix
    batch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.m, self.n, *self.batch) < 1 or self.k < 0:
            raise ScheduleError(
                f"matmul: m={self.m}, n={self.n}, k={self.k}, batch={self.batch}. All but k must be at least 1; "
                "an empty result needs no kernel."
            )
        for name, matrix in (("a", self.a), ("b", self.b), ("c", self.c)):
            if len(matrix.batch) != len(self.batch):
                raise ScheduleError(
                    f"matmul: operand {name} has {len(matrix.batch)} batch strides for batch {self.batch}. "
                    "Give one stride per batch axis; 0 repeats the operand."
                )
            if not matrix.dtype.is_float or not self.dtype.is_float or matrix.dtype.bits > max(self.dtype.bits, 16):
                raise ScheduleError(
                    f"matmul: operand {name} is {matrix.dtype}, computed in {self.dtype}. "
                    "Operands must be floats no wider than the dtype of the sums."
                )
        if self.dtype.bits < 32:
            raise ScheduleError(f"matmul: cannot add in {self.dtype}. Compute in float32 or float64.")

    @property
    def transposed(self) -> "MatmulProblem":
        """The problem C^T = B^T @ A^T."""
        return replace(self, m=self.n, n=self.m, a=self.b.transposed, b=self.a.transposed, c=self.c.transposed)

    @property
    def num_batches(self) -> int:
        """Matrix products to compute."""
        return math.prod(self.batch)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.num_batches * self.m * self.n * self.k

    def __str__(self) -> str:
        def layout(x: Matrix) -> str:
            return f"{x.dtype.short}({x.row},{x.column})"

        batch = "x".join(map(str, self.batch)) + " * " if self.batch else ""
        size = f"{batch}{self.m}x{self.n}x{self.k} {self.dtype.short}"
        return f"{size}: {layout(self.a)} @ {layout(self.b)} -> {layout(self.c)}"


def dense(
    m: int,
    n: int,
    k: int,
    *,
    dtype: DType = float32,
    transpose_a: bool = False,
    transpose_b: bool = False,
    batch: tuple[int, ...] = (),
) -> MatmulProblem:
    """The problem of row-major operands without gaps; a transposed operand is stored as k x m or n x k."""

    def matrix(rows: int, columns: int, *, turned: bool) -> Matrix:
        strides = tuple(math.prod(batch[d + 1 :]) * rows * columns for d in range(len(batch)))
        return Matrix(dtype, 1 if turned else columns, rows if turned else 1, 0, strides)

    a, b = matrix(m, k, turned=transpose_a), matrix(k, n, turned=transpose_b)
    return MatmulProblem(dtype, m, n, k, a, b, matrix(m, n, turned=False), batch)


def merge_batches(problem: MatmulProblem, *, fused: bool) -> MatmulProblem:
    """The problem without batch axes of size 1, and those merged that each operand (but C if fused) steps evenly."""
    axes: list[tuple[int, tuple[int, int, int]]] = []
    for size, *strides in zip(problem.batch, problem.a.batch, problem.b.batch, problem.c.batch, strict=True):
        inner = (strides[0], strides[1], 0 if fused else strides[2])
        if size == 1:
            continue
        if axes and all(o == s * size for o, s in zip(axes[-1][1], inner, strict=True)):
            axes[-1] = (axes[-1][0] * size, inner)
        else:
            axes.append((size, inner))
    a, b, c = (
        replace(x, batch=tuple(strides[i] for _, strides in axes))
        for i, x in enumerate((problem.a, problem.b, problem.c))
    )
    return replace(problem, a=a, b=b, c=c, batch=tuple(size for size, _ in axes))


def fold_batch(problem: MatmulProblem, *, fused: bool) -> MatmulProblem | None:
    """One product with the batch as further rows, where B is the same for all and the rows follow one another."""
    if len(problem.batch) != 1 or problem.b.batch != (0,):
        return None
    for x in (problem.a,) if fused else (problem.a, problem.c):
        if x.batch != (problem.m * x.row,) and problem.m > 1:
            return None
    rows = problem.m * problem.batch[0]

    def unbatched(x: Matrix) -> Matrix:
        return replace(x, row=x.row if problem.m > 1 else x.batch[0], batch=())

    b = replace(problem.b, batch=())
    return replace(problem, m=rows, batch=(), a=unbatched(problem.a), b=b, c=unbatched(problem.c))


def settle_strides(problem: MatmulProblem) -> MatmulProblem:
    """The problem with the strides of axes of size 1, which nobody steps along, set to what suits best."""

    def settle(x: Matrix, rows: int, columns: int) -> Matrix:
        return replace(x, row=x.row if rows > 1 else columns * x.column, column=x.column if columns > 1 else 1)

    m, n, k = problem.m, problem.n, problem.k
    return replace(problem, a=settle(problem.a, m, k), b=settle(problem.b, k, n), c=settle(problem.c, m, n))
