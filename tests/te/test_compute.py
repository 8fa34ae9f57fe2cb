"""Formulas and their interpreter: reductions and their identities, scalar functions, substitution, text of nests."""

from __future__ import annotations

import numpy as np
import pytest

from treadle.core import DTYPES, DType, DTypeError, Type, bool_, float32, float64, int32, int64, uint8
from treadle.te import (
    COMBINES,
    SCALARS,
    Alloc,
    Buffer,
    Comment,
    Compute,
    Fetch,
    For,
    Nest,
    Reduce,
    Store,
    Var,
    add,
    broadcast_load,
    compute,
    convert,
    cost,
    flatten_index,
    fn,
    identity_of,
    index,
    literal,
    load,
    run,
    scale,
    select,
    substitute_value,
)


def test_a_matrix_product_is_a_formula() -> None:
    a, b = np.random.normal(size=(3, 4)), np.random.normal(size=(4, 5))
    at, bt = Type(float64, (3, 4)), Type(float64, (4, 5))
    formula = compute((3, 5), lambda i, j, k: fn("mul", load(0, at, i, k), load(1, bt, k, j)), over=(4,))
    np.testing.assert_allclose(run(formula, [a, b]), a @ b, rtol=1e-14)


@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "bool"], ids=str)
def test_an_identity_changes_nothing(combine: str, dtype: DType) -> None:
    values = np.array([3, 0, 1, 7], dtype.numpy)
    identity = np.asarray(identity_of(combine, dtype).op.value, dtype.numpy)
    joined = SCALARS[COMBINES[combine].scalar].numpy(values, identity)
    np.testing.assert_array_equal(joined, values)


@pytest.mark.parametrize(("combine", "expected"), [("any", [True, False, True]), ("all", [False, False, True])])
def test_bools_fold(combine: str, expected: list[bool]) -> None:
    x = np.array([[True, False], [False, False], [True, True]])
    formula = compute((3,), lambda i, r: load(0, Type(bool_, (3, 2)), i, r), over=(2,), combine=combine)
    assert run(formula, [x]).tolist() == expected


@pytest.mark.parametrize(("combine", "nothing"), [("sum", 0.0), ("prod", 1.0), ("max", -np.inf), ("min", np.inf)])
def test_a_fold_of_nothing_is_the_identity(combine: str, nothing: float) -> None:
    formula = compute((2,), lambda i, r: load(0, Type(float32, (2, 0)), i, r), over=(0,), combine=combine)
    np.testing.assert_array_equal(run(formula, [np.zeros((2, 0), np.float32)]), [nothing, nothing])


def test_a_formula_that_reads_outside_is_an_error_of_ours() -> None:
    formula = compute((4,), lambda i: load(0, Type(float32, (4,)), add(i, 1)))
    with pytest.raises(AssertionError, match="reads outside"):
        run(formula, [np.zeros(4, np.float32)])


def test_broadcast_load_reads_the_only_element() -> None:
    x = np.arange(3.0).reshape(3, 1)
    formula = compute((2, 3, 4), lambda *i: broadcast_load(0, Type(float64, (3, 1)), i))
    np.testing.assert_array_equal(run(formula, [x]), np.broadcast_to(x, (2, 3, 4)))


def test_a_formula_can_be_moved_to_other_indices() -> None:
    of = Type(float64, (12,))
    formula = compute((12,), lambda i: fn("mul", load(0, of, i), literal(2.0, float64)))
    a, b = Var("a", 3)(), Var("b", 4)()
    moved = Compute((a, b), formula.at([flatten_index((a, b), (3, 4))]))
    np.testing.assert_array_equal(run(moved, [np.arange(12.0)]), 2 * np.arange(12.0).reshape(3, 4))


def test_substitution_simplifies_indices_inside_loads() -> None:
    i, o, r = Var("i", 40)(), Var("o", 10)(), Var("r", 4)()
    value = load(0, Type(float32, (40,)), add(scale(i, 2), -2 * 0))
    moved = substitute_value(value, {i: add(scale(o, 4), r)})
    assert moved is load(0, Type(float32, (40,)), add(scale(o, 8), scale(r, 2)))


@pytest.mark.parametrize("name", SCALARS)
def test_scalar_functions_say_their_dtype(name: str) -> None:
    scalar = SCALARS[name]
    bits = name in ("and", "or", "xor", "not", "shl", "shr")
    dtype = int32 if bits else float64
    node = fn(name, *[literal(1, dtype)] * scalar.arity)
    assert node.dtype is (bool_ if scalar.result == "bool" else dtype)
    value = run(Compute((), node), [])
    assert value.dtype == node.dtype.numpy
    assert scalar.cost >= 1
    with pytest.raises(DTypeError, match="scalars of one dtype"):
        fn(name, *[literal(1, dtype)] * (scalar.arity + 1))


def test_integer_division_by_zero_gives_zero() -> None:
    of = Type(int32, (4,))
    x, y = np.array([7, -7, 0, 5], np.int32), np.array([0, 2, 0, -2], np.int32)
    for name, expected in (("floor_div", [0, -4, 0, -3]), ("mod", [0, 1, 0, -1])):
        formula = compute((4,), lambda i, name=name: fn(name, load(0, of, i), load(1, of, i)))
        assert run(formula, [x, y]).tolist() == expected


def test_shifts_beyond_the_width() -> None:
    of = Type(int32, (5,))
    x, y = np.array([1, -8, -8, 5, -5], np.int32), np.array([31, 1, 99, 32, -1], np.int32)
    left = compute((5,), lambda i: fn("shl", load(0, of, i), load(1, of, i)))
    right = compute((5,), lambda i: fn("shr", load(0, of, i), load(1, of, i)))
    assert run(left, [x, y]).tolist() == [-(1 << 31), -16, 0, 0, 0]
    assert run(right, [x, y]).tolist() == [0, -4, -1, 0, -1]


def test_cost_counts_shared_parts_once() -> None:
    x = load(0, Type(float32))
    e = fn("exp", x)
    assert cost(fn("add", e, e)) == SCALARS["exp"].cost + 1
    assert cost(select(fn("lt", x, e), x, convert(literal(1, uint8), float32))) == SCALARS["exp"].cost + 3


def test_conversion_to_the_same_dtype_is_nothing() -> None:
    x = literal(1, int64)
    assert convert(x, int64) is x
    with pytest.raises(DTypeError, match="select: takes a bool"):
        select(x, x, x)


def test_a_nest_prints_as_loops() -> None:
    x, out = Buffer("x", float32, 12, "arg", 0), Buffer("out", float32, 3, "arg", 1)
    total = Buffer("total", float32, 1, "register")
    i, j = Var("i", 3)(), Var("j", 4)()
    at = flatten_index((i, j), (3, 4))
    inner = For(j, index(0), index(4), (Reduce(total, "sum", Fetch(x)(at)),), "vector", 8)
    body = (
        Comment("one row"),
        Alloc(total, literal(0, float32)),
        inner,
        Store(out, i, fn("sqrt", Fetch(total)())),
    )
    nest = Nest("norm", (x, out), (For(i, index(0), index(3), body, "parallel"),))
    assert str(nest) == (
        "nest norm(x: f32[12], out: f32[3]):\n"
        "  for parallel i in 0..3:\n"
        "    # one row\n"
        "    register total: f32 = 0.0\n"
        "    for vector(8) j in 0..4:\n"
        "      total = sum(total, x[(4*i + j)])\n"
        "    out[i] = sqrt(total)"
    )
