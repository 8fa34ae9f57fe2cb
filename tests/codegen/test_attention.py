"""Attention kernels against the ops' reference: shapes, layouts, dtypes, vector widths, splits, special values."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest

from treadle.autodiff import vjp_nodes
from treadle.codegen.target import Target, host
from treadle.codegen.toolchain import Library, compile_object, load
from treadle.core import DType, Type, bfloat16, config, float16, float32, float64, from_numpy
from treadle.ir import Graph, Input, Node, results
from treadle.jit.kernels import Kernel, kernel_for
from treadle.jit.plan import Plan
from treadle.ops import Attention, AttentionGrad, BroadcastTo, Permute, Reshape, Slice
from treadle.ops.fused import Fused, run_graph
from treadle.passes.decompose import decompose
from treadle.passes.fuse import fuse
from treadle.passes.simplify import simplify

Check = Callable[..., None]
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


def attention_kernel(graph: Graph, cpu: str) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel of a graph that is one, and the graph's inputs in the kernel's order."""
    (node,) = kernels_of(graph)
    assert isinstance(node.op, Fused)
    assert node.op.kind == "attention"
    return kernel_for(node.op, target_of(cpu)), tuple(graph.inputs.index(a) for a in node.args)


def run(graph: Graph, arrays: Sequence[np.ndarray], cpu: str, cuts: Sequence[int] = ()) -> list[np.ndarray]:
    """Run the kernel over its tiles, cut at `cuts`; each part has its own scratch memory, with guards behind it."""
    kernel, operands = attention_kernel(graph, cpu)
    address = compiled(kernel, cpu).address(kernel.symbol)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, ctypes.c_void_p)(address)
    guarded = [np.full(n.type.nbytes + 128, 0xFF, np.uint8) for n in graph.outputs]
    out = [g[64:-64].view(n.dtype.numpy).reshape(n.shape) for g, n in zip(guarded, graph.outputs, strict=True)]
    slots = np.array(
        [0, *[x.__array_interface__["data"][0] for x in (*[arrays[k] for k in operands], *out)]], np.uint64
    )
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


def grad_graph(types: Sequence[Type], causal: bool, scale: float) -> Graph:
    inputs = leaves(types)
    return Graph(inputs, results(AttentionGrad(causal, scale)(*inputs)))


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


LENGTHS = (1, 2, 7, 16, 17, 64, 65, 256, 300)
DEPTHS = (1, 8, 16, 33, 64, 80)
every_cpu = pytest.mark.parametrize("cpu", CPUS)
either_way = pytest.mark.parametrize("causal", [False, True])
checks = pytest.mark.parametrize("check", [check_forward, check_backward])


@either_way
@checks
@pytest.mark.parametrize(
    ("t", "cpu"), [(t, cpu) for cpu in CPUS for t in (LENGTHS if cpu == CPUS[-1] else (1, 17, 65))]
)
def test_lengths(check: Check, t: int, causal: bool, cpu: str) -> None:
    check((1, 2, t, t, 16), cpu, causal=causal)


@every_cpu
@checks
@pytest.mark.parametrize("d", DEPTHS)
def test_depths(check: Check, d: int, cpu: str) -> None:
    check((1, 4, 40, 40, d), cpu, causal=True)


@either_way
@checks
@pytest.mark.parametrize(("t", "s"), [(1, 50), (50, 1), (20, 100), (300, 33), (129, 128)])
@pytest.mark.parametrize("heads", [2, 4])
def test_more_rows_or_more_columns(check: Check, heads: int, t: int, s: int, causal: bool) -> None:
    check((1, heads, t, s, 24), CPUS[-1], causal=causal)


@every_cpu
@checks
@pytest.mark.parametrize("dtype", [float16, bfloat16, float64])
def test_dtypes(check: Check, dtype: DType, cpu: str) -> None:
    check((2, 2, 70, 70, 40), cpu, causal=True, dtype=dtype)


@either_way
@pytest.mark.parametrize(("t", "s"), [(40, 5000), (1500, 700)])
def test_long_sequences(t: int, s: int, causal: bool) -> None:
    """Several blocks of columns: the sums are rescaled on the way, and scratch memory stays bounded."""
    check_forward((1, 1, t, s, 64), CPUS[-1], causal=causal)
    check_forward((1, 1, t, s, 256), CPUS[-1], causal=causal)
    check_backward((1, 1, t, s, 64), CPUS[-1], causal=causal)
    check_backward((1, 4, t, s, 8), CPUS[-1], causal=causal)


