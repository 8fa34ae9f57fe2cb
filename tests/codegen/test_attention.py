"""Attention kernels against the ops' reference: shapes, layouts, dtypes, vector widths, splits, special values."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from treadle.codegen.target import Target, host
from treadle.codegen.toolchain import Library, compile_object, load
from treadle.core import DType, Type, config, float32, from_numpy
from treadle.ir import Graph, Input, Node, results
from treadle.jit.kernels import Kernel, kernel_for
from treadle.ops import Attention, AttentionGrad, Permute, Reshape, Slice
from treadle.ops.fused import Fused
from treadle.passes.fuse import fuse

CPUS = ("avx2", "avx512") if host().has_avx512 else ("avx2",)


@cache
def target_of(cpu: str) -> Target:
    with config(cpu=cpu):
        return host()


@cache
def compiled(kernel: Kernel, cpu: str) -> Library:
    return load([compile_object(kernel.llvm(), target_of(cpu))], [kernel.symbol])


def kernels_of(graph: Graph) -> list[Node]:
    return [n for n in fuse(graph).graph.nodes() if isinstance(n.op, Fused)]


def attention_kernel(graph: Graph, cpu: str) -> Kernel:
    """The kernel of a graph that is one."""
    (node,) = kernels_of(graph)
    assert isinstance(node.op, Fused)
    assert node.op.kind == "attention"
    assert [a.op for a in node.args] == [Input(k, n.type) for k, n in enumerate(graph.inputs)]
    return kernel_for(node.op, target_of(cpu))


def run(graph: Graph, arrays: Sequence[np.ndarray], cpu: str, cuts: Sequence[int] = ()) -> list[np.ndarray]:
    """Run the kernel over its tiles, cut at `cuts`; each part has its own scratch memory, with guards behind it."""
    kernel = attention_kernel(graph, cpu)
    address = compiled(kernel, cpu).address(kernel.symbol)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)(address)
    guarded = [np.full(n.type.nbytes + 128, 0xFF, np.uint8) for n in graph.outputs]
    out = [g[64:-64].view(n.dtype.numpy).reshape(n.shape) for g, n in zip(guarded, graph.outputs, strict=True)]
    slots = np.array([0, *[x.__array_interface__["data"][0] for x in (*arrays, *out)]], np.uint64)
    args = np.array(kernel.order, np.int64) + 1
    for lo, hi in itertools.pairwise([0, *(c for c in cuts if c < kernel.num_tiles), kernel.num_tiles]):
        raw = np.full(kernel.scratch_nbytes + 192, 0xFF, np.uint8)
        start = -raw.ctypes.data % 64
        call(slots.ctypes.data, args.ctypes.data, lo, hi, raw.ctypes.data + start)
        assert (raw[start + kernel.scratch_nbytes :] == 0xFF).all(), "wrote behind its scratch memory"
    assert all((g[:64] == 0xFF).all() and (g[-64:] == 0xFF).all() for g in guarded), "wrote beside its results"
    return out


def leaves(types: Sequence[Type]) -> tuple[Node, ...]:
    return tuple(Input(k, t)() for k, t in enumerate(types))


def types_of(arrays: Sequence[np.ndarray]) -> list[Type]:
    return [Type(from_numpy(a.dtype), a.shape) for a in arrays]


def forward_graph(types: Sequence[Type], causal: bool, scale: float) -> Graph:
    inputs = leaves(types)
    return Graph(inputs, results(Attention(causal, scale)(*inputs)))


def operands(
    b: int, h: int, t: int, s: int, d: int, dtype: DType = float32, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((b, h, n, d)).astype(np.float32).astype(dtype.numpy) for n in (t, s, s))
    return q, k, v


TOLERANCES = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-13}


def close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    got, want = got.astype(np.float64), want.astype(np.float64)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(want).max(initial=0))))


def check_forward(
    shape: tuple[int, int, int, int, int], cpu: str, *, causal: bool, dtype: DType = float32, cuts: Sequence[int] = ()
) -> None:
    arrays = operands(*shape, dtype)
    scale = shape[-1] ** -0.5
    out, lse = run(forward_graph(types_of(arrays), causal, scale), arrays, cpu, cuts)
    want, want_lse = Attention(causal, scale).eval(*arrays)
    close(out, want, TOLERANCES[dtype.name])
    close(lse, want_lse, TOLERANCES[lse.dtype.name])


LENGTHS = (1, 2, 7, 16, 17, 64, 65, 256, 300)
DEPTHS = (1, 8, 16, 33, 64, 80)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("t", LENGTHS)
def test_lengths(t: int, causal: bool, cpu: str) -> None:
    check_forward((1, 2, t, t, 16), cpu, causal=causal)


def grad_graph(types: Sequence[Type], causal: bool, scale: float) -> Graph:
    inputs = leaves(types)
    return Graph(inputs, results(AttentionGrad(causal, scale)(*inputs)))


def check_backward(
    shape: tuple[int, int, int, int, int], cpu: str, *, causal: bool, dtype: DType = float32, cuts: Sequence[int] = ()
) -> None:
    b, h, t, _, d = shape
    arrays = operands(*shape, dtype)
    scale = d**-0.5
    ct = np.random.default_rng(1).standard_normal((b, t, h, d)).astype(dtype.numpy)
    given = [np.ascontiguousarray(x) for x in (*arrays, *Attention(causal, scale).eval(*arrays), ct)]
    got = run(grad_graph(types_of(given), causal, scale), given, cpu, cuts)
    for x, want in zip(got, AttentionGrad(causal, scale).eval(*given), strict=True):
        close(x, want, 4 * TOLERANCES[dtype.name])


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("t", LENGTHS)
def test_gradient_lengths(t: int, causal: bool, cpu: str) -> None:
    check_backward((1, 2, t, t, 16), cpu, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("t", LENGTHS)
def test_gradient_by_heads(t: int, causal: bool) -> None:
    check_backward((2, 4, t, t, 33), CPUS[-1], causal=causal)
