"""Matrix product kernels against NumPy, over shapes, layouts, dtypes, vector widths and splits."""

import ctypes
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.codegen.llvm import F32, Function, Value
from treadle.codegen.matmul import Epilogue, emit_matmul
from treadle.codegen.target import Target, host
from treadle.codegen.toolchain import Library, compile_object, load
from treadle.core.config import config
from treadle.core.dtypes import DType, bfloat16, float16, float32, float64
from treadle.schedule.matmul import MatmulProblem, MatmulSchedule, Matrix, dense, schedule_matmul

CPUS = ("avx2", "avx512") if host().has_avx512 else ("avx2",)


@cache
def target_of(cpu: str) -> Target:
    with config(cpu=cpu):
        return host()


@cache
def compiled(schedule: MatmulSchedule, cpu: str, epilogue: Epilogue | None) -> Library:
    text = emit_matmul(schedule, "kernel", epilogue)
    return load([compile_object(text, target_of(cpu))], ["kernel"])


def call(
    schedule: MatmulSchedule,
    cpu: str,
    buffers: Sequence[np.ndarray],
    *,
    splits: Sequence[int] = (),
    epilogue: Epilogue | None = None,
) -> None:
    """Run the kernel over its tiles, cut at `splits`; each part has its own scratch memory, with guards behind it."""
    library = compiled(schedule, cpu, epilogue)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(
        library.address("kernel")
    )
    slots = np.array([0, *[x.__array_interface__["data"][0] for x in buffers]], np.uint64)
    args = np.arange(1, len(buffers) + 1, dtype=np.int64)
    cuts = [0, *splits, schedule.num_tiles]
    for lo, hi in itertools.pairwise(cuts):
        raw = np.full(schedule.scratch_nbytes + 192, 0xFF, np.uint8)
        start = -raw.ctypes.data % 64
        run(slots.ctypes.data, args.ctypes.data, lo, hi, raw.ctypes.data + start)
        assert (raw[start + schedule.scratch_nbytes :] == 0xFF).all(), "wrote behind its scratch memory"


def view_of(x: np.ndarray, dtype: DType, memory: np.ndarray) -> Matrix:
    size = dtype.itemsize
    offset = (x.__array_interface__["data"][0] - memory.__array_interface__["data"][0]) // size
    *batch, row, column = (s // size for s in x.strides)
    return Matrix(dtype, row, column, offset, tuple(batch))


@dataclass(frozen=True)
class Layout:
    """How a matrix lies in memory: its axes may be exchanged, every second element used, axes flipped, room left."""

    turned: bool = False
    step: tuple[int, int] = (1, 1)
    gap: int = 0
    broadcast: bool = False

    def make(self, shape: tuple[int, ...], dtype: DType, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The flat memory and the view of it."""
        *batch, rows, columns = shape
        if self.broadcast:
            batch = [1] * len(batch)
        sizes = [rows * abs(self.step[0]), columns * abs(self.step[1])]
        if self.turned:
            sizes.reverse()
        sizes[1] += self.gap
        memory = rng.standard_normal([*batch, *sizes]).astype(dtype.numpy)
        view = memory[..., : sizes[1] - self.gap]
        if self.turned:
            view = view.swapaxes(-1, -2)
        view = view[..., :: self.step[0], :: self.step[1]]
        return memory.reshape(-1), np.broadcast_to(view, shape) if self.broadcast else view


def check(
    m: int,
    n: int,
    k: int,
    *,
    cpu: str,
    dtype: DType = float32,
    kinds: tuple[DType, DType, DType] | None = None,
    batch: tuple[int, ...] = (),
    layouts: tuple[Layout, Layout, Layout] = (Layout(), Layout(), Layout()),
    splits: Sequence[int] = (),
    special: bool = False,
    l2: int | None = None,
) -> None:
    """Compare one product with NumPy's; the schedule may be told another size of the L2 cache."""
    rng = np.random.default_rng(m + 71 * n + 1000 * k)
    kind_a, kind_b, kind_c = kinds or (dtype, dtype, dtype)
    memory_a, a = layouts[0].make((*batch, m, k), kind_a, rng)
    memory_b, b = layouts[1].make((*batch, k, n), kind_b, rng)
    memory_c, c = layouts[2].make((*batch, m, n), kind_c, rng)
    if special and k:
        a[(..., rng.integers(m), rng.integers(k))] = np.nan
        b[(..., rng.integers(k), rng.integers(n))] = np.inf
    memory_c[...] = 7
    problem = MatmulProblem(
        dtype, m, n, k, view_of(a, kind_a, memory_a), view_of(b, kind_b, memory_b), view_of(c, kind_c, memory_c), batch
    )
    target = target_of(cpu)
    schedule = schedule_matmul(problem, target if l2 is None else replace(target, l2=l2))
    call(schedule, cpu, [memory_a, memory_b, memory_c], splits=[s for s in splits if s < schedule.num_tiles])
    with np.errstate(all="ignore"):
        want = a.astype(np.float64) @ b.astype(np.float64)
        room = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    ulp = {"float16": 2**-10, "bfloat16": 2**-7}.get(kind_c.name, 0.0)
    eps = float(np.finfo(dtype.numpy).eps)
    got = c.astype(np.float64)
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=str(schedule))
    error = np.abs(got[finite] - want[finite])
    bound = eps * (2 + k**0.5) * room[finite] + ulp * np.abs(want[finite])
    assert (error <= bound).all(), f"{schedule}: error {error.max()}"
    c[...] = 7  # now what lies between and around the elements of C shows whether it was left alone
    assert (memory_c == 7).all(), f"{schedule}: wrote outside of C"


SMALL = [1, 2, 3, 5, 7, 8, 9, 12, 15, 16, 17, 23, 31, 32, 33, 48, 63, 65, 70]
sizes = st.sampled_from(SMALL)


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=50)
@given(sizes, sizes, st.sampled_from([0, *SMALL]), st.booleans(), st.booleans())
def test_shapes_and_transpositions(cpu: str, m: int, n: int, k: int, turn_a: bool, turn_b: bool) -> None:
    check(m, n, k, cpu=cpu, layouts=(Layout(turn_a), Layout(turn_b), Layout()))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(97, 203, 1030), (13, 600, 129), (301, 10, 260), (10, 301, 2100), (1, 400, 300), (400, 1, 300), (49, 139, 77)],
)
def test_larger_shapes_of_every_transposition(cpu: str, m: int, n: int, k: int) -> None:
    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        check(m, n, k, cpu=cpu, layouts=(Layout(turn_a), Layout(turn_b), Layout()), splits=[1, 5])


