"""Kernels of running folds and recurrences against NumPy: along rows, down columns, both ways."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import gradients
from tests.ops.compiled import compiled
from treadle.core import DTYPES, DType, DTypeError, ShapeError, Type, bool_, float32, int64
from treadle.ops import Cumulative, LinearScan

Array = np.ndarray[Any, Any]
NUMBERS = [d for d in DTYPES if d is not bool_]
FLOATS = [d for d in DTYPES if d.is_float]
# One step, less than a vector, whole vectors, vectors and a rest; columns likewise.
SHAPES = [(3, 1), (2, 5), (2, 16), (3, 37), (3, 9, 20), (2, 4, 64), (2, 3, 150), (0, 3), (3, 0)]


def numbers(dtype: DType, shape: tuple[int, ...], seed: int = 0) -> Array:
    low = 0 if dtype.kind == "uint" else -2
    return np.random.default_rng(seed).integers(low, 3, shape).astype(dtype.numpy)


def close(got: Array, want: Array, tolerance: float = 4.0) -> None:
    assert got.dtype == want.dtype
    eps = float(ml_dtypes.finfo(want.dtype).eps) * tolerance if want.dtype.kind not in "iu" else 0.0
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=eps, atol=eps)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", NUMBERS, ids=repr)
def test_the_kernel_is_the_reference(dtype: DType, combine: str, reverse: bool) -> None:
    for shape in SHAPES if dtype in (float32, int64) else SHAPES[1:5:3]:
        for axis in range(len(shape)):
            op, x = Cumulative(axis, combine, reverse), numbers(dtype, shape)
            close(compiled(op, [x])[0], op.eval(x))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=repr)
def test_logarithms_and_recurrences(dtype: DType, reverse: bool) -> None:
    for shape in SHAPES:
        for axis in range(len(shape)):
            a, b = (numbers(dtype, shape, seed) for seed in (0, 1))
            close(
                compiled(Cumulative(axis, "logaddexp", reverse), [a])[0],
                Cumulative(axis, "logaddexp", reverse).eval(a),
                8,
            )
            op, half = LinearScan(axis, reverse), (a / 4).astype(dtype.numpy)
            close(compiled(op, [half, b])[0], op.eval(half, b), 16)


@pytest.mark.parametrize(
    "op", [Cumulative(1, c, r) for c in ("sum", "prod", "logaddexp", "max") for r in (False, True)], ids=str
)
def test_the_gradient_is_that_of_finite_differences(op: Cumulative) -> None:
    rng = np.random.default_rng(0)
    x, ct = rng.standard_normal((2, 5)), rng.standard_normal((2, 5))
    (got,) = gradients(op, [x], ct)
    _near_differences(lambda x: float((op.eval(x) * ct).sum()), x, got)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_of_a_recurrence(reverse: bool) -> None:
    rng = np.random.default_rng(0)
    a, b, ct = (rng.standard_normal((4, 3)) for _ in range(3))
    op = LinearScan(0, reverse)
    from_a, from_b = gradients(op, [a, b], ct)
    _near_differences(lambda a: float((op.eval(a, b) * ct).sum()), a, from_a)
    _near_differences(lambda b: float((op.eval(a, b) * ct).sum()), b, from_b)


def _near_differences(f: Any, x: Array, got: Array | None) -> None:
    assert got is not None
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-6
        np.testing.assert_allclose(got[at], (f(x + step) - f(x - step)) / 2e-6, rtol=1e-6, atol=1e-8)


def test_errors() -> None:
    x = Type(float32, (3, 4))
    with pytest.raises(
        DTypeError, match=r"cumulative: cannot fold by 'mean'\. Allowed: sum, prod, max, min, logaddexp"
    ):
        Cumulative(0, "mean").infer(x)
    with pytest.raises(ShapeError, match="cumulative: axes"):
        Cumulative(2, "sum").infer(x)
    with pytest.raises(DTypeError, match="cumulative: does not take int64"):
        Cumulative(0, "logaddexp").infer(Type(int64, (3,)))
    with pytest.raises(ShapeError, match=r"linear_scan: .* have different shapes"):
        LinearScan(0).infer(x, Type(float32, (3,)))
