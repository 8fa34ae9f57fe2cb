"""Blocks turned through registers: every subset of the columns, of every dtype, is what the rows say."""

import numpy as np
import pytest

from tests.codegen.native import call
from treadle.codegen import target, toolchain
from treadle.codegen.llvm import F32, Module, const, storage_type
from treadle.codegen.pack import load_wide, transpose
from treadle.core import DType, bfloat16, config, float16, float32

CPUS = ("avx2", "avx512") if target.host().has_avx512 else ("avx2",)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("dtype", [float32, float16, bfloat16])
@pytest.mark.parametrize("columns", [(0, 4), (1, 5), (0, 1, 4), (4,), (0, 2, 4, 6), (3, 7), tuple(range(8))])
def test_columns_of_a_block_of_few_rows(columns: tuple[int, ...], dtype: DType, cpu: str) -> None:
    """LLVM narrows what is not read, and must not widen float16 behind a shuffle that is then another."""
    count, span = 3, max(columns) + 1
    with config(cpu=cpu):
        machine = target.host()
        module = Module("test", machine)
        lanes = 16 if machine.has_avx512 else 8
        wide = F32.with_lanes(lanes)
        f = module.kernel("kernel")
        source, result = f.buffer(0), f.buffer(1)
        rows = [
            load_wide(f, f.gep(source, k * lanes, storage_type(dtype)), dtype, wide, f.lane_mask(span, lanes))
            for k in range(count)
        ]
        turned = transpose(f, [*rows, *[const(0, wide)] * (lanes - count)])
        for place, column in enumerate(columns):
            f.store(turned[column], f.gep(result, place * lanes, F32))
        f.ret()
        library = toolchain.load([toolchain.compile_object(str(module), machine)], ["kernel"])
    x = np.arange(1, 1 + count * lanes).reshape(count, lanes).astype(dtype.numpy)
    got = np.full((len(columns), lanes), -1, np.float32)
    call(library.address("kernel"), [x, got], 0, 1)
    np.testing.assert_array_equal(got[:, :count], x[:, list(columns)].T.astype(np.float32))