def test_scratch_memory_is_bounded() -> None:
    for heads, causal in itertools.product((1, 64), (False, True)):
        q = Type(float32, (1, heads, 100_000, 64))
        out, lse = Type(float32, (1, 100_000, heads, 64)), Type(float32, (1, heads, 100_000))
        for graph in (forward_graph([q] * 3, causal, 1.0), grad_graph([q] * 3 + [out, lse, out], causal, 1.0)):
            assert attention_kernel(graph, CPUS[-1])[0].scratch_nbytes < 8 << 20


@every_cpu
@either_way
@pytest.mark.parametrize(
    "shape", [(1, 3, 150, 150, 32), (1, 2, 200, 90, 16), (3, 4, 30, 30, 16), (1, 1, 1300, 1300, 8)]
)
def test_any_split_gives_the_same_bits(shape: tuple[int, int, int, int, int], causal: bool, cpu: str) -> None:
    b, h, t, _, d = shape
    arrays = operands(*shape)
    forward = forward_graph(types_of(arrays), causal, 0.2)
    out, lse = run(forward, arrays, cpu)
    ct = np.random.default_rng(2).standard_normal((b, t, h, d)).astype(np.float32)
    given = [*arrays, out, lse, ct]
    backward = grad_graph(types_of(given), causal, 0.2)
    whole = [*run(forward, arrays, cpu), *run(backward, given, cpu)]
    for cuts in ([1], [2], [1, 3, 4], list(range(1, 200))):
        for a, b_ in zip(whole, [*run(forward, arrays, cpu, cuts), *run(backward, given, cpu, cuts)], strict=True):
            np.testing.assert_array_equal(a, b_)


def part(packed: Node, which: int) -> Node:
    """One of q, k, v of [B, T, 3, H, D] as [B, H, T, D]."""
    b, t, _, h, d = packed.shape
    turned = Permute((2, 0, 3, 1, 4))(packed)
    return Reshape((b, h, t, d))(Slice((which, 0, 0, 0, 0), (1, b, h, t, d), (1,) * 5)(turned))


@every_cpu
@pytest.mark.parametrize("dtype", [float32, bfloat16])
def test_heads_of_a_packed_projection_are_read_in_place(dtype: DType, cpu: str) -> None:
    b, t, h, d = 2, 37, 3, 20
    qkv = np.random.default_rng(0).standard_normal((b, t, 3, h, d)).astype(dtype.numpy)
    q, k, v = (np.ascontiguousarray(x) for x in qkv.transpose(2, 0, 3, 1, 4))
    packed = leaves(types_of([qkv]))
    op = Attention(True, 0.3)
    graph = Graph(packed, results(op(*(part(packed[0], n) for n in range(3)))))
    for x, want in zip(run(graph, [qkv], cpu), op.eval(q, k, v), strict=True):
        close(x, want, TOLERANCES[str(from_numpy(x.dtype).name)])
    ct = np.random.default_rng(1).standard_normal((b, t, h, d)).astype(dtype.numpy)
    rest = [np.ascontiguousarray(x) for x in (*op.eval(q, k, v), ct)]
    inputs = leaves(types_of([qkv, *rest]))
    grad = AttentionGrad(True, 0.3)
    graph = Graph(inputs, results(grad(*(part(inputs[0], n) for n in range(3)), *inputs[1:])))
    for x, want in zip(run(graph, [qkv, *rest], cpu), grad.eval(q, k, v, *rest), strict=True):
        close(x, want, 4 * TOLERANCES[dtype.name])


def turned(x: Node) -> Node:
    """D is not contiguous, T is."""
    return Reshape((2, 1, 19, 12))(Permute((0, 2, 1))(Slice((0, 0, 0), (2, 12, 19), (1, 1, 1))(x)))


def sparse(x: Node) -> Node:
    """Every second element of both, backwards."""
    return Reshape((2, 1, 19, 12))(Permute((0, 2, 1))(Slice((0, 23, 37), (2, 12, 19), (1, -2, -2))(x)))


def repeated(x: Node) -> Node:
    """All heads share one."""
    one = Reshape((1, 1, 19, 12))(Permute((0, 2, 1))(Slice((1, 2, 3), (1, 12, 19), (1, 1, 1))(x)))
    return BroadcastTo((2, 3, 19, 12))(one)


@every_cpu
@pytest.mark.parametrize("view", [turned, sparse, repeated])
def test_any_evenly_spaced_elements(view: Callable[[Node], Node], cpu: str) -> None:
    """Rows apart, columns apart, backwards, repeated: whatever is affine needs no copy."""
    t, d = 19, 12
    rng = np.random.default_rng(0)
    base = rng.standard_normal((2, 2 * d, 2 * t)).astype(np.float32)
    x = leaves(types_of([base]))
    node = view(x[0])
    op = Attention(True, 0.25)
    (value,) = run_graph(Graph(x, (node,)), [base])
    for place in range(3):
        others = operands(*node.shape[:2], t, t, d)
        inputs = leaves(types_of([base, *others[:2]]))
        args = [inputs[1], inputs[2]]
        args.insert(place, view(inputs[0]))
        arrays = [*others[:2]]
        arrays.insert(place, value)
        made = op(*args)
        got = run(Graph(inputs, results(made)), [base, *others[:2]], cpu)
        for a, b in zip(got, op.eval(*arrays), strict=True):
            close(a, b, TOLERANCES["float32"])


