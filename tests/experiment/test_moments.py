"""Moments: from rows and sums, merged and combined, against sums in two passes and against mpmath."""

import math

import mpmath
import numpy as np
import pytest

from treadle.core import DataError, ShapeError
from treadle.experiment.moments import Moments, stack

ROWS = {"a": [1.0, 2, 4, 8, 16, 3], "b": [0.0, 1, 0, 1, 1, 0]}
GROUPS = [0, 1, 1, 0, 3, 1]


def two_passes(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and centred products with sums of full accuracy."""
    means = [math.fsum(x) / len(x) for x in columns]
    products = [
        [math.fsum((x - a) * (y - b)) for y, b in zip(columns, means, strict=True)]
        for x, a in zip(columns, means, strict=True)
    ]
    return np.array(means), np.array(products)


def sample(seed: int) -> dict[str, np.ndarray]:
    """Return one of 20 small sets: sizes 5 to 5,000, skewed, constant, nearly constant, far from zero."""
    rng = np.random.default_rng(seed)
    n = int(np.geomspace(5, 5000, 20)[seed])
    x = {
        0: lambda: rng.normal(3, 2, n),
        1: lambda: rng.lognormal(0, 2, n),
        2: lambda: np.full(n, 7.25),
        3: lambda: rng.normal(1e9, 1, n),
        4: lambda: rng.poisson(0.1, n).astype(float),
    }[seed % 5]()
    return {"y": x, "x": 0.5 * x + rng.normal(0, 1, n), "w": rng.integers(1, 5, n).astype(float)}


@pytest.mark.parametrize("seed", range(20))
def test_rows_agree_with_two_passes(seed: int) -> None:
    rows = sample(seed)
    made = Moments.from_rows(rows)
    mean, product = two_passes(*rows.values())
    np.testing.assert_allclose(made.mean, mean, rtol=1e-14)
    scale = np.sqrt(np.outer(np.diag(product), np.diag(product)))
    np.testing.assert_allclose(made.product, product, rtol=1e-9, atol=1e-12 * scale.max())


@pytest.mark.parametrize("seed", range(20))
def test_cells_merge_into_their_whole(seed: int) -> None:
    rows = sample(seed)
    whole = Moments.from_rows(rows)
    n = int(whole.count)
    cells = Moments.from_rows(rows, np.random.default_rng(seed).integers(0, 12, n), (3, 4))
    for merged in (cells.merge(), cells.merge(0).merge(0), cells.merge(-1).merge(), cells.merge((0, 1))):
        assert merged.shape == ()
        assert merged.count == n
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-14)
        np.testing.assert_allclose(merged.product, whole.product, rtol=1e-9, atol=1e-12 * whole.product.max())


def test_a_far_mean_keeps_its_digits() -> None:
    x = np.random.default_rng(1).normal(1e9, 1, 999)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(v)) for v in x]
        middle = sum(exact) / len(exact)
        variance = float(sum((v - middle) ** 2 for v in exact) / (len(exact) - 1))
    cells = Moments.from_rows({"x": x}, np.arange(999) % 7, 7)
    assert Moments.from_rows({"x": x}).covariance()[0, 0] == pytest.approx(variance, rel=1e-12)
    assert cells.merge().covariance()[0, 0] == pytest.approx(variance, rel=1e-12)
    assert cells.combine(np.ones(7)).covariance()[0, 0] == pytest.approx(variance, rel=1e-12)
    shifted = x - 1e9
    sums = Moments.from_sums(["x"], 999, [shifted.sum()], [[(shifted**2).sum()]], shift=[1e9])
    assert sums.covariance()[0, 0] == pytest.approx(variance, rel=1e-12)
    assert sums.mean[0] == pytest.approx(float(middle), rel=1e-15)


def test_sums_with_one_triangle_and_leading_axes() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 50, 2))
    total = x.sum(2)
    products = np.einsum("abni,abnj->abij", x, x)
    products[..., 0, 1] = np.nan
    made = Moments.from_sums(["u", "v"], np.full((2, 3), 50.0), total, products)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(made[i, j].covariance(), np.cov(x[i, j].T), rtol=1e-12)
    assert made[:, 1].shape == (2,)
    np.testing.assert_array_equal(made.select(["v"]).mean[..., 0], made.mean[..., 1])


def test_combinations_are_merged_subsets() -> None:
    rng = np.random.default_rng(3)
    cells = Moments.from_rows({"y": rng.lognormal(size=400), "x": rng.normal(size=400)}, rng.integers(0, 10, 400), 10)
    choice = rng.integers(0, 2, (6, 10))
    made = cells.combine(choice)
    for i, row in enumerate(choice.astype(bool)):
        part = cells[row].merge()
        assert made.count[i] == part.count
        np.testing.assert_allclose(made.mean[i], part.mean, rtol=1e-13)
        np.testing.assert_allclose(made.product[i], part.product, rtol=1e-12)


def test_units_without_events_are_zeros() -> None:
    x = np.array([3.0, 5, 4])
    made = Moments.from_rows({"x": x}).with_zeros(7)
    assert made.count == 10
    full = np.concatenate([x, np.zeros(7)])
    assert made.mean[0] == pytest.approx(full.mean())
    assert made.covariance()[0, 0] == pytest.approx(full.var(ddof=1))


def test_a_constant_column_stays_constant() -> None:
    x, n = np.full(1000, 0.1), 1000
    sums = Moments.from_sums(["x", "y"], n, [x.sum(), 7.0], [[(x * x).sum(), 0.7], [0.7, 50]])
    assert sums.product[0, 0] == sums.product[0, 1] == 0
    assert sums.product[1, 1] > 0
    cells = Moments.from_rows({"x": [0.1, 0.1, 0.1, 0.7, 0.9]}, [0, 0, 1, 2, 2], 3)
    assert cells.combine([[1, 1, 0], [1, 1, 1]]).product[:, 0, 0] == pytest.approx([0, 0.608], rel=1e-12, abs=0)


def test_empty_cells_say_nothing() -> None:
    made = Moments.from_rows(ROWS, GROUPS, 5)
    np.testing.assert_array_equal(made.count, [2, 3, 0, 1, 0])
    assert np.isnan(made.covariance()[2]).all()
    assert np.isnan(made.covariance()[3]).all()  # one unit has no variance
    assert made[np.array([2, 4])].merge().count == 0
    np.testing.assert_allclose(made.merge().mean, [34 / 6, 0.5])


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: Moments.from_rows({"a": [1.0, math.nan, 3], "b": [1.0, 2, 3]}),
            DataError,
            "a is null or infinite in 1 of 3 rows, first in row 1",
        ),
        (lambda: Moments.from_rows({"a": [1.0, math.inf]}), DataError, "a is null or infinite in 1 of 2 rows"),
        (lambda: Moments.from_rows({"a": [1.0], "b": [1.0, 2]}), ShapeError, r"b has shape \(2,\)"),
        (lambda: Moments.from_rows(ROWS, GROUPS, 3), DataError, "groups run from 0 to 3; the table has cells 0 to 2"),
        (lambda: Moments.from_rows(ROWS, [0.0] * 6, 3), ShapeError, "give an integer for each of the 6 rows"),
        (
            lambda: Moments.from_sums(["a"], -3, [1.0], [[1.0]]),
            DataError,
            "1 counts are negative or not finite, such as -3",
        ),
        (lambda: Moments.from_sums(["a"], 3, [10.0], [[1.0]]), DataError, "the sum of squares of a is less than"),
        (lambda: Moments.from_sums(["a", "a"], 3, [1.0, 1], np.eye(2)), DataError, "named twice"),
        (
            lambda: Moments(("a",), np.ones(2), np.ones(2), np.ones((2, 1, 1)), np.ones(2)),
            ShapeError,
            "do not belong together",
        ),
        (
            lambda: Moments(("a",), np.ones(1), np.full((1, 1), np.nan), np.ones((1, 1, 1)), np.zeros((1, 1))),
            DataError,
            "NaN or infinity in a",
        ),
        (lambda: Moments.from_rows(ROWS).select(["c"]), DataError, "no column 'c'; there are a, b"),
        (lambda: Moments.from_rows(ROWS)[0], ShapeError, "1 indices into 0 leading axes"),
        (lambda: Moments.from_rows(ROWS).combine([1.0]), ShapeError, "give one axis of cells"),
        (lambda: stack([Moments.from_rows(ROWS), Moments.from_rows({"a": [1.0]})]), DataError, "the same columns"),
    ],
)
def test_what_cannot_be_is_an_error(make: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
