"""How attention and its gradient run: blocks of rows and columns whose scores stay in cache, and who computes which.

A block of scores is made, turned into probabilities and used up while it is in cache, so no T x S matrix exists. What
is added to an element, and in which order, depends on the block sizes only: any split of the tiles gives the same bits.
After FlashAttention-2 (Dao 2023, arXiv:2307.08691).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from treadle.core import DType, float32
from treadle.ir import Get, Graph, Node
from treadle.ops.attention import Attention, AttentionGrad
from treadle.ops.placement import Place, placement

from .matmul import Cpu, Matrix
from .product import strided_view

FORWARD = ("q", "k", "v")
BACKWARD = ("q", "k", "v", "out", "lse", "ct")
HEADS_INSIDE = ("out", "ct", "dq", "dk", "dv")
_MOST_SCRATCH = 4 << 20  # bytes that sums over a whole head may take
_FEW_HEADS = 4  # from here on a tile of the gradient is a head


@dataclass(frozen=True)
class Operand:
    """A strided view of a buffer; `batch` are the steps from batch to batch and from head to head."""

    buffer: int
    matrix: Matrix


@dataclass(frozen=True)
class AttentionProblem:
    """What is computed: in every head q has `rows` rows, k and v have `columns` rows, all of `depth` elements.

    Args:
        dtype: what is multiplied and added.
        batch: batches and heads.
        rows: rows of q and of the scores.
        columns: rows of k and v, columns of the scores.
        depth: elements of a row.
        causal: whether row t sees columns 0..t only.
        scale: what scores are multiplied by.
        operands: by name, as [B, H, T, D]; lse has no columns.
        results: by name, where each is stored, as [B, H, T, D]; those nobody reads are missing.
    """

    dtype: DType
    batch: tuple[int, int]
    rows: int
    columns: int
    depth: int
    causal: bool
    scale: float
    operands: tuple[tuple[str, Operand], ...]
    results: tuple[tuple[str, Operand], ...]

    @property
    def grad(self) -> bool:
        """Whether the gradient is computed."""
        return len(self.operands) == len(BACKWARD)

    @property
    def heads(self) -> int:
        """Heads of all batches."""
        return math.prod(self.batch)

    @property
    def num_scores(self) -> int:
        """Scores that count: under causality those on and below the diagonal."""
        if not self.causal:
            return self.heads * self.rows * self.columns
        square = min(self.rows, self.columns)
        return self.heads * (square * (square + 1) // 2 + (self.rows - square) * self.columns)

    @property
    def flops(self) -> int:
        """Arithmetic operations: two products forward, five backward, and the exponentials."""
        products, others = (5, 16) if self.grad else (2, 14)
        return self.num_scores * (2 * products * self.depth + others)

    def __str__(self) -> str:
        size = f"{self.batch[0]}x{self.batch[1]} heads * {self.rows}x{self.columns}x{self.depth} {self.dtype.short}"
        places = [f"{n}=#{o.buffer}{o.matrix.dtype.short}{_steps(o.matrix)}" for n, o in self.operands]
        stores = [f"{n}=#{o.buffer}{o.matrix.dtype.short}{_steps(o.matrix)}" for n, o in self.results]
        kind = f"{'causal ' if self.causal else ''}attention{' gradient' if self.grad else ''}, scale {self.scale!r}"
        return f"{kind}: {size}; {' '.join(places)} -> {' '.join(stores)}"


@dataclass(frozen=True)
class AttentionSchedule:
    """A decided attention kernel.

    Args:
        problem: what is computed.
        lanes: elements of a vector register.
        strip: rows of a register tile; rows are computed in strips of this many.
        block_rows: rows of a block, a multiple of `strip`.
        block_columns: columns of a block, a multiple of twice the lanes.
        whole_heads: of the gradient: whether a tile is a head. Else tiles are row blocks (for dq) together with column
            blocks (for dk and dv), and scores are computed for both.
        unroll: k steps per turn of the innermost loop.
    """

    problem: AttentionProblem
    lanes: int
    strip: int
    block_rows: int
    block_columns: int
    whole_heads: bool
    unroll: int = 2

    @property
    def width(self) -> int:
        """Columns of a register tile of two vectors."""
        return 2 * self.lanes

    @property
    def depth(self) -> int:
        """Elements of a row in scratch memory: whole vectors."""
        return _up(self.problem.depth, self.lanes)

    @property
    def pitch(self) -> int:
        """Distance of the rows of a block of scores; no power of two, so that rows do not share a set of the cache."""
        return self.block_columns + (_up(2 * self.strip, 16) + 16 if self.problem.grad else 16)

    @property
    def columns(self) -> int:
        """Columns that are gone through: forward, those no row sees are left out; their gradients are written, as 0."""
        p = self.problem
        return min(p.rows, p.columns) if p.causal and not p.grad else p.columns

    @property
    def num_row_blocks(self) -> int:
        """Row blocks of a head."""
        return -(-self.problem.rows // self.block_rows)

    @property
    def num_column_blocks(self) -> int:
        """Column blocks of a head."""
        return -(-self.columns // self.block_columns)

    @property
    def tiles_per_head(self) -> int:
        """Parallel tiles of a head. A tile has a block from each end, as under causality one is long, one short."""
        if not self.problem.grad:
            return -(-self.num_row_blocks // 2)
        return 1 if self.whole_heads else -(-max(self.num_row_blocks, self.num_column_blocks) // 2)

    @property
    def num_tiles(self) -> int:
        """Parallel tiles; any split of [0, num_tiles) over threads gives the same bits."""
        return self.problem.heads * self.tiles_per_head

    @cached_property
    def areas(self) -> dict[str, int]:
        """Where each area of scratch memory starts, and last the end, in elements of the compute dtype."""
        starts: dict[str, int] = {}
        at = 0
        for name, size in self._sizes():
            starts[name] = at
            at += _up(size, 16)
        return starts | {"end": at}

    def _sizes(self) -> Iterator[tuple[str, int]]:
        """The areas; packing by transposition may write one vector of rows too many behind its own."""
        rows, columns, depth = self.block_rows, self.block_columns, self.depth
        panels = columns * self.problem.depth + self.lanes * self.width
        by_rows, by_columns = (n * depth + self.lanes * depth for n in (rows, columns))
        yield "packed", 16
        yield "k_turned", panels
        yield "q", by_rows
        if not self.problem.grad:
            yield "v", by_columns
            yield "scores", self.strip * self.pitch
            yield from (("top", _up(rows, self.lanes)), ("sum", _up(rows, self.lanes)), ("out", by_rows))
            return
        yield from (("v_turned", panels), ("k", by_columns), ("ct", by_rows), ("out", by_rows))
        yield from (("delta", rows), ("lse", rows))
        yield from (("p", (rows + 1) * self.pitch), ("ds", (rows + 1) * self.pitch))
        yield from (("dk", self.block_sums), ("dv", self.block_sums))
        yield "dq", self.num_dq_blocks * rows * depth

    @property
    def num_dq_blocks(self) -> int:
        """Row blocks of which the sums for dq are kept at a time."""
        return self.num_row_blocks if self.whole_heads and self.num_column_blocks > 1 else 1

    @property
    def block_sums(self) -> int:
        """Elements of the sums for a block of columns: whole strips."""
        return _up(self.block_columns, self.strip) * self.depth

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory each thread needs."""
        return self.areas["end"] * self.problem.dtype.itemsize

    def __str__(self) -> str:
        by = ", tiles are heads" if self.whole_heads and self.problem.grad else ""
        blocks = f"blocks of {self.block_rows} rows x {self.block_columns} columns, strips of {self.strip}"
        return f"{self.problem}; {blocks}, unroll {self.unroll}{by}; {self.num_tiles} tiles"