def test_results_nobody_reads_are_not_stored() -> None:
    arrays = operands(1, 4, 20, 20, 16)
    inputs = leaves(types_of(arrays))
    op = Attention(True, 0.25)
    out, lse = results(op(*inputs))
    want = [np.ascontiguousarray(x) for x in op.eval(*arrays)]
    for picked in ([0], [1], [1, 0]):
        got = run(Graph(inputs, tuple([(out, lse)[n] for n in picked])), arrays, CPUS[-1])
        for n, x in zip(picked, got, strict=True):
            close(x, want[n], TOLERANCES["float32"])
    ct = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
    for heads in (2, 4):
        given = [
            *(np.ascontiguousarray(a[:, :heads]) for a in arrays),
            *(np.ascontiguousarray(x) for x in (want[0][:, :, :heads], want[1][:, :heads], ct[:, :, :heads])),
        ]
        inputs = leaves(types_of(given))
        grad = AttentionGrad(True, 0.25)
        grads, wanted = results(grad(*inputs)), grad.eval(*given)
        for picked in ([0], [1], [2], [2, 0], [1, 2, 0]):
            got = run(Graph(inputs, tuple([grads[n] for n in picked])), given, CPUS[-1])
            for n, x in zip(picked, got, strict=True):
                close(x, wanted[n], 4 * TOLERANCES["float32"])


@pytest.mark.parametrize("scale", [-0.3, 0.0])
def test_scales_that_are_not_positive(scale: float) -> None:
    arrays = operands(1, 2, 30, 30, 8)
    for got, want in zip(
        run(forward_graph(types_of(arrays), True, scale), arrays, CPUS[-1]),
        Attention(True, scale).eval(*arrays),
        strict=True,
    ):
        close(got, want, TOLERANCES["float32"])


@every_cpu
@pytest.mark.parametrize("s", [50, 3000])
def test_large_scores(s: int, cpu: str) -> None:
    """Logits of 1e4 and more: exponentials of differences only. What float32 loses of a score is all that is lost."""
    q, k, v = operands(1, 2, 20, s, 16)
    q, k = 100 * q, 100 * k
    out, lse = run(forward_graph(types_of([q, k, v]), False, 1.0), [q, k, v], cpu)
    want, want_lse = Attention(False, 1.0).eval(q, k, v)
    assert want_lse.max() > 1e4
    close(lse, want_lse, 1e-6)
    close(out, want, 2e-2)
    ct = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
    given = [q, k, v, out, lse, ct]
    got = run(grad_graph(types_of(given), False, 1.0), given, cpu)
    for x, wanted in zip(got, AttentionGrad(False, 1.0).eval(*given), strict=True):
        close(x, wanted, 2e-2)


