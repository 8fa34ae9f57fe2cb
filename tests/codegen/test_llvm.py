"""The IR builder: what it writes runs as said, is the same each time, and folds what is known."""

import ctypes

import numpy as np
import pytest

from treadle.codegen import toolchain
from treadle.codegen.llvm import (
    F32,
    F64,
    I1,
    I8,
    I32,
    I64,
    PTR,
    Module,
    Value,
    VType,
    compute_type,
    const,
    storage_type,
    vector,
)
from treadle.codegen.target import host
from treadle.core import dtypes
from treadle.core.config import config


@pytest.fixture(params=["native", "avx2"], autouse=True)
def cpu(request):
    with config(cpu=request.param, checks=True):
        yield request.param


def build(write, params, result=I64):
    """Compile `int64 run(params)` written by `write(f, *params)`."""
    module = Module()
    f = module.function("run", [(f"p{k}", t) for k, t in enumerate(params)], result=result)
    f.ret(write(f, *f.params))
    library = toolchain.load([toolchain.compile_object(str(module), host())], ["run"])
    kinds = {I64: ctypes.c_int64, PTR: ctypes.c_void_p, F64: ctypes.c_double}
    call = ctypes.CFUNCTYPE(kinds[result], *[kinds[t] for t in params])(library.address("run"))

    def run(*args):
        assert library.names
        return call(*[a.ctypes.data if isinstance(a, np.ndarray) else a for a in args])

    return run


@pytest.mark.parametrize(("lo", "hi", "step"), [(0, 10, 1), (3, 20, 4), (0, 0, 1), (5, 2, 1), (0, 3, 8), (-4, 4, 3)])
def test_loop_carries_values(lo, hi, step):
    def body(f):
        return lambda i, carried: [f.add(carried[0], i), f.add(carried[1], 1)]

    def total(f, low, high):
        a, b = f.loop(low, high, step, [const(0, I64), const(0, I64)], body(f))
        return f.add(f.mul(a, 1000), b)

    turns = range(lo, hi, step)
    want = sum(turns) * 1000 + len(turns)
    assert build(total, [I64, I64])(lo, hi) == want
    assert build(lambda f: total(f, lo, hi), [])() == want, "with literal bounds"


def test_a_loop_of_one_turn_is_written_in_place():
    module = Module()
    f = module.function("f", [], result=I64)
    (x,) = f.loop(4, 8, 4, [const(1, I64)], lambda i, c: [f.iadd(i, c[0])])
    f.ret(x)
    assert "br" not in str(module)
    assert x == const(5, I64)


def test_nested_loops_and_branches():
    def write(f, n):
        def outer(i, carried):
            def inner(j, inside):
                even = f.icmp("eq", f.and_(j, 1), 0)
                return f.if_(even, lambda: [f.add(inside[0], f.mul(i, j))], lambda: [inside[0]])

            return f.loop(0, i, 1, carried, inner)

        return f.loop(0, n, 1, [const(0, I64)], outer)[0]

    assert build(write, [I64])(9) == sum(i * j for i in range(9) for j in range(i) if j % 2 == 0)


def test_while_runs_until_the_condition_fails():
    def write(f, n):
        def halve(carried):
            return [f.lshr(carried[0], 1), f.add(carried[1], 1)]

        return f.while_([n, const(0, I64)], lambda c: f.icmp("ne", c[0], 0), halve)[1]

    assert [build(write, [I64])(n) for n in (0, 1, 255, 256)] == [0, 1, 8, 9]


def test_pure_instructions_are_written_once_but_not_across_branches():
    module = Module()
    f = module.function("f", [("x", I64), ("p", PTR)])
    x, p = f.params
    assert f.add(x, 1) is f.add(x, 1)
    assert f.load(p, I64) is not f.load(p, I64), "memory may have changed"
    inner = []
    f.if_(f.icmp("eq", x, 0), lambda: inner.append(f.mul(x, 3)))
    after = f.mul(x, 3)
    assert after is not inner[0], "a value made in a branch does not reach behind it"
    f.ret()


def test_equal_calls_give_equal_text():
    def text():
        module = Module("twice")
        f = module.kernel("k")
        v = f.load(f.buffer(0), F32.with_lanes(8))
        f.store(f.fma(v, 2.0, f.sqrt(v)), f.buffer(1))
        f.ret()
        return str(module)

    assert text() == text()
    assert text().count("declare") == 2
    assert text().startswith("; twice\n")


def test_index_arithmetic_folds_literals():
    f = Module().function("f", [("x", I64)])
    x = f.params[0]
    assert [f.iadd(2, 3), f.isub(2, 3), f.imul(2, 3), f.idiv(7, 2), f.imod(7, 2), f.imin(2, 3), f.imax(2, 3)] == [
        const(k, I64) for k in (5, -1, 6, 3, 1, 2, 3)
    ]
    assert [f.iadd(x, 0), f.iadd(0, x), f.isub(x, 0), f.imul(x, 1), f.imul(1, x), f.idiv(x, 1)] == [x] * 6
    assert [f.imul(x, 0), f.imod(x, 1)] == [const(0, I64)] * 2


@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("count", [-3, 0, 1, 5, 16, 1000])
def test_masked_memory_touches_only_true_lanes(lanes, count):
    def write(f, source, target, n):
        kind = F32.with_lanes(lanes)
        for mask in (f.lane_mask(n, lanes), f.lane_mask(count, lanes)):
            values = f.masked_load(source, kind, mask, 7.0)
            f.masked_store(f.fadd(values, 1.0), target, mask)
        return const(0, I64)

    source, target = np.arange(16, dtype=np.float32), np.full(16, -1, np.float32)
    build(write, [PTR, PTR, I64])(source, target, count)
    n = min(max(count, 0), lanes)
    np.testing.assert_array_equal(target[:n], source[:n] + 1)
    assert (target[n:] == -1).all()