layouts = st.builds(
    Layout,
    turned=st.booleans(),
    step=st.sampled_from([(1, 1), (-1, 1), (1, -1), (2, 1), (1, 2), (-2, -3)]),
    gap=st.sampled_from([0, 3]),
)


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=50)
@given(
    st.tuples(sizes, sizes, sizes),
    st.tuples(layouts, layouts, layouts),
    st.sampled_from([(), (3,), (2, 3)]),
    st.tuples(st.booleans(), st.booleans()),
    st.sampled_from([float32, float64]),
)
def test_views(
    cpu: str,
    size: tuple[int, int, int],
    views: tuple[Layout, Layout, Layout],
    batch: tuple[int, ...],
    repeated: tuple[bool, bool],
    dtype: DType,
) -> None:
    a, b, c = views
    a = Layout(a.turned, a.step, a.gap, broadcast=repeated[0])
    b = Layout(b.turned, b.step, b.gap, broadcast=repeated[1])
    check(*size, cpu=cpu, dtype=dtype, batch=batch, layouts=(a, b, c), splits=[1, 3])


KINDS = [
    (bfloat16, bfloat16, bfloat16),
    (float16, float16, float16),
    (float32, bfloat16, float32),
    (float16, float32, bfloat16),
]


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(30, 41, 19), (65, 33, 600)])
def test_half_precision_operands(cpu: str, kinds: tuple[DType, DType, DType], m: int, n: int, k: int) -> None:
    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        check(m, n, k, cpu=cpu, kinds=kinds, layouts=(Layout(turn_a), Layout(turn_b), Layout()))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("m", "n", "k"), [(20, 50, 30), (1, 70, 40), (70, 2, 40), (100, 80, 1200)])
def test_nan_and_infinity_reach_just_what_they_touch(cpu: str, m: int, n: int, k: int) -> None:
    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        check(m, n, k, cpu=cpu, special=True, layouts=(Layout(turn_a), Layout(turn_b), Layout()))


SMALL_L2 = 16 << 10  # next to which matrices that are quick to test are large


