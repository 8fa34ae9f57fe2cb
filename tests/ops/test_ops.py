"""The meanings of every op agree: types with values, formula with values, gradient with finite differences."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.apply import Array, expanded, gradients, lowered, types_of
from tests.ops.cases import CASES, ELSEWHERE, Case, special_values
from tests.ops.compiled import compiled
from treadle.core import DType, Type, bfloat16, bool_, float32, float64, int64, uint8
from treadle.ir import Op, inputs_for
from treadle.ops import Cast
from treadle.ops.base import Composite, Elementwise, TensorOp

BY_DTYPE = [pytest.param(case, dtype, id=f"{case}-{dtype!r}") for case in CASES for dtype in case.dtypes()]
SMOOTH = [pytest.param(case, id=str(case)) for case in CASES if float64 in case.dtypes()]
# One dtype of each kind and width of code; the others belong to the slow tests.
MAIN = {bool_, uint8, int64, bfloat16, float32}
ELEMENTWISE = [p for p in BY_DTYPE if isinstance(p.values[0].op, Elementwise)]
BY_MAIN_DTYPE = [
    pytest.param(*p.values, id=p.id, marks=[] if p.values[1] in MAIN else pytest.mark.slow) for p in ELEMENTWISE
]


def values(op: TensorOp, *arrays: Array) -> tuple[Array, ...]:
    """Return the results by the reference meaning."""
    result = op.eval(*arrays)
    return result if isinstance(result, tuple) else (result,)


def inferred(op: TensorOp, *arrays: Array) -> tuple[Type, ...]:
    result = op.infer(*types_of(arrays))
    return result if isinstance(result, tuple) else (result,)


def formulas(op: TensorOp, *arrays: Array) -> list[Array]:
    """Return the results by what kernels are made from."""
    return expanded(op, *arrays) if isinstance(op, Composite) else [lowered(op, *arrays)]


def epsilon(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps) if dtype.kind not in "biu" else 0.0


def close(actual: Array, expected: Array, tolerance: float = 1.0) -> None:
    """Hold two results against each other: equal, or within `tolerance` times 8 units in the last place."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    eps = epsilon(expected.dtype) * 8 * tolerance
    if not eps:
        np.testing.assert_array_equal(actual, expected)
        return
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=eps, atol=eps)


@pytest.mark.parametrize(("case", "dtype"), BY_DTYPE)
def test_infer_says_what_eval_returns(case: Case, dtype: DType) -> None:
    arrays = case.arguments(dtype)
    assert tuple(types_of(values(case.op, *arrays))) == inferred(case.op, *arrays)


@pytest.mark.parametrize(("case", "dtype"), BY_DTYPE)
def test_the_formula_is_the_reference(case: Case, dtype: DType) -> None:
    arrays = case.arguments(dtype)
    for actual, expected in zip(formulas(case.op, *arrays), values(case.op, *arrays), strict=True):
        close(actual, expected, case.tolerance)


@pytest.mark.parametrize(("case", "dtype"), BY_DTYPE)
def test_the_kernel_is_the_reference(case: Case, dtype: DType) -> None:
    arrays = case.arguments(dtype)
    for actual, expected in zip(compiled(case.op, arrays), values(case.op, *arrays), strict=True):
        close(actual, expected, case.tolerance)


def on_special_values(case: Case, dtype: DType) -> tuple[list[Array], Array]:
    """Return every combination of special values (for three operands, of the first's), and the reference result."""
    given = [special_values(o.dtype or dtype) for o in case.operands]
    arrays = [g.ravel() for g in np.meshgrid(*(given[:2] if len(given) > 2 else given), indexing="ij")]
    arrays += [g[:1] for g in given[2:]]
    if isinstance(case.op, Cast) and dtype.is_float and case.op.dtype.is_integer:
        wide = arrays[0].astype(np.float64)
        arrays = [arrays[0][(wide > -1) & (wide < 100)]]  # what does not fit is unspecified
    return arrays, values(case.op, *arrays)[0]


@pytest.mark.parametrize(("case", "dtype"), ELEMENTWISE)
def test_formulas_on_special_values(case: Case, dtype: DType) -> None:
    arrays, expected = on_special_values(case, dtype)
    same(lowered(case.op, *arrays), expected, zeros=case.op.name not in EITHER_ZERO, times=case.tolerance)