@every_cpu
@pytest.mark.parametrize("s", [20, 3000])
def test_special_values(s: int, cpu: str) -> None:
    """A row that sees NaN is NaN; one that sees only -inf is NaN too, its logsumexp -inf; other rows are as ever."""
    q, k, v = operands(1, 4, 20, s, 16)
    q[0, 0, 3] = np.nan
    q[0, 1, 5], k[0, 1] = -np.inf, np.abs(k[0, 1])
    k[0, 2, 7, :], q[0, 2] = np.inf, np.abs(q[0, 2])
    v[0, 3, 2, 1] = np.inf
    for causal in (False, True):
        out, lse = run(forward_graph(types_of([q, k, v]), causal, 0.25), [q, k, v], cpu)
        want, want_lse = Attention(causal, 0.25).eval(q, k, v)
        assert np.isneginf(want_lse[0, 1, 5])
        np.testing.assert_allclose(lse, want_lse, rtol=1e-5, atol=1e-5)
        sees = np.ones((1, 20, 4, 1), bool)
        if causal:  # 0 * inf is NaN: whether a row that does not see an infinite element of v gets it is not said
            sees[0, :2, 3] = False
        finite = np.isfinite(want)
        np.testing.assert_array_equal(np.isfinite(out) & sees, finite & sees)
        np.testing.assert_allclose(out[finite], want[finite], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", [2, 8])
def test_gradient_of_the_whole_is_that_of_the_expansion(heads: int) -> None:
    arrays = operands(1, heads, 33, 33, 16)
    types = types_of(arrays)
    inputs = leaves([*types, Type(float32, (1, 33, heads, 16))])
    op = Attention(True, 0.25)
    ct = np.random.default_rng(3).standard_normal((1, 33, heads, 16)).astype(np.float32)
    back = [n for n in op.vjp((inputs[3], None), op(*inputs[:3]), *inputs[:3]) if n is not None]
    graph = Graph(inputs, tuple(back))
    plain = run_graph(decompose(graph, keep=lambda n: False), [*arrays, ct])
    got = Plan(graph, num_threads=1).run([*arrays, ct])
    for x, want in zip(got, plain, strict=True):
        close(x, want, 4 * TOLERANCES["float32"])


def test_model_code_has_no_copies_around_the_kernels() -> None:
    """A projection's heads in, heads inside out: forward and backward are one kernel each."""
    b, t, h, d = 2, 24, 3, 16
    qkv_type, ct_type = Type(float32, (b, t, 3 * h * d)), Type(float32, (b, t, h * d))
    inputs = leaves([qkv_type, ct_type])
    packed = Reshape((b, t, 3, h, d))(inputs[0])
    parts = [part(packed, n) for n in range(3)]
    op = Attention(True, 0.25)
    node = op(*parts)
    out = results(node)[0]
    ct = Reshape((b, t, h, d))(inputs[1])
    grads = [Permute((0, 2, 1, 3))(n) for n in op.vjp((ct, None), node, *parts) if n is not None]
    graph = simplify(Graph(inputs, (out, *grads)))
    assert [n.op.kind for n in kernels_of(graph) if isinstance(n.op, Fused)] == ["attention", "attention"]


def packed_gradient(shape: tuple[int, int, int, int], *, also: int | None = None) -> Graph:
    """The gradient of a packed projection [B, T, 3HD], given the gradients of the heads taken from it."""
    b, t, h, d = shape
    types = [(b, t, 3 * h * d), (b, t, h, d), (b, h, t), (b, t, h, d)]
    inputs = leaves([Type(float32, x) for x in types])
    parts = [part(Reshape((b, t, 3, h, d))(inputs[0]), n) for n in range(3)]
    grads = results(AttentionGrad(True, 0.25)(*parts, *inputs[1:]))
    (packed,) = vjp_nodes(parts, [Permute((0, 2, 1, 3))(g) for g in grads], [inputs[0]])
    assert packed is not None
    return simplify(Graph(inputs, (packed, *([] if also is None else [grads[also]]))))


@pytest.mark.parametrize("shape", [(2, 37, 3, 20), (1, 64, 1, 16), (2, 700, 2, 8), (1, 1, 4, 4)])
def test_gradients_are_written_side_by_side(shape: tuple[int, int, int, int]) -> None:
    b, t, h, d = shape
    graph = packed_gradient(shape)
    rng = np.random.default_rng(0)
    qkv, ct = (rng.standard_normal(x).astype(np.float32) for x in ((b, t, 3 * h * d), (b, t, h, d)))
    q, k, v = (np.ascontiguousarray(x) for x in qkv.reshape(b, t, 3, h, d).transpose(2, 0, 3, 1, 4))
    out, lse = (np.ascontiguousarray(x) for x in Attention(True, 0.25).eval(q, k, v))
    want = np.stack(AttentionGrad(True, 0.25).eval(q, k, v, out, lse, ct), axis=2).reshape(b, t, 3 * h * d)
    (got,) = run(graph, [qkv, out, lse, ct], CPUS[-1])
    close(got, want, 4 * TOLERANCES["float32"])


def test_gradients_that_are_wanted_apart_too_are_copied() -> None:
    kinds = [n.op.kind for n in kernels_of(packed_gradient((2, 16, 2, 8), also=1)) if isinstance(n.op, Fused)]
    assert kinds == ["attention", "loop"]


def test_threads_give_the_same_bits() -> None:
    graph = packed_gradient((2, 90, 3, 16))
    arrays = [np.random.default_rng(0).standard_normal(n.shape).astype(np.float32) for n in graph.inputs]
    one, two = (Plan(graph, num_threads=n).run(arrays)[0] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_text_and_counts() -> None:
    q = Type(float32, (8, 6, 256, 64))
    kernel, _ = attention_kernel(forward_graph([q] * 3, True, 0.125), CPUS[-1])
    assert kernel.name == "attention_8x256x6x64_f32"
    assert "causal attention, scale 0.125: 8x6 heads * 256x256x64 f32" in kernel.text
    pairs = 48 * 256 * 257 // 2
    assert 4 * 64 * pairs <= kernel.flops <= 5 * 64 * pairs
    assert kernel.nbytes == 4 * (4 * q.size + 48 * 256)
    assert kernel.num_tiles % 2 == 0
