"""Quotients, remainders and powers at zeros, infinities and the ends of the range: the standard's and IEEE 754's."""

import math

import numpy as np
import pytest

import treadle as td
from treadle.ops import FloorDivide, Remainder
from treadle.te import run

INF, NAN = math.inf, math.nan
# The array API standard's special cases: x, y, floor_divide(x, y), remainder(x, y).
QUOTIENTS = [
    (INF, INF, NAN, NAN), (-INF, INF, NAN, NAN), (NAN, 1, NAN, NAN), (1, NAN, NAN, NAN), (0.0, -0.0, NAN, NAN),
    (0.0, 2, 0.0, 0.0), (-0.0, 2, -0.0, 0.0), (0.0, -2, -0.0, -0.0), (-0.0, -2, 0.0, -0.0),
    (3, 0.0, INF, NAN), (3, -0.0, -INF, NAN), (-3, 0.0, -INF, NAN), (-3, -0.0, INF, NAN),
    (INF, 2, INF, NAN), (INF, -2, -INF, NAN), (-INF, 2, -INF, NAN), (-INF, -2, INF, NAN),
    (INF, 0.0, INF, NAN), (INF, -0.0, -INF, NAN), (0.0, INF, 0.0, 0.0), (0.0, -INF, -0.0, -0.0),
    (3, INF, 0.0, 3), (3, -INF, -0.0, -INF), (-3, INF, -0.0, INF), (-3, -INF, 0.0, -3),
    (7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -3, -2, -0.0), (-6, 3, -2, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_quotients_and_remainders_are_those_of_the_standard(dtype: str) -> None:
    numbers = [np.array(column, np.float64) for column in zip(*QUOTIENTS, strict=True)]
    x, y = (td.asarray(n, dtype=getattr(td, dtype)) for n in numbers[:2])
    for op, got, want in ((FloorDivide(), x // y, numbers[2]), (Remainder(), x % y, numbers[3])):
        operands = [x.numpy(), y.numpy()]
        meanings = (got.numpy(), op.eval(*operands), run(op.lower(x.node.type, y.node.type), operands))
        for have in (m.astype(np.float64) for m in meanings):
            np.testing.assert_array_equal(have, want)
            known = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(have[known]), np.signbit(want[known]))


def test_the_gradient_of_an_infinite_remainder() -> None:
    x, y = td.asarray([-1.0, 1.0, 1.0, -7.0]), td.asarray([INF, -INF, INF, 2.0])
    _, pull = td.vjp(lambda a, b: a % b, x, y)
    dx, dy = pull(td.ones((4,)))
    assert dx.tolist() == [1, 1, 1, 1]
    assert dy.tolist() == [1, 1, 0, 4]


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, -2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_with_an_exponent_of_their_own_formula(exponent: float, dtype: str) -> None:
    """They round twice at most, and special values are those of IEEE 754's pow."""
    number = np.dtype(dtype).type
    tiny, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    special = [0.0, -0.0, INF, -INF, NAN, 1, -1, tiny, -tiny, largest, -largest, np.finfo(dtype).tiny, -2.5]
    rng = np.random.default_rng(3)
    sizes = rng.uniform(np.log(number(tiny)), np.log(largest), 2000)
    near = np.finfo(dtype).maxexp / exponent + rng.uniform(-1, 1, 500) * 3  # where results over- or underflow
    with np.errstate(all="ignore"):
        ends = [np.exp2(near), np.exp2(-near)]
        x = np.concatenate([special, np.exp(sizes), -np.exp(sizes), *ends, rng.uniform(-2, 2, 2000)])
        x = x.astype(dtype)
        want = np.power(x.astype(np.longdouble), np.longdouble(exponent))
        rounded = want.astype(dtype)
    a = td.asarray(x)
    for got in ((a**exponent).numpy(), td.compile(lambda v: v**exponent)(a).numpy()):
        usual = np.isfinite(rounded) & np.isfinite(got)
        unit = np.spacing(np.abs(rounded[usual]))
        assert (np.abs(got[usual] - want[usual]) / unit).max() <= 1.5
        np.testing.assert_array_equal(got[:5], rounded[:5])
        other = ~usual  # only at the very edge may one be infinite and the other the largest number
        edge = np.isinf(got[other]) != np.isinf(rounded[other])
        assert (np.maximum(np.abs(got[other]), np.abs(rounded[other]))[edge] == INF).all()
        assert edge.mean() < 0.01
        known = ~np.isnan(got)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(rounded))
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(rounded[known]))


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -0.5, -1, -2, -3, 4])
def test_gradients_of_powers_are_pytorchs_at_special_values(exponent: float) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([0.0, INF, NAN, 1, -1, 2.5, -2.5, 1e-30, -1e-30, 1e30], np.float64)
    theirs = torch.tensor(x, requires_grad=True)
    (theirs**exponent).sum().backward()
    np.testing.assert_allclose(td.grad(lambda v: td.sum(v**exponent))(td.asarray(x)).numpy(), theirs.grad, rtol=1e-14)