@pytest.mark.parametrize("elem", [F32, F64, I32, I64], ids=str)
def test_gather_and_scatter(elem):
    def write(f, source, index, target):
        where = f.load(index, I64.with_lanes(8))
        mask = f.icmp("sge", where, 0)
        values = f.gather(f.gep(source, where, elem), elem.with_lanes(8), mask, 5)
        f.scatter(values, f.gep(target, f.iota(8), elem))
        f.scatter(values, f.gep(target, where, elem), mask)
        return const(0, I64)

    dtype = {"float": np.float32, "double": np.float64, "i32": np.int32, "i64": np.int64}[elem.elem]
    source, target = np.arange(100).astype(dtype), np.zeros(100, dtype)
    index = np.array([90, 20, -1, 33, 20, 50, 60, 70])
    build(write, [PTR, PTR, PTR])(source, index, target)
    assert target[:8].tolist() == [90, 20, 5, 33, 20, 50, 60, 70]
    assert target[[90, 33, 50]].tolist() == [90, 33, 50]


@pytest.mark.parametrize("lanes", [1, 2, 4, 16, 32])
def test_reduce_adds_in_halves(lanes):
    def write(f, p, out):
        f.store(f.reduce(f.load(p, F32.with_lanes(lanes)), f.fadd), out)
        return const(0, I64)

    x, out = np.random.default_rng(0).normal(size=32).astype(np.float32), np.zeros(1, np.float32)
    build(write, [PTR, PTR])(x, out)
    want = x[:lanes]
    while len(want) > 1:
        want = want[: len(want) // 2] + want[len(want) // 2 :]
    assert out[0] == want[0]


def test_shuffles():
    def write(f, p, out):
        v = f.load(p, I32.with_lanes(8))
        low, high = f.half(v, high=False), f.half(v, high=True)
        mixed = f.join(high, low)
        mixed = f.insert(mixed, f.extract(v, 7), 0)
        f.store(f.add(mixed, f.splat(f.extract(v, 1), 8)), out)
        f.store(f.shuffle(v, mixed, [0, 8, 15, 7]), f.gep(out, 8, I32))
        return const(0, I64)

    x, out = np.arange(8, dtype=np.int32), np.zeros(12, np.int32)
    build(write, [PTR, PTR])(x, out)
    assert out.tolist() == [8, 6, 7, 8, 1, 2, 3, 4, 0, 7, 3, 7]


def test_nontemporal_stores_and_prefetch(cpu):
    module = Module()
    f = module.function("f", [("p", PTR)])
    f.prefetch(f.gep(f.params[0], 1024), write=True, locality=1)
    kind = F32.with_lanes(16 if cpu == "native" and host().has_avx512 else 8)
    f.store(const(1.0, kind), f.params[0], align=64, nontemporal=True)
    f.fence()
    f.ret()
    text = toolchain.assembly(str(module), host())
    assert "movntps" in text
    assert "prefetch" in text
    assert "sfence" in text


def test_internal_functions_and_tables():
    module = Module()
    table = module.table("squares", [k * k for k in range(10)], I64)
    inner = module.function("inner", [("k", I64)], result=I64, internal=True)
    inner.ret(inner.load(inner.gep(table, inner.params[0], I64), I64))
    f = module.function("run", [("k", I64)], result=I64)
    f.ret(f.add(f.call(inner, f.params[0]), f.call(inner, 3)))
    library = toolchain.load([toolchain.compile_object(str(module), host())], ["run"])
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address("run"))(7) == 49 + 9


def test_alloca_in_a_loop_is_made_once():
    def write(f, n):
        place = []

        def body(i, _):
            place.append(f.alloca(I64, 4))
            f.store(i, place[0])

        f.loop(0, n, 1, (), body)
        return f.load(place[0], I64)

    assert build(write, [I64])(100_000) == 99_999


def test_any():
    write = lambda f, p: f.select(f.any(f.icmp("sgt", f.load(p, I32.with_lanes(8)), 3)), const(1, I64), 0)  # noqa: E731
    run = build(write, [PTR])
    assert run(np.zeros(8, np.int32)) == 0
    assert run(np.array([0, 0, 0, 0, 0, 4, 0, 0], np.int32)) == 1


def test_types_of_dtypes():
    stored = " ".join(str(storage_type(d)) for d in dtypes.DTYPES)
    computed = " ".join(str(compute_type(d)) for d in dtypes.DTYPES)
    assert stored == "i8 i8 i16 i32 i64 i8 i16 i32 i64 half i16 float double"
    assert computed == "i1 i8 i16 i32 i64 i8 i16 i32 i64 float float float double"
    assert str(storage_type(dtypes.bool_, 16)) == "<16 x i8>"


def test_literals():
    assert str(const(0.1, F32)) == "float 0x3FB99999A0000000"
    assert str(const(1e300, F32)) == "float 0x7FF0000000000000"
    assert str(const(True, I1)) == "i1 true"
    assert str(const(-3, I8.with_lanes(4))) == "<4 x i8> splat (i8 -3)"
    assert str(vector([1, 2], I32)) == "<2 x i32> <i32 1, i32 2>"
    assert const(-3, I64).const_int == -3
    assert Value("%v1", I64).const_int is None
    assert VType("half", 8).mangled == "v8f16"


def test_mixed_types_are_refused():
    f = Module().function("f", [("x", I64), ("y", I32)])
    with pytest.raises(AssertionError, match="operands have types i64 and i32"):
        f.add(*f.params)
    with pytest.raises(AssertionError, match="defined twice"):
        f.module.function("f", [])
