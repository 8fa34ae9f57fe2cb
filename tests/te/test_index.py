"""Index arithmetic against plain integers: every simplification gives the same numbers, within the stated bounds."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core import Type, int64
from treadle.ir import Node
from treadle.te import (
    FloorDiv,
    Load,
    Mod,
    Var,
    add,
    affine,
    bounds,
    coefficients,
    evaluate,
    flatten_index,
    floordiv,
    fn,
    index,
    literal,
    mod,
    scale,
    substitute_index,
    unflatten_index,
    variables,
)

EXTENTS = (1, 2, 3, 4, 6, 8)
VARS = tuple(Var(f"v{n}", n)() for n in EXTENTS)
GRID = dict(zip(VARS, np.meshgrid(*[np.arange(n) for n in EXTENTS], indexing="ij", sparse=True), strict=True))


@dataclass(frozen=True)
class Built:
    """An index as the library simplified it, and its values computed step by step."""

    node: Node
    values: np.ndarray
    text: str

    def __repr__(self) -> str:
        return self.text


def leaf(v: Node) -> Built:
    return Built(v, GRID[v], v.op.var)


def combined(children: st.SearchStrategy[Built]) -> st.SearchStrategy[Built]:
    factors = st.sampled_from([-12, -3, -1, 0, 1, 2, 3, 4, 6, 8, 24])
    divisors = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24, 48])
    return st.one_of(
        st.builds(lambda a, b: Built(add(a.node, b.node), a.values + b.values, f"({a} + {b})"), children, children),
        st.builds(lambda a, k: Built(add(a.node, k), a.values + k, f"({a} + {k})"), children, st.integers(-50, 50)),
        st.builds(lambda a, k: Built(scale(a.node, k), a.values * k, f"{k} * {a}"), children, factors),
        st.builds(lambda a, k: Built(floordiv(a.node, k), a.values // k, f"({a} // {k})"), children, divisors),
        st.builds(lambda a, k: Built(mod(a.node, k), a.values % k, f"({a} % {k})"), children, divisors),
    )


INDICES = st.recursive(st.sampled_from(VARS).map(leaf), combined, max_leaves=7)


def numbers(node: Node) -> np.ndarray:
    return np.asarray(evaluate(node, GRID, []))


@given(INDICES)
def test_simplified_indices_have_the_same_values(built: Built) -> None:
    np.testing.assert_array_equal(*np.broadcast_arrays(numbers(built.node), built.values))


@given(INDICES)
def test_bounds_hold(built: Built) -> None:
    low, high = bounds(built.node)
    assert low <= built.values.min()
    assert built.values.max() <= high


@given(INDICES, st.sampled_from(VARS), INDICES)
def test_substitution_is_that_of_values(built: Built, variable: Node, by: Built) -> None:
    """Where the replacement stays within the variable's range, which is what the simplifications relied on."""
    low, high = bounds(by.node)
    if low < 0 or high >= variable.op.extent:
        return
    replaced = substitute_index(built.node, {variable: by.node})
    given_ = dict(GRID)
    given_[variable] = by.values
    np.testing.assert_array_equal(*np.broadcast_arrays(numbers(replaced), evaluate(built.node, given_, [])))


@given(INDICES, INDICES, INDICES)
def test_sums_are_canonical(a: Built, b: Built, c: Built) -> None:
    assert add(a.node, b.node) is add(b.node, a.node)
    assert add(add(a.node, b.node), c.node) is add(a.node, add(b.node, c.node))
    assert add(a.node, scale(a.node, -1)) is index(0)
    assert scale(add(a.node, b.node), 6) is add(scale(a.node, 6), scale(b.node, 6))


SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=4).map(tuple)


@given(SHAPES)
def test_unflatten_undoes_flatten(shape: tuple[int, ...]) -> None:
    position = tuple(Var(f"i{k}", n)() if n > 1 else index(0) for k, n in enumerate(shape))
    assert unflatten_index(flatten_index(position, shape), shape) == position


@given(SHAPES)
def test_flatten_undoes_unflatten(shape: tuple[int, ...]) -> None:
    p = Var("p", max(math.prod(shape), 1))()
    whole = flatten_index(unflatten_index(p, shape), shape)
    assert whole is (p if math.prod(shape) > 1 else index(0))


@given(SHAPES.filter(bool))
def test_unflatten_is_numpy_s(shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    p = Var("p", size)()
    expected = np.unravel_index(np.arange(size), shape)
    for node, values in zip(unflatten_index(p, shape), expected, strict=True):
        actual = np.broadcast_to(evaluate(node, {p: np.arange(size)}, []), (size,))
        np.testing.assert_array_equal(actual, values)


def factorings(n: int, parts: int) -> list[tuple[int, ...]]:
    return [f for f in itertools.product(range(1, n + 1), repeat=parts) if math.prod(f) == n]


@pytest.mark.parametrize("source", factorings(12, 3))
@pytest.mark.parametrize("target", factorings(12, 2))
def test_reshape_indices_are_numpy_s(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    loops = tuple(Var(f"i{k}", n)() for k, n in enumerate(target))
    grids = dict(zip(loops, np.meshgrid(*[np.arange(n) for n in target], indexing="ij"), strict=True))
    x = np.arange(12).reshape(source)
    read = unflatten_index(flatten_index(loops, target), source)
    at = tuple(np.broadcast_to(evaluate(n, grids, []), target) for n in read)
    np.testing.assert_array_equal(x[at], x.reshape(target))


def test_a_split_loop_needs_no_division() -> None:
    outer, inner = Var("o", 10)(), Var("r", 384)()
    position = add(scale(outer, 384), inner)
    assert floordiv(position, 384) is outer
    assert mod(position, 384) is inner
    assert floordiv(position, 64) is add(scale(outer, 6), floordiv(inner, 64))
    assert mod(position, 128) is mod(inner, 128)


def test_joined_parts_are_the_whole() -> None:
    p = Var("p", 1000)()
    assert add(scale(floordiv(p, 7), 7), mod(p, 7)) is p
    assert add(scale(mod(floordiv(p, 4), 5), 4), mod(p, 4)) is mod(p, 20)
    assert isinstance(floordiv(p, 7).op, FloorDiv)
    assert isinstance(mod(p, 7).op, Mod)


def test_an_index_from_data_has_no_useful_bounds_but_a_clamped_one_does() -> None:
    i = Var("i", 5)()
    given_ = Load(0, Type(int64, (5,)))(i)
    low, high = bounds(given_)
    assert low <= -(1 << 62)
    assert high >= 1 << 62
    clamped = fn("max", fn("min", given_, literal(9, int64)), literal(0, int64))
    assert bounds(clamped) == (0, 9)
    assert mod(clamped, 10) is clamped


def test_coefficients() -> None:
    a, b, c = (Var(n, 4)() for n in "abc")
    assert coefficients(add(scale(a, 3), b, 5), (b, a)) == ((1, 3), 5)
    assert coefficients(index(7), (a,)) == ((0,), 7)
    assert coefficients(add(a, c), (a, b)) is None
    assert coefficients(floordiv(a, 2), (a,)) is None
    assert variables(add(scale(a, 3), floordiv(c, 2))) == {a, c}
    assert affine({a: 0}, 3) is index(3)
