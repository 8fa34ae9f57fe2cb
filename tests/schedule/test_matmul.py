"""Decisions about matrix products: what is chosen for which problem, how it prints, that it covers the work."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.dtypes import bfloat16, float16, float32, float64, int32
from treadle.core.errors import ScheduleError
from treadle.schedule.matmul import (
    DotSchedule,
    MatmulProblem,
    Matrix,
    TileSchedule,
    balanced,
    dense,
    schedule_matmul,
)
from treadle.schedule.matmul_problem import fold_batch, merge_batches


@dataclass(frozen=True)
class Machine:
    vector_bytes: int = 64
    num_vector_registers: int = 32
    l1: int = 32 << 10
    l2: int = 1 << 20


AVX512 = Machine()
AVX2 = Machine(32, 16)
LARGE = Machine(l1=48 << 10, l2=2 << 20)

sizes = st.integers(1, 3000)


@given(st.integers(1, 10_000), st.integers(1, 20))
def test_balanced_parts_differ_by_one_and_add_up(size: int, most: int) -> None:
    parts = balanced(size, most)
    assert sum(count * part for count, part in parts) == size
    assert max(part for _, part in parts) <= most
    assert len(parts) <= 2
    assert max(p for _, p in parts) - min(p for _, p in parts) <= 1


@given(
    sizes,
    sizes,
    st.integers(0, 5000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([AVX512, AVX2, LARGE]),
)
def test_tiles_fit_the_machine(m: int, n: int, k: int, turn_a: bool, turn_b: bool, fused: bool, cpu: Machine) -> None:
    for dtype in (float32, float64):
        problem = dense(m, n, k, dtype=dtype, transpose_a=turn_a, transpose_b=turn_b)
        s = schedule_matmul(problem, cpu, fused=fused)
        assert s == schedule_matmul(problem, cpu, fused=fused)
        assert s.num_tiles >= 1
        assert s.scratch_nbytes % 64 == 0
        if isinstance(s, DotSchedule):
            assert s.rows * s.columns + s.rows + 1 <= cpu.num_vector_registers
            continue
        assert s.rows * s.vectors + s.vectors + 1 <= cpu.num_vector_registers
        assert s.nc % s.width == 0
        assert s.num_k_blocks == 1 or s.kc % 16 == 0
        if s.pack_b == "panels" and s.nc > s.width:
            assert s.kc * s.nc * dtype.itemsize <= cpu.l2 * 5 // 8
        assert sum(count * rows for count, rows in s.row_panels) == s.problem.m


@pytest.mark.parametrize("threads", [2, 3, 4, 6, 8, 16])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(2048, 1152, 384), (128, 512, 784), (8, 3072, 768), (1, 3072, 768), (512, 10, 64)]
)
@pytest.mark.parametrize("turn_b", [False, True])
def test_threads_get_nearly_equal_shares(threads: int, m: int, n: int, k: int, turn_b: bool) -> None:
    s = schedule_matmul(dense(m, n, k, transpose_b=turn_b), AVX512)
    share = -(-s.num_tiles // threads) * threads / s.num_tiles
    assert share <= 1.35, f"{s}: the largest share is {share:.2f} times the mean"


def test_small_problems_are_read_in_place() -> None:
    for size in (16, 64, 128, 256):
        s = schedule_matmul(dense(size, size, size), AVX512)
        assert isinstance(s, TileSchedule)
        assert (s.pack_a, s.pack_b, s.num_k_blocks, s.direct) == ("no", "no", 1, True)


def test_large_problems_pack_b_and_read_a_in_place() -> None:
    s = schedule_matmul(dense(2048, 1152, 1536), AVX512)
    assert isinstance(s, TileSchedule)
    assert (s.pack_a, s.pack_b) == ("no", "panels")
    # Rows a power of two apart share a set of L1: no more rows than ways.
    assert s.rows <= 8


def test_a_weight_gradient_packs_both() -> None:
    s = schedule_matmul(dense(1152, 384, 2048, transpose_a=True), AVX512)
    assert isinstance(s, TileSchedule)
    assert (s.pack_a, s.pack_b) == ("strip", "panels")


def test_few_rows_against_a_transposed_matrix_are_dot_products() -> None:
    for m in (1, 2, 5, 8):
        assert isinstance(schedule_matmul(dense(m, 3072, 768, transpose_b=True), AVX512), DotSchedule)
    assert isinstance(schedule_matmul(dense(200, 3072, 768, transpose_b=True), AVX512), TileSchedule)


def dots(m: int, n: int, k: int, cpu: Machine = AVX512, **options: Any) -> tuple[int, int]:
    """Columns read side by side and elements asked for ahead, for rows against a matrix of `kind`."""
    kind, gap = options.pop("kind", float32), options.pop("gap", 0)
    problem = dense(m, n, k, transpose_b=True, **options)
    b = replace(problem.b, dtype=kind, column=k + gap)
    s = schedule_matmul(replace(problem, b=b), cpu)
    assert isinstance(s, DotSchedule)
    return s.columns, s.prefetch


def test_a_matrix_that_stays_in_l2_is_read_in_several_columns() -> None:
    assert dots(1, 64, 64) == (8, 0)
    assert dots(4, 128, 512) == (4, 0)
    assert dots(1, 160, 384, LARGE) == (8, 0)
    assert dots(1, 1, 3000) == (1, 0)


def test_a_matrix_too_large_for_l2_is_asked_for_in_the_order_of_memory() -> None:
    assert dots(1, 384, 384) == (8, 4096)  # 16 KiB
    assert dots(1, 384, 384, kind=bfloat16) == (8, 8192)
    assert dots(2, 3072, 768) == (8, 8 * 768)  # the next group of columns
    assert dots(8, 768, 3072) == (4, 4 * 3072)
    assert dots(8, 768, 3072, AVX2) == (4, 4 * 3072)
    assert dots(2, 64, 64, batch=(40,)) == (8, 4096)
    assert dots(2, 384, 384, gap=1) == (8, 0)  # not one behind the other
    assert dots(48, 4096, 4096) == (4, 0)  # there A itself fills L2


def test_one_row_against_a_large_matrix_is_one_stream() -> None:
    assert dots(1, 3072, 768) == (1, 0)
    assert dots(1, 3072, 768, AVX2) == (1, 0)
    assert dots(1, 3072, 768, kind=bfloat16) == (1, 0)
    assert dots(1, 3072, 768, AVX2, kind=bfloat16) == (8, 8192)  # 16 bytes of it per multiply-add are too few
    assert dots(1, 4096, 4096) == (8, 8 * 4096)  # the row does not stay in L1


def test_a_matrix_times_a_vector_runs_as_its_transpose() -> None:
    s = schedule_matmul(dense(500, 1, 300), AVX512)
    assert isinstance(s, DotSchedule)
    assert (s.swapped, s.problem.m, s.problem.n) == (True, 1, 500)


def test_a_result_stored_by_columns_runs_as_its_transpose() -> None:
    problem = dense(100, 90, 80)
    s = schedule_matmul(replace(problem, c=Matrix(float32, 1, 100)), AVX512)
    assert isinstance(s, TileSchedule)
    assert s.swapped
    assert s.direct


def test_half_precision_is_widened_while_packing() -> None:
    problem = dense(100, 90, 80)
    halves = replace(problem, a=replace(problem.a, dtype=float16), b=replace(problem.b, dtype=bfloat16))
    s = schedule_matmul(halves, AVX512)
    assert isinstance(s, TileSchedule)
    assert (s.pack_a, s.pack_b) == ("rows", "panels")


def test_an_epilogue_keeps_the_tile_in_scratch_memory() -> None:
    s = schedule_matmul(dense(512, 512, 512), AVX512, fused=True)
    assert isinstance(s, TileSchedule)
    assert not s.direct
    assert s.num_scratch_tiles == 1


def test_a_batch_over_one_matrix_folds_into_rows() -> None:
    problem = dense(128, 512, 384, batch=(4, 3))
    shared = replace(problem, b=replace(problem.b, batch=(0, 0)))
    s = schedule_matmul(shared, AVX512)
    assert s.fold == 128
    assert s.problem == dense(4 * 3 * 128, 512, 384)
    assert schedule_matmul(problem, AVX512).fold == 0
    assert fold_batch(merge_batches(problem, fused=False), fused=False) is None


def test_batch_axes_merge_where_all_step_evenly() -> None:
    problem = merge_batches(dense(4, 5, 6, batch=(2, 1, 3)), fused=False)
    assert (problem.batch, problem.a.batch, problem.b.batch) == ((6,), (24,), (30,))
    apart = replace(dense(4, 5, 6, batch=(2, 3)), a=Matrix(float32, 6, 1, 0, (24, 48)))
    assert merge_batches(apart, fused=False).batch == (2, 3)


def test_printing() -> None:
    assert str(schedule_matmul(dense(512, 256, 384, transpose_b=True), AVX512)) == (
        "512x256x384 f32: f32(384,1) @ f32(1,384) -> f32(256,1); "
        "tile 8x32, kc 384, nc 256, A in place, B packed in panels; 64 tiles"
    )
    assert str(schedule_matmul(dense(2, 100, 64, transpose_b=True, batch=(3,)), AVX512)) == (
        "3 * 2x100x64 f32: f32(64,1) @ f32(1,64) -> f32(100,1); dots 2x8, nc 24; 15 tiles"
    )
    assert str(schedule_matmul(dense(4, 384, 384, transpose_b=True), AVX512)) == (
        "4x384x384 f32: f32(384,1) @ f32(1,384) -> f32(384,1); dots 4x4, nc 24, B 4096 ahead; 16 tiles"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"m": 0}, "matmul: m=0, n=5, k=6, batch=\\(\\). All but k must be at least 1"),
        ({"batch": (2,)}, "operand a has 0 batch strides for batch \\(2,\\)"),
        ({"a": Matrix(int32, 6, 1)}, "operand a is int32, computed in float32"),
        ({"b": Matrix(float64, 5, 1)}, "operand b is float64, computed in float32"),
        (
            {"dtype": float16, "a": Matrix(float16, 6, 1), "b": Matrix(float16, 5, 1), "c": Matrix(float16, 5, 1)},
            "cannot add in float16",
        ),
    ],
)
def test_problems_that_make_no_sense(change: dict[str, object], text: str) -> None:
    problem = dense(4, 5, 6)
    fields = {name: getattr(problem, name) for name in ("dtype", "m", "n", "k", "a", "b", "c", "batch")}
    with pytest.raises(ScheduleError, match=text):
        MatmulProblem(**(fields | change))


def test_every_pair_of_layouts_has_a_schedule() -> None:
    for strides in itertools.product([(7, 1), (1, 7), (14, 2), (-7, -1), (0, 1), (1, 0)], repeat=3):
        a, b, c = (Matrix(float32, *s) for s in strides)
        schedule_matmul(MatmulProblem(float32, 7, 7, 7, a, b, c), AVX512)