@pytest.mark.parametrize("cpu", CPUS)
@settings(max_examples=50)
@given(
    st.tuples(st.sampled_from([1, 1, 2, 3, 4, 5, 8, 9]), st.integers(1, 70), st.integers(32, 400)),
    st.sampled_from([(float32, float32), (float32, bfloat16), (float32, float16), (bfloat16, bfloat16), None]),
    st.sampled_from([(), (3,)]),
    st.sampled_from([Layout(), Layout(turned=True), Layout(step=(1, -1))]),
    st.sampled_from([0, 0, 3]),
    st.booleans(),
)
def test_few_rows_against_a_matrix_that_is_large_for_the_cache(
    cpu: str,
    size: tuple[int, int, int],
    kinds: tuple[DType, DType] | None,
    batch: tuple[int, ...],
    a: Layout,
    gap: int,
    special: bool,
) -> None:
    check(
        *size,
        cpu=cpu,
        dtype=float64 if kinds is None else float32,
        kinds=None if kinds is None else (*kinds, float32),
        batch=batch,
        layouts=(a, Layout(turned=True, gap=gap), Layout()),
        splits=[1, 3],
        special=special,
        l2=SMALL_L2,
    )


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("kind", [float32, bfloat16], ids=str)
@pytest.mark.parametrize(("n", "k"), [(50, 200), (64, 256), (9, 1111)])
def test_a_row_has_the_same_bits_among_any_number_of_rows(cpu: str, kind: DType, n: int, k: int) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((9, k), np.float32), rng.standard_normal((n, k)).astype(kind.numpy)
    results: list[np.ndarray] = []
    for m, l2 in itertools.product((9, 8, 5, 2, 1), (SMALL_L2 // 4, SMALL_L2, 1 << 20)):
        problem = dense(m, n, k, transpose_b=True)
        problem = replace(problem, b=replace(problem.b, dtype=kind))
        schedule = schedule_matmul(problem, replace(target_of(cpu), l2=l2))
        c = np.full((m, n), np.nan, np.float32)
        call(schedule, cpu, [a[:m], b, c])
        results.append(c)
    for c in results[1:]:
        np.testing.assert_array_equal(c.view(np.int32), results[0][: len(c)].view(np.int32))


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("m", "n", "k"), [(37, 90, 700), (2, 333, 50), (64, 20, 64), (150, 1, 77)])
def test_any_split_gives_the_same_bits(cpu: str, batch: tuple[int, ...], m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(1)
    for turn_a, turn_b in itertools.product((False, True), repeat=2):
        problem = dense(m, n, k, transpose_a=turn_a, transpose_b=turn_b, batch=batch)
        schedule = schedule_matmul(problem, target_of(cpu))
        a, b = (rng.standard_normal(s, np.float32) for s in ((*batch, m, k), (*batch, k, n)))
        results: list[np.ndarray] = []
        last = schedule.num_tiles
        for splits in ((), range(1, last), [last // 2] if last > 1 else [], [last // 3, last - 1] if last > 3 else []):
            c = np.full((*batch, m, n), np.nan, np.float32)
            call(schedule, cpu, [a, b, c], splits=splits)
            results.append(c)
        for c in results[1:]:
            np.testing.assert_array_equal(c.view(np.int32), results[0].view(np.int32), err_msg=str(schedule))


@dataclass(frozen=True)
class BiasRelu:
    """relu(acc + bias[column] + 100 * batch + row) into a row-major output."""

    m: int
    n: int
    num_buffers: int = 2

    def emit(
        self,
        f: Function,
        buffers: Sequence[Value],
        batch: Value,
        row: Value,
        column: Value,
        acc: Value,
        mask: Value | None,
    ) -> None:
        bias, out = (f.gep(b, column, F32) for b in buffers)
        kind = acc.type
        known = f.load(bias, kind) if mask is None else f.masked_load(bias, kind, mask, 0)
        place = f.cast("sitofp", f.iadd(f.imul(batch, 100), row), "float")
        value = f.fmax(f.fadd(f.fadd(acc, known), f.splat(place, kind.lanes)), 0.0)
        at = f.gep(out, f.imul(f.iadd(f.imul(batch, self.m), row), self.n), F32)
        if mask is None:
            f.store(value, at)
        else:
            f.masked_store(value, at, mask)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize(("batch", "shared"), [((), False), ((3,), True), ((2, 2), False)])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(37, 90, 700), (5, 16, 0), (30, 65, 33), (1, 50, 40), (50, 1, 40), (64, 3, 40), (200, 120, 1500)]
)
def test_epilogue(cpu: str, batch: tuple[int, ...], shared: bool, m: int, n: int, k: int) -> None:
    rng = np.random.default_rng(2)
    for turn_a, turn_b in ((False, False), (False, True), (True, False)):
        problem = dense(m, n, k, transpose_a=turn_a, transpose_b=turn_b, batch=batch)
        if shared:  # the batch may be folded into rows
            b = problem.b
            problem = MatmulProblem(
                float32, m, n, k, problem.a, Matrix(float32, b.row, b.column, 0, (0,) * len(batch)), problem.c, batch
            )
        schedule = schedule_matmul(problem, target_of(cpu), fused=True)
        a = rng.standard_normal((*batch, *((k, m) if turn_a else (m, k))), np.float32)
        b = rng.standard_normal((*(() if shared else batch), *((n, k) if turn_b else (k, n))), np.float32)
        bias = rng.standard_normal(n, np.float32)
        c = np.full((*batch, m, n), np.nan, np.float32)
        tiles = schedule.num_tiles
        splits = [tiles // 2] if tiles > 1 else []
        call(schedule, cpu, [a, b, bias, c], splits=splits, epilogue=BiasRelu(m, n))
        number = np.arange(problem.num_batches).reshape(batch)[..., None, None]
        product = (a.swapaxes(-1, -2) if turn_a else a) @ (b.swapaxes(-1, -2) if turn_b else b)
        want = np.maximum(product + bias + 100 * number + np.arange(m)[:, None], 0)
        np.testing.assert_allclose(c, want, rtol=1e-4, atol=1e-3, err_msg=str(schedule))
