"""Values that must fulfil a condition: checked at once where they are known, else before a compiled function runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import Type, bool_, float32
from treadle.ops import Require
from treadle.tensor.require import require


def positive(x: Any) -> Any:
    return require(x, x > 0, "log: got {value}, not above 0.")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("wrong", "shown"), [(-2.0, "-2.0"), (0.0, "0.0"), (np.nan, "nan"), (-np.inf, "-inf"), (-0.3, "-0.3")]
)
def test_a_wrong_value_is_shown(compiled: bool, wrong: float, shown: str) -> None:
    run = td.compile(lambda x: td.log(positive(x))) if compiled else lambda x: td.log(positive(td.asarray(x)))
    x = np.array([1.0, 2.0, 3.0], np.float32)
    np.testing.assert_allclose(run(x).numpy(), np.log(x), rtol=1e-6)
    x[1] = wrong
    with pytest.raises(td.DataError, match=rf"^log: got {shown}, not above 0\."):
        run(x)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "bfloat16", "float64"])
def test_every_kind_of_number(dtype: str) -> None:
    run = td.compile(lambda x: require(x, x != 3, "{value} is no good"))
    assert run(td.asarray([1, 2]).astype(dtype)).dtype.name == dtype
    with pytest.raises(td.DataError, match=r"^3(\.0)? is no good"):
        run(td.asarray([1, 3]).astype(dtype))


def test_nothing_is_good() -> None:
    run = td.compile(lambda x: require(x, x < 0, "{value}"))
    assert run(np.ones((0,))).shape == (0,)


def test_gradients_pass() -> None:
    run = td.compile(td.grad(lambda y: (positive(y) ** 2).sum()))
    np.testing.assert_array_equal(run(np.array([1.0, 2.0], np.float32)).numpy(), [2, 4])


def test_in_a_loop_every_turn_is_looked_at() -> None:
    @td.compile
    def run(xs: Any) -> Any:
        return td.scan(lambda carry, x: (carry + positive(x), None), td.zeros(()), xs)[0]

    assert float(run(np.array([1.0, 2.0], np.float32))) == 3
    with pytest.raises(td.DataError, match=r"got -1\.0"):
        run(np.array([1.0, -1.0, 2.0], np.float32))


def test_what_a_model_computes_is_not_computed_twice() -> None:
    layer = nn.Linear(2, 2)
    run = td.compile(lambda x: positive(layer(x)))
    run(-np.ones((1, 2), np.float32))


def test_the_class_of_the_error() -> None:
    with pytest.raises(td.IndexRangeError, match="class 7"):
        td.compile(lambda x: require(x, x < 5, "class {value}", td.IndexRangeError))(np.array([7]))


def test_the_op_is_its_operand() -> None:
    op = Require("m", "DataError")
    x = Type(float32, (2,))
    assert op.infer(x, Type(bool_, (2,))) == x
    np.testing.assert_array_equal(op.eval(np.ones(2), np.zeros(2, bool)), 1)
    with pytest.raises(td.ShapeError, match="does not say where"):
        op.infer(x, Type(bool_, (3,)))