def attention_of(body: Graph) -> Node:
    """Return the attention, or attention gradient, of a group."""
    return next(n for n in body.nodes() if isinstance(n.op, Attention | AttentionGrad))


def attention_problem(body: Graph) -> AttentionProblem:
    """Return what a group computes; its outputs are some of the op's results, in any order."""
    node = attention_of(body)
    op = node.op
    assert isinstance(op, Attention | AttentionGrad)
    names, made = (FORWARD, ("out", "lse")) if isinstance(op, Attention) else (BACKWARD, ("dq", "dk", "dv"))
    q, k = node.args[0].type, node.args[1].type
    operands: list[tuple[str, Operand]] = []
    for name, arg in zip(names, node.args, strict=True):
        base, steps, offset = strided_view(arg)
        operands.append((name, Operand(body.inputs.index(base), _matrix(name, base.dtype, steps, offset))))
    results: list[tuple[str, Operand]] = []
    for number, output in enumerate(body.outputs, len(body.inputs)):
        for part, (steps, offset) in _parts(output).items():
            assert isinstance(part.op, Get)
            name = made[part.op.index]
            results.append((name, Operand(number, _matrix(name, part.dtype, steps, offset))))
    return AttentionProblem(
        q.dtype if q.dtype.bits >= 32 else float32,
        (q.shape[0], q.shape[1]),
        q.shape[2],
        k.shape[2],
        q.shape[3],
        op.causal,
        op.scale,
        tuple(operands),
        tuple(results),
    )