@pytest.mark.parametrize(("case", "dtype"), BY_MAIN_DTYPE)
def test_kernels_on_special_values(case: Case, dtype: DType) -> None:
    arrays, expected = on_special_values(case, dtype)
    same(compiled(case.op, arrays)[0], expected, zeros=case.op.name not in EITHER_ZERO, times=case.tolerance)


EITHER_ZERO = {"maximum", "minimum", "clip", "nextafter", "sign"}  # NumPy's own loops differ in the sign of zero


def same(actual: Array, expected: Array, *, zeros: bool, times: float) -> None:
    """Hold results against each other: each within 8 units in its last place, times so many; zeros of one sign."""
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(actual, expected)
        return
    assert actual.dtype == expected.dtype
    info = ml_dtypes.finfo(expected.dtype)
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(a, e, rtol=times * 8 * float(info.eps), atol=2 * float(info.smallest_subnormal))
    if zeros:
        both = (e == 0) & (a == 0)
        np.testing.assert_array_equal(np.signbit(a[both]), np.signbit(e[both]))


SIZES = [(), (0,), (1,), (1, 1), (2, 0, 3)]


def of_size(case: Case, dtype: DType, shape: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [np.asarray(o.domain(rng, shape, o.dtype or dtype)) for o in case.operands]


@pytest.mark.parametrize(("case", "dtype"), ELEMENTWISE)
def test_formulas_of_sizes_zero_and_one(case: Case, dtype: DType) -> None:
    for shape in SIZES:
        arrays = of_size(case, dtype, shape)
        (expected,) = values(case.op, *arrays)
        assert expected.shape == shape
        close(lowered(case.op, *arrays), expected, case.tolerance)


@pytest.mark.parametrize(("case", "dtype"), BY_MAIN_DTYPE)
def test_kernels_of_sizes_zero_and_one(case: Case, dtype: DType) -> None:
    for shape in SIZES[:3]:
        arrays = of_size(case, dtype, shape)
        close(compiled(case.op, arrays)[0], values(case.op, *arrays)[0], case.tolerance)


@pytest.mark.parametrize("case", SMOOTH)
def test_the_gradient_is_that_of_finite_differences(case: Case) -> None:
    arrays = case.arguments(float64, seed=1)
    rng = np.random.default_rng(2)
    outs = values(case.op, *arrays)
    cts = [rng.uniform(-1, 1, o.shape) if o.dtype == np.float64 else None for o in outs]
    if not any(ct is not None or types_of([o])[0].dtype.is_float for ct, o in zip(cts, outs, strict=True)):
        for place, back in enumerate(gradients_of_nothing(case, arrays)):
            assert back is None, f"operand {place} has a gradient through a result that is not a float"
        return
    if not any(o.smooth and a.dtype == np.float64 for o, a in zip(case.operands, arrays, strict=True)):
        return
    for place, back in enumerate(gradients(case.op, arrays, *cts)):
        if arrays[place].dtype != np.float64:
            assert back is None, f"operand {place} is not a float and has a gradient"
            continue
        if not case.operands[place].smooth:
            continue
        expected = differences(case.op, arrays, place, cts)
        actual = np.zeros(arrays[place].shape) if back is None else back
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-7)


def gradients_of_nothing(case: Case, arrays: list[Array]) -> list[object]:
    """Return the gradients through a bool or integer result, given a cotangent that should not be read."""
    types = types_of(arrays)
    inputs = inputs_for([*types, *inferred(case.op, *arrays)])
    node = case.op(*inputs[: len(types)])
    return list(case.op.vjp(inputs[-1], node, *inputs[: len(types)]))


def differences(op: TensorOp, arrays: list[Array], place: int, cts: list[Array | None], step: float = 1e-6) -> Array:
    """Return the gradient of the results, weighted by `cts`, for one operand by central differences."""

    def weighted(x: Array) -> float:
        outs = values(op, *arrays[:place], x, *arrays[place + 1 :])
        return sum(float((ct * o).sum()) for ct, o in zip(cts, outs, strict=True) if ct is not None)

    x = arrays[place]
    out = np.zeros(x.shape)
    for at in np.ndindex(x.shape):
        sides = [x.copy(), x.copy()]
        sides[0][at] += step
        sides[1][at] -= step
        out[at] = (weighted(sides[0]) - weighted(sides[1])) / (2 * step)
    return out


def test_every_op_has_a_case() -> None:
    ours = {
        name for name, op in Op.registry.items() if issubclass(op, TensorOp) and op.__module__.startswith("treadle.ops")
    }
    tried = {case.op.name for case in CASES}
    assert ours - tried - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - ours == set()
