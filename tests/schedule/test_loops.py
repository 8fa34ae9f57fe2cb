"""Loop nests: the tiles may be split anywhere, and the shape of the nest fits the access."""

import ctypes
import re
from itertools import pairwise

import numpy as np
import pytest

import treadle as td
from tests.codegen.native import call
from tests.reference import evaluate
from treadle.codegen import target, toolchain
from treadle.codegen.loops import emit_nest, scratch_nbytes
from treadle.core import config
from treadle.ir import Graph
from treadle.ops.fused import Fused
from treadle.passes.decompose import decompose
from treadle.passes.fuse import fuse
from treadle.passes.simplify import simplify
from treadle.schedule import LoopSchedule, schedule_loops
from treadle.tensor import lift


def data(*shape: int, dtype: str = "float32") -> td.Tensor:
    return td.asarray(np.random.default_rng(len(shape)).integers(-3, 4, shape).astype(dtype))


def body_of(tensor: td.Tensor) -> tuple[Graph, list[np.ndarray]]:
    """The one kernel of a program, and its operands in order."""
    graph, arrays = lift([tensor.node])
    fused = fuse(simplify(decompose(graph, keep=lambda _: False))).graph
    (kernel,) = [n for n in fused.nodes() if isinstance(n.op, Fused)]
    return kernel.op.body, [arrays[fused.inputs.index(a)] for a in kernel.args]


def run(schedule: LoopSchedule, operands: list[np.ndarray], out: np.ndarray, cuts: list[int]) -> np.ndarray:
    """Run a kernel in pieces, last first."""
    machine = target.host()
    library = toolchain.load([toolchain.compile_object(emit_nest(schedule.nest, "kernel"), machine)], ["kernel"])
    scratch = np.empty(scratch_nbytes(schedule.nest) + 64, np.uint8)
    address = -(-scratch.ctypes.data // 64) * 64
    edges = [0, *cuts, schedule.num_tiles]
    for low, high in reversed(list(pairwise(edges))):
        call(library.address("kernel"), [*operands, out], low, high, ctypes.c_void_p(address).value)
    return out


PROGRAMS = {
    "flat": lambda: data(5, 1000) * 2 + 1,
    "blocks": lambda: data(9001) - 1,
    "broadcast": lambda: data(7, 1, 130) + data(33, 1),
    "transposed": lambda: data(33, 70).mT * 1,
    "rows": lambda: td.sum(data(33, 70), axis=1),
    "several rows": lambda: td.sum(data(5, 6, 7, 8), axis=(1, 3)),
    "columns": lambda: td.sum(data(33, 70), axis=0),
    "middle": lambda: td.max(data(5, 33, 70), axis=1),
    "all": lambda: td.sum(data(33, 71)),
    "two passes": lambda: data(33, 70) - td.max(data(33, 70), axis=1, keepdims=True),
    "turned columns": lambda: td.sum(td.permute_dims(data(3, 21, 70), (0, 2, 1)).reshape((210, 21)), axis=1),
    "product of integers": lambda: data(7, 9, dtype="int32") @ data(9, 70, dtype="int32"),
    "pairs of rows": lambda: td.sum(data(6, 2, 50, 2), axis=(1, 3)),
    "short rows": lambda: td.sum(data(500, 3), axis=1),
    "integers": lambda: td.sum(data(33, 70, dtype="int8") * 2, axis=0, dtype="int8"),
    "half": lambda: td.max(data(33, 70, dtype="float16") + 1, axis=1),
    "flags": lambda: td.any(data(33, 70) > 2, axis=1),
}


@pytest.mark.parametrize("cpu", ["avx2", "avx512"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_any_split_of_the_tiles_gives_the_result(name: str, cpu: str) -> None:
    tensor = PROGRAMS[name]()
    want = evaluate(*lift([tensor.node]))[0]
    with config(cpu=cpu):
        body, operands = body_of(tensor)
        schedule = schedule_loops(body, target.host())
        for cuts in ([], list(range(1, schedule.num_tiles)), [schedule.num_tiles // 3][: schedule.num_tiles // 4]):
            out = run(schedule, operands, np.full(want.shape, 77).astype(want.dtype), cuts)
            np.testing.assert_array_equal(out, want)


def test_the_shape_of_the_nest_fits_the_access() -> None:
    host = target.host()
    shapes = {name: schedule_loops(body_of(PROGRAMS[name]())[0], host).shape for name in PROGRAMS}
    assert shapes["flat"] == "elementwise, flat"
    assert shapes["broadcast"].startswith("elementwise, ")
    assert shapes["rows"] == "33 rows of 70"
    assert re.search("column", shapes["columns"])
    assert re.search("column", shapes["middle"])
    assert shapes["turned columns"] == "210 columns of 21"
    assert shapes["product of integers"] == "490 columns of 9"  # in rows, one operand would be gathered
    assert shapes["pairs of rows"] == "300 columns of 4"


def test_a_cast_to_a_short_float_rounds_once() -> None:
    body, _ = body_of(data(64).astype(td.bfloat16))
    assert "y0[r] = bf16(x0[r])" in str(schedule_loops(body, target.host()))