def _parts(output: Node) -> dict[Node, Place]:
    """Return the results of the op that an output of a group consists of, and where they lie in it."""
    if isinstance(output.op, Get):
        shape = output.shape
        return {output: (tuple(math.prod(shape[k + 1 :]) for k in range(len(shape))), 0)}
    parts = placement(output, lambda n: isinstance(n.op, Get))
    assert parts is not None, f"{output} is not made of results of attention"
    return parts


def _matrix(name: str, dtype: DType, steps: tuple[int, ...], offset: int) -> Matrix:
    """Return an operand or result as [B, H, T, D], given its steps in the order of its own axes."""
    if name == "lse":
        b, h, row = steps
        return Matrix(dtype, row, 0, offset, (b, h))
    b, h, row, column = steps
    if name in HEADS_INSIDE:
        h, row = row, h
    return Matrix(dtype, row, column or 1, offset, (b, h))  # nobody steps along an axis of size 1


def schedule_attention(problem: AttentionProblem, cpu: Cpu) -> AttentionSchedule:
    """Return the schedule for a problem on a CPU."""
    size = problem.dtype.itemsize
    lanes = cpu.vector_bytes // size
    width, depth = 2 * lanes, _up(problem.depth, lanes)
    most = (cpu.num_vector_registers - 3) // 2
    strip = _best_strip(problem, most, lanes)
    columns = min(problem.rows, problem.columns) if problem.causal and not problem.grad else problem.columns
    if problem.grad:
        whole = problem.heads >= _FEW_HEADS and problem.rows * depth * size <= _MOST_SCRATCH
        block_rows = min(_up(64, strip), _up(problem.rows, strip))
        per_column = (5 * depth + 2 * block_rows) * size
        most_columns = cpu.l2 // 2 // per_column
        if not whole:
            # Blocks from both ends of a head are a tile: enough tiles for some threads.
            block = max(64, min(problem.heads * max(problem.rows, problem.columns) // 32, 256))
            most_columns = min(most_columns, block)
            block_rows = min(_up(block, strip), _up(problem.rows, strip))
    else:
        # All of k and v if they fit in L2: then the sums of a row need no rescaling. Else blocks of half of L2.
        whole, block_rows = False, strip
        most_columns = cpu.l2 // (2 * depth * size)
        if columns > most_columns:
            most_columns //= 2
    most_columns = max(most_columns // width * width, width)
    blocks = -(-columns // most_columns)
    block_columns = _up(-(-columns // blocks), width)
    if not problem.grad and blocks > 1:
        # Every block of rows packs the columns again: enough rows to repay it.
        block_rows = min(_up(max(128, 16 * lanes), strip), _up(problem.rows, strip))
    return AttentionSchedule(problem, lanes, strip, block_rows, block_columns, whole)


def _best_strip(problem: AttentionProblem, most: int, lanes: int) -> int:
    """Rows of a register tile: enough, but with little computed in vain behind the last row and the diagonal."""
    if problem.rows <= most:
        return problem.rows
    mean = problem.num_scores / (problem.heads * problem.rows)

    def cost(rows: int) -> float:
        beyond = (rows + lanes) / 2 / mean if problem.causal else 0.0
        return _up(problem.rows, rows) * (1 + beyond) * (1 + 0.2 / rows)

    return min(range(max(most - 6, 1), most + 1), key=cost)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _steps(matrix: Matrix) -> tuple[int, ...]:
    return (*matrix.batch, matrix.row, matrix.column, matrix.offset)
