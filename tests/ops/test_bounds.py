"""Indices that cannot be out of range are not checked; all others are, in loops as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle.core import IndexRangeError
from treadle.ir import Graph, Input, topological
from treadle.jit.checks import checks_of
from treadle.ops.bounds import bounds

TABLE = np.random.default_rng(0).standard_normal((5, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (lambda x, i: td.argmax(x, axis=1), (0, 4)),
        (lambda x, i: td.argmin(x, axis=0), (0, 3)),
        (lambda x, i: td.arange(7)[2:].reshape((5, 1)), (0, 6)),
        (lambda x, i: td.concat((td.argmax(x, axis=1), td.full((2,), -3))), (-3, 4)),
        (lambda x, i: td.where(i > 0, td.argmax(x, axis=1), 9), (0, 9)),
        (lambda x, i: td.max(td.argmax(x, axis=1)), (0, 4)),
        (lambda x, i: td.clip(i, 1, 2), (1, 2)),
        (lambda x, i: td.clip(i, 1), (1, 2**63 - 1)),
        (lambda x, i: td.argmax(x, axis=1) + 1, None),
        (lambda x, i: td.concat((td.argmax(x, axis=1), i)), None),
        (lambda x, i: i, None),
    ],
)
def test_bounds(value: Callable[[Any, Any], Any], wanted: Any) -> None:
    x, i = td.asarray(np.ones((4, 5), np.float32)) * 2, td.asarray(np.arange(4)) + 0
    found = value(x, i)
    assert bounds(found.node) == wanted
    if wanted is not None:
        assert wanted[0] <= found.numpy().min()
        assert found.numpy().max() <= wanted[1]


def greedy(symbol: Any) -> Any:
    """Return the symbols of a loop that looks each up and goes on with the likeliest."""

    def turn(symbol: Any, _: Any) -> Any:
        symbol = td.argmax(td.take(td.asarray(TABLE), symbol, axis=0), axis=-1)
        return symbol, symbol

    return td.scan(turn, symbol, length=6)[1]


def test_a_loop_that_reads_what_it_chose_is_not_run_twice() -> None:
    start = td.zeros((3,), dtype=td.int64)
    found = greedy(start)
    inputs = tuple(n for n in topological([found.node]) if isinstance(n.op, Input))
    assert checks_of(Graph(inputs, (found.node,))) is None
    symbol, wanted = 0, []
    for _ in range(6):
        symbol = int(TABLE[symbol].argmax())
        wanted.append([symbol] * 3)
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("first", [5, -6])
def test_a_first_symbol_out_of_range_is_an_error(first: int) -> None:
    with pytest.raises(IndexRangeError, match=f"index {first} is out of range"):
        td.compile(greedy)(np.array([0, first, 1]))


@pytest.mark.parametrize("turns", [4, 5])
def test_a_carry_that_grows_is_checked(turns: int) -> None:
    def turn(k: Any, _: Any) -> Any:
        return k + 1, td.take(td.asarray(TABLE), k, axis=0)

    run = td.compile(lambda: td.scan(turn, td.asarray(1), length=turns)[1])
    if turns == 4:
        assert run().shape == (4, 5)
    else:
        with pytest.raises(IndexRangeError, match="index 5 is out of range"):
            run()


def test_carries_that_are_handed_on_are_checked() -> None:
    """A carry's bounds also come from the others: here what is out of range arrives in the third turn."""

    def turn(carry: Any, _: Any) -> Any:
        a, b, c = carry
        return (b, c, c), td.take(td.asarray(TABLE), a, axis=0)

    def run(length: int) -> Any:
        return td.compile(lambda: td.scan(turn, (td.asarray(0), td.asarray(1), td.asarray(5)), length=length)[1])()

    assert run(2).shape == (2, 5)
    with pytest.raises(IndexRangeError, match="index 5 is out of range"):
        run(3)


def test_a_symbol_of_a_larger_table_is_checked() -> None:
    x = np.zeros((2, 9), np.float32)
    x[0, 7] = 1
    with pytest.raises(IndexRangeError, match="index 7 is out of range"):
        td.compile(lambda x: td.take(td.asarray(TABLE), td.argmax(x, axis=1), axis=0))(x)
